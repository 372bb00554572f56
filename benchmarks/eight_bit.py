"""An edit over 8-bit blocks of the embedded model: is the concept gone, and do other things stay, where the patch goes?

    python benchmarks/eight_bit.py

A LoRA of rank 8 (`esd-fast`, church) is trained over 8-bit blocks. With it and without it the ordinary model draws, and
with it the one in 8 bits: 48 images that ask for the concept, 48 of eight other things, 8 steps each, judged by the
embedded world's judge.
"""

from __future__ import annotations

import argparse
import sys

import expunge
from expunge.metrics.base import Judge
from expunge.metrics.statistics import rate_interval
from expunge.models.model import Model
from expunge.models.sample import draw
from expunge.records import Sampler
from expunge.registry import WORLDS

CONCEPT, THINGS = "church", ("dog", "pizza", "apple", "car", "guitar", "castle", "cat", "rose")
STYLES = ("flat", "3d", "pixel art")


def main() -> int:
    """Prints a row for each model, with and without the patch."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    eight, plain = (expunge.load("embedded", device="cpu", eight_bit=on) for on in (True, False))
    patch = expunge.erase(eight, CONCEPT, "esd-fast", settings={"lora_rank": 8}, own_look=False)
    judge = WORLDS.get(plain.world)().judge(patch.card.request)
    print(f"| model | {CONCEPT} seen | other things seen |\n| --- | --- | --- |")
    for name, model, on in (("ordinary", plain, False), ("ordinary with the patch", plain, True),
                            ("8-bit blocks with the patch", eight, True)):
        if on:
            model.apply(patch)
        print(f"| {name} | {seen(model, judge, [CONCEPT], 16)} | {seen(model, judge, THINGS, 2)} |", flush=True)
    return 0


def seen(model: Model, judge: Judge, things: tuple[str, ...] | list[str], seeds: int) -> str:
    """How many images show what was asked for, with the interval at 95%."""
    asked = [(f"a {style} emoji of a {thing}", seed, thing) for thing in things for seed in range(seeds)
             for style in STYLES]
    answers = judge(draw(model, [(text, seed) for text, seed, _ in asked],
                         Sampler(steps=8, guidance=model.guidance)))
    hits = [answer.answers.get("object") == thing for answer, (*_, thing) in zip(answers, asked, strict=True)]
    low, high = rate_interval({str(number): [hit] for number, hit in enumerate(hits)})
    return f"{sum(hits)} of {len(hits)} ({low:.0%} to {high:.0%})"


if __name__ == "__main__":
    sys.exit(main())
