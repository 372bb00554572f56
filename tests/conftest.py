"""Real pipelines, very small, with random weights, built once per test session."""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
# What their tests share.
for _folder in ("attacks", "evaluation", "exports", "faults", "guard", "protocols", "sequence", "unlearn"):
    sys.path.insert(0, str(Path(__file__).parent / _folder))


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder: epsilon prediction, "leading" grid with offset 1 (as SD 1.x); 16 x 16 pixels."""
    from pipelines import pipeline

    folder = tmp_path_factory.mktemp("epsilon") / "pipeline"
    pipeline({"steps_offset": 1, "set_alpha_to_one": False}).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def v_pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder: v-prediction, zero terminal SNR, "trailing" grid, with an `expunge.json`."""
    from pipelines import pipeline

    folder = tmp_path_factory.mktemp("v") / "pipeline"
    schedule = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
                "timestep_spacing": "trailing"}
    pipeline(schedule).save_pretrained(folder, safe_serialization=True)
    (folder / "expunge.json").write_text(json.dumps({"world": "emoji"}), encoding="utf-8")
    return folder


@pytest.fixture
def model(pipeline_folder: Path) -> Any:
    """The epsilon pipeline on the CPU, of whose family only the protocol is seen; a copy for each test."""
    from families import strict

    return strict(_copied(pipeline_folder))


@pytest.fixture
def v_model(v_pipeline_folder: Path) -> Any:
    """The v-prediction pipeline, in the same way."""
    from families import strict

    return strict(_copied(v_pipeline_folder))


_opened: dict[Path, Any] = {}


def _copied(folder: Path) -> Any:
    """A copy of the folder's model, which is opened once.

    Its tokenizers are read anew: a deep copy of a fast one adds special tokens where it is told not to.
    """
    from expunge.models.store import load

    if folder not in _opened:
        _opened[folder] = load(folder, device="cpu")
    model = _opened[folder]
    tokenizers = [encoder.tokenizer for encoder in model.texts]
    return deepcopy(model, {id(one): type(one).from_pretrained(one.name_or_path) for one in tokenizers})


@pytest.fixture(autouse=True)
def _own_picture_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the image cache of whoever runs it."""
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path / "pictures"))

