"""Rounding weights: the grid is right, items are drawn with rounded weights, and the weights come back."""

from __future__ import annotations

import pytest
import torch
from brightness import ITEMS, REQUEST, SAMPLER, Brightness, church_above

from expunge.attacks.quantise import Quantise, rounded
from expunge.attacks.victim import Goal, Victim
from expunge.errors import ConfigError
from expunge.metrics.base import Aim
from expunge.models.model import Model
from expunge.registry import ATTACKS


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 3, 3)])
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_values_lie_on_each_channel_s_grid(shape: tuple[int, ...], bits: int) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weight[1] = 0
    out = rounded(weight, bits)
    assert out.shape == weight.shape
    assert torch.equal(out[1], weight[1])
    for channel, back in zip(weight, out, strict=True):
        step = float(channel.abs().max()) / (2 ** (bits - 1) - 1)
        assert float((channel - back).abs().max()) <= step / 2 + 1e-6
        assert len(back.unique()) <= 2 ** bits - 1


def test_rounding_by_hand() -> None:
    weight = torch.tensor([[7.0, 3.4, -0.6], [0.14, 0.0, -0.11]])
    expected = torch.tensor([[7.0, 3.0, -1.0], [0.14, 0.0, -0.12]])  # steps 1 and 0.02
    assert torch.allclose(rounded(weight, 4), expected, atol=1e-6)
    assert torch.allclose(rounded(rounded(weight, 4), 4), rounded(weight, 4), atol=1e-6)


def test_each_number_of_bits_is_looked_at_in_turn(model: Model) -> None:
    before = {name: p.detach().clone() for name, p in model.parameters_of("denoiser").items()}
    victim = Victim(model, None, SAMPLER)
    plain = victim.draw([p.text for p, _ in ITEMS], [s for _, s in ITEMS])
    judge = Brightness(2.0)
    outcomes = list(Quantise(bits=(8, 3)).outcomes(victim, REQUEST, ITEMS, Goal(judge, Aim("church", "object"))))
    eight, three = (float((seen - plain).abs().mean()) for seen in judge.seen)
    assert 0 < eight < three
    assert [(o.found, o.spent.images, o.spent.network_rows) for o in outcomes] == [(False, 2, 6)] * len(ITEMS)
    assert all("3 bits" in o.note for o in outcomes)
    assert all(torch.equal(p, before[name]) for name, p in model.parameters_of("denoiser").items())


def test_found_at_the_first_and_again_draws_rounded(model: Model) -> None:
    victim = Victim(model, None, SAMPLER)
    plain = victim.draw(["a church"], [0])
    for outcome in Quantise(bits=(3, 8)).run(victim, REQUEST, ITEMS[:1], church_above(-1.0)):
        assert outcome.found
        assert "3 bits" in outcome.note
        assert outcome.again is not None
        again = outcome.again([0])
        assert outcome.picture is not None
        assert torch.allclose(again[0], outcome.picture, atol=1e-5)
        assert not torch.allclose(again, plain, atol=1e-3)


def test_outcomes_do_not_depend_on_batch_or_order(model: Model) -> None:
    victim, judge = Victim(model, None, SAMPLER), Brightness(2.0)
    list(Quantise(bits=(3,)).outcomes(victim, REQUEST, ITEMS, Goal(judge, Aim("church", "object"))))
    means = sorted(judge.seen[0].mean((1, 2, 3)).tolist())
    goal = church_above((means[1] + means[2]) / 2)
    found = []
    for attack, items in ((Quantise(bits=(3,)), ITEMS), (Quantise(bits=(3,), batch=1), ITEMS),
                          (Quantise(bits=(3,)), ITEMS[::-1])):
        outcomes = attack.outcomes(victim, REQUEST, items, goal)
        found.append({(items[o.row][0].text, items[o.row][1]): o.found for o in outcomes})
    assert found[0] == found[1] == found[2]
    assert sum(found[0].values()) == 2


def test_text_encoder_is_rounded_on_request(model: Model) -> None:
    victim, pictures = Victim(model, None, SAMPLER), []
    for text_encoder in (True, False):
        judge = Brightness(2.0)
        attack = Quantise(bits=(4,), text_encoder=text_encoder)
        list(attack.outcomes(victim, REQUEST, ITEMS[:1], Goal(judge, Aim("church", "object"))))
        pictures.append(judge.seen[0])
    assert not torch.equal(pictures[0], pictures[1])


def test_settings_and_registry() -> None:
    assert ATTACKS.get("quantise") is Quantise
    assert Quantise().budget(SAMPLER).images == 2
    with pytest.raises(ConfigError, match="bits"):
        Quantise.build({"bits": [1]})
