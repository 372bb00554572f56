"""Prompts of the user's own that ask for what is to go, in place of those that were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expunge.errors import UserError
from expunge.records.asking import names_target
from expunge.records.naming import Reader, read, same_name
from expunge.records.request import Request, Target


def with_prompts(request: Request, prompts: Sequence[str] | Mapping[str, Sequence[str]], reader: Reader = read
                 ) -> Request:
    """The request with the user's own prompts in place of those that were made; each once, in their order.

    A single concept takes them all, whether they name it or not. Of several, each prompt goes to the one that it names.

    Raises:
        UserError: a prompt names none or several of several concepts; a concept is left without; an unknown concept; a
            single text where a list is meant; what is no text, or is blank.
    """
    prompts = ({name: _texts(its, f"prompts for {name!r}") for name, its in prompts.items()}
               if isinstance(prompts, Mapping) else _texts(prompts, "prompts"))
    if not prompts:
        raise UserError("no prompt of your own", accepted="at least one for each concept",
                        remedy="leave prompts out to train on those that are made")
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


def _texts(given: Sequence[str], what: str) -> tuple[str, ...]:
    """A list's texts. A single text is none: its letters would be."""
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise UserError(f"{what} is the single text {given!r}" if isinstance(given, str) else f"{what} is {given!r}",
                        accepted="a list of texts")
    texts = tuple(given)
    odd = [f"number {number} is {'blank' if isinstance(text, str) else repr(text)}"
           for number, text in enumerate(texts, 1) if not isinstance(text, str) or not text.strip()]
    if odd:
        raise UserError(f"{what}: of {len(texts)} {', '.join(odd[:6])}{', ...' if odd[6:] else ''}",
                        accepted="texts with words")
    return texts


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
