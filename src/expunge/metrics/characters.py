"""Invented characters: vector drawings with names that no model has seen, for learning something new at run time.

Relearning and protection experiments need images of a thing that is surely unknown. Each character is a body plan
(a few numbers); a seed poses it: lean, arms, gaze, mouth, tint, scale, place and background. A scene says on which
backgrounds it stands, and in which words a caption tells it.
"""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from expunge.errors import UserError

_SMALL = 128
"""Images of shorter sides up to this one are drawn four times as large and shrunk, larger ones twice."""


@dataclass(frozen=True)
class Scene:
    """Where characters stand.

    Attributes:
        words: a caption, with {name} and {ground} ("a red", "an orange").
        grounds: background name -> sRGB in 0..255.
    """

    words: str
    grounds: Mapping[str, tuple[int, int, int]]

    def caption(self, name: str, ground: str) -> str:
        """Of an image of the character on that background."""
        return self.words.format(name=name, ground=f"{'an' if ground[0] in 'aeiou' else 'a'} {ground}")


@dataclass(frozen=True)
class Character:
    """A body plan. Lengths are in units of the image's side; `hue` in [0, 1).

    Attributes:
        name: an invented word.
        hue: colour of the body; the belly and the limbs take their shades from it.
        width, height: half-axes of the body.
        corners: 0 draws an ellipse, n > 2 a rounded polygon of n corners.
        eyes: how many; horns, legs: how many of each.
        spots: whether the body is spotted.
    """

    name: str
    hue: float
    width: float
    height: float
    corners: int
    eyes: int
    horns: int
    legs: int
    spots: bool


CHARACTERS: dict[str, Character] = {c.name: c for c in (
    Character("blorp", 0.33, 0.26, 0.22, 0, 1, 2, 3, False),
    Character("zindle", 0.78, 0.17, 0.30, 0, 2, 1, 2, True),
    Character("quabbo", 0.05, 0.25, 0.25, 4, 3, 0, 4, False),
    Character("mofuu", 0.55, 0.28, 0.18, 0, 2, 3, 2, True),
    Character("trixel", 0.12, 0.24, 0.27, 3, 1, 0, 2, False),
    Character("grundo", 0.95, 0.24, 0.24, 6, 2, 2, 2, True),
)}


def draw_character(name: str, seed: int, scene: Scene, height: int, width: int) -> tuple[Tensor, str]:
    """One image of a character.

    Args:
        name: one of `CHARACTERS`.
        seed: poses it; the same arguments give the same image.
        scene: gives the background. height, width: in pixels; the character fits the shorter side.

    Returns:
        float32 (3, H, W) in [0, 1], and the name of its background.

    Raises:
        UserError: no such character.
    """
    check_character(name)
    rng = random.Random(f"{name}/{seed}")
    ground = rng.choice(list(scene.grounds))
    times = 4 if min(height, width) <= _SMALL else 2
    image = Image.new("RGB", (width * times, height * times), scene.grounds[ground])
    _Pose(CHARACTERS[name], rng, image.size).draw(ImageDraw.Draw(image))
    small = image.resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1).float() / 255, ground


def character_pictures(name: str, seeds: Sequence[int], scene: Scene, height: int, width: int
                       ) -> tuple[Tensor, tuple[str, ...]]:
    """Images (B, 3, H, W), one per seed, and a caption for each; see `draw_character`."""
    drawn = [draw_character(name, seed, scene, height, width) for seed in seeds]
    return torch.stack([picture for picture, _ in drawn]), tuple(scene.caption(name, ground) for _, ground in drawn)


def check_character(name: str) -> None:
    """UserError: no such character."""
    if name not in CHARACTERS:
        raise UserError(f"unknown character {name!r}", accepted=", ".join(CHARACTERS))


