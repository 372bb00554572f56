"""Every registered method, on a very small model: it edits its scope alone, tells what it did, and resumes to its bits.

A method that is registered tomorrow is in here without a line of its own.
"""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
import torch
from torch import Tensor

from expunge.errors import ConfigError
from expunge.models.patch import Patch
from expunge.records import PatchCard, Request, Target
from expunge.registry import METHODS
from expunge.unlearn.erase import resolve_method
from expunge.unlearn.recipe import Recipe

REQUEST = Request(concept="church", prompts=("a church on a hill", "a church"), anchor="house",
                  keep=("a picture of a dog", "the knife of a chef"),
                  also=(Target(concept="hospital", prompts=("a hospital", "hospital on a hill"), anchor="castle"),))
"""Two concepts, each with its anchor, and prompts to keep: what any method can work with."""

SMALL: dict[str, Any] = {"grid": 2, "trajectories": 3, "pictures": 3, "draws": 2, "each": 1, "batch": 2,
                         "warm_up": 2}
"""Sizes, by name, that change how long a method takes and not what it is."""
THINGS = ("dog", "apple")
"""Things to keep; the open world's have names longer than the test model reads."""


def small(settings: Any) -> Any:
    """Settings with every size of that name made small, at any depth."""
    if isinstance(settings, dict):
        return {key: min(value, SMALL[key]) if key in SMALL and isinstance(value, int) else small(value)
                for key, value in settings.items()}
    return [small(value) for value in settings] if isinstance(settings, list) else settings


def method_of(name: str) -> Any:
    """The registered method, as it is but for its sizes; two training steps where it trains."""
    method: Any = resolve_method(name)
    sizes = small(method.model_dump(mode="json"))
    if not isinstance(method, Recipe):
        return method.override({**sizes, "retain": {**sizes["retain"], "things": ("dog", "apple")}})
    if method.adversary is not None:
        few = {"steps": 2, "erase_steps": 2, "search_steps": 2, "rows": 1, "warmup": 1}
        sizes["adversary"] |= {name: min(value, few[name]) if name != "warmup" else 1
                               for name, value in sizes["adversary"].items() if name in few}
    if method.start is not None:
        sizes["start"]["retain"] = {**sizes["start"]["retain"], "things": THINGS}
    if method.retain is not None:
        sizes["retain"] = {**sizes["retain"], "things": ("dog", "apple")}
    return method.override({**sizes, "steps": 2, "batch": 2, "learning_rate": 1e-3, "warmup": 0,
                            "checkpoint_every": 0.0})


def everything(model: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for part, module in model.components.items()
            for name, tensor in module.state_dict(prefix=f"{part}/").items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def one_model(pipeline_folder: Path) -> Any:
    """One model for all methods: each must leave it as it was."""
    from expunge.models.store import load

    return load(pipeline_folder, device="cpu")


def test_the_published_systems_are_there() -> None:
    known = set(METHODS.names())
    systems = {"esd", "advunlearn", "doco", "ablation", "salun", "erasediff", "hellinger", "chi2", "integrity",
               "integrity-overwrite", "integrity-dual", "trce", "stereo", "eraseflow", "resalign"}
    assert systems <= known
    assert {f"{name}-fast" for name in systems} <= known
    assert {"uce", "rece", "speed", "oce", "hirm", "tea", "des", "s-grace"} <= known


@pytest.mark.parametrize("name", METHODS.names())
def test_method_erases_within_its_scope_tells_it_and_resumes(one_model: Any, name: str, tmp_path: Path) -> None:
    before, method = everything(one_model), method_of(name)
    running, after_one_step = tmp_path / "run.safetensors", tmp_path / "one.safetensors"

    def keep_first(done: int, total: int, losses: dict[str, float]) -> None:
        if losses and done == 2 and running.exists():  # at this moment the file holds the first step
            copyfile(running, after_one_step)

    patch = method(one_model, REQUEST, seed=3, checkpoint=running, progress=keep_first)
    inside = one_model.parameters_in(method.scope)
    assert patch.tensors
    assert set(patch.weights) <= set(inside)
    assert all(bool(tensor.isfinite().all()) for tensor in patch.tensors.values())
    assert any(not torch.equal(patch.value(name, inside[name]), inside[name]) for name in patch.weights)
    assert same(everything(one_model), before)
    assert not any(p.requires_grad or p.grad is not None for p in one_model.parameters_in("all").values())

    card = PatchCard.read(Patch.load(patch.save(tmp_path / "patch")).card.model_dump_json())
    assert (card.method, card.request, card.seed) == (name, REQUEST, 3)
    assert type(method).build(card.settings) == method
    assert len(card.losses["erase"]) == card.steps > 0

    assert after_one_step.exists() == isinstance(method, Recipe)  # whatever trains, checkpoints
    again = method(one_model, REQUEST, seed=3, checkpoint=after_one_step)
    assert same(dict(again.tensors), dict(patch.tensors))
    assert again.card.losses == patch.card.losses


@pytest.mark.parametrize("name", METHODS.names())
def test_method_takes_settings_by_name_and_refuses_others(name: str) -> None:
    assert METHODS.get(name).override({"name": "mine"}).name == "mine"
    with pytest.raises(ConfigError, match="stepz"):
        resolve_method(name, {"stepz": 1})
    assert METHODS.help(name)
