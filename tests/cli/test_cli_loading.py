"""Every verb that opens a model opens a single file with a LoRA on it, from the shell, and says so in its records."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from shlex import split
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from expunge.cli import run as cli
from expunge.models.patch import Patch
from expunge.models.store import load
from original_files import bare_parts, single_file, tensors_of
from pipelines_of_families import built

ERASE = ("--steps", "2", "--set", "source.grid=2", "--set", "source.trajectories=2", "--anchor", "house",
         "--no-own-look")
SIZE = ("--steps", "2", "--height", "16", "--width", "16")


class Place:
    """A single file, the folder beside it, and a LoRA that changes the network and a text encoder."""

    def __init__(self, root: Path) -> None:
        pipe = built("sdxl")
        self.file, self.parts = single_file(root / "xl.safetensors", tensors_of(pipe)), bare_parts(pipe, root / "parts")
        layers = ("unet.mid_block.attentions.0.proj_in", "text_encoder_2.encoder.layers.0.self_attn.q_proj")
        made = {}
        for layer in layers:
            component, _, path = layer.partition(".")
            inner = getattr(pipe, component)
            weight = dict(inner.named_parameters()).get(f"{path}.weight")
            weight = inner.get_parameter(f"text_model.{path}.weight") if weight is None else weight
            made |= {f"{layer}.lora_A.weight": torch.full((1, weight.shape[1]), 0.1),
                     f"{layer}.lora_B.weight": torch.full((weight.shape[0], 1), 0.1)}
        self.lora = root / "style.safetensors"
        save_file(made, self.lora)
        self.plain = ("--model", str(self.file), "--parts", str(self.parts), "--device", "cpu")
        self.flags = (*self.plain, "--lora", f"{self.lora}:0.5")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("loading"))


@pytest.fixture(scope="module")
def erased(place: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("erased") / "church"
    return out, run("erase", "church", *place.flags, *ERASE, "--out", out)


def run(*arguments: Any, code: int = 0) -> str:
    with redirect_stdout(StringIO()) as out:
        got = cli([str(one) for one in arguments])
    assert got == code, out.getvalue()
    return out.getvalue()


def test_the_next_command_names_the_same_model(place: Place, erased: tuple[Path, str]) -> None:
    (line,) = [line for line in erased[1].splitlines() if line.startswith("next: ")]
    words = split(line)
    for flag, value in (("--model", place.file), ("--parts", place.parts), ("--lora", f"{place.lora}:0.5")):
        assert words[words.index(flag) + 1] == str(value)


def test_a_patch_goes_on_its_model_and_not_on_the_model_without_the_lora(
        place: Place, erased: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("apply", erased[0], *place.flags)
    run("apply", erased[0], *place.plain, code=2)
    assert "with LoRA style.safetensors@" in capsys.readouterr().err
    base = Patch.load(erased[0]).card.base
    assert base.startswith(f"{place.file} with LoRA style.safetensors@")
    assert base.endswith(" at 0.5")


def test_images_are_drawn_and_their_record_names_the_lora(place: Place, erased: tuple[Path, str], tmp_path: Path
                                                          ) -> None:
    run("sample", "a church", *place.flags, *SIZE, "--out", tmp_path / "with")
    run("sample", "a church", *place.plain, *SIZE, "--out", tmp_path / "without")
    run("sample", "a church", *place.flags, "--patch", erased[0], *SIZE, "--out", tmp_path / "patched")
    pictures = {kind: next((tmp_path / kind).glob("[!s]*.png")).read_bytes() for kind in ("with", "without", "patched")}
    assert len({*pictures.values()}) == 3
    shots = json.loads((tmp_path / "with" / "shots.json").read_text())
    model = load(place.file, device="cpu", parts=place.parts, lora=f"{place.lora}:0.5")
    assert {(shot["model"], shot["model_name"], shot["family"]) for shot in shots} == \
        {(model.hash, model.name, "Stable Diffusion XL")}
    assert "with LoRA style.safetensors@" in model.name


@pytest.mark.slow
def test_attacks_and_evaluations_are_of_the_model_with_the_lora(
        place: Place, erased: tuple[Path, str], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ("--clip", clip, *SIZE, "--seeds", "1", "--out", tmp_path / "evaluation", "--set", "draws=100", "--set",
             "fid_draws=20", "--distance", "ssim")
    seek = ("--attacks", "seed-search", "--clip", clip)
    assert "seed-search" in run("attack", erased[0], *place.flags, *seek, "--dry-run")
    run("evaluate", erased[0], *place.flags, *quick)
    record = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    model = load(place.file, device="cpu", parts=place.parts, lora=f"{place.lora}:0.5")
    assert (record["model"], record["model_hash"]) == (model.name, model.hash)
    assert record["card"]["base"] == model.name
    run("evaluate", erased[0], *place.plain, *quick, code=2)
    run("attack", erased[0], *place.plain, *seek, code=2)
    assert capsys.readouterr().err.count("a patch for ") == 2
    run("report", tmp_path / "evaluation", "--out", tmp_path / "report")
    assert "with LoRA style.safetensors@" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.slow
def test_merging_writes_the_lora_too(place: Place, erased: tuple[Path, str], tmp_path: Path) -> None:
    run("merge", erased[0], "--model", place.file, "--parts", place.parts, "--lora", f"{place.lora}:0.5", "--dtype",
        "float32", "--out", tmp_path / "merged")
    model = load(place.file, device="cpu", parts=place.parts, lora=f"{place.lora}:0.5")
    model.apply(Patch.load(erased[0]))
    again = load(tmp_path / "merged", device="cpu")
    for name, value in model.editable().items():
        assert torch.equal(again.editable()[name], value), name


def test_masks_are_learned_and_held_on_the_model_with_the_lora(place: Place, tmp_path: Path) -> None:
    out = run("guard", "learn", "--preset", "random", *place.flags, "--ratio", "0.5", "--out", tmp_path / "mask")
    assert f"--lora {place.lora}:0.5" in out
    run("guard", "apply", tmp_path / "mask", *place.flags, "--out", tmp_path / "train.json")
    run("guard", "apply", tmp_path / "mask", *place.plain, "--out", tmp_path / "other.json", code=2)


def test_files_of_benches_and_sequences_name_parts_and_loras(place: Place, tmp_path: Path) -> None:
    from expunge.bench.settings import read_bench
    from expunge.sequence.settings import read_sequence

    named = f"model: {place.file}\nparts: {place.parts}\nlora: ['{place.lora}:0.5']\n"
    (tmp_path / "bench.yaml").write_text(f"{named}methods: [{{method: uce}}]\nconcepts: [{{concept: church}}]\n")
    (tmp_path / "sequence.yaml").write_text(f"{named}requests: [{{concept: church}}]\n")
    for settings in (read_bench(tmp_path / "bench.yaml"), read_sequence(tmp_path / "sequence.yaml")):
        assert " with LoRA style.safetensors@" in load(settings.source, **{**settings.opening, "device": "cpu"}).name


def test_a_comma_does_not_separate_loras(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    run("sample", "a church", *place.plain, "--lora", "a.safetensors,b.safetensors", code=2)
    assert "write --lora a.safetensors --lora b.safetensors" in capsys.readouterr().err


def test_nothing_is_written_where_a_model_does_not_open(place: Place, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    run("erase", "church", "--model", place.file, *ERASE, "--out", tmp_path / "out", code=2)
    assert "--parts FOLDER" in capsys.readouterr().err
    run("erase", "church", *place.plain, "--lora", place.file, *ERASE, "--out", tmp_path / "out", code=2)
    assert "which is no part of a plain LoRA" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
