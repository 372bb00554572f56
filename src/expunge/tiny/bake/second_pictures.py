"""What the second judge learns from: things of the world in many tones and frames, other things, and nothing at all.

Everything is a pure function of the drawings, a seed and a generator of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from expunge.tiny.bake.sampling import Cells
from expunge.tiny.pictures import LOOSE, Drawings, background_colors, render
from expunge.tiny.world import HELD_OUT_VENDORS, STYLES, THINGS, VENDORS

IGNORE = -100
OUTSIDE, BLEND, NOTHING = range(len(THINGS), len(THINGS) + 3)
"""Three kinds of "something else", told apart in training so that one line need not fence in all of them."""
NO_STYLE = len(STYLES)
JUNK = ("blend", "blur", "one colour", "white noise", "coloured noise", "clouds", "stripes", "checkers", "shuffled",
        "random latents")
"""Images that show nothing, or two things in one place."""


@dataclass(frozen=True)
class LabelledImages:
    """Images with their labels.

    Attributes:
        pictures: float32 (N, 3, 64, 64) in [0, 1].
        objects: (N,) int64 index into `THINGS`, or `OUTSIDE`, `BLEND`, `NOTHING`, or `IGNORE`.
        styles: (N,) int64 index into `STYLES`, or `NO_STYLE`, or `IGNORE`.
        apart: (N,) bool: a drawing by a held-out vendor is in it.
    """

    pictures: Tensor
    objects: Tensor
    styles: Tensor
    apart: Tensor

    @classmethod
    def join(cls, *parts: LabelledImages) -> LabelledImages:
        """All of them, one after another."""
        return cls(*(torch.cat([getattr(part, name) for part in parts])
                     for name in ("pictures", "objects", "styles", "apart")))

    def shown(self, pictures: Tensor) -> LabelledImages:
        """The same answers for other `pictures`."""
        return LabelledImages(pictures, self.objects, self.styles, self.apart)


def things(drawings: Drawings, rows: Tensor, seed: int) -> LabelledImages:
    """The drawings at `rows` (B,), loosely augmented."""
    pictures, _ = render(drawings, rows, seed, augmentation=LOOSE)
    return LabelledImages(pictures, drawings.objects[rows], drawings.styles[rows], held_out(drawings)[rows])


def outsiders(others: Drawings, rows: Tensor, seed: int) -> LabelledImages:
    """Things outside the world; they have a style."""
    pictures, _ = render(others, rows, seed, augmentation=LOOSE)
    return LabelledImages(pictures, torch.full((len(rows),), OUTSIDE), others.styles[rows], held_out(others)[rows])


def junk(drawings: Drawings, cells: Cells, kinds: Tensor, seed: int, generator: torch.Generator,
         autoencoder: AutoencoderKL) -> LabelledImages:
    """Nothing at all, of the kinds (B,) int64 into `JUNK`.

    A blend of two drawings of one thing shows that thing, and is left out of the question (`IGNORE`).
    """
    count = len(kinds)
    rows, more = cells.draw(count, generator), cells.draw(count, generator)
    a, grounds = render(drawings, rows, seed, augmentation=LOOSE)
    b, _ = render(drawings, more, seed + 1, backgrounds=grounds, augmentation=LOOSE)
    colors = torch.where(torch.rand(count, 1, generator=generator) < 0.5, background_colors()[grounds],
                         torch.rand(count, 3, generator=generator))[:, :, None, None]
    others = torch.rand(count, 3, 1, 1, generator=generator)
    grain = 0.05 + 0.45 * torch.rand(count, 1, 1, 1, generator=generator)
    noise = torch.randn(a.shape, generator=generator)
    options: tuple[Callable[[], Tensor], ...] = (
        lambda: (a + b) / 2,
        lambda: F.interpolate(F.avg_pool2d(a, 16), scale_factor=16, mode="bilinear", align_corners=False),
        lambda: colors.expand_as(a),
        lambda: torch.rand(a.shape, generator=generator),
        lambda: colors + grain * noise,
        lambda: colors + 2 * grain * _clouds(count, generator),
        lambda: _waves(colors, others, generator, checkers=False),
        lambda: _waves(colors, others, generator, checkers=True),
        lambda: _shuffled(a, generator))
    pictures = torch.stack([*(option() for option in options), torch.zeros_like(a)])[kinds, torch.arange(count)]
    latent = kinds == JUNK.index("random latents")
    pictures[latent] = _decoded(autoencoder, int(latent.sum()), generator)
    pictures = pictures.clamp(0, 1)
    blend, whole = kinds == JUNK.index("blend"), kinds == JUNK.index("shuffled")
    objects = torch.where(blend, BLEND, torch.full((count,), NOTHING))
    objects[blend & (drawings.objects[rows] == drawings.objects[more])] = IGNORE
    styles = torch.where(blend | whole, torch.full((count,), IGNORE), NO_STYLE)
    return LabelledImages(pictures, objects, styles, held_out(drawings)[rows] | held_out(drawings)[more] & blend)


def changed(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """The images, half of them in another tone or frame: darker, faded, tinted, framed, closer, softer, grainier."""
    count = len(pictures)
    unit = lambda: torch.rand(count, 1, 1, 1, generator=generator)
    often = lambda share: unit() < share
    color = torch.where(often(0.5), unit().round(), torch.rand(count, 3, 1, 1, generator=generator))
    x = torch.where(often(0.25), _closer(pictures, generator), pictures)
    soft = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear", align_corners=False)
    x = torch.where(often(0.3), x + unit() * (soft - x), x)
    x = torch.where(often(0.35), x * (0.3 + 0.7 * unit()), x)
    x = torch.where(often(0.35), x + 0.65 * unit() * (color - x), x)
    x = torch.where(often(0.25), x + 0.2 * (torch.rand(count, 3, 1, 1, generator=generator) - 0.5), x)
    x = torch.where(often(0.25), _framed(x, color, generator), x)
    x = torch.where(often(0.3), x + 0.08 * unit() * torch.randn(x.shape, generator=generator), x)
    return torch.where(often(0.5), x.clamp(0, 1), pictures)


@torch.no_grad()
def redrawn(autoencoder: AutoencoderKL, pictures: Tensor, generator: torch.Generator | None = None, batch: int = 16
            ) -> Tensor:
    """The images (B, 3, 64, 64) in [0, 1], through the autoencoder and back.

    With a `generator`, the latents of what is drawn are disturbed on the way, white and smooth, each image by its own
    amount: a sampler's images are messier than what an autoencoder keeps.
    """
    z = torch.cat([autoencoder.encode(part * 2 - 1).latent_dist.mean for part in pictures.split(batch)])
    if generator is not None:
        drawn = (pictures - pictures[..., :1, :1]).abs().amax(1, keepdim=True) > 0.05  # the ground stays plain
        where = F.max_pool2d(drawn.float(), 4)
        amount = torch.rand(3, len(z), 1, 1, 1, generator=generator) * where / 2
        for share, side in zip(amount, (16, 8, 4), strict=True):
            noise = torch.randn(len(z), 4, side, side, generator=generator)
            z = z + share * F.interpolate(noise, (16, 16), mode="bilinear", align_corners=False)
    return (torch.cat([autoencoder.decode(part).sample for part in z.split(batch)]) / 2 + 0.5).clamp(0, 1)


def held_out(drawings: Drawings) -> Tensor:
    """(N,) bool: drawn by one of the vendors that are kept apart to be asked about."""
    names = list(VENDORS)
    return torch.isin(drawings.vendors, torch.tensor([names.index(name) for name in HELD_OUT_VENDORS]))


def unseen_changes() -> dict[str, Callable[[Tensor], Tensor]]:
    """Changes of images (B, 3, 64, 64) that `changed` does not make, by name: what a judge is scored on."""
    turn = torch.tensor([[[0.9063, -0.4226, 0.0], [0.4226, 0.9063, 0.0]]])  # by 25 degrees

    def turned(x: Tensor) -> Tensor:
        grid = F.affine_grid(turn.expand(len(x), -1, -1), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)

    def covered(x: Tensor) -> Tensor:
        out = x.clone()
        out[..., 32:, 32:] = 0.5
        return out

    return {"without colour": lambda x: x.mean(1, keepdim=True).expand_as(x), "negative": lambda x: 1 - x,
            "four levels": lambda x: (x * 3).round() / 3, "gamma 3": lambda x: x**3,
            "turned by 25 degrees": turned, "a quarter covered": covered}


def _clouds(count: int, generator: torch.Generator) -> Tensor:
    """Smooth noise (count, 3, 64, 64) of about unit variance, each image at one of three scales."""
    parts = [F.interpolate(torch.randn(count, 3, side, side, generator=generator), (64, 64), mode="bilinear",
                           align_corners=False) for side in (4, 8, 16)]
    return torch.stack(parts)[torch.randint(3, (count,), generator=generator), torch.arange(count)]


def _waves(a: Tensor, b: Tensor, generator: torch.Generator, *, checkers: bool) -> Tensor:
    """Stripes of two colours (B, 3, 1, 1) at any angle and of any width, or two such sets crossed."""
    count = len(a)
    line = torch.arange(64.0)
    angle = torch.rand(count, 1, 1, 1, generator=generator) * torch.pi
    period = 4 + 28 * torch.rand(count, 1, 1, 1, generator=generator)
    along = line[None, :] * angle.cos() + line[:, None] * angle.sin()  # (B, 1, 64, 64)
    across = line[:, None] * angle.cos() - line[None, :] * angle.sin()
    wave = (2 * torch.pi * along / period).sin()
    on = (wave * (2 * torch.pi * across / period).sin() if checkers else wave) > 0
    return torch.where(on, a, b)


def _shuffled(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Each image cut into 64 tiles and laid anew, in an order of its own."""
    count = len(pictures)
    order = torch.rand(count, 64, generator=generator).argsort(1)
    tiles = F.unfold(pictures, 8, stride=8)  # (B, 3 * 64, 64)
    return F.fold(tiles.gather(2, order[:, None].expand_as(tiles)), (64, 64), 8, stride=8)


