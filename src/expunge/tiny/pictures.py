"""The drawings that train the embedded model: read from a folder, augmented by seed, never shipped.

An image is a drawing (RGBA, from a folder such as EmojiCanvas) put on a named background colour at a seeded scale,
shift and flip. Everything is a pure function of (drawings, rows, seed).
"""

from __future__ import annotations

import csv
import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from expunge.errors import UserError
from expunge.tiny.world import BACKGROUNDS, STYLES, THINGS, VENDORS

SIZE = 64
"""Side of an image in pixels."""
_CANVAS = 128


@dataclass(frozen=True)
class Drawings:
    """Drawings in memory.

    Attributes:
        rgba: uint8 (N, 4, 128, 128), colour premultiplied by alpha.
        objects: (N,) index into `THINGS`, or -1 for a thing outside the world.
        styles: (N,) index into `STYLES`.
        vendors: (N,) index into `VENDORS`.
        digest: sha256 of all the pixels, for the card.
    """

    rgba: Tensor
    objects: Tensor
    styles: Tensor
    vendors: Tensor
    digest: str

    def __len__(self) -> int:
        return len(self.rgba)

    def where(self, keep: Tensor) -> Drawings:
        """The rows for which `keep` (N,) bool is true."""
        return Drawings(self.rgba[keep], self.objects[keep], self.styles[keep], self.vendors[keep], self.digest)


def load_drawings(folder: Path) -> Drawings:
    """The world's drawings from an EmojiCanvas folder (`metadata.csv` and one folder of PNG per vendor).

    Raises:
        UserError: the folder has no metadata.csv, or lacks a thing of the world.
    """
    table = folder / "metadata.csv"
    if not table.is_file():
        raise UserError(f"no images at {folder}", accepted="a folder with metadata.csv and one folder per vendor",
                        remedy="pass --pictures FOLDER; docs/attribution.md says where the drawings come from")
    names = {thing.key: index for index, thing in enumerate(THINGS.values())}
    with table.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["object"] in names and row["style"] in VENDORS]
    missing = sorted(set(names) - {row["object"] for row in rows})
    if missing:
        raise UserError(f"no drawing of {', '.join(missing)} in {table}", accepted="all things of the world",
                        remedy="use the EmojiCanvas set that docs/attribution.md names")
    rgba = torch.stack([_premultiplied(Image.open(folder / row["file"])) for row in rows])
    return _drawings(rgba, [names[row["object"]] for row in rows], [row["style"] for row in rows])


def load_others(archive: Path) -> Drawings:
    """Things outside the world, from the extended set's `emoji64.tar` and the `index.csv` beside it.

    They teach the judge what none of the world's things looks like.
    """
    index = archive.with_name("index.csv")
    known = {word for thing in THINGS.values() for word in (thing.name, *thing.synonyms)}
    with index.open(newline="", encoding="utf-8") as stream:
        rows = {row["file"]: row for row in csv.DictReader(stream)
                if row["style"] in VENDORS and not known & set(row["cldr_name"].lower().split())
                and row["cldr_name"].lower() not in known and row["cldr_group"] != "smileys-emotion"}
    pictures, vendors = [], []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name in rows:
                data = tar.extractfile(member)
                assert data is not None, member.name
                pictures.append(_premultiplied(Image.open(io.BytesIO(data.read()))))
                vendors.append(rows[member.name]["style"])
    return _drawings(torch.stack(pictures), [-1] * len(pictures), vendors)


@dataclass(frozen=True)
class Augmentation:
    """How far a rendered drawing may stray from the middle of the canvas.

    Attributes:
        scale: largest change of the scale, which is 0.86 on average.
        shift: largest shift, as a share of the room that the scale leaves.
        turn: largest turn, in radians.
        flip: whether half of the images are mirrored.
    """

    scale: float = 0.08
    shift: float = 1.0
    turn: float = 0.0
    flip: bool = True


LOOSE = Augmentation(scale=0.14, turn=0.14)
"""What those learn from who must tolerate more than the model draws: autoencoder, judge, CLIP."""
STEADY = Augmentation(scale=0.05, shift=0.5, flip=False)
"""What the diffusion model learns from. A mirrored drawing is a second answer to the same prompt, and a small UNet
draws the mean of both."""


def render(drawings: Drawings, rows: Tensor, seed: int, backgrounds: Tensor | None = None,
           augmentation: Augmentation = Augmentation()) -> tuple[Tensor, Tensor]:
    """Images of the drawings at `rows`, each at its own seeded scale, shift, flip and background.

    Args:
        drawings: the drawings.
        rows: (B,) int64 indices into them.
        seed: seeds this batch and nothing else.
        backgrounds: (B,) int64 indices into `BACKGROUNDS`; drawn by the seed when None.
        augmentation: the range of scale, shift, turn and flip.

    Returns:
        images float32 (B, 3, 64, 64) in [0, 1] and background indices (B,) int64.
    """
    draw = torch.Generator().manual_seed(seed)
    count = len(rows)
    if backgrounds is None:
        backgrounds = torch.randint(len(BACKGROUNDS), (count,), generator=draw)
    unit = lambda: torch.rand(count, generator=draw) * 2 - 1
    scale = 0.86 + augmentation.scale * unit()
    room = augmentation.shift * (1 - scale).clamp_min(0.04)
    dx, dy = room * unit(), room * unit()
    mirror = torch.where(torch.rand(count, generator=draw) < 0.5, -1.0, 1.0) if augmentation.flip else torch.ones(count)
    angle = augmentation.turn * unit() if augmentation.turn else torch.zeros(count)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    theta = torch.stack([torch.stack([mirror * cos, -mirror * sin, dx], 1), torch.stack([sin, cos, dy], 1)], 1)
    source = drawings.rgba[rows].float() / 255
    grid = F.affine_grid(theta, [count, 4, _CANVAS, _CANVAS], align_corners=False)
    layer = F.avg_pool2d(F.grid_sample(source, grid, align_corners=False), _CANVAS // SIZE)  # (B, 4, 64, 64)
    ground = background_colors()[backgrounds][:, :, None, None]
    return (layer[:, :3] + (1 - layer[:, 3:]) * ground).clamp(0, 1), backgrounds


def background_colors() -> Tensor:
    """(len(BACKGROUNDS), 3) float32 sRGB in [0, 1]."""
    return torch.tensor(list(BACKGROUNDS.values())) / 255


def _premultiplied(image: Image.Image) -> Tensor:
    pixels = np.asarray(image.convert("RGBA").convert("RGBa").resize((_CANVAS, _CANVAS), Image.Resampling.LANCZOS))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def _drawings(rgba: Tensor, objects: list[int], vendors: list[str]) -> Drawings:
    styles, names = list(STYLES), list(VENDORS)
    return Drawings(rgba, torch.tensor(objects), torch.tensor([styles.index(VENDORS[name]) for name in vendors]),
                    torch.tensor([names.index(name) for name in vendors]),
                    hashlib.sha256(rgba.numpy().tobytes()).hexdigest())
