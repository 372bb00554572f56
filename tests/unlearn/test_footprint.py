"""Memory by part: what is stored is counted, what a backward needs is what torch really keeps, too little is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_recipe import REQUEST, SMALL

from expunge.errors import ResourceError
from expunge.models.store import load
from expunge.unlearn import footprint as module
from expunge.unlearn.change import whole
from expunge.unlearn.footprint import footprint
from pipelines_of_families import BUILDERS, built, taken


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["xattn", "unet", "text"])
def test_activations_are_what_a_real_forward_keeps(model: Any, scope: str) -> None:
    params, kept = model.parameters_in(scope), dict[int, tuple[Any, int]]()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = tensor, storage.nbytes()
        return tensor

    x, t = model.initial_noise([1, 2, 3]), torch.ones(3)
    cond = model.encode(["", "", ""])
    with whole(model, params), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model.predict(x, t, model.encode(["", "", ""]) if scope == "text" else cond)
        own = {p.untyped_storage().data_ptr() for p in model.parameters_of("denoiser", "text").values()}
        real = sum(size for place, (_, size) in kept.items() if place not in own)
    assert out.requires_grad
    told = footprint(model, params, None, batch=3).parts["activations"]
    assert told == pytest.approx(real, rel=0.15)


@pytest.mark.parametrize("name", BUILDERS)
def test_every_family_is_counted_without_a_value_being_computed(name: str) -> None:
    model = taken(built(name), **({} if name.startswith("sdxl") else {"length": 24}))
    params = {full: p for full, p in model.parameters_in("unet").items() if full.endswith(".weight") and p.ndim == 2}
    full, low = (footprint(model, params, rank, batch=1) for rank in (None, 2))
    assert full.parts["activations"] > 0 < low.parts["activations"]
    assert low.parts["optimizer"] < full.parts["optimizer"]
    assert low.parts["originals"] == 0
    assert not any(p.requires_grad for p in params.values())


def test_a_model_in_half_precision_keeps_masters_and_no_originals(pipeline_folder: Path) -> None:
    half, full = (load(pipeline_folder, device="cpu", dtype=dtype) for dtype in ("bfloat16", "float32"))
    small, large = (footprint(one, one.parameters_in("xattn"), None, batch=1).parts for one in (half, full))
    count = sum(p.numel() for p in half.parameters_in("xattn").values())
    assert (small["what trains"], small["originals"]) == (6 * count, 0)
    assert (large["what trains"], large["originals"]) == (0, 4 * count)
    assert 2 * small["weights"] == large["weights"]


def test_too_little_memory_is_told_before_anything_is_computed(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("expunge.unlearn.recipe.LARGE", 0)
    monkeypatch.setattr(module, "room", lambda device: 1000)
    calls: list[int] = []
    with pytest.raises(ResourceError, match=r"GiB are missing.*--dtype bfloat16.*--lora-rank 8"):
        SMALL(model, REQUEST, progress=lambda done, total, losses: calls.append(done))
    assert not calls
    monkeypatch.setattr(module, "room", lambda device: None)
    assert SMALL(model, REQUEST).tensors


def test_what_a_part_holds_beside_a_gradient_is_counted(model: Any) -> None:
    names = tuple(model.parameters_in("xattn"))
    one = SMALL.footprint(model, names).parts["gradients"]
    ahead = SMALL.override({"update": "lookahead"}).footprint(model, names).parts["gradients"]
    words = SMALL.override({"adversary": "words"}).footprint(model, names).parts["gradients"]
    assert (ahead, words) == (5 * one, 2 * one)


@pytest.mark.parametrize(("settings", "rows"), [
    ({"objective": {"kind": "contrast"}}, 8), ({"objective": {"kind": "contrast", "empty": 0.0}}, 4),
    ({"objective": {"kind": "halfspace", "empty": 1.0, "empty_rows": 2}}, 6),
    ({"adversary": {"kind": "words", "rows": 12}}, 12), ({"adversary": {"kind": "words", "rows": 2}}, 4)])
def test_rows_that_a_part_sends_beside_those_of_the_step_are_counted(model: Any, settings: dict[str, Any], rows: int
                                                                   ) -> None:
    names = tuple(model.parameters_in("xattn"))
    step, plain = SMALL.override({"batch": 4, **settings}), SMALL.override({"batch": rows})
    assert step.footprint(model, names).parts["activations"] == plain.footprint(model, names).parts["activations"]
