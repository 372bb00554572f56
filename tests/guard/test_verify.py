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
from expunge.guard.mask import mask_of
from expunge.models.lora import Lora
from expunge.models.model import Model
from expunge.models.store import load
from expunge.records.freezing import FreezeMask


@pytest.fixture
def mask(model: Model) -> FreezeMask:
    return random_mask(model, 0.5, by="count")


@pytest.fixture
def returned(model: Model, mask: FreezeMask) -> dict[str, Tensor]:
    """An honest user's UNet."""
    with fine_tuning(model, publisher(model).innocent[0], FineTune(steps=2, batch=2, learning_rate=1e-3),
                     frozen=mask.frozen) as tuner:
        list(tuner.train())
        return {name: p.detach().clone() for name, p in model.network.state_dict().items()}


def test_an_honest_user_moved_the_others_alone(model: Model, mask: FreezeMask, returned: Any) -> None:
    found = verify(model, returned, mask)
    assert found.broken == found.missing == found.added == ()
    assert found.kept == found.frozen == len(mask.frozen)
    assert {one.name for one in found.moved} == set(mask.trainable)
    assert all(one.largest for one in found.moved)


def test_what_a_cheat_moved_comes_first_with_how_far(model: Model, mask: FreezeMask, returned: Any) -> None:
    cheated = [name.removeprefix("unet/") for name in mask.frozen if name.endswith(".weight")][:2]
    for name, size in zip(cheated, (1e-6, 0.5), strict=True):
        returned[name] = returned[name] * (1 + size)
    found = verify(model, returned, mask)
    assert [one.name for one in found.moved[:2]] == [f"unet/{name}" for name in reversed(cheated)]
    assert set(found.broken) == {f"unet/{name}" for name in cheated}
    assert found.moved[0].relative == pytest.approx(0.5, rel=1e-4)
    assert found.kept == found.frozen - 2


def test_missing_added_reshaped_and_infinite_tensors_are_named(model: Model, mask: FreezeMask, returned: Any
                                                               ) -> None:
    first, second, third = (name.removeprefix("unet/") for name in mask.frozen[:3])
    del returned[first]
    returned[second] = returned[second].reshape(-1, 1, 1, 1, 1)
    returned[third] = torch.full_like(returned[third], float("nan"))
    returned["extra"] = torch.zeros(1)
    found = verify(model, returned, mask)
    assert found.missing == found.missing_frozen == (f"unet/{first}",)
    assert found.added == ("unet/extra",)
    assert set(found.broken) == {f"unet/{name}" for name in (first, second, third, "extra")}
    assert found.kept == found.frozen - 3
    assert {one.how for one in found.moved if one.name == f"unet/{second}"} == {"shape"}
    assert [one.largest for one in found.moved if one.name == f"unet/{third}"] == [None]
    assert json.loads(found.model_dump_json())["missing"] == [f"unet/{first}"]


def test_every_form_of_a_model_is_compared_alike(model: Model, mask: FreezeMask, returned: Any,
                                                 pipeline_folder: Path, tmp_path: Path) -> None:
    other = load(pipeline_folder, device="cpu")
    other.network.load_state_dict(returned)
    other.network.save_pretrained(tmp_path / "pipe" / "unet", safe_serialization=True)
    other.network.save_pretrained(tmp_path / "sharded", safe_serialization=True, max_shard_size="100KB")
    save_file(returned, tmp_path / "alone.safetensors")
    wanted = verify(model, returned, mask).moved
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    for form in (tmp_path / "pipe", tmp_path / "pipe" / "unet", tmp_path / "sharded", tmp_path / "alone.safetensors",
                 other, other.network):
        assert verify(model, form, mask).moved == wanted, form


def test_a_smaller_number_type_is_no_cheat(model: Model, mask: FreezeMask, returned: Any) -> None:
    half = {name: value.half() for name, value in returned.items()}
    found = verify(model, half, mask)
    assert not found.broken
    assert "float16" in found.note
    name = next(name.removeprefix("unet/") for name in mask.frozen if name.endswith("conv1.weight"))
    half[name] = half[name] * 1.01
    assert verify(model, half, mask).broken == (f"unet/{name}",)
    half[name] = torch.zeros(half[name].shape, dtype=torch.int8)
    assert verify(model, half, mask).broken == (f"unet/{name}",)
    assert "but for int8: unet/" + name in verify(model, half, mask).note


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e8m0fnu, torch.uint8, torch.complex64])
def test_types_in_which_a_moved_tensor_can_hide_are_a_breach(model: Model, mask: FreezeMask, returned: Any,
                                                             kind: torch.dtype) -> None:
    for name in (mask.frozen[0], mask.trainable[0]):
        bare = name.removeprefix("unet/")
        found = verify(model, {**returned, bare: returned[bare].to(kind)}, mask)
        assert found.broken == (name,)
        assert [one.how for one in found.moved if one.name == name] == ["type"]


