"""Networks leave memory and come back bit for bit; a model of which only one kind is in memory is the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from expunge.errors import UserError
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.models.store import load
from expunge.records import Request
from pipelines_of_families import built

REQUEST = Request(concept="church", prompts=("a church",))


@pytest.fixture(scope="module")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its T5 holds one table under two names."""
    folder = tmp_path_factory.mktemp("flux") / "flux"
    built("flux-dev").save_pretrained(folder)
    return folder


def opened(folder: Path, **how: Any) -> Model:
    return load(folder, device="cpu", **how)


def values(model: Model) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.parameters_of("denoiser", "text", "autoencoder").items()}


def there(model: Model) -> set[str]:
    return {name for name, part in model.denoiser.components.items() if not any(p.is_meta for p in part.parameters())}


def answer(model: Model) -> Tensor:
    with torch.no_grad():
        return model.predict(model.initial_noise([1]), torch.tensor([0.5]), model.encode(["a church"]))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_parts_that_left_come_back_bit_for_bit_and_share_what_they_shared(flux_folder: Path, dtype: str) -> None:
    model = opened(flux_folder, dtype=dtype)
    before, whole = values(model), model.in_memory
    for role in ("text", "autoencoder", "denoiser"):
        model._networks.residence.dismiss(role)
    assert model.in_memory == 0
    after = values(model)
    assert model.in_memory == whole
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) and after[name].dtype == before[name].dtype for name in before)
    t5: Any = model.components["text_encoder_2"]
    assert t5.shared.weight is t5.encoder.embed_tokens.weight


def test_a_model_that_is_offloaded_is_the_same_model_with_one_kind_of_network_in_memory(pipeline_folder: Path) -> None:
    whole, apart = opened(pipeline_folder), opened(pipeline_folder, offload=True)
    assert (apart.hash, apart.parts, apart.drawing) == (whole.hash, whole.parts, whole.drawing)
    assert apart.in_memory == 0
    apart.encode(["a church"])
    assert there(apart) == {"text_encoder"}
    assert (answer(apart) - answer(whole)).abs().max() < 1e-5
    assert there(apart) == {"unet"}
    z = whole.initial_noise([0])
    assert (apart.decode(z) - whole.decode(z)).abs().max() < 1e-5
    assert there(apart) == {"vae"}
    assert values(apart).keys() == values(whole).keys()
    assert there(apart) == {"unet", "text_encoder", "vae"}


def test_a_patch_stays_on_while_its_network_leaves_and_comes_off_bit_for_bit(pipeline_folder: Path) -> None:
    model, whole = opened(pipeline_folder, offload=True), opened(pipeline_folder)
    tensors = {name: p + 1 for name, p in whole.parameters_in("xattn").items()}
    patch = Patch.of(tensors, model=whole, request=REQUEST, method="by hand", settings={}, seed=0)
    before = answer(model)
    model.apply(patch)
    whole.apply(patch)
    changed = answer(model)
    assert there(model) == {"unet"}
    model.encode(["a house"])
    assert "unet" not in there(model)
    assert torch.equal(answer(model), changed)
    assert (changed - answer(whole)).abs().max() < 1e-4 * changed.abs().max()
    model.encode(["a house"])
    model.remove()
    assert torch.equal(answer(model), before)


def test_what_was_changed_in_place_stays_and_the_rest_of_its_network_leaves(pipeline_folder: Path) -> None:
    model = opened(pipeline_folder, offload=True)
    weights = model.parameters_in("xattn")
    with torch.no_grad():
        for p in weights.values():
            p.mul_(1.5)
    changed = answer(model)
    model.encode(["a house"])
    assert "unet" not in there(model)
    assert torch.equal(answer(model), changed)
    assert all(model.parameters_in("xattn")[name] is p for name, p in weights.items())
    plain = opened(pipeline_folder)
    with torch.no_grad():
        for p in plain.parameters_in("text").values():
            p.add_(0.1)
    said = plain.encode(["a house"]).states
    with plain.told(["a church"]):
        pass
    assert torch.equal(plain.encode(["a house"]).states, said)


