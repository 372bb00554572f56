"""Views bring back what tone and frame hide, make nothing out of a blank, and are part of what names a judge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from expunge.errors import ModelError
from expunge.metrics.judge import EmojiJudge
from expunge.metrics.views import KINDS, seen, strongest
from expunge.tiny.emoji import WEIGHTS


def picture() -> Tensor:
    """A smooth pattern over the whole range of tones."""
    x = torch.linspace(0, 1, 64)
    return torch.stack([x[None] * x[:, None], x[None].expand(64, 64), 1 - x[:, None].expand(64, 64)])[None]


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_keeps_shape_and_range_and_leaves_one_colour_one_colour(kind: str) -> None:
    amount = {"gamma": 0.5, "stretch": 0.02, "balance": 0.02, "crop": 0.1, "shrink": 0.2, "smooth": 1.0}[kind]
    x = torch.cat([picture(), *(torch.full((1, 3, 64, 64), tone) for tone in (0.0, 0.4, 1.0))])
    out = seen(x, [(kind, amount)])
    assert out.shape == x.shape
    assert out.min() >= 0
    assert out.max() <= 1
    assert out[1:].flatten(1).std(1).max() < 1e-6, "a blank image has nothing to be seen in it"


def test_stretching_undoes_fading_and_darkening() -> None:
    x = picture()
    for changed in (x * 0.3, x * 0.5 + 0.5):
        assert (changed - x).abs().max() > 0.45
        assert (seen(changed, [("stretch", 0.0)]) - x).abs().max() < 0.03


def test_stretching_does_not_blow_up_faint_grain() -> None:
    grain = 0.5 + 0.01 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(seen(grain, [("stretch", 0.02)]), grain)
    assert torch.equal(seen(grain, [("balance", 0.02)]), grain)


def test_cropping_takes_a_frame_away() -> None:
    x = torch.full((1, 3, 64, 64), 0.5)
    x[:, :, :5] = x[:, :, -5:] = x[:, :, :, :5] = x[:, :, :, -5:] = 0
    assert torch.allclose(seen(x, [("crop", 0.08)]), torch.full_like(x, 0.5))


def test_a_thing_that_one_view_sees_is_seen_unless_the_handicap_says_no() -> None:
    logits = torch.tensor([[[0.0, 0.0, 4.0]], [[3.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]])  # two things and nothing
    assert strongest(logits, 2, 0.0).argmax(1).item() == 0
    assert strongest(logits, 2, 9.0).argmax(1).item() == 2
    assert strongest(logits[:1], 2, 9.0).argmax(1).item() == 2


def test_the_picture_as_it_is_bears_no_handicap() -> None:
    logits = torch.tensor([[[3.0, 0.0, 0.0]], [[0.0, 3.5, 0.0]]])
    assert strongest(logits, 2, 5.0).argmax(1).item() == 0
    assert torch.allclose(strongest(logits, 2, 5.0).sum(1), torch.ones(1))


def changed_card(folder: Path, **values: Any) -> EmojiJudge:
    folder.mkdir()
    for name in ("judge.safetensors", "judge.json"):
        shutil.copyfile(WEIGHTS / name, folder / name)
    card = json.loads((folder / "judge.json").read_text(encoding="utf-8"))
    (folder / "judge.json").write_text(json.dumps({**card, **values}), encoding="utf-8")
    return EmojiJudge(folder)


def test_whatever_changes_an_answer_changes_the_name_and_nothing_else_does(tmp_path: Path) -> None:
    shipped = EmojiJudge(WEIGHTS)
    card = shipped.card
    others = [changed_card(tmp_path / "handicap", handicap=card["handicap"] + 1),
              changed_card(tmp_path / "views", views=card["views"][:-1]),
              changed_card(tmp_path / "threshold", threshold={**card["threshold"], "object": 0.6}),
              changed_card(tmp_path / "temperature", temperature={**card["temperature"], "style": 1.0})]
    assert len({shipped.name, *(judge.name for judge in others)}) == 5
    assert changed_card(tmp_path / "scores", scores={}).name == shipped.name


def test_unknown_view_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="sepia"):
        changed_card(tmp_path / "odd", views=[[["sepia", 1.0]]])


def test_card_without_views_is_refused(tmp_path: Path) -> None:
    changed_card(tmp_path / "old")
    card = json.loads((tmp_path / "old" / "judge.json").read_text(encoding="utf-8"))
    (tmp_path / "old" / "judge.json").write_text(json.dumps({k: v for k, v in card.items() if k != "views"}))
    with pytest.raises(ModelError, match="views"):
        EmojiJudge(tmp_path / "old")


def test_features_distance_style_and_background_are_of_the_picture_as_it_is(tmp_path: Path) -> None:
    shipped, alone = EmojiJudge(WEIGHTS), changed_card(tmp_path / "alone", views=[])
    x = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(shipped.features(x), alone.features(x))
    assert torch.equal(shipped.distance(x, x.flip(3)), alone.distance(x, x.flip(3)))
    assert shipped.distance(x, x).max() == 0
    for question in ("style", "background"):
        assert torch.allclose(shipped.probabilities(x)[question], alone.probabilities(x)[question], atol=1e-5)


def test_no_picture_gets_no_probabilities() -> None:
    probabilities = EmojiJudge(WEIGHTS).probabilities(torch.zeros(0, 3, 64, 64))
    assert {q: len(p) for q, p in probabilities.items()} == {"object": 0, "style": 0, "background": 0}