def cheat(mask: FreezeMask, returned: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The frozen tensors moved, and their names."""
    held = [name.removeprefix("unet/") for name in mask.frozen]
    return {name: value + 1 if name in held else value for name, value in returned.items()}, held


@pytest.mark.parametrize("decoy", ["unet.{}", "unet/{}", "module.{}"])
def test_a_decoy_under_another_spelling_hides_nothing(model: Model, mask: FreezeMask, returned: Any,
                                                      decoy: str) -> None:
    moved, held = cheat(mask, returned)
    found = verify(model, {**moved, **{decoy.format(name): returned[name] for name in held}}, mask)
    assert set(mask.frozen) <= set(found.broken)
    assert found.added
    whole = {decoy.format(name): value for name, value in returned.items()}
    assert not verify(model, whole, mask).broken, "a prefix that all names carry is a spelling"


def test_two_names_of_one_tensor_are_refused(model: Model, mask: FreezeMask, returned: Any) -> None:
    moved, held = cheat(mask, returned)
    layer, _, leaf = held[0].rpartition(".")
    for part in ("base_layer", "original_module"):
        with pytest.raises(ModelError, match="names of one tensor"):
            verify(model, {**moved, f"{layer}.{part}.{leaf}": returned[held[0]]}, mask)


def sharded(folder: Path, shards: dict[str, dict[str, Tensor]], places: Any = None) -> Path:
    folder.mkdir()
    for name, tensors in shards.items():
        save_file(tensors, folder / name)
    told = {name: file for file, tensors in shards.items() for name in tensors} if places is None else places
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": told}))
    return folder


def test_a_decoy_in_another_shard_hides_nothing(model: Model, mask: FreezeMask, returned: Any, tmp_path: Path
                                                ) -> None:
    moved, held = cheat(mask, returned)
    spelt = sharded(tmp_path / "a", {"1.safetensors": moved, "2.safetensors": {
        f"unet.{name}": returned[name] for name in held}})
    assert set(mask.frozen) <= set(verify(model, spelt, mask).broken)
    same = {"1.safetensors": moved, "2.safetensors": {name: returned[name] for name in held}}
    with pytest.raises(ModelError, match=r"is in 1\.safetensors and in 2\.safetensors"):
        verify(model, sharded(tmp_path / "b", same), mask)
    parts = {"1.safetensors": {held[0]: returned[held[0]]}, "2.safetensors": {held[1]: returned[held[1]]}}
    for number, places in enumerate(({held[0]: "2.safetensors", held[1]: "1.safetensors"},
                                     {held[0]: "1.safetensors", held[1]: "2.safetensors", "more": "1.safetensors"})):
        with pytest.raises(ModelError, match="the index and its files differ"):
            verify(model, sharded(tmp_path / str(number), parts, places), mask)


@pytest.mark.parametrize("beside", [
    "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.bin", "unet/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors.index.json", "unet/other.safetensors", "unet/deep/x.safetensors",
    "pytorch_lora_weights.safetensors", "v1.safetensors", "v1.ckpt", "unet_ema/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.bin.index.json"])
def test_weights_beside_those_that_are_compared_are_refused(model: Model, mask: FreezeMask, returned: Any,
                                                            tmp_path: Path, beside: str) -> None:
    (tmp_path / "unet").mkdir()
    save_file(returned, tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    (tmp_path / "vae").mkdir()
    save_file({"x": torch.zeros(1)}, tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    (tmp_path / "model_index.json").write_text("{}")
    assert not verify(model, tmp_path, mask).broken
    other = tmp_path / beside
    other.parent.mkdir(exist_ok=True)
    if beside.endswith(".safetensors"):
        save_file({"conv_in.bias": torch.zeros(1)}, other)
    else:
        other.write_text(json.dumps({"weight_map": {"conv_in.bias": "other.safetensors"}}))
    with pytest.raises(ModelError, match=other.name):
        verify(model, tmp_path, mask)


def test_added_modules_and_another_architecture_are_a_breach(model: Model, returned: Any, tmp_path: Path
                                                             ) -> None:
    nothing = random_mask(model, 0.0)
    save_file(returned, tmp_path / "diffusion_pytorch_model.safetensors")
    config = json.loads(json.dumps(dict(model.network.config)))
    (tmp_path / "config.json").write_text(json.dumps({**config, "sample_size": 99, "_name_or_path": "elsewhere"}))
    assert not verify(model, tmp_path, nothing).broken
    (tmp_path / "config.json").write_text(json.dumps({**config, "encoder_hid_dim": 32, "act_fn": "gelu"}))
    found = verify(model, tmp_path, nothing)
    assert found.differs == found.broken
    assert {line.split()[1] for line in found.differs} == {"act_fn:", "encoder_hid_dim:"}
    save_file({**returned, "encoder_hid_proj.weight": torch.zeros(2, 2)},
              tmp_path / "diffusion_pytorch_model.safetensors")
    assert verify(model, tmp_path, nothing).broken[0] == "unet/encoder_hid_proj.weight"


def test_adapters_among_a_unet_s_tensors_are_found_in_every_form(model: Model, mask: FreezeMask,
                                                                 returned: Any, tmp_path: Path) -> None:
    held = next(name for name in mask.frozen if name.endswith(("to_q.weight", "to_k.weight")))
    layer = held.removeprefix("unet/").removesuffix(".weight")
    for number, part in enumerate(("lora_A.default.weight", "fourierft_spectrum.default", "brand_new")):
        tensors = {**returned, f"{layer}.{part}": torch.ones(2, 32)}
        folder = tmp_path / str(number)
        folder.mkdir()
        save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
        for form in (tensors, folder, folder / "diffusion_pytorch_model.safetensors"):
            found = verify(model, form, mask)
            assert held in found.broken, (part, form)
            assert not found.added


def test_a_bias_s_adapter_is_on_the_bias(model: Model) -> None:
    bias = next(name for name in random_mask(model, 1.0).frozen if name.endswith("to_out.0.bias"))
    held, layer = mask_of(model, [bias], method="test", ratio=0.0), bias.removeprefix("unet/").removesuffix(".bias")
    returned = {name: p.detach() for name, p in model.network.named_parameters()}
    plain = {f"{layer}.lora_A.x.weight": torch.ones(2, 2), f"{layer}.lora_B.x.weight": torch.ones(2, 2)}
    assert verify(model, {**returned, **plain}, held).broken == ()
    assert verify(model, {**returned, **plain, f"{layer}.lora_B.x.bias": torch.ones(2)}, held).broken == (bias,)


def test_a_tensor_that_breaks_the_policy_twice_is_counted_once(model: Model, mask: FreezeMask, returned: Any
                                                               ) -> None:
    held = next(name for name in mask.frozen if name.endswith(("to_q.weight", "to_k.weight")))
    bare = held.removeprefix("unet/")
    tensors = {**returned, bare: returned[bare] + 1, bare.replace("weight", "lora_A.weight"): torch.ones(2, 2)}
    found = verify(model, tensors, mask)
    assert found.broken == (held,)
    assert found.kept == found.frozen - 1


def test_a_published_model_that_moved_in_memory_is_refused(model: Model, mask: FreezeMask, returned: Any
                                                           ) -> None:
    with torch.no_grad():
        model.parameters_of("denoiser")[mask.frozen[0]].add_(1)
    with pytest.raises(ModelError, match="not as it was published: 1 frozen"):
        verify(model, returned, mask)


@pytest.mark.parametrize("text", ["[1]", '{"weight_map": ["a"]}', '{"weight_map": {"a": 1}}', "{}",
                                  '{"weight_map": {}}', '{"weight_map": {"a": ".."}}', '{"weight_map": {"a": ""}}',
                                  "[" * 100_000, "\ud800", '{"weight_map": {"a": "nowhere.safetensors"}}'])
def test_an_index_of_another_shape_is_refused(model: Model, mask: FreezeMask, tmp_path: Path, text: str
                                              ) -> None:
    file = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ModelError):
        verify(model, tmp_path, mask)


def test_a_lora_on_frozen_layers_is_found(model: Model, mask: FreezeMask, pipeline_folder: Path,
                                          tmp_path: Path) -> None:
    published = load(pipeline_folder, device="cpu")
    for frozen, broken in ((mask.frozen, False), ((), True)):
        settings = FineTune(scope="lora", lora=Lora(rank=2), learning_rate=1e-2, batch=2, steps=2)
        with fine_tuning(model, publisher(model).innocent[0], settings, frozen=frozen) as tuner:
            list(tuner.train())
            live = verify(published, model.network, mask)
            folder = tmp_path / str(broken)
            tuner.save_lora(folder / "pytorch_lora_weights.safetensors")
        found = verify(model, folder, mask)
        assert found.moved == verify(model, folder / "pytorch_lora_weights.safetensors", mask).moved
        assert bool(found.broken) == bool(live.broken) == broken
        assert set(found.broken) == set(live.broken)
        assert found.moved
        assert {one.how for one in found.moved} == {"lora"}
        assert not live.added


def test_buffers_are_compared_too(model: Model, mask: FreezeMask, returned: Any) -> None:
    model.network.register_buffer("scale", torch.ones(2))
    assert verify(model, returned, mask).missing == ("unet/scale",)
    found = verify(model, {**returned, "scale": torch.zeros(2)}, mask)
    assert [one.name for one in found.moved if "scale" in one.name] == ["unet/scale"]


def test_what_cannot_be_compared_is_refused(model: Model, mask: FreezeMask, pipeline_folder: Path,
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