def test_weights_leave_again_once_a_patch_is_off(pipeline_folder: Path) -> None:
    model = opened(pipeline_folder, offload=True)
    patch = Patch.of({name: p + 1 for name, p in model.parameters_in("xattn").items()}, model=model, request=REQUEST,
                     method="by hand", settings={}, seed=0)
    model.apply(patch)
    model.encode(["a house"])
    with_patch = model.in_memory
    model.remove()
    answer(model)
    model.encode(["a house"])
    assert model.in_memory < with_patch
    assert model.in_memory == sum(model.sizes_of("text").values())


def test_prompts_are_encoded_once_and_the_text_encoders_are_in_memory_for_new_ones_alone(pipeline_folder: Path) -> None:
    model, asked = opened(pipeline_folder), []
    model.components["text_encoder"].register_forward_pre_hook(lambda *given: asked.append(1))
    fresh = model.encode(["a house"])
    with model.told(["a church", "a house", "a church"]):
        assert len(asked) == 3
        assert there(model) == {"unet", "vae"}
        held = model.in_memory
        again = model.encode(["a house", "a church", "a house"])
        assert len(asked) == 3
        assert all(torch.equal(again.at(slice(0, 1)).rows[name], fresh.rows[name]) for name in fresh.rows)
        for number in range(5):
            model.encode([f"a house {number}"])
            assert model.in_memory == held
        assert len(asked) == 8
    assert torch.equal(model.encode(["a house"]).states, fresh.states)
    assert "text_encoder" in there(model)


def test_what_was_said_of_a_prompt_is_forgotten_when_the_text_encoder_may_change(pipeline_folder: Path) -> None:
    model = opened(pipeline_folder)
    with model.told(["a church"]):
        before = model.encode(["a church"]).states
    with torch.no_grad():
        for p in model.parameters_in("text").values():
            p.add_(0.1)
    with model.told(["a church"]):
        assert model._told is not None
        after = model._told.by_text["a church"].states
    assert before.shape == after.shape
    assert model._told is None


def test_whoever_encodes_free_embeddings_keeps_what_gradients_go_through(pipeline_folder: Path) -> None:
    model = opened(pipeline_folder, offload=True)
    encoder = model.texts[0]
    tokens = encoder.laid_out(["a church"])
    model.encode_embedded(["a church"], tokens, encoder.table[tokens.ids])
    answer(model)
    assert {"unet", "text_encoder"} <= there(model)
    with model.told(["a church"]):  # nothing of the kind comes here
        assert "text_encoder" not in there(model)


def test_a_copy_of_an_offloaded_model_has_everything_in_memory(pipeline_folder: Path) -> None:
    model = opened(pipeline_folder, offload=True)
    twin = model.frozen_copy()
    assert there(model) == there(twin) == {"unet", "text_encoder", "vae"}
    assert (answer(twin) - answer(model)).abs().max() < 1e-5
    assert there(twin) == {"unet", "text_encoder", "vae"}


def test_weights_that_no_folder_has_cannot_leave_a_processor(pipeline_folder: Path, tmp_path: Path) -> None:
    from expunge.models.lora import Lora, save_lora, with_lora

    plain = opened(pipeline_folder)
    with with_lora(plain, Lora(rank=2)) as params:
        for p in params.values():
            p.data = p.data + 0.1
        lora = save_lora(tmp_path / "style.safetensors", params, Lora(rank=2))
    for how in ({"offload": True}, {"eight_bit": True}):
        with pytest.raises(UserError, match="in no folder"):
            opened(pipeline_folder, lora=[str(lora)], **how)
    model = opened(pipeline_folder, lora=[str(lora)])
    assert not model.can_leave
    with model.told(["a church"]):  # encoded once all the same
        assert there(model) == {"unet", "text_encoder", "vae"}
