"""What can be asked of any model: prompts from templates, or from the user's own file.

Direct prompts are those that training may use, held-out ones come from other templates. Paraphrases, implicit
prompts and near neighbours cannot be guessed from a name, so they come from a file of the user's (YAML, CSV or JSON);
what is missing is not asked, and the evaluation says so. The file is used whole, and templates add nothing to what it
fills (`metrics.brought`).

YAML: a mapping of role to prompts, each a text or {text: ..., label: ...}, which may have seed, guidance, height and
width. CSV: columns role, text, label, and those of the field's own lists (`records.tables`), which may lack a role
(`metrics.lists`). JSON: the same mapping, or rows with a table's columns for keys (`records.json_lists`). The label is
what the judge should see; prompts that ask for the concept need none, unless there are several concepts: then it says
which one. A prompt to keep that names the concept is refused, unless its label says that it is about something else ("a
nurse shark over a reef", label shark); such a prompt, and one with a longer name in it, is asked and marked.

How a concept is asked for goes by its kind (`open_kinds`); of a thing that goes only with another, by both
(`open_joint`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import get_args

from expunge.errors import UserError
from expunge.metrics.base import PromptCounts
from expunge.metrics.brought import Choice, chosen_prompts
from expunge.metrics.clip import SOMETHING_ELSE
from expunge.metrics.lists import Listed, listed
from expunge.metrics.open_joint import OBJECT, together, understood
from expunge.metrics.open_kinds import WORDINGS
from expunge.metrics.open_languages import far_names, names_in
from expunge.metrics.open_strata import STRATA, worded
from expunge.metrics.open_targets import (
    asking,
    beside,
    both_of,
    joint,
    labelled,
    marked,
    names_concept,
    single,
    thing_of,
)
from expunge.metrics.prompts import asked_strata
from expunge.records import (
    FORGET_ROLES,
    KEEP_ROLES,
    KINDS,
    Prompt,
    Request,
    Role,
    asked,
    check_request,
    names,
    names_any,
    names_target,
    with_article,
)

TEMPLATES, HELD_OUT = WORDINGS["object"].training, WORDINGS["object"].held_out
"""Templates of training for an object, and those that no training prompt uses."""

FAR_THINGS: tuple[str, ...] = (
    "a dog", "a bicycle", "a cup of coffee", "a mountain lake", "a red car", "a bowl of fruit", "a wooden chair",
    "an airplane", "a sunflower", "a piano", "a sailing boat", "a teapot", "an elephant", "a bridge", "a clock",
    "a loaf of bread")
KEPT_THINGS: tuple[str, ...] = (
    "motorcycle", "bus", "train", "truck", "traffic light", "fire hydrant", "stop sign", "parking meter", "bench",
    "bird",
    "cat", "horse", "sheep", "cow", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase",
    "frisbee", "pair of skis", "snowboard", "kite", "baseball bat", "skateboard", "surfboard", "tennis racket",
    "bottle",
    "wine glass", "fork", "knife", "spoon", "banana", "apple", "sandwich", "orange", "bunch of broccoli", "carrot",
    "hot dog", "pizza", "donut", "cake", "couch", "potted plant", "bed", "dining table", "toilet", "television",
    "laptop",
    "computer mouse", "remote control", "keyboard", "telephone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "book", "vase", "pair of scissors", "teddy bear", "hair drier", "toothbrush")
"""Everyday objects that training may keep: COCO's categories (Lin et al. 2014) but those that `FAR_THINGS` asks for."""
QUESTION = OBJECT


