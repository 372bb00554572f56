"""The user's own prompts to train on, from a list that is read by the rules of an evaluation's (`metrics.lists`).

Only what asks for a concept trains. Of prompts with a role these are the direct ones: those in other wordings are what
an evaluation tests the edit by. What a list holds to keep, or of another concept, is told and left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from expunge.errors import ConfigError
from expunge.metrics.lists import Names, of_list, read_list
from expunge.metrics.open_joint import OBJECT
from expunge.records import FORGET_ROLES, Prompt, Role, counted
from expunge.records.tables import unreadable


@dataclass(frozen=True)
class TrainingList:
    """The texts to train on, by concept where the list tells, and in sentences how it was read."""

    prompts: tuple[str, ...] | dict[str, tuple[str, ...]]
    notices: tuple[str, ...] = ()


def training_list(file: Path, concepts: Sequence[str], names: Names) -> TrainingList:
    """Read a list of prompts to train on: any that `metrics.lists.listed` reads, or a mapping of concepts to texts.

    Args:
        concepts: what goes. names: whether a text names a concept.

    Raises:
        ConfigError: as `listed`; or no prompt of it trains.
    """
    found = read_list(file)
    if isinstance(found, Mapping) and found and not found.keys() & {*get_args(Role)}:
        return TrainingList(_by_concept(file, found))
    read = of_list(file, found, concepts, names)
    trains = [prompt.role in FORGET_ROLES and (guessed or prompt.role == "direct")
              for prompt, guessed in zip(read.prompts, read.guessed, strict=True)]
    used = [prompt for prompt, its in zip(read.prompts, trains, strict=True) if its]
    rest = [prompt for prompt, its in zip(read.prompts, trains, strict=True) if not its]
    notices = (*read.columns, *_unused(file, rest), *_undrawn(file, used), *read.lost)
    if not used:
        raise ConfigError(f"no prompt in {file} can be trained on",
                          accepted=f"a direct prompt of {' or '.join(concepts)}", remedy=" ".join(notices))
    if read.plain:
        return TrainingList(tuple(prompt.text.strip() for prompt in used), notices)
    by_concept: dict[str, tuple[str, ...]] = {}
    for prompt in used:
        concept = prompt.labels[OBJECT]
        by_concept[concept] = (*by_concept.get(concept, ()), prompt.text.strip())
    return TrainingList(by_concept, notices)


def _by_concept(file: Path, found: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    lists = {str(name): [its] if isinstance(its, str) else its for name, its in found.items()}
    odd = [name for name, its in lists.items() if not isinstance(its, list) or not its or
           not all(isinstance(text, str) and text.strip() and not unreadable(text) for text in its)]
    if odd:
        raise ConfigError(f"{file}: {', '.join(map(repr, odd))} without a list of texts",
                          accepted=f"a list of texts for each concept, or for roles: {', '.join(get_args(Role))}")
    return {name: tuple(text.strip() for text in its) for name, its in lists.items()}


def _unused(file: Path, rest: Sequence[Prompt]) -> list[str]:
    """Why prompts do not train: to keep, or for the test."""
    test = Counter(prompt.role for prompt in rest if prompt.role in FORGET_ROLES)
    keep = Counter(prompt.role for prompt in rest if prompt.role not in FORGET_ROLES)
    out = []
    if keep:
        out.append(f"{file.name}: {counted(keep.total(), 'prompts')} not used for training: to keep, or of something "
                   f"else ({_each(keep)}).")
    if test:
        out.append(f"{file.name}: {counted(test.total(), 'prompts')} not used for training: for the test "
                   f"({_each(test)}); only direct prompts train.")
    return out


def _each(roles: Mapping[Role, int]) -> str:
    return ", ".join(f"{count} {role}" for role, count in roles.items())


def _undrawn(file: Path, used: Sequence[Prompt]) -> list[str]:
    own = any(prompt.seed is not None or prompt.drawn_its_own_way for prompt in used)
    return [f"{file.name}: seeds, guidances and sizes are not used for training."] if own else []
