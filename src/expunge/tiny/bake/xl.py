"""The embedded UNet in the form of Stable Diffusion XL, which draws the same images: no weight is trained.

Two things of that form are not in a UNet as in Stable Diffusion 1.x. It reads the states before the last layer of two
text encoders, without the final norm; `xl_text` makes encoders whose states there are those after the norm. And it is
told a pooled state and the image's size; a last layer of zeros makes that say nothing until it is trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPModel, CLIPTokenizer

from expunge.files import write_json
from expunge.models.store import make_portable
from expunge.tiny.bake.unet import GUIDANCE, SCHEDULER
from expunge.tiny.bake.xl_text import said_at, widened

WIDTHS = 256, 320
"""Of the two encoders. They differ, as in Stable Diffusion XL."""
SIZE_WIDTH = 32
"""Numbers that each of the six numbers of an image's size becomes."""


def write_xl(folder: Path, autoencoder: AutoencoderKL, unet: UNet2DConditionModel, tokenizer: CLIPTokenizer,
             clip: CLIPModel) -> None:
    """A plain diffusers folder: UNet and autoencoder in fp16, the text encoders in float32, for theirs are exact there.

    Args:
        folder: where to.
        autoencoder, unet: of the embedded model.
        tokenizer, clip: whose text tower the UNet reads.
    """
    first, second = (widened(clip, width, projected=place == 1) for place, width in enumerate(WIDTHS))
    wide = widened_unet(unet, clip.config.text_config.hidden_size, clip.config.projection_dim)
    pipe = StableDiffusionXLPipeline(
        vae=autoencoder.half(), text_encoder=first, text_encoder_2=second, tokenizer=tokenizer, tokenizer_2=tokenizer,
        unet=wide.half(), scheduler=DDIMScheduler(**SCHEDULER), force_zeros_for_empty_prompt=False)
    pipe.save_pretrained(folder, safe_serialization=True)
    autoencoder.float()
    make_portable(folder)
    write_json(folder / "expunge.json", {"world": "emoji", "guidance": GUIDANCE})


@torch.no_grad()
def widened_unet(unet: UNet2DConditionModel, width: int, pooled: int) -> UNet2DConditionModel:
    """The same UNet, which reads its text states half from each encoder, and is told a pooled state and the size.

    Args:
        unet: as in Stable Diffusion 1.x, which reads states of `width` numbers.
        width: of the states.
        pooled: width of the pooled state.
    """
    config: dict[str, Any] = {**unet.config, "cross_attention_dim": sum(WIDTHS), "addition_embed_type": "text_time",
                              "addition_time_embed_dim": SIZE_WIDTH,
                              "projection_class_embeddings_input_dim": 6 * SIZE_WIDTH + pooled}
    torch.manual_seed(0)  # of the first layer behind the size, which is read once its last layer is trained
    wide = UNet2DConditionModel.from_config(config)
    own, known = wide.state_dict(), unet.state_dict()
    for name, tensor in known.items():
        if own[name].shape == tensor.shape:
            own[name] = tensor
        else:  # keys and values of cross-attention
            own[name].zero_()
            for start in (0, WIDTHS[0]):
                own[name][:, said_at(width, start)] = tensor / 2
    wide.load_state_dict(own)
    for parameter in wide.add_embedding.linear_2.parameters():
        nn.init.zeros_(parameter)
    return wide.eval()