class OpenPrompts:
    """`Prompts` for any model."""

    name = "open"
    strata = STRATA

    def __init__(self, prompts: str | Path | None = None, add_templates: bool = False, default_role: str = "",
                 name_in: Sequence[str] = ()) -> None:
        """Set up; nothing is read before it is needed.

        Args:
            prompts: file of prompts; None means the environment's EXPUNGE_PROMPTS.
            add_templates: ask templates beside the prompts of the file, up to the counts.
            default_role: of prompts in a list without roles; "" means by what they name.
            name_in: what the concept is called in other languages (`open_languages`).
        """
        self._role, self._called = default_role, names_in(name_in)
        self._add = add_templates
        file = prompts or os.environ.get("EXPUNGE_PROMPTS", "")
        self._file = Path(file) if file else None

    def request(self, concept: str | Sequence[str], anchor: str | Sequence[str] = "", keep: Sequence[str] = (), *,
                kind: str = "", only_with: str = "") -> Request:
        """Each concept in all training templates of its kind; what goes only together stays each without the other.

        Args:
            kind: of all concepts (`records.KINDS`); "" guesses each from its name, and reads "X in Y style" as X
                together with Y. only_with: what every concept goes together with.

        Raises:
            UserError: an empty concept, an unknown kind, or a contradiction (`records.asked`).
        """
        if kind not in ("", *KINDS):
            raise UserError(f"kind {kind!r}", accepted=", ".join(KINDS))
        named = [(name, instead, together(name, only_with) if only_with else understood(name) if not kind else None)
                 for name, instead in asked(concept, anchor)]
        targets = tuple(joint(both, instead) if both else single(name, instead, kind)
                        for name, instead, both in named)
        kept = [text for _, _, both in named if both for text in both.kept]
        request = Request.of(targets, tuple(keep))
        check_request(request)
        free = tuple(text for text in dict.fromkeys(kept) if text not in keep and not names_any(text, request))
        return request.model_copy(update={"keep": (*request.keep, *free)})

    def vocabulary(self, things: Sequence[str] = ()) -> Mapping[str, tuple[str, ...]]:
        """A photo of each thing, by default of those in `KEPT_THINGS`."""
        return {thing: (fill("a photo of {a}", thing),) for thing in things or KEPT_THINGS}

    def of(self, request: Request, counts: PromptCounts, strata: Sequence[str] = ()) -> list[Prompt]:
        """The user's file whole, templates for what it leaves open, up to `counts` where they are set; no text twice.

        Raises:
            ConfigError: the file cannot be read or holds mistakes (all are shown).
        """
        return list(self._choice(request, counts, strata).prompts)

    def own(self, request: Request) -> list[Prompt]:
        """The prompts of the user's file, in their order, without those to keep that name a concept."""
        return [prompt for prompt in self._brought(request) if not _refused(prompt, request)]

    def given(self, request: Request, counts: PromptCounts) -> list[str]:
        """How many prompts of the user's file are used, and why not the others."""
        return [*self.remarks(request), *self._choice(request, counts).notices]

    def remarks(self, request: Request) -> list[str]:
        """How the user's file is read: columns, roles, rows left out."""
        return list(self._listed(request).notices) if self._file else []

    def _listed(self, request: Request) -> Listed:
        targets = {target.concept: target for target in request.targets}

        def naming(text: str, concept: str) -> bool:
            return names_target(text, targets[concept])

        return listed(self._file, request.concepts, naming, self._role) if self._file else Listed(())

    def _choice(self, request: Request, counts: PromptCounts, strata: Sequence[str] = ()) -> Choice:
        file = self._file.name if self._file else ""
        return chosen_prompts(
            self._brought(request), self._templates(request, strata), request, counts, file=file, add=self._add,
            whose=lambda prompt: prompt.labels[QUESTION] if prompt.role in FORGET_ROLES else "",
            refused=lambda prompt: _refused(prompt, request))

    def _brought(self, request: Request) -> list[Prompt]:
        brought = [labelled(prompt, request) for prompt in self._listed(request).prompts]
        return [marked(prompt, request) if prompt.role in KEEP_ROLES else prompt for prompt in brought]

    def _templates(self, request: Request, strata: Sequence[str] = ()) -> dict[Role, list[Prompt]]:
        """All that templates could ask about `request`, by role."""
        ways, called = asked_strata(self.strata, strata), self._called
        if called and len(request.targets) > 1:
            raise UserError(f"--name-in for {request.title}", accepted="it where one concept is taken out")
        pools: dict[Role, list[Prompt]] = {role: [] for role in get_args(Role)}
        for target in request.targets:
            here = target.joint or {QUESTION: target.concept}
            _, held_out = asking(target)
            pools["direct"] += worded("direct", target.concept, target.kind, here, ways, called=called)
            if "full" in ways:
                pools["held_out"] += [Prompt(text=text, role="held_out", labels=here, stratum="full")
                                      for text in held_out]
            pools["near"] += beside(target, FAR_THINGS)
        anchors = list(dict.fromkeys(target.anchor for target in request.targets if target.anchor))
        pools["near"] += _in_turn([*worded("near", anchor, "object", {QUESTION: anchor}, ways),
                                   *_spelt(anchor, "near", ways)] for anchor in anchors)
        pools["far"] += _in_turn(worded("far", bare(thing), "object", {QUESTION: bare(thing)}, _turned(ways, turn),
                                        called=far_names(bare(thing)))
                                 for turn, thing in enumerate(FAR_THINGS) if bare(thing) not in map(bare, anchors))
        pools["empty"].append(Prompt(text="", role="empty"))
        for role in KEEP_ROLES:
            pools[role] = [marked(prompt, request) for prompt in pools[role] if not names_concept(prompt, request)]
        return pools

    def left_out(self, request: Request) -> list[str]:
        """In sentences, what of its own lists is not asked because it names a concept."""
        gone = [thing for thing in FAR_THINGS if names_any(thing, request)]
        return [f"Not asked as far things, because they name what is to go: {', '.join(gone)}."] if gone else []

    def question(self, concept: str) -> str:
        """Always "object": one question, whose labels are all the things that the prompts name. Only of a thing that
        goes together with another there is a second question."""
        return QUESTION

    def classes(self, request: Request) -> dict[str, dict[str, list[str]]]:
        """Texts by label by question, for a zero-shot judge: the concepts, the anchors and everything that prompts of
        any count could name; beside some kinds of concepts stands what may take their place (a clothed person for
        nudity).

        Raises:
            ConfigError: the file of prompts cannot be read or holds mistakes.
        """
        pools = [self.own(request), *self._templates(request).values()]  # what is not asked still tells things apart
        labels = [prompt.labels for pool in pools for prompt in pool]
        anchors = [target.anchor for target in request.targets if target.anchor]
        things = dict.fromkeys([*(thing_of(target) for target in request.targets), *anchors,
                                *(own[QUESTION] for own in labels if QUESTION in own)])
        texts = {label: [fill(template, label) for template in WORDINGS["object"].judge] for label in things
                 if label != SOMETHING_ELSE}
        questions = {QUESTION: texts}
        for target in request.targets:
            wording = WORDINGS[target.kind]
            texts[thing_of(target)] = [fill(template, thing_of(target)) for template in wording.judge]
            texts.update({label: [*said] for label, said in wording.instead.items()})
            if both := both_of(target):
                questions.setdefault(both.question, {}).update({label: [*said] for label, said in both.texts.items()})
        return questions


