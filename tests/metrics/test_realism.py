"""What looks like the model's own images, and what has the same shape at another tone: on what emoji-64 draws."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from second_extra import needs_second
from torch import Tensor

import expunge
from expunge.errors import ExpungeError
from expunge.metrics.imagenet import ImageNetFeatures
from expunge.metrics.realism import (
    Reference,
    blank,
    edge_similarity,
    ordinary_pictures,
    saturated,
    sharpness,
    smeared,
)
from expunge.records import Sampler
from expunge.tiny.score import held_out_items
from expunge.tiny.world import SEEN


@pytest.fixture(scope="module")
def drawn() -> Tensor:
    """One picture of each of the 36 things, drawn in ten steps: the last twelve are not in the reference."""
    return expunge.sample(expunge.load("embedded", device="cpu"), held_out_items(SEEN, 1), Sampler(steps=10), batch=12)


def broken(pictures: Tensor) -> dict[str, Tensor]:
    """Ways to answer without drawing anything."""
    draw = torch.Generator().manual_seed(0)
    shape, purple = pictures.shape, torch.tensor([0.6, 0.3, 0.8])[:, None, None]
    squares = ((torch.arange(64)[:, None] // 8 + torch.arange(64) // 8) % 2).float()
    return {
        "purple noise": (purple + 0.2 * torch.randn(shape, generator=draw)).clamp(0, 1),
        "faint purple noise": (purple + 0.08 * torch.randn(shape, generator=draw)).clamp(0, 1),
        "white noise": torch.rand(shape, generator=draw),
        "black": torch.zeros(shape), "white": torch.ones(shape), "purple": purple.expand(shape),
        "smears": F.interpolate(F.avg_pool2d(pictures, 8), (64, 64), mode="bilinear"),
        "heavy smears": F.interpolate(F.avg_pool2d(pictures, 16), (64, 64), mode="bilinear"),
        "checkerboards": squares.expand(shape) * torch.rand(len(pictures), 3, 1, 1, generator=draw)}


@needs_second
def test_broken_pictures_are_not_ordinary_and_pictures_of_other_things_are(drawn: Tensor) -> None:
    features = ImageNetFeatures()
    reference = Reference.of(features(drawn[:24]), k=1)
    fresh = drawn[24:]
    assert ordinary_pictures(reference, fresh, features(fresh)).sum() >= 11, "one of twelve may lie apart"
    for name, pictures in broken(fresh).items():
        assert not ordinary_pictures(reference, pictures, features(pictures)).any(), name


@needs_second
def test_features_alone_know_everything_but_smears(drawn: Tensor) -> None:
    features = ImageNetFeatures()
    reference = Reference.of(features(drawn[:24]), k=1)
    for name, pictures in broken(drawn[24:]).items():
        assert "smears" in name or not reference.ordinary(features(pictures)).any(), name


@needs_second
def test_a_darker_picture_is_still_an_ordinary_one(drawn: Tensor) -> None:
    features = ImageNetFeatures()
    reference = Reference.of(features(drawn[:24]), k=1)
    assert ordinary_pictures(reference, drawn[24:] / 2, features(drawn[24:] / 2)).sum() >= 10


def test_distance_is_to_the_kth_neighbour_in_units_of_the_references_own() -> None:
    """On a line: features of unit length on a circle, a degree apart."""
    angle = torch.deg2rad(torch.arange(10.0))
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    reference = Reference.of(circle, k=2, quantile=1.0)
    step = 2 * torch.sin(torch.deg2rad(torch.tensor(0.5)))
    assert reference.reach == pytest.approx(2 * float(step), rel=1e-3), "the ends have their second neighbour two away"
    beyond = torch.deg2rad(torch.tensor([10.5, 12.0]))
    ask = 7 * torch.stack([beyond.cos(), beyond.sin()], 1)  # length says nothing
    assert reference.distances(ask).tolist() == pytest.approx([1.25, 2.0], rel=1e-2)
    assert reference.ordinary(torch.cat([ask, circle])).tolist() == [False] * 2 + [True] * 10
    assert reference.ordinary(ask[:0]).shape == (0,)


def test_the_quantile_leaves_out_what_lies_apart() -> None:
    x = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    reaches = [Reference.of(x, 3, q).reach for q in (0.5, 0.9, 1.0)]
    assert reaches == sorted(reaches)
    assert float((Reference.of(x, 3, 0.5).distances(x) <= 1).float().mean()) >= 0.5


@pytest.mark.parametrize("ask", [
    lambda: Reference.of(torch.rand(4, 3), k=3), lambda: Reference.of(torch.rand(9, 3), k=0),
    lambda: Reference.of(torch.rand(9, 3), quantile=1.5), lambda: Reference.of(torch.full((9, 3), torch.nan)),
    lambda: Reference.of(torch.rand(9, 3)).ordinary(torch.rand(2, 4)),
    lambda: edge_similarity(torch.rand(2, 3, 8, 8), torch.rand(1, 3, 8, 8))])
def test_what_cannot_be_compared_is_refused(ask) -> None:
    with pytest.raises(ExpungeError):
        ask()


def test_blank_is_one_colour_and_nothing_else(drawn: Tensor) -> None:
    ways = broken(drawn)
    assert not blank(drawn).any()
    assert all(blank(ways[name]).all() for name in ("black", "white", "purple"))
    assert not any(blank(ways[name]).any() for name in ("purple noise", "faint purple noise", "checkerboards"))


def test_saturated_is_full_colour_and_no_line_drawing(drawn: Tensor) -> None:
    assert not saturated(drawn).any()
    assert not saturated((drawn > 0.5).float().amin(1, keepdim=True).expand_as(drawn)).any(), "black and white"
    assert saturated(torch.tensor([1.0, 0, 1])[None, :, None, None].expand(1, 3, 8, 8)).all()


def test_smears_are_told_by_sharpness_at_any_tone_and_size(drawn: Tensor) -> None:
    ways = broken(drawn)
    assert not smeared(drawn).any()
    assert smeared(ways["smears"]).all()
    assert smeared(ways["heavy smears"]).all()
    assert not smeared(ways["black"]).any(), "blank is another fault"
    assert torch.allclose(sharpness(drawn / 2 + 0.3), sharpness(drawn), atol=1e-4)
    larger = F.interpolate(drawn, scale_factor=4, mode="nearest")
    assert torch.allclose(sharpness(larger), sharpness(drawn), atol=1e-4)


def test_edges_lie_on_one_another_after_a_change_of_tone_and_not_between_things(drawn: Tensor) -> None:
    grain = 0.03 * torch.randn(drawn.shape, generator=torch.Generator().manual_seed(0))
    changes = {"half as bright": drawn / 2, "faded": drawn / 2 + 0.5,
               "dark and grainy": (drawn / 2 + grain).clamp(0, 1),
               "dark and shifted": torch.roll(drawn, 1, 3) / 2, "gamma": drawn**2, "negative": 1 - drawn}
    for name, other in changes.items():
        assert edge_similarity(drawn, other).min() > 0.65, name
    strangers = edge_similarity(drawn, drawn.roll(9, 0))
    assert strangers.median() < 0.3
    assert strangers.quantile(0.9) < 0.5
    assert edge_similarity(drawn, torch.zeros_like(drawn)).tolist() == [0.0] * len(drawn)
