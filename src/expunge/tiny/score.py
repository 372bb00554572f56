"""How good the embedded model is: does it draw what held-out prompts ask for, and does its judge judge well?

`score_model` gives the numbers, `contact_sheet` the image of them; both draw through the image cache, so that a
second run draws nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from expunge.metrics.base import Judge
from expunge.metrics.statistics import wilson
from expunge.records import Detection, Prompt, Sampler, Score
from expunge.tiny.strata import STRATA, TEMPLATES
from expunge.tiny.world import BACKGROUNDS, HELD_OUT_TEMPLATES, NEVER_SEEN, SEEN, STYLES, Scene, cells, fill

Draw = Callable[[Sequence[tuple[Prompt, int]], Sampler], Tensor]
"""Draws float32 (N, 3, H, W) in [0, 1] for (prompt, seed) pairs."""


def held_out_items(objects: Sequence[str], per_object: int) -> list[tuple[Prompt, int]]:
    """Prompts in held-out templates, `per_object` for each object, seeded scenes, one image seed per prompt."""
    items = []
    drawn = cells(objects)
    for name in objects:
        rng = random.Random(f"score/{name}")
        styles = [style for other, style in drawn if other == name]
        for i in range(per_object):
            scene = Scene(name, styles[i % len(styles)], rng.choice(list(BACKGROUNDS)))
            template = HELD_OUT_TEMPLATES[i % len(HELD_OUT_TEMPLATES)]
            labels = {"object": scene.object, "style": scene.style, "background": scene.background}
            items.append((Prompt(text=fill(template, scene), role="held_out", labels=labels), i))
    return items


def by_way(draw: Draw, judge: Judge, sampler: Sampler | None = None) -> dict[str, Score]:
    """Agreement with the prompt on the object by way of asking, one prompt per thing: does the model draw what is asked
    for so at all?"""
    scores = {}
    for way, stratum in STRATA.items():
        items = []
        for turn, name in enumerate(SEEN):
            drawn = [style for other, style in cells() if other == name]
            scene = Scene(name, drawn[turn % len(drawn)])
            template = TEMPLATES[way][turn % len(TEMPLATES[way])]
            text = fill(template, scene, other=SEEN[(turn + 17) % len(SEEN)])
            items.append((Prompt(text=text, role="direct", labels={"object": name}, stratum=way), turn))
        scores[stratum.words] = _agreement("object", items, judge(draw(items, sampler or Sampler())))
    return scores


def score_model(draw: Draw, judge: Judge, sampler: Sampler, per_object: int = 10,
                questions: Sequence[str] = ("object", "style", "background")) -> list[Score]:
    """Agreement with the prompt on each question, and recognition of things never seen.

    An abstention counts against agreement (the judge could not tell), and against recognition it counts as not
    recognised; both are also given as `left_out`, so that a reader can recount.
    """
    items = held_out_items(SEEN, per_object)
    answers = judge(draw(items, sampler))
    scores = [_agreement(question, items, answers) for question in questions]
    null = held_out_items(NEVER_SEEN, per_object * 2)
    recognised = _agreement("object", null, judge(draw(null, sampler)))
    scores.append(recognised.model_copy(update={
        "name": "emoji/never_seen", "title": "Things never seen that the judge recognises", "higher_is_better": False}))
    return scores


def contact_sheet(draw: Draw, sampler: Sampler, out: Path, seed: int = 0) -> Path:
    """A PNG of every object (rows of nine) in every style, on seeded backgrounds."""
    rng = random.Random(f"sheet/{seed}")
    items, blank = [], []
    for start in range(0, len(SEEN), 12):
        for style in STYLES:
            for name in SEEN[start:start + 12]:
                blank.append((name, style) not in set(cells()))
                scene = Scene(name, style, rng.choice(list(BACKGROUNDS)))
                items.append((Prompt(text=fill(HELD_OUT_TEMPLATES[1], scene), role="held_out"), seed))
    pictures = draw(items, sampler)
    pictures[torch.tensor(blank)] = 1.0
    rows = [torch.cat(list(row), 2) for row in pictures.split(12)]
    pixels = (torch.cat(rows, 1).permute(1, 2, 0) * 255).round().byte().numpy()
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(out)
    return out


def _agreement(question: str, items: Sequence[tuple[Prompt, int]], answers: Sequence[Detection]) -> Score:
    hits = [answer.answers.get(question) == prompt.labels[question]
            for (prompt, _), answer in zip(items, answers, strict=True)]
    low, high = wilson(sum(hits), len(hits))
    return Score(
        name=f"emoji/{question}", title=f"Judge agrees with the prompt on the {question}", value=sum(hits) / len(hits),
        low=low, high=high, interval="Wilson", n=len(hits), numerator=sum(hits), subject="original",
        denominator="all images drawn", higher_is_better=True,
        left_out={"abstained (counted as disagreement)": sum(question not in a.answers for a in answers)},
        seeds=tuple(sorted({seed for _, seed in items})),
        per_item={f"{prompt.text}/{seed}": float(hit) for (prompt, seed), hit in zip(items, hits, strict=True)})
