"""Training in several processes of one launcher: the weights of one, and a process that dies or is stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from expunge.models.patch import Patch
from expunge.models.store import load
from expunge.unlearn.erase import erase
from launching import finished, launch

WORKER = """
import json, os, signal, sys

folder, out, method, settings = sys.argv[1:]

from expunge.models.store import load
from expunge.unlearn.erase import erase

died, stopped = int(os.environ.get("DIES_AT", -1)), int(os.environ.get("STOPPED_AT", -1))


def tell(done, total, losses):
    if losses and os.environ["RANK"] == "1" and done == died:
        os._exit(9)
    if losses and os.environ["RANK"] == "1" and done == stopped:
        os.kill(os.getpid(), signal.SIGINT)


try:
    erase(load(folder, device="cpu"), "church", method, anchor="house", keep=["a bridge"],
          prompts=["church", "a church"], settings=json.loads(settings), out=out, own_look=False, progress=tell)
except KeyboardInterrupt as stop:
    print(stop)
    sys.exit(130)
"""
SMALL: dict[str, Any] = {"source": {"kind": "frozen", "trajectories": 2, "grid": 3}, "batch": 3, "steps": 5,
                         "learning_rate": 2e-4, "checkpoint_every": 0.0}
KEPT: dict[str, Any] = {"keep": {"source": {"kind": "frozen", "trajectories": 2, "grid": 3}, "batch": 2},
                        "retain": None}
DENOISED: dict[str, Any] = {"source": {"kind": "noised", "pictures": 2, "grid": 3}, "batch": 3,
                            "keep": {"source": {"pictures": 2, "grid": 3}, "batch": 2}, "retain": None}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "whole weights, kept": ("ablation-fast", {**SMALL, **KEPT}),
    "a LoRA": ("esd", {**SMALL, "lora_rank": 2}),
    "fewer rows than processes": ("esd", {**SMALL, "batch": 1}),
    "a text encoder under attack": ("advunlearn-fast", {**SMALL, **KEPT, "adversary": {"tokens": 2}, "steps": 3}),
    "activations made again": ("esd", {**SMALL, "checkpointing": True, "scope": "unet"}),
    "a bilevel step": ("erasediff-fast", {**SMALL, **DENOISED, "steps": 2}),
    "a mask of weights": ("salun-fast", {**SMALL, **DENOISED, "steps": 3}),
}
SLOW = ("activations made again", "a bilevel step", "a mask of weights")
WITHIN = 1e-5
"""Largest distance of all changed weights, as a share of their norm."""


def trained(folder: Path, out: Path, case: str, count: int, env: dict[str, str] | None = None) -> list[Any]:
    method, settings = CASES[case]
    return launch(count, ["-c", WORKER, str(folder), str(out), method, json.dumps(settings)], env)


def distance(one: Patch, other: Patch) -> float:
    """Of the changed weights, as a share of their norm."""
    assert one.tensors.keys() == other.tensors.keys()
    apart = sum(float((one.tensors[name] - value).square().sum()) for name, value in other.tensors.items())
    return float((apart / sum(float(value.square().sum()) for value in other.tensors.values())) ** 0.5)


@pytest.fixture(scope="module")
def alone(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Patch]:
    """The edit of one process, made when it is first asked for."""
    class Made(dict[str, Patch]):
        def __missing__(self, case: str) -> Patch:
            method, settings = CASES[case]
            self[case] = erase(load(pipeline_folder, device="cpu"), "church", method, anchor="house", keep=["a bridge"],
                               prompts=["church", "a church"], settings=settings, own_look=False)
            return self[case]

    return Made()


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] if case in SLOW else [])
                                  for case in CASES])
def test_two_processes_train_the_weights_of_one(pipeline_folder: Path, alone: dict[str, Patch], tmp_path: Path,
                                                case: str) -> None:
    finished(trained(pipeline_folder, tmp_path, case, 2))
    made = Patch.load(tmp_path)
    assert distance(made, alone[case]) < WITHIN
    assert made.card.losses["erase"] == pytest.approx(alone[case].card.losses["erase"], rel=1e-3)
    assert not (tmp_path / "checkpoint.safetensors").exists()
    unmoved = load(pipeline_folder, device="cpu").parameters_of("denoiser", "text")
    if case == "whole weights, kept":  # the same would hold of an edit that does nothing
        moved = sum(float((made.tensors[name] - unmoved[name]).square().sum()) for name in made.tensors)
        assert moved ** 0.5 > 100 * WITHIN * sum(float(unmoved[name].square().sum()) for name in made.tensors) ** 0.5


@pytest.mark.slow
def test_four_processes_train_the_weights_of_one(pipeline_folder: Path, alone: dict[str, Patch], tmp_path: Path
                                                 ) -> None:
    finished(trained(pipeline_folder, tmp_path, "whole weights, kept", 4))
    assert distance(Patch.load(tmp_path), alone["whole weights, kept"]) < WITHIN


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_where_a_process_died_any_number_of_them_goes_on(pipeline_folder: Path, alone: dict[str, Patch], tmp_path: Path,
                                                         count: int) -> None:
    first, second = trained(pipeline_folder, tmp_path, "whole weights, kept", 2, {"DIES_AT": "3"})
    assert second.wait(240) == 9
    assert "another process of this launch is gone" in first.communicate(timeout=240)[0]
    assert (tmp_path / "checkpoint.safetensors").exists()
    finished(trained(pipeline_folder, tmp_path, "whole weights, kept", count))
    assert distance(Patch.load(tmp_path), alone["whole weights, kept"]) < WITHIN


def test_where_one_is_asked_to_stop_all_stop_behind_the_same_step(pipeline_folder: Path, alone: dict[str, Patch],
                                                                  tmp_path: Path) -> None:
    running = trained(pipeline_folder, tmp_path, "whole weights, kept", 2, {"STOPPED_AT": "2"})
    said = [process.communicate(timeout=240)[0] for process in running]
    assert [process.returncode for process in running] == [130, 130], said
    assert all("stopped at step 2; run the same command again" in text for text in said)
    finished(trained(pipeline_folder, tmp_path, "whole weights, kept", 2))
    assert distance(Patch.load(tmp_path), alone["whole weights, kept"]) < WITHIN


def test_what_has_no_steps_is_refused_before_every_process_does_it(pipeline_folder: Path, tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CASES, "a closed form", ("uce", {}))
    for process in trained(pipeline_folder, tmp_path / "out", "a closed form", 2):
        assert "the method uce under a launcher of 2 processes" in process.communicate(timeout=240)[0]
        assert process.returncode
    assert not (tmp_path / "out").exists()
