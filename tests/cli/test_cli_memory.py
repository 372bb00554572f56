"""Flags that have less of a model in memory: verbs run with them, and a dry run says what follows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_settings import QUICK

from expunge.cli import run
from expunge.models.patch import Patch

LESS = ("--offload", "--eight-bit", "--device", "cpu")


@pytest.mark.slow
def test_a_lora_is_trained_and_drawn_with_one_kind_of_network_in_memory_and_blocks_in_8_bits(
        pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = ("--model", str(pipeline_folder), *LESS), tmp_path / "church"
    assert run(["erase", "church", *model, "--out", str(out), "--lora-rank", "2", *QUICK]) == 0
    assert Patch.load(out).card.base_held == "8-bit blocks"
    assert run(["sample", "a church", *model, "--patch", str(out), "--steps", "2", "--count", "1",
                "--out", str(tmp_path / "images")]) == 0
    assert run(["sample", "a church", "--model", str(pipeline_folder), "--patch", str(out), "--steps", "2",
                "--count", "1", "--out", str(tmp_path / "plain")]) == 0
    capsys.readouterr()


def test_a_dry_run_says_memory_by_part_and_by_phase_and_which_figure_was_measured(
        pipeline_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = dict[str, str]()
    for more in ((), LESS):
        assert run(["erase", "church", "--model", str(pipeline_folder), *more, "--lora-rank", "2", *QUICK,
                    "--dry-run"]) == 0
        told[more[0] if more else ""] = capsys.readouterr().out
    for out in told.values():
        assert re.search(r"# memory while it trains, counted, in MiB: weights .*activations .*; in all \d", out)
        assert re.search(r"# memory by phase, counted, in MiB: .*training \d.*; at most \d.*was measured", out)
    assert "opening" in told[""]
    assert "opening" not in told["--offload"]
