"""Dual ascent: the multiplier rises while the bound is broken, falls to 0 where it is kept, and is remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stepping import NO_MODEL, stepped
from torch.nn import Parameter

from expunge.errors import ConfigError
from expunge.records import Request
from expunge.unlearn.dual import Dual
from expunge.unlearn.integrity import Integrity
from expunge.unlearn.objective import Term
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.saliency import Masked
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.surgery import Surgery
from expunge.unlearn.update import Plain

NOTHING = Term(lambda number: torch.zeros(()))
REQUEST = Request(concept="church", prompts=("a church on a hill", "a church"), keep=("a picture of a dog",))
SMALL = Recipe(source=FrozenTrajectory(grid=3, trajectories=3), steps=5, batch=2, learning_rate=1e-2,
               keep=Integrity(batch=2, source=FrozenTrajectory(grid=3, trajectories=2)),
               update=Dual(bound=1e-6, start=0.5, multiplier_rate=1e4), checkpoint_every=0.0)


def test_a_step_is_along_the_lagrangian_and_then_the_multiplier_moves() -> None:
    w = Parameter(torch.tensor([1.0, 2.0]))
    stepper = Dual(bound=1.0, start=2.0, multiplier_rate=0.25, highest=9.0).prepare({"w": w}, NOTHING, NO_MODEL)
    losses = stepped(stepper, lambda: w[0] ** 2, lambda: 3 * w[1], {"w": w}, torch.optim.SGD([w], lr=0.1))
    assert losses == {"erase": 1.0, "keep": 6.0, "multiplier": 2.0}  # unweighted
    torch.testing.assert_close(w.detach(), torch.tensor([1.0 - 0.1 * 2.0, 2.0 - 0.1 * 2.0 * 3.0]))
    assert float(stepper.multiplier) == pytest.approx(2.0 + 0.25 * (6.0 - 1.0))


def test_the_multiplier_stays_between_0_and_the_highest() -> None:
    w = Parameter(torch.tensor([1.0]))
    for kept, end in ((5.0, 3.0), (0.0, 0.0)):
        stepper = Dual(bound=1.0, start=1.0, multiplier_rate=0.7, highest=3.0).prepare({"w": w}, NOTHING, NO_MODEL)
        seen = [stepped(stepper, lambda: w.sum(), lambda kept=kept: 0 * w.sum() + kept, {"w": w},
                             torch.optim.SGD([w], lr=0.1))["multiplier"] for _ in range(6)]
        assert seen == sorted(seen, reverse=end == 0.0)
        assert seen[-1] == end


@pytest.mark.parametrize("bounded", ["keep", "erase"])
def test_it_finds_the_constrained_minimum(bounded: Any) -> None:
    """min (w - 3)^2 subject to w^2 <= 1 is w = 1, with multiplier 2; and with the roles exchanged it is the same."""
    w = Parameter(torch.tensor([0.0]))
    stepper = Dual(bounded=bounded, bound=1.0, start=0.0, multiplier_rate=0.05).prepare({"w": w}, NOTHING, NO_MODEL)
    optimizer = torch.optim.SGD([w], lr=0.05)
    free, held = (lambda: (w - 3).square().sum()), (lambda: w.square().sum())
    erase, keep = (free, held) if bounded == "keep" else (held, free)
    for _ in range(2000):
        losses = stepped(stepper, erase, keep, {"w": w}, optimizer)
    assert w.item() == pytest.approx(1.0, abs=1e-3)
    assert float(stepper.multiplier) == pytest.approx(2.0, abs=1e-2)
    assert losses[bounded] == pytest.approx(1.0, abs=5e-3)


@pytest.mark.parametrize("inner", [Plain(max_grad_norm=1.0), Surgery(), Masked(draws=1),
                                   Masked(draws=1, update=Surgery())], ids=repr)
def test_it_wraps_other_updates(inner: Any) -> None:
    w = Parameter(torch.tensor([1.0, 2.0]))
    erase = Term(lambda number: w.square().sum())
    stepper = Dual(bound=0.1, update=inner).prepare({"w": w}, erase, NO_MODEL)
    before = w.detach().clone()
    losses = stepped(stepper, lambda: erase.loss(0), lambda: w.sum() + 5, {"w": w}, torch.optim.SGD([w], lr=0.1))
    assert losses["keep"] == 8.0
    assert not torch.equal(w, before)


def test_a_tight_bound_keeps_more_than_a_loose_one(model: Any) -> None:
    recipe = SMALL.override({"steps": 30, "learning_rate": 1e-3, "batch": 4})
    ends = {}
    for bound in (1e-6, 10.0):
        losses = recipe.override({"update.bound": bound})(model, REQUEST).card.losses
        ends[bound] = sum(losses["keep"][-5:])
        assert (losses["multiplier"][-1] > 0.5) == (bound == 1e-6)
    assert losses["multiplier"][-1] == 0.0  # the loose bound: nothing is asked of the keep
    assert ends[1e-6] < 0.5 * ends[10.0]


class Stop(Exception):
    """What a test throws in the middle of a run."""


def test_stopped_run_goes_on_with_its_multiplier(model: Any, tmp_path: Path) -> None:
    whole, checkpoint = SMALL(model, REQUEST, seed=1), tmp_path / "run.safetensors"

    def stop(done: int, total: int, losses: dict[str, float]) -> None:
        if losses and done == 4:
            raise Stop

    with pytest.raises(Stop):
        SMALL(model, REQUEST, seed=1, checkpoint=checkpoint, progress=stop)
    multiplier = load_file(checkpoint)["state/dual/multiplier"]
    assert multiplier.dtype == torch.float64
    assert float(multiplier) == whole.card.losses["multiplier"][3] != 0.5
    resumed = SMALL(model, REQUEST, seed=1, checkpoint=checkpoint)
    assert all(torch.equal(resumed.tensors[name], whole.tensors[name]) for name in whole.tensors)
    assert resumed.card.losses == whole.card.losses


def test_it_wants_a_keep_in_the_same_step() -> None:
    for changes in ({"keep": None}, {"keep.cadence": "between"}):
        with pytest.raises(ConfigError, match=r"keep in the step of the erase loss"):
            SMALL.override(changes).check(None, REQUEST)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"update\.multiplier_rate"):
        SMALL.override({"update.multiplier_rate": 0})
