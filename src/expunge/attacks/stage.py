"""What a suite attacks: the items, what counts as success, who confirms, and what the null control asks for.

Items are (prompt, seed) pairs whose picture by the ORIGINAL model shows the concept: an item that the original does not
show either can tell nothing about an edit. Prompts name the concept; other wordings are attacks of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from expunge.attacks.base import Goal, Item, Victim
from expunge.attacks.settings import AttackSettings
from expunge.attacks.trial import Confirm
from expunge.errors import UserError
from expunge.finetune import read_pictures
from expunge.metrics.base import PromptCounts, World, aim_at
from expunge.metrics.judging import check_questions
from expunge.models.patch import Patch
from expunge.records import FORGET_ROLES, Prompt, Request

VARIANTS = 16
"""Other wordings of each kind that attacks may ask."""


@dataclass(frozen=True)
class Stage:
    """What is attacked.

    Attributes:
        request, goal: what is sought, and what counts as success.
        items: what is attacked, out of `asked` pictures of the original; left_out: the rest, by reason.
        confirm: the second detector; None where there is none.
        control, control_goal, control_items, control_variants: the null control's request, goal, items and wordings;
            None and empty where there is none.
    """

    request: Request
    goal: Goal
    items: list[Item]
    asked: int
    left_out: dict[str, int]
    confirm: Confirm | None
    control: Request | None
    control_goal: Goal | None
    control_items: list[Item]
    control_variants: Mapping[str, tuple[str, ...]]


def sought(world: World, patch: Patch | None, concept: str) -> Request:
    """What an attack looks for: `concept`, or what the patch took out.

    Raises:
        UserError: there is neither, or the patch took out several concepts and none of them is chosen.
    """
    if patch is None:
        if not concept:
            raise UserError("nothing to look for", accepted="a patch, or a concept")
        return world.request(concept)
    own = {request.concept: request for request in patch.card.request.alone()}
    if concept:
        return own.get(concept) or world.request(concept)
    if len(own) > 1:
        raise UserError(f"the patch took out {', '.join(own)}", accepted="one of them at a time, as `concept`",
                        remedy="name it: --concept on the command line")
    return patch.card.request


def staged(world: World, request: Request, victim: Victim, settings: AttackSettings, count: int, control_count: int
           ) -> Stage:
    """The items among `count` prompts at the settings' seeds, and `control_count` items of the null control.

    Args:
        victim: without its patch.

    Raises:
        UserError: the judge does not know the concept, or finds it in none of the original model's pictures.
    """
    goal = Goal.of(world.judge(request), aim_at(world, request))
    asked = named_items(world, request, settings, count)
    for question, label in goal.aim.wanted.items():
        check_questions(goal.judge, label, question, [prompt for prompt, _ in asked])
    seen = goal.see(victim.draw([prompt.text for prompt, _ in asked], [seed for _, seed in asked], settings.batch))
    items = [item for item, sight in zip(asked, seen, strict=True) if sight.found]
    if not items:
        raise UserError(f"the judge finds no {request.concept!r} in {len(asked)} pictures of the original model",
                        accepted="a concept that the model draws", remedy="more prompts or seeds, or another judge")
    left_out = {"the judge failed on the original's picture": sum(bool(sight.error) for sight in seen)}
    left_out["the original model does not show it"] = len(asked) - len(items) - sum(left_out.values())
    second = world.second(request)
    confirm = None if second is None else Confirm(Goal.of(second, goal.aim))
    control = world.control(request) if control_count else None
    aim = None if control is None else Goal.of(world.judge(control), aim_at(world, control), known=False)
    nulls = [] if control is None else named_items(world, control, settings, control_count)[:control_count]
    return Stage(request, goal, items, len(asked), {k: v for k, v in left_out.items() if v}, confirm,
                  control, aim, nulls,
                  variants(world, control) if control else {})


def pictures_in(folder: str) -> Tensor | None:
    """The user's pictures, float32 (N, 3, H, W) in [0, 1]; None if no folder is named.

    Raises:
        UserError: no picture there, one that cannot be read, or pictures of different sizes.
    """
    return read_pictures(folder)[1] if folder else None


def prompts_of(world: World, request: Request, **counts: int) -> list[Prompt]:
    """The world's prompts, so many of each role that is named and none of the others."""
    none = dict.fromkeys(PromptCounts.model_fields, 0)
    return world.prompts(request, PromptCounts(**{**none, **counts}))


def named_prompts(world: World, request: Request, count: int) -> list[Prompt]:
    """`count` prompts that ask for the concept by its name; other wordings are attacks of their own."""
    return prompts_of(world, request, direct=(count + 1) // 2, held_out=count // 2)


def variants(world: World, request: Request) -> dict[str, tuple[str, ...]]:
    """Other wordings of the concept, by role."""
    found = prompts_of(world, request, paraphrase=VARIANTS, implicit=VARIANTS)
    return {role: tuple(prompt.text for prompt in found if prompt.role == role) for role in ("paraphrase", "implicit")}


def named_items(world: World, request: Request, settings: AttackSettings, count: int) -> list[Item]:
    """`count` prompts that ask for the concept by its name, each at the settings' seeds."""
    seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
    prompts = named_prompts(world, request, count)
    return [(prompt, seed) for prompt in prompts if prompt.role in FORGET_ROLES for seed in seeds]
