"""The two rules on scores whose best mask is known: 686 tensors, of which a share should be frozen, and noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from expunge.guard.ratio import hardened
from expunge.guard.rules import ProjectedRule, ReleasedRule

COUNT = 686


def scores(ratio: float, seed: int) -> tuple[Tensor, Tensor]:
    """g float64 (686,), and bool: the most negative `ratio` of them, which should be frozen."""
    g = torch.randn(COUNT, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return g, hardened(-g, ratio, torch.ones(COUNT).double())


def noise(step: int) -> Tensor:
    return torch.randn(COUNT, generator=torch.Generator().manual_seed(1000 + step), dtype=torch.float64)


def recalled(found: Tensor, wanted: Tensor) -> float:
    return float((found & wanted).sum() / wanted.sum())


def projected(ratio: float, scale: float, size: float, seed: int) -> float:
    g, wanted = scores(ratio, seed)
    rule = ProjectedRule.fresh(torch.ones(COUNT).double(), ratio, 0.2, 2.0, 300, density=False)
    assert torch.allclose(rule.m, torch.tensor(ratio).double()), "all start equal"
    for step in range(500):
        rule.step(scale * (g + size * noise(step)))
        if step % 100 == 0:
            assert float(rule.m.mean()) == pytest.approx(ratio, abs=1e-6)
    return recalled(hardened(rule.x, ratio, torch.ones(COUNT).double()), wanted)


def released(ratio: float, scale: float, seed: int, **settings: float) -> tuple[float, float, float]:
    """Share of the wanted set, share of the top of the random start, and the ratio that came of it."""
    g, wanted = scores(ratio, seed)
    start = torch.rand(COUNT, generator=torch.Generator().manual_seed(50 + seed), dtype=torch.float64)
    rule = ReleasedRule(start.clone(), ratio, 0.2, settings.get("rate", 10.0), settings.get("sparsity", 5e3))
    for _ in range(500):
        rule.step(scale * g)
    frozen, first = rule.m.round() == 1, hardened(start, ratio, torch.ones(COUNT).double())
    return recalled(frozen, wanted), recalled(frozen, first), float(frozen.double().mean())


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("scale", [1e-4, 1e3])
def test_projected_rule_finds_what_should_be_frozen_at_any_scale(ratio: float, scale: float) -> None:
    assert projected(ratio, scale, size=1.0, seed=0) > 0.9


def test_projected_rule_stands_noise_that_is_five_times_the_signal() -> None:
    assert projected(0.2, 1.0, size=5.0, seed=1) > 0.8


def test_released_rule_keeps_its_random_start_rather_than_the_signal() -> None:
    """The published settings at the published ratio 0.2: the penalty saturates most entries in its first step."""
    told = [released(0.2, scale, seed) for scale in (1e-1, 1e-3) for seed in range(2)]
    assert max(wanted for wanted, _, _ in told) < 0.5
    assert min(start for _, start, _ in told) > 2 * 0.2, "no more of the start than chance would keep"


def test_released_rule_with_the_parser_s_defaults_misses_the_ratio() -> None:
    _, _, ratio = released(0.8, 1e-1, 0, rate=1e3, sparsity=0.1)
    assert abs(ratio - 0.8) > 0.1


def test_released_rule_is_gradient_descent_on_signal_and_penalty() -> None:
    g, _ = scores(0.2, 4)
    x = torch.rand(COUNT, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    leaf = x.clone().requires_grad_(True)
    m = torch.sigmoid(leaf / 0.2)
    (10.0 * (g * m).sum() + 5e3 * (0.2 - m.mean()) ** 2).backward()
    rule = ReleasedRule(x.clone(), 0.2, 0.2, 10.0, 5e3)
    rule.step(g)
    assert leaf.grad is not None
    assert torch.allclose(rule.x, x - leaf.grad)


def test_by_numel_scores_are_taken_per_parameter() -> None:
    weights = torch.tensor([1.0, 100.0]).double()
    rule = ProjectedRule.fresh(weights, 0.5, 0.2, 2.0, 10, density=True)
    rule.step(torch.tensor([-1.0, -2.0]).double())
    assert float(rule.x[0]) > float(rule.x[1]) > 0


def test_nothing_is_learned_of_nothing() -> None:
    rule = ProjectedRule.fresh(torch.ones(3).double(), 0.5, 0.2, 2.0, 10, density=False)
    rule.step(torch.zeros(3).double())
    assert rule.x.tolist() == [0, 0, 0]
    assert rule.m.tolist() == pytest.approx([0.5] * 3)
