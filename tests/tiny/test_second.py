"""The second judge's images, its training, and how the shipped heads scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from expunge.errors import UserError
from expunge.metrics import packaged
from expunge.metrics.base import OfKin
from expunge.metrics.clip import ClipJudge
from expunge.metrics.imagenet import second_missing
from expunge.metrics.imagenet_judge import ImageNetJudge
from expunge.tiny.bake.autoencoder import AUTOENCODER
from expunge.tiny.bake.sampling import Cells
from expunge.tiny.bake.second import ROWS, Seen, Studio, accuracy, calibrate, train_heads
from expunge.tiny.bake.second_pictures import (
    BLEND,
    IGNORE,
    JUNK,
    NO_STYLE,
    NOTHING,
    changed,
    held_out,
    junk,
    redrawn,
    things,
    unseen_changes,
)
from expunge.tiny.emoji import WEIGHTS, emoji_world
from expunge.tiny.pictures import Drawings
from expunge.tiny.world import HELD_OUT_VENDORS, THINGS, VENDORS


@pytest.fixture(scope="module")
def autoencoder() -> AutoencoderKL:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoencoderKL(**AUTOENCODER).eval()


@pytest.fixture(scope="module")
def drawings() -> Drawings:
    """Two things by two vendors, one of them held out."""
    vendors = torch.tensor([list(VENDORS).index(name) for name in ("noto", "twemoji")] * 2)
    rgba = torch.randint(0, 255, (4, 4, 128, 128), generator=torch.Generator().manual_seed(0)).byte()
    return Drawings(rgba, torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 1, 1]), vendors, "x")


LEAST = {"vendors it learned from": 0.93, "through the autoencoder": 0.95, "other tone and frame": 0.85,
         "vendors held out": 0.75}
DRAWINGS = {"blend": 0.3, "things outside the world": 0.65}
"""These are drawings, and are called by the name of what they resemble."""


class Averages:
    """In the network's place: 1,280 numbers that a test can follow."""

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(pictures, 20).flatten(1).repeat(1, 2)[:, :1280]


def test_the_world_says_which_second_judge_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    world = emoji_world()
    if second_missing():
        pytest.skip(second_missing())
    request = world.prompts.request("church")
    assert isinstance(world.second(request), ImageNetJudge)
    assert world.second(request) is world.second(world.prompts.request("flat"))
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    other = emoji_world().second(request)
    assert isinstance(other, ClipJudge)
    assert other.name.startswith("clip-judge")


