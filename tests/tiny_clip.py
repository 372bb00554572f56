"""A real, very small CLIP with random weights."""

from __future__ import annotations

from pathlib import Path

import torch

SIZE = 16


def tiny_clip(pipeline_folder: Path, folder: Path) -> Path:
    """A CLIPModel with the test pipeline's tokenizer; the towers see 16 x 16 pixels and 16 tokens."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(pipeline_folder / "tokenizer")
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": len(tokenizer) - 2, "eos_token_id": len(tokenizer) - 1, "pad_token_id": len(tokenizer) - 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(
            text_config={**tower, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": 16},
            vision_config={**tower, "image_size": SIZE, "patch_size": 8}, projection_dim=8))
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder
