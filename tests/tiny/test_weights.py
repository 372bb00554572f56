"""The weights in the package: small, open to plain diffusers, and able to draw what the judge can name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import Tensor

import expunge
from expunge.metrics.imagenet import second_missing
from expunge.metrics.imagenet_judge import ImageNetJudge
from expunge.metrics.judge import EmojiJudge
from expunge.models.model import Model
from expunge.records import Sampler
from expunge.tiny.emoji import WEIGHTS, emoji_world
from expunge.tiny.score import contact_sheet, held_out_items, score_model
from expunge.tiny.world import NEVER_SEEN, SEEN

SAMPLER = Sampler(steps=20)
ITEMS = held_out_items(SEEN[::3], 5)
"""Twelve objects in five styles each."""


@pytest.fixture(scope="module")
def embedded() -> Model:
    return expunge.load("embedded", device="cpu")


@pytest.fixture(scope="module")
def drawn(embedded: Model) -> Tensor:
    return expunge.sample(embedded, ITEMS, SAMPLER, batch=30)


def test_weights_are_small_and_safetensors_only() -> None:
    files = [file for file in WEIGHTS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 40e6
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".txt"}


@pytest.mark.slow
def test_it_is_drawn_at_the_guidance_that_suits_it(embedded: Model) -> None:
    assert embedded.guidance == SAMPLER.guidance
    prompt = ("a flat emoji of a cat", 3)
    assert torch.equal(expunge.sample(embedded, [prompt]), expunge.sample(embedded, [prompt], SAMPLER))


@pytest.mark.slow
def test_plain_diffusers_draws_the_same_picture(embedded: Model) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(WEIGHTS / "emoji-64")
    pipe.set_progress_bar_config(disable=True)
    assert isinstance(pipe.scheduler, DDIMScheduler)
    prompt = "a 3d emoji of a rose on a white background"
    latents = embedded.initial_noise([5])
    theirs = pipe(prompt, num_inference_steps=20, guidance_scale=SAMPLER.guidance, latents=latents,
                  output_type="pt").images
    ours = expunge.sample(embedded, [(prompt, 5)], SAMPLER)
    assert torch.allclose(theirs, ours, atol=2e-3)


@pytest.mark.slow
def test_pictures_do_not_depend_on_batch_or_order(embedded: Model, drawn: Tensor) -> None:
    again = expunge.sample(embedded, ITEMS[5::-1], SAMPLER, batch=4).flip(0)
    assert (again - drawn[:6]).abs().max() < 1 / 255


def test_judge_sees_what_the_prompt_asked_for_far_above_chance(drawn: Tensor) -> None:
    answers = EmojiJudge(WEIGHTS)(drawn)
    for question, share in (("object", 0.9), ("style", 0.85), ("background", 0.95)):
        right = sum(a.answers.get(question) == p.labels[question] for a, (p, _) in zip(answers, ITEMS, strict=True))
        assert right >= share * len(ITEMS), question


@pytest.mark.skipif(bool(second_missing()), reason=second_missing() or "installed")
def test_a_judge_that_nobody_here_trained_sees_the_same_objects(drawn: Tensor) -> None:
    answers = ImageNetJudge(WEIGHTS)(drawn)
    right = sum(a.answers.get("object") == p.labels["object"] for a, (p, _) in zip(answers, ITEMS, strict=True))
    assert right >= 0.8 * len(ITEMS)
    darker = ImageNetJudge(WEIGHTS)(drawn * 0.6)
    assert sum(a.answers.get("object") == p.labels["object"] for a, (p, _) in zip(darker, ITEMS, strict=True)) >= \
        0.75 * len(ITEMS), "darker, and the same"


@pytest.mark.slow
def test_things_never_seen_are_not_drawn(embedded: Model) -> None:
    items = held_out_items(NEVER_SEEN, 4)
    answers = EmojiJudge(WEIGHTS)(expunge.sample(embedded, items, SAMPLER, batch=16))
    assert sum(a.answers.get("object") == p.labels["object"] for a, (p, _) in zip(answers, items, strict=True)) <= 3


def test_statistics_of_real_pictures_fit_the_judge() -> None:
    world = emoji_world()
    real = world.reference()
    assert real.features == world.features().name
    assert real.covariance.shape == (world.features().width,) * 2
    assert torch.linalg.eigvalsh(real.covariance).min() > -1e-9


def test_clip_prefers_the_right_text(drawn: Tensor) -> None:
    clip = emoji_world().clip()
    texts = [prompt.text for prompt, _ in ITEMS]
    right, wrong = clip(drawn, texts), clip(drawn, texts[7:] + texts[:7])
    assert right.mean() > wrong.mean() + 0.05


def test_scores_count_every_picture(drawn: Tensor) -> None:
    scores = score_model(lambda items, _: drawn[:1].expand(len(items), -1, -1, -1), EmojiJudge(WEIGHTS), SAMPLER, 1)
    by_name = {score.name: score for score in scores}
    assert by_name["emoji/object"].n == len(SEEN)
    assert by_name["emoji/never_seen"].n == 2 * len(NEVER_SEEN)
    assert by_name["emoji/object"].numerator <= 1, "one image cannot show all objects"


def test_contact_sheet_leaves_undrawn_cells_white(tmp_path: Path) -> None:
    from PIL import Image

    sheet = contact_sheet(lambda items, _: torch.zeros(len(items), 3, 64, 64), SAMPLER, tmp_path / "sheet.png")
    with Image.open(sheet) as image:
        assert image.size == (12 * 64, 15 * 64)
        assert image.getpixel((10, 4 * 64 + 10)) == (255, 255, 255)  # church, outlined
        assert image.getpixel((74, 4 * 64 + 10)) == (0, 0, 0)
