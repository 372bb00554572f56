"""What a suite attacks: the items, what counts as success, who confirms, and what the null control asks for.

Items are (prompt, seed) pairs whose image by the ORIGINAL model shows the concept: an item that the original does not
show either can tell nothing about an edit. Prompts name the concept; other wordings are attacks of their own.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from expunge.attacks.settings import AttackSettings, RelearnSettings
from expunge.attacks.victim import NO_PICTURE, Goal, Item, Victim
from expunge.errors import UserError
from expunge.finetune import picture_folder
from expunge.metrics.base import PromptCounts
from expunge.metrics.brought import Brings, list_remarks, own_prompts
from expunge.metrics.judging import check_questions
from expunge.metrics.prompts import Prompts, aim_at
from expunge.metrics.worlds import World
from expunge.models.fitting import TOO_LONG, none_fits, split, unfit
from expunge.models.patch import Patch
from expunge.records import FORGET_ROLES, Prompt, Request, counted

VARIANTS = 16
"""Other wordings of each kind that attacks may ask, of a world's own."""
NAMING = ("direct", "held_out")
"""Roles of prompts that call the concept by its name."""


@dataclass(frozen=True)
class Stage:
    """What is attacked.

    Attributes:
        request, goal: what is sought, and what counts as success.
        items: what is attacked, out of `asked` images of the original that the judge could judge; left_out: those
            and all others that are not attacked, by reason.
        confirm: the same goal of the second detector; None where there is none.
        control, control_goal, control_items, control_variants: the null control's request, goal, items and wordings;
            None and empty where nothing is known that the model never knew.
        control_count: items of each null control; 0: none is to be run. asked_for: the prompts, those that
            cannot be drawn among them.
        elsewhere: items that do not ask for the concept, for null controls where there is no such thing.
    """

    request: Request
    goal: Goal
    items: list[Item]
    asked: int
    left_out: dict[str, int]
    confirm: Goal | None
    control: Request | None
    control_goal: Goal | None
    control_items: list[Item]
    control_variants: Mapping[str, tuple[str, ...]]
    control_count: int = 0
    asked_for: tuple[Prompt, ...] = ()
    elsewhere: list[Item] = field(default_factory=list)


def sought(asks: Prompts, patch: Patch | None, concept: str) -> Request:
    """What an attack looks for: `concept`, or what the patch took out.

    Raises:
        UserError: there is neither, or the patch took out several concepts and none of them is chosen.
    """
    if patch is None:
        if not concept:
            raise UserError("nothing to look for", accepted="a patch, or a concept")
        return asks.request(concept)
    own = {request.concept: request for request in patch.card.request.alone()}
    if concept:
        return own.get(concept) or asks.request(concept)
    if len(own) > 1:
        raise UserError(f"the patch took out {', '.join(own)}", accepted="one of them at a time, as `concept`",
                        remedy="name it: --concept on the command line")
    return patch.card.request


def attack_stage(world: World, request: Request, victim: Victim, settings: AttackSettings, usual: int,
                 control_count: int) -> Stage:
    """The items among the user's prompts, or `usual` of the world's, at the settings' seeds, and `control_count` items
    of the null control.

    Args:
        victim: without its patch.

    Raises:
        UserError: the judge does not know the concept, or finds it in none of the original model's images.
    """
    goal = Goal(world.judge(request), aim_at(world.prompts, request))
    whole = named_items(world.prompts, request, settings, usual)
    asked, lost = drawable(victim, whole)
    for question, label in goal.aim.wanted.items():
        check_questions(goal.judge, label, question, [prompt for prompt, _ in asked])
    seen = victim.seen(goal, asked, settings.batch)
    items = [item for item, sight in zip(asked, seen, strict=True) if sight.found]
    if not items:
        shown_in = counted(len(asked), "images")
        raise UserError(f"the judge finds no {request.concept!r} in {shown_in} of the original model",
                        accepted="a concept that the model draws", remedy="more prompts or seeds, or another judge")
    spoilt = sum(sight.error == NO_PICTURE for sight in seen)
    left_out = {"the judge failed on the original's image": sum(bool(sight.error) for sight in seen) - spoilt,
                "the original's image is not finite": spoilt}
    left_out["the original model does not show it"] = len(asked) - len(items) - sum(left_out.values())
    left_out |= Counter(lost.values())
    second = world.second(request)
    confirm = None if second is None else Goal(second, goal.aim)
    control = world.unknown.control(request) if world.unknown and control_count else None
    aim = None if control is None else Goal(world.judge(control), aim_at(world.prompts, control), known=False)
    nulls = [] if control is None else named_items(
        world.prompts, control, settings.model_copy(update={"count": control_count}), control_count)[:control_count]
    nulls = drawable(victim, nulls)[0] if nulls else []
    return Stage(request, goal, items, sum(not sight.error for sight in seen),
                 {k: v for k, v in left_out.items() if v}, confirm, control, aim, nulls,
                 variants(world.prompts, control) if control else {}, control_count,
                 tuple({(prompt.text, prompt.seed): prompt for prompt, _ in whole}.values()),
                 elsewhere(world.prompts, request, settings, control_count, victim) if control is None else [])


