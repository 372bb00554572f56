"""An image depends on its prompt, seed, sampler and weights; the batch shows in nothing but rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from expunge.errors import ModelError, UserError
from expunge.models.sample import draw
from expunge.records import Prompt, Sampler

SAMPLER = Sampler(steps=4, guidance=3.0)
ITEMS = [("a church", 0), ("a dog", 0), ("a church", 1), ("a house by the sea", 5), ("a dog", 7), ("", 3),
         ("a", 2)]


@pytest.fixture
def pictures(model: Any) -> torch.Tensor:
    return draw(model, ITEMS, SAMPLER)


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_batch_size_changes_no_more_than_rounding(model: Any, pictures: torch.Tensor, batch: int) -> None:
    difference = float((draw(model, ITEMS, SAMPLER, batch=batch) - pictures).abs().max())
    print(f"largest pixel difference between batches of {batch} and {len(ITEMS)}: {difference:.1e}")
    assert difference < 2e-5
    apart = min(float((a - b).abs().max()) for i, a in enumerate(pictures) for b in pictures[:i])
    assert apart > 100 * 2e-5


def test_order_changes_no_more_than_rounding(model: Any, pictures: torch.Tensor) -> None:
    order = [3, 6, 0, 5, 2, 4, 1]
    shuffled = draw(model, [ITEMS[i] for i in order], SAMPLER, batch=3)
    assert float((shuffled - pictures[order]).abs().max()) < 2e-5


def test_global_generator_is_neither_read_nor_moved(model: Any, pictures: torch.Tensor) -> None:
    torch.manual_seed(1234)
    before = torch.random.get_rng_state()
    assert draw(model, ITEMS, SAMPLER).equal(pictures)
    assert torch.random.get_rng_state().equal(before)


def test_prompt_records_and_texts_are_the_same(model: Any, pictures: torch.Tensor) -> None:
    records = [(Prompt(text=text, role="near"), seed) for text, seed in ITEMS]
    assert draw(model, records, SAMPLER).equal(pictures)


def test_every_setting_of_the_sampler_counts(model: Any, pictures: torch.Tensor) -> None:
    for change in ({"steps": 5}, {"guidance": 1.0}, {"guidance": 6.0}, {"negative": "a castle"}):
        other = draw(model, ITEMS[:1], SAMPLER.model_copy(update=change))
        assert float((other - pictures[:1]).abs().max()) > 1e-3, change
    assert draw(model, ITEMS[:2], Sampler(steps=2, height=32, width=8)).shape == (2, 3, 32, 8)


def test_sink_and_progress_hear_of_every_picture(model: Any, pictures: torch.Tensor) -> None:
    heard: dict[int, torch.Tensor] = {}
    told: list[tuple[int, int]] = []
    out = draw(model, ITEMS, SAMPLER, batch=3, sink=heard.__setitem__,
               progress=lambda *counts: told.append(counts))
    assert list(heard) == list(range(len(ITEMS)))
    assert torch.stack([heard[i] for i in range(len(ITEMS))]).equal(out)
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_nothing_asked_is_nothing_drawn(model: Any) -> None:
    assert draw(model, [], SAMPLER).shape == (0, 3, 16, 16)


def test_an_overlong_prompt_stops_before_the_first_picture(model: Any) -> None:
    drawn: list[int] = []
    with pytest.raises(UserError, match="tokens"):
        draw(model, [("a church", 0), ("a " * 40, 1)], SAMPLER, batch=1, sink=lambda i, _: drawn.append(i))
    assert not drawn


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_that_no_generator_takes_are_refused(model: Any, seed: int) -> None:
    with pytest.raises(UserError, match=f"seed {seed}; accepted: 0 to"):
        draw(model, [("a church", 0), ("a church", seed)], SAMPLER)
    assert draw(model, [("a church", 2**64 - 1)], SAMPLER).shape == (1, 3, 16, 16)


def test_values_that_are_not_finite_are_no_picture(model: Any) -> None:
    """They would be black, and count as images without the concept."""
    with torch.no_grad():
        model.components["vae"].decoder.conv_out.bias.fill_(float("nan"))
    drawn: list[int] = []
    with pytest.raises(ModelError, match="not finite for 'a church'"):
        draw(model, ITEMS, SAMPLER, sink=lambda i, _: drawn.append(i))
    assert not drawn


def test_contradictory_requests_are_refused(model: Any) -> None:
    with pytest.raises(UserError, match="no effect"):
        draw(model, ITEMS, Sampler(guidance=1.0, negative="a dog"))
    with pytest.raises(UserError, match="batch of 0"):
        draw(model, ITEMS, SAMPLER, batch=0)


@pytest.mark.parametrize("item", ["a church", ("a church",), ("a church", 0.5), ("a church", True), ("a church", None),
                                  (None, 0), ("a church", "3"), ("a church", torch.Generator()), 5])
def test_what_is_no_prompt_with_a_seed_is_refused(model: Any, item: Any) -> None:
    with pytest.raises(UserError, match="as an image to draw"):
        draw(model, [item], SAMPLER)


def test_seeds_of_numpy_and_iterators_of_items_are_taken(model: Any) -> None:
    plain = draw(model, [("a church", 0), ("a dog", 1)], SAMPLER)
    assert torch.equal(draw(model, zip(["a church", "a dog"], np.arange(2), strict=True), SAMPLER), plain)
    assert draw(model, [("a church", 0)], SAMPLER, batch=np.int64(4)).shape[0] == 1  # type: ignore[arg-type]
    with pytest.raises(UserError, match="None as the items"):
        draw(model, None, SAMPLER)  # type: ignore[arg-type]


@pytest.mark.parametrize(("wrong", "says"), [
    ({"sampler": 2}, "as the sampler"), ({"sampler": {"steps": 2}}, "as the sampler"),
    ({"batch": None}, "batch of None"), ({"batch": 2.0}, "batch of 2.0"), ({"batch": True}, "batch of True"),
    ({"batch": "4"}, "batch of '4'"),
    ({"model": "embedded"}, "as the model")])
def test_arguments_of_other_types_are_told(model: Any, wrong: dict[str, Any], says: str) -> None:
    told = {"model": model, "sampler": SAMPLER, "batch": 2, **wrong}
    with pytest.raises(UserError, match=says):
        draw(told["model"], [("a church", 0)], told["sampler"], batch=told["batch"])
