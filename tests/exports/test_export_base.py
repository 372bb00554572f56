"""The base is opened again as it was opened first: with its variant, and with leave for pickles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from colour_world import colour_world
from exported import Case, low_rank, matrices, shaken

import expunge
from expunge.exports import check as checks
from expunge.exports.base import open_base
from expunge.exports.check import CheckSettings
from expunge.exports.formats import FORMATS
from expunge.models.patch import Patch
from expunge.models.source import Source
from expunge.models.store import load, located
from pipelines import pipeline


def saved(folder: Path, variant: str | None, shift: float) -> None:
    """A pipeline of its own weights, in files of a variant."""
    pipe = pipeline({"steps_offset": 1, "set_alpha_to_one": False})
    with torch.no_grad():
        for part in (pipe.unet, pipe.text_encoder):
            for p in part.parameters():
                p += shift
    pipe.save_pretrained(folder, variant=variant)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds plain weights, and averaged ones beside them."""
    folder = tmp_path_factory.mktemp("both") / "model"
    for variant, shift in ((None, 0.0), ("ema", 0.01)):
        saved(folder, variant, shift)
    return folder


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that can be opened by a variant alone."""
    folder = tmp_path_factory.mktemp("variants") / "model"
    for variant, shift in (("fp16", 0.0), ("ema", 0.01)):
        saved(folder, variant, shift)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("to", [to for to in FORMATS if to != "checkpoint"])
def test_an_edit_of_one_variant_is_read_back_on_that_variant(both: Path, tmp_path: Path, to: str) -> None:
    model = load(both, device="cpu", variant="ema")
    assert model.hash != load(both, device="cpu").hash
    patch = shaken(model, model.parameters_in("text") if FORMATS[to].alone else matrices(model, "xattn.kv"))
    out = tmp_path / ("x.safetensors" if FORMATS[to].kind == "file" else "x")
    record = expunge.export(patch, out, to, model=both, variant="ema")
    assert [one.note for one in record.readers] == [""] * len(record.readers)
    assert all(one.max_abs is not None and one.max_abs < 1e-6 for one in record.readers)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["folder", "lora-kohya", "diff-comfy"])
def test_the_base_is_measured_by_its_variant(variants: Path, tmp_path: Path, to: str,
                                             case_of: Callable[[str], Case], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "world_for", lambda *_: colour_world())
    case, foreign = case_of("sd"), tmp_path / "style.safetensors"
    expunge.export(low_rank(case.model, [*matrices(case.model, "noxattn")][:3]), foreign, "lora-kohya",
                   model=case.folder)
    model = load(variants, device="cpu", variant="ema")
    edit = shaken(model, matrices(model, "xattn.kv"), 0.5)
    patch = Patch.of(edit.tensors, model=model, request=colour_world().prompts.request("church"), method="shaken",
                     settings={}, seed=0)
    on_top = {} if to == "diff-comfy" else {"with_lora": str(foreign)}
    few = {"direct": 1, "near": 1, "seeds": 1, "steps": 1, "strengths": [0.0, 1.0], "cache": str(tmp_path / "cache")}
    record = expunge.export(patch, tmp_path / ("x" if to == "folder" else "x.safetensors"), to, model=variants,
                            variant="ema", dtype="float32", check=CheckSettings.build({**few, **on_top}))
    rows = {(row.what, row.strength): row.model_dump(exclude={"what", "strength"}) for row in record.check}
    assert rows["as exported", None if to == "folder" else 1.0] == rows["as edited", None]
    assert to == "folder" or rows["as exported", 0.0] == rows["original", None]
    assert (("original with style.safetensors", None) in rows) == (to != "diff-comfy")


@pytest.mark.slow
def test_a_base_in_half_precision_is_opened_again_in_float32(tmp_path: Path) -> None:
    pipeline({"steps_offset": 1, "set_alpha_to_one": False}).to(torch.float16).save_pretrained(tmp_path / "half")
    source = Source(str(tmp_path / "half"))
    base = open_base(source, located(source))
    assert (base.model.dtype, base.opened().dtype) == (torch.float16, torch.float32)
    assert base.opened().hash == base.model.hash


def test_a_base_in_pickles_is_read_back_with_the_same_leave(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    saved(folder, None, 0.0)
    pipe = pipeline({"steps_offset": 1, "set_alpha_to_one": False})
    for file in (folder / "unet").glob("*.safetensors"):
        file.unlink()
    pipe.unet.save_pretrained(folder / "unet", safe_serialization=False)
    model = load(folder, device="cpu", allow_pickle=True)
    record = expunge.export(shaken(model, matrices(model, "xattn.kv")), tmp_path / "x.safetensors", "lora-diffusers",
                            model=folder, allow_pickle=True)
    assert [one.note for one in record.readers] == ["", ""]
