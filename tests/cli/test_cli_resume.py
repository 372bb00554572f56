"""Edits of a model with a LoRA that were stopped from the shell end at the weights of a run that was not."""

from __future__ import annotations

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
