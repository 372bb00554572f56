"""Refresh climbs as its formula says, is nothing when it is off, and knows where it would do nothing or too much."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Parameter

from expunge.continual.fisher import Fisher, of_module
from expunge.continual.presets import PAPER, RELEASED, SAFE
from expunge.continual.refresh import Refresh, Refresher
from expunge.errors import ConfigError, ExpungeError, TrainingError, UserError
from expunge.train import step_generator

CURVATURE = torch.tensor([0.5, 2.0, 8.0])
START = torch.tensor([1.0, -2.0, 3.0])
EXACT = Fisher("true", 1, {"w": CURVATURE})
NEWTON = Refresh(norm="none", gamma=0.01, damping=0.0, normalise=False, every=1)


def bowl(w: Tensor) -> Callable[[], Tensor]:
    """1/2 sum a w^2, whose Fisher information and curvature is a."""
    return lambda: (CURVATURE * w.square()).sum() / 2


def at_start() -> Parameter:
    return Parameter(START.clone())


def test_in_its_own_metric_an_ascent_stretches_a_quadratic_evenly() -> None:
    w = at_start()
    told = Refresher(NEWTON, {"w": w}, fisher=EXACT).ascend(0, bowl(w))
    torch.testing.assert_close(w.detach(), 1.01 * START)  # F^-1 grad = a^-1 a w = w, whatever the scale
    assert told is not None
    assert told.relative == pytest.approx(0.01, rel=1e-5)
    assert told.before == pytest.approx(float((CURVATURE * START**2).sum() / 2))
    assert told.after is None
    assert told.fisher["mean"] == pytest.approx(3.5)
    w = at_start()
    told = Refresher(NEWTON.model_copy(update={"steps": 3}), {"w": w}, fisher=EXACT).ascend(0, bowl(w))
    torch.testing.assert_close(w.detach(), 1.01**3 * START)
    assert told is not None
    assert told.relative == pytest.approx(0.03, rel=1e-5)  # three ascents of a hundredth each


def test_damping_and_the_mean_of_the_fisher_information_enter_as_written() -> None:
    for normalise, F_used in ((False, CURVATURE), (True, CURVATURE / 3.5)):
        w = at_start()
        settings = NEWTON.model_copy(update={"damping": 0.7, "normalise": normalise})
        Refresher(settings, {"w": w}, fisher=EXACT).ascend(0, bowl(w))
        torch.testing.assert_close(w.detach(), START + 0.01 * CURVATURE * START / (F_used + 0.7))


def test_without_fisher_information_an_ascent_is_along_the_gradient() -> None:
    w = at_start()
    Refresher(NEWTON.model_copy(update={"damping": 5.0}), {"w": w}).ascend(0, bowl(w))
    torch.testing.assert_close(w.detach(), START + 0.01 * CURVATURE * START)


def two() -> dict[str, Parameter]:
    return {"a": Parameter(torch.tensor([3.0, 4.0])), "b": Parameter(torch.tensor([0.0, 2.0]))}


def slope(params: dict[str, Parameter]) -> Callable[[], Tensor]:
    return lambda: (params["a"] * torch.tensor([1.0, 1.0])).sum() + 100 * params["b"][0]


def test_norm_tensor_makes_gamma_the_relative_step_of_each_tensor() -> None:
    params = two()
    Refresher(Refresh(norm="tensor", gamma=0.1), params).ascend(0, slope(params))
    along = torch.tensor([1.0, 1.0]) / math.sqrt(2)
    torch.testing.assert_close(params["a"].detach(), torch.tensor([3.0, 4.0]) + 0.1 * 5.0 * along)
    torch.testing.assert_close(params["b"].detach(), torch.tensor([0.1 * 2.0, 2.0]))


def test_norm_fisher_is_a_trust_region_in_the_metric() -> None:
    params = two()
    before = {name: p.detach().clone() for name, p in params.items()}
    fisher = Fisher("true", 1, {"a": torch.tensor([1.0, 4.0]), "b": torch.tensor([2.0, 9.0])})
    settings = Refresh(norm="fisher", gamma=0.1, damping=0.5, normalise=False)
    Refresher(settings, params, fisher=fisher).ascend(0, slope(params))
    moved = {name: params[name].detach() - before[name] for name in params}
    length = sum(float(((fisher.values[n] + 0.5) * moved[n] ** 2).sum()) for n in params)
    size = sum(float((p**2).sum()) for p in before.values())
    assert math.sqrt(length) == pytest.approx(0.1 * math.sqrt(size), rel=1e-5)
    ratio = moved["a"][0] / moved["a"][1]
    assert float(ratio) == pytest.approx(4.5 / 1.5, rel=1e-3)  # less where the information is


@pytest.mark.parametrize("fisher", [None, Fisher("weighted", 1, {"a": torch.tensor([0.0, 1e3]),
                                                                 "b": torch.tensor([5e3, 0.0])})])
def test_released_is_the_released_formula(fisher: Fisher | None) -> None:
    params = two()
    w = {name: p.detach().clone() for name, p in params.items()}
    Refresher(RELEASED, params, seed=3, fisher=fisher).ascend(7, slope(params))
    draw = step_generator(3, 7, "refresh/0")
    for name, g in (("a", torch.tensor([1.0, 1.0])), ("b", torch.tensor([100.0, 0.0]))):
        information = torch.zeros(2) if fisher is None else fisher.values[name]
        u_hat = w[name].norm() / (g.norm() + 1e-20) * g
        expected = w[name] + 1e-5 / (1 + 1e-3 * information) * (u_hat + 1e-3 * torch.randn(2, generator=draw))
        torch.testing.assert_close(params[name].detach(), expected, rtol=0, atol=0)


def test_noise_of_the_langevin_rule_has_the_stated_spread() -> None:
    w = Parameter(torch.zeros(20000))
    information = torch.cat([torch.full((10000,), 0.25), torch.full((10000,), 4.0)])
    settings = Refresh(norm="none", gamma=0.02, damping=0.0, normalise=False, noise=0.5, every=1)
    Refresher(settings, {"w": w}, fisher=Fisher("true", 1, {"w": information})).ascend(0, lambda: 0 * w.sum())
    for part, F_part in ((w[:10000], 0.25), (w[10000:], 4.0)):
        assert float(part.detach().std()) == pytest.approx(math.sqrt(2 * 0.02 * 0.5 / F_part), rel=0.03)


@pytest.mark.parametrize("settings", [SAFE, RELEASED, PAPER.model_copy(update={"noise": 0.0})], ids=["safe", "released",
                                                                                                   "paper"])
def test_the_loss_rises(settings: Refresh) -> None:
    w = at_start()
    before = bowl(w)().item()
    told = Refresher(settings, {"w": w}, fisher=EXACT).ascend(0, bowl(w))
    assert told is not None
    assert told.before == pytest.approx(before)
    assert bowl(w)().item() > before
    assert told.after == (None if settings.rise is None else pytest.approx(bowl(w)().item()))


def noisy() -> Refresh:
    return PAPER.model_copy(update={"gamma": 1e-3})


def test_same_seed_same_weights_and_the_noise_belongs_to_the_step() -> None:
    def after(seed: int, number: int, before_that: bool = False) -> Tensor:
        w = at_start()
        refresher = Refresher(noisy(), {"w": w}, seed=seed)
        if before_that:
            refresher.ascend(0, bowl(w))
            with torch.no_grad():
                w.copy_(START)
        refresher.ascend(number, bowl(w))
        return w.detach()

    assert torch.equal(after(1, 2), after(1, 2))
    assert torch.equal(after(1, 2), after(1, 2, before_that=True))
    assert not torch.equal(after(1, 2), after(2, 2))
    assert not torch.equal(after(1, 2), after(1, 4))
    state = torch.get_rng_state()
    after(1, 2)
    assert torch.equal(torch.get_rng_state(), state)


def trained(settings: Refresh | None, make: Callable[[Any], torch.optim.Optimizer], steps: int = 6) -> list[Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    params, optimizer = dict(model.named_parameters()), make(model.parameters())
    refresher = Refresher(settings, params, buffers=dict(model.named_buffers())) if settings is not None else None
    for number in range(steps):
        draw = torch.Generator().manual_seed(number)
        x, y = torch.randn(8, 4, generator=draw), torch.randint(3, (8,), generator=draw)
        loss = lambda x=x, y=y: F.cross_entropy(model(x), y)
        if refresher is not None:
            refresher.step(number, loss, optimizer)
            continue
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()
    return [value.clone() for value in model.state_dict().values()]


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), lambda p: torch.optim.Adam(p),
                                  lambda p: torch.optim.AdamW(p, weight_decay=0.1)], ids=["sgd", "adam", "adamw"])
def test_off_it_is_the_optimizer_alone_bit_for_bit(make: Callable[[Any], torch.optim.Optimizer]) -> None:
    plain = trained(None, make)
    for off in (Refresh(steps=0), Refresh(gamma=0.0), noisy().model_copy(update={"steps": 0}),
                Refresh(gamma=0.0, noise=1.0)):
        assert all(torch.equal(a, b) for a, b in zip(plain, trained(off, make), strict=True))
    on = trained(SAFE, make)
    assert not all(torch.equal(a, b) for a, b in zip(plain, on, strict=True))


def test_a_step_is_an_ascent_and_then_the_optimizers() -> None:
    w = at_start()
    loss, told = Refresher(NEWTON, {"w": w}, fisher=EXACT).step(0, bowl(w), torch.optim.SGD([w], lr=0.1))
    up = 1.01 * START
    torch.testing.assert_close(w.detach(), up - 0.1 * CURVATURE * up)
    assert told is not None
    torch.testing.assert_close(loss, (CURVATURE * up**2).sum() / 2)
    w = at_start()
    other = lambda: -w.sum()
    Refresher(NEWTON, {"w": w}).step(0, bowl(w), torch.optim.SGD([w], lr=0.0), climbed=other)
    torch.testing.assert_close(w.detach(), START - 0.01)


def test_running_statistics_are_not_moved_by_an_ascent() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
    before = {name: value.clone() for name, value in model.named_buffers()}
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    refresher = Refresher(SAFE, dict(model.named_parameters()), buffers=dict(model.named_buffers()))
    assert refresher.ascend(0, lambda: (model(x) ** 2).sum()) is not None
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_only_due_steps_are_refreshed_and_ask_for_the_loss_once_more_each() -> None:
    for settings in (Refresh(every=3), Refresh(every=2, steps=2), SAFE, Refresh(steps=0), RELEASED):
        w, asked = at_start(), []

        def counted(w: Parameter = w, asked: list[int] = asked) -> Tensor:
            asked.append(1)
            return bowl(w)()

        refresher, optimizer = Refresher(settings, {"w": w}), torch.optim.SGD([w], lr=0.01)
        told = [refresher.step(number, counted, optimizer)[1] for number in range(7)]
        assert [one is not None for one in told] == [settings.due(number) for number in range(7)]
        assert sum(one.halvings for one in told if one is not None) == 0
        ascents = settings.steps * sum(map(settings.due, range(7)))
        assert len(asked) == 7 + ascents  # what the cap looks at is the step's own forward
    assert [Refresh(every=3).due(number) for number in range(5)] == [True, False, False, True, False]


@pytest.mark.parametrize("gamma", [1e-4, 0.3, 100.0])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_step_with_the_cap_is_as_if_the_loss_were_asked_anew(gamma: float, steps: int) -> None:
    settings = NEWTON.model_copy(update={"gamma": gamma, "rise": 0.3, "steps": steps, "halvings": 2})
    w, v = at_start(), at_start()
    refresher, again = (Refresher(settings, {"w": p}, fisher=EXACT) for p in (w, v))
    one, other = (torch.optim.SGD([p], lr=0.1) for p in (w, v))
    for number in range(4):
        _, told = refresher.step(number, bowl(w), one)
        assert again.ascend(number, bowl(v)) == told
        other.zero_grad()
        bowl(v)().backward()
        other.step()
        assert (told is None or told.current) == (gamma < 100.0)
    torch.testing.assert_close(w, v, rtol=0, atol=0)


def test_running_statistics_see_the_steps_own_forward_once() -> None:
    def trained(settings: Refresh) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
        refresher = Refresher(settings, dict(model.named_parameters()), buffers=dict(model.named_buffers()))
        for number in range(4):
            refresher.step(number, lambda: (model(x) ** 2).sum(), torch.optim.SGD(model.parameters(), lr=0.0))
        return model

    capped, free = trained(SAFE), trained(SAFE.model_copy(update={"rise": None}))
    assert capped[1].num_batches_tracked == 4
    for a, b in zip(capped.state_dict().values(), free.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_rise_beyond_the_cap_is_halved_until_it_is_not() -> None:
    w = at_start()
    settings = NEWTON.model_copy(update={"gamma": 1.0, "rise": 0.3})  # (1 + s)^2 - 1 <= 0.3 from s = 1/8
    told = Refresher(settings, {"w": w}, fisher=EXACT).ascend(0, bowl(w))
    torch.testing.assert_close(w.detach(), START * (1 + 1 / 8))
    assert told is not None
    assert (told.halvings, told.relative) == (3, pytest.approx(1 / 8, rel=1e-5))
    assert told.after == pytest.approx(told.before * (9 / 8) ** 2)


def test_a_rise_that_no_halving_tames_is_taken_back() -> None:
    w = at_start()
    settings = NEWTON.model_copy(update={"gamma": 100.0, "rise": 0.3, "halvings": 3})
    told = Refresher(settings, {"w": w}, fisher=EXACT).ascend(0, bowl(w))
    assert told is not None
    assert (told.halvings, told.relative, told.after) == (3, 0.0, told.before)
    torch.testing.assert_close(w.detach(), START, rtol=1e-5, atol=1e-5)
    v = at_start()
    jump = lambda: torch.where(v[0] > 1.0, torch.nan, 1.0) * v.sum()  # a loss that is no number counts as too high
    told = Refresher(settings, {"w": v}).ascend(0, jump)
    assert told is not None
    assert told.relative == 0.0


def test_masked_weights_stay_bit_for_bit() -> None:
    for settings in (noisy(), RELEASED, SAFE):
        w = at_start()
        inside = {"w": torch.tensor([True, False, True])}
        Refresher(settings, {"w": w}).ascend(0, bowl(w), inside)
        assert w[1].item() == START[1]
        assert not bool((w == START)[[0, 2]].any())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_refused_because_nothing_would_move(dtype: torch.dtype) -> None:
    w = torch.nn.Parameter(torch.linspace(1.0, 2.0, 50).to(dtype))
    assert torch.equal(w, (w.float() * (1 + 1e-4)).to(dtype))  # the trap itself
    with pytest.raises(UserError, match=rf"refresh on weights in {dtype}.*float32"):
        Refresher(RELEASED, {"w": w})
    Refresher(Refresh(steps=0), {"w": w})  # off, it does no harm


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="a frozen parameter, 'w'"):
        Refresher(SAFE, {"w": torch.ones(2)})
    w = at_start()
    with pytest.raises(ExpungeError, match="no Fisher information for 'w'"):
        Refresher(SAFE, {"w": w}, fisher=Fisher("true", 1, {"v": CURVATURE}))
    with pytest.raises(ExpungeError, match="no damping"):
        Refresher(NEWTON, {"w": w}, fisher=Fisher("true", 1, {"w": torch.tensor([0.0, 1.0, 1.0])}))
    with pytest.raises(TrainingError, match="not finite"):
        Refresher(NEWTON, {"w": w}).ascend(0, lambda: (w * torch.inf).sum())
    assert torch.equal(w.detach(), START)
    with pytest.raises(ConfigError, match="set norm tensor"):
        Refresh.build({"rule": "released", "norm": "none"})


def test_what_does_not_reach_the_loss_does_not_move() -> None:
    params = {"w": at_start(), "unused": Parameter(torch.ones(2))}
    for norm in ("none", "tensor", "fisher"):
        Refresher(Refresh(norm=norm), params).ascend(0, bowl(params["w"]))
    assert torch.equal(params["unused"].detach(), torch.ones(2))


def test_it_takes_a_modules_own_fisher_information(network: Callable[[int], nn.Module]) -> None:
    model = network(0)
    x = torch.rand(20, 8, 8, generator=torch.Generator().manual_seed(0))
    fisher = of_module(model, x, "true", generator=torch.Generator().manual_seed(1))
    told = Refresher(SAFE, dict(model.named_parameters()), fisher=fisher).ascend(
        0, lambda: F.cross_entropy(model(x), torch.zeros(20, dtype=torch.int64)))
    assert told is not None
    assert told.after is not None
    assert told.after > told.before
    assert told.fisher["mean"] == pytest.approx(1.0)
