"""Each published method is the one objective with other settings: held to its own formula, gradients included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.continual.bregman import Gaussians, NegativeEntropy, SquaredDivergence
from expunge.continual.fisher import of_module
from expunge.continual.objective import Moment, Objective, OutputTerm, Samples, WeightTerm
from expunge.continual.presets import CPR, OBJECTIVES
from expunge.continual.variational import MeanField
from expunge.errors import ConfigError, ExpungeError

K, OLD = 6, 4


def draws(seed: int, rows: int = 7) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    return Samples(torch.randn(rows, 5, generator=generator), torch.randint(K, (rows,), generator=generator),
                   torch.randn(rows, K, generator=generator))


def net(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, K))


MODEL, PREVIOUS = net(0), net(1)
BATCH, MEMORY = draws(0), [draws(1), draws(2)]
WEIGHTS = dict(MODEL.named_parameters())
ANCHOR = {name: p.detach().clone() for name, p in PREVIOUS.named_parameters()}
FISHER = of_module(PREVIOUS, BATCH.inputs, "empirical", labels=BATCH.labels, generator=torch.Generator()).values
MOMENT = Moment(MODEL, BATCH, lambda term: MEMORY[term], PREVIOUS, WEIGHTS, {"previous": ANCHOR, "initial": ANCHOR},
                {"fisher": FISHER, "sensitivity": {name: 2 * value for name, value in FISHER.items()}}, OLD)


def penalty(metric: Any) -> Tensor:
    total = torch.zeros(())
    for name, w in MODEL.named_parameters():
        for x, y, m in zip(w.flatten(), ANCHOR[name].flatten(), metric(name).flatten(), strict=True):
            total = total + m * (x - y) ** 2 / 2
    return total


def new() -> Tensor:
    return F.cross_entropy(MODEL(BATCH.inputs), BATCH.labels)


def entropy() -> Tensor:
    p = MODEL(BATCH.inputs).softmax(-1)
    return -(p * p.log()).sum(-1).mean()


def soft_cross_entropy(target: Tensor, logits: Tensor, T: float) -> Tensor:
    return -((target / T).softmax(-1) * (logits / T).log_softmax(-1)).sum(-1).mean()


def old_outputs() -> Tensor:
    with torch.no_grad():
        return PREVIOUS(BATCH.inputs)[:, :OLD]


ONE, TWO = MEMORY
PUBLISHED = {
    "naive": lambda: torch.zeros(()),
    "er": lambda: F.cross_entropy(MODEL(ONE.inputs), ONE.labels),
    "der": lambda: 0.1 * F.mse_loss(MODEL(ONE.inputs), ONE.outputs),
    "der++": lambda: 0.1 * F.mse_loss(MODEL(ONE.inputs), ONE.outputs)
    + 0.5 * F.cross_entropy(MODEL(TWO.inputs), TWO.labels),
    "fdr": lambda: 0.5 * torch.norm(MODEL(ONE.inputs).softmax(-1) - ONE.outputs.softmax(-1), 2, 1).mean(),
    "lwf": lambda: soft_cross_entropy(old_outputs(), MODEL(BATCH.inputs)[:, :OLD], 2.0)
    - soft_cross_entropy(old_outputs(), old_outputs(), 2.0),
    "ewc": lambda: OBJECTIVES["ewc"].weights[0].weight * penalty(lambda name: FISHER[name]),
    "mas": lambda: OBJECTIVES["mas"].weights[0].weight * penalty(lambda name: 2 * FISHER[name]),
    "l2-sp": lambda: OBJECTIVES["l2-sp"].weights[0].weight * penalty(lambda name: torch.ones_like(ANCHOR[name])),
}


def slopes(value: Tensor, model: nn.Module = MODEL) -> list[Tensor]:
    grads = torch.autograd.grad(value, list(model.parameters()), allow_unused=True, materialize_grads=True)
    return [grad.detach() for grad in grads]


@pytest.mark.parametrize("name", PUBLISHED)
def test_method_is_its_published_loss_with_its_gradient(name: str) -> None:
    value = OBJECTIVES[name](MOMENT)
    by_hand = new() + PUBLISHED[name]()
    torch.testing.assert_close(value.total, by_hand)
    for mine, theirs in zip(slopes(value.total), slopes(by_hand), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(value.outputs, MODEL(BATCH.inputs))
    assert sum(value.parts.values()) == pytest.approx(float(value.total.detach()), rel=1e-5)


def test_every_preset_is_held_to_a_formula() -> None:
    assert set(OBJECTIVES) == {*PUBLISHED, "vcl"}


def test_vcl_is_the_kl_between_posterior_and_old_posterior() -> None:
    now, old = MeanField(net(0), std=0.1), MeanField(net(1), std=0.3)
    weights, anchor = dict(now.named_parameters()), {n: p.detach() for n, p in old.named_parameters()}
    value = OBJECTIVES["vcl"](Moment(now, BATCH, weights=weights, anchors={"previous": anchor}))
    kl = torch.zeros(())
    for name in weights:
        if name.endswith("/mean"):
            spread = name.replace("/mean", "/log_std")
            kl = kl + torch.distributions.kl_divergence(
                torch.distributions.Normal(weights[name], weights[spread].exp()),
                torch.distributions.Normal(anchor[name], anchor[spread].exp())).sum()
    by_hand = F.cross_entropy(now(BATCH.inputs), BATCH.labels) + OBJECTIVES["vcl"].weights[0].weight * kl
    torch.testing.assert_close(value.total, by_hand)
    for mine, theirs in zip(slopes(value.total, now), slopes(by_hand, now), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_cpr_on_top_of_another_method_rewards_entropy() -> None:
    both = OBJECTIVES["er"].with_term(CPR)(MOMENT)
    alone = OBJECTIVES["er"](MOMENT)
    penalty_alone = CPR.weight * (torch.tensor(float(K)).log() - entropy())
    torch.testing.assert_close(both.total - alone.total, penalty_alone)
    for mine, plain, theirs in zip(slopes(both.total), slopes(alone.total), slopes(-CPR.weight * entropy()),
                                   strict=True):
        torch.testing.assert_close(mine, plain + theirs, rtol=1e-4, atol=1e-6)


def test_any_number_of_terms_add_up() -> None:
    both = OBJECTIVES["der++"].with_term(OBJECTIVES["ewc"].weights[0])(MOMENT)
    assert list(both.parts) == ["new", "logits", "replay", "ewc"]
    torch.testing.assert_close(both.total, new() + PUBLISHED["der++"]() + PUBLISHED["ewc"]())


def test_terms_without_a_past_count_nothing() -> None:
    bare = Moment(MODEL, BATCH, weights=WEIGHTS)
    for objective in OBJECTIVES.values():
        assert list(objective(bare).parts) == ["new"]


def test_memory_is_drawn_once_for_each_term_and_not_for_terms_on_the_batch() -> None:
    asked: list[int] = []

    def draw(term: int) -> Samples:
        asked.append(term)
        return MEMORY[0]

    OBJECTIVES["der++"].with_term(CPR)(Moment(MODEL, BATCH, draw, weights=WEIGHTS))
    assert asked == [0, 1]


@pytest.mark.parametrize(("term", "words"), [
    ({"target": "label", "divergence": SquaredDivergence()}, "compares outputs as they are"),
    ({"target": "label", "divergence": NegativeEntropy(first="output")}, "infinite"),
    ({"target": "label", "columns": "old"}, "set columns all"),
    ({"target": "stored", "on": "current"}, "no stored output"),
])
def test_terms_that_mean_nothing_are_refused_in_words(term: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        OutputTerm.build(term)


def test_other_mistakes_are_told() -> None:
    with pytest.raises(ConfigError, match="two terms are called 'cpr'"):
        Objective.build({"outputs": (CPR, CPR)})
    with pytest.raises(ConfigError, match="metric identity"):
        WeightTerm.build({"divergence": Gaussians(), "metric": "fisher"})
    without = Samples(BATCH.inputs, BATCH.labels)
    with pytest.raises(ExpungeError, match="'logits' wants stored outputs"):
        OBJECTIVES["der"](Moment(MODEL, BATCH, lambda term: without))
    with pytest.raises(ExpungeError, match="an anchor and no fisher"):
        OBJECTIVES["ewc"](Moment(MODEL, BATCH, weights=WEIGHTS, anchors={"previous": ANCHOR}))


def test_settings_come_back_from_json() -> None:
    for objective in OBJECTIVES.values():
        whole = objective.with_term(CPR)
        assert Objective.build(whole.model_dump(mode="json")) == whole
