"""A detector for a thing that the world's judge does not know, learned on the spot from images of it.

    p(thing | image) = sigmoid(w . f + b),   f = features of the image, standardised
    w, b minimise  mean over the classes of mean log-loss  +  ridge / 2 |w|^2

Logistic regression on somebody else's features has few ways to go wrong, and says on held-out images how far it can
be trusted. It answers "the thing" or "something else", and abstains in between.

Source: Alain and Bengio 2016 (linear probes). Differs: classes weigh the same whatever their sizes; abstention.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.errors import UserError
from expunge.metrics.base import NO_NUMBERS, Features
from expunge.metrics.statistics import wilson
from expunge.records import Detection, Score

QUESTION = "object"
OTHER = "something else"
_HELD_OUT = 3
"""Every third image is held out."""
_FEWEST = 12
_SIDE = 256
"""Pixels of the shorter side from which on images are shrunk before their features are taken."""


@dataclass(frozen=True)
class NovelJudge:
    """A `metrics.base.Judge` with the one question whether the thing is there.

    Attributes:
        label: the thing's name. threshold: least confidence of an answer.
        score: in how many held-out images of the thing it sees it.
    """

    label: str
    features: Features
    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    threshold: float
    score: Score

    @property
    def name(self) -> str:
        """With the hash of its weights."""
        digest = hashlib.sha256(self.weight.numpy().tobytes() + self.features.name.encode()).hexdigest()
        return f"newcomer-{self.label}@{digest[:8]}"

    @property
    def questions(self) -> Mapping[str, tuple[str, ...]]:
        return {QUESTION: (self.label, OTHER)}

    def probability(self, pictures: Tensor) -> Tensor:
        """float64 (B,): probability that the thing is there."""
        f = (self.features(as_seen(pictures)).double() - self.mean) / self.scale
        return (f @ self.weight + self.bias).sigmoid()

    def __call__(self, pictures: Tensor) -> list[Detection]:
        if not len(pictures):
            return []
        bad = ~torch.isfinite(pictures).flatten(1).all(1)
        answers = []
        for p, broken in zip(self.probability(pictures.nan_to_num()).tolist(), bad.tolist(), strict=True):
            sure = max(p, 1 - p)
            label = {QUESTION: self.label if p > 0.5 else OTHER} if sure >= self.threshold else {}
            answers.append(NO_NUMBERS if broken else
                           Detection(answers=label, confidence={QUESTION: round(sure, 4)}))
        return answers


def learn_newcomer(label: str, features: Features, shown: Tensor, others: Tensor, *, threshold: float = 0.9,
                   ridge: float = 1e-2) -> NovelJudge:
    """A detector of `label`, learned from two in three of the images and tried on the rest.

    Args:
        features: the extractor that it stands on.
        shown: images of the thing, float32 (N, 3, H, W) in [0, 1]; others: of what it could be mistaken for.
        threshold: least confidence of an answer, in (0.5, 1).
        ridge: strength of the pull towards zero weights.

    Raises:
        UserError: fewer than 12 images of either kind, or a threshold that is none.
    """
    if min(len(shown), len(others)) < _FEWEST:
        raise UserError(f"{len(shown)} images of {label!r} and {len(others)} of other things",
                        accepted=f"at least {_FEWEST} of each")
    if not 0.5 < threshold < 1:
        raise UserError(f"threshold {threshold}", accepted="above 0.5 and below 1")
    held, kept, targets = [], [], []
    for pictures, target in ((shown, 1.0), (others, 0.0)):
        f = features(as_seen(pictures)).double()
        out = torch.arange(len(f)) % _HELD_OUT == _HELD_OUT - 1
        held.append(pictures[out])
        kept.append(f[~out])
        targets.append(torch.full((len(kept[-1]),), target, dtype=torch.float64))
    f, y = torch.cat(kept), torch.cat(targets)
    mean, scale = f.mean(0), f.std(0).clamp_min(1e-6)
    weight, bias = _regressed((f - mean) / scale, y, ridge)
    detector = NovelJudge(label, features, mean, scale, weight, bias, threshold, Score(name="", title="", value=None))
    score = _score(detector, detector(held[0]), detector(held[1]))
    return NovelJudge(label, features, mean, scale, weight, bias, threshold, score)


def as_seen(pictures: Tensor) -> Tensor:
    """Images (B, 3, H, W) as a detector looks at them: large ones shrunk, so that many fit into memory."""
    side = min(pictures.shape[-2:])
    if side <= _SIDE:
        return pictures
    size = [round(length * _SIDE / side) for length in pictures.shape[-2:]]
    return F.interpolate(pictures, size, mode="bilinear", antialias=True)


def _regressed(f: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """w (F,) and b () of the minimum; the problem is convex, so where it starts does not matter."""
    w = torch.zeros(f.shape[1], dtype=torch.float64, requires_grad=True)
    b = torch.zeros((), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([w, b], max_iter=200, line_search_fn="strong_wolfe")
    each = torch.where(y > 0, 0.5 / (y > 0).sum(), 0.5 / (y == 0).sum())

    def loss() -> Tensor:
        solver.zero_grad()
        value = (each * F.binary_cross_entropy_with_logits(f @ w + b, y, reduction="none")).sum()
        value = value + ridge / 2 * w.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    return w.detach(), b.detach()


def _score(judge: NovelJudge, on_shown: list[Detection], on_others: list[Detection]) -> Score:
    """How often it sees the thing; a curve counts an abstention as not seen, and so does this."""
    label, n = judge.label, len(on_shown)
    seen, alarms = (sum(one.answers.get(QUESTION) == label for one in answers) for answers in (on_shown, on_others))
    low, high = wilson(seen, n)
    return Score(name=f"detector/{label}", title=f"the detector of {label} sees it in images held out from learning",
                 value=seen / n, low=low, high=high, n=n, numerator=seen, interval="95% Wilson",
                 denominator="held-out images of it; an abstention counts as not seen", higher_is_better=True,
                 subject="comparison", note=f"by features of {judge.features.name}; it takes {alarms} of "
                                            f"{len(on_others)} held-out images of other things for {label}")
