"""Model integrity: how different is what the two models draw from the same prompt and the same noise?

    I(R) = mean over prompts in R, mean over seeds, of d(edited image, original image)      lower is better
    F    = the same between the original's images and themselves drawn again in other batches  floor: numerical noise
    U(R) = the same between the original's images of two seeds of one prompt                   ceiling: another seed
    J(R) = 1 - (I - F) / (U - F)       1: nothing but numerical noise, 0: as different as a new seed, may be below 0

R is one role at a time (near, far, style, empty; and the forget side, where J should be low), or the prompts of a role
in one stratum (a way of asking). Pairs are found by (prompt, seed), and a missing partner is an error. The interval
resamples prompts, I and U together; F is held fixed. A prompt of one seed has no U, and J leaves it out. One ruined
prompt weighs much in J, so the median over prompts of J of each prompt alone stands beside it.

    S(R) = exp(mean over pairs of log(sharpness of the edited image / of the original's))   1: as sharp, 0.5: blurred

Sharpness is the mean absolute Laplacian: half the resolution changes a perceptual distance little, and people see it.

Source: Schioppa, Hoogeboom and Heek 2024 (2411.02068): the idea of comparing the two models' outputs directly.
Differs: distance, floor, ceiling and J are our definition; the paper's own could not be checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.metrics.base import Distance
from expunge.metrics.statistics import (
    NOTHING,
    Estimate,
    Groups,
    at_once,
    bootstrap_interval,
    bootstrap_over_groups,
    bootstrap_words,
    few_words,
    group_means,
    resampled,
)
from expunge.pixels import Pictures, chosen, chunk_of, chunks
from expunge.records import FORGET_ROLES, KEEP_ROLES, ImageRecord, ItemKey, Score

ROLES: tuple[str, ...] = (*KEEP_ROLES, "forget")
_NO_CEILING = "not measured: no prompt has a ceiling (two seeds are needed)"


@dataclass(frozen=True)
class ImageSet:
    """Images with their records.

    Attributes:
        shots: one record per image.
        pictures: float32 (B, 3, H, W) in [0, 1], in memory or on disk.
    """

    shots: Sequence[ImageRecord]
    pictures: Pictures

    def __post_init__(self) -> None:
        if len(self.shots) != len(self.pictures):
            raise ExpungeError(f"{len(self.shots)} records for {len(self.pictures)} images",
                               accepted="one record per image")

    def rows(self) -> dict[ItemKey, int]:
        """Row by (prompt text, seed)."""
        return {shot.item_key: i for i, shot in enumerate(self.shots)}

    def only(self, rows: Sequence[int]) -> ImageSet:
        """The images of these rows, in their order."""
        return ImageSet([self.shots[row] for row in rows], chosen(self.pictures, rows))

    def stratum(self, name: str) -> ImageSet:
        """The images of one role, or of all roles that ask for the concept ("forget"); of "near@short" one stratum's.
        """
        role, _, asked = name.partition("@")
        roles = FORGET_ROLES if role == "forget" else (role,)
        rows = [i for i, shot in enumerate(self.shots)
                if shot.prompt.role in roles and (not asked or shot.prompt.stratum == asked)]
        return self.only(rows)


@dataclass(frozen=True)
class Bounds:
    """Between what J is calibrated.

    Attributes:
        floor: F, and floor_n: pairs behind it.
        ceiling: distances of the original's seed pairs, by prompt.
    """

    floor: float
    floor_n: int
    ceiling: Groups


def paired(a: ImageSet, b: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Both sides in the order of `a`, matched by (prompt, seed).

    Raises:
        ExpungeError: an image of one side has no partner on the other.
    """
    rows_a, rows_b = a.rows(), b.rows()
    alone = sorted(rows_a.keys() ^ rows_b.keys())
    if alone:
        raise ExpungeError(f"{len(alone)} images have no partner (first: prompt {alone[0][0]!r}, seed {alone[0][1]})",
                           accepted="the same prompts and seeds on both sides")
    order = [rows_b[key] for key in rows_a]
    first = [rows_a[key] for key in rows_a]
    return a.only(first), b.only(order)


