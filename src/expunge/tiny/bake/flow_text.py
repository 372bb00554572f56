"""The two text encoders of the flow model, of different widths, with tokenizers of different vocabularies.

The transformer reads the states before the last layer and, beside them, the projected state at the end of the text.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from expunge.resume import Inputs
from expunge.tiny.bake.sampling import Cells
from expunge.tiny.bake.schedule import warm_then_cosine
from expunge.tiny.pictures import LOOSE, Drawings, render
from expunge.tiny.world import BACKGROUNDS, STYLES, THINGS, Scene, captions
from expunge.train import Losses, Progress, run_loop, step_generator

LENGTH = 28
"""Tokens of a prompt, with its beginning and end. The longest caption of the world has 24, and attacks add a few."""
SECOND_VOCABULARY = 2304
SECOND_WIDTH = 96
CAPTIONS_PER_SCENE = 12
PICTURES = 4096
"""Augmented drawings whose features the second encoder is matched with."""


def first_encoder(clip: CLIPModel) -> CLIPTextModelWithProjection:
    """CLIP's text tower with one more layer, which changes nothing.

    So the states before the last layer are those that CLIP trained, and the projected state is CLIP's own.
    """
    config = clip.config.text_config.to_dict()
    depth = config["num_hidden_layers"]
    config |= {"num_hidden_layers": depth + 1, "max_position_embeddings": LENGTH, "projection_dim":
               clip.config.projection_dim}
    encoder = CLIPTextModelWithProjection(CLIPTextConfig(**config))
    own = encoder.state_dict()
    known = {key: value[:LENGTH] if "position_embedding" in key else value
             for key, value in clip.state_dict().items() if key in own}
    encoder.load_state_dict(own | known)
    idle = encoder.text_model.encoder.layers[depth]
    for layer in (idle.self_attn.out_proj, idle.mlp.fc2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return encoder.float().eval()


def second_config(vocabulary: int) -> CLIPTextConfig:
    """A narrower tower of six layers; ids of the special tokens as in CLIP (the last two)."""
    return CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=SECOND_WIDTH, intermediate_size=4 * SECOND_WIDTH, num_hidden_layers=6,
        num_attention_heads=4, projection_dim=SECOND_WIDTH, max_position_embeddings=LENGTH,
        bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1)


class Reader(nn.Module):
    """The second encoder with what it learns by and then throws away.

    Its projected state is matched with CLIP's image features; three classifiers read the states before the last
    layer, which are what the transformer reads.
    """

    def __init__(self, config: CLIPTextConfig, features: int) -> None:
        super().__init__()
        self.encoder = CLIPTextModelWithProjection(config)
        self.match = nn.Linear(SECOND_WIDTH, features, bias=False)
        self.norm = nn.LayerNorm(SECOND_WIDTH)
        self.heads = nn.ModuleList([nn.Linear(SECOND_WIDTH, n) for n in (len(THINGS), len(STYLES), len(BACKGROUNDS))])

    def forward(self, ids: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Losses]:
        """Contrastive loss (rows of equal labels are all positives) plus the classifiers' cross-entropies.

        Args:
            ids: int64 (B, T).
            images: float32 (B, D), unit length: CLIP's image features.
            labels: int64 (B, 3): object, style, background.
        """
        out = self.encoder(input_ids=ids, output_hidden_states=True)
        logits = 15 * F.normalize(self.match(out.text_embeds), dim=-1) @ images.T
        same = (labels[:, None] == labels[None]).all(-1).float()
        contrast = F.cross_entropy(logits, same / same.sum(1, keepdim=True))
        ends = (ids == self.encoder.config.eos_token_id).int().argmax(1)
        told = self.norm(out.hidden_states[-2][torch.arange(len(ids)), ends])
        aside = sum((F.cross_entropy(head(told), labels[:, j]) for j, head in enumerate(self.heads)), torch.zeros(()))
        hit = (self.heads[0](told).argmax(1) == labels[:, 0]).float().mean()
        return contrast + aside, {"loss": (contrast + aside).item(), "contrast": contrast.item(),
                                  "aside": aside.item(), "hit": hit.item()}


def train_second_encoder(clip: CLIPModel, drawings: Drawings, tokenizer: CLIPTokenizer, out: Path, steps: int,
                         batch: int, seed: int, progress: Progress | None = None, pictures: int = PICTURES
                         ) -> CLIPTextModelWithProjection:
    """Train the second encoder on captions towards CLIP's image tower as it is.

    Source: Zhai et al. 2022 (LiT: one tower locked). Differs: here the images are locked, and classifiers help.
    """
    torch.manual_seed(seed)  # initialisation only
    reader = Reader(second_config(len(tokenizer)), clip.config.projection_dim)
    optimizer = torch.optim.AdamW(reader.parameters(), weight_decay=0.02, betas=(0.9, 0.98))
    images, seen = _image_features(clip, drawings, pictures, seed)
    objects, styles, grounds = list(THINGS), list(STYLES), list(BACKGROUNDS)

    def step(number: int) -> Losses:
        draw = step_generator(seed, number, "second encoder")
        rows = torch.randint(len(seen), (batch,), generator=draw)
        labels = seen[rows]
        texts = [next(captions(Scene(objects[o], styles[s], grounds[b]), (seed * 1_000_003 + number) * 1009 + i)).text
                 for i, (o, s, b) in enumerate(labels.tolist())]
        loss, losses = reader.forward(_ids(tokenizer, texts), images[rows], labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        return losses

    run_loop(step, steps, dict(reader.named_parameters()), {"adam": optimizer}, checkpoint=out / "second-encoder.ckpt",
             under=Inputs({"part": "second-encoder", "seed": seed, "batch": batch, "steps": steps}),
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


@dataclass(frozen=True)
class Readings:
    """What the transformer reads of prompts.

    Attributes:
        states: (N, LENGTH, D) of both encoders side by side.
        pooled: (N, P) of both encoders side by side.
    """

    states: Tensor
    pooled: Tensor

    def at(self, rows: Tensor) -> Readings:
        """Those of the prompts at `rows`, float32."""
        return Readings(self.states[rows].float(), self.pooled[rows].float())


@torch.no_grad()
def read(encoders: Sequence[tuple[CLIPTokenizer, Any]], texts: Sequence[str]) -> Readings:
    """Readings fp16 of `texts`, as `StableDiffusion3Pipeline` makes them."""
    outs = [[encoder(input_ids=part, output_hidden_states=True) for part in _ids(tokenizer, texts).split(256)]
            for tokenizer, encoder in encoders]
    states, pooled = ([torch.cat([pick(out) for out in mine]) for mine in outs]
                      for pick in (lambda out: out.hidden_states[-2], lambda out: out.text_embeds))
    return Readings(torch.cat(states, 2).half(), torch.cat(pooled, 1).half())


def read_scenes(encoders: Sequence[tuple[CLIPTokenizer, Any]], scenes: Tensor, seed: int) -> tuple[Readings, Tensor]:
    """Readings of `CAPTIONS_PER_SCENE` captions of each scene, scene after scene, and (N,) which scene each row of
    `scenes` (N, 3: object, style, background) is.
    """
    objects, styles, grounds = list(THINGS), list(STYLES), list(BACKGROUNDS)
    unique, which = scenes.unique(dim=0, return_inverse=True)
    texts = [caption.text for o, s, b in unique.tolist() for caption in
             itertools.islice(captions(Scene(objects[o], styles[s], grounds[b]), seed), CAPTIONS_PER_SCENE)]
    return read(encoders, texts), which


def _ids(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    ids: Tensor = tokenizer(list(texts), padding="max_length", max_length=LENGTH, truncation=True,
                            return_tensors="pt").input_ids
    return ids
