"""A pipeline that reads whole templates, and a patch for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_settings import QUICK

from expunge.cli import run


@pytest.fixture(scope="session")
def pipeline_folder(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test pipeline with a text encoder that reads 77 tokens, so that whole templates fit."""
    import torch
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel

    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder, safety_checker=None, requires_safety_checker=False)
    config = pipe.text_encoder.config
    config.max_position_embeddings = pipe.tokenizer.model_max_length = 77
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe.text_encoder = CLIPTextModel(config)
    folder = tmp_path_factory.mktemp("long") / "pipeline"
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def patch(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patch folder, made by the command line itself."""
    out = tmp_path_factory.mktemp("cli") / "church"
    assert run(["erase", "church", "--model", str(pipeline_folder), "--out", str(out), *QUICK]) == 0
    return out


@pytest.fixture(scope="session")
def patch_of_two(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patch that takes out two concepts, the second without an anchor."""
    out = tmp_path_factory.mktemp("cli") / "two"
    assert run(["erase", "church", "dog", "--anchor", "house", "--anchor", "", "--model", str(pipeline_folder),
                "--out", str(out), *QUICK]) == 0
    return out


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights, to judge with."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    from pipelines import LENGTH, tokenizer

    where, words = tmp_path_factory.mktemp("clip") / "tiny", tokenizer()
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(
            text_config={**tower, **ids, "vocab_size": len(words), "max_position_embeddings": LENGTH},
            vision_config={**tower, "image_size": 16, "patch_size": 8}, projection_dim=8))
    model.save_pretrained(where, safe_serialization=True)
    words.save_pretrained(where)
    return where
