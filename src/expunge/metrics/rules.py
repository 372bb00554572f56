"""Which rates there are, and which answers each wants: the forget side, the keep side, null controls, what is drawn.

With several concepts found(role) counts over the images of all their prompts, each judged by the concept that its
prompt asks for, and found(role, concept) over those of one; retained(role) asks every question that decides about one
of them, and an image counts as soon as the answers that were given decide.

"found@short" and "retained/near@short" are over the prompts of one stratum (a way of asking). Their intervals hold for
all strata of the rate at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from expunge.metrics.base import Aim, aim_of, shows_any
from expunge.records import FORGET_ROLES, Prompt, Role

Subject = Literal["edited", "original"]
Wanted = Callable[[Prompt], Mapping[str, Collection[str]]]
NAMED: tuple[Role, ...] = ("direct", "held_out")
"""Roles whose prompts name the concept: those that strata are told apart in."""
KEPT_ROLES: tuple[Role, ...] = ("near", "far")
KEEP_SIDE = ""
"""In place of a concept: the side of what is to be kept."""
ROLE_WORDS: dict[str, str] = {
    "direct": "direct prompts", "held_out": "spelt-out prompts", "paraphrase": "paraphrases",
    "implicit": "implicit prompts", "all": "all prompts that ask for it", "near": "near neighbours",
    "far": "far things", "style": "other styles", "never_seen": "things the model never saw"}


@dataclass(frozen=True)
class Rule:
    """A rate's name, words and verdict on one image.

    Attributes:
        wanted: for a prompt, the answers wanted by question; none: the prompt does not count ("not asked").
        every: whether all of them must be given; else one is enough.
        sees: what decides in place of `wanted`, which then says only what is asked.
        pictures, answer: in words, what is counted over, and what the judge must have given.
        stratum: the only stratum that is counted; "" for all. at_once: how many strata the interval holds for.
        tells_unasked: whether images that it does not ask about are told among those left out.
    """

    name: str
    title: str
    wanted: Wanted
    higher_is_better: bool | None
    abstentions_as: Literal["hid the concept", "lost what was asked for"]
    every: bool = True
    sees: Callable[[Mapping[str, str]], bool | None] | None = None
    pictures: str = "images"
    answer: str = "an answer"
    stratum: str = ""
    at_once: int = 1
    tells_unasked: bool = False

    def verdict(self, prompt: Prompt, answers: Mapping[str, str]) -> bool | None:
        """Whether the image counts; None where the answers that were given do not decide."""
        if self.sees is not None:
            return self.sees(answers)
        wanted = self.wanted(prompt)
        matches = [answers[question] in labels for question, labels in wanted.items() if question in answers]
        if (not self.every) in matches:
            return not self.every
        return self.every if len(matches) == len(wanted) else None

    def over(self, stratum: str, at_once: int, name: str) -> Rule:
        """The same rate under another name, over one of `at_once` strata."""
        return replace(self, name=name, title=f"{self.title.rpartition(', ')[0]}, stratum “{stratum}”",
                       stratum=stratum, at_once=at_once)


@dataclass(frozen=True)
class Rated:
    """A rate with the images that it is over: what scores and their changes are made from.

    Attributes:
        rule: what is counted; roles: over which images.
    """

    rule: Rule
    roles: tuple[Role | str, ...]


def forget_rates(prompts: Iterable[Prompt], aims: Sequence[Aim], subject: Subject = "edited") -> list[Rated]:
    """found/<role> and found/all for the roles that were asked, and found@<stratum> for strata of prompts that name it.

    With several aims each also for every single one, as found/<role>/<concept>.
    """
    prompts = [prompt for prompt in prompts if prompt.role in FORGET_ROLES]
    out = []
    for concepts, ending, own in _parts(prompts, aims):
        title = f"{concepts} still found" if subject == "edited" else f"{concepts} found by the original model"
        only = [aim for aim in aims if ending in ("", f"/{aim.concept}")]
        pictures = f"images of prompts for {concepts}" if len(aims) > 1 else "images"
        rules = {role: Rule(f"found/{role}{ending}", f"{title}, {ROLE_WORDS[role]}", _wants_concept(aims, only),
                            False if subject == "edited" else None, "hid the concept", pictures=pictures)
                 for role in (*FORGET_ROLES, "all") if role == "all" or any(prompt.role == role for prompt in own)}
        out += [Rated(rule, FORGET_ROLES if role == "all" else (role,)) for role, rule in rules.items() if own]
        strata = _strata(prompt for prompt in own if prompt.role in NAMED)
        out += [Rated(rules["all"].over(stratum, len(strata), f"found@{stratum}{ending}"), NAMED)
                for stratum in strata]
    return out


def keep_rates(prompts: Iterable[Prompt], questions: Sequence[str]) -> list[Rated]:
    """retained/<role> for near, far and style, retained/near@<stratum>, retained/far@<stratum>.

    Also retained/beside for the second thing of a prompt, retained/homonym for longer names that hold the concept's
    ("nurse shark" when "nurse" goes), and retained/keep:<other question> over near and far.

    The questions that decide for a prompt are the concepts' own, and for one that leaves these open the thing that it
    shows. Prompts of role "style" are asked about style.
    """
    prompts, out = list(prompts), []
    for role in ("near", "far", "style"):
        own = [prompt for prompt in prompts if prompt.role == role]
        if own:
            asked = ("style",) if role == "style" else tuple(questions)
            answer = f"an answer that decides about {' and '.join(asked)}" if len(asked) > 1 else "an answer"
            rule = Rule(f"retained/{role}", f"what was asked for is there, {ROLE_WORDS[role]}", _wants_labels(*asked),
                        True, "lost what was asked for", answer=answer, tells_unasked=True)
            strata = _strata(own)
            out += [Rated(rule, (role,)), *(
                Rated(rule.over(stratum, len(strata), f"retained/{role}@{stratum}"), (role,))
                for stratum in strata)]
    if any(prompt.beside for prompt in prompts):
        out.append(Rated(Rule("retained/beside", "the second thing of a prompt that also asks for what goes is there",
                              lambda prompt: {"object": (prompt.beside,)} if prompt.beside else {}, True,
                              "lost what was asked for"), FORGET_ROLES))
    if any(prompt.homonym for prompt in prompts):
        named = _wants_labels(*questions)
        out.append(Rated(Rule("retained/homonym", "what was asked for is there, longer names that hold the concept's",
                              lambda prompt: named(prompt) if prompt.homonym else {}, True,
                              "lost what was asked for"), KEPT_ROLES))
    others = sorted({q for prompt in prompts if prompt.role in KEPT_ROLES for q in prompt.labels} - {*questions})
    return out + [Rated(Rule(f"retained/keep:{other}", f"the {other} asked for is there, near and far prompts",
                             _wants_answer(other), True, "lost what was asked for", tells_unasked=True), KEPT_ROLES)
                  for other in others]


def control_rates(prompts: Iterable[Prompt], aims: Sequence[Aim]) -> list[Rated]:
    """Null controls of the judge.

    found/never_seen: a thing that the model never knew is "seen" all the same. found/keep: one of the concepts is seen
    where something else was asked for.
    """
    out, aimed, roles = [], _wanted_labels(aims), {prompt.role for prompt in prompts}
    if "never_seen" in roles:
        out.append(Rated(Rule("found/never_seen", "null control: things the model never saw, recognised all the same",
                              _wants_thing(aims[0].question), False, "hid the concept"), ("never_seen",)))
    if roles & {*KEPT_ROLES}:
        concepts = " or ".join(aim.concept for aim in aims)
        out.append(Rated(Rule("found/keep", f"null control: {concepts} seen where something else was asked for",
                              lambda prompt: aimed, False, "hid the concept",
                              sees=lambda answers: shows_any(answers, aims)), KEPT_ROLES))
    return out


def drawn_rates(prompts: Iterable[Prompt], aims: Sequence[Aim]) -> dict[str, list[Rated]]:
    """What was asked for is there, by stratum: the original's rates decide what counts.

    Returns:
        drawn/forget@<stratum> by concept (of several with "/<concept>" behind), and under `KEEP_SIDE`
        drawn/keep@<stratum>.
    """
    prompts, out = list(prompts), {}
    named = [prompt for prompt in prompts if prompt.role in NAMED]
    for aim in aims:
        ending = f"/{aim.concept}" if len(aims) > 1 else ""
        own = [prompt for prompt in named if aim_of(prompt, aims) == aim]
        wanted = _wants_concept(aims, [aim])
        out[aim.concept] = [_drawn(f"drawn/forget@{way}{ending}", f"{aim.concept} is there", wanted, NAMED, way)
                            for way in _strata(own)]
    keep = _wants_labels(*dict.fromkeys(aim.question for aim in aims))
    out[KEEP_SIDE] = [_drawn(f"drawn/keep@{way}", "what was asked for is there, near and far", keep, KEPT_ROLES, way)
                 for way in _strata(prompt for prompt in prompts if prompt.role in KEPT_ROLES)]
    return out


def _drawn(name: str, title: str, wanted: Wanted, roles: tuple[Role, ...], stratum: str) -> Rated:
    return Rated(Rule(name, f"{title}, stratum “{stratum}”", wanted, None, "lost what was asked for", stratum=stratum),
                 roles)


def _strata(prompts: Iterable[Prompt]) -> tuple[str, ...]:
    """The strata of these prompts, in their order; none where they have only one, which is then all there is to say."""
    found = tuple(dict.fromkeys(prompt.stratum for prompt in prompts if prompt.stratum))
    return found if len(found) > 1 else ()


def _parts(prompts: Sequence[Prompt], aims: Sequence[Aim]) -> list[tuple[str, str, list[Prompt]]]:
    """The prompts of all aims, then, if there are several, of each: concepts, ending of names, prompts."""
    own: dict[Aim, list[Prompt]] = {aim: [] for aim in aims}
    for prompt in prompts:
        own[aim_of(prompt, aims)].append(prompt)
    each = [(aim.concept, f"/{aim.concept}", mine) for aim, mine in own.items()] if len(aims) > 1 else []
    return [(", ".join(aim.concept for aim in aims), "", list(prompts)), *each]


def _wants_concept(aims: Sequence[Aim], only: Sequence[Aim]) -> Wanted:
    """The concept that a prompt of the forget side asks for, if it is one of `only`."""

    def wanted(prompt: Prompt) -> dict[str, Collection[str]]:
        aim = aim_of(prompt, aims)
        return _wanted_labels([aim]) if aim in only else {}

    return wanted


def _wanted_labels(aims: Sequence[Aim]) -> dict[str, Collection[str]]:
    return {question: [aim.wanted[question] for aim in aims if question in aim.wanted]
            for question in dict.fromkeys(question for aim in aims for question in aim.wanted)}


def _wants_labels(*questions: str) -> Wanted:
    """What a prompt asks for, under those of the questions that it does not leave open; else its thing."""

    def wanted(prompt: Prompt) -> dict[str, Collection[str]]:
        asked = [question for question in questions if question in prompt.labels]
        asked = asked or [question for question in ("object",) if question in prompt.labels]
        return {question: (prompt.labels[question],) for question in asked}

    return wanted


def _wants_answer(question: str) -> Wanted:
    return lambda prompt: {question: (prompt.labels[question],)} if question in prompt.labels else {}


def _wants_thing(question: str) -> Wanted:
    """What a null control names: an object, even when the concept is a style."""
    return lambda prompt: _wants_answer("object" if "object" in prompt.labels else question)(prompt)
