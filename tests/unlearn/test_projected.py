"""Projected steps in a recipe: nothing is done to what keys and values make of the prompts to keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from expunge.errors import ConfigError
from expunge.records import Request
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.projected import Projected, kept_directions
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.subspace import along, leading, span

REQUEST = Request(concept="church", prompts=("a photo of a church",), keep=("a photo of a dog",))
POOL = FrozenTrajectory(grid=3, trajectories=2)
RECIPE = Recipe(source=POOL, scope="xattn.kv", keep=MatchTeacher(batch=1, source=POOL), steps=3, batch=2,
                learning_rate=1e-2).override({"update": "projected", "update.energy": 0.99, "update.update": "surgery"})


def test_a_recipe_names_the_projected_step_and_leaves_the_kept_directions_alone(model: Any) -> None:
    patch = RECIPE(model, REQUEST)
    U = kept_directions(model, ("", *REQUEST.keep), Projected(energy=0.99))
    before = model.parameters_in("xattn.kv")
    for name, W in patch.tensors.items():
        dW = W - before[name].detach()
        assert float(dW.norm()) > 0
        assert float(along(dW, U).norm() / dW.norm()) < 1e-3


def test_a_projection_with_nothing_to_project_is_refused_before_anything_is_computed(model: Any) -> None:
    with pytest.raises(ConfigError, match="no keys or values of text states train"):
        RECIPE.override({"scope": "text"}).check(model, REQUEST)


def test_a_mask_and_a_projection_cannot_stand_in_one_another() -> None:
    for outer, inner in (("projected", "masked"), ("masked", "projected")):
        with pytest.raises(ConfigError, match=f"{inner} cannot stand inside {outer}"):
            Recipe().override({"update": outer, "update.update": inner})


def test_leading_directions_hold_the_energy_and_a_span_leaves_out_what_is_rounding() -> None:
    states = torch.diag(torch.tensor([3.0, 1.0, 0.1]))
    assert leading(states, 0.9).shape == (3, 2)  # 9 of 10.01 is less than 0.9
    assert leading(states, 0.89).shape == (3, 1)
    torch.testing.assert_close(leading(states, 0.89).abs().flatten(), torch.tensor([1.0, 0, 0]).double())
    assert span(states, 0.2).shape == (3, 2)
