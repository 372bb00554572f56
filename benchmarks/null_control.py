"""Attacks that start from an image, rung by rung, on the embedded model, an edit of it, and random weights.

    python benchmarks/null_control.py [--items 8] [--concept church] [--patch FOLDER]

Each row is one form of one attack made on every item: in how many images the judge finds the concept. What random
weights give, too, is no evidence; defaults are taken from the rows where they give none or next to none.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import torch

from expunge.attacks.aims import targets
from expunge.attacks.base import Attack
from expunge.attacks.ddim import DdimInversion
from expunge.attacks.inpainting import Inpainting
from expunge.attacks.noising import Noising
from expunge.attacks.null import randomised
from expunge.attacks.victim import Goal, Item, Victim
from expunge.metrics.base import Aim, PromptCounts
from expunge.metrics.statistics import wilson
from expunge.models.model import applied
from expunge.models.patch import Patch
from expunge.models.store import load
from expunge.records import Request, Sampler
from expunge.tiny.emoji import emoji_world

RUNGS: tuple[Attack, ...] = (
    *(Noising(strengths=(s,), words=("empty",)) for s in (0.9, 0.8, 0.7, 0.6, 0.5, 0.3)),
    *(Noising(strengths=(s,), words=("own",)) for s in (0.9, 0.7)),
    *(Inpainting(holes=(hole,)) for hole in ("centre", "half", "random")),
    *(DdimInversion(steps=20, fresh=(share,)) for share in (0.5, 0.35, 0.2, 0.0)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--concept", default="church")
    parser.add_argument("--patch", default="", help="folder of an edit of the embedded model")
    args = parser.parse_args()
    model, world = load("embedded"), emoji_world()
    request = world.prompts.request(args.concept)
    goal = Goal(world.judge(request), Aim(args.concept, world.prompts.question(args.concept)))
    counts = PromptCounts(**{**dict.fromkeys(PromptCounts.model_fields, 0), "direct": args.items})
    asked: list[Item] = [(prompt, 0) for prompt in world.prompts.of(request, counts)]
    victim = Victim(model, None, Sampler())
    aims = targets(victim, asked, goal)
    items = [item for item, aim in zip(asked, aims, strict=True) if aim is not None]
    victim = replace(victim, pictures=torch.stack([aim for aim in aims if aim is not None]))
    patch = Patch.load(args.patch) if args.patch else None
    print(f"{args.concept}, {len(items)} items, model {model.hash[:8]}, patch {patch.hash[:8] if patch else 'none'}")
    print("| attack | settings | unedited | edited | random weights |\n| --- | --- | --- | --- | --- |")
    for attack in RUNGS:
        row = [_found(attack, victim, request, items, goal), "not asked for"]
        if patch is not None:
            with applied(model, patch):
                row[1] = _found(attack, replace(victim, patch=patch), request, items, goal)
        assert victim.pictures is not None
        with randomised(victim, pictures=victim.pictures) as blank:
            row.append(_found(attack, blank, request, items, goal))
        changed = {key: value for key, value in attack.model_dump().items() if key in attack.model_fields_set}
        print(f"| {attack.name} | {changed} | {' | '.join(row)} |", flush=True)


def _found(attack: Attack, victim: Victim, request: Request, items: Sequence[Item], goal: Goal) -> str:
    """Found of all, the 95% interval, and how many could not be asked because what is visible gave it away."""
    outcomes = list(attack.outcomes(victim, request, items, goal))
    skipped = sum("skipped" in outcome.note for outcome in outcomes)
    n = len(outcomes) - skipped - sum(bool(outcome.error) for outcome in outcomes)
    found = sum(outcome.found for outcome in outcomes)
    low, high = wilson(found, n)
    return f"{found} of {n}" + (f" ({low:.0%} to {high:.0%})" if n and low is not None and high is not None else "")


if __name__ == "__main__":
    main()
