"""Users at a mask: both chain rules against autograd, and the ends of the scale against ordinary training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from guard_examples import pictures, publisher, same, weights
from torch import Tensor, nn
from torch.nn import Parameter

from expunge.errors import ExpungeError
from expunge.finetune import FineTune, fine_tuning, material
from expunge.guard.relaxed import LoraUser, WholeUser
from expunge.guard.users import Users, user_at_mask
from expunge.models.lora import Lora
from expunge.models.model import Model

NAMES = ("net/0.weight", "net/0.bias", "net/2.weight", "net/2.bias")


class Small:
    """A `Training` of a small network on fixed numbers."""

    def __init__(self, optimizer: str = "sgd") -> None:
        generator = torch.Generator().manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        self.params: dict[str, Parameter] = {f"net/{name}": p for name, p in self.net.named_parameters()}
        with torch.no_grad():
            for p in self.params.values():
                p.copy_(torch.randn(p.shape, generator=generator))
        self.x, self.y = (torch.randn(6, n, generator=generator).double() for n in (3, 2))
        kind = torch.optim.AdamW if optimizer == "adamw" else torch.optim.SGD
        self.optimizer: Any = kind(self.params.values(), lr=0.05)

    def loss(self, number: int) -> Tensor:
        return (self.net(self.x) - self.y).square().mean() * (1 + number)


def at(small: Small, values: dict[str, Tensor]) -> Tensor:
    """The loss at other weights, differentiable by them."""
    out = torch.func.functional_call(small.net, {name.partition("/")[2]: v for name, v in values.items()}, (small.x,))
    return (out - small.y).square().mean()


def test_gradient_by_the_mask_is_that_of_autograd_through_theta_of_m() -> None:
    small = Small()
    pre = {name: p.detach().clone() for name, p in small.params.items()}
    user = WholeUser(small, pre, NAMES, clip=1e9)
    m = torch.tensor([0.3, 0.9, 0.0, 0.6]).double()
    user.set(m)
    for number in range(5):
        user.step(number)
    leaf = m.clone().requires_grad_(True)
    theta = {name: leaf[k] * pre[name] + (1 - leaf[k]) * user._ft[name] for k, name in enumerate(NAMES)}
    at(small, theta).backward()
    assert leaf.grad is not None
    assert float(leaf.grad.abs().min()) > 0
    assert torch.allclose(user.gradient(small.loss(0)), leaf.grad)
    for name, p in small.params.items():
        assert torch.allclose(p, theta[name].detach())


def test_users_descend_by_what_they_own_through_theta_of_m() -> None:
    """One step of plain gradient descent on theta_ft, against autograd."""
    small = Small()
    pre = {name: p.detach().clone() for name, p in small.params.items()}
    user, m = WholeUser(small, pre, NAMES, clip=1e9), [0.3, 0.9, 0.0, 0.6]
    user.set(torch.tensor(m).double())
    ft = {name: value.clone().requires_grad_(True) for name, value in pre.items()}
    at(small, {name: m[k] * pre[name] + (1 - m[k]) * ft[name] for k, name in enumerate(NAMES)}).backward()
    user.step(0)
    for name, value in ft.items():
        assert value.grad is not None
        assert torch.allclose(user._ft[name], value.detach() - 0.05 * value.grad)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_mask_of_ones_holds_everything_bit_for_bit(optimizer: str) -> None:
    small = Small(optimizer)
    pre = {name: p.detach().clone() for name, p in small.params.items()}
    user = WholeUser(small, pre, NAMES, clip=1.0)
    user.set(torch.ones(4).double())
    for number in range(3):
        user.step(number)
    assert same({name: p.detach() for name, p in small.params.items()}, pre)


@contextmanager
def user(model: Model, kind: str, m: float, **more: Any) -> Iterator[Any]:
    names = tuple(model.parameters_of("denoiser"))
    quick = {"batch": 2, "drop": 0.0}
    users = Users.build({"adamw": {**quick, "learning_rate": 4e-3}, "lora": {**quick, "learning_rate": 2e-2},
                         "sgd": quick, "dreambooth": {**quick, "learning_rate": 4e-3}})
    with user_at_mask(model, users, kind, publisher(model).forbidden[0], names, seed=3,  # type: ignore[arg-type]
                      **more) as trial:
        trial.set(torch.full((len(names),), m, dtype=torch.float64))
        yield trial


@pytest.mark.parametrize("kind", ["adamw", "sgd", "dreambooth"])
def test_a_mask_of_zeros_is_ordinary_fine_tuning(model: Model, kind: str) -> None:
    before, prior = weights(model), publisher(model, prior=True).prior
    with user(model, kind, 0.0, prior=prior) as trial:
        for number in range(3):
            trial.step(number)
        moved = weights(model)
    faster = {} if kind == "sgd" else {"learning_rate": 4e-3}
    settings = Users.build({kind: {"batch": 2, "drop": 0.0, **faster}}).tuning(
        kind).model_copy(update={"steps": 3})  # type: ignore[arg-type]
    with fine_tuning(model, publisher(model).forbidden[0], settings, seed=3,
                     prior=prior if kind == "dreambooth" else None) as tuner:
        list(tuner.train())
        ordinary = weights(model)
    assert max(float((moved[name] - ordinary[name]).abs().max()) for name in moved) < 1e-6
    assert not same(moved, before)
    assert same(weights(model), before), "the model was not given back"


def test_gradient_by_the_mask_of_a_lora_is_that_of_its_scales(model: Model) -> None:
    """By differences: the loss at the mask a little to either side."""
    names, lora = tuple(model.parameters_of("denoiser")), Lora(rank=2)
    settings = FineTune(scope="lora", lora=lora, learning_rate=5e-2, batch=2, drop=0.0, steps=9)
    with fine_tuning(model, material(model, pictures(2, 0.0), ["a church"] * 2), settings) as tuner:
        trial = LoraUser(tuner, model.network, names, 1.0, "unet")
        m = torch.full((len(names),), 0.4, dtype=torch.float64)
        trial.set(m)
        for number in range(6):
            trial.step(number)
        found = trial.gradient(tuner.loss(0))
        on = [k for k, name in enumerate(names) if name.endswith("attn2.to_v.weight")]
        assert {k for k, value in enumerate(found.tolist()) if value} == \
            {k for k, name in enumerate(names) if name.rpartition(".weight")[0].endswith(lora.targets)}
        for k in on:
            sides = []
            for way in (-1, 1):
                other = m.clone()
                other[k] += way * 0.2
                trial.set(other)
                sides.append(float(tuner.loss(0).detach()))
            assert float(found[k]) == pytest.approx((sides[1] - sides[0]) / 0.4, rel=0.1, abs=2e-6)


def test_a_lora_under_a_mask_of_ones_says_nothing(model: Model) -> None:
    with user(model, "lora", 0.0) as trial:
        trial.step(0)
        cond = model.encode(["a church"])
        x = model.initial_noise([0])
        names = len(tuple(model.parameters_of("denoiser"))) - 2 * sum(
            ".lora_A." in name for name, _ in model.network.named_parameters())
        adapted = model.predict(x, torch.tensor([500]), cond)
        trial.set(torch.ones(names, dtype=torch.float64))
        held = model.predict(x, torch.tensor([500]), cond)
    plain = model.predict(x, torch.tensor([500]), cond)
    assert float((held - plain).detach().abs().max()) < 1e-4 < float((adapted - plain).detach().abs().max())


def test_a_module_without_a_lora_is_told(model: Model) -> None:
    with pytest.raises(ExpungeError, match="no layer with a LoRA"):
        LoraUser(Small(), model.network, NAMES, 1.0, "unet")
