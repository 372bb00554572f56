"""Closed forms are the divergences of their generators, and agree with other people's formulas, gradients included."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, Normal, kl_divergence

from expunge.continual.bregman import (
    Gaussians,
    NegativeEntropy,
    Quadratic,
    RootDivergence,
    SquaredDivergence,
    by_definition,
)
from expunge.errors import ExpungeError

DRAW = torch.Generator().manual_seed(3)
P, Q = (torch.randn(5, 4, generator=DRAW, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("squared", [SquaredDivergence(), SquaredDivergence(average=True),
                                     SquaredDivergence(space="probabilities")], ids=repr)
def test_squared_is_the_divergence_of_its_generator(squared: SquaredDivergence) -> None:
    seen = (P.softmax(-1), Q.softmax(-1)) if squared.space == "probabilities" else (P, Q)
    torch.testing.assert_close(squared.between(squared.target(P), Q), by_definition(squared.potential, *seen))


def test_squared_has_the_half_and_sums_over_whole_rows() -> None:
    rows = P.reshape(5, 2, 2)
    by_hand = torch.stack([sum(((a - b) ** 2 / 2 for a, b in zip(p, q, strict=True)), torch.tensor(0.0))
                           for p, q in zip(P, Q, strict=True)])
    torch.testing.assert_close(SquaredDivergence().between(rows, Q.reshape(5, 2, 2)), by_hand)
    torch.testing.assert_close(2 * SquaredDivergence(average=True).between(P, Q).mean(), F.mse_loss(Q, P))


def test_negative_entropy_is_kl_and_the_divergence_of_its_generator() -> None:
    for T in (1.0, 2.0):
        kl = NegativeEntropy(temperature=T)
        of_target, of_output = Categorical(logits=P / T), Categorical(logits=Q / T)
        got = kl.between(kl.target(P), Q)
        torch.testing.assert_close(got, kl_divergence(of_target, of_output))
        torch.testing.assert_close(got, by_definition(kl.potential, of_target.probs, of_output.probs))
        other = NegativeEntropy(temperature=T, first="output").between(kl.target(P), Q)
        torch.testing.assert_close(other, kl_divergence(of_output, of_target))
        assert not torch.allclose(got, other)


def test_target_first_makes_cross_entropy_of_a_label_and_output_first_would_be_infinite() -> None:
    labels = torch.tensor([0, 3, 1, 1, 2])
    one_hot = F.one_hot(labels, 4).double()
    output = Q.clone().requires_grad_(True)
    loss = NegativeEntropy().between(one_hot, output)
    torch.testing.assert_close(loss, F.cross_entropy(Q, labels, reduction="none"))
    (mine,) = torch.autograd.grad(loss.sum(), output)
    torch.testing.assert_close(mine, Q.softmax(-1) - one_hot)
    assert bool(NegativeEntropy(first="output").between(one_hot, Q).isinf().all())


def test_divergences_are_zero_where_the_two_agree_and_only_there() -> None:
    for kind in (SquaredDivergence(), NegativeEntropy(), NegativeEntropy(first="output"), RootDivergence()):
        assert bool((kind.between(kind.target(P), P).abs() < 1e-12).all())
        assert bool((kind.between(kind.target(P), Q) > 1e-3).all())


def test_distance_is_a_root_whose_gradient_stays_finite() -> None:
    torch.testing.assert_close(RootDivergence().between(RootDivergence().target(P), Q),
                               ((P.softmax(-1) - Q.softmax(-1)) ** 2).sum(-1).sqrt())
    same = P.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(RootDivergence(space="output").between(P, same).sum(), same)
    assert not bool(slope.any())


def test_quadratic_weighs_each_entry_by_the_metric() -> None:
    w = {"a": P[0].clone().requires_grad_(True), "b": Q[0].clone().requires_grad_(True)}
    old, metric = {"a": Q[1], "b": P[1]}, {"a": P[2].abs(), "b": Q[2].abs()}
    value = Quadratic().between(w, old, metric)
    by_hand = sum(float(m) * (float(x) - float(y)) ** 2 / 2 for name in w
                  for x, y, m in zip(w[name].detach(), old[name], metric[name], strict=True))
    assert float(value.detach()) == pytest.approx(by_hand)
    (slope,) = torch.autograd.grad(value, w["a"])
    torch.testing.assert_close(slope, metric["a"] * (w["a"].detach() - old["a"]))
    flat = {"all": torch.cat([P[0], Q[0]])[None]}
    by_generator = by_definition(lambda v: (0.5 * v**2 * torch.cat(list(metric.values()))).sum(-1), flat["all"],
                                 torch.cat(list(old.values()))[None])
    torch.testing.assert_close(value.detach()[None], by_generator)
    unweighted = Quadratic().between(w, old, None).detach()
    assert float(unweighted) == pytest.approx(sum(float(((w[n].detach() - old[n]) ** 2).sum()) / 2 for n in w))


def test_gaussians_are_the_kl_of_normals_and_the_divergence_of_their_moments() -> None:
    now = {"a/mean": P[0], "a/log_std": 0.3 * Q[0], "b/mean": P[1], "b/log_std": 0.3 * Q[1]}
    old = {name: value.flip(0) for name, value in now.items()}
    normal = lambda side, stem: Normal(side[f"{stem}/mean"], side[f"{stem}/log_std"].exp())
    expected = sum(kl_divergence(normal(now, stem), normal(old, stem)).sum() for stem in "ab")
    got = Gaussians().between(now, old, None)
    torch.testing.assert_close(got, expected)
    moments = lambda side: torch.stack([side["a/mean"], (2 * side["a/log_std"]).exp() + side["a/mean"] ** 2])[None]
    by_generator = by_definition(Gaussians().potential, moments(now), moments(old))
    alone = Gaussians().between({n: v for n, v in now.items() if n[0] == "a"}, old, None)
    torch.testing.assert_close(by_generator, alone[None])


def test_gaussians_refuse_weights_that_are_none() -> None:
    with pytest.raises(ExpungeError, match=r"first: 'w'.*MeanField"):
        Gaussians().between({"w": P}, {"w": Q}, None)
    with pytest.raises(ExpungeError, match="no normals"):
        Gaussians().between({"a/mean": P}, {"a/mean": Q}, None)
