"""Models that have an edit in their weights, and patches that stand for two edits one after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from expunge.errors import ModelError, UserError
from expunge.models.model import applied
from expunge.models.patch import Patch, stacked
from expunge.models.scope import full_names
from expunge.models.store import load
from expunge.records import Request

CHURCH, BOTH = (Request(concept=name, prompts=(f"a {name}",)) for name in ("church", "church and house"))


def shifted(model: Any, scope: str, by: float, request: Request = CHURCH) -> Patch:
    return Patch.of({name: p + by for name, p in model.parameters_in(scope).items()}, model=model, request=request,
                    method="esd", settings={}, seed=0)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for part in ("unet", "text_encoder")
            for name, p in full_names(part, model.components[part]).items()}


def test_an_edited_model_has_the_patch_in_its_weights_and_another_hash(model: Any) -> None:
    patch, before = shifted(model, "xattn.kv", 0.5), weights(model)
    twin = model.edited(patch)
    with applied(model, patch):
        assert all(torch.equal(value, weights(twin)[name]) for name, value in weights(model).items())
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())
    assert twin.hash != model.hash
    assert twin.encoder_hash == model.encoder_hash
    assert (twin.patch_hash, twin.process.description) == ("", model.process.description)
    with pytest.raises(ModelError, match="a patch for"):
        twin.apply(patch)  # made for the original


def test_without_a_patch_it_is_an_equal_model_of_its_own(model: Any) -> None:
    twin = model.edited(None)
    assert twin.hash == model.hash
    next(iter(twin.parameters_in("xattn.kv").values())).data.add_(1.0)
    assert any(not torch.equal(value, weights(twin)[name]) for name, value in weights(model).items())


def test_two_patches_on_top_of_each_other_are_one_of_the_original(model: Any) -> None:
    first = shifted(model, "xattn.kv", 0.5)
    last = model.edited(first)
    second = shifted(last, "text", 0.25)
    both = stacked(first, second, model, BOTH)
    assert (both.card.base_hash, both.card.request) == (model.hash, BOTH)
    assert both.tensors.keys() == first.tensors.keys() | second.tensors.keys()
    twice = last.edited(second)
    with applied(model, both):
        assert all(torch.equal(value, weights(twice)[name]) for name, value in weights(model).items())


def test_where_both_change_a_tensor_the_second_holds(model: Any) -> None:
    first = shifted(model, "xattn.kv", 0.5)
    again = shifted(model.edited(first), "xattn.kv", 0.25)
    both = stacked(first, again, model, BOTH)
    name, value = next(iter(both.tensors.items()))
    torch.testing.assert_close(value, weights(model)[name] + 0.75)
    alone = stacked(None, first, model, CHURCH)
    assert alone.hash == first.hash


def test_what_does_not_fit_is_refused(model: Any, v_model: Any, pipeline_folder: Any) -> None:
    patch = shifted(model, "xattn.kv", 0.5)
    with pytest.raises(ModelError, match="a patch for"):
        v_model.edited(patch)
    with pytest.raises(ModelError, match="a patch for"):
        stacked(patch, patch, v_model, BOTH)
    with applied(model, patch), pytest.raises(UserError, match="has a patch on"):
        model.edited(None)
    with pytest.raises(UserError, match=r"accepted: torch\.float32"):
        load(pipeline_folder, device="cpu", dtype="bfloat16").edited(None)
