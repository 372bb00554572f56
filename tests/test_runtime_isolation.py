"""What a caller set for the whole process neither reaches in nor changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import expunge
from expunge.isolated import isolated, isolation
from expunge.models.cache import ImageCache
from expunge.records import Prompt, Sampler

SAMPLER = Sampler(steps=2)


@pytest.fixture
def doubles() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_inside_numbers_are_float32_and_the_random_state_is_put_back(doubles: None) -> None:
    torch.manual_seed(5)
    following = torch.rand(2)
    torch.manual_seed(5)
    with torch.autocast("cpu", dtype=torch.bfloat16), isolation():
        torch.rand(7)
        assert torch.ones(1).dtype == torch.float32
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert torch.ones(1).dtype == torch.float64
    assert torch.equal(torch.rand(2), following)


def test_all_of_it_is_put_back_after_an_error(doubles: None) -> None:
    @isolated
    def broken() -> None:
        torch.manual_seed(0)
        raise KeyError("x")

    state = torch.get_rng_state()
    with pytest.raises(KeyError):
        broken()
    assert torch.get_default_dtype() == torch.float64
    assert torch.equal(torch.get_rng_state(), state)


def test_images_are_the_same_under_any_default_and_autocast(model: Any, tmp_path: Path) -> None:
    items = [("a church", 0), ("a dog", 1)]
    plain = expunge.sample(model, items, SAMPLER)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(expunge.sample(model, items, SAMPLER), plain)
        asked = [(Prompt(text=text, role="near"), seed) for text, seed in items]
        _, cached = ImageCache(tmp_path / "d").draw(model, asked, SAMPLER)
    finally:
        torch.set_default_dtype(torch.float32)
    assert float((cached - plain).abs().max()) <= 0.5 / 255 + 1e-6
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(expunge.sample(model, items, SAMPLER), plain)


def test_an_edit_with_its_look_takes_nothing_from_the_callers_random_state() -> None:
    model = expunge.load("embedded")
    state = torch.get_rng_state()
    expunge.erase(model, "church", "uce")
    assert torch.equal(torch.get_rng_state(), state)
