"""Estimates agree with the exact Fisher information where that is known, and survive the disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from expunge.continual.fisher import FORMAT, Fisher, evaluating, hutchinson, of_module
from expunge.errors import ExpungeError, ModelError, TrainingError
from expunge.files import write_tensors

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
Y = torch.randint(4, (12,), generator=torch.Generator().manual_seed(1))


def linear() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(3, 4)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def score(p: torch.Tensor, x: torch.Tensor, y: int) -> torch.Tensor:
    """d log p(y|x) / d weight of a linear softmax model, by hand: (1[k = y] - p_k) x_d."""
    return (torch.eye(4)[y] - p)[:, None] * x[None]


def test_true_fisher_is_the_exact_expectation_over_the_models_own_labels() -> None:
    model = linear()
    p = model(X).softmax(-1).detach()
    exact = sum((p[i, y] * score(p[i], X[i], y) ** 2 for i in range(12) for y in range(4)), torch.zeros(4, 3)) / 12
    torch.testing.assert_close(exact, torch.einsum("ik,id->kd", p * (1 - p), X**2) / 12)
    many = of_module(model, X.repeat(2000, 1), "true", generator=draw(), chunk=4000)
    torch.testing.assert_close(many.values["weight"], exact, rtol=0.05, atol=2e-3)
    assert many.samples == 24000


def test_empirical_and_weighted_fisher_are_sums_over_single_samples() -> None:
    model = linear()
    p = model(X).softmax(-1).detach()
    squares = torch.stack([score(p[i], X[i], int(Y[i])) ** 2 for i in range(12)])
    own = p[torch.arange(12), Y]
    for kind, weight in (("empirical", torch.ones(12)), ("weighted", own)):
        got = of_module(model, X, kind, labels=Y, generator=draw(), chunk=5)
        torch.testing.assert_close(got.values["weight"], (weight[:, None, None] * squares).mean(0))
    batch = torch.autograd.grad(nn.functional.cross_entropy(model(X), Y), model.weight)[0] ** 2
    assert not torch.allclose(batch, squares.mean(0), rtol=0.5)  # the square of a mean is something else


def test_hutchinson_is_the_diagonal_of_jtj() -> None:
    model = nn.Sequential(linear(), nn.Tanh())
    exact = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for x in X:
        for k in range(4):
            row = torch.autograd.grad(model(x)[k], list(model.parameters()))
            for value, slope in zip(exact.values(), row, strict=True):
                value += slope**2 / 12
    module = of_module(model, X.repeat(800, 1), "hutchinson", generator=draw(), chunk=2000)
    params = dict(model.named_parameters())
    closures = [lambda i=i: model(X[i % 12:i % 12 + 1]) for i in range(3000)]
    one_by_one = hutchinson(closures, params, draw(1))
    together = hutchinson([lambda: model(X)] * 3000, params, draw(2))
    assert (one_by_one.samples, together.samples) == (3000, 36000)
    for name, value in exact.items():
        for estimate in (module, one_by_one, together):
            torch.testing.assert_close(estimate.values[name], value, rtol=0.15, atol=5e-3)


def test_sensitivity_is_the_mean_size_of_the_slope_of_the_squared_output() -> None:
    model = linear()
    slopes = torch.stack([2 * model(x).detach()[:, None] * x[None] for x in X])
    got = of_module(model, X, "sensitivity", generator=draw())
    torch.testing.assert_close(got.values["weight"], slopes.abs().mean(0))


def test_chunks_do_not_matter_and_seeds_do() -> None:
    model = linear()
    whole, parts = (of_module(model, X, "empirical", labels=Y, generator=draw(), chunk=n) for n in (12, 1))
    torch.testing.assert_close(whole.values["weight"], parts.values["weight"])
    one, again, other = (of_module(model, X, "true", generator=draw(seed)) for seed in (4, 4, 5))
    assert torch.equal(one.values["weight"], again.values["weight"])
    assert not torch.equal(one.values["weight"], other.values["weight"])


def test_normalisation_layers_are_in_evaluation_mode_and_come_back() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fisher = of_module(model, X, "true", generator=draw())
    assert bool(fisher.values["0.weight"].any())  # a batch of one in training mode would give 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [part.training for part in model] == [True, True, False]
    with pytest.raises(ZeroDivisionError), evaluating(model):
        1 / 0  # noqa: B018
    assert [part.training for part in model] == [True, True, False]


def test_update_decays_and_normalisation_makes_the_mean_one() -> None:
    first = Fisher("true", 3, {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])})
    second = Fisher("true", 4, {"w": torch.tensor([10.0, 0.0]), "b": torch.tensor([0.0])})
    both = first.updated(second, decay=0.5)
    assert both.samples == 7
    assert both.values["w"].tolist() == [10.5, 1.0]
    assert first.normalised().values["b"].tolist() == [1.5]
    assert second.statistics() == {"mean": pytest.approx(10 / 3), "median": 0.0, "largest": 10.0,
                                   "zeros": pytest.approx(2 / 3)}
    with pytest.raises(ExpungeError, match="kind 'true' and one of kind 'empirical'"):
        first.updated(Fisher("empirical", 1, second.values))
    with pytest.raises(TrainingError, match="0 everywhere"):
        Fisher("true", 1, {"w": torch.zeros(2)}).normalised()


def test_it_comes_back_from_disk_and_nothing_else_does(tmp_path: Path) -> None:
    fisher = of_module(linear(), X, "true", generator=draw())
    path = tmp_path / "fisher.safetensors"
    fisher.save(path)
    back = Fisher.read(path)
    assert (back.kind, back.samples) == ("true", 12)
    assert all(torch.equal(back.values[name], value) for name, value in fisher.values.items())
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be read"):
        Fisher.read(path)
    with pytest.raises(ModelError, match="cannot be read"):
        Fisher.read(tmp_path / "nowhere.safetensors")
    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(ModelError, match=f"accepted: {FORMAT}"):
        Fisher.read(path)
    meta = {"format": FORMAT, "kind": "true", "samples": "3", "names": json.dumps(["w"])}
    for tensor, told in ((torch.tensor([-1.0]), meta), (torch.tensor([torch.nan]), meta),
                         (torch.ones(1, dtype=torch.float64), meta), (torch.ones(1), {**meta, "kind": "guess"}),
                         (torch.ones(1), {**meta, "names": json.dumps(["v"])}),
                         (torch.ones(1), {**meta, "samples": ""})):
        write_tensors(path, {"w": tensor}, told)
        with pytest.raises(ModelError, match="is damaged"):
            Fisher.read(path)


def test_nothing_to_look_at_is_an_error() -> None:
    model = linear()
    with pytest.raises(TrainingError, match="no samples"):
        hutchinson([], dict(model.named_parameters()), draw())
    with pytest.raises(ExpungeError, match="without labels"):
        of_module(model, X, "empirical", generator=draw())
    with pytest.raises(TrainingError, match="'weight' is not finite"):
        hutchinson([lambda: model(X * torch.inf)], {"weight": model.weight}, draw())
