"""CLIP score: does an image show what its prompt says? Read beside the original's, never alone.

The unit is 100 x cosine (no clipping, no factor 2.5), mean over prompts of the mean over seeds. On the forget side a
low value is the aim, on the keep side the original's value is. A CLIP score rewards a broken model that still
matches words, so the difference to the original at the same seeds is given too.

Source: Hessel et al. 2021, eq. 1. Differs: 100 x cosine in place of 2.5 x max(cosine, 0).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from expunge.metrics.base import TextImage
from expunge.metrics.integrity import ImageSet, by_prompt
from expunge.metrics.statistics import Estimate, bootstrap_over_groups, bootstrap_words, few_words, paired_difference
from expunge.pixels import chunk_of
from expunge.records import FORGET_ROLES, KEEP_ROLES, ItemKey, Role, Score

SIDES: dict[str, tuple[Role, ...]] = {"forget": FORGET_ROLES, "keep": KEEP_ROLES}
_WORDS = {"forget": "prompts that ask for the concept", "keep": "prompts to keep"}


def cosines(drawn: ImageSet, clip: TextImage, chunk: int = 128) -> dict[ItemKey, float]:
    """100 x cosine by (prompt text, seed); empty prompts are left out."""
    rows = [i for i, shot in enumerate(drawn.shots) if shot.prompt.text.strip()]
    out: dict[ItemKey, float] = {}
    chunk = chunk_of(drawn.pictures, chunk)
    for start in range(0, len(rows), chunk):
        part = rows[start:start + chunk]
        pictures: Tensor = drawn.pictures[part]
        shots = [drawn.shots[i] for i in part]
        values = (100 * clip(pictures, [shot.prompt.text for shot in shots])).tolist()
        out.update({shot.item_key: value for shot, value in zip(shots, values, strict=True)})
    return out


def alignment_scores(edited: ImageSet, original: ImageSet, clip: TextImage, *, draws: int = 2000,
                     seed: int = 0) -> list[Score]:
    """clip/forget and clip/keep, the original's, and change/clip/<side> at the same seeds."""
    scores: list[Score] = []
    after, before = cosines(edited, clip), cosines(original, clip)
    for side, roles in SIDES.items():
        shots = [shot for shot in edited.shots if shot.prompt.role in roles]
        if not shots:
            continue
        items = [shot.item_key for shot in shots if shot.prompt.text.strip()]
        sides = [{item: values[item] for item in items} for values in (after, before)]
        change = {item: sides[0][item] - sides[1][item] for item in items}
        blank = len(shots) - len(items)
        groups = [by_prompt(values) for values in sides]
        scores += [
            _score(side, "edited", bootstrap_over_groups(groups[0], draws, seed), sides[0], clip, blank, draws, seed),
            _score(side, "original", bootstrap_over_groups(groups[1], draws, seed), sides[1], clip, blank, draws, seed),
            _score(side, "comparison", paired_difference(groups[0], groups[1], draws, seed), change, clip, blank,
                   draws, seed)]
    return scores


def _score(side: str, subject: Literal["edited", "original", "comparison"], estimate: Estimate,
           values: dict[ItemKey, float], clip: TextImage, blank: int, draws: int, seed: int) -> Score:
    prefix = {"edited": "", "original": "original/", "comparison": "change/"}[subject]
    title = "change in CLIP score" if subject == "comparison" else "CLIP score"
    better = {"forget": False, "keep": True}[side] if subject != "original" else None
    prompts = len({text for text, _ in values})
    return Score(name=f"{prefix}clip/{side}", title=f"{title}, {_WORDS[side]}", value=estimate.value, low=estimate.low,
                 high=estimate.high, interval=bootstrap_words(estimate, draws, seed), n=len(values),
                 prompts=prompts, denominator=f"100 x cosine of image and prompt; {clip.name}", higher_is_better=better,
                 left_out={"empty prompt": blank} if blank else {}, subject=subject,
                 seeds=tuple(sorted({number for _, number in values})),
                 per_item={f"{text} | {number}": value for (text, number), value in values.items()},
                 note=few_words(prompts) if values else "not measured: no prompt with words")
