"""What can be asked of a model: requests, prompts by role and way of asking, and which of a judge's questions decides.

One part of a world (`metrics.worlds`). The registry PROMPTS names those that there are (`expunge ls prompts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from expunge.errors import UserError
from expunge.metrics.base import Aim, PromptCounts, Stratum
from expunge.records import Prompt, Request, Target


class Prompts(Protocol):
    """Who asks. It remembers nothing between calls: all is a function of the request.

    Attributes:
        name: as the registry has it ("open").
        strata: the ways of asking that it tells apart, by name.
    """

    @property
    def name(self) -> str: ...

    @property
    def strata(self) -> Mapping[str, Stratum]: ...

    def request(self, concept: str | Sequence[str], anchor: str | Sequence[str] = "", keep: Sequence[str] = (), *,
                kind: str = "", only_with: str = "") -> Request:
        """A full request: prompts that ask for each concept, prompts to keep, which ask for none of them.

        Args:
            concept: a name, or several. anchor: one for each concept, in their order, or none. keep: what must stay.
            kind: of all of them (`records.KINDS`); "" lets it see. only_with: what they go together with, and not
                without. Passed only where they are set: not all know either.

        Raises:
            UserError: an unknown or empty concept, or a contradiction (see `records.asked`).
        """
        ...

    def vocabulary(self, things: Sequence[str] = ()) -> Mapping[str, tuple[str, ...]]:
        """Prompts that ask for each of `things` (none: each that it names), as training may use them to keep.

        Raises:
            UserError: a thing that it does not know.
        """
        ...

    def of(self, request: Request, counts: PromptCounts, strata: Sequence[str] = ()) -> list[Prompt]:
        """The evaluation's prompts, a fixed order, no two alike; those of each role take the strata in turn.

        Args:
            strata: which ways of asking; () means those that are asked unless told otherwise.

        With several concepts each prompt of the forget side asks for one, and carries its name as the label of its
        question; prompts of the keep side ask for none.
        """
        ...

    def question(self, concept: str) -> str:
        """Which of the judge's questions decides whether the concept is there ("object", "style", ...)."""
        ...


@runtime_checkable
class LeavesOut(Protocol):
    """Prompts that do not ask everything of their own lists."""

    def left_out(self, request: Request) -> Sequence[str]:
        """In sentences, what is not asked because it names a concept; none where all is."""
        ...


@runtime_checkable
class NamesClasses(Protocol):
    """Prompts that say what a zero-shot judge must tell apart, and in which words."""

    def classes(self, request: Request) -> Mapping[str, Mapping[str, Sequence[str]]]:
        """Texts by label by question."""
        ...


def aims_of(asks: Prompts, request: Request) -> tuple[Aim, ...]:
    """One aim per concept of the request."""
    return tuple(aim_at(asks, target) for target in request.targets)


def aim_at(asks: Prompts, target: Target) -> Aim:
    """What must not be found once the target is gone."""
    if target.joint:
        return Aim(target.concept, next(iter(target.joint)), tuple(target.joint.items()))
    return Aim(target.concept, asks.question(target.concept))


def asked_strata(known: Mapping[str, Stratum], strata: Sequence[str]) -> tuple[str, ...]:
    """The names of the strata to ask, in the order of those `known`: those named, "all", or by default the `asked`.

    Raises:
        UserError: an unknown stratum.
    """
    unknown = [name for name in strata if name not in known and name != "all"]
    if unknown:
        raise UserError(f"unknown stratum {', '.join(map(repr, unknown))}", accepted=", ".join((*known, "all")))
    if "all" in strata:
        return tuple(known)
    return tuple(name for name, stratum in known.items() if (name in strata if strata else stratum.asked))
