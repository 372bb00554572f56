"""diffusers' own schedulers, called as its pipeline calls them: the same latents, item by item."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from expunge.errors import UserError
from expunge.models.sample import draw
from expunge.models.schedulers import SCHEDULERS
from expunge.models.store import load
from expunge.records import Sampler

PROMPT, SEED = "a church on a hill", 7


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "lms"])
@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_images_equal_the_pipelines(name: str, guidance: float, pipeline_folder: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = SCHEDULERS[name].from_config(pipe.scheduler.config)
    model = load(pipeline_folder, device="cpu")
    noise = model.initial_noise([SEED])
    theirs = pipe(PROMPT, num_inference_steps=6, guidance_scale=guidance, latents=noise, output_type="pt").images
    ours = draw(model, [(PROMPT, SEED)], Sampler(steps=6, guidance=guidance, scheduler=name))
    assert float((ours - theirs.cpu()).abs().max()) < 1e-4


def test_lms_equals_the_pipelines(pipeline_folder: Path) -> None:
    pytest.importorskip("scipy")
    test_images_equal_the_pipelines("lms", 7.5, pipeline_folder)


def test_a_schedulers_name_is_part_of_an_images_key_and_none_changes_no_key() -> None:
    plain = Sampler().model_dump(mode="json")
    assert "scheduler" not in plain
    assert Sampler(scheduler="ddim").model_dump(mode="json")["scheduler"] == "ddim"


def test_other_schedulers_differ_from_ours(pipeline_folder: Path) -> None:
    model = load(pipeline_folder, device="cpu")
    own, euler = (draw(model, [(PROMPT, SEED)], Sampler(steps=6, guidance=7.5, scheduler=name))
                  for name in ("", "euler"))
    assert float((own - euler).abs().max()) > 1e-3
    ddim = draw(model, [(PROMPT, SEED)], Sampler(steps=6, guidance=7.5, scheduler="ddim"))
    assert torch.allclose(own, ddim, atol=1e-4)


def test_an_unknown_scheduler_is_refused(pipeline_folder: Path) -> None:
    model = load(pipeline_folder, device="cpu")
    with pytest.raises(UserError, match="scheduler 'euler-a'"):
        draw(model, [(PROMPT, SEED)], Sampler(steps=4, guidance=1.0, scheduler="euler-a"))
