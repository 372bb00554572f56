"""The first stage of the embedded world's judge: it learns the drawings and what is none of them.

It learns "something else" from things outside the world, from two drawings mixed, and from images without any
drawing, so that junk is not called by the nearest name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from expunge.metrics.judge import ELSE, JudgeNet
from expunge.resume import Inputs
from expunge.tiny.bake.changes import IGNORE
from expunge.tiny.bake.sampling import Cells
from expunge.tiny.bake.schedule import cosine_cycles
from expunge.tiny.pictures import LOOSE, Drawings, background_colors, render
from expunge.tiny.world import BACKGROUNDS, STYLES, THINGS
from expunge.train import Losses, Progress, run_loop, step_generator

CYCLE = 1500
"""Steps of one cycle of the learning rate; a judge is trained for whole cycles."""
LABELS: dict[str, tuple[str, ...]] = {
    "object": (*THINGS, ELSE),
    "style": tuple(STYLES),
    "background": tuple(BACKGROUNDS),
}


@dataclass(frozen=True)
class Redrawn:
    """Training images that went through the autoencoder, as everything goes that a diffusion model draws.

    Attributes:
        pictures: uint8 (N, 3, 64, 64).
        labels: (N, 3) object, style, background, as in `judge_batch`.
    """

    pictures: Tensor
    labels: Tensor

    @classmethod
    @torch.no_grad()
    def make(cls, autoencoder: AutoencoderKL, drawings: Drawings, others: Drawings, count: int, seed: int) -> Redrawn:
        """About `count` images in the proportions of `judge_batch`: artefacts must not speak for any answer."""
        cells, pictures, labels = Cells(drawings.objects, drawings.styles), [], []
        for start in range(0, count, 96):
            draw = step_generator(seed, start, "redrawn")
            x, part = judge_batch(drawings, cells, others, 96, (seed * 1_000_003 + 80_000_001 + start) * 4, draw)
            latents = autoencoder.encode(x * 2 - 1).latent_dist.mean
            y = (autoencoder.decode(latents).sample / 2 + 0.5).clamp(0, 1)
            pictures.append((y * 255).round().byte())
            labels.append(part)
        return cls(torch.cat(pictures).contiguous(), torch.cat(labels).contiguous())

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` of them, each mirrored or not: float32 in [0, 1] and their labels."""
        rows = torch.randint(len(self.pictures), (count,), generator=generator)
        mirror = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
        pictures = self.pictures[rows].float() / 255
        return torch.where(mirror, pictures.flip(3), pictures), self.labels[rows]


