"""EraseDiff's step: the keep's gradient plus lambda times the erase loss's, by each of its rules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from stepping import NO_MODEL, stepped
from torch.nn import Parameter

from expunge.errors import ConfigError
from expunge.records import Request
from expunge.unlearn.bilevel import Bilevel
from expunge.unlearn.denoise import Denoise
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.objective import Steer, Term
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.relabel import Noise

Q = [torch.tensor([3.0, 0.0]), torch.tensor([4.0])]
KEEP = [torch.tensor([-1.0, 2.0]), torch.tensor([0.5])]
ALONG = -1.0 * 3 + 0.5 * 4  # <keep, q>


@pytest.mark.parametrize(("update", "wanted"), [
    (Bilevel(weight=0.3), 0.3),
    (Bilevel(rule="descent", eta=0.1), 0.1 - ALONG / 25.0),
    (Bilevel(rule="cosine", eta=0.1), 0.1 - ALONG / (5.0 * (1 + 4 + 0.25) ** 0.5)),
], ids=["constant", "descent", "cosine"])
def test_lambda_follows_its_rule(update: Bilevel, wanted: float) -> None:
    assert update.factor(KEEP, Q) == pytest.approx(wanted)
    if update.rule != "constant":  # in full agreement nothing needs to be added
        assert update.factor([5 * tensor for tensor in Q], Q) == 0.0
        assert update.factor([torch.zeros(2), torch.zeros(1)], Q) == 0.1, "a keep at rest must not stop the erasure"


def test_step_adds_both_gradients_with_lambda_and_tells_them_apart() -> None:
    w = Parameter(torch.tensor([1.0, 2.0]))
    losses = stepped(Bilevel(weight=2.0), lambda: w[0] ** 2, lambda: 3 * w[1], {"w": w}, torch.optim.SGD([w], lr=0.1))
    assert losses == {"erase": 1.0, "keep": 6.0, "lambda": 2.0}
    torch.testing.assert_close(w.detach(), torch.tensor([1.0 - 0.1 * 2 * 2.0, 2.0 - 0.1 * 3.0]))


def test_clip_bounds_the_whole_gradient() -> None:
    w = Parameter(torch.tensor([0.0]))
    stepped(Bilevel(weight=2.0, max_grad_norm=1.0), lambda: -4 * w.sum(), lambda: -w.sum(), {"w": w},
            torch.optim.SGD([w], lr=1.0))
    assert w.item() == pytest.approx(1.0)


def test_the_descent_rule_lowers_the_erase_loss_where_a_constant_lets_it_rise() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        q, keep = (torch.randn(6, generator=generator) for _ in range(2))
        keep = 3 * keep - 4 * q  # strongly against q
        step = keep + Bilevel(rule="descent", eta=0.1).factor([keep], [q]) * q
        assert float(step @ q) >= 0.1 * float(q @ q) - 1e-4
        assert float((keep + 0.1 * q) @ q) < 0


REQUEST = Request(concept="church", prompts=("a church on a hill", "a church"), keep=("a picture of a dog",))
PICTURES = NoisedPictures(pictures=2, grid=2)
SMALL = Recipe(source=PICTURES, objective=Noise(), keep=Denoise(batch=2, source=PICTURES), update=Bilevel(),
               steps=2, batch=2, learning_rate=1e-3)


@pytest.mark.parametrize("rule", ["constant", "descent", "cosine"])
def test_a_recipe_runs_under_each_rule_and_tells_lambda(model: Any, rule: str) -> None:
    patch = SMALL.override({"update.rule": rule, "update.eta": 0.5})(model, REQUEST)
    assert set(patch.card.losses) == {"erase", "keep", "lambda"}
    assert patch.tensors
    assert Recipe.build(patch.card.settings) == SMALL.override({"update.rule": rule, "update.eta": 0.5})


def test_it_wants_a_keep_in_the_same_step() -> None:
    with pytest.raises(ConfigError, match="keep in the step of the erase loss"):
        Recipe(objective=Steer(), update=Bilevel()).check(None, REQUEST)  # type: ignore[arg-type]


def test_it_prepares_itself_and_keeps_no_state() -> None:
    update = Bilevel()
    assert update.prepare({}, Term(lambda number: torch.zeros(())), NO_MODEL) is update
    assert update.state == {}
