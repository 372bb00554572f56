"""A student that begins with a closed form's edit: the same weights, a teacher that is the original, a LoRA of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from expunge.errors import ConfigError, UserError
from expunge.models.model import applied
from expunge.records import Request
from expunge.unlearn.change import low_rank, whole
from expunge.unlearn.closed_form.method import ClosedForm
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.presets.closed_form import UCE
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.start import Beginning

REQUEST = Request(concept="church", prompts=("a church on a hill",), anchor="house", keep=("a dog",))
START = UCE.override({"retain": None})
POOL = FrozenTrajectory(grid=3, trajectories=2)
SMALL = Recipe(source=POOL, steps=2, batch=2, learning_rate=1e-4, start=START)


def test_the_student_begins_at_the_closed_forms_weights_bit_for_bit(model: Any) -> None:
    edit = START(model, REQUEST)
    params = model.parameters_in("xattn")
    with whole(model, params) as change:
        Beginning.made(START, model, REQUEST, 0).put_into(change.params)
        made = change.params
        assert all(torch.equal(made[name], edit.tensors[name]) for name in edit.tensors)
        assert {name for name in made if not torch.equal(made[name], change.before[name])} == {*edit.tensors}


def test_the_teacher_stays_the_original(model: Any) -> None:
    x, t, cond = model.initial_noise([0]), torch.tensor([500]), model.encode(["a church on a hill"])
    with torch.no_grad():
        original = model.predict(x, t, cond)
        with whole(model, model.parameters_in("xattn")) as change:
            Beginning.made(START, model, REQUEST, 0).put_into(change.params)
            assert torch.equal(change.teacher(model).predict(x, t, cond), original)
            assert not torch.equal(model.predict(x, t, cond), original)


def test_a_lora_begins_at_the_edit_as_far_as_its_rank_holds_it(model: Any) -> None:
    begun = Beginning.made(START, model, REQUEST, 0)
    x, t, cond = model.initial_noise([0]), torch.tensor([500]), model.encode(["a church on a hill"])
    with torch.no_grad(), applied(model, START(model, REQUEST)):
        wanted = model.predict(x, t, cond)
    full = max(min(weight.shape) for weight in begun.weights.values())
    with low_rank(model, [*begun.weights], full, seed=0) as change, torch.no_grad():
        begun.put_into(change.params)
        torch.testing.assert_close(model.predict(x, t, cond), wanted, rtol=1e-3, atol=1e-4)


def test_a_run_goes_on_from_the_start_and_its_card_names_both(model: Any) -> None:
    patch = SMALL(model, REQUEST)
    alone = SMALL.model_copy(update={"start": None})(model, REQUEST)
    assert patch.card.settings["start"]["name"] == "uce"
    assert "start" not in alone.card.settings
    assert patch.hash != alone.hash
    edit = START(model, REQUEST)
    near = sum(float((patch.tensors[name] - edit.tensors[name]).norm()) for name in edit.tensors)
    far = sum(float((alone.tensors[name] - edit.tensors[name]).norm()) for name in edit.tensors)
    assert near < far
    assert {*edit.texts["erase"]} <= {*patch.texts["erase"]}


def test_a_start_outside_what_trains_is_refused(model: Any) -> None:
    with pytest.raises(UserError, match="a start with uce"):
        SMALL.model_copy(update={"scope": "noxattn"}).check(model, REQUEST)
    SMALL.model_copy(update={"scope": "unet"}).check(model, REQUEST)


def test_a_start_is_named_like_a_method() -> None:
    named = Recipe.build({"start": "uce"}).start
    assert isinstance(named, ClosedForm)
    assert named == UCE
    assert Recipe.build(Recipe(start=UCE).model_dump(mode="json")).start == UCE
    for wrong in ("esd", "nothing"):
        with pytest.raises(ConfigError, match="start"):
            Recipe.build({"start": wrong})


def test_the_learning_rate_falls_along_half_a_cosine() -> None:
    recipe = Recipe(steps=100, learning_rate=1.0, warmup=10, decay="cosine")
    assert recipe._rate(0) == pytest.approx(0.1)
    for number in (10, 50, 99):
        assert recipe._rate(number) == pytest.approx(0.5 * (1 + math.cos(math.pi * number / 100)))
    flat = recipe.model_copy(update={"decay": "none"})
    assert flat._rate(99) == 1.0


def test_what_was_added_is_not_written_at_its_default() -> None:
    written = Recipe(keep=MatchTeacher()).model_dump(mode="json")
    assert not {"decay", "start", "lora_rank", "size"} & written.keys()
    assert "of" not in written["source"]
    assert Recipe(decay="cosine").model_dump(mode="json")["decay"] == "cosine"
