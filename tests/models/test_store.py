"""Models are opened from folders, the Hub's cache and the package; what is untrusted or broken is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from expunge.errors import ModelError, UserError
from expunge.models import store
from expunge.models.patch import Patch
from expunge.models.sample import draw
from expunge.models.store import load, merge
from expunge.records import Request, Sampler


@pytest.fixture
def folder(pipeline_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may harm."""
    return Path(shutil.copytree(pipeline_folder, tmp_path / "pipeline"))


def pickle_part(folder: Path, part: str = "unet") -> Path:
    """Replace a part's safetensors by a pickled state dict."""
    (file,) = (folder / part).glob("*.safetensors")
    name = "pytorch_model.bin" if part == "text_encoder" else file.with_suffix(".bin").name
    torch.save(load_file(file), folder / part / name)
    file.unlink()
    return folder / part / name


def test_folder_opens_frozen_in_float32(model: Any, v_model: Any, pipeline_folder: Path) -> None:
    assert (model.name, model.world, model.process.prediction) == (str(pipeline_folder), "open", "epsilon")
    assert (v_model.world, v_model.process.prediction) == ("emoji", "v_prediction")
    assert model.latent_shape == (4, 8, 8)
    assert int(model.process.schedule.last + 1) == 1000
    assert model.dtype == torch.float32
    assert model.hash == load(pipeline_folder, device="cpu").hash
    assert len(model.hash) == 64


def test_a_relative_folder_is_not_named_like_a_hub_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent.parent)
    source = f"{folder.parent.name}/{folder.name}"
    assert load(source, device="cpu").name == f"./{source}"
    monkeypatch.chdir(folder.parent)
    assert load(folder.name, device="cpu").name == folder.name
    assert load(f"./{folder.name}", device="cpu").name == f"./{folder.name}"


def test_half_precision_on_disk_or_in_memory_keeps_the_hash_of_its_values(model: Any, folder: Path) -> None:
    in_memory = load(folder, device="cpu", dtype="bf16")
    assert in_memory.hash == model.hash
    assert in_memory.network.dtype == torch.bfloat16
    assert draw(in_memory, [("a church", 0)], Sampler(steps=2)).dtype == torch.float32
    assert in_memory.drawing != model.drawing
    half = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    half.to(torch.float16).save_pretrained(folder.parent / "half")
    on_disk = load(folder.parent / "half", device="cpu")
    assert on_disk.network.dtype == torch.float32
    assert on_disk.hash != model.hash
    assert on_disk.hash == load(folder.parent / "half", device="cpu", dtype="float16").hash


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_pickled_weights_are_refused_with_the_reason(folder: Path, part: str) -> None:
    pickle_part(folder, part)
    with pytest.raises(ModelError, match=rf"{part} .*only as \.bin.*runs code.*accepted: safetensors.*allow_pickle"):
        load(folder, device="cpu")


def test_pickled_weights_open_with_the_explicit_flag(folder: Path, model: Any) -> None:
    pickle_part(folder, "unet")
    assert load(folder, device="cpu", allow_pickle=True).hash == model.hash


def test_pickle_beside_safetensors_is_not_read(folder: Path, model: Any) -> None:
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a bomb")
    assert load(folder, device="cpu").hash == model.hash


@pytest.mark.parametrize(("suffix", "expected"), [
    (".ckpt", "single file.*runs code"), (".pt", "single file.*runs code.*from_single_file"),
    (".gguf", r"single file in \.gguf; accepted: a single \.safetensors"), (".safetensors", "cannot be read")])
def test_single_files_that_are_no_safetensors_are_refused(tmp_path: Path, suffix: str, expected: str) -> None:
    file = tmp_path / f"model{suffix}"
    file.write_bytes(b"")
    with pytest.raises(ModelError, match=expected):
        load(file, device="cpu")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_missing_weights_are_named(folder: Path, part: str) -> None:
    for file in (folder / part).glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ModelError, match=f"no weights for {part};"):
        load(folder, device="cpu")


def test_damaged_weights_are_refused(folder: Path) -> None:
    (file,) = (folder / "unet").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be read"):
        load(folder, device="cpu")


def test_what_is_no_such_pipeline_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no diffusers folder: model_index\.json is missing"):
        load(tmp_path, device="cpu")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "StableDiffusionDepth2ImgPipeline"}))
    with pytest.raises(ModelError, match=r"Depth2ImgPipeline: it needs a depth map.*StableDiffusionPipeline"):
        load(folder, device="cpu")


