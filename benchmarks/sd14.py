"""The shape of Stable Diffusion 1.4 with random weights: what times and sums of published sizes are taken on."""

from __future__ import annotations

from typing import Any

from expunge.models.model import Model
from expunge.models.sd import StableDiffusion


def sd14_model(**opening: Any) -> Model:
    """A model of these sizes; `opening` as `Model` takes it."""
    return Model(StableDiffusion(sd14_pipeline()), "shape of Stable Diffusion 1.4, random weights", **opening)


def sd14_pipeline() -> Any:
    """A `StableDiffusionPipeline` with the sizes of Stable Diffusion 1.4 and weights as they are initialised."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    down = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    up = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    unet = UNet2DConditionModel(sample_size=64, in_channels=4, out_channels=4, layers_per_block=2,
                                block_out_channels=(320, 640, 1280, 1280), down_block_types=down, up_block_types=up,
                                cross_attention_dim=768, attention_head_dim=8)
    vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
                        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4,
                        sample_size=512)
    tokenizer = sd14_tokenizer()
    text = CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=768, intermediate_size=3072,
                                        num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=77,
                                        bos_token_id=len(tokenizer) - 2, eos_token_id=len(tokenizer) - 1,
                                        pad_token_id=len(tokenizer) - 1))
    schedule = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                             set_alpha_to_one=False, steps_offset=1)
    return StableDiffusionPipeline(vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=schedule,
                                   safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def sd14_tokenizer() -> Any:
    """A CLIP tokenizer of 49,408 entries: bytes, and as many pairs of them as fit."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    ends = [f"{letter}</w>" for letter in letters]
    merges = [(first, end) for first in letters for end in ends][:49408 - 2 - 2 * len(letters)]
    pieces = [*letters, *ends, *(a + b for a, b in merges), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, merges=merges, model_max_length=77)
