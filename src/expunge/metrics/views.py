"""Other looks at an image, for a judge that must not be fooled by its tone or its frame.

A view is a list of steps, each a kind and an amount; it shows the same thing in the same pixels' order of size. Blank
images stay blank in every view: nothing is stretched that has no range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Step = tuple[str, float]
"""A kind of `KINDS` and its amount."""
VERSION = 1
"""Of the arithmetic below; part of the judge's name, since stored judgments are reused by it."""
_LEAST_RANGE = 0.12
"""An image whose tones lie within less than this is not stretched: it would be its noise."""


def seen(pictures: Tensor, steps: Sequence[Step]) -> Tensor:
    """The images (B, 3, H, W) in [0, 1] as the view shows them, of the same shape.

    Raises:
        KeyError: an unknown kind of step.
    """
    for kind, amount in steps if len(pictures) else ():  # no quantile of nothing
        pictures = KINDS[kind](pictures, amount).clamp(0, 1)
    return pictures


def strongest(logits: Tensor, nothing: int, handicap: float) -> Tensor:
    """One distribution per image: that of the view which is surest of some thing.

    Args:
        logits: (V, B, labels); the first view is the image as it is.
        nothing: index of the label that stands for none of the things.
        handicap: added to that label's logit in all views but the first; the more views, the more chances to see
            a thing where there is none.

    Returns:
        probabilities (B, labels).
    """
    handicapped = logits.clone()
    handicapped[1:, :, nothing] += handicap
    probabilities = handicapped.softmax(2)
    things = probabilities.clone()
    things[:, :, nothing] = 0
    surest = things.amax(2).argmax(0)
    return probabilities[surest, torch.arange(len(surest))]


def _gamma(x: Tensor, amount: float) -> Tensor:
    return x.clamp(0, 1) ** amount


def _stretched(x: Tensor, amount: float) -> Tensor:
    """Tones from the `amount` quantile to its opposite, over all channels, to [0, 1]."""
    return _ranged(x, x[:, :, ::2, ::2].flatten(1)[:, None], amount)


def _balanced(x: Tensor, amount: float) -> Tensor:
    """The same for each channel by itself: takes a tint away."""
    return _ranged(x, x[:, :, ::2, ::2].flatten(2), amount)


def _ranged(x: Tensor, tones: Tensor, amount: float) -> Tensor:
    """`x` with the quantiles of `tones` (B, 1 or 3, n), every second pixel each way, taken to 0 and 1."""
    low, high = torch.quantile(tones, torch.tensor([amount, 1 - amount], device=x.device), dim=2)[..., None, None]
    return torch.where(high - low > _LEAST_RANGE, (x - low) / (high - low).clamp_min(1e-6), x)


def _cropped(x: Tensor, amount: float) -> Tensor:
    """Without a border of the share `amount` of each side, and grown to the size again."""
    h, w = x.shape[-2:]
    top, left = round(h * amount), round(w * amount)
    return F.interpolate(x[:, :, top:h - top, left:w - left], (h, w), mode="bilinear", align_corners=False)


def _shrunk(x: Tensor, amount: float) -> Tensor:
    """Made smaller by the share `amount`, in a border that repeats its edge."""
    h, w = x.shape[-2:]
    top, left = round(h * amount / 2), round(w * amount / 2)
    small = F.interpolate(x, (h - 2 * top, w - 2 * left), mode="bilinear", antialias=True, align_corners=False)
    return F.pad(small, (left, left, top, top), mode="replicate")


def _smoothed(x: Tensor, amount: float) -> Tensor:
    """Mixed by the share `amount` with the mean of three by three pixels."""
    return x + amount * (F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1) - x)


KINDS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "gamma": _gamma, "stretch": _stretched, "balance": _balanced, "crop": _cropped, "shrink": _shrunk,
    "smooth": _smoothed}
