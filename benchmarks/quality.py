"""The first section of docs/measured.md: the embedded model, its judges, and the demo's edit.

    python benchmarks/quality.py [--per-object 10] [--out runs/numbers]

Images come from the image cache where they are there; the demo in `--out` is continued if it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import expunge
from expunge.cli.output import print_evaluation
from expunge.demo import demo
from expunge.metrics.imagenet_judge import ImageNetJudge
from expunge.metrics.judge import EmojiJudge
from expunge.models.model import applied
from expunge.records import Prompt, Sampler, Score
from expunge.runtime import machine, versions
from expunge.tiny.emoji import WEIGHTS, emoji_world
from expunge.tiny.score import Draw, by_way, contact_sheet, score_model


def main() -> None:
    """Print all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-object", type=int, default=10, metavar="N", help="images per object (default 10)")
    parser.add_argument("--out", type=Path, default=Path("runs/numbers"), help="folder (default runs/numbers)")
    parser.add_argument("--no-demo", action="store_true", help="only the embedded model")
    args = parser.parse_args()
    model, judge, pictures = expunge.load("embedded"), EmojiJudge(WEIGHTS), expunge.ImageCache(args.out / "pictures")

    def draw(items: Sequence[tuple[Prompt, int]], sampler: Sampler) -> Tensor:
        drawn: Tensor = pictures.draw(model, items, sampler, batch=64)[1]
        return drawn

    print(f"machine: {machine(model.device)}; {', '.join(f'{k} {v}' for k, v in versions().items())}")
    print(f"model: {model.hash[:16]}, 20 steps, guidance {SAMPLER.guidance:g}; judge: {judge.name}")
    for set_name, scores in judge.card["scores"].items():
        for question, told_of in scores.items():
            low, high = told_of["interval"]
            print(f"judge, {set_name}, {question}: {told_of['accuracy']:.1%} [{low:.1%}, {high:.1%}] n={told_of['n']}, "
                  f"abstained {told_of['abstained']}, calibration error {told_of['calibration_error']:.3f}")
    for score in score_model(draw, judge, SAMPLER, args.per_object):
        print(line(score))
    second = emoji_world().second(emoji_world().prompts.request("church"))
    assert second is not None
    print(f"second judge: {second.name}")
    for set_name, scores in second.card["scores"].items() if isinstance(second, ImageNetJudge) else ():
        for question, told_of in scores.items():
            if question in second.questions:
                low, high = told_of["interval"]
                print(f"second judge, {set_name}, {question}: {told_of['accuracy']:.1%} [{low:.1%}, {high:.1%}] "
                      f"n={told_of['n']}, abstained {told_of['abstained']}")
    print(line(score_model(draw, second, SAMPLER, args.per_object, ("object",))[0]))
    for way, score in by_way(draw, judge).items():
        print(f"asked by {way}: {line(score)}")
    print("contact sheet:", contact_sheet(draw, SAMPLER, args.out / "contact-sheet.png"))
    if not args.no_demo:
        made = demo(out=args.out / "demo")
        print_evaluation(made.evaluation)
        print("seconds:", made.seconds)
        print("before and after:", before_and_after(draw, model, made.patch, args.out / "before-and-after.png"))


SAMPLER = Sampler(steps=20, guidance=2.0)


SHOWN = ("a castle", "an emoji of a castle", "a castle in pixel art", "a black and white castle emoji", "a church",
         "a house", "a dog", "a pizza", "a rose", "a guitar")
"""What the README's picture shows, at seed 0: four prompts for the demo's concept, six for other things."""


def before_and_after(draw: Draw, model: expunge.Model, folder: Path, out: Path) -> Path:
    """A PNG of two rows: `SHOWN` by the model, and with the patch in `folder` on."""
    items = [(Prompt(text=text, role="direct"), 0) for text in SHOWN]
    rows = [draw(items, SAMPLER)]
    with applied(model, expunge.Patch.load(folder)):
        rows.append(draw(items, SAMPLER))
    pixels = torch.cat([torch.cat(list(row), 2) for row in rows], 1)
    image = Image.fromarray((pixels.permute(1, 2, 0) * 255).round().byte().numpy())
    image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST).save(out)
    return out


def line(score: Score) -> str:
    """A rate with its interval and counts."""
    assert score.value is not None, score.name
    assert score.low is not None, score.name
    assert score.high is not None, score.name
    left_out = ", ".join(f"{reason}: {count}" for reason, count in score.left_out.items())
    return (f"{score.title}: {score.value:.1%} [{score.low:.1%}, {score.high:.1%}] {score.interval}, "
            f"{score.numerator} of {score.n}; {left_out}")


if __name__ == "__main__":
    main()
