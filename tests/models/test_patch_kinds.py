"""The kinds of a patch: new values, differences, and factors of differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from expunge.errors import ModelError, UserError
from expunge.models.patch import Patch, stacked
from expunge.records import Request

REQUEST = Request(concept="church", prompts=("a church",))


def factors(model: Any, scope: str = "xattn", rank: int = 2) -> dict[str, torch.Tensor]:
    make, out = torch.Generator().manual_seed(0), {}
    for name, p in model.parameters_in(scope).items():
        if name.endswith(".weight"):
            layer = name.removesuffix(".weight")
            out[f"{layer}.lora_A.weight"] = torch.randn((rank, *p.shape[1:]), generator=make)
            out[f"{layer}.lora_B.weight"] = torch.randn((len(p), rank, *[1] * (p.ndim - 2)), generator=make)
    return out


def made(model: Any, tensors: dict[str, torch.Tensor], kind: Any, scale: float = 1.0) -> Patch:
    return Patch.of(tensors, model=model, request=REQUEST, method="m", settings={}, seed=0, kind=kind, scale=scale)


@pytest.mark.parametrize("scope", ["xattn", "unet"])
def test_three_kinds_of_one_change_make_the_same_weights_and_come_off_bit_for_bit(model: Any, scope: str, tmp_path: Path
                                                                                 ) -> None:
    lora = made(model, factors(model, scope), "lora", 0.5)
    before = {name: p.detach().clone() for name, p in model.editable().items()}
    added = made(model, {name: 2 * (lora.value(name, torch.zeros(before[name].shape))) for name in lora.weights}, "add",
                 0.5)
    replaced = made(model, {name: lora.value(name, before[name]) for name in lora.weights}, "replace")
    assert len({lora.hash, added.hash, replaced.hash}) == 3
    results = []
    for patch in (lora, added, replaced):
        again = Patch.load(patch.save(tmp_path / patch.card.kind))
        assert again.card == patch.card
        model.apply(again)
        results.append({name: p.detach().clone() for name, p in model.editable().items()})
        model.remove()
        assert all(torch.equal(p, before[name]) for name, p in model.editable().items())
    for other in results[1:]:
        assert all(torch.allclose(other[name], value, atol=1e-6) for name, value in results[0].items())
    assert lora.numel == replaced.numel == sum(before[name].numel() for name in lora.weights)


@pytest.mark.parametrize(("kind", "scale", "says"), [
    ("nope", 1.0, "kind 'nope'"), ("add", float("nan"), "scale nan"), ("add", float("inf"), "scale inf"),
    ("lora", 1.0, "both factors of every layer")])
def test_a_patch_that_could_not_be_opened_is_not_made(model: Any, kind: str, scale: float, says: str) -> None:
    plain = {name: p.detach() + 1 for name, p in model.parameters_in("xattn").items()}
    with pytest.raises(UserError, match=says):
        made(model, plain, kind, scale)
    half = {name: value for name, value in factors(model).items() if "lora_A" in name}
    with pytest.raises(UserError, match="both factors"):
        made(model, half, "lora")


def test_patches_are_compared_hashed_and_shown_by_what_they_are(model: Any, tmp_path: Path) -> None:
    patch, other = made(model, factors(model), "lora"), made(model, factors(model, rank=3), "lora")
    again = Patch.load(patch.save(tmp_path))
    assert patch == again
    assert patch != other
    assert patch != "patch"
    assert {patch: 1}[again] == 1
    assert again in [other, patch]
    assert repr(patch) == f"<Patch {patch.hash[:8]}: m of 'church', {len(patch.tensors)} tensors>"


def test_scale_and_kind_are_part_of_what_a_patch_is(model: Any) -> None:
    tensors = factors(model)
    assert len({made(model, tensors, "lora", scale).hash for scale in (1.0, 0.5)}) == 2
    plain = {name: p.detach() + 1 for name, p in model.parameters_in("xattn").items()}
    assert made(model, plain, "replace").hash != made(model, plain, "add").hash


def test_what_adds_to_weights_counts_in_a_stack(model: Any) -> None:
    lora = made(model, factors(model), "lora", 0.1)
    names = lora.weights
    first = made(model, {name: model.editable()[name].detach() * 2 for name in names[:2]}, "replace")
    stack = stacked(first, lora, model, REQUEST)
    wanted = {name: lora.value(name, first.tensors.get(name, model.editable()[name])) for name in names}
    assert stack.card.kind == "replace"
    assert {*stack.tensors} == {*names}
    assert all(torch.equal(stack.tensors[name], value) for name, value in wanted.items())


def test_half_a_pair_of_factors_and_wrong_shapes_are_refused(model: Any, tmp_path: Path) -> None:
    patch = made(model, factors(model), "lora")
    wrong = {name: value[:, :1] if name.endswith("lora_A.weight") else value for name, value in patch.tensors.items()}
    with pytest.raises(ModelError, match=r"the patch's 'unet/.*' is"):
        model.apply(made(model, wrong, "lora"))
    file = patch.save(tmp_path)
    tensors = load_file(file)
    gone = next(name for name in tensors if name.endswith("lora_B.weight"))
    card = patch.card.model_copy(update={"tensors": tuple(sorted({*tensors} - {gone}))})
    save_file({name: value for name, value in tensors.items() if name != gone}, file,
              {"format": "pt", "card": card.model_dump_json()})
    file.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match="other things than both factors of every layer"):
        Patch.load(file)
