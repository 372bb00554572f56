"""Surgery takes out of the erase gradient what contradicts the keep's, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import pytest
import torch
from stepping import stepped
from torch import Tensor
from torch.nn import Parameter

from expunge.unlearn.saliency import Masked
from expunge.unlearn.subspace import spared
from expunge.unlearn.surgery import Surgery
from expunge.unlearn.update import Plain


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors]).double()


def draws(seed: int = 0, scale: float = 1.0) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4), (5,), (2, 2, 2), (7,)]
    u, r = ([scale * torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2))
    return u, r


def test_projection_is_the_hand_computed_one() -> None:
    u, r = [torch.tensor([1.0, 0.0])], [torch.tensor([-1.0, 1.0])]
    # u.r = -1, |r|^2 = 2: u + r / 2
    torch.testing.assert_close(spared(u, r)[0], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(spared(u, r, strength=0.5)[0], torch.tensor([0.75, 0.25]))
    # cos = -1/sqrt 2, r/|r| = (-1, 1)/sqrt 2: u + (1/2)(-1, 1); with u ten times shorter the same (-0.5, 0.5) is taken
    torch.testing.assert_close(spared(u, r, rule="cosine")[0], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(spared([0.1 * u[0]], r, rule="cosine")[0], torch.tensor([-0.4, 0.5]))


def test_block_decides_what_conflicts() -> None:
    u = [torch.tensor([1.0, 0.0]), torch.tensor([2.0])]
    r = [torch.tensor([-1.0, 0.0]), torch.tensor([3.0])]
    by_tensor, as_one = spared(u, r), spared(u, r, block="global")  # u.r = -1 + 6
    torch.testing.assert_close(by_tensor[0], torch.zeros(2))
    assert torch.equal(by_tensor[1], u[1])
    assert all(torch.equal(a, b) for a, b in zip(as_one, u, strict=True))
    torch.testing.assert_close(flat(spared(u, [-t for t in r], block="global")),
                               flat(u) - (1 - 6) / 10 * torch.tensor([1.0, 0.0, -3.0], dtype=torch.float64))


@pytest.mark.parametrize("scale", [1e-18, 1e-4, 1.0, 1e4])
@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_left_against_the_keep_in_any_block(seed: int, scale: float) -> None:
    u, r = draws(seed, scale)
    for a, b in zip(spared(u, r), r, strict=True):
        a, b = a.double(), b.double()
        assert float((a * b).sum()) >= -1e-6 * float(a.norm() * b.norm())
    a, b = flat(spared(u, r, block="global")), flat(r)
    assert float(a @ b) >= -1e-6 * float(a.norm() * b.norm())


@pytest.mark.parametrize("rule", ["projection", "cosine"])
@pytest.mark.parametrize("block", ["tensor", "global"])
def test_without_conflict_nothing_changes_by_a_bit(block: str, rule: str) -> None:
    u, r = draws(1)
    agreeing = [b if float((a * b).sum()) >= 0 else -b for a, b in zip(u, r, strict=True)]
    got = spared(u, agreeing, block=block, rule=rule)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(got, u, strict=True))
    untouched = spared(u, [-b for b in agreeing], strength=0.0, block=block, rule=rule)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(untouched, u, strict=True))


def test_a_keep_that_says_nothing_changes_nothing() -> None:
    u, _ = draws(2)
    for block in ("tensor", "global"):
        got = spared(u, [torch.zeros_like(t) for t in u], block=block)  # type: ignore[arg-type]
        assert all(torch.equal(a, b) for a, b in zip(got, u, strict=True))


@pytest.mark.parametrize(("length", "rule", "share", "along_keep", "along_erase"), [
    (1.0, "projection", 0.30, 0.00, 0.95), (1.0, "cosine", 1.70, 0.83, 0.29),
    (0.3, "projection", 0.30, 0.00, 0.95), (0.3, "cosine", 5.7, 0.98, -0.13)])
def test_cosine_rule_overshoots_short_gradients_until_they_descend_the_keep(
        length: float, rule: str, share: float, along_keep: float, along_erase: float) -> None:
    # 32 equal tensors at cosine -0.3, |g_u| = length over all of them: each is far shorter than lambda = 1.
    each = length / math.sqrt(32)
    u = [torch.tensor([each, 0.0])] * 32
    r = [torch.tensor([-0.3, math.sqrt(1 - 0.09)])] * 32
    got, before, keep = flat(spared(u, r, rule=rule)), flat(u), flat(r)  # type: ignore[arg-type]
    cosine = partial(torch.cosine_similarity, dim=0)
    assert float((got - before).norm() / before.norm()) == pytest.approx(share, rel=0.01)
    assert float(cosine(got, keep)) == pytest.approx(along_keep, abs=0.01)
    assert float(cosine(got, before)) == pytest.approx(along_erase, abs=0.01)


def problem() -> tuple[dict[str, Parameter], torch.optim.Optimizer]:
    params = {"a": Parameter(torch.tensor([1.0, 2.0])), "b": Parameter(torch.tensor([3.0])),
              "unused": Parameter(torch.tensor([5.0]))}
    return params, torch.optim.SGD(params.values(), lr=0.1)


def erase_loss(params: dict[str, Parameter]) -> Tensor:
    return params["a"][0] + 2 * params["b"].sum()  # gradients (1, 0), 2


def keep_loss(params: dict[str, Parameter]) -> Tensor:
    return -params["a"][0] + params["a"][1] + params["b"].sum()  # gradients (-1, 1), 1


@pytest.mark.parametrize(("settings", "a", "b"), [
    (Surgery(), (-0.5, 1.5), 3.0),
    (Surgery(add_keep=False), (0.5, 0.5), 2.0),
    (Surgery(strength=0.0), (0.0, 1.0), 3.0),
    (Surgery(add_keep=False, max_grad_norm=1.0), (0.5 / math.sqrt(4.5), 0.5 / math.sqrt(4.5)), 2.0 / math.sqrt(4.5)),
    (Surgery(block="global", add_keep=False), (1.0, 0.0), 2.0),
    # erase clipped to (1, 0, 2)/sqrt 5, keep to (-1, 1, 1)/sqrt 3
    (Surgery(add_keep=False, clip_each=1.0), (0.5 / math.sqrt(5), 0.5 / math.sqrt(5)), 2 / math.sqrt(5)),
], ids=["default", "as published", "lambda 0", "clip", "global", "clip each"])
def test_step_moves_along_the_gradient_that_is_left(settings: Surgery, a: tuple[float, float], b: float) -> None:
    params, optimizer = problem()
    losses = stepped(settings, partial(erase_loss, params), partial(keep_loss, params), params, optimizer)
    assert losses == {"erase": 7.0, "keep": 4.0}
    torch.testing.assert_close(params["a"].detach(), torch.tensor([1.0, 2.0]) - 0.1 * torch.tensor(a))
    torch.testing.assert_close(params["b"].detach(), torch.tensor([3.0 - 0.1 * b]))
    assert params["unused"].item() == 5.0


def test_lambda_zero_is_no_surgery() -> None:
    results = []
    for update in (Surgery(strength=0.0), Plain()):
        params, optimizer = problem()
        for _ in range(3):
            stepped(update, lambda p=params: erase_loss(p).square(), lambda p=params: keep_loss(p).square(), params,
                        optimizer)
        results.append(torch.cat([p.detach() for p in params.values()]))
    assert torch.equal(*results)


def test_within_a_mask_only_what_is_in_it_is_projected_and_moves() -> None:
    params, optimizer = problem()
    inside = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in params.items()}
    inside["a"][0] = True  # there erase and keep pull apart, so nothing is left; the keep's own gradient is
    from expunge.unlearn.saliency import MaskedStepper

    before = {name: p.detach().clone() for name, p in params.items()}
    stepped(MaskedStepper(inside, before, Surgery()), partial(erase_loss, params), partial(keep_loss, params), params,
                                                  optimizer)
    torch.testing.assert_close(params["a"].detach(), torch.tensor([1.0 + 0.1, 2.0]))
    assert params["b"].item() == 3.0
    assert Masked(update=Surgery()).update == Surgery()
