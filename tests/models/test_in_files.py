"""Weights as files hold them: hashed from there, the same in shards, variants and old spellings, never loaded whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from expunge import untrusted
from expunge.errors import ModelError
from expunge.models import hashing, in_files
from expunge.models.hashing import tensors_hash
from expunge.models.in_files import weights_in
from expunge.models.model import Model
from expunge.models.sd import StableDiffusion
from expunge.models.store import load
from pipelines_of_families import built

PARTS = ("unet", "vae", "text_encoder")


def resaved(folder: Path, out: Path, dtype: torch.dtype, **how: Any) -> Path:
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, torch_dtype=dtype)
    pipe.save_pretrained(out, **how)
    return out


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_hash_is_that_of_the_files_in_whatever_type_they_are_opened(pipeline_folder: Path, dtype: str) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder, safety_checker=None)
    in_memory = Model(StableDiffusion(pipe), "")
    opened = load(pipeline_folder, device="cpu", dtype=dtype)
    assert (opened.hash, opened.encoder_hash) == (in_memory.hash, in_memory.encoder_hash)
    assert opened.rounded() == in_memory.rounded()
    every = opened.parameters_of("denoiser", "text", "autoencoder")
    assert {str(p.dtype) for p in every.values()} == {f"torch.{dtype}"}


def test_the_old_hash_of_float32_values_is_the_hash(pipeline_folder: Path, tmp_path: Path) -> None:
    half = load(resaved(pipeline_folder, tmp_path / "half", torch.float16), device="cpu", dtype="float16")
    every = half.parameters_of("denoiser", "text", "autoencoder")
    assert half.hash == tensors_hash({name: p.detach().float() for name, p in every.items()})


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_shards_and_whole_files_of_one_type_hash_alike(pipeline_folder: Path, tmp_path: Path, dtype: torch.dtype
                                                       ) -> None:
    whole = resaved(pipeline_folder, tmp_path / "whole", dtype)
    shards = resaved(whole, tmp_path / "shards", dtype, max_shard_size="100KB")
    variant = resaved(whole, tmp_path / "variant", dtype, variant="half")
    wide = resaved(whole, tmp_path / "wide", torch.float32)
    assert len([*(shards / "unet").glob("*.safetensors")]) > 1
    assert len({load(folder, device="cpu", dtype="auto").hash for folder in (whole, shards, variant, wide)}) == 1


@pytest.mark.slow
def test_auto_keeps_the_type_of_the_files(pipeline_folder: Path, tmp_path: Path) -> None:
    whole = resaved(pipeline_folder, tmp_path / "whole", torch.bfloat16)
    assert load(whole, device="cpu", dtype="auto").dtype == torch.bfloat16
    assert load(whole, device="cpu").dtype == torch.float32
    assert load(pipeline_folder, device="cpu", dtype="auto").dtype == torch.float32


def test_old_spellings_are_found_in_the_files(pipeline_folder: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(pipeline_folder, tmp_path / "old"))
    spelt = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    (file,) = (old / "vae").glob("*.safetensors")
    tensors = load_file(file)
    for now, before in spelt.items():
        tensors = {name.replace(f".{now}.", f".{before}.") if ".attentions." in name else name: tensor
                   for name, tensor in tensors.items()}
    save_file(tensors, file, {"format": "pt"})
    opened = load(old, device="cpu")
    assert weights_in(old, None, opened.components) is not None
    assert opened.hash == load(pipeline_folder, device="cpu").hash


def test_names_that_are_not_known_are_hashed_in_memory_before_any_cast(pipeline_folder: Path, monkeypatch: Any) -> None:
    known = load(pipeline_folder, device="cpu").hash
    monkeypatch.setattr("expunge.models.opening.weights_in", lambda *told: None)
    opened = load(pipeline_folder, device="cpu", dtype="bfloat16")
    assert opened.hash == known
    assert opened.dtype == torch.bfloat16


def test_shards_beside_a_whole_file_are_not_guessed_between(pipeline_folder: Path, tmp_path: Path) -> None:
    both = resaved(pipeline_folder, tmp_path / "both", torch.float32, max_shard_size="100KB")
    for file in (pipeline_folder / "unet").glob("*.safetensors"):
        shutil.copyfile(file, both / "unet" / file.name)
    parts = load(pipeline_folder, device="cpu").components
    assert weights_in(both, None, parts) is None


def test_files_that_were_exchanged_since_are_not_read_as_if_they_were_the_same(pipeline_folder: Path, tmp_path: Path
                                                                             ) -> None:
    copy = Path(shutil.copytree(pipeline_folder, tmp_path / "copy"))
    opened = load(copy, device="cpu")
    (file,) = (copy / "unet").glob("*.safetensors")
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(ModelError, match="is another file than when the model was opened"):
        opened.rounded()


@pytest.mark.slow
def test_one_tensor_at_a_time_is_read_and_cast_piece_by_piece(pipeline_folder: Path, monkeypatch: Any) -> None:
    stored = weights_in(pipeline_folder, None, load(pipeline_folder, device="cpu").components)
    assert stored is not None
    whole = tensors_hash(stored, torch.float32)
    monkeypatch.setattr(hashing, "CHUNK", 7)
    read: list[str] = []
    real = in_files.InFiles.__getitem__
    monkeypatch.setattr(in_files.InFiles, "__getitem__", lambda self, name: read.append(name) or real(self, name))
    assert tensors_hash(stored, torch.float32) == whole
    assert read == sorted(stored)


@pytest.mark.parametrize("name", ["sd3", "flux-dev"])
def test_what_a_model_computes_by_is_the_same_in_every_number_type(name: str, tmp_path: Path) -> None:
    built(name).save_pretrained(tmp_path / "folder")
    assert len({load(tmp_path / "folder", dtype=kind, verify=True).parts for kind in ("float32", "float16", "bfloat16")}
               ) == 1


def test_each_file_is_opened_once_for_all_its_tensors(pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder, safety_checker=None)
    stored = weights_in(pipeline_folder, None, {name: getattr(pipe, name) for name in PARTS})
    assert stored is not None
    whole, opened, real = tensors_hash(stored), list[Path](), untrusted.opened_tensors

    def counted(path: Path) -> Any:
        opened.append(path)
        return real(path)

    monkeypatch.setattr(untrusted, "opened_tensors", counted)
    monkeypatch.setattr(untrusted, "tensors", pytest.fail)
    with in_files.files_open(stored):
        assert tensors_hash(stored) == whole
    assert len(opened) == len({*opened}) == len(PARTS)


def test_a_file_that_was_put_in_the_place_of_an_open_one_is_told(pipeline_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pipeline_folder, tmp_path / "own"))
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    stored = weights_in(folder, None, {"vae": pipe.vae})
    assert stored is not None
    first, second, *_ = stored
    [file] = (folder / "vae").glob("*.safetensors")
    with in_files.files_open(stored):
        assert stored[first].numel()
        save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, tmp_path / "other.safetensors")
        (tmp_path / "other.safetensors").replace(file)
        with pytest.raises(ModelError, match="another file than when the model was opened"):
            stored[second]