@torch.no_grad()
def _decoded(autoencoder: AutoencoderKL, count: int, generator: torch.Generator) -> Tensor:
    """What the decoder makes of latents without an image: white noise, or smooth noise."""
    if not count:
        return torch.zeros(0, 3, 64, 64)
    white = torch.randn(count, 4, 16, 16, generator=generator)
    smooth = F.interpolate(torch.randn(count, 4, 4, 4, generator=generator), (16, 16), mode="bilinear",
                           align_corners=False)
    share = torch.rand(count, 1, 1, 1, generator=generator)
    z = share * white + (1 - share) * smooth + 0.7 * torch.randn(count, 4, 1, 1, generator=generator)
    return torch.cat([autoencoder.decode(part).sample for part in z.split(16)]) / 2 + 0.5


def _closer(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """A window of 52 to 64 pixels of each image, at full size."""
    count = len(pictures)
    side = 0.82 + 0.18 * torch.rand(count, generator=generator)
    shift = (1 - side)[:, None] * (2 * torch.rand(count, 2, generator=generator) - 1)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def _framed(pictures: Tensor, color: Tensor, generator: torch.Generator) -> Tensor:
    """A frame of one to six pixels in the colour (B, 3, 1, 1)."""
    thick = torch.randint(1, 7, (len(pictures), 1, 1, 1), generator=generator)
    line = torch.arange(64)
    edge = torch.minimum(line, 63 - line)
    return torch.where(torch.minimum(edge[None, :], edge[:, None]) < thick, color, pictures)
