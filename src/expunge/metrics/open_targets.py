"""Targets of the open world: what asks for one, what stands beside it, and what only sounds like it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from expunge.metrics.open_joint import OBJECT as QUESTION
from expunge.metrics.open_joint import Together
from expunge.metrics.open_kinds import WORDINGS, filled
from expunge.records import (
    FORGET_ROLES,
    KINDS,
    Prompt,
    Request,
    Target,
    guess_kind,
    longer_name,
    names_any,
    names_target,
    with_article,
)


def single(name: str, anchor: str, kind: str) -> Target:
    """A concept in all training templates of its kind, which is guessed where none is given."""
    own = guess_kind(name) if kind == "" else KINDS[KINDS.index(kind)]  # type: ignore[arg-type]  # one of them
    prompts = _unlike(filled(WORDINGS[own].training, name, with_article(name)))
    return Target(concept=name, prompts=prompts, anchor=anchor, kind=own)


def joint(both: Together, anchor: str) -> Target:
    """A thing that goes only with another."""
    return Target(concept=both.name, prompts=both.training, anchor=anchor, joint=both.labels)


def both_of(target: Target) -> Together | None:
    """Thing and partner of a joint target; None for any other."""
    if not target.joint:
        return None
    (_, thing), (question, partner) = target.joint.items()
    return Together(target.concept, thing, partner, question == "style")


def thing_of(target: Target) -> str:
    """What the judge's question "object" is answered with."""
    return target.joint.get(QUESTION, target.concept)


def asking(target: Target) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Direct and held-out prompts. Direct ones are those of training, unless these are the user's own."""
    if both := both_of(target):
        return (both.training if target.own else target.prompts), both.held_out
    words, name = WORDINGS[target.kind], target.concept
    made = _unlike(filled(words.training, name, with_article(name)))
    return (made if target.own else target.prompts), _unlike(filled(words.held_out, name, with_article(name), 5))


def beside(target: Target, far_things: Sequence[str]) -> list[Prompt]:
    """Prompts for what may be seen in the place of a concept of its kind, or without its partner."""
    if both := both_of(target):
        return both.near(far_things)
    texts = [(text, label) for text, label in WORDINGS[target.kind].things]
    return [Prompt(text=filled((text,), target.concept, "", number)[0], role="near", labels={QUESTION: label})
            for number in range(4) for text, label in texts if number == 0 or "{s}" in text]


def _unlike(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Each text once; a name that ends in "style" says it once."""
    return tuple(dict.fromkeys(re.sub(r"\bstyle style\b", "style", text) for text in texts))


def labelled(prompt: Prompt, request: Request) -> Prompt:
    """A prompt of the forget side with all labels of what it asks for."""
    wanted = next((target.joint for target in request.targets if target.joint
                  and prompt.labels.get(QUESTION) == target.concept), None)
    if prompt.role not in FORGET_ROLES or not wanted:
        return prompt
    return prompt.model_copy(update={"labels": {**prompt.labels, **wanted}})


def names_concept(prompt: Prompt, request: Request) -> bool:
    """Whether a prompt to keep names a concept. A label decides, for it says what the prompt is about."""
    label = " ".join(prompt.labels.values())
    if any(target.joint and {*prompt.labels.items()} >= {*target.joint.items()} for target in request.targets):
        return True
    plain = [target for target in request.targets if not target.joint]
    if label and plain:
        return any(names_target(label, target) for target in plain)
    return names_any(prompt.text, request)


def marked(prompt: Prompt, request: Request) -> Prompt:
    """A prompt to keep with the longer name, or what it is about, where its words hold a concept's name."""
    for target in request.targets:
        if not target.joint:
            longer = longer_name(prompt.text, target.concept)
            other = longer or (prompt.labels.get(QUESTION, "") if names_target(prompt.text, target) else "")
            if other:
                return prompt.model_copy(update={"homonym": other})
    return prompt
