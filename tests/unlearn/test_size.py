"""Training at another size than the model's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_recipe import REQUEST, SMALL, same

from expunge.errors import ConfigError, UserError
from expunge.models.model import Model
from expunge.unlearn.context import TrainContext
from expunge.unlearn.erase import erase, plan
from expunge.unlearn.presets.by_family import suited
from expunge.unlearn.presets.closed_form import UCE
from expunge.unlearn.presets.esd import ESD
from expunge.unlearn.source import EditedTrajectory, FrozenTrajectory
from pipelines_of_families import built, taken


def shapes(model: Model) -> set[tuple[int, ...]]:
    """Of all latents that the network is asked about from now on."""
    seen, predict = set[tuple[int, ...]](), model.denoiser.predict

    def watched(x_t: Any, t: Any, cond: Any) -> Any:
        seen.add(tuple(x_t.shape[2:]))
        return predict(x_t, t, cond)

    model.denoiser.predict = watched  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize("source", [FrozenTrajectory(grid=3, trajectories=2), EditedTrajectory(grid=3)])
def test_the_network_trains_on_the_size_that_is_asked_for_and_on_no_other(model: Model, source: Any) -> None:
    recipe = SMALL.model_copy(update={"size": 32, "source": source})
    seen = shapes(model)
    patch = recipe(model, REQUEST, seed=1)
    assert seen == {(16, 16)}
    assert patch.card.settings["size"] == 32
    assert model.size == (16, 16)
    assert not same(patch.tensors, SMALL.model_copy(update={"source": source})(model, REQUEST, seed=1).tensors)


def test_the_models_own_size_is_what_is_trained_without_one(model: Model) -> None:
    plain, named = SMALL(model, REQUEST, seed=1), SMALL.model_copy(update={"size": 16})(model, REQUEST, seed=1)
    assert same(plain.tensors, named.tensors)
    assert "size" not in plain.card.settings


def test_a_model_of_another_size_is_the_same_model(model: Model) -> None:
    twin = model.sized(32)
    assert (twin.size, model.size, model.sized(16)) == ((32, 32), (16, 16), model)
    assert (twin.hash, twin.parts, twin.drawing, twin.process.description) == \
        (model.hash, model.parts, model.drawing, model.process.description)
    with pytest.raises(UserError, match="height 17"):
        model.sized(17)


def test_times_are_those_of_the_size_where_a_family_shifts_them() -> None:
    model = taken(built("flux-dev"), length=24)
    small = model.sized(32)
    points = FrozenTrajectory(grid=4, trajectories=2).open(TrainContext(small, small, REQUEST, 0, False, 4),
                                                           ["a church"], 2, "erase").draw(0)
    assert points.x_t.shape[2:] == (16, 16)
    grid = model.process_for(points.x_t).schedule.grid(4)
    assert bool(torch.isin(points.t, grid).all())
    assert not torch.isin(points.t[points.t < 1000], model.process.schedule.grid(4)).any()


def test_memory_is_counted_at_the_size_that_trains(model: Model) -> None:
    def activations(size: int) -> int:
        recipe = SMALL.model_copy(update={"size": size})
        return recipe.footprint(model, recipe.check(model, REQUEST)).parts["activations"]

    assert activations(64) > 3 * activations(16)


def test_the_published_size_is_taken_where_the_models_own_is_larger() -> None:
    model = taken(built("flux-dev"), length=24)
    assert "size" not in suited(ESD, "esd", {}, model)  # 256 pixels of its own
    large = model.sized(1024)
    assert suited(ESD, "esd", {}, large)["size"] == 512
    assert "size" not in suited(ESD, "esd", {"size": 768}, large)


def test_what_sees_no_image_and_what_holds_on_at_another_size_are_refused(model: Model) -> None:
    with pytest.raises(ConfigError, match="size for uce, which solves for weights and sees no image"):
        UCE.override({"size": 32})
    recipe = SMALL.model_copy(update={"size": 32})
    with pytest.raises(ConfigError, match="training at 32 pixels in a sequence"):
        recipe.check(model, REQUEST, object())  # type: ignore[arg-type]  # it is not asked for anything


def test_a_run_goes_on_at_its_own_size_alone(model: Model, tmp_path: Path) -> None:
    settings = {"steps": 2, "source": {"grid": 2, "trajectories": 2}, "size": 32}
    erase(model, "church", "esd", settings=settings, out=tmp_path, own_look=False)
    with pytest.raises(ConfigError, match=r"size"):
        erase(model, "church", "esd", settings={**settings, "size": 48}, out=tmp_path, own_look=False)
    planned = plan(model, "church", "esd", settings=settings)
    assert (planned["settings"]["size"], planned["size"]) == (32, [16, 16])


def test_more_places_than_the_network_has_are_refused() -> None:
    model = taken(built("sd3"), length=24)
    x = model.initial_noise([0], 128, 128)
    with pytest.raises(UserError, match="at most 64 on a side"):
        model.predict(x, torch.tensor([500.0]), model.encode(["a church"]))
