"""The null control of an attack: the same attack where nothing can be found, on any model.

    random weights    attacks that start from images: the same images, a denoiser that learnt nothing (`null`)
    never known       all others: a thing that the model never knew, where the world has one
    elsewhere         where it has none, attacks that do not work towards the concept themselves (fixed prompts, more
                      seeds, coarser weights): the same attack on prompts of other things, which do not ask for it. What
                      it "finds" there comes from the judge, or from looking often

An attack without any of these is uncontrolled, and its record says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from expunge.attacks.aims import targets
from expunge.attacks.base import Attack
from expunge.attacks.null import randomised
from expunge.attacks.stage import Stage
from expunge.attacks.trial import attempts, plain
from expunge.attacks.victim import Goal, Item, Victim
from expunge.errors import UserError
from expunge.records import Attempt, Request
from expunge.registry import ATTACKS
from expunge.runtime import Progress

Control = tuple[list[Attempt], str]
"""The attempts, and what they were made on in words; without any, why the attack is uncontrolled."""


def null_control(attack: Attack, victim: Victim, stage: Stage, folder: Path, tell: Progress | None) -> Control:
    """Run the attack's null control; its attempts are kept in `folder`."""
    if not stage.control_count:
        return _none("no items were to be spent on null controls")
    if attack.null == "random weights":
        return _random_weights(attack, victim, stage, folder, tell)
    if stage.control is not None and stage.control_goal is not None:
        unknown = replace(victim, pictures=None, variants=stage.control_variants)
        return _made(attack, unknown, stage.control, stage.control_goal, stage.control_items, folder, tell,
                     f"{stage.control.concept!r}, which the model never knew")
    if not attack.null_elsewhere:
        return _none("nothing is known that the model never knew, and the attack cannot be made where the concept is "
                     "not asked for")
    if not stage.elsewhere:
        return _none("nothing is known that the model never knew, and there are no prompts of other things")
    others = tuple(dict.fromkeys(prompt.text for prompt, _ in stage.elsewhere))
    asked = replace(victim, variants=dict.fromkeys(("paraphrase", "implicit"), others))
    return _made(attack, asked, stage.request, stage.goal, stage.elsewhere, folder, tell,
                 "prompts of other things, which do not ask for it")


def _random_weights(attack: Attack, victim: Victim, stage: Stage, folder: Path, tell: Progress | None) -> Control:
    items = stage.items[:stage.control_count]
    aims = targets(victim, items, stage.goal)
    have = [(item, aim) for item, aim in zip(items, aims, strict=True) if aim is not None]
    if not have:
        return _none("no image to start from")
    with randomised(victim, pictures=torch.stack([aim for _, aim in have])) as blank:
        made = attempts(attack, blank, stage.request, [item for item, _ in have], stage.goal, folder=folder, fresh=0,
                        tell=tell)
    return made, "the same images, a denoiser of random weights"


def _made(attack: Attack, victim: Victim, request: Request, goal: Goal, items: Sequence[Item], folder: Path,
          tell: Progress | None, words: str) -> Control:
    """The attack on the items that do not show what is sought by themselves."""
    try:
        with ATTACKS.blaming(attack.name):
            attack.check(victim, request, items)
    except UserError as error:
        return _none(f"not possible on {words}: {error}")
    before = plain(victim, items, goal, victim.batch)
    left = [(item.prompt, item.seed) for item in before if item.outcome == "not elicited"]
    if not left:
        return _none(f"none of {len(items)} items is free of the concept on {words}")
    return attempts(attack, victim, request, left, goal, folder=folder, fresh=0, tell=tell), words


def _none(why: str) -> Control:
    return [], f"uncontrolled: {why}"
