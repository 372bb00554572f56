"""A text encoder learns what the world's captions say, towards CLIP's image tower as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel

from expunge.resume import Inputs
from expunge.tiny.bake.readings import ids_of
from expunge.tiny.bake.sampling import Cells
from expunge.tiny.bake.schedule import descend, warm_then_cosine
from expunge.tiny.pictures import LOOSE, Drawings, render
from expunge.tiny.world import BACKGROUNDS, STYLES, THINGS, Scene, captions
from expunge.train import Losses, Progress, run_loop, step_generator

PICTURES = 4096
"""Augmented drawings whose features an encoder is matched with."""
Told = Callable[[Any, Tensor], tuple[Tensor, Tensor]]
"""What an encoder says of ids (B, T): a state (B, D) to match with images, and one (B, D) of those that a transformer
reads."""


class Reader(nn.Module):
    """An encoder with what it learns by and then throws away.

    One of its states is matched with CLIP's image features; three classifiers read the other.
    """

    def __init__(self, encoder: nn.Module, told: Told, width: int, features: int) -> None:
        super().__init__()
        self.encoder, self._told = encoder, told
        self.match = nn.Linear(width, features, bias=False)
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleList([nn.Linear(width, n) for n in (len(THINGS), len(STYLES), len(BACKGROUNDS))])

    def forward(self, ids: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Losses]:
        """Contrastive loss (rows of equal labels are all positives) plus the classifiers' cross-entropies.

        Args:
            ids: int64 (B, T).
            images: float32 (B, D), unit length: CLIP's image features.
            labels: int64 (B, 3): object, style, background.
        """
        matched, read = self._told(self.encoder, ids)
        logits = 15 * F.normalize(self.match(matched), dim=-1) @ images.T
        same = (labels[:, None] == labels[None]).all(-1).float()
        contrast = F.cross_entropy(logits, same / same.sum(1, keepdim=True))
        told = self.norm(read)
        aside = sum((F.cross_entropy(head(told), labels[:, j]) for j, head in enumerate(self.heads)), torch.zeros(()))
        hit = (self.heads[0](told).argmax(1) == labels[:, 0]).float().mean()
        return contrast + aside, {"loss": (contrast + aside).item(), "contrast": contrast.item(),
                                  "aside": aside.item(), "hit": hit.item()}


def train_encoder(name: str, make: Callable[[], nn.Module], told: Told, width: int, clip: CLIPModel,
                  drawings: Drawings, tokenizer: Any, out: Path, steps: int, batch: int, seed: int,
                  progress: Progress | None = None, pictures: int = PICTURES) -> nn.Module:
    """Train an encoder on captions towards CLIP's image tower as it is.

    Source: Zhai et al. 2022 (LiT: one tower locked). Differs: here the images are locked, and classifiers help.

    Args:
        name: of its checkpoint.
        make: gives a fresh encoder. told: what it says. width: of what it says.
        clip: whose image features it is matched with.
        drawings: what CLIP looks at.
        tokenizer: the encoder's.
        out: folder of the checkpoint.
        steps, batch, seed, progress: of the training.
        pictures: how many augmented drawings CLIP looks at.
    """
    torch.manual_seed(seed)  # initialisation only
    reader = Reader(make(), told, width, clip.config.projection_dim)
    optimizer = torch.optim.AdamW(reader.parameters(), weight_decay=0.02, betas=(0.9, 0.98))
    images, seen = _image_features(clip, drawings, pictures, seed)
    objects, styles, grounds = list(THINGS), list(STYLES), list(BACKGROUNDS)

    def step(number: int) -> Losses:
        draw = step_generator(seed, number, "second encoder")
        rows = torch.randint(len(seen), (batch,), generator=draw)
        labels = seen[rows]
        texts = [next(captions(Scene(objects[o], styles[s], grounds[b]), (seed * 1_000_003 + number) * 1009 + i)).text
                 for i, (o, s, b) in enumerate(labels.tolist())]
        loss, losses = reader.forward(ids_of(tokenizer, texts), images[rows], labels)
        descend(optimizer, loss, reader.parameters())
        return losses

    run_loop(step, steps, dict(reader.named_parameters()), {"adam": optimizer}, checkpoint=out / f"{name}.ckpt",
             under=Inputs({"part": name, "seed": seed, "batch": batch, "steps": steps}),
             learning_rate={"adam": warm_then_cosine(1.5e-3, steps)}, progress=progress)
    return reader.encoder.eval()


@torch.no_grad()
def _image_features(clip: CLIPModel, drawings: Drawings, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """CLIP's features of unit length (N, D) of `count` augmented drawings, and their labels (N, 3)."""
    cells, features, labels = Cells(drawings.objects, drawings.styles), [], []
    for start in range(0, count, 128):
        rows = cells.draw(min(128, count - start), step_generator(seed, start, "second encoder's pictures"))
        pictures, grounds = render(drawings, rows, seed * 1_000_003 + 40_000_001 + start, augmentation=LOOSE)
        told = clip.vision_model(pixel_values=pictures * 2 - 1).pooler_output
        features.append(F.normalize(clip.visual_projection(told), dim=-1))
        labels.append(torch.stack([drawings.objects[rows], drawings.styles[rows], grounds], 1))
    return torch.cat(features), torch.cat(labels)
