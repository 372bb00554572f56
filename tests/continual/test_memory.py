"""What is in memory depends on the seed and on each sample's number, and every sample has the same chance."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare

from expunge.continual.memory import Reservoir
from expunge.continual.objective import Samples
from expunge.errors import ExpungeError


def stream(first: int, count: int) -> Samples:
    numbers = torch.arange(first, first + count)
    return Samples(numbers[:, None].float() * torch.tensor([1.0, 10.0]), numbers % 7, -numbers[:, None].float())


def filled(capacity: int, parts: list[int], seed: int = 0) -> Reservoir:
    memory, first = Reservoir(capacity, (2,), 1, seed=seed), 0
    for part in parts:
        memory.add(stream(first, part))
        first += part
    return memory


def test_content_does_not_depend_on_how_the_stream_was_cut() -> None:
    whole, cut = filled(10, [200]), filled(10, [1] * 50 + [37, 13, 100])
    assert all(torch.equal(cut.state[name], value) for name, value in whole.state.items())
    assert not torch.equal(whole.numbers, filled(10, [200], seed=1).numbers)


def test_what_belongs_together_stays_together() -> None:
    memory = filled(10, [3, 500])
    assert len(memory) == 10
    assert torch.equal(memory.inputs[:, 0], memory.numbers.float())
    assert torch.equal(memory.inputs[:, 1], 10 * memory.numbers.float())
    assert torch.equal(memory.labels, memory.numbers % 7)
    assert torch.equal(memory.outputs[:, 0], -memory.numbers.float())


def test_every_sample_has_the_same_chance() -> None:
    counts = torch.zeros(40)
    for seed in range(2000):
        counts[filled(5, [40], seed=seed).numbers] += 1
    assert int(counts.sum()) == 10000
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_draws_are_different_samples_and_only_what_is_there() -> None:
    memory = Reservoir(10, (2,), 1)
    assert memory.draw(4, torch.Generator().manual_seed(0)) is None
    memory.add(stream(0, 3))
    drawn = memory.draw(4, torch.Generator().manual_seed(0))
    assert drawn is not None
    assert sorted(drawn.inputs[:, 0].tolist()) == [0.0, 1.0, 2.0]
    memory.add(stream(3, 50))
    one, again, other = (memory.draw(6, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert one is not None
    assert again is not None
    assert other is not None
    assert len(set(one.inputs[:, 0].tolist())) == 6
    assert torch.equal(one.inputs, again.inputs)
    assert not torch.equal(one.inputs, other.inputs)


def test_its_state_restores_it_and_it_goes_on_alike() -> None:
    memory, other = filled(10, [60]), Reservoir(10, (2,), 1)
    for name, tensor in other.state.items():
        tensor.copy_(memory.state[name])
    for one in (memory, other):
        one.add(stream(60, 90))
    assert all(torch.equal(other.state[name], value) for name, value in memory.state.items())


def test_mistakes_are_told() -> None:
    with pytest.raises(ExpungeError, match="a memory of 0 samples"):
        Reservoir(0, (2,), 1)
    memory = Reservoir(3, (2,), 1)
    for wrong in (Samples(torch.ones(2, 3), torch.zeros(2, dtype=torch.int64), torch.ones(2, 1)),
                  Samples(torch.ones(2, 2), torch.zeros(2, dtype=torch.int64), torch.ones(2, 4)),
                  Samples(torch.ones(2, 2), torch.zeros(2, dtype=torch.int64))):
        with pytest.raises(ExpungeError, match=r"accepted: \(B, 2\) with outputs \(B, 1\)"):
            memory.add(wrong)
    assert len(memory) == 0
