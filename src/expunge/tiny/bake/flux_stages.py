"""The stages of `expunge bake` that are emoji-flux's alone: T5, a transformer as in FLUX.1 dev, its folder."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from diffusers import (
    AutoencoderKL,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from expunge.models.hashing import tensors_hash
from expunge.tiny.bake.clip import text_tower
from expunge.tiny.bake.corpus import corpus
from expunge.tiny.bake.flow_stages import Course, FlowStages, Reader, StableDiffusion3Stages, flow_parts, save_half
from expunge.tiny.bake.flux_start import begin_with
from expunge.tiny.bake.flux_text import WIDTH, new_t5, read, told_at_end, train_unigram
from expunge.tiny.bake.networks import FluxNetwork, Network
from expunge.tiny.bake.reader import train_encoder
from expunge.tiny.bake.readings import ends_of
from expunge.tiny.pictures import Drawings
from expunge.tiny.world import BACKGROUNDS, SEEN, STYLES, Scene, captions


class FluxStages(FlowStages):
    """Of emoji-flux: the text tower of the world's CLIP for the pooled state, and a T5 encoder for the tokens."""

    name = "flux"
    network = staticmethod(FluxNetwork)
    read = staticmethod(read)

    def readers(self, drawings: Drawings, tokenizer: CLIPTokenizer, clip: CLIPModel) -> tuple[Reader, Reader]:
        """See `FlowStages`."""
        settings, words = self._settings, self._work / "flux-tokenizer-2"

        def trained() -> T5EncoderModel:
            unigram = train_unigram(corpus(settings.pictures), words)
            return train_encoder("t5-encoder", lambda: new_t5(len(unigram)), told_at_end, WIDTH, clip, drawings,
                                 unigram, self._work, settings.second_text_steps, 128, settings.seed,
                                 lambda i, n, losses: self._say("T5", i, n, losses))

        t5 = T5EncoderModel.from_pretrained(self._kept("flux-second", trained)).eval()
        return (tokenizer, text_tower(clip)), (T5Tokenizer.from_pretrained(words), t5)

    def course(self) -> Course:
        """See `FlowStages`."""
        return Course(self._settings.flux_steps, self._settings.flux_batch, self._settings.flux_rate)

    def begin(self, network: Network, readers: Sequence[Reader]) -> str:
        """With the blocks of a baked emoji-flow, where one is named."""
        folder = self._settings.flow_start
        if folder is None:
            return ""
        trained = SD3Transformer2DModel.from_pretrained(folder / "transformer")
        if not (self._work / f"{self.name}.ckpt").is_file():  # else its weights are taken from there
            pipe = StableDiffusion3Pipeline.from_pretrained(folder, transformer=trained, text_encoder_3=None,
                                                            tokenizer_3=None)
            theirs = (pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)
            texts = [next(captions(Scene(*scene), self._settings.seed)).text
                     for scene in list(itertools.product(SEEN, STYLES, BACKGROUNDS))[::2]]
            begin_with(network.model, trained, StableDiffusion3Stages.read(theirs, texts),
                       ends_of(pipe.tokenizer, texts), self.read(readers, texts), ends_of(readers[1][0], texts))
        return tensors_hash(dict(trained.state_dict()))

    @staticmethod
    def save(folder: Path, autoencoder: AutoencoderKL, transformer: FluxTransformer2DModel,
             readers: tuple[Reader, Reader]) -> None:
        """See `FlowStages`."""
        save_half(folder, FluxPipeline(**flow_parts(autoencoder, transformer, readers)))