@pytest.mark.parametrize("concepts", [("church", "pixel art"), ("pixel art", "church")])
def test_without_the_extra_the_second_judge_asks_for_every_concept_and_tells_its_kin(
        concepts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    world = emoji_world()
    judge = world.second(world.prompts.request(concepts))
    assert isinstance(judge, OfKin)
    assert {*judge.questions} == {"object", "style"}
    assert "may err alike" in judge.kin


def test_a_bake_says_at_once_that_the_network_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from expunge.tiny.bake.recipe import bake
    from expunge.tiny.bake.settings import BakeSettings

    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        bake(BakeSettings.build({"pictures": tmp_path, "out": tmp_path / "out"}))
    assert not (tmp_path / "out").exists()


def test_the_shipped_heads_scored_well_where_it_counts() -> None:
    scores: dict[str, Any] = json.loads((WEIGHTS / "second.json").read_text())["scores"]
    for name, least in LEAST.items():
        assert scores[name]["object"]["accuracy"] >= least, name
        low, high = scores[name]["object"]["interval"]
        assert low <= scores[name]["object"]["accuracy"] <= high
    for kind, found in scores["pictures of nothing"].items():
        assert found["not called a thing"] >= DRAWINGS.get(kind, 0.95), kind


def test_junk_has_no_name_and_a_blend_of_one_thing_is_no_junk(drawings: Drawings, autoencoder: AutoencoderKL) -> None:
    kinds = torch.arange(len(JUNK)).repeat(4)
    cells, draw = Cells(drawings.objects, drawings.styles), torch.Generator().manual_seed(0)
    made = junk(drawings, cells, kinds, 3, draw, autoencoder)
    assert made.pictures.shape == (len(kinds), 3, 64, 64)
    assert 0 <= made.pictures.min() <= made.pictures.max() <= 1
    blend = kinds == JUNK.index("blend")
    assert set(made.objects[blend].tolist()) <= {BLEND, IGNORE}
    assert set(made.objects[~blend].tolist()) == {NOTHING}
    assert set(made.styles[kinds == JUNK.index("white noise")].tolist()) == {NO_STYLE}


def test_changes_keep_half_of_the_pictures_and_depend_on_their_generator_alone() -> None:
    x = torch.rand(200, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    a, b = (changed(x, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(a, b)
    assert a.shape == x.shape
    assert 0 <= a.min() <= a.max() <= 1
    assert 80 < (a == x).flatten(1).all(1).sum() < 150
    for name, change in unseen_changes().items():
        assert change(x[:2]).shape == (2, 3, 64, 64), name
        assert not torch.equal(change(x[:2]), x[:2]), name


def test_latents_are_disturbed_where_something_is_drawn(autoencoder: AutoencoderKL) -> None:
    x = torch.full((1, 3, 64, 64), 0.5)
    disturb = lambda pictures: (redrawn(autoencoder, pictures, torch.Generator().manual_seed(0)) -
                                redrawn(autoencoder, pictures)).abs().max()
    assert disturb(x) == 0
    x[..., 20:40, 20:40] = 1.0
    assert disturb(x) > 0


def test_pictures_by_held_out_vendors_are_marked(drawings: Drawings) -> None:
    assert held_out(drawings).tolist() == [False, True, False, True]
    assert things(drawings, torch.arange(4), 0).apart.tolist() == [False, True, False, True]
    assert "twemoji" in HELD_OUT_VENDORS


@pytest.mark.slow
def test_a_pool_that_was_stopped_goes_on_where_it_was(drawings: Drawings, autoencoder: AutoencoderKL, tmp_path: Path
                                                      ) -> None:
    studio = Studio(drawings, drawings, autoencoder, Averages())  # type: ignore[arg-type]
    quiet = lambda *_: None
    whole = studio.pool(192, tmp_path / "whole.safetensors", quiet)
    studio.pool(96, tmp_path / "parts.safetensors", quiet)
    parts = studio.pool(192, tmp_path / "parts.safetensors", quiet)
    assert len(whole) == 192
    assert torch.equal(whole.features, parts.features)
    assert torch.equal(whole.labels["object"], parts.labels["object"])


@pytest.mark.slow
def test_heads_learn_what_features_tell_and_are_calibrated() -> None:
    """Three things, each with a hundred features of its own; a tenth of the labels is wrong."""
    draw = torch.Generator().manual_seed(0)
    objects = torch.randint(3, (1500,), generator=draw)
    features = 0.02 * torch.rand(1500, 1280, generator=draw)
    features[torch.arange(1500)[:, None], objects[:, None] * 100 + torch.arange(100)] += 1
    wrong = torch.rand(1500, generator=draw) < 0.1
    labels = {"object": torch.where(wrong, (objects + 1) % 3, objects), "style": torch.zeros(1500).long()}
    seen = Seen(features, labels, torch.zeros(1500).bool())
    first, rest = torch.arange(1500) < 1300, torch.arange(1500) >= 1300
    heads = train_heads(seen.where(first), 0)
    temperature = calibrate(heads, seen.where(rest))
    found = accuracy(heads, temperature, Seen(features[rest], {"object": objects[rest], "style": labels["style"][rest]},
                                              rest[rest]))
    assert found["object"]["accuracy"] > 0.95
    assert found["style"]["accuracy"] == 1.0
    assert found["object"]["n"] == 200
    assert temperature["object"] > 0.5, "with wrong labels about, nothing may be too sure"
    assert len(ROWS["object"]) == len(THINGS) + 3
