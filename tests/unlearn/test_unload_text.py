"""Text encoders leave while a denoiser trains; the patch is the same, and what a dry run says of memory follows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from test_recipe import REQUEST, SMALL

from expunge.errors import ConfigError, UserError
from expunge.models.model import Model
from expunge.models.store import load
from expunge.unlearn.erase import plan, resolve_method
from expunge.unlearn.recipe import LORA_RATE, Recipe

LOW = SMALL.override({"lora_rank": 2})


@pytest.fixture
def loaded(pipeline_folder: Path) -> Model:
    return load(pipeline_folder, device="cpu")


def largest_gap(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [SMALL, LOW], ids=["whole weights", "LoRA"])
def test_an_edit_without_the_text_encoders_in_memory_is_the_edit_with_them(
        loaded: Model, pipeline_folder: Path, recipe: Recipe) -> None:
    seen = list[bool]()

    def look(done: int, total: int, losses: Any) -> None:
        if losses:
            seen.append(any(p.is_meta for p in loaded.denoiser.components["text_encoder"].parameters()))

    plain = recipe(loaded, REQUEST)
    free = recipe.override({"unload_text": True})(loaded, REQUEST, progress=look)
    assert seen == [True] * recipe.steps
    apart = recipe(load(pipeline_folder, device="cpu", offload=True), REQUEST)
    assert largest_gap(plain.tensors, free.tensors) < 1e-5
    assert largest_gap(plain.tensors, apart.tensors) < 1e-4
    assert not loaded.encode(["a church"]).states.is_meta


def test_small_text_encoders_stay_and_nothing_is_said_of_it(loaded: Model) -> None:
    assert "unload_text" not in SMALL(loaded, REQUEST).card.settings
    assert not SMALL._unloads(loaded, SMALL.check(loaded, REQUEST))


def test_large_text_encoders_leave_by_themselves(loaded: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("expunge.unlearn.recipe.LARGE", 1)
    assert SMALL._unloads(loaded, SMALL.check(loaded, REQUEST))
    assert not SMALL.override({"unload_text": False})._unloads(loaded, SMALL.check(loaded, REQUEST))


def test_text_encoders_that_steps_ask_are_not_unloaded(loaded: Model) -> None:
    with pytest.raises(ConfigError, match="asks the text encoders in every step"):
        SMALL.override({"unload_text": True, "scope": "text"}).check(loaded, REQUEST)
    against = resolve_method("advunlearn-unet-fast", {"unload_text": True})
    assert isinstance(against, Recipe)
    with pytest.raises(ConfigError, match="asks the text encoders in every step"):
        against.check(loaded, REQUEST)


@pytest.mark.slow
def test_what_is_said_of_memory_follows_what_is_there(loaded: Model, pipeline_folder: Path) -> None:
    apart, free = load(pipeline_folder, device="cpu", offload=True), SMALL.override({"unload_text": True})
    names = tuple(loaded.names_in("xattn"))
    all_in, without, one = (recipe.footprint(model, names) for recipe, model in
                            ((SMALL, loaded), (free, loaded), (SMALL, apart)))
    denoiser, text, vae = (sum(loaded.sizes_of(role).values()) for role in ("denoiser", "text", "autoencoder"))
    assert all_in.parts["weights"] == denoiser + text + vae == all_in.phases["opening"]
    assert without.parts["weights"] == denoiser + vae
    assert one.parts["weights"] == denoiser
    assert one.phases["opening"] == 0
    assert one.phases["encoding prompts"] == text
    for each in (all_in, without, one):
        assert each.phases["training"] == sum(each.parts.values())
        assert each.peak == max(each.phases.values())
    assert all_in.beyond == sum(all_in.parts.values()) - all_in.parts["weights"]
    planned = plan(apart, REQUEST, LOW)
    assert planned["phases"]["training"] == sum(planned["memory"].values())


def test_a_rank_that_no_layer_has_is_refused(loaded: Model) -> None:
    with pytest.raises(UserError, match=r"a LoRA of rank 1000 on layers of rank \d+ at most; accepted: 1 to \d+"):
        SMALL.override({"lora_rank": 1000}).check(loaded, REQUEST)


def test_the_card_of_a_lora_tells_its_rate_also_where_nobody_chose_it() -> None:
    assert LOW.model_dump(mode="json")["lora_rate"] == LORA_RATE
    assert Recipe.build(LOW.model_dump(mode="json")).model_dump() == LOW.model_dump()
    assert "lora_rate" not in SMALL.model_dump(mode="json")


def test_an_unknown_number_type_is_told_with_all_that_are_known(pipeline_folder: Path) -> None:
    with pytest.raises(UserError, match=r"unknown number type 'int8'; accepted: .*auto; .*--eight-bit"):
        load(pipeline_folder, device="cpu", dtype="int8")
