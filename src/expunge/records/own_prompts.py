"""Prompts of the user's own that ask for what is to go: one a line, or a table with columns prompt and concept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expunge.errors import ConfigError, UserError
from expunge.records.asking import names_target
from expunge.records.json_lists import is_json, read_json_list
from expunge.records.naming import Reader, read, same_name
from expunge.records.request import Request, Target
from expunge.records.tables import NAMES, Table, is_table, read_table, read_text


def read_own_prompts(file: Path) -> tuple[str, ...] | dict[str, tuple[str, ...]]:
    """The prompts of a text file, a CSV or JSON, all of them, in their order; by concept where a table has that column.

    JSON is a list of texts, a list of objects with the keys of such a table, or an object of lists of texts by concept.

    Raises:
        ConfigError: it cannot be read, has no prompt, or a table without the column "prompt" (or "text").
    """
    columns = {"text": NAMES["text"], "concept": ("concept",)}
    read_so = read_json_list(file, columns) if is_json(file) else read_table(file, names=columns) if is_table(file) \
        else read_text(file).splitlines()
    if isinstance(read_so, dict):
        return _of_object(file, read_so)
    if not isinstance(read_so, Table):
        prompts = tuple(line.strip() for line in read_so if line.strip())
        if not prompts:
            raise ConfigError(f"no prompt in {file}", accepted="a list of texts" if is_json(file) else
                              "one prompt a line")
        return prompts
    table = read_so
    of = "concept" in table.columns
    found = [(row.get("concept", ""), row.get("text", "").strip()) for row in table.rows]
    if not any(prompt for _, prompt in found):
        raise ConfigError(f"no prompts in {file}", accepted="a row for each prompt below the first line")
    if not of:
        return tuple(prompt for _, prompt in found if prompt)
    by_concept: dict[str, tuple[str, ...]] = {}
    for name, prompt in found:
        if prompt:
            by_concept[name] = (*by_concept.get(name, ()), prompt)
    return by_concept


def _of_object(file: Path, told: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    odd = [name for name, its in told.items() if not isinstance(its, list) or not its or
           not all(isinstance(text, str) and text.strip() for text in its)]
    if odd or not told:
        raise ConfigError(f"{file}: {', '.join(map(repr, odd)) or 'no concept'} without a list of texts",
                          accepted="a list of texts for each concept")
    return {name: tuple(text.strip() for text in its) for name, its in told.items()}


def with_prompts(request: Request, prompts: Sequence[str] | Mapping[str, Sequence[str]], reader: Reader = read
                 ) -> Request:
    """The request with the user's own prompts in place of those that were made; each once, in their order.

    A single concept takes them all, whether they name it or not. Of several, each prompt goes to the one that it names.

    Raises:
        UserError: a prompt names none or several of several concepts; a concept is left without; an unknown concept.
    """
    if isinstance(prompts, str):
        raise UserError(f"prompts is the single text {prompts!r}", accepted="a list of texts")
    own = (_by_concept(request, prompts, reader) if isinstance(prompts, Mapping)
           else _sorted_out(request, prompts, reader))
    bare = [target.concept for target, its in zip(request.targets, own, strict=True) if not its]
    if bare:
        raise UserError(f"no prompt of your own asks for {', '.join(map(repr, bare))}",
                        accepted="at least one for each concept")
    targets = tuple(Target(**{**{name: getattr(target, name) for name in Target.model_fields},
                              "prompts": tuple(dict.fromkeys(its)), "own": True})
                    for target, its in zip(request.targets, own, strict=True))
    return Request.of(targets, request.keep)


def _by_concept(request: Request, prompts: Mapping[str, Sequence[str]], reader: Reader) -> list[tuple[str, ...]]:
    unknown = [name for name in prompts if not any(same_name(name, concept, reader) for concept in request.concepts)]
    if unknown:
        raise UserError(f"prompts for {', '.join(map(repr, unknown))}, which is not to go",
                        accepted=f"prompts for {request.title}")
    return [tuple(text for name, its in prompts.items() if same_name(name, concept, reader) for text in its)
            for concept in request.concepts]


def _sorted_out(request: Request, prompts: Sequence[str], reader: Reader) -> list[tuple[str, ...]]:
    if len(request.targets) == 1:
        return [tuple(prompts)]
    own: list[list[str]] = [[] for _ in request.targets]
    odd = []
    for text in prompts:
        named = [place for place, target in enumerate(request.targets) if names_target(text, target, reader)]
        if len(named) == 1:
            own[named[0]].append(text)
        else:
            odd.append(text)
    if odd:
        raise UserError(f"{len(odd)} prompts name none or several of {request.title}: {odd[0]!r}",
                        accepted="prompts that name one of them",
                        remedy="a CSV with columns prompt and concept says which")
    return [tuple(its) for its in own]


def overlap(request: Request, texts: Sequence[str]) -> tuple[str, ...]:
    """Those of an evaluation's texts that an edit trains on or keeps; equal as a text encoder reads them."""
    known = {read(text) for text in (*request.all_prompts, *request.keep) if text.strip()}
    return tuple(text for text in texts if text.strip() and read(text) in known)
