"""An edit that looks at itself tells a concept that is still there from one that is gone, with a judge and without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import expunge
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.records import Request, Target
from expunge.tiny.emoji import emoji_world
from expunge.unlearn.look import MOST, PICTURES, look

REQUEST = Request(concept="church", prompts=("a photo of a church", "a church"), anchor="house")


def untouched(model: Any, request: Request, losses: Any = None) -> Patch:
    """A patch that changes nothing."""
    tensors = dict(model.parameters_in("xattn.kv"))
    return Patch.of(tensors, model=model, request=request, method="none", settings={}, seed=0, losses=losses)


def test_without_a_judge_outputs_that_did_not_move_are_all_left(model: Any) -> None:
    (found,) = look(model, untouched(model, REQUEST))
    assert found.left == pytest.approx(1.0, abs=1e-3)
    assert found.still
    assert found.by == "outputs"
    assert model.patch_hash == ""


def test_without_a_judge_an_edit_that_reaches_its_anchor_leaves_nothing(model: Any) -> None:
    made = expunge.erase(model, REQUEST, "uce", own_look=False, settings={
        "retain": None, "solver.size": 1e-6, "solver.keep": 0.0, "texts": "both", "tokens": "all"})
    untold = replace(made, card=made.card.model_copy(update={"losses": {}}))
    (found,) = look(model, untold)
    assert found.left is not None
    assert abs(found.left) < 0.3
    assert not found.still


def test_a_closed_form_has_told_the_share_already(model: Any) -> None:
    (weak,) = look(model, untouched(model, REQUEST, {"left": [0.9]}))
    (strong,) = look(model, untouched(model, REQUEST, {"left": [0.9, 0.1]}))
    assert (weak.left, weak.still, strong.left, strong.still) == (0.9, True, 0.1, False)
    assert weak.words == "90% of the outputs for church are left"
    losses = expunge.erase(model, REQUEST, "uce", settings={"retain.things": ["cat"], "solver.size": 1e9}).card.losses
    assert losses["left"][-1] == pytest.approx(1.0, abs=1e-4)
    losses = expunge.erase(model, REQUEST, "uce", settings={
        "retain": None, "solver.size": 1e-6, "solver.keep": 0.0}).card.losses
    assert losses["left"][-1] == pytest.approx(0.0, abs=0.05)


@pytest.mark.slow
def test_of_many_concepts_some_are_looked_at(model: Any) -> None:
    also = tuple(Target(concept=f"thing {number}", prompts=(f"a thing {number}",)) for number in range(8))
    found = look(model, untouched(model, REQUEST.model_copy(update={"also": also})))
    assert len(found) == MOST
    assert found[0].concept == "church"


@pytest.mark.slow
def test_the_embedded_worlds_judge_finds_what_was_not_erased() -> None:
    model: Model = expunge.load("embedded", device="cpu")
    request = emoji_world().prompts.request(["church", "dog"])
    found = look(model, untouched(model, request))
    assert [one.concept for one in found] == ["church", "dog"]
    assert all(one.still and one.n == PICTURES // 2 and one.left is None for one in found)
    assert "images by emoji-judge@" in found[0].words
    patch = expunge.erase(model, "church", "uce")
    (gone,) = patch.card.look
    assert (gone.concept, gone.still, gone.n) == ("church", False, PICTURES)


def test_pictures_that_are_not_finite_are_no_proof_that_a_concept_is_gone(v_model: Any) -> None:
    name, table = next((name, p.detach().clone()) for name, p in v_model.parameters_of("text").items()
                       if "token_embedding" in name)
    (token,) = v_model.texts[0].tokens("church")
    table[token] = 3e38
    spoilt = Patch.of({name: table}, model=v_model, request=REQUEST, method="none", settings={}, seed=0)
    (found,) = look(v_model, spoilt)
    assert (found.found, found.n, found.still) == (0, 0, True)
    assert found.words == "church in images that cannot be judged: none of them is finite"
