"""ST-LPIPS from its package: values that its own code gave, tolerance of a shift, and what else people see."""

from __future__ import annotations

import pytest
import torch
from second_extra import needs_second
from torch import Tensor

from expunge.errors import ModelError, UserError
from expunge.files import file_digest
from expunge.metrics import stlpips
from expunge.metrics.judge import EmojiJudge
from expunge.metrics.named import distance_named
from expunge.metrics.packaged import packaged_file
from expunge.metrics.stlpips import StLpips
from expunge.tiny.emoji import WEIGHTS

pytestmark = needs_second
PUBLISHED = [0.466973, 0.310948, 0.322202]


def gratings(count: int, side: int = 64) -> Tensor:
    """Images that can be written down: waves of growing frequency, other phases per channel."""
    line = torch.linspace(0, 1, side)
    waves = [(6.2832 * (n + 1) * (line[:, None] * (c + 1) / 3 + line[None, :] * (3 - c) / 3)).sin() / 2 + 0.5
             for n in range(count) for c in range(3)]
    return torch.stack(waves).view(count, 3, side, side)


def test_the_packages_own_code_gave_these_values() -> None:
    """Its LPIPS(net="alex", variant="shift_tolerant"), version 0.0.2, on the same images."""
    x = gratings(4)
    assert StLpips()(x[:3], x[1:]).tolist() == pytest.approx(PUBLISHED, abs=1e-5)


def test_it_is_nought_for_equal_pictures_and_symmetric() -> None:
    x = gratings(4)
    assert StLpips()(x, x).tolist() == [0.0] * 4
    assert torch.allclose(StLpips()(x[:2], x[2:]), StLpips()(x[2:], x[:2]))
    assert StLpips()(x[:0], x[:0]).shape == (0,)


def test_values_do_not_depend_on_the_batch() -> None:
    x = gratings(5)
    assert torch.allclose(StLpips(batch=2)(x, x.flip(0)), StLpips()(x, x.flip(0)), atol=1e-6)


def test_a_shift_by_one_pixel_is_forgiven_and_another_seeds_picture_is_not() -> None:
    import expunge

    model = expunge.load("embedded", device="cpu")
    prompts = ("a flat emoji of a cat", "a 3d emoji of a house", "a pixel art emoji of a rose")
    drawn = expunge.sample(model, [(text, seed) for seed in (0, 1) for text in prompts])
    here, other = drawn[:3], drawn[3:]
    shifted = torch.roll(here, 1, 3)
    near, far = StLpips()(here, shifted), StLpips()(here, other)
    assert (near < 0.4 * far).all()
    judge = EmojiJudge(WEIGHTS)
    assert near.mean() / far.mean() < 0.5 * judge.distance(here, shifted).mean() / judge.distance(here, other).mean()


def test_it_is_named_by_the_hash_of_its_weights() -> None:
    distance = StLpips()
    digest = file_digest(packaged_file(stlpips.PACKAGE, "weights/vST0.0/alex_shift_tolerant.pth"))
    assert (distance.name, distance.hash) == (f"st-lpips-alex@{digest[:8]}", digest)
    assert distance_named("st-lpips").name == distance.name


def test_other_weights_and_tiny_pictures_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="32x32"):
        StLpips()(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16))
    monkeypatch.setattr(stlpips, "_FILE", "weights/vST0.0/vgg_shift_tolerant.pth")
    with pytest.raises(ModelError, match="other weights"):
        StLpips()
