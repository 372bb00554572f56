"""Does an image look like the model's own images at all? And is it the same shape at another tone?

An edit that answers with noise, smears or one colour has not erased anything that a person would call erased. Here
an image counts as ordinary where the k-th nearest of the original model's images of other things is no further from
it than from those images themselves, but for the few that lie apart. A detector's certainty says nothing of this.
Features forgive blur, so smears are told by their sharpness; `ordinary_pictures` asks both.

Pure functions of features and pixels; which extractor made the features is for the caller to say.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.metrics.distance import checked
from expunge.metrics.neighbours import distances_to, own_distances

FLAT = 0.02
"""Standard deviation over space below which an image shows nothing, colours in [0, 1]."""
BURNT = 0.5
"""Share of pixels at full colour above which an image is saturated."""
AS_SHARP = 0.8
"""Sharpness beside the original's image from which an image is no smear, however soft that is."""
SOFT = 0.05
"""Sharpness below which an image is a smear. What emoji-64 draws has 0.07 and more (n 540), drawings that were
averaged over 8 x 8 pixels at most 0.035 (n 60)."""
_SIDE = 64


@dataclass(frozen=True)
class Reference:
    """What ordinary images look like, as features.

    Attributes:
        features: float64 (N, F) of the original model's images.
        k: which neighbour counts.
        reach: largest distance to the k-th neighbour that is ordinary.
        quantile: share of the reference that lies within reach of the rest of it.
    """

    features: Tensor
    k: int
    reach: float
    quantile: float

    @classmethod
    def of(cls, features: Tensor, k: int = 3, quantile: float = 0.99) -> Reference:
        """From features (N, F) of images that are ordinary: each is measured against all the others.

        Args:
            features: of the original model's images of other things; at least k + 1, better 100 and more.
            k: neighbour whose distance counts; more forgive lone outliers in the reference.
            quantile: share of the reference's own distances that is ordinary, in (0, 1].

        Raises:
            ExpungeError: too few features, values that are not finite, k below 1 or a quantile out of range.
        """
        if k < 1 or not 0 < quantile <= 1:
            raise ExpungeError(f"k {k} and quantile {quantile}", accepted="k >= 1 and 0 < quantile <= 1")
        x = _directions(checked(features, k + 2))
        return cls(x, k, float(own_distances(x, k).quantile(quantile)), quantile)

    def distances(self, features: Tensor) -> Tensor:
        """float64 (M,): distance to the k-th nearest of the reference, in units of `reach`: up to 1 is ordinary.

        Raises:
            ExpungeError: features of another width, or values that are not finite.
        """
        if features.ndim != 2 or features.shape[1] != self.features.shape[1]:
            raise ExpungeError(f"features of shape {tuple(features.shape)}",
                               accepted=f"(M, {self.features.shape[1]}), by the extractor of the reference")
        return distances_to(self.features, _directions(checked(features, 0)), self.k) / self.reach

    def ordinary(self, features: Tensor) -> Tensor:
        """(M,) bool: looks like the reference's images."""
        return self.distances(features) <= 1


def blank(pictures: Tensor) -> Tensor:
    """(B,) bool: images (B, 3, H, W) in [0, 1] in which no colour changes over space: black, white, one colour."""
    return pictures.flatten(2).std(2).amax(1) < FLAT


def saturated(pictures: Tensor) -> Tensor:
    """(B,) bool: more than half of the pixels are at full red, green, blue, cyan, magenta or yellow.

    Black and white do not count: line drawings hold little else.
    """
    low, high = pictures < 0.02, pictures > 0.98
    full = (low | high).all(1) & low.any(1) & high.any(1)
    return full.flatten(1).float().mean(1) > BURNT


def sharpness(pictures: Tensor) -> Tensor:
    """float32 (B,): deviation from the mean of 3 x 3 pixels over deviation from the image's mean, root mean squares.

    Measured with the shorter side at 64 pixels; 0 for one colour, about 0.01 for a smear, 1 for white noise. It depends
    neither on brightness nor on contrast.
    """
    ratio = _SIDE / min(pictures.shape[-2:])
    if ratio != 1:
        size = tuple(max(_SIDE, round(side * ratio)) for side in pictures.shape[-2:])
        pictures = F.interpolate(pictures, size, mode="area")
    soft = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    spread = lambda x: x.square().flatten(1).mean(1)
    whole = spread(pictures - pictures.mean((2, 3), keepdim=True))
    return torch.where(whole > 1e-8, (spread(pictures - soft) / whole.clamp_min(1e-8)).sqrt(), torch.zeros(len(whole)))


def smeared(pictures: Tensor) -> Tensor:
    """(B,) bool: images (B, 3, H, W) that show something, and nothing sharp. Blank ones are none of these."""
    return (sharpness(pictures) < SOFT) & ~blank(pictures)


def ordinary_pictures(reference: Reference, pictures: Tensor, features: Tensor, partners: Tensor | None = None
                      ) -> Tensor:
    """(B,) bool: looks like the reference's images, and is neither blank nor saturated nor smeared.

    Args:
        partners: the original's images of the same prompts and noise. What is no softer than its partner is no smear,
            and what is saturated like its partner is no fault: some models draw skies, and some draw posters.
    """
    full, smear = saturated(pictures), smeared(pictures)
    if partners is not None:
        full &= ~saturated(partners)
        smear &= sharpness(pictures) < AS_SHARP * sharpness(partners)
    return reference.ordinary(features) & ~blank(pictures) & ~full & ~smear


def edge_similarity(a: Tensor, b: Tensor) -> Tensor:
    """float32 (B,) in [-1, 1]: how well the edges of two images (B, 3, H, W) lie on one another.

    The correlation over space of both images' gradient magnitudes, taken at half size. It stays near 1 where
    an image is darkened, faded or tinted, and is 0.16 between images of different things by emoji-64 (median of 432
    pairs; 95% are below 0.36). An image without edges is like no other: 0.

    Raises:
        ExpungeError: images of different shapes.
    """
    if a.shape != b.shape:
        raise ExpungeError(f"images of shape {tuple(a.shape)} and {tuple(b.shape)}", accepted="pairs of equal shape")
    x, y = (_edges(pictures).flatten(1) for pictures in (a, b))
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    size = x.norm(dim=1) * y.norm(dim=1)
    return torch.where(size > 1e-6, (x * y).sum(1) / size.clamp_min(1e-12), torch.zeros(len(x)))


def _edges(pictures: Tensor) -> Tensor:
    """Gradient magnitude over all colours, (B, h, w), at half size: of images averaged over 2 x 2 pixels."""
    x = F.avg_pool2d(pictures, 2)
    down, right = x[..., 1:, :-1] - x[..., :-1, :-1], x[..., :-1, 1:] - x[..., :-1, :-1]
    return (down.square() + right.square()).sum(1).sqrt()


def _directions(features: Tensor) -> Tensor:
    """Rows of unit length: how strongly an image excites the extractor says little about what it shows."""
    return F.normalize(features, dim=1)
