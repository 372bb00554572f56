"""The folders that people have: half precision under names of its own, alone, beside the plain one, or in a part."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from expunge.errors import ModelError, UserError
from expunge.models.patch import Patch
from expunge.models.store import load, merge
from expunge.records import Request

PARTS = ("unet", "vae", "text_encoder")


@pytest.fixture(scope="module")
def half_folder(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the variant fp16 and nothing else."""
    out = tmp_path_factory.mktemp("half") / "pipeline"
    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder, safety_checker=None).to(torch.float16)
    pipe.save_pretrained(out, variant="fp16")
    return out


@pytest.fixture
def both(pipeline_folder: Path, half_folder: Path, tmp_path: Path) -> Path:
    """A folder with plain weights and the variant fp16 beside them."""
    out = Path(shutil.copytree(pipeline_folder, tmp_path / "both"))
    for part in PARTS:
        for file in (half_folder / part).glob("*.fp16.safetensors"):
            shutil.copyfile(file, out / part / file.name)
    return out


def patch_of(model: Any) -> Patch:
    tensors = {name: parameter + 0.1 for name, parameter in model.parameters_in("xattn").items()}
    return Patch.of(tensors, model=model, request=Request(concept="church", prompts=("a church",)), method="esd",
                    settings={}, seed=0)


def test_the_only_variant_is_found_by_itself(half_folder: Path, model: Any) -> None:
    found, named = load(half_folder, device="cpu"), load(half_folder, device="cpu", variant="fp16")
    assert found.hash == named.hash != model.hash
    assert found.dtype == torch.float32
    assert found.rounded("float16") == model.rounded("float16")


def test_plain_weights_win_where_nobody_asks_and_the_variant_where_somebody_does(both: Path, model: Any,
                                                                                half_folder: Path) -> None:
    assert load(both, device="cpu").hash == model.hash
    assert load(both, device="cpu", variant="fp16").hash == load(half_folder, device="cpu").hash


def test_a_part_without_the_variant_takes_its_plain_weights(both: Path, model: Any) -> None:
    for file in (both / "vae").glob("*.fp16.*"):
        file.unlink()
    for file in (both / "unet").glob("diffusion_pytorch_model.safetensors"):
        file.unlink()
    mixed = load(both, device="cpu")
    assert mixed.rounded("float16") == model.rounded("float16")
    assert torch.equal(next(mixed.components["vae"].parameters()), next(model.components["vae"].parameters()))
    assert not torch.equal(next(mixed.network.parameters()), next(model.network.parameters()))


def test_unknown_and_several_variants_are_named(both: Path, half_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no variant 'ema'; accepted: fp16"):
        load(both, device="cpu", variant="ema")
    two = Path(shutil.copytree(half_folder, tmp_path / "two"))
    for part in PARTS:
        for file in (two / part).glob("*.fp16.safetensors"):
            shutil.copyfile(file, file.with_name(file.name.replace(".fp16.", ".ema.")))
    with pytest.raises(UserError, match=r"only in variants \(ema, fp16\); accepted: one of them: ema, fp16;"):
        load(two, device="cpu")
    assert load(two, device="cpu", variant="ema").hash == load(half_folder, device="cpu").hash


def test_shards_of_a_variant_are_found(half_folder: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(half_folder, tmp_path / "sharded"))
    pipe = StableDiffusionPipeline.from_pretrained(half_folder, variant="fp16", safety_checker=None,
                                                   torch_dtype=torch.float16)
    shutil.rmtree(out / "unet")
    pipe.unet.save_pretrained(out / "unet", variant="fp16", max_shard_size="200KB")
    assert len(list((out / "unet").glob("*.safetensors"))) > 1
    assert load(out, device="cpu").hash == load(half_folder, device="cpu").hash


@pytest.mark.parametrize("part", PARTS)
def test_files_that_lack_a_tensor_are_refused_and_not_filled_with_random_numbers(half_folder: Path, tmp_path: Path,
                                                                                part: str) -> None:
    out = Path(shutil.copytree(half_folder, tmp_path / "cut"))
    (file,) = (out / part).glob("*.safetensors")
    weights = load_file(file)
    del weights[sorted(weights)[3]]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError, match=rf"the weights of {part} in .* is not there"):
        load(out, device="cpu")


@pytest.mark.parametrize("part", PARTS)
def test_weights_that_no_network_computes_with_are_refused_and_not_cast(half_folder: Path, tmp_path: Path,
                                                                       part: str) -> None:
    out = Path(shutil.copytree(half_folder, tmp_path / "whole"))
    (file,) = (out / part).glob("*.safetensors")
    name = next(name for name in load_file(file) if name.endswith(".weight"))
    weights = load_file(file)
    save_file({**weights, name: weights[name].long()}, file, {"format": "pt"})
    with pytest.raises(ModelError, match=rf"{file.name}: .*{name}' is in I64, as no weights are"):
        load(out, device="cpu")
    save_file({}, file, {"format": "pt"})
    with pytest.raises(ModelError, match=f"{file.name}: no tensors are in it"):
        load(out, device="cpu")


@pytest.mark.parametrize("wrong", [{"num_train_timesteps": 2**31}, {"num_train_timesteps": True},
                                   {"trained_betas": [0.1] * 100_001}], ids=["many", "no number", "a long list"])
def test_a_schedule_without_end_is_refused_before_it_is_made(half_folder: Path, tmp_path: Path,
                                                            wrong: dict[str, Any]) -> None:
    out = Path(shutil.copytree(half_folder, tmp_path / "whole"))
    file = out / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **wrong}))
    with pytest.raises(ModelError, match=rf"scheduler_config.json has .*{next(iter(wrong))}"):
        load(out, device="cpu")


@pytest.mark.parametrize("length", ["", True, -1, 2, -1e308])
def test_a_tokenizer_without_a_length_is_refused(half_folder: Path, tmp_path: Path, length: Any) -> None:
    out = Path(shutil.copytree(half_folder, tmp_path / "whole"))
    file = out / "tokenizer" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": length}))
    with pytest.raises(ModelError, match=rf"{out}: a tokenizer "):
        load(out, device="cpu")


def test_a_word_behind_all_that_the_encoder_knows_is_refused(half_folder: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(half_folder, tmp_path / "whole"))
    file = out / "tokenizer" / "tokenizer.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    values["model"]["vocab"]["a"] = 2**31
    file.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ModelError, match="a word of number 2147483648"):
        load(out, device="cpu")


@pytest.mark.slow
def test_patch_of_the_plain_files_goes_on_the_variant_and_is_merged_into_it(model: Any, half_folder: Path,
                                                                           tmp_path: Path) -> None:
    patch = patch_of(model)
    load(half_folder, device="cpu").apply(patch)
    out = merge(half_folder, patch, tmp_path / "merged")
    assert StableDiffusionPipeline.from_pretrained(out, safety_checker=None).unet is not None


def test_a_patch_that_does_not_tell_of_rounding_is_refused_on_the_variant(model: Any, half_folder: Path) -> None:
    patch = patch_of(model)
    old = Patch(patch.tensors, patch.card.model_copy(update={"base_rounded": {}}))
    with pytest.raises(ModelError, match="a patch for"):
        load(half_folder, device="cpu").apply(old)
