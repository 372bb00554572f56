"""The stages of `expunge bake` that are the flow models' alone: their text encoders, transformer and folder."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPModel, CLIPTextModelWithProjection, CLIPTokenizer

from expunge.files import write_json
from expunge.models.store import make_portable
from expunge.tiny.bake.clip import train_tokenizer
from expunge.tiny.bake.corpus import corpus
from expunge.tiny.bake.flow import train_flow
from expunge.tiny.bake.flow_text import (
    LENGTH,
    SECOND_VOCABULARY,
    SECOND_WIDTH,
    first_encoder,
    read,
    second_config,
    told_at_end,
)
from expunge.tiny.bake.networks import Network, StableDiffusion3Network
from expunge.tiny.bake.reader import train_encoder
from expunge.tiny.bake.readings import Readings, read_scenes
from expunge.tiny.bake.settings import BakeSettings, Say
from expunge.tiny.bake.unet import LatentPool
from expunge.tiny.pictures import Drawings

Reader = tuple[Any, Any]
"""A tokenizer and its encoder."""
GUIDANCE = 2.0
SCHEDULER = {"num_train_timesteps": 1000, "shift": 1.0}
"""No shift: over 64 image tokens the thing is decided at middling times, where training is dense."""


@dataclass(frozen=True)
class Course:
    """How a transformer is trained: steps, latents per step, peak learning rate."""

    steps: int
    batch: int
    rate: float


class FlowStages(ABC):
    """The stages, each made once and kept under `work`; a model of another family gives its own readers and network."""

    name: str
    """Of the transformer's checkpoint."""

    def __init__(self, settings: BakeSettings, work: Path, say: Say) -> None:
        self._settings, self._work, self._say = settings, work, say

    def write(self, folder: Path, pool: LatentPool, drawings: Drawings, autoencoder: AutoencoderKL,
              tokenizer: CLIPTokenizer, clip: CLIPModel) -> None:
        """Make what is missing and write the model's folder."""
        readers = self.readers(drawings, tokenizer, clip)
        self.save(folder, autoencoder, self.transformer(pool, readers), readers)

    def transformer(self, pool: LatentPool, readers: Sequence[Reader]) -> Any:
        """The trained transformer; its checkpoint has the stages' `name`."""
        settings, told = self._settings, partial(self.read, readers)
        texts, scene = read_scenes(told, pool.scenes, settings.seed)
        empty = told([""])
        torch.manual_seed(settings.seed)  # initialisation only
        course = self.course()
        network = self.network(empty.states.shape[2], empty.pooled.shape[1])
        begun = self.begin(network, readers)
        return train_flow(pool, texts, scene, empty, self._work, network, name=self.name, begun=begun,
                          seed=settings.seed, steps=course.steps, batch=course.batch, peak=course.rate,
                          half=settings.flow_half,
                          progress=lambda i, n, losses: self._say("transformer", i, n, losses)).model

    @abstractmethod
    def readers(self, drawings: Drawings, tokenizer: CLIPTokenizer, clip: CLIPModel) -> tuple[Reader, Reader]:
        """Both tokenizers with their encoders."""

    @staticmethod
    @abstractmethod
    def read(encoders: Sequence[Reader], texts: Sequence[str]) -> Readings:
        """What the transformer reads of texts."""

    @staticmethod
    @abstractmethod
    def network(text: int, pooled: int) -> Network:
        """A fresh network for states and pooled states of these widths."""

    def begin(self, network: Network, readers: Sequence[Reader]) -> str:
        """Give the network something to begin with; returns what, "" for nothing."""
        return ""

    @abstractmethod
    def course(self) -> Course:
        """How the transformer is trained."""

    @staticmethod
    @abstractmethod
    def save(folder: Path, autoencoder: AutoencoderKL, transformer: Any, readers: tuple[Reader, Reader]) -> None:
        """Write a plain diffusers folder in fp16 safetensors, with `expunge.json` naming its world and its guidance."""

    def _kept(self, folder: str, make: Callable[[], Any]) -> Path:
        """The folder under `work` that keeps an encoder; made where it is missing, whole or not at all."""
        kept = self._work / folder
        if not (kept / "config.json").is_file():
            encoder = make()
            part = self._work / f".{folder}.part"
            encoder.save_pretrained(part)
            shutil.rmtree(kept, ignore_errors=True)
            part.replace(kept)
        return kept


class StableDiffusion3Stages(FlowStages):
    """Of emoji-flow: CLIP's own text tower with its texts cut, and an encoder of another vocabulary."""

    name = "flow"
    network = staticmethod(StableDiffusion3Network)
    read = staticmethod(read)

    def readers(self, drawings: Drawings, tokenizer: CLIPTokenizer, clip: CLIPModel) -> tuple[Reader, Reader]:
        """See `FlowStages`."""
        settings, work = self._settings, self._work
        short, words = work / "flow-tokenizer", work / "flow-tokenizer-2"
        tokenizer.save_pretrained(short)
        own = CLIPTokenizer.from_pretrained(short, model_max_length=LENGTH)

        def trained() -> Any:
            second = train_tokenizer(corpus(settings.pictures), words, SECOND_VOCABULARY, LENGTH)
            return train_encoder("second-encoder", lambda: CLIPTextModelWithProjection(second_config(len(second))),
                                 told_at_end, SECOND_WIDTH, clip, drawings, second, work, settings.second_text_steps,
                                 128, settings.seed,
                                 lambda i, n, losses: self._say("second text encoder", i, n, losses))

        encoder = CLIPTextModelWithProjection.from_pretrained(self._kept("flow-second", trained)).eval()
        return (own, first_encoder(clip)), (CLIPTokenizer.from_pretrained(words), encoder)

    def course(self) -> Course:
        """See `FlowStages`."""
        return Course(self._settings.flow_steps, self._settings.flow_batch, self._settings.flow_rate)

    @staticmethod
    def save(folder: Path, autoencoder: AutoencoderKL, transformer: SD3Transformer2DModel,
             readers: tuple[Reader, Reader]) -> None:
        """See `FlowStages`."""
        save_half(folder, StableDiffusion3Pipeline(**flow_parts(autoencoder, transformer, readers),
                                                   text_encoder_3=None, tokenizer_3=None))


def flow_parts(autoencoder: AutoencoderKL, transformer: Any, readers: tuple[Reader, Reader]) -> dict[str, Any]:
    """What a pipeline of a flow with two readers is made of, by the names that it has there."""
    (tokenizer, encoder), (tokenizer_2, encoder_2) = readers
    autoencoder.register_to_config(shift_factor=0.0)  # the pipeline asks for one
    return {"transformer": transformer, "scheduler": FlowMatchEulerDiscreteScheduler(**SCHEDULER), "vae": autoencoder,
            "text_encoder": encoder, "tokenizer": tokenizer, "text_encoder_2": encoder_2, "tokenizer_2": tokenizer_2}


def save_half(folder: Path, pipe: Any, guidance: float = GUIDANCE) -> None:
    """Write a pipeline in fp16 safetensors that any diffusers opens, with `expunge.json` beside it."""
    pipe.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    pipe.to(torch.float32)
    make_portable(folder)
    write_json(folder / "expunge.json", {"world": "emoji", "guidance": guidance})
