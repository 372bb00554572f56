"""What was written is measured from the file: original, edit, export, other strengths, a foreign LoRA on top."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from colour_world import ColourWorld
from exported import Case, low_rank, matrices, shaken

import expunge
from expunge.errors import UserError
from expunge.exports import check as checks
from expunge.exports.check import CheckSettings
from expunge.models.patch import Patch


@pytest.fixture(autouse=True)
def _small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts and a judge that random weights have an answer for."""
    monkeypatch.setattr(checks, "world_for", lambda *_: ColourWorld())


def settings(tmp_path: Path, **more: Any) -> CheckSettings:
    few = {"direct": 2, "near": 2, "seeds": 1, "steps": 2, "cache": str(tmp_path / "cache")}
    return CheckSettings.build({**few, **more})


def asked(case: Case, scope: str = "xattn.kv") -> Patch:
    request = ColourWorld().request("church")
    patch = shaken(case.model, matrices(case.model, scope), 0.5)
    return Patch.of(patch.tensors, model=case.model, request=request, method="shaken", settings={}, seed=0)


def test_a_lora_is_measured_at_several_strengths_and_under_a_foreign_one(case_of: Callable[[str], Case], tmp_path: Path
                                                                         ) -> None:
    case, foreign = case_of("sd"), tmp_path / "style.safetensors"
    expunge.export(low_rank(case.model, [*matrices(case.model, "noxattn")][:3]), foreign, "lora-kohya",
                   model=case.folder)
    record = expunge.export(asked(case), tmp_path / "x.safetensors", "lora-kohya", model=case.folder,
                            check=settings(tmp_path, with_lora=str(foreign)))
    assert [(row.what, row.strength) for row in record.check] == [
        ("original", None), ("as edited", None), ("as exported", 0.5), ("as exported", 1.0), ("as exported", 1.5),
        ("original with style.safetensors", None), ("as exported with style.safetensors", 1.0)]
    for row in record.check:
        assert 0 <= row.found <= row.n
        assert row.n + row.near_n > 0
        assert row.judge


@pytest.mark.parametrize("to", ["folder", "checkpoint", "text-encoder", "diff-comfy"])
def test_every_way_of_opening_an_export_is_measured(case_of: Callable[[str], Case], tmp_path: Path, to: str) -> None:
    case = case_of("sd")
    patch = asked(case, "text" if to == "text-encoder" else "xattn.kv")
    out = tmp_path / ("x" if to == "folder" else "x.safetensors")
    more = {"original": case.file} if to == "checkpoint" else {"dtype": "float32"}
    record = expunge.export(patch, out, to, model=case.folder, check=settings(tmp_path, strengths=[0.5, 1.0]), **more)
    rows = {(row.what, row.strength): row for row in record.check}
    exported = rows["as exported", 1.0 if to.startswith("diff") else None]
    edited = rows["as edited", None]
    assert (exported.found, exported.n, exported.near, exported.near_n) == (
        edited.found, edited.n, edited.near, edited.near_n)
    assert (("as exported", 0.5) in rows) == to.startswith("diff")
    assert case.model.patch_hash == ""


def test_a_foreign_lora_on_a_format_that_is_opened_as_a_patch_is_refused(case_of: Callable[[str], Case], tmp_path: Path
                                                                        ) -> None:
    case = case_of("sd")
    with pytest.raises(UserError, match="a foreign LoRA with a format"):
        expunge.export(asked(case), tmp_path / "x.safetensors", "diff-kohya", model=case.folder,
                       check=settings(tmp_path, with_lora="style.safetensors"))
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(("x", "."))]