def elsewhere(asks: Prompts, request: Request, settings: AttackSettings, count: int, victim: Victim) -> list[Item]:
    """`count` items of other things, far ones first, each prompt at the next of the settings' seeds; fewer where there
    are few prompts."""
    found = prompts_of(asks, request, far=count, near=count) if count else []
    ranked = [prompt for role in ("far", "near") for prompt in found if prompt.role == role]
    prompts = split(victim.model, ranked, victim.sampler)[0][:count]
    return [(prompt, settings.first_seed + k % settings.seeds if prompt.seed is None else prompt.seed)
            for k, prompt in enumerate(prompts)]


def drawable(victim: Victim, items: Sequence[Item]) -> tuple[list[Item], dict[int, str]]:
    """The items that the model draws as they are asked, and by its place why each other one is not.

    Raises:
        UserError: none is left of some.
    """
    lost = unfit(victim.model, [prompt for prompt, _ in items], victim.sampler)
    kept = [item for place, item in enumerate(items) if place not in lost]
    if items and not kept:
        raise none_fits(counted(len(items), "items"), lost)
    return kept, lost


def pictures_in(folder: str) -> Tensor | None:
    """The user's images, float32 (N, 3, H, W) in [0, 1]; None if no folder is named.

    Raises:
        UserError: no image there that can be read, or images of different sizes.
    """
    return picture_folder(folder).pictures if folder else None


def prompts_of(asks: Prompts, request: Request, **counts: int) -> list[Prompt]:
    """The world's prompts, so many of each role that is named and none of the others."""
    none = dict.fromkeys(PromptCounts.model_fields, 0)
    return asks.of(request, PromptCounts(**{**none, **counts}))