def judge_batch(drawings: Drawings, cells: Cells, others: Drawings, count: int, seed: int,
                generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (B, 3, 64, 64) and labels (B, 3) for one step: 3/4 things of the world, 1/4 anything else."""
    known, foreign = count * 3 // 4, count // 8
    mixed = count - known - foreign
    rows = cells.draw(known, generator)
    pictures, grounds = render(drawings, rows, seed, augmentation=LOOSE)
    labels = torch.stack([drawings.objects[rows], drawings.styles[rows], grounds], 1)
    strange = torch.randint(len(others), (foreign,), generator=generator)
    outside, outside_grounds = render(others, strange, seed + 1, augmentation=LOOSE)
    outside_labels = torch.stack([torch.full((foreign,), len(THINGS)), others.styles[strange], outside_grounds], 1)
    nothing, nothing_labels = junk(drawings, cells, mixed, seed + 2, generator)
    return torch.cat([pictures, outside, nothing]), torch.cat([labels, outside_labels, nothing_labels])


def train_judge(drawings: Drawings, others: Drawings, redrawn: Redrawn, out: Path, steps: int, batch: int, seed: int,
                progress: Progress | None = None, name: str = "judge") -> JudgeNet:
    """Train the network, half of each batch on fresh images and half on `redrawn` ones, all disturbed a little.

    `name` tells apart the checkpoint of a second training on fewer vendors.
    """
    torch.manual_seed(seed)  # initialisation only
    net = JudgeNet({question: len(names) for question, names in LABELS.items()})
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    cells = Cells(drawings.objects, drawings.styles)

    def step(number: int) -> Losses:
        draw = step_generator(seed, number, name)
        fresh = judge_batch(drawings, cells, others, batch // 2, (seed * 1_000_003 + number) * 4, draw)
        again = redrawn.draw(batch - batch // 2, draw)
        pictures = disturbed(torch.cat([fresh[0], again[0]]), draw)
        labels = torch.cat([fresh[1], again[1]])
        logits = net(pictures.contiguous(memory_format=torch.channels_last))
        return answered(optimizer, logits, labels)

    run_loop(step, steps, dict(net.named_parameters()), {"adam": optimizer}, checkpoint=out / f"{name}.ckpt",
             under=Inputs({"part": name, "seed": seed, "batch": batch, "drawings": drawings.digest}),
             learning_rate={"adam": cosine_cycles(2e-3, CYCLE)}, progress=progress)
    return net.eval()


def answered(optimizer: torch.optim.Optimizer, logits: Mapping[str, Tensor], labels: Tensor) -> Losses:
    """A step towards the labels of every question together; the losses, and how often the object was right."""
    losses = losses_by_question(logits, labels)
    loss = sum(losses.values(), torch.zeros(()))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    hit = (logits["object"].argmax(1) == labels[:, 0]).float().mean().item()
    return {"loss": loss.item(), "object_hit": hit, **{k: v.item() for k, v in losses.items()}}


def losses_by_question(logits: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
    """Cross-entropy by question, over the items that are labelled for it (0 where none is)."""
    out = {}
    for i, question in enumerate(LABELS):
        known = labels[:, i] != IGNORE
        out[question] = (F.cross_entropy(logits[question][known], labels[known, i], label_smoothing=0.02)
                         if known.any() else logits[question].sum() * 0)
    return out


def junk(drawings: Drawings, cells: Cells, count: int, seed: int, generator: torch.Generator
          ) -> tuple[Tensor, Tensor]:
    """Two drawings of different things blended, drawings blurred beyond recognition, bare backgrounds, noise."""
    rows, more = cells.draw(count, generator), cells.draw(count, generator)
    a, grounds = render(drawings, rows, seed, augmentation=LOOSE)
    b, _ = render(drawings, more, seed + 1, backgrounds=grounds, augmentation=LOOSE)
    bare = background_colors()[grounds][:, :, None, None].expand_as(a)
    coarse = F.interpolate(F.avg_pool2d(a, 16), scale_factor=16, mode="bilinear", align_corners=False)
    kind = torch.randint(4, (count,), generator=generator)
    options = torch.stack([(a + b) / 2, coarse, bare, torch.rand(a.shape, generator=generator)])
    pictures = options[kind, torch.arange(count)]
    labels = torch.stack([torch.full((count,), len(THINGS)), torch.full((count,), IGNORE), grounds], 1)
    labels[drawings.objects[rows] == drawings.objects[more], 0] = IGNORE  # a blend of a thing with itself is no junk
    labels[kind == 1, 0] = len(THINGS)
    labels[kind >= 2, 0] = len(THINGS)
    labels[kind == 3, 2] = IGNORE
    return pictures, labels


def disturbed(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """A little soft focus, tint and grain, each image its own amount."""
    count = len(pictures)
    soft = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear", align_corners=False)
    blend = 0.7 * torch.rand(count, 1, 1, 1, generator=generator)
    grain = 0.04 * torch.rand(count, 1, 1, 1, generator=generator)
    tint = 0.06 * (torch.rand(count, 3, 1, 1, generator=generator) - 0.5)
    out = pictures + blend * (soft - pictures) + tint
    return (out + grain * torch.randn(out.shape, generator=generator)).clamp(0, 1)
