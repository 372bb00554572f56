"""A real, very small CLIP with random weights, built once per test session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny_clip import SIZE, tiny_clip

__all__ = ["SIZE"]


@pytest.fixture(scope="session")
def clip_files(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIPModel with the test pipeline's tokenizer; the towers see 16 x 16 pixels and 16 tokens."""
    return tiny_clip(pipeline_folder, tmp_path_factory.mktemp("clip") / "tiny-clip")
