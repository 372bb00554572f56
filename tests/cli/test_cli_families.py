"""Every verb runs from the shell on a folder of every family, and what is merged is opened by plain diffusers."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from expunge.cli import run as cli
from expunge.models.denoising import denoise
from expunge.models.model import applied
from expunge.models.opening import opener
from expunge.models.patch import Patch
from expunge.models.store import load
from pipelines_of_families import BUILDERS, built, latents

SIZE = ("--steps", "2", "--height", "16", "--width", "16")
ERASE = {"esd": ("--steps", "2", "--set", "source.grid=2", "--set", "source.trajectories=2"), "uce": ()}


@pytest.fixture(scope="module", params=[
    "sdxl", *(pytest.param(name, marks=pytest.mark.slow) for name in BUILDERS if name != "sdxl")])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp(request.param) / "model"
    built(request.param).save_pretrained(where, safe_serialization=True)
    return where


def run(*arguments: Any) -> str:
    """What the command prints; it must end well."""
    with redirect_stdout(StringIO()) as out:
        code = cli([str(one) for one in arguments])
    assert code == 0, out.getvalue()
    return out.getvalue()


def erased(folder: Path, method: str, out: Path) -> str:
    return run("erase", "church", "--model", folder, "--device", "cpu", "--method", method, "--anchor", "house",
               "--no-own-look", "--out", out, *ERASE[method])


@pytest.mark.slow
@pytest.mark.parametrize("method", [*ERASE])
def test_what_is_merged_draws_in_diffusers_what_the_patched_model_draws(folder: Path, method: str, tmp_path: Path
                                                                        ) -> None:

    said = erased(folder, method, tmp_path / "patch")
    edits_pooled = any("text_embedder" in name for name in Patch.load(tmp_path / "patch").tensors)
    assert edits_pooled == (method == "uce" and "sdxl" not in folder.parent.name)
    assert ("the pooled text state still reaches" in said) != edits_pooled
    run("apply", tmp_path / "patch", "--model", folder)
    told = run("merge", tmp_path / "patch", "--model", folder, "--dtype", "float32", "--out", tmp_path / "merged")
    opened = told.partition("open it with ")[2].strip()
    assert opened == opener(tmp_path / "merged")
    pipe = eval(f"diffusers.{opened}", {"diffusers": diffusers})
    model, again, prompts = load(folder, device="cpu"), load(tmp_path / "merged", device="cpu"), ["a church"]
    x = model.initial_noise([1], 16, 16)
    with applied(model, Patch.load(tmp_path / "patch")):
        ours = denoise(model, x, model.encode(prompts), None, 2, 1.0)
    assert ours.equal(denoise(again, x, again.encode(prompts), None, 2, 1.0))
    theirs = latents(pipe, prompts, x, 2, 1.0)
    torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)


@pytest.mark.slow
def test_verbs_run_one_after_the_other(folder: Path, clip: Path, tmp_path: Path) -> None:
    patch, judged = tmp_path / "patch", ("--clip", clip, "--device", "cpu", "--model", folder)
    erased(folder, "esd", patch)
    run("sample", "a church", "--model", folder, "--patch", patch, *SIZE, "--out", tmp_path / "images")
    assert (tmp_path / "images" / "sheet.png").is_file()
    # A model of random weights shows no church, so there is nothing to attack; its plan is made all the same.
    assert "seed-search" in run("attack", patch, *judged, *SIZE, "--attacks", "seed-search", "--dry-run")
    run("evaluate", patch, *judged, *SIZE, "--distance", "ssim", "--seeds", "1", "--set", "draws=100",
        "--set", "fid_draws=20", "--out", tmp_path / "evaluation")
    record = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert any("the pooled text state still reaches" in line for line in record["warnings"])
    run("report", tmp_path / "evaluation", "--out", tmp_path / "report")
    assert "the pooled text state still reaches" in (tmp_path / "report" / "report.html").read_text()