def named_prompts(asks: Prompts, request: Request, count: int | None, usual: int, add: bool = False) -> list[Prompt]:
    """Prompts that ask for the concept by its name; other wordings are attacks of their own.

    The user's own are taken whole and in their order, whatever their wording if none of them is said to name it.

    Args:
        count: how many at most; None: all of the user's, or `usual` of the world's.
        add: the world's, too, where the user brings some.
    """
    own, most = own_named(asks, request), usual if count is None else count
    templates = [] if own and not add else prompts_of(asks, request, direct=(most + 1) // 2, held_out=most // 2)
    texts = {prompt.text for prompt in own}
    both = [*own, *(prompt for prompt in templates if prompt.text not in texts and prompt.role in FORGET_ROLES)]
    return both if count is None else both[:count]


def own_named(asks: Prompts, request: Request) -> list[Prompt]:
    """Of the user's own prompts those that name the concept; all that ask for it where none does."""
    distinct = {(prompt.text, prompt.seed): prompt for prompt in reversed(own_prompts(asks, request))
                if prompt.role in FORGET_ROLES}
    own = list(reversed(distinct.values()))
    return [prompt for prompt in own if prompt.role in NAMING] or own


def told_of_own(asks: Prompts, request: Request, settings: AttackSettings | RelearnSettings, used: int,
                asked: Mapping[str, int] | None = None, lost: Mapping[int, str] | None = None) -> list[str]:
    """Plain sentences: how many of the user's prompts are used, and why not the others; none where none are given.

    Args:
        used: prompts that are chosen, those that cannot be drawn included. lost: why one cannot, by its place among
            these, as `fitting.unfit` says it. asked: how many other wordings each item asks at most, by attack.
    """
    own = [prompt for prompt in own_prompts(asks, request) if prompt.role in FORGET_ROLES]
    named, file = own_named(asks, request), Path(settings.prompts or os.environ.get("EXPUNGE_PROMPTS", "")).name
    if not own:
        return [*list_remarks(asks, request), f"{file} has no prompt that asks for {request.concept!r}: those of "
                "templates are attacked."] if file and isinstance(asks, Brings) else []
    taken = min(used, len(named))
    why, lost = Counter({f"count is {settings.count}": len(named) - taken}), lost or {}
    why.update(reason for place, reason in lost.items() if place < taken)  # the user's own come first
    reasons = ", ".join(f"{count}: {reason}" for reason, count in why.items() if count)
    done = "asked at every look" if isinstance(settings, RelearnSettings) else "attacked"
    out = [*list_remarks(asks, request),
           f"{file}: {counted(len(named), 'prompts')} for {request.concept!r} given, "
           f"{len(named) - sum(why.values())} {done}{'; left out ' * bool(reasons)}{reasons}."]
    added = used - taken - sum(place >= taken for place in lost)
    if added > 0:
        out.append(f"{counted(added, 'prompts')} added from templates: asked for.")
    for role, most in (asked or {}).items():
        count = sum(prompt.role == role and prompt not in named for prompt in own)
        if count:
            each = "all" if most >= count else f"{most}, in an order of its own (options.{role}.prompts is {most})"
            out.append(f"{file}: {count} {role} prompt{'s' * (count > 1)} given; under {role} every item asks {each}.")
    other = [prompt for prompt in own if prompt not in named and prompt.role not in (asked or {})]
    if other:
        out.append(f"{file}: {counted(len(other), 'prompts')} in other words given, none asked: no attack here does.")
    return out


def lost_words(victim: Victim, prompts: Sequence[Prompt]) -> list[str]:
    """In sentences, how many of the prompts cannot be drawn, and why."""
    counts = Counter(unfit(victim.model, prompts, victim.sampler).values())
    total = counted(len(prompts), "prompts")
    return [f"{count} of {total} left out: {why}{' (--truncate cuts them)' * (why == TOO_LONG)}."
            for why, count in counts.items()]


def cut_words(victim: Victim, stage: Stage) -> list[str]:
    """In sentences, how many of the prompts are cut, and how many other wordings are too long to be asked."""
    texts = {prompt.text for prompt, _ in stage.items}
    wordings = {text for its in victim.variants.values() for text in its}
    long = victim.model.too_long([*texts, *wordings])
    cut, over = len(long.keys() & texts), len(long.keys() & wordings)
    if victim.sampler.truncate:
        return [f"{cut} of {counted(len(texts), 'prompts')} cut to what the text encoder reads."] if cut else []
    return [f"{over} of {len(wordings)} other wordings left out: {TOO_LONG} (--truncate cuts them)."] if over else []


def variants(asks: Prompts, request: Request) -> dict[str, tuple[str, ...]]:
    """Other wordings of the concept, by role: all of the user's own, or up to 16 of the world's."""
    found = own_prompts(asks, request)
    if not any(prompt.role in FORGET_ROLES for prompt in found):
        found = prompts_of(asks, request, paraphrase=VARIANTS, implicit=VARIANTS)
    return {role: tuple(dict.fromkeys(prompt.text for prompt in found if prompt.role == role))
            for role in ("paraphrase", "implicit")}


def named_items(asks: Prompts, request: Request, settings: AttackSettings, usual: int) -> list[Item]:
    """Prompts that ask for the concept by its name, each at the settings' seeds, or at that of its list.

    Args:
        usual: how many of the world's prompts where the settings do not say.
    """
    prompts = named_prompts(asks, request, settings.count, usual, settings.add_templates)
    once = {(prompt.text, seed): (prompt, seed) for prompt in prompts
            for seed in prompt.seeds(settings.first_seed, settings.seeds, settings.own_seeds)}
    return list(once.values())
