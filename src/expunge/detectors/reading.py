"""Ask a detector about images. One that raises, or gives what is no number, has failed on that image alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from expunge import interrupts
from expunge.detectors.base import Detector, Reading
from expunge.errors import ExpungeError, UserError

_ROUNDING = 0.01
"""So far beyond 0 and 1 images may reach, which are cut off there."""
NO_NUMBERS = Reading(error="the image has pixels that are not numbers")


def read(detector: Detector, images: Tensor, chunk: int = 32) -> list[Reading]:
    """One reading per image of float32 (B, 3, H, W) in [0, 1], in their order.

    Whatever a detector raises is an error of the images that it was asked about, each asked again alone, so that one
    bad image spoils none but itself. An image with pixels that are not numbers is never shown to it.

    Raises:
        ExpungeError: the images have another shape, or values that are not in [0, 1] (UserError).
    """
    if not isinstance(images, Tensor):
        raise UserError(f"images of type {type(images).__name__}", accepted="a float tensor (B, 3, H, W) in [0, 1]")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ExpungeError(f"images of shape {tuple(images.shape)}", accepted="(B, 3, H, W), red, green and blue")
    there = images[torch.isfinite(images)]
    if not images.is_floating_point() or (len(there) and not -_ROUNDING <= float(there.min()) <= float(there.max())
                                          <= 1 + _ROUNDING):
        ends = f"{float(there.min()):.3g} to {float(there.max()):.3g}" if len(there) else "none"
        raise UserError(f"images of {str(images.dtype).removeprefix('torch.')} with values from {ends}",
                        accepted="floats in [0, 1]", remedy="divide images of 0 to 255 by 255")
    good = torch.isfinite(images).flatten(1).all(1) if len(images) else torch.zeros(0, dtype=torch.bool)
    out = [NO_NUMBERS] * len(images)
    rows = good.nonzero().flatten().tolist()
    for start in range(0, len(rows), chunk):
        part = rows[start:start + chunk]
        for row, reading in zip(part, _asked(detector, images[part].float().clamp(0, 1)), strict=True):
            out[row] = reading
    return out


def _asked(detector: Detector, images: Tensor) -> list[Reading]:
    try:
        readings: Sequence[Reading] = detector(images)
        if len(readings) == len(images):
            return [_checked(detector, reading) for reading in readings]
        reason = f"{len(readings)} readings for {len(images)} images"
    except MemoryError:
        raise
    except Exception as error:  # a detector may be anybody's; whatever it raises is its failure, not a finding
        interrupts.check()
        reason = f"{type(error).__name__}: {error}"
    if len(images) == 1:
        return [Reading(error=reason)]
    return [reading for image in images for reading in _asked(detector, image[None])]


def _checked(detector: Detector, reading: Reading) -> Reading:
    """The reading, or an error in its place: a label or a number that a detector cannot mean is no finding."""
    if reading.error:
        return Reading(error=reading.error)
    known = set(detector.labels)
    odd = [f"score of {label!r} is {score}" for label, score in reading.scores.items() if not math.isfinite(score)]
    odd += [f"a box of {box.label!r} is not finite" for box in reading.boxes
            if not all(map(math.isfinite, (box.score, *box.corners)))]
    odd += [f"label {label!r}" for label in dict.fromkeys([*reading.scores, *(box.label for box in reading.boxes)])
            if label not in known]
    if odd:
        return Reading(error=f"an answer that it does not know: {', '.join(odd[:5])}")
    return replace(reading, scores={label: float(score) for label, score in reading.scores.items()})
