"""Guidance of three kinds, and conditioning that travels as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from expunge.errors import ExpungeError, UserError
from expunge.models.conditioning import Conditioning
from expunge.models.denoising import against, denoise, guided, network_conditioning, passes_of
from expunge.models.model import Model
from expunge.models.sample import draw
from expunge.records import Sampler
from families import Only, TwoTexts, two_texts


class Distilled(TwoTexts):
    """The second family, network_conditioning its guidance as a number."""

    guided = "embedded"
    null = "none"

    def predict(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        return super().predict(x_t, t, cond) * (1 + 0.01 * cond.rows["guidance"].view(-1, 1, 1, 1))


class Unguided(TwoTexts):
    guided = "none"
    null = "none"


def loaded(family: Any) -> Model:
    return Model(Only(family), "one of them")  # type: ignore[arg-type]


def test_without_a_classifier_the_output_goes_away_from_the_null() -> None:
    model, x, t = two_texts(), torch.randn(2, 4, 8, 8), torch.tensor(500.0)
    with torch.no_grad():
        cond, null = model.encode(["a church", "a dog"]), against(model, 3.0)
        assert null is not None
        assert not any(bool(tensor.any()) for tensor in null.rows.values())  # this family's null is zeros
        far, near = model.predict(x, t, cond), model.predict(x, t, null.repeat(2))
        both = network_conditioning(model, cond, null, 3.0)
        torch.testing.assert_close(guided(model, x, t, both, 3.0), near + 3.0 * (far - near))
        torch.testing.assert_close(guided(model, x, t, network_conditioning(model, cond, None, 1.0), 1.0), far)
    assert (passes_of(model.denoiser.guided, 3.0), passes_of(model.denoiser.guided, 1.0)) == (2, 1)


def test_a_negative_prompt_takes_the_place_of_zeros() -> None:
    model = two_texts()
    null = model.unconditional("a dog")
    torch.testing.assert_close(null.states, model.encode(["a dog"]).states)
    torch.testing.assert_close(null.rows["pooled"], model.encode(["a dog"]).rows["pooled"])


def test_a_distilled_model_is_told_its_guidance_and_passes_once() -> None:
    model = loaded(Distilled())
    assert passes_of(model.denoiser.guided, 7.0) == 1
    assert against(model, 7.0) is None
    low, high = (draw(model, [("a church", 0)], Sampler(steps=3, guidance=g)) for g in (1.0, 7.0))
    assert not torch.equal(low, high)


def test_a_model_without_guidance_refuses_it() -> None:
    model = loaded(Unguided())
    assert torch.isfinite(draw(model, [("a church", 0)], Sampler(steps=3, guidance=1.0))).all()
    with pytest.raises(UserError, match="guidance 1: the model takes none"):
        draw(model, [("a church", 0)], Sampler(steps=3, guidance=2.0))
    with pytest.raises(UserError, match="classifier-free guidance of one of them"):
        model.unconditional("a dog")


def test_denoising_in_parts_is_denoising(model: Any) -> None:
    with torch.no_grad():
        cond, null = model.encode(["a church", "a dog"]), model.unconditional()
    x = model.initial_noise([0, 1])
    whole = denoise(model, x, cond, null, 6, 2.0)
    half = denoise(model, x, cond, null, 6, 2.0, stop=4)
    assert torch.equal(denoise(model, half, cond, null, 6, 2.0, start=4), whole)
    with pytest.raises(UserError, match="without unconditional states"):
        denoise(model, x, cond, None, 6, 2.0)
    with pytest.raises(UserError, match="from grid point 4 to 2"):
        denoise(model, x, cond, null, 6, 2.0, start=4, stop=2)


def bag(rows: int, **more: Tensor) -> Conditioning:
    return Conditioning({"states": torch.arange(rows * 6.0).reshape(rows, 3, 2), "pooled": torch.arange(rows * 1.0),
                         **more}, {"places": torch.arange(3)})


def test_rows_of_everything_travel_together() -> None:
    one = bag(3)
    assert len(one) == 3
    picked = one.at(torch.tensor([2, 0]))
    assert picked.rows["pooled"].tolist() == [2.0, 0.0]
    assert torch.equal(picked.states, one.states[[2, 0]])
    assert one.repeat(2).rows["pooled"].tolist() == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]
    both = Conditioning.cat([one, picked])
    assert both.rows["pooled"].tolist() == [0.0, 1.0, 2.0, 2.0, 0.0]
    assert torch.equal(both.shared["places"], torch.arange(3))
    other = one.with_states(one.states + 1)
    assert torch.equal(other.states, one.states + 1)
    assert other.rows["pooled"] is one.rows["pooled"]
    assert not one.with_states(one.states.requires_grad_()).detach().states.requires_grad


def test_emptied_is_zeros_but_for_whole_numbers() -> None:
    none = bag(2, ids=torch.tensor([[1, 2], [3, 4]])).emptied()
    assert not bool(none.states.any())
    assert none.rows["ids"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("rows", [{}, {"pooled": torch.zeros(2)}, {"states": torch.zeros(2, 1), "x": torch.zeros(3)}])
def test_a_bag_without_states_or_with_uneven_rows_is_refused(rows: Mapping[str, Tensor]) -> None:
    with pytest.raises(ExpungeError, match="as many rows of each"):
        Conditioning(rows)


def test_bags_of_different_things_do_not_join() -> None:
    with pytest.raises(ExpungeError, match="all with the same names"):
        Conditioning.cat([bag(1), bag(1, more=torch.zeros(1))])
    with pytest.raises(ExpungeError, match="at least one part"):
        Conditioning.cat([])
