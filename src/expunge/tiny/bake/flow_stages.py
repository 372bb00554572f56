"""The stages of `expunge bake` that are emoji-flow's alone: its text encoders, its transformer, its folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPModel, CLIPTextModelWithProjection, CLIPTokenizer

from expunge.files import write_json
from expunge.models.store import make_portable
from expunge.tiny.bake.clip import train_tokenizer
from expunge.tiny.bake.corpus import corpus
from expunge.tiny.bake.flow import new_transformer, train_flow
from expunge.tiny.bake.flow_text import (
    LENGTH,
    SECOND_VOCABULARY,
    first_encoder,
    read,
    read_scenes,
    train_second_encoder,
)
from expunge.tiny.bake.settings import BakeSettings, Say
from expunge.tiny.bake.unet import LatentPool
from expunge.tiny.pictures import Drawings

Reader = tuple[CLIPTokenizer, CLIPTextModelWithProjection]

GUIDANCE = 2.0
SCHEDULER = {"num_train_timesteps": 1000, "shift": 1.0}
"""No shift: over 64 image tokens the thing is decided at middling times, where training is dense."""


class FlowStages:
    """The stages, each made once and kept under `work`."""

    def __init__(self, settings: BakeSettings, work: Path, say: Say) -> None:
        self._settings, self._work, self._say = settings, work, say

    def write(self, folder: Path, pool: LatentPool, drawings: Drawings, autoencoder: AutoencoderKL,
              tokenizer: CLIPTokenizer, clip: CLIPModel) -> None:
        """Make what is missing and write the model's folder."""
        readers = self.readers(drawings, tokenizer, clip)
        write_flow(folder, autoencoder, self.transformer(pool, readers), readers)

    def readers(self, drawings: Drawings, tokenizer: CLIPTokenizer, clip: CLIPModel) -> tuple[Reader, Reader]:
        """Both tokenizers with their encoders: CLIP's own with its texts cut, and one of another vocabulary."""
        settings, work = self._settings, self._work
        short = work / "flow-tokenizer"
        tokenizer.save_pretrained(short)
        own = CLIPTokenizer.from_pretrained(short, model_max_length=LENGTH)
        folder, words = work / "flow-second", work / "flow-tokenizer-2"
        if not (folder / "config.json").is_file():
            second = train_tokenizer(corpus(settings.pictures), words, SECOND_VOCABULARY, LENGTH)
            encoder = train_second_encoder(clip, drawings, second, work, settings.second_text_steps, 128, settings.seed,
                                           lambda i, n, losses: self._say("second text encoder", i, n, losses))
            part = work / ".flow-second.part"
            encoder.save_pretrained(part)
            shutil.rmtree(folder, ignore_errors=True)
            part.replace(folder)
        encoder = CLIPTextModelWithProjection.from_pretrained(folder).eval()
        return (own, first_encoder(clip)), (CLIPTokenizer.from_pretrained(words), encoder)

    def transformer(self, pool: LatentPool, readers: Sequence[Reader]) -> SD3Transformer2DModel:
        """The trained transformer; its checkpoint is `flow.ckpt`."""
        settings = self._settings
        texts, scene = read_scenes(readers, pool.scenes, settings.seed)
        empty = read(readers, [""])
        torch.manual_seed(settings.seed)  # initialisation only
        model = new_transformer(empty.states.shape[2], empty.pooled.shape[1])
        return train_flow(pool, texts, scene, empty, self._work, model, steps=settings.flow_steps,
                          batch=settings.flow_batch, seed=settings.seed, peak=settings.flow_rate,
                          half=settings.flow_half, progress=lambda i, n, losses: self._say("transformer", i, n, losses))


def write_flow(folder: Path, autoencoder: AutoencoderKL, transformer: SD3Transformer2DModel,
               readers: tuple[Reader, Reader]) -> None:
    """A plain diffusers folder in fp16 safetensors, with `expunge.json` naming its world and its guidance."""
    (tokenizer, encoder), (tokenizer_2, encoder_2) = readers
    autoencoder.register_to_config(shift_factor=0.0)  # the pipeline asks for one
    pipe = StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER), vae=autoencoder,
        text_encoder=encoder, tokenizer=tokenizer, text_encoder_2=encoder_2, tokenizer_2=tokenizer_2,
        text_encoder_3=None, tokenizer_3=None)
    pipe.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    pipe.to(torch.float32)
    make_portable(folder)
    write_json(folder / "expunge.json", {"world": "emoji", "guidance": GUIDANCE})
