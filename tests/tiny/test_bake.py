"""The bake runs from end to end on drawings made here: every stage, resumption, leaving things out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from baking import small
from expunge.errors import UserError
from expunge.metrics.imagenet import second_missing
from expunge.metrics.imagenet_judge import ImageNetJudge
from expunge.metrics.judge import EmojiJudge
from expunge.tiny.bake.autoencoder import AUTOENCODER, standardize
from expunge.tiny.bake.recipe import bake
from expunge.tiny.bake.sampling import Cells
from expunge.tiny.bake.schedule import descend
from expunge.tiny.pictures import load_drawings, render

pytestmark = pytest.mark.slow
"""It bakes models."""


def test_plain_diffusers_opens_what_was_baked(baked: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(baked / "emoji-64")
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe("a flat emoji of a church", num_inference_steps=2, output_type="np").images
    assert drawn.shape == (1, 64, 64, 3)


def test_judge_and_statistics_belong_together(baked: Path) -> None:
    judge = EmojiJudge(baked)
    assert set(judge.questions) == {"object", "style", "background"}
    statistics = load_file(baked / "real.safetensors")
    assert statistics["mean"].shape == (judge.width,)
    assert statistics["covariance"].shape == (judge.width, judge.width)


@pytest.mark.skipif(bool(second_missing()), reason=second_missing() or "installed")
def test_the_second_judge_is_a_stage_with_its_scores(baked: Path) -> None:
    judge = ImageNetJudge(baked)
    assert judge.card["learned_from"] == 96
    assert judge.card["scores"]["through the autoencoder"]["object"]["n"] == 15
    assert "vendors held out" not in judge.card["scores"], "there are no drawings by these vendors here"
    assert set(judge.card["scores"]["pictures of nothing"]) >= {"white noise", "things outside the world"}


def test_a_stage_that_is_lost_comes_out_the_same_again(baked: Path, pictures: Path) -> None:
    weights = baked / "emoji-64" / "unet" / "diffusion_pytorch_model.safetensors"
    before = load_file(weights)
    (baked / "work" / "unet.ckpt").unlink()
    bake(small(pictures, baked))
    after = load_file(weights)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_bake_goes_on_from_an_earlier_one(baked: Path, pictures: Path, tmp_path: Path) -> None:
    bake(small(pictures, tmp_path, start=baked))
    before, after = (load_file(folder / "emoji-64" / "unet" / "diffusion_pytorch_model.safetensors")
                     for folder in (baked, tmp_path))
    moved = [(before[name].float() - after[name].float()).abs().max().item() for name in before]
    assert 0 < max(moved) < 0.05, "it starts where the other ended, and moves on"
    assert not (tmp_path / "work" / "clip.ckpt").exists(), "what was finished is not trained again"


def test_unknown_thing_to_leave_out_is_refused_before_any_work(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unicorn"):
        bake(small(pictures, tmp_path / "out", without=("unicorn",)))
    assert not (tmp_path / "out").exists()


def test_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metadata\.csv"):
        load_drawings(tmp_path)


def test_render_depends_on_its_seed_alone(pictures: Path) -> None:
    drawings = load_drawings(pictures / "emojicanvas")
    rows = torch.arange(6)
    a, grounds = render(drawings, rows, 5)
    torch.manual_seed(999)
    b, _ = render(drawings, rows, 5)
    c, _ = render(drawings, rows, 6)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert a.shape == (6, 3, 64, 64)
    assert a.min() >= 0
    assert a.max() <= 1
    assert len(grounds) == 6


def test_cells_are_drawn_equally_often() -> None:
    objects, styles = torch.tensor([0] * 9 + [1]), torch.tensor([0] * 10)
    rows = Cells(objects, styles).draw(2000, torch.Generator().manual_seed(0))
    assert 0.45 < (rows == 9).float().mean() < 0.55


def test_standardizing_changes_latents_but_no_reconstruction() -> None:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    model = AutoencoderKL(**AUTOENCODER).eval()
    x = torch.rand(4, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        before = model.encode(x).latent_dist
        picture = model.decode(before.mean).sample
        standardize(model, before.mean)
        after = model.encode(x).latent_dist
        assert torch.allclose(after.mean.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
        assert torch.allclose(after.mean.std((0, 2, 3)), torch.ones(4), atol=1e-3)
        assert torch.allclose(model.decode(after.mean).sample, picture, atol=1e-4)


def test_a_step_goes_down_the_loss_by_a_gradient_of_no_more_than_length_one() -> None:
    """What earlier steps left in the gradient has no part in it."""
    weight, still = torch.tensor([3.0, 4.0], requires_grad=True), torch.ones(1, requires_grad=True)
    weight.grad = torch.full((2,), 1e6)
    norm = descend(torch.optim.SGD([weight, still], lr=1.0), weight.square().sum() / 2, [weight])
    assert norm == pytest.approx(5.0)
    assert torch.allclose(weight.detach(), torch.tensor([3.0 - 0.6, 4.0 - 0.8]), atol=1e-5)
    assert still.item() == 1.0
