"""Closed forms on the layer that the pooled text state enters by."""

from __future__ import annotations

import pytest
import torch

from expunge.errors import UserError
from expunge.models.model import Model, applied
from expunge.models.paths import POOLED, first_layer, left_open, pooled_states
from expunge.records import Request
from expunge.registry import METHODS
from expunge.unlearn.closed_form.method import ClosedForm
from expunge.unlearn.erase import resolve_method
from expunge.unlearn.presets.closed_form import RECE, UCE
from pipelines_of_families import built, taken

REQUEST = Request(concept="church", anchor="house", prompts=("a church",), keep=("a dog",))
LAYERS = {"sdxl": "unet/add_embedding.linear_1.weight",
          "sd3": "transformer/time_text_embed.text_embedder.linear_1.weight",
          "flux-dev": "transformer/time_text_embed.text_embedder.linear_1.weight"}


@pytest.fixture(scope="module", params=[*LAYERS])
def named(request: pytest.FixtureRequest) -> tuple[str, Model]:
    name = request.param
    return name, taken(built(name), **({} if name == "sdxl" else {"length": 24}))


def method(model: Model, whole: ClosedForm = UCE) -> ClosedForm:
    scope = {} if model.denoiser.entry == "xattn.kv" else {"scope": model.denoiser.entry}
    return whole.override({"pooled": True, "retain": None, "solver.size": 1e-3, **scope})


@pytest.mark.parametrize("whole", [UCE, RECE])
def test_the_concepts_pooled_state_is_told_as_the_anchors_and_others_as_before(named: tuple[str, Model],
                                                                               whole: ClosedForm) -> None:
    name, model = named
    patch = method(model, whole)(model, REQUEST)
    layer, width = LAYERS[name], pooled_states(model, [""]).shape[1]
    before = model.parameters_in(POOLED)[layer].detach()
    after = patch.tensors[layer]
    church, house, dog = pooled_states(model, ["church", "house", "a dog"])
    gap = lambda W, c, g: float((W[:, :width] @ c - before[:, :width] @ g).norm())
    if whole is UCE:
        assert gap(after, church, house) < 0.05 * gap(before, church, house)
    assert patch.card.losses["pooled left"][-1] < 0.3  # rounds against the edit go beyond the anchor
    assert gap(after, dog, dog) < 0.05 * gap(after, church, church)
    assert torch.equal(after[:, width:], before[:, width:])  # of Stable Diffusion XL: what reads the size
    assert {"left", "pooled left", "pooled keep"} <= {*patch.card.losses}
    assert patch.card.settings["pooled"]


def test_nothing_is_said_to_be_left_open_where_the_pooled_layer_is_edited(named: tuple[str, Model]) -> None:
    name, model = named
    patch = method(model)(model, REQUEST)
    assert left_open(model, patch.tensors) == ""
    assert "still reaches" in left_open(model, [full for full in patch.tensors if full != LAYERS[name]])
    with applied(model, patch):
        assert not model.parameters_in(POOLED)[LAYERS[name]].equal(patch.tensors[LAYERS[name]] + 1)


def test_the_layer_is_counted_and_the_rest_of_the_edit_is_what_it_was(named: tuple[str, Model]) -> None:
    name, model = named
    alone = method(model).override({"pooled": False})
    assert first_layer(model) == LAYERS[name]
    assert {*method(model).check(model, REQUEST)} - {*alone.check(model, REQUEST)} == {LAYERS[name]}
    both, without = method(model)(model, REQUEST), alone(model, REQUEST)
    assert all(both.tensors[full].equal(value) for full, value in without.tensors.items())
    assert "pooled" not in without.card.settings


def test_a_family_without_a_pooled_state_refuses(model: Model) -> None:
    with pytest.raises(UserError, match="Stable Diffusion is told no pooled text state"):
        UCE.override({"pooled": True}).check(model, REQUEST)


@pytest.mark.parametrize(("name", "edits"), [("sdxl", False), ("sd3", True), ("flux-dev", True)])
def test_uce_takes_the_pooled_layer_where_its_script_does(name: str, edits: bool) -> None:
    model = taken(built(name), **({} if name == "sdxl" else {"length": 24}))
    chosen = resolve_method("uce", {}, model)
    assert isinstance(chosen, ClosedForm)
    assert chosen.pooled is edits
    assert not getattr(resolve_method("speed", {}, model), "pooled", None)
    assert not getattr(resolve_method("uce", {"pooled": False}, model), "pooled", None)
    assert not getattr(METHODS.get("uce"), "pooled", None)
