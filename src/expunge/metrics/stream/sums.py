"""Mean and covariance of features that are seen once and not kept, in float64.

Batches and shares are joined by their means and centred squares, so that nothing cancels, whatever the cut:

    d = mean_b - mean_a;   mean = mean_a + d n_b / n;   M = M_a + M_b + d d^T n_a n_b / n;   covariance = M / (n - 1)

Source: Chan, Golub and LeVeque 1983, eq. 2.1 (pairwise updating), for vectors. Differs: none.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor
from typing_extensions import Self

from expunge.errors import ExpungeError
from expunge.metrics.base import Moments
from expunge.metrics.distance import Gaussian, frechet_distance, gaussian_from_moments
from expunge.metrics.rules import Subject
from expunge.metrics.stream.base import State
from expunge.records import NOT_FINITE, Score


class FeatureSums:
    """Moments of features.

    Attributes:
        features: name, with hash and resizer, of what made them; other features are never merged in.
        n: rows seen. mean: float64 (F,). left_out: rows that were not finite.
    """

    kind = "feature sums"

    def __init__(self, features: str, width: int) -> None:
        """None seen yet; `width` F is that of a feature."""
        self.features, self.n = features, 0
        self.left_out: Counter[str] = Counter()
        self.mean = torch.zeros(width, dtype=torch.float64)
        self._squares = torch.zeros(width, width, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Take in features (B, F); a row that is not finite is counted in `left_out`.

        Raises:
            ExpungeError: another width.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ExpungeError(f"features of shape {tuple(features.shape)}", accepted=f"(B, {len(self.mean)})")
        there = features.isfinite().all(1)
        if lost := int((~there).sum()):
            self.left_out[NOT_FINITE] += lost
        x = features[there].double().cpu()
        if len(x):
            mean = x.mean(0)
            self._join(len(x), mean, (x - mean).T @ (x - mean))

    def merge(self, other: FeatureSums) -> None:
        """Take in what another process saw.

        Raises:
            ExpungeError: of other features.
        """
        if (other.features, len(other.mean)) != (self.features, len(self.mean)):
            raise ExpungeError(f"sums of {other.features}, width {len(other.mean)}",
                               accepted=f"{self.features}, width {len(self.mean)}")
        self._join(other.n, other.mean, other._squares)
        self.left_out += other.left_out

    @property
    def covariance(self) -> Tensor:
        """float64 (F, F), unbiased.

        Raises:
            ExpungeError: fewer than two rows.
        """
        if self.n < 2:
            raise ExpungeError(f"a covariance of {self.n} rows", accepted="two or more")
        return self._squares / (self.n - 1)

    def gaussian(self) -> Gaussian:
        """Mean and factor of the covariance, for `frechet_distance`."""
        return gaussian_from_moments(self.mean, self.covariance)

    def score(self, real: Moments, *, subject: Subject = "edited", of: str = "images") -> Score:
        """fid/real without an interval, for which the features would have to be there (`FeatureRows`).

        Args:
            of: in words, which images.

        Raises:
            ExpungeError: the statistics were made with other features or another resizer.
        """
        if real.features != self.features:
            raise ExpungeError(f"statistics of real images were made with {real.features}", accepted=self.features,
                               remedy="make them again with this extractor")
        whole = self.n >= 2
        value = frechet_distance(self.gaussian(), gaussian_from_moments(real.mean, real.covariance)) if whole else None
        return Score(name=f"{'original/' if subject == 'original' else ''}fid/real", title="FID against real images",
                     value=value, n=self.n, higher_is_better=False, subject=subject, left_out=dict(self.left_out),
                     denominator=f"{of} against {real.n or 'an unknown number of'} real ones ({real.source}); "
                                 f"{self.features}",
                     note=f"no interval: features were not kept; biased upwards by the number of images: compare only "
                          f"at n {self.n}" if whole else "not measured: fewer than two images")

    @property
    def state(self) -> State:
        """All of it, for a file."""
        return State(self.kind, {"mean": self.mean, "squares": self._squares},
                     {"features": self.features, "n": self.n, "left_out": dict(self.left_out)})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The accumulator of a state.

        Raises:
            ExpungeError: it is another kind's.
        """
        if state.kind != cls.kind:
            raise ExpungeError(f"the state of a {state.kind}", accepted=f"that of {cls.kind}")
        out = cls(state.values["features"], len(state.tensors["mean"]))
        out.n, out.left_out = state.values["n"], Counter(state.values["left_out"])
        out.mean, out._squares = state.tensors["mean"], state.tensors["squares"]
        return out

    def _join(self, n: int, mean: Tensor, squares: Tensor) -> None:
        total = self.n + n
        if not total:
            return
        apart = mean - self.mean
        self._squares = self._squares + squares + torch.outer(apart, apart) * (self.n * n / total)
        self.mean = self.mean + apart * (n / total)
        self.n = total
