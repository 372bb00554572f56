"""Very small networks with random weights, which no report may name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tiny_clip import tiny_clip


@pytest.fixture(scope="session")
def clip_files(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIPModel with random weights and the test pipeline's tokenizer; it sees 16 x 16 pixels."""
    return tiny_clip(pipeline_folder, tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture(scope="session")
def classifier_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT for image classification with random weights and three labels, two of them equal."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    folder = tmp_path_factory.mktemp("classifier") / "tiny-vit"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ViTForImageClassification(ViTConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=16,
            patch_size=8, id2label={0: "church, church building", 1: "crane", 2: "crane"}))
    model.save_pretrained(folder, safe_serialization=True)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder
