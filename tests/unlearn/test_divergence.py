"""The divergences are those of two normals, up to the factor that makes them the squared gap where it is small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from expunge.config import Settings, knob
from expunge.errors import ConfigError
from expunge.records import Request
from expunge.unlearn.ablation import Ablate
from expunge.unlearn.context import TrainContext
from expunge.unlearn.divergence import SQUARED, AnyDivergence, ChiSquare, Hellinger, Squared, divergence
from expunge.unlearn.objective import Steer
from expunge.unlearn.presets.esd import ESD
from expunge.unlearn.relabel import Relabel
from expunge.unlearn.source import FrozenTrajectory

KINDS = [Squared(), Hellinger(), Hellinger(sigma=0.3), ChiSquare(), ChiSquare(sigma=2.0)]
M = torch.tensor([0.0, 1e-6, 0.01, 0.3, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_values_are_the_divergences_of_two_normals_by_integration(sigma: float) -> None:
    for m in (0.04, 0.5, 1.7):
        p, q = norm(0.0, sigma).pdf, norm(np.sqrt(m), sigma).pdf
        span = (-12 * sigma, 12 * sigma + np.sqrt(m))
        overlap = quad(lambda x, p=p, q=q: np.sqrt(p(x) * q(x)), *span)[0]
        hellinger = 1 - overlap  # squared Hellinger distance
        chi2 = quad(lambda x, p=p, q=q: q(x) ** 2 / p(x), -12 * sigma, 14 * sigma)[0] - 1
        gap = torch.tensor([m], dtype=torch.float64)
        assert float(Hellinger(sigma=sigma).of(gap)) == pytest.approx(8 * sigma**2 * hellinger, rel=1e-6)
        assert float(ChiSquare(sigma=sigma).of(gap)) == pytest.approx(sigma**2 * chi2, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_small_gaps_count_as_their_square_in_every_one(kind: Any) -> None:
    m = torch.tensor([1e-9, 1e-5], dtype=torch.float32, requires_grad=True)
    torch.testing.assert_close(kind.of(m), m, rtol=1e-3, atol=0)
    (grad,) = torch.autograd.grad(kind.of(m).sum(), m)
    torch.testing.assert_close(grad, torch.ones(2), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("kind", "factor"), [
    (Squared(), lambda m: torch.ones_like(m)),
    (Hellinger(sigma=0.7), lambda m: torch.exp(-m / (8 * 0.49))),
    (ChiSquare(sigma=0.7), lambda m: torch.exp(m / 0.49)),
], ids=["squared", "hellinger", "chi2"])
def test_gradient_is_the_squared_gaps_times_the_factor_of_the_formula(kind: Any, factor: Any) -> None:
    m = M.clone().requires_grad_()
    (grad,) = torch.autograd.grad(kind.of(m).sum(), m)
    torch.testing.assert_close(grad, factor(M))


def test_hellinger_lets_large_gaps_go_and_chi_square_does_not() -> None:
    far = torch.tensor([100.0], dtype=torch.float64)
    assert float(Hellinger().of(far)) == pytest.approx(8.0, rel=1e-4)  # its bound, 8 sigma^2
    assert float(ChiSquare().of(far)) > 1e43
    assert not bool(ChiSquare().of(far.float()).isfinite().all())


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_each_sample_is_measured_by_itself_and_then_averaged(kind: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    out, wanted = (torch.randn(3, 4, 2, 2, generator=generator) for _ in range(2))
    each = [float(divergence(kind, out[i:i + 1], wanted[i:i + 1])) for i in range(3)]
    assert float(divergence(kind, out, wanted)) == pytest.approx(np.mean(each), rel=1e-6)
    assert float(divergence(SQUARED, out, wanted)) == pytest.approx(float((out - wanted).square().mean()), rel=1e-6)


REQUEST = Request(concept="church", prompts=("a church on a hill", "a church"), anchor="house")


@pytest.mark.parametrize("objective", [Steer, Ablate, Relabel])
def test_every_regression_objective_takes_any_of_them(model: Any, objective: Any) -> None:
    context = TrainContext(model, model.frozen_copy(), REQUEST, 0)
    stream = FrozenTrajectory(grid=3, trajectories=2).open(context, REQUEST.prompts, 3, "erase")
    with torch.no_grad():
        for parameter in model.parameters_in("xattn").values():
            parameter.mul_(1.5)
        losses = [float(objective(loss=kind).prepare(context, stream, None).loss(0))
                  for kind in (Hellinger(sigma=0.2), Squared(), ChiSquare(sigma=0.2))]
    assert losses == sorted(losses)
    assert losses[0] < losses[1] < losses[2]


def test_divergences_are_told_by_kind_and_unknown_ones_refused() -> None:
    class Holder(Settings):
        loss: AnyDivergence = knob(SQUARED, "The loss")

    assert Holder.build({"loss": {"kind": "chi2", "sigma": 0.5}}).loss == ChiSquare(sigma=0.5)
    assert Holder.build({"loss": {}}).loss == Squared()
    with pytest.raises(ConfigError, match="known kinds of loss: squared, hellinger, chi2"):
        Holder.build({"loss": {"kind": "kl"}})
    assert ESD.override({"objective.loss": "hellinger"}).objective == Steer(loss=Hellinger())
    with pytest.raises(ConfigError, match=r"objective\.loss\.sigma"):
        ESD.override({"objective.loss": "chi2", "objective.loss.sigma": 0})
