"""The null control: a UNet that holds nothing, beside a victim that stays as it is."""

from __future__ import annotations

from typing import Any

import torch

from expunge.attacks.null import randomised, shuffle
from expunge.attacks.victim import Victim


def _weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def test_victim_is_left_bit_exactly_as_it_was(victim: Victim) -> None:
    before = _weights(victim.model)
    try:
        with randomised(victim, pictures=torch.rand(1, 3, 16, 16)) as blank:
            assert blank.model.network is not victim.model.network
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    after = _weights(victim.model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_every_tensor_keeps_its_values_and_loses_their_order(victim: Victim) -> None:
    pictures = torch.rand(1, 3, 16, 16)
    with randomised(victim, pictures=pictures) as blank:
        assert blank.pictures is pictures
        mine, its = _weights(victim.model), _weights(blank.model)
    for name, value in mine.items():
        assert torch.equal(value.flatten().sort().values, its[name].flatten().sort().values)
        if value.unique().numel() > 8:
            assert not torch.equal(value, its[name])


def test_order_depends_on_the_seed_alone(victim: Victim) -> None:
    twins = [victim.model.frozen_copy() for _ in range(3)]
    for twin, seed in zip(twins, (5, 5, 6), strict=True):
        shuffle(twin.network, seed)
    a, b, c = (_weights(twin) for twin in twins)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_records_cannot_take_it_for_the_victim(victim: Victim) -> None:
    with randomised(victim, pictures=torch.rand(1, 3, 16, 16), seed=1) as one, \
            randomised(victim, pictures=torch.rand(1, 3, 16, 16), seed=2) as two:
        assert len({victim.model.hash, one.model.hash, two.model.hash}) == 3
        assert one.patch is None
        assert one.model.patch_hash == ""