def distances(a: ImageSet, b: ImageSet, distance: Distance, chunk: int = 128) -> dict[ItemKey, float]:
    """Distance of each pair, by (prompt text, seed)."""
    x, y = paired(a, b)
    chunk = chunk_of(x.pictures, chunk)
    parts = [distance(x.pictures[i:i + chunk], y.pictures[i:i + chunk]) for i in range(0, len(x.shots), chunk)]
    values = torch.cat(parts).tolist() if parts else []
    if len(values) != len(x.shots):
        raise ExpungeError(f"{distance.name} gave {len(values)} values for {len(x.shots)} pairs")
    return {shot.item_key: value for shot, value in zip(x.shots, values, strict=True)}


def seed_distances(drawn: ImageSet, distance: Distance, chunk: int = 128) -> Groups:
    """Distances between neighbouring seeds of each prompt (a ring over its seeds); prompts of one seed have none."""
    pairs: list[tuple[int, int]] = []
    by_prompt: dict[str, list[int]] = {}
    for i, shot in enumerate(drawn.shots):
        by_prompt.setdefault(shot.prompt.text, []).append(i)
    for rows in by_prompt.values():
        rows.sort(key=lambda i: drawn.shots[i].seed)
        ring = zip(rows, [*rows[1:], rows[0]], strict=True) if len(rows) > 2 else [tuple(rows)] * (len(rows) == 2)
        pairs += [(i, j) for i, j in ring]
    out: dict[str, list[float]] = {}
    chunk = chunk_of(drawn.pictures, chunk)
    for start in range(0, len(pairs), chunk):
        left, right = zip(*pairs[start:start + chunk], strict=True)
        values = distance(drawn.pictures[list(left)], drawn.pictures[list(right)]).tolist()
        for i, value in zip(left, values, strict=True):
            out.setdefault(drawn.shots[i].prompt.text, []).append(value)
    return out


def integrity_scores(edited: ImageSet, original: ImageSet, distance: Distance, bounds: Bounds, stratum: str, *,
                     draws: int = 2000, seed: int = 0, strata: int = 1) -> list[Score]:
    """perceptual/<stratum> (I), perceptual/ceiling/<stratum> (U) and integrity/<stratum> (J).

    Args:
        edited, original: images of the stratum from the same prompts and seeds.
        bounds: floor, and the ceiling of (at least) the stratum's prompts.
        strata: for how many of them the interval of J holds at once.
    """
    values = distances(edited, original, distance)
    groups = by_prompt(values)
    forget = stratum == "forget"
    common: dict[str, Any] = {"of": "pairs of images", "subject": "comparison", "prompts": len(groups),
                              "stratum": stratum.partition("@")[2],
                              "seeds": tuple(sorted({number for _, number in values}))}
    how = lambda estimate, strata=1: bootstrap_words(estimate, draws, seed, strata)
    raw = bootstrap_over_groups(groups, draws, seed, least=0.0)
    ceiling = {text: bounds.ceiling[text] for text in groups if bounds.ceiling.get(text)}
    top = bootstrap_over_groups(ceiling, draws, seed, least=0.0)
    j, note = _normalised(groups, ceiling, bounds.floor, draws, seed, at_once(strata))
    rests = {**common, "prompts": len(ceiling), "n": sum(len(groups[text]) for text in ceiling)}
    left = _without(groups, ceiling)
    middle, moved = _median(groups, ceiling, bounds.floor, draws, seed)
    moving = sum(len(groups[text]) for text in moved)
    still = {"another seed changes them no more than noise": rests["n"] - moving} if rests["n"] > moving else {}
    per_item = {shot.key: values[shot.item_key] for shot in edited.shots}
    role, _, way = stratum.partition("@")
    where = "prompts that ask for the concept" if forget else f"{role} prompts" + (f", stratum “{way}”" if way else "")
    return [
        Score(name=f"perceptual/{stratum}", title=f"perceptual change at the same seeds, {where}", value=raw.value,
              low=raw.low, high=raw.high, interval=how(raw), n=len(values),
              denominator=f"same prompt, same seed; {distance.name}", higher_is_better=forget,
              per_item=per_item, note=few_words(len(groups)), **common),
        Score(name=f"perceptual/ceiling/{stratum}", title=f"perceptual change when the seed changes, {where}",
              value=top.value, low=top.low, high=top.high, interval=how(top),
              denominator=f"original model, same prompt, two seeds; {distance.name}",
              note=_without(groups, ceiling) if ceiling else "no prompt has two seeds",
              **{**rests, "n": sum(map(len, ceiling.values()))}),
        Score(name=f"integrity/{stratum}", title=f"integrity, {where}", value=j.value, low=j.low, high=j.high,
              interval=how(j, strata), denominator=f"1 - (I - F) / (U - F); {distance.name}",
              higher_is_better=not forget,
              note="; ".join(filter(None, (note or few_words(len(ceiling)), left))), **rests),
        Score(name=f"integrity_median/{stratum}", title=f"integrity of the middle prompt, {where}", value=middle.value,
              low=middle.low, high=middle.high, interval=how(middle),
              denominator=f"median over prompts of 1 - (I - F) / (U - F); {distance.name}",
              higher_is_better=not forget,
              note="; ".join(filter(None, (few_words(len(moved)) if moved else _NO_CEILING, left))),
              left_out=still, **{**rests, "prompts": len(moved), "n": moving}),
    ]


