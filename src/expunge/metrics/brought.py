"""Prompts that the user brings, and templates where there are none: which are asked, and what is said of it.

A user's prompts are used whole and in their order; a text that a list asks at several seeds is asked at each of them.
Nothing is added to them unasked: a concept that the file asks for by any prompt is asked for by no template, and where
the file has prompts to keep no template is kept. A count that the user sets limits; one that stays at its default does
not. Every sentence says how many were given, how many are used, and why not the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, get_args, runtime_checkable

from expunge.metrics.base import PromptCounts
from expunge.metrics.prompts import Prompts
from expunge.records import FORGET_ROLES, Prompt, Request, Role

Pools = Mapping[Role, Sequence[Prompt]]
"""Prompts by role."""


@runtime_checkable
class Brings(Protocol):
    """Who asks what the user brings."""

    def own(self, request: Request) -> list[Prompt]:
        """The user's prompts in their order, those that `request` rules out left out; none where nothing is brought."""
        ...

    def given(self, request: Request, counts: PromptCounts) -> list[str]:
        """Plain sentences on the user's prompts: given, used, left out and why; none where nothing is brought."""
        ...


@dataclass(frozen=True)
class Choice:
    """The prompts that are asked, by role and in their order, and what is said of those that were brought."""

    prompts: tuple[Prompt, ...]
    notices: tuple[str, ...]


def own_prompts(asks: Prompts, request: Request) -> list[Prompt]:
    """What the user brings; none where nothing is taken."""
    return asks.own(request) if isinstance(asks, Brings) else []


@runtime_checkable
class Remarks(Protocol):
    """Who can say how the user's prompts are read."""

    def remarks(self, request: Request) -> list[str]:
        """Plain sentences: columns, roles, rows left out."""
        ...


def list_remarks(asks: Prompts, request: Request) -> list[str]:
    """`Remarks.remarks`; none where nothing is taken."""
    return asks.remarks(request) if isinstance(asks, Remarks) else []


def given_prompts(asks: Prompts, request: Request, counts: PromptCounts) -> list[str]:
    """`Brings.given`; none where nothing is taken."""
    return asks.given(request, counts) if isinstance(asks, Brings) else []


def chosen_prompts(brought: Sequence[Prompt], templates: Pools, request: Request, counts: PromptCounts, *, file: str,
                   whose: Callable[[Prompt], str], refused: Callable[[Prompt], str], add: bool = False) -> Choice:
    """Which prompts are asked.

    Args:
        brought: the user's, in their order. templates: those that are there anyhow.
        counts: how many of each role (and concept that is asked for).
        file: what sentences call the user's prompts.
        whose: which concept a prompt asks for ("" for one to keep); refused: why a prompt of the user's is not asked
            ("" if it is).
        add: ask templates beside the user's prompts, up to the counts.
    """
    filled = {whose(prompt) for prompt in brought}  # the concepts, and "" where there are prompts to keep
    chosen, notices, seen = list[Prompt](), list[str](), dict[str, list[Prompt]]()
    elsewhere = {prompt.text for prompt in brought}  # what the user or an earlier role may ask, no template asks
    for role in get_args(Role):
        limit, limited = getattr(counts, role), role in counts.model_fields_set
        mine, why = list[Prompt](), Counter[str]()
        for prompt in (prompt for prompt in brought if prompt.role == role):
            reason = refused(prompt) or _again(prompt, seen)
            taken = sum(whose(one) == whose(prompt) for one in mine)
            reason = reason or (f"counts.{role} is {limit}" if limited and taken >= limit else "")
            if reason:
                why[reason] += 1
            else:
                mine.append(prompt)
            seen.setdefault(prompt.text, []).append(prompt)
        theirs = list[Prompt]()
        for prompt in templates.get(role, ()):
            if prompt.text in elsewhere or (whose(prompt) in filled and not add):
                continue
            if sum(whose(one) == whose(prompt) for one in (*mine, *theirs)) < limit and prompt not in theirs:
                theirs.append(prompt)
        elsewhere |= {prompt.text for prompt in templates.get(role, ())}
        chosen += [*mine, *theirs]
        if brought:
            notices += _told(role, len(mine), why, len(theirs), file)
    if brought:
        none = [role for role in get_args(Role) if role in FORGET_ROLES and not any(one.role == role for one in chosen)]
        notices += [f"{file} has no {' or '.join(none)} prompts, and none were added."] if none else []
    return Choice(tuple(chosen), tuple(notices))


def _again(prompt: Prompt, seen: Mapping[str, Sequence[Prompt]]) -> str:
    """Why a text that was there before is not asked again; "" where its list asks it at another seed."""
    before = seen.get(prompt.text, ())
    if not before:
        return ""
    if prompt.seed is None or any(one.seed is None for one in before):
        return "the same text twice"
    if any((one.role, one.labels) != (prompt.role, prompt.labels) for one in before):
        return "the same text for something else"
    return "the same text and seed twice" if any(one.seed == prompt.seed for one in before) else ""


def _told(role: Role, used: int, why: Mapping[str, int], added: int, file: str) -> list[str]:
    """"p.yaml: 95 direct prompts given, 40 used; 55 left out (counts.direct is 40)."."""
    given, lost = used + sum(why.values()), ", ".join(f"{count}: {reason}" for reason, count in why.items())
    out = []
    if given:
        out.append(f"{file}: {given} {role} prompt{'' if given == 1 else 's'} given, {used} used"
                   + (f"; left out {lost}." if lost else "."))
    if added:
        out.append(f"{added} {role} prompt{'' if added == 1 else 's'} added from templates: "
                   + ("asked for." if given else f"{file} has none."))
    return out