class _Pose:
    """A character as it stands in one image; knows pixels."""

    def __init__(self, character: Character, rng: random.Random, canvas: tuple[int, int]) -> None:
        self.c, self.rng, (width, height) = character, rng, canvas
        side = min(width, height)
        self.size = side * rng.uniform(0.85, 1.1)
        self.x = (width - side) / 2 + side * rng.uniform(0.46, 0.54)
        self.y = (height - side) / 2 + side * rng.uniform(0.44, 0.52)
        self.lean = rng.uniform(-0.25, 0.25)
        self.hue = character.hue + rng.uniform(-0.03, 0.03)
        self.line = max(2, round(0.018 * self.size))

    def at(self, u: float, v: float) -> tuple[float, float]:
        """Body coordinates (units of the side, y down) to pixels, leaning included."""
        cos, sin = math.cos(self.lean), math.sin(self.lean)
        return self.x + self.size * (u * cos - v * sin), self.y + self.size * (u * sin + v * cos)

    def draw(self, pen: ImageDraw.ImageDraw) -> None:
        c, rng = self.c, self.rng
        body, dark = self.shade(0.75, 0.95), self.shade(0.9, 0.45)
        for i in range(c.legs):
            u = (i - (c.legs - 1) / 2) * 1.3 * c.width / max(1, c.legs - 1)
            step = rng.uniform(-0.04, 0.04)
            ankle, toe = (u + step, c.height + 0.13), (u + step + 0.05, c.height + 0.13)
            self.stroke(pen, [(u, 0.7 * c.height), ankle, toe], dark, 3)
        for way in (-1, 1):
            lift = rng.uniform(-0.16, 0.14)
            self.stroke(pen, [(way * 0.8 * c.width, 0.02), (way * (c.width + 0.08), 0.04 + lift / 2),
                              (way * (c.width + 0.13), lift)], dark, 3)
        for i in range(c.horns):
            u = (i - (c.horns - 1) / 2) * 0.13
            tip = (u * 1.6, -c.height - 0.15)
            pen.polygon([self.at(u - 0.045, -0.7 * c.height), self.at(*tip), self.at(u + 0.045, -0.7 * c.height)],
                        fill=self.shade(0.35, 1.0), outline=dark, width=self.line)
        pen.polygon([self.at(u, v) for u, v in self.outline()], fill=body, outline=dark, width=self.line)
        if c.spots:
            for _ in range(5):
                u, v = rng.uniform(-0.55, 0.55) * c.width, rng.uniform(0.15, 0.75) * c.height
                self.disc(pen, u, v, 0.028, self.shade(0.55, 0.75))
        self.face(pen, dark)

    def face(self, pen: ImageDraw.ImageDraw, dark: tuple[int, int, int]) -> None:
        c, rng = self.c, self.rng
        look = (rng.uniform(-0.025, 0.025), rng.uniform(-0.02, 0.02))
        radius = {1: 0.1, 2: 0.07, 3: 0.055}[c.eyes]
        for i in range(c.eyes):
            u = (i - (c.eyes - 1) / 2) * 2.15 * radius
            self.disc(pen, u, -0.25 * c.height, radius, (255, 255, 255), dark)
            self.disc(pen, u + look[0], -0.25 * c.height + look[1], 0.45 * radius, (20, 20, 30))
        bend = rng.uniform(-0.04, 0.07)
        mouth = [(0.09 * s, 0.33 * c.height + bend * (1 - s * s)) for s in np.linspace(-1, 1, 9)]
        self.stroke(pen, mouth, dark, 2)

    def outline(self) -> Iterator[tuple[float, float]]:
        """The body's outline: an ellipse, or a polygon with rounded corners (radius as a blend with the ellipse)."""
        c = self.c
        for angle in np.linspace(0, 2 * math.pi, 72, endpoint=False):
            radius = 1.0
            if c.corners:
                sector = 2 * math.pi / c.corners
                offset = (angle + math.pi / 2) % sector - sector / 2
                radius = 0.35 + 0.65 * math.cos(sector / 2) / math.cos(offset) * 1.25
            yield c.width * radius * math.cos(angle), c.height * radius * math.sin(angle)

    def stroke(self, pen: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], color: tuple[int, int, int],
               weight: int) -> None:
        pen.line([self.at(u, v) for u, v in points], fill=color, width=weight * self.line // 2 + 2, joint="curve")

    def disc(self, pen: ImageDraw.ImageDraw, u: float, v: float, radius: float, color: tuple[int, int, int],
             edge: tuple[int, int, int] | None = None) -> None:
        x, y = self.at(u, v)
        r = radius * self.size
        pen.ellipse([x - r, y - r, x + r, y + r], fill=color, outline=edge, width=self.line if edge else 0)

    def shade(self, saturation: float, value: float) -> tuple[int, int, int]:
        r, g, b = colorsys.hsv_to_rgb(self.hue % 1.0, saturation, value)
        return round(255 * r), round(255 * g), round(255 * b)
