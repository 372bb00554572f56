"""One image file as 8-bit RGB: whatever has to be done to it is named, whatever makes it unusable is a reason.

PNG, JPEG and WebP alone are opened, whatever a file is called. Conversions:

    grey, palette, CMYK    to RGB
    16 bits to 8           by the high byte, as PIL does with colours
    transparent            laid on white; an alpha channel that is opaque throughout is dropped
    turned                 as its EXIF orientation says
    frames                 the first one of several
    colour profile         not applied, as the field's programs do not
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from expunge import untrusted
from expunge.untrusted import MOST_PIXELS

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
LEAST_SIDE = 8
"""Pixels; an image with a shorter side shows nothing."""


class Unusable(untrusted.Unreadable):
    """Why a file is no image that can be measured; its text is the reason, the same for all of a kind."""


def read_image(file: Path, *, most_pixels: int = MOST_PIXELS, least_side: int = LEAST_SIDE) -> tuple[Tensor, list[str]]:
    """The image as uint8 (3, H, W), and the names of the conversions that it took.

    Raises:
        Unusable: with the reason.
    """
    try:
        with untrusted.image(file, most_pixels=most_pixels) as image:
            return _pixels(image, file, least_side)
    except Unusable:
        raise
    except untrusted.Unreadable as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(error.strerror or "broken or cut off") from error


def _pixels(image: Image.Image, file: Path, least_side: int) -> tuple[Tensor, list[str]]:
    if min(image.size) < least_side:
        raise Unusable(f"a side below {least_side} pixels")
    done = ["the first of several frames"] if getattr(image, "n_frames", 1) > 1 else []
    deep = _deep(image, file)
    image.load()
    if image.info.get("icc_profile"):
        done.append("colour profile not applied")
    turned = ImageOps.exif_transpose(image)
    if turned.size != image.size or turned.tobytes() != image.tobytes():
        done.append("turned by EXIF")
    made, how = _rgb(turned)
    done += ["16 bits to 8"] * deep + how
    return torch.from_numpy(np.array(made)).permute(2, 0, 1).contiguous(), done


def _deep(image: Image.Image, file: Path) -> bool:
    """Whether its channels have 16 bits: PIL does not say so of colours, so the PNG's header is asked."""
    if image.format != "PNG":
        return False
    with file.open("rb") as stream:
        return stream.read(25)[24:] == b"\x10"


def _rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The image in RGB and what was done."""
    if image.mode.startswith("I"):  # grey of 16 bits; PIL's own conversion would cut all above 255
        levels = np.array(image).astype(np.int64) >> 8
        return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert("RGB"), ["grey to RGB"]
    if image.mode == "RGB" and "transparency" not in image.info:
        return image, []
    how = {"L": ["grey to RGB"], "1": ["grey to RGB"], "LA": ["grey to RGB"], "P": ["palette to RGB"],
           "CMYK": ["CMYK to RGB"], "YCCK": ["CMYK to RGB"]}.get(image.mode, [])
    if "A" not in image.mode and "a" not in image.mode and "transparency" not in image.info:
        return image.convert("RGB"), how or [f"{image.mode} to RGB"]
    whole = image.convert("RGBA")
    if whole.getchannel("A").getextrema() == (255, 255):
        return whole.convert("RGB"), [*how, "opaque alpha dropped"]
    white = Image.new("RGBA", whole.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, whole).convert("RGB"), [*how, "transparent, laid on white"]
