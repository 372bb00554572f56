"""Instruments that come as packages of their own: loaded where they are installed, else the sentence that says so."""

from __future__ import annotations

from expunge.errors import UserError
from expunge.metrics.base import Distance, Features


def outside_features() -> Features | str:
    """ImageNet features, which nobody trained on any world of ours; a sentence where they are not installed."""
    from expunge.metrics.imagenet import ImageNetFeatures

    try:
        return ImageNetFeatures()
    except UserError as error:
        return f"no features from outside ({error})"


def tolerant_distance() -> Distance | str:
    """ST-LPIPS, which a shift by a pixel does not disturb; a sentence where it is not installed."""
    from expunge.metrics.stlpips import StLpips

    try:
        return StLpips()
    except UserError as error:
        return f"no shift-tolerant distance ({error})"
