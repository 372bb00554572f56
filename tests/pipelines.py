"""Real pipelines, very small, with random weights, and their tokenizer."""

from __future__ import annotations

from typing import Any

WORDS = ("a church on a hill", "a house by the sea", "a picture of a dog", "an emoji of a red apple",
         "a castle and a hospital", "the knife of a chef", "a drawing in pixel art style, blue background")
LENGTH = 16
"""Tokens that the test text encoder reads, start and end included."""


def tokenizer(more: tuple[str, ...] = ()) -> Any:
    """A CLIP tokenizer over bytes and the words above (some 600 pieces), `more` before them."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = alphabet + [f"{byte}</w>" for byte in alphabet]
    merges: list[tuple[str, str]] = []
    for word in dict.fromkeys(" ".join((*more, *WORDS)).replace(",", "").split()):
        left = word[0]
        for place, letter in enumerate(word[1:], 2):
            pair = (left, letter if place < len(word) else f"{letter}</w>")
            left += pair[1]
            if left not in pieces:
                pieces.append(left)
                merges.append(pair)
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def pipeline(scheduler: dict[str, Any]) -> Any:
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    words = tokenizer()
    count = len(words)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text_encoder = CLIPTextModel(CLIPTextConfig(
            vocab_size=count, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=LENGTH, bos_token_id=count - 2,
            eos_token_id=count - 1, pad_token_id=count - 1))
        unet = UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=32, attention_head_dim=2,
            norm_num_groups=8)
        vae = AutoencoderKL(block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
                            up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4,
                            sample_size=16)
    return StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=words, unet=unet, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                clip_sample=False, **scheduler))