def fill(template: str, name: str) -> str:
    """The template with the name in it, with its article where it takes one (`records.with_article`)."""
    return template.format(a=with_article(name), c=name)


def _in_turn(lists: Iterable[Sequence[Prompt]]) -> list[Prompt]:
    """One of each list after the other."""
    return [prompt for row in zip_longest(*lists) for prompt in row if prompt is not None]


def _turned(ways: Sequence[str], by: int) -> Sequence[str]:
    """The ways of asking, beginning with another one, so that things that are asked once are asked in all ways."""
    by %= max(1, len(ways))
    return [*ways[by:], *ways[:by]]


def _spelt(thing: str, role: Role, ways: Sequence[str]) -> list[Prompt]:
    return [Prompt(text=fill(template, thing), role=role, labels={QUESTION: thing}, stratum="full")
            for template in HELD_OUT if "full" in ways]


def _refused(prompt: Prompt, request: Request) -> str:
    """Why a prompt is not asked: it is to be kept, and names what goes."""
    if prompt.role not in KEEP_ROLES or not names_concept(prompt, request):
        return ""
    return f"it is to be kept and names {request.title!r}"


def bare(name: str) -> str:
    """A name without its article."""
    return re.sub(r"^(an?|the) ", "", name)


def read_prompts(file: Path, concepts: Sequence[str]) -> list[Prompt]:
    """The prompts of a list (see `metrics.lists`). ConfigError: it holds mistakes; all are shown."""
    return list(listed(file, concepts, names).prompts)
