"""What holds on to the past: formulas against values by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from expunge.models.conditioning import Conditioning
from expunge.records import Request
from expunge.sequence.memory import ReplayBuffer
from expunge.sequence.strategy import Projection, WeightAnchor
from expunge.sequence.terms import ReplayBatch, anchored, recalled
from expunge.unlearn.context import NoisyBatch, TrainContext
from expunge.unlearn.projected import ProjectedStepper, kept_directions
from expunge.unlearn.update import Descent, Plain


def memory(seed: int, prompts: tuple[str, ...]) -> ReplayBuffer:
    draw = torch.Generator().manual_seed(seed)
    x_t, z = (torch.randn(len(prompts), 4, 8, 8, generator=draw) for _ in range(2))
    return ReplayBuffer(x_t, torch.randint(1000, (len(prompts),), generator=draw), prompts, z, {})


@pytest.fixture
def context(model: Any) -> TrainContext:
    return TrainContext(model.edited(None), model, Request(concept="church", prompts=("a church",)), 0)


@torch.no_grad()
def test_replay_is_the_squared_gap_to_frozen_numbers(context: TrainContext) -> None:
    mine = memory(0, ("a church",))
    out = context.student.predict(mine.x_t, mine.t, context.student.encode(["a church"]))
    term = recalled(context, [ReplayBatch([mine], weight=3.0, batch=2, name="replay")])
    torch.testing.assert_close(term.loss(0), 3 * (out - mine.z).square().mean())


@torch.no_grad()
def test_one_look_has_the_points_of_all_parts_and_counts_for_the_steps_without(context: TrainContext) -> None:
    parts = [ReplayBatch([memory(0, ("a church", "a hill"))], 3.0, 2, "replay"),
             ReplayBatch([memory(1, ("a dog",))], 0.5, 3, "elsewhere")]
    alone = [recalled(context, [part]) for part in parts]
    both = recalled(context, parts, every=4)
    assert (both.every, alone[0].every) == (4, 1)
    for number in (0, 4):
        torch.testing.assert_close(both.loss(number), 4 * (alone[0].loss(number) + alone[1].loss(number)))


@torch.no_grad()
def test_replay_asks_all_earlier_requests_alike_however_much_they_left(
        context: TrainContext, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, ...]] = []
    condition = TrainContext.condition

    def noted(self: TrainContext, points: NoisyBatch) -> Conditioning:
        seen.append(points.prompts)
        return condition(self, points)

    monkeypatch.setattr(TrainContext, "condition", noted)
    term = recalled(context, [ReplayBatch([memory(0, ("a church",) * 30), memory(1, ("a house",))], 1.0, 1, "replay")])
    for number in range(40):
        term.loss(number)
    share = sum(prompts == ("a house",) for prompts in seen) / len(seen)
    assert 0.3 < share < 0.7  # in proportion to what they left it would be 1 of 31


def test_the_same_step_draws_the_same(context: TrainContext) -> None:
    term = recalled(context, [ReplayBatch([memory(0, ("a church", "a house", "a dog"))], 1.0, 2, "replay")])
    assert float(term.loss(5)) == float(term.loss(5))
    assert len({float(term.loss(number)) for number in range(6)}) > 1


@pytest.mark.parametrize("metric", [None, 2.0])
def test_an_anchor_is_half_the_weighted_mean_square_and_pulls_back(metric: float | None) -> None:
    W = torch.nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    b = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    zero = {"W": torch.zeros(2, 2), "b": torch.ones(2)}
    M = None if metric is None else {"W": torch.full((2, 2), metric), "b": torch.full((2,), metric)}
    loss = anchored({"W": W, "b": b}, zero, WeightAnchor(weight=6.0), M).loss(0)
    assert float(loss.detach()) == pytest.approx((metric or 1.0) * 6 / 2 * 30 / 6)
    loss.backward()
    torch.testing.assert_close(W.grad, (metric or 1.0) * W.detach())  # weight / size = 1
    torch.testing.assert_close(b.grad, torch.zeros(2))


def test_projected_steps_leave_alone_what_other_prompts_use(model: Any) -> None:
    kept = ["a house", "a dog"]
    U = kept_directions(model, kept, Projection(energy=0.999))
    torch.testing.assert_close(U.T @ U, torch.eye(U.shape[1]), atol=1e-5, rtol=1e-5)
    C = torch.cat([model.encode([text]).states[0] for text in kept])
    assert float((C - C @ U @ U.T).square().sum() / C.square().sum()) <= 0.001 + 1e-6
    params = {name: p for name, p in model.parameters_in("xattn.kv").items() if p.ndim == 2}
    before = {name: p.detach().clone() for name, p in params.items()}
    for p in params.values():
        p.requires_grad_(True)
    optimizer = torch.optim.Adam(params.values(), lr=1e-2)
    state = model.encode(["a church on a hill"]).states[0].detach()

    def loss() -> torch.Tensor:
        return torch.stack([(state @ p.T).square().mean() for p in params.values()]).sum()

    stepper = ProjectedStepper(Plain(), U, params)
    for _ in range(3):
        stepper.step({"erase": loss}, Descent(params, optimizer))
    for name, p in params.items():
        dW = p.detach() - before[name]
        assert float(dW.norm()) > 0
        assert float((dW @ U).norm() / dW.norm()) < 1e-4


def test_an_edited_copy_is_a_model_of_its_own(model: Any) -> None:
    twin, mine = model.edited(None), model.parameters_of("denoiser")
    assert twin.hash == model.hash
    theirs = twin.parameters_of("denoiser")
    assert all(p is not theirs[name] and torch.equal(p, theirs[name]) for name, p in mine.items())