@pytest.mark.parametrize("source", ["./nowhere", "nowhere", "a/b/c", "/no/such/folder"])
def test_missing_folders_are_not_looked_for_on_the_hub(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_from_hub", lambda *_: pytest.fail("asked the Hub"))
    with pytest.raises(ModelError, match="no model folder at"):
        load(source, device="cpu")


def test_hub_offline_ends_in_a_clear_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"no-owner/no-model is neither a folder nor .*HF_HUB_OFFLINE"):
        load("no-owner/no-model", device="cpu")


@pytest.mark.parametrize(("name", "folder"), [("embedded", "emoji-64"), ("emoji-flow", "emoji-flow"),
                                              ("emoji-xl", "emoji-xl"), ("emoji-flux", "emoji-flux")])
def test_embedded_without_weights_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pipeline_folder: Path,
                                          name: str, folder: str) -> None:
    assert store._WEIGHTS.parts[-3:] == ("expunge", "tiny", "weights")
    monkeypatch.setattr(store, "_WEIGHTS", tmp_path)
    monkeypatch.setattr(store, "MODELS", "no_such_package")
    with pytest.raises(ModelError, match=f"weights of {folder} are not in this installation"):
        load(name, device="cpu")
    shutil.copytree(pipeline_folder, tmp_path / folder)
    assert load(name, device="cpu").name == name


def test_a_model_of_the_second_distribution_is_found_in_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                                    pipeline_folder: Path) -> None:
    package = tmp_path / "further_models"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    shutil.copytree(pipeline_folder, package / "emoji-flow")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(store, "_WEIGHTS", tmp_path / "none")
    monkeypatch.setattr(store, "MODELS", "further_models")
    assert load("emoji-flow", device="cpu").name == "emoji-flow"


def test_guidance_is_what_the_folder_says_or_that_of_stable_diffusion(folder: Path) -> None:
    assert load(folder, device="cpu").guidance == 7.5
    (folder / "expunge.json").write_text('{"guidance": 4}')
    assert load(folder, device="cpu").guidance == 4.0


@pytest.mark.parametrize("text", ["[1]", '{"world": 1}', '{"guidance": 0.5}', '{"guidance": "much"}',
                                  '{"guidance": true}'])
def test_broken_world_file_is_refused(folder: Path, text: str) -> None:
    (folder / "expunge.json").write_text(text)
    with pytest.raises(ModelError, match="a mapping such as"):
        load(folder, device="cpu")


def patch_of(model: Any) -> Patch:
    tensors = {name: parameter + 0.1 for name, parameter in model.parameters_in("all").items()}
    return Patch.of(tensors, model=model, request=Request(concept="church", prompts=("a church",)), method="esd",
                    settings={}, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_merged_folder_opens_with_plain_diffusers(v_pipeline_folder: Path, v_model: Any, tmp_path: Path,
                                                  dtype: str) -> None:
    patch, out = patch_of(v_model), tmp_path / "merged"
    assert merge(v_pipeline_folder, patch, out, dtype) == out
    assert {file.stat().st_mode & 0o777 for file in out.rglob("*") if file.is_file()} == {0o644}
    pipe = StableDiffusionPipeline.from_pretrained(out)
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a", num_inference_steps=1, output_type="np").images.shape[0] == 1
    v_model.apply(patch)
    tolerance = 0.0 if dtype == "float32" else 1e-3
    for part in ("unet", "text_encoder", "vae"):
        theirs, mine = getattr(pipe, part).state_dict(), v_model.components[part].state_dict()
        for name, value in mine.items():
            torch.testing.assert_close(theirs[name].float(), value, rtol=tolerance, atol=tolerance)
    assert load(out, device="cpu").world == "emoji"
    assert json.loads((out / "expunge-patch.json").read_text())["tensors_hash"] == patch.hash
    assert all(name.startswith("text_model.") for name in load_file(out / "text_encoder" / "model.safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]
    with pytest.raises(UserError, match="exists already"):
        merge(v_pipeline_folder, patch, out)


def test_merging_into_another_base_writes_nothing(pipeline_folder: Path, v_model: Any, folder: Path,
                                                  tmp_path: Path) -> None:
    (file,) = (folder / "unet").glob("*.safetensors")
    weights = load_file(file)
    weights["conv_in.bias"] += 1
    from safetensors.torch import save_file

    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError, match="a patch for"):
        merge(folder, patch_of(v_model), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_devices_and_number_types_are_refused(pipeline_folder: Path) -> None:
    with pytest.raises(UserError, match="unknown number type 'int8'"):
        load(pipeline_folder, dtype="int8")
    with pytest.raises(UserError, match="unknown device 'abacus'"):
        load(pipeline_folder, device="abacus")


def test_a_file_that_is_not_there_is_not_sought_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"no file at models/xl\.safetensors"):
        load("models/xl.safetensors")