def sharpness_score(edited: ImageSet, original: ImageSet, stratum: str, *, draws: int = 2000, seed: int = 0) -> Score:
    """sharpness/<stratum>: how sharp the edited model's images are, as a share of the original's."""
    after, before = paired(edited, original)
    both = zip(chunks(after.pictures), chunks(before.pictures), strict=True)
    logs = [value for x, y in both for value in (_sharp(x) / _sharp(y)).log().tolist()]
    groups: dict[str, list[float]] = {}
    for shot, value in zip(after.shots, logs, strict=True):
        groups.setdefault(shot.prompt.text, []).append(value)
    estimate = bootstrap_over_groups(groups, draws, seed)
    share = [None if part is None else float(np.exp(part)) for part in estimate]
    return Score(name=f"sharpness/{stratum}", title=f"sharpness beside the original's, {stratum} prompts",
                 value=share[0], low=share[1], high=share[2], interval=bootstrap_words(estimate, draws, seed),
                 n=len(logs), of="pairs of images", prompts=len(groups), note=few_words(len(groups)),
                 subject="comparison",
                 denominator="same prompt, same seed; geometric mean of ratios of the mean absolute Laplacian")


def _sharp(pictures: Tensor) -> Tensor:
    """(B,): mean absolute Laplacian of the grey image, at least a grey level's hundredth."""
    grey = pictures.mean(1, keepdim=True)
    kernel = grey.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    return torch.nn.functional.conv2d(grey, kernel).abs().mean((1, 2, 3)).clamp_min(1e-4)


def bound_scores(bounds: Bounds, distance: Distance, *, draws: int = 2000, seed: int = 0) -> list[Score]:
    """perceptual/floor and perceptual/ceiling: what numerical noise alone does, and what another seed does."""
    top = bootstrap_over_groups(bounds.ceiling, draws, seed, least=0.0)
    ceiling = Score(name="perceptual/ceiling", title="perceptual change when the seed changes, all prompts",
                    value=top.value, low=top.low, high=top.high, interval=bootstrap_words(top, draws, seed),
                    n=sum(map(len, bounds.ceiling.values())), of="pairs of images", subject="original",
                    denominator=f"original model, same prompt, two seeds; {distance.name}",
                    note="" if bounds.ceiling else "not measured: no prompt has two seeds")
    return [_floor_score(bounds, distance), ceiling]


