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

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

FORMATS = ("PNG", "JPEG", "WEBP")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
MOST_PIXELS = 50_000_000
"""Larger images are left out before they are unpacked: a small file can hold an image that fills any memory."""
LEAST_SIDE = 8
"""Pixels; an image with a shorter side shows nothing."""


_BROKEN = "broken or cut off"


class Unusable(Exception):
    """Why a file is no image that can be measured; its text is the reason, the same for all of a kind."""


def read_image(file: Path, *, most_pixels: int = MOST_PIXELS, least_side: int = LEAST_SIDE) -> tuple[Tensor, list[str]]:
    """The image as uint8 (3, H, W), and the names of the conversions that it took.

    Raises:
        Unusable: with the reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is ours
            with Image.open(file, formats=FORMATS) as image:
                return _pixels(image, file, most_pixels, least_side)
    except Image.DecompressionBombError as error:
        raise Unusable(_large(most_pixels)) from error
    except UnidentifiedImageError as error:
        raise Unusable(_unknown(file)) from error
    except Unusable:
        raise
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise Unusable(_BROKEN) from error  # PIL raises what its decoder happens to meet


def _unknown(file: Path) -> str:
    """Why PIL sees no image: by what the file begins with."""
    with file.open("rb") as stream:
        head = stream.read(12)
    known = head.startswith((b"\x89PNG", b"\xff\xd8\xff")) or (head[:4], head[8:]) == (b"RIFF", b"WEBP")
    return _BROKEN if known else "no PNG, JPEG or WebP inside" if head else "empty file"


def _large(most: int) -> str:
    return f"more than {most:,} pixels"


def _pixels(image: Image.Image, file: Path, most_pixels: int, least_side: int) -> tuple[Tensor, list[str]]:
    width, height = image.size
    if width * height > most_pixels:
        raise Unusable(_large(most_pixels))
    if min(width, height) < least_side:
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
