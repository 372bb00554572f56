"""FID and KID of the images that must stay: against the original model's, and against real ones. Never mixed.

"fid/original" and "kid/original" compare what the two models draw for the same keep prompts and seeds.
"fid/real" and "kid/real" compare what one model draws with stored statistics of real images.

Both depend on the extractor (its name and hash are in the score) and FID also on the number of images: it is biased
upwards in small sets, so values are comparable only at the same n. The interval resamples prompts; FID of a
resample is larger than FID of the set, so its interval is the resamples' spread, centred on the estimate. Above
`SUBSET` images both have an infinitesimal jackknife over prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.metrics.base import Moments
from expunge.metrics.distance import (
    frechet_distance,
    gaussian,
    gaussian_from_moments,
    kernel_distance,
    kernels,
    kid,
)
from expunge.metrics.frechet_interval import Parts, frechet_parts, linear_interval
from expunge.metrics.kernel_interval import kernel_influence
from expunge.metrics.neighbours import precision_recall
from expunge.metrics.statistics import interval_words, percentiles, rate_interval, resamples
from expunge.records import ImageRecord, ItemKey, Score

SUBSET = 1000
"""Largest set whose kernels are held at once; larger ones are split into seeded subsets. FID and KID of more images
have intervals to first order (`frechet_interval`, `kernel_interval`): a bootstrap takes a distance for each draw."""
KEEP = "images of the keep prompts"


def scores_against_original(shots: Sequence[ImageRecord], edited: Tensor, original: Tensor, extractor: str, *,
                            draws: int = 100, seed: int = 0) -> list[Score]:
    """fid/original and kid/original.

    Args:
        shots: records of the images, the same items on both sides and in the same order.
        edited, original: float32 (N, F) features.
        extractor: name and hash of the extractor.
    """
    return items_against_original(_items(shots), edited, original, extractor, draws=draws, seed=seed)


def items_against_original(items: Sequence[ItemKey], edited: Tensor, original: Tensor, extractor: str, *,
                           draws: int = 100, seed: int = 0, of: str = KEEP) -> list[Score]:
    """`scores_against_original` of items (prompt, seed) that need no records; `of`: in words, which images."""
    if not len(items) == len(edited) == len(original):
        raise ExpungeError(f"{len(items)} records, {len(edited)} and {len(original)} features", accepted="equal counts")
    words = {"subject": "comparison", "denominator": f"{of}, same seeds; {extractor}"}
    if len(items) < 2:
        return _unmeasured("original", "the original model's images", words, "fewer than two images")
    note = "cross terms of one item with itself are left out (Gretton et al. 2012, lemma 6)"
    other = "the original model's images"
    x, y = edited.double(), original.double()
    fid = lambda rows: frechet_distance(gaussian(x[rows]), gaussian(y[rows]))
    everything = torch.arange(len(x))
    value = kid(x, y, same_items=True, subset=SUBSET, seed=seed)
    if len(x) > SUBSET:
        parts = Parts(value, kernel_influence(x, y, same_items=True, seed=seed))
        return [_linear("fid", "original", other, frechet_parts(x, y), items, words, _thin(len(x), x.shape[1])),
                _linear("kid", "original", other, parts, items, words, note)]
    spread = _resampled(items, fid, draws, seed)
    grams = kernels(x, y, same_items=True)
    kid_draws = _resampled(items, lambda rows: kernel_distance(grams, rows), draws, seed)
    return [_score("fid", "original", other, fid(everything), spread, items, draws, seed, words,
                   _thin(len(x), x.shape[1])),
            _score("kid", "original", other, value, kid_draws, items, draws, seed, words, note)]


def coverage_scores(shots: Sequence[ImageRecord], edited: Tensor, original: Tensor, extractor: str) -> list[Score]:
    """precision/original and recall/original: shares of images within reach of the other model's.

    Args:
        edited, original: float32 (N, F) features of the same items in the same order.
    """
    return coverage_of(_items(shots), edited, original, extractor)


def coverage_of(items: Sequence[ItemKey], edited: Tensor, original: Tensor, extractor: str, of: str = KEEP
                ) -> list[Score]:
    """`coverage_scores` of items (prompt, seed) that need no records; `of`: in words, which images."""
    if len(items) < _NEIGHBOUR + 2:
        return [Score(name=f"{kind}/original", title=kind, value=None, subject="comparison",
                      note=f"not measured: fewer than {_NEIGHBOUR + 2} images") for kind in ("precision", "recall")]
    found, out = precision_recall(original, edited, _NEIGHBOUR), []
    for kind, inside, words in (("precision", found.inside, "edited model's images within reach of the original's"),
                                ("recall", found.covered, "original's images within reach of the edited model's")):
        groups: dict[str, list[float]] = {}
        for (text, _), hit in zip(items, inside.tolist(), strict=True):
            groups.setdefault(text, []).append(float(hit))
        low, high = rate_interval(groups)
        out.append(Score(name=f"{kind}/original", title=f"{kind}: {words}", value=float(inside.double().mean()),
                         low=low, high=high, interval=interval_words(groups), n=len(items), prompts=len(groups),
                         numerator=int(inside.sum()), denominator=f"{of}; {extractor}",
                         higher_is_better=True, subject="comparison"))
    return out


_NEIGHBOUR = 3
"""Whose distance is the reach of an image (Kynkäänniemi et al. 2019)."""


def scores_against_real(shots: Sequence[ImageRecord], features: Tensor, real: Moments, extractor: str, *,
                        draws: int = 100, seed: int = 0, subject: str = "edited") -> list[Score]:
    """fid/real and kid/real of one model's images; the real images' statistics are held fixed in the interval.

    Raises:
        ExpungeError: the statistics were made with another extractor.
    """
    return items_against_real(_items(shots), features, real, extractor, draws=draws, seed=seed, subject=subject)


def items_against_real(items: Sequence[ItemKey], features: Tensor, real: Moments, extractor: str, *,
                       draws: int = 100, seed: int = 0, subject: str = "edited", of: str = KEEP) -> list[Score]:
    """`scores_against_real` of items (prompt, seed) that need no records; `of`: in words, which images."""
    if real.features != extractor:
        raise ExpungeError(f"statistics of real images were made with {real.features}", accepted=extractor,
                           remedy="make them again with this extractor")
    words: dict[str, Any] = {"subject": subject, "denominator":
                             f"{of} against {real.n or 'an unknown number of'} real ones ({real.source}); {extractor}"}
    if len(items) < 2:
        return _unmeasured("real", "real images", words, "fewer than two images")
    x, fixed = features.double(), gaussian_from_moments(real.mean, real.covariance)
    fid = lambda rows: frechet_distance(gaussian(x[rows]), fixed)
    kid_score = _kid_against_real(items, x, real, draws, seed, words)
    thin = _thin(len(x), x.shape[1])
    if len(x) > SUBSET:
        return [_linear("fid", "real", "real images", frechet_parts(x, fixed), items, words, thin), kid_score]
    spread = _resampled(items, fid, draws, seed)
    return [_score("fid", "real", "real images", fid(torch.arange(len(x))), spread, items, draws, seed, words, thin),
            kid_score]


def _kid_against_real(items: Sequence[ItemKey], x: Tensor, real: Moments, draws: int, seed: int,
                      words: dict[str, Any]) -> Score:
    if len(real.sample) < 2:
        return _unmeasured("real", "real images", words, "the statistics hold no features of single images")[1]
    value, note = kid(x, real.sample, subset=SUBSET, seed=seed), f"against a sample of {len(real.sample)} real images"
    if max(len(x), len(real.sample)) > SUBSET:
        parts = Parts(value, kernel_influence(x, real.sample, same_items=False, seed=seed))
        return _linear("kid", "real", "real images", parts, items, words, note)
    grams = kernels(x, real.sample)
    kid_draws = _resampled(items, lambda rows: kernel_distance(grams, rows), draws, seed)
    return _score("kid", "real", "real images", value, kid_draws, items, draws, seed, words, note)


def _items(shots: Sequence[ImageRecord]) -> list[ItemKey]:
    return [shot.item_key for shot in shots]


def _resampled(items: Sequence[ItemKey], statistic: Callable[[Tensor], float], draws: int, seed: int) -> np.ndarray:
    """float64 (draws,): the statistic on resampled prompts, each with all of its images; empty for one prompt."""
    rows: dict[str, list[int]] = {}
    for i, (text, _) in enumerate(items):
        rows.setdefault(text, []).append(i)
    prompts = list(rows.values())
    if len(prompts) < 2:
        return np.empty(0)
    return np.array([statistic(torch.tensor([i for prompt in picked for i in prompts[prompt]]))
                     for block in resamples(len(prompts), draws, seed) for picked in block])


def _score(kind: str, against: str, other: str, value: float, drawn: np.ndarray, items: Sequence[ItemKey],
           draws: int, seed: int, words: dict[str, Any], note: str) -> Score:
    low = high = None
    interval = percentiles(drawn - drawn.mean() + value) if len(drawn) else None
    if interval:
        low, high = (max(interval[0], 0.0) if kind == "fid" else interval[0]), interval[1]
    return _told(kind, against, other, value, (low, high), items, words, note,
                 f"95% bootstrap over prompts, centred, {draws} draws, seed {seed}" if interval else "")


def _linear(kind: str, against: str, other: str, parts: Parts, items: Sequence[ItemKey], words: dict[str, Any],
            note: str) -> Score:
    """FID or KID of more images than a bootstrap can take."""
    interval = linear_interval(parts, items, least=0.0 if kind == "fid" else None)
    if kind == "fid":
        note = "; ".join(filter(None, [f"biased upwards by the number of images: compare only at n {len(items)}",
                                       note]))
    return _told(kind, against, other, parts.value, interval or (None, None), items, words, note,
                 "95% infinitesimal jackknife over prompts" if interval else "")


def _told(kind: str, against: str, other: str, value: float, ends: tuple[float | None, float | None],
          items: Sequence[ItemKey], words: dict[str, Any], note: str, how: str) -> Score:
    prefix = "original/" if words["subject"] == "original" else ""
    return Score(name=f"{prefix}{kind}/{against}", title=f"{kind.upper()} against {other}", value=value, low=ends[0],
                 high=ends[1], n=len(items), higher_is_better=False, note=note, interval=how,
                 seeds=tuple(sorted({seed for _, seed in items})),
                 prompts=len({text for text, _ in items}), **words)


def _unmeasured(against: str, other: str, words: dict[str, Any], why: str) -> list[Score]:
    prefix = "original/" if words["subject"] == "original" else ""
    return [Score(name=f"{prefix}{kind}/{against}", title=f"{kind.upper()} against {other}", value=None,
                  higher_is_better=False, note=f"not measured: {why}", **words) for kind in ("fid", "kid")]


def _thin(n: int, width: int) -> str:
    return "" if n > width else (f"{n} images for {width} features: the covariance is singular and the value is far "
                                 "too high; compare only at the same n, and trust KID more")