def _floor_score(bounds: Bounds, distance: Distance) -> Score:
    return Score(name="perceptual/floor", title="perceptual change from numerical noise alone", of="pairs of images",
                 value=bounds.floor if bounds.floor_n else None, n=bounds.floor_n, subject="original",
                 denominator=f"original model, same prompt and seed, drawn in other batches; {distance.name}",
                 note="" if bounds.floor_n else "not drawn; taken as 0 in integrity")


def similarity_score(edited: ImageSet, original: ImageSet, similarity: Distance, stratum: str, *, draws: int = 2000,
                     seed: int = 0) -> Score:
    """ssim/<stratum>: structural similarity at the same seeds, 1 for equal images.

    Args:
        similarity: 1 - SSIM, as a distance.
    """
    values = {key: 1 - value for key, value in distances(edited, original, similarity).items()}
    groups = by_prompt(values)
    estimate = bootstrap_over_groups(groups, draws, seed, least=-1.0, most=1.0)
    forget = stratum == "forget"
    return Score(name=f"ssim/{stratum}", title=f"SSIM at the same seeds, {stratum} prompts", value=estimate.value,
                 low=estimate.low, high=estimate.high, interval=bootstrap_words(estimate, draws, seed), n=len(values),
                 of="pairs of images", denominator="same prompt, same seed", higher_is_better=not forget,
                 subject="comparison", seeds=tuple(sorted({number for _, number in values})), prompts=len(groups),
                 note=few_words(len(groups)), per_item={shot.key: values[shot.item_key] for shot in edited.shots})


def by_prompt(values: dict[ItemKey, float]) -> dict[str, list[float]]:
    """Values by (prompt, seed) grouped by prompt."""
    out: dict[str, list[float]] = {}
    for (text, _), value in values.items():
        out.setdefault(text, []).append(value)
    return out


def _normalised(groups: Groups, ceiling: Groups, floor: float, draws: int, seed: int, confidence: float
                ) -> tuple[Estimate, str]:
    """J with its interval, and why there is none."""
    texts = [text for text in groups if text in ceiling]
    if not texts:
        return NOTHING, _NO_CEILING
    inner = group_means({text: groups[text] for text in texts})
    outer = group_means({text: ceiling[text] for text in texts})
    if outer.mean() <= floor:
        return NOTHING, (f"not measured: another seed changes the images no more ({outer.mean():.3g}) than numerical "
                         f"noise does ({floor:.3g})")
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = resampled(len(texts), draws, seed, lambda rows: 1 - (inner[rows].mean(1) - floor)
                          / (outer[rows].mean(1) - floor))
    value = float(1 - (inner.mean() - floor) / (outer.mean() - floor))
    interval = bootstrap_interval(drawn, value, len(texts) - 1, len(texts), confidence, most=1.0)
    why = "no interval: another seed changes many prompts no more than numerical noise does" \
        if interval is None and len(texts) > 1 else ""
    return Estimate(value, *(interval or (None, None))), why


def _median(groups: Groups, ceiling: Groups, floor: float, draws: int, seed: int) -> tuple[Estimate, list[str]]:
    """The median over prompts of each prompt's own J, prompts resampled; and the prompts that have one."""
    texts = [text for text in groups if text in ceiling and np.mean(ceiling[text]) > floor]
    if not texts:
        return NOTHING, []
    each = np.array([1 - (np.mean(groups[text]) - floor) / (np.mean(ceiling[text]) - floor) for text in texts])
    value = float(np.median(each))
    drawn = resampled(len(each), draws, seed, lambda rows: np.median(each[rows], axis=1))
    interval = bootstrap_interval(drawn, value, len(each) - 1, len(each), most=1.0)
    return Estimate(value, *(interval or (None, None))), texts


def _without(groups: Groups, ceiling: Groups) -> str:
    alone = len(groups) - len(ceiling)
    return f"{alone} of {len(groups)} prompts left out: one seed, so no ceiling" if alone else ""
