"""A strength chosen by a rule over many concepts: one setting of a method, several values, things drawn by a seed.

    python benchmarks/strengths.py --method oce-fast --setting solver.erase --values 8 15 30 60

For every value and thing: the edit, then a few images of the thing itself (found) and of what is near and far (kept),
judged by the embedded world's judge; the original draws the same. The prompts are plain ones in the wordings that
methods may use, so a strength that is chosen here is not chosen by the questions of the evaluation.

The rule: of the values at which no more than a tenth of all images show the things that went, the one that keeps most
of what the original draws beside them; where no value gets there, the one that leaves least. Ties go to the smaller.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import expunge
from expunge.files import write_json
from expunge.models.model import Model
from expunge.records import Sampler
from expunge.tiny.emoji import emoji_world
from expunge.tiny.strata import METHOD_TEMPLATES
from expunge.tiny.world import SEEN, Scene, far, fill, near

WORLD = emoji_world()
GONE = 0.1
Item = tuple[str, str, int]
"""Prompt, the thing that it asks for, seed."""
Counts = tuple[int, int, int, int]
"""Images that show the thing that went, of so many; images that show what they should beside it, of so many."""


def items(concept: str, count: int) -> tuple[list[Item], list[Item]]:
    """`count` prompts for the concept, and `count` each for near and far things."""
    rng, ways = random.Random(f"strengths/{concept}"), [t for t in METHOD_TEMPLATES if "style}" not in t]

    def about(names: Sequence[str], first: int) -> list[Item]:
        return [(fill(ways[i % len(ways)], Scene(name, "flat")), name, first + i)
                for i, name in enumerate((list(names) * count)[:count])]

    others = far(concept)
    return about([concept], 0), [*about(near(concept), 100), *about(rng.sample(others, min(count, len(others))), 200)]


def counted(model: Model, concept: str, count: int, steps: int) -> Counts:
    """Of the model as it is."""
    gone, kept = items(concept, count)
    every = [*gone, *kept]
    drawn = expunge.sample(model, [(text, seed) for text, _, seed in every],
                           Sampler(steps=steps, guidance=model.guidance))
    answers = WORLD.judge(WORLD.prompts.request(concept))(drawn)
    right = [answer.answers.get("object") == name for answer, (_, name, _) in zip(answers, every, strict=True)]
    return sum(right[:len(gone)]), len(gone), sum(right[len(gone):]), len(kept)


def main() -> None:
    """Print the table and the choice; write both."""
    asks = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asks.add_argument("--method", default="oce-fast")
    asks.add_argument("--setting", default="solver.erase")
    asks.add_argument("--values", type=float, nargs="+", default=[8.0, 15.0, 30.0, 60.0])
    asks.add_argument("--concepts", type=int, default=6, help="things, drawn at random")
    asks.add_argument("--seed", type=int, default=13, help="decides which")
    asks.add_argument("--prompts", type=int, default=8, help="for the thing, near and far things each")
    asks.add_argument("--steps", type=int, default=10, help="sampler steps")
    asks.add_argument("--out", type=Path, default=Path("benchmarks/records"))
    told = asks.parse_args()
    model = expunge.load("embedded", device="cpu")
    concepts = random.Random(told.seed).sample(SEEN, told.concepts)
    before = {name: counted(model, name, told.prompts, told.steps) for name in concepts}
    rows: dict[str, dict[str, Counts]] = {"original": before}
    for value in told.values:
        mine = rows.setdefault(f"{value:g}", {})
        for concept in concepts:
            patch = expunge.erase(model, concept, told.method, settings={told.setting: value}, own_look=False)
            with expunge.applied(model, patch):
                mine[concept] = counted(model, concept, told.prompts, told.steps)
            print(f"{told.setting} {value:g}, {concept} ({patch.card.request.anchor}): found {mine[concept][0]} of "
                  f"{mine[concept][1]} (before {before[concept][0]}), kept {mine[concept][2]} of {mine[concept][3]} "
                  f"(before {before[concept][2]})", flush=True)
    total = {name: [sum(column) for column in zip(*mine.values(), strict=True)] for name, mine in rows.items()}
    for name, (found, n, kept, of) in total.items():
        print(f"{name:>10}: found {found} of {n}, kept {kept} of {of}")
    edits = {name: sums for name, sums in total.items() if name != "original"}
    weak_enough = [name for name, (found, n, _, _) in edits.items() if found <= GONE * n]
    chosen = max(weak_enough, key=lambda name: (edits[name][2], -float(name))) if weak_enough else \
        min(edits, key=lambda name: (edits[name][0], float(name)))
    print(f"chosen: {told.setting} {chosen}")
    write_json(told.out / f"strengths-{told.method}.json", {
        "method": told.method, "setting": told.setting, "seed": told.seed, "steps": told.steps, "concepts": concepts,
        "found, of, kept, of": rows, "total": total, "chosen": chosen})


if __name__ == "__main__":
    main()
