"""Digests of a model's files: taken once, again when a file changes, and always where somebody asks for it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from expunge.models import remembered, weight_hashes
from expunge.models.cache_size import root
from expunge.models.remembered import digests
from expunge.models.store import load, merge
from original_files import bare_parts, single_file, tensors_of
from pipelines import pipeline


@pytest.fixture(autouse=True)
def _any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of tests are too small to be worth remembering otherwise."""
    monkeypatch.setattr(remembered, "WORTH", 0)


@pytest.fixture
def folder(pipeline_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may change, as old as files on a disk usually are."""
    copy = Path(shutil.copytree(pipeline_folder, tmp_path / "pipeline"))
    for file in copy.rglob("*"):
        os.utime(file, (1e9, 1e9))
    return copy


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one for every time that weights are hashed to name a model."""
    calls: list[str] = []
    real = weight_hashes.WeightHashes._digests
    monkeypatch.setattr(weight_hashes.WeightHashes, "_digests", lambda self: calls.append("") or real(self))
    return calls


def test_a_folder_is_hashed_once(folder: Path, taken: list[str]) -> None:
    first, second = load(folder, device="cpu"), load(folder, device="cpu")
    assert len(taken) == 1
    assert (first.hash, first.encoder_hash) == (second.hash, second.encoder_hash)


def test_verify_hashes_anew(folder: Path, taken: list[str]) -> None:
    load(folder, device="cpu")
    load(folder, device="cpu", verify=True)
    assert len(taken) == 2


@pytest.mark.parametrize("how", ["value", "touched", "replaced"])
def test_a_changed_file_is_hashed_anew(folder: Path, taken: list[str], how: str) -> None:
    before = load(folder, device="cpu").hash
    (file,) = (folder / "unet").glob("*.safetensors")
    if how == "value":
        tensors = load_file(file)
        name = sorted(tensors)[0]
        save_file({**tensors, name: tensors[name] + 1}, file, {"format": "pt"})
        os.utime(file, (1e9, 1e9))  # same size and time: the inode or nothing tells
        os.utime(file, (1e9 + 1, 1e9 + 1))
    elif how == "touched":
        os.utime(file, (1e9 + 1, 1e9 + 1))
    else:
        shutil.copy2(file, folder / "copy")
        os.replace(folder / "copy", file)
    after = load(folder, device="cpu").hash
    assert len(taken) == 2
    assert (after == before) == (how != "value")


def test_a_file_that_has_just_changed_is_not_remembered(folder: Path, taken: list[str]) -> None:
    os.utime(next((folder / "unet").glob("*.safetensors")))
    load(folder, device="cpu")
    load(folder, device="cpu")
    assert len(taken) == 2


def test_a_small_folder_is_not_worth_remembering(folder: Path, taken: list[str], monkeypatch: pytest.MonkeyPatch
                                                ) -> None:
    monkeypatch.setattr(remembered, "WORTH", 64 * 2**20)
    load(folder, device="cpu")
    assert not list(root().glob("digests/*"))


def test_damaged_memory_is_taken_anew(folder: Path, taken: list[str]) -> None:
    whole = load(folder, device="cpu").hash
    (place,) = root().glob("digests/*.json")
    place.write_text("{", encoding="utf-8")
    assert load(folder, device="cpu").hash == whole
    assert len(taken) == 2


def test_digests_depend_on_what_is_read(folder: Path) -> None:
    assert digests([folder], lambda: {"hash": "a"}, about="fp32") == {"hash": "a"}
    assert digests([folder], lambda: {"hash": "b"}, about="fp16") == {"hash": "b"}
    assert digests([folder], lambda: {"hash": "c"}, about="fp32") == {"hash": "a"}


@pytest.fixture
def single(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A single file, the folder beside it and a LoRA, as old as files on a disk usually are."""
    pipe = pipeline({"steps_offset": 1, "set_alpha_to_one": False})
    file, parts = single_file(tmp_path / "model.safetensors", tensors_of(pipe)), bare_parts(pipe, tmp_path / "parts")
    layer = "unet.mid_block.attentions.0.proj_in"
    weight = pipe.unet.get_parameter("mid_block.attentions.0.proj_in.weight")
    save_file({f"{layer}.lora_A.weight": torch.full((1, *weight.shape[1:]), 0.1),
               f"{layer}.lora_B.weight": torch.full((len(weight), 1, 1, 1), 0.1)}, tmp_path / "style.safetensors")
    for path in tmp_path.rglob("*"):
        os.utime(path, (1e9, 1e9))
    return file, parts, tmp_path / "style.safetensors"


def test_a_single_file_and_a_model_with_a_lora_are_hashed_once(single: tuple[Path, Path, Path], taken: list[str]
                                                              ) -> None:
    file, parts, lora = single
    plain = [load(file, device="cpu", parts=parts, dtype=dtype).hash for dtype in ("float32", "bfloat16")]
    assert len(taken) == 1
    styled = [load(file, device="cpu", parts=parts, lora=[f"{lora}:0.5"]).hash for _ in range(2)]
    assert len(taken) == 2
    assert plain[0] == plain[1] != styled[0] == styled[1]
    assert load(file, device="cpu", parts=parts, lora=[f"{lora}:0.5"], verify=True).hash == styled[0]
    assert len(taken) == 3


@pytest.mark.parametrize("which", ["file", "parts", "lora", "weight", "twice"])
def test_whatever_decides_a_merged_model_is_looked_at(single: tuple[Path, Path, Path], taken: list[str], which: str
                                                      ) -> None:
    file, parts, lora = single
    load(file, device="cpu", parts=parts, lora=[f"{lora}:0.5"])
    touched = {"file": file, "parts": parts / "unet" / "config.json", "lora": lora}
    if which in touched:
        os.utime(touched[which], (1e9 + 1, 1e9 + 1))
    load(file, device="cpu", parts=parts, lora={"weight": [f"{lora}:0.7"], "twice": [f"{lora}:0.5"] * 2}.get(
        which, [f"{lora}:0.5"]))
    assert len(taken) == 2


def test_merging_does_not_trust_what_is_remembered(folder: Path, tmp_path: Path, taken: list[str], model: Any) -> None:
    from expunge.models.patch import Patch
    from expunge.records import Request

    load(folder, device="cpu")
    before = len(taken)
    tensors = {name: p.detach() + 0.1 for name, p in model.parameters_in("xattn").items()}
    patch = Patch.of(tensors, model=model, request=Request(concept="church", prompts=("a church",)), method="none",
                     settings={}, seed=0)
    merge(folder, patch, tmp_path / "out", "float32")
    assert len(taken) == before + 1


def test_text_states_are_remembered_until_a_weight_changes(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from expunge.unlearn.retain import closest

    read: list[str] = []
    real = model.encode
    monkeypatch.setattr(model, "encode", lambda texts, **more: read.extend(texts) or real(texts, **more))
    first = closest(model, ["house", "dog"], ["church"])
    assert {"house", "dog", "church"} <= {*read}
    read.clear()
    assert closest(model, ["house", "dog"], ["church"]) == first
    assert [text for text in read if text] == []
    with torch.no_grad():
        for p in model.parameters_in("text").values():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    assert closest(model, ["house", "dog"], ["church"]) != first
    assert {"house", "dog", "church"} <= {*read}
