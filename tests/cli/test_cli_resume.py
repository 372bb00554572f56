"""Edits of a model with a LoRA that were stopped from the shell end at the weights of a run that was not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from expunge.cli import run as cli
from expunge.models.patch import Patch
from expunge.models.store import load


@pytest.fixture
def model(pipeline_folder: Path, tmp_path: Path) -> tuple[str, ...]:
    """The options of a small model with a LoRA."""
    layer = "mid_block.attentions.0.proj_in"
    (file,) = (pipeline_folder / "unet").glob("*.safetensors")
    weight = load_file(file)[f"{layer}.weight"]
    save_file({f"unet.{layer}.lora_A.weight": torch.full((1, *weight.shape[1:]), 0.1),
               f"unet.{layer}.lora_B.weight": torch.full((len(weight), 1, 1, 1), 0.1)}, tmp_path / "style.safetensors")
    return "--model", str(pipeline_folder), "--lora", f"{tmp_path / 'style.safetensors'}:0.5", "--device", "cpu"


def stopped(words: list[str], begun: Any) -> None:
    """Run the command in a process of its own, and interrupt it as soon as `begun()`."""
    process = subprocess.Popen([sys.executable, "-m", "expunge", *words], stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    deadline = time.monotonic() + 120
    while not begun() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "run the same command again to go on" in said


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--lora-rank", "2"), ("--only-with", "pixel art")])
def test_an_interrupted_edit_ends_at_the_same_weights(model: tuple[str, ...], tmp_path: Path, words: tuple[str, ...]
                                                      ) -> None:
    command = ["erase", "church", *words, *model, "--no-own-look", "--steps", "20", "--set", "checkpoint_every=0",
               "--set", "source.trajectories=2", "--set", "source.grid=2"]
    halted, whole = tmp_path / "halted", tmp_path / "whole"
    stopped([*command, "--out", str(halted)], (halted / "checkpoint.safetensors").exists)
    assert not (halted / "patch.safetensors").exists()
    assert cli([*command, "--out", str(halted)]) == cli([*command, "--out", str(whole)]) == 0
    one, other = Patch.load(halted), Patch.load(whole)
    assert {name: value.tolist() for name, value in one.tensors.items()} == \
        {name: value.tolist() for name, value in other.tensors.items()}
    assert (one.hash, one.card.base, one.card.kind) == (other.hash, other.card.base, other.card.kind)
    assert not (halted / "checkpoint.safetensors").exists()
    assert cli([*command, "--out", str(halted), "--lora-rank", "3"]) == 2  # another run's folder


@pytest.mark.slow
def test_interrupted_attacks_on_a_model_with_a_lora_end_at_the_same_record(tmp_path: Path) -> None:
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    weight = load("embedded", device="cpu").parameters_in("xattn")[f"unet/{layer}.weight"]
    factors = {"A": torch.full((1, weight.shape[1]), 0.01), "B": torch.full((len(weight), 1), 0.01)}
    save_file({f"unet.{layer}.lora_{side}.weight": value for side, value in factors.items()},
              tmp_path / "style.safetensors")
    model = ("--lora", f"{tmp_path / 'style.safetensors'}:0.5", "--device", "cpu")
    assert cli(["erase", "church", "--method", "uce", *model, "--no-own-look", "--out", str(tmp_path / "edit")]) == 0
    attack = ["attack", str(tmp_path / "edit"), *model, "--attacks", "seed-search", "--count", "4", "--seeds", "1",
              "--steps", "4", "--set", "control_items=0", "--set", "options.seed-search.tries=6"]
    halted, whole = tmp_path / "halted", tmp_path / "whole"
    stopped([*attack, "--out", str(halted)], lambda: any(halted.rglob("attempts.jsonl")))
    assert not (halted / "attack.json").exists()
    assert cli([*attack, "--out", str(halted)]) == cli([*attack, "--out", str(whole)]) == 0
    one, other = (json.loads((place / "attack.json").read_text(encoding="utf-8")) for place in (halted, whole))
    assert one["model"].endswith(" at 0.5")
    assert one["scores"] == other["scores"]
    assert [[attempt["outcome"] for attempt in run["attempts"]] for run in one["runs"]] == \
        [[attempt["outcome"] for attempt in run["attempts"]] for run in other["runs"]]
