"""What comes back is compared with what was published: every tensor that moved is named, in every form it comes in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from guard_examples import publisher
from safetensors.torch import save_file
from torch import Tensor

from expunge.errors import ModelError, UserError
from expunge.finetune import FineTune, fine_tuning
from expunge.guard import random_mask, verify
from expunge.models.lora import Lora
from expunge.models.sd import StableDiffusion
from expunge.models.store import load
from expunge.records.freezing import FreezeMask


@pytest.fixture
def mask(model: StableDiffusion) -> FreezeMask:
    return random_mask(model, 0.5, by="count")


@pytest.fixture
def returned(model: StableDiffusion, mask: FreezeMask) -> dict[str, Tensor]:
    """An honest user's UNet."""
    with fine_tuning(model, publisher(model).innocent[0], FineTune(steps=2, batch=2, rate=1e-3),
                     frozen=mask.frozen) as tuner:
        list(tuner.train())
        return {name: p.detach().clone() for name, p in model.unet.state_dict().items()}


def test_an_honest_user_moved_the_others_alone(model: StableDiffusion, mask: FreezeMask, returned: Any) -> None:
    found = verify(model, returned, mask)
    assert found.broken == found.missing == found.added == ()
    assert found.kept == found.frozen == len(mask.frozen)
    assert {one.name for one in found.moved} == set(mask.trainable)
    assert all(one.largest for one in found.moved)


def test_what_a_cheat_moved_comes_first_with_how_far(model: StableDiffusion, mask: FreezeMask, returned: Any) -> None:
    cheated = [name.removeprefix("unet/") for name in mask.frozen if name.endswith(".weight")][:2]
    for name, size in zip(cheated, (1e-6, 0.5), strict=True):
        returned[name] = returned[name] * (1 + size)
    found = verify(model, returned, mask)
    assert [one.name for one in found.moved[:2]] == [f"unet/{name}" for name in reversed(cheated)]
    assert set(found.broken) == {f"unet/{name}" for name in cheated}
    assert found.moved[0].relative == pytest.approx(0.5, rel=1e-4)
    assert found.kept == found.frozen - 2


def test_missing_added_reshaped_and_infinite_tensors_are_named(model: StableDiffusion, mask: FreezeMask, returned: Any
                                                               ) -> None:
    first, second, third = (name.removeprefix("unet/") for name in mask.frozen[:3])
    del returned[first]
    returned[second] = returned[second].reshape(-1, 1, 1, 1, 1)
    returned[third] = torch.full_like(returned[third], float("nan"))
    returned["extra"] = torch.zeros(1)
    found = verify(model, returned, mask)
    assert found.missing == found.missing_frozen == (f"unet/{first}",)
    assert found.added == ("unet/extra",)
    assert set(found.broken) == {f"unet/{name}" for name in (first, second, third)}
    assert {one.how for one in found.moved if one.name == f"unet/{second}"} == {"shape"}
    assert [one.largest for one in found.moved if one.name == f"unet/{third}"] == [None]
    assert json.loads(found.model_dump_json())["missing"] == [f"unet/{first}"]


def test_every_form_of_a_model_is_compared_alike(model: StableDiffusion, mask: FreezeMask, returned: Any,
                                                 pipeline_folder: Path, tmp_path: Path) -> None:
    other = load(pipeline_folder, device="cpu")
    other.unet.load_state_dict(returned)
    other.unet.save_pretrained(tmp_path / "pipe" / "unet", safe_serialization=True)
    other.unet.save_pretrained(tmp_path / "sharded", safe_serialization=True, max_shard_size="100KB")
    save_file(returned, tmp_path / "alone.safetensors")
    wanted = verify(model, returned, mask).moved
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    for form in (tmp_path / "pipe", tmp_path / "pipe" / "unet", tmp_path / "sharded", tmp_path / "alone.safetensors",
                 other, other.unet):
        assert verify(model, form, mask).moved == wanted, form


def test_a_smaller_number_type_is_no_cheat(model: StableDiffusion, mask: FreezeMask, returned: Any) -> None:
    half = {name: value.half() for name, value in returned.items()}
    found = verify(model, half, mask)
    assert not found.broken
    assert "float16" in found.note
    name = next(name.removeprefix("unet/") for name in mask.frozen if name.endswith("conv1.weight"))
    half[name] = half[name] * 1.01
    assert verify(model, half, mask).broken == (f"unet/{name}",)
    half[name] = torch.zeros(half[name].shape, dtype=torch.int8)
    assert verify(model, half, mask).broken == (f"unet/{name}",)


def test_a_lora_on_frozen_layers_is_found(model: StableDiffusion, mask: FreezeMask, pipeline_folder: Path,
                                          tmp_path: Path) -> None:
    published = load(pipeline_folder, device="cpu")
    for frozen, broken in ((mask.frozen, False), ((), True)):
        settings = FineTune(scope="lora", lora=Lora(rank=2), rate=1e-2, batch=2, steps=2)
        with fine_tuning(model, publisher(model).innocent[0], settings, frozen=frozen) as tuner:
            list(tuner.train())
            live = verify(published, model.unet, mask)
            folder = tmp_path / str(broken)
            tuner.save_lora(folder / "pytorch_lora_weights.safetensors")
        found = verify(model, folder, mask)
        assert found.moved == verify(model, folder / "pytorch_lora_weights.safetensors", mask).moved
        assert bool(found.broken) == bool(live.broken) == broken
        assert set(found.broken) == set(live.broken)
        assert found.moved
        assert {one.how for one in found.moved} == {"lora"}
        assert not live.added


def test_buffers_are_compared_too(model: StableDiffusion, mask: FreezeMask, returned: Any) -> None:
    model.unet.register_buffer("scale", torch.ones(2))
    assert verify(model, returned, mask).missing == ("unet/scale",)
    found = verify(model, {**returned, "scale": torch.zeros(2)}, mask)
    assert [one.name for one in found.moved if "scale" in one.name] == ["unet/scale"]


def test_what_cannot_be_compared_is_refused(model: StableDiffusion, mask: FreezeMask, pipeline_folder: Path,
                                            v_pipeline_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "unet.bin").write_bytes(b"pickle")
    (tmp_path / "damaged.safetensors").write_bytes(b"nothing")
    (tmp_path / "empty").mkdir()
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"conv_in.bias": "../damaged.safetensors"}}))
    for form, says in ((tmp_path / "unet.bin", "pickle"), (tmp_path / "damaged.safetensors", "cannot be read"),
                       (tmp_path / "empty", "no UNet"), (tmp_path / "nowhere", "nothing at"),
                       (tmp_path / "index", "outside its folder"), ({"a": torch.zeros(1)}, "none of the")):
        with pytest.raises((ModelError, UserError), match=says):
            verify(model, form, mask)
    with pytest.raises(ModelError, match="a mask for"):
        verify(load(v_pipeline_folder, device="cpu"), pipeline_folder, mask)
    with pytest.raises(UserError, match="bfloat16"):
        verify(load(pipeline_folder, device="cpu", dtype="bfloat16"), pipeline_folder, mask)
