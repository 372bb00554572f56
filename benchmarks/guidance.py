"""At which guidance the embedded model draws best: how often the judge agrees with the prompt, scale by scale.

    python benchmarks/guidance.py [--scales 1.5 2 2.5 3 4.5] [--per-object 10]      some three minutes on 2 cores

Held-out templates, but other scenes and seeds than those that score the model (`benchmarks/quality.py`): a scale that
is chosen here is not chosen by the numbers that it is judged by.
"""

from __future__ import annotations

import argparse
import random

import expunge
from expunge.metrics.judge import EmojiJudge
from expunge.metrics.statistics import wilson
from expunge.records import Prompt, Sampler
from expunge.runtime import machine
from expunge.tiny.emoji import WEIGHTS
from expunge.tiny.world import BACKGROUNDS, HELD_OUT_TEMPLATES, SEEN, Scene, cells, fill

FIRST_SEED = 5000


def main() -> None:
    """Print a row per scale, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.5, 2.0, 2.5, 3.0, 4.5])
    parser.add_argument("--per-object", type=int, default=10, metavar="N", help="images per object (default 10)")
    args = parser.parse_args()
    model, judge, items = expunge.load("embedded"), EmojiJudge(WEIGHTS), development_items(args.per_object)
    print(f"{machine(model.device)}; {model.hash[:8]}, 20 steps; {judge.name}; n = {len(items)} each, Wilson\n")
    print("| guidance | object | style |\n| --- | --- | --- |")
    for scale in args.scales:
        answers = judge(expunge.sample(model, items, Sampler(steps=20, guidance=scale), batch=64))
        rates = []
        for question in ("object", "style"):
            hits = sum(answer.answers.get(question) == prompt.labels[question]
                       for (prompt, _), answer in zip(items, answers, strict=True))
            low, high = wilson(hits, len(items))
            rates.append(f"{hits / len(items):.1%} [{low:.1%}, {high:.1%}]")
        print(f"| {scale:g} | {rates[0]} | {rates[1]} |", flush=True)


def development_items(per_object: int) -> list[tuple[Prompt, int]]:
    """`per_object` prompts for each object, every style in turn."""
    items = []
    for name in SEEN:
        rng, styles = random.Random(f"development/{name}"), [style for other, style in cells(SEEN) if other == name]
        for i in range(per_object):
            scene = Scene(name, styles[i % len(styles)], rng.choice(list(BACKGROUNDS)))
            text = fill(HELD_OUT_TEMPLATES[(i // len(styles) + i) % len(HELD_OUT_TEMPLATES)], scene)
            labels = {"object": scene.object, "style": scene.style}
            items.append((Prompt(text=text, role="held_out", labels=labels), FIRST_SEED + i))
    return items


if __name__ == "__main__":
    main()
