"""A whole bench: cells that go on where they were stopped, fail alone, and are shared by processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import colour_world
import pytest
import torch
from colour_world import attacked_world

from expunge.bench.cells import CELL, planned_cells
from expunge.bench.forecast import estimated
from expunge.bench.make import _controls
from expunge.bench.run import run_bench
from expunge.bench.settings import BenchSettings
from expunge.config import merged
from expunge.errors import ConfigError, UserError
from expunge.locks import held
from expunge.models.patch import Patch
from expunge.models.store import load
from expunge.records import BenchResult, Edit, ImageRecord, Score, SuiteResult
from launching import finished, launch

HOT = {"method": "esd", "label": "hot",
       "settings": {"source": {"trajectories": 2, "grid": 3}, "batch": 2, "steps": 4, "learning_rate": 1e30}}
"""Settings that pass every check and end in a loss that is no number."""


def run(small: dict[str, Any], out: Path, *changes: dict[str, Any], **more: Any) -> BenchResult:
    return run_bench(BenchSettings.build(merged(small, *changes)), out=out, world=attacked_world(), **more)


def told(edit: Edit) -> dict[str, Any]:
    """All that does not depend on the clock."""
    values = edit.model_dump(exclude={"seconds", "created", "cost"})
    return {**values, "trained": edit.cost.unet_trained if edit.cost else None}


@pytest.fixture(scope="module")
def done(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[BenchResult, Path]:
    out = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_CACHE", str(out / "pictures"))
        return run(small, out), out


def test_every_method_meets_every_concept_with_every_seed(done: tuple[BenchResult, Path]) -> None:
    result, out = done
    assert [(edit.method, edit.seed) for edit in result.edits] == [("esd", 0), ("stronger", 0), ("esd", 1),
                                                                  ("stronger", 1)]
    assert result.missing == 0
    assert not any(edit.failed_at for edit in result.edits)
    assert BenchResult.read((out / "bench.json").read_text()) == result
    for edit in result.edits:
        patch = Patch.load(out / edit.folder)
        assert (patch.hash, patch.card.seed, patch.card.steps) == (edit.patch_hash, edit.seed,
                                                                   2 if edit.method == "esd" else 4)
        assert (out / edit.folder / "attack" / "attack.json").is_file()
        assert (out / edit.folder / "evaluation" / "evaluation.json").is_file()
    assert len({edit.patch_hash for edit in result.edits}) == 4


def test_cost_is_that_of_the_edit(done: tuple[BenchResult, Path]) -> None:
    result, out = done
    edit = result.edits[1]
    assert edit.cost is not None
    tensors = Patch.load(out / edit.folder).tensors
    assert edit.cost.changed == sum(tensor.numel() for tensor in tensors.values()) < edit.cost.of
    assert (edit.cost.steps, edit.cost.unet_trained) == (4, 8)
    assert edit.cost.patch_bytes == (out / edit.folder / "patch.safetensors").stat().st_size
    assert edit.cost.peak_memory is None or 5e7 < edit.cost.peak_memory < 1e11


def test_the_original_is_drawn_once_for_all_cells(done: tuple[BenchResult, Path]) -> None:
    result, out = done
    shots = [ImageRecord.read(path.read_text()) for path in (out / "pictures").glob("*/*/*.json")]
    drawn = Counter(shot.patch for shot in shots if shot.sampler.steps == 2)  # the attacks draw in three steps
    assert drawn == dict.fromkeys(("", *(edit.patch_hash for edit in result.edits)), 9 * 2)


def test_a_second_run_makes_nothing(done: tuple[BenchResult, Path], small: dict[str, Any],
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    result, out = done
    monkeypatch.setattr("expunge.bench.run.make", lambda *_: pytest.fail("made again"))
    notes: list[str] = []
    again = run(small, out, progress=lambda done, total, note: notes.append(note))
    assert again.edits == result.edits
    assert notes == []


@pytest.mark.slow
def test_a_bench_that_was_stopped_in_the_middle_ends_with_the_same_results(
        done: tuple[BenchResult, Path], small: dict[str, Any], tmp_path: Path) -> None:
    stops = iter(["esd, church, seed 0: erasing 1/2", "stronger, church, seed 0: attack seed-search",
                  "esd, church, seed 1: drawing with the edited model"])
    stop: str | None = next(stops)

    def interrupt(finished: int, total: int, note: str) -> None:
        if stop is not None and note.startswith(stop):
            raise KeyboardInterrupt

    while stop is not None:
        with pytest.raises(KeyboardInterrupt):
            run(small, tmp_path, progress=interrupt)
        stop = next(stops, None)
    result = run(small, tmp_path, progress=interrupt)
    made = [told(edit) for edit in result.edits]
    assert made[0]["trained"] is None  # of an edit that went on in its training nobody counted all rows
    made[0]["trained"] = told(done[0].edits[0])["trained"]
    assert made == [told(edit) for edit in done[0].edits]
    assert result.differences == done[0].differences
    for edit in result.edits:
        assert not (tmp_path / edit.folder / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_a_failing_cell_is_recorded_and_made_again_by_the_next_run(small: dict[str, Any], tmp_path: Path) -> None:
    changes = {"methods": [HOT, small["methods"][0]], "seeds": [0], "attack": None}
    result = run(small, tmp_path, changes)
    failed, good = result.edits
    assert (failed.failed_at, good.failed_at) == ("erase", "")
    assert "loss is not finite at step 2 of 4" in failed.failure
    assert result.summary("hot", "church").failed == 1
    assert result.summary("esd", "church").edits == 1
    begun: list[str] = []
    run(small, tmp_path, changes, progress=lambda done, total, note: begun.append(note) if "begins" in note else None)
    assert begun == ["hot, church, seed 0: begins"]


def test_a_cell_that_another_run_failed_meanwhile_is_left_alone(small: dict[str, Any], tmp_path: Path) -> None:
    """Two runs at once would else make each other's failures again and again."""
    changes = {"methods": [HOT], "seeds": [0, 1], "attack": None}
    run(small, tmp_path, changes)
    other = tmp_path / "cells" / "hot" / "church" / "1" / CELL
    begun: list[str] = []

    def meanwhile(done: int, total: int, note: str) -> None:
        if note.endswith("begins"):
            begun.append(note)
            other.write_text(other.read_text().replace("loss is not finite", "another run's loss is not finite"))

    unsealed(other)
    run(small, tmp_path, changes, progress=meanwhile)
    assert begun == ["hot, church, seed 0: begins"]


@pytest.mark.parametrize("seconds", [-1e9, 1e9])
def test_no_clock_decides_whether_a_failed_cell_is_made_again(small: dict[str, Any], tmp_path: Path, seconds: float
                                                              ) -> None:
    """It may have failed under a clock that was set back since."""
    changes = {"methods": [HOT], "seeds": [0], "attack": None}
    run(small, tmp_path, changes)
    at = time.time() + seconds
    os.utime(tmp_path / "cells" / "hot" / "church" / "0" / CELL, (at, at))
    notes: list[str] = []
    run(small, tmp_path, changes, progress=lambda done, total, note: notes.append(note))
    assert notes[0] == "hot, church, seed 0: begins"


def unsealed(file: Path) -> None:
    """A cell's record as an earlier version wrote it, which may be changed by hand."""
    values = json.loads(file.read_text())
    values.pop("seal")
    file.write_text(json.dumps(values, indent=2))


def test_a_cell_whose_record_is_damaged_is_said_and_made_again(small: dict[str, Any], tmp_path: Path,
                                                               caplog: pytest.LogCaptureFixture) -> None:
    changes = {"methods": [small["methods"][0]], "seeds": [0], "attack": None}
    whole = run(small, tmp_path, changes)
    file = tmp_path / "cells" / "esd" / "church" / "0" / CELL
    text = file.read_text()
    place = text.index('"value": ') + len('"value": ')
    place += next(k for k, letter in enumerate(text[place:]) if letter.isdigit())
    file.write_text(text[:place] + ("2" if text[place] != "2" else "3") + text[place + 1:])
    again = run(small, tmp_path, changes)
    assert "cell.json is damaged (what it holds is not what was written); it is made again" in caplog.text
    assert [told(edit) for edit in again.edits] == [told(edit) for edit in whole.edits]
    assert json.loads(file.read_text())["scores"] == json.loads(text)["scores"]


def test_methods_that_do_not_fit_are_refused_all_at_once_before_anything_is_made(small: dict[str, Any],
                                                                              tmp_path: Path) -> None:
    odd = {"method": "esd", "label": "odd", "settings": {"scope": "foo"}}
    with pytest.raises(ConfigError, match=r"ablation, church: no anchor for 'church'.*odd, church: .*foo"):
        run(small, tmp_path, {"methods": [{"method": "ablation"}, odd, *small["methods"]]})
    assert not (tmp_path / "cells").exists()
    with pytest.raises(UserError, match="no cell of this bench is in"):
        run(small, tmp_path, make_cells=False)
    assert not (tmp_path / "bench.json").exists()


def test_a_cell_of_which_nothing_came_may_be_made_under_other_settings(small: dict[str, Any], tmp_path: Path) -> None:
    run(small, tmp_path, {"methods": [HOT], "seeds": [0], "attack": None})
    cooler = {**HOT, "settings": {**HOT["settings"], "learning_rate": 1e-4}}
    result = run(small, tmp_path, {"methods": [cooler], "seeds": [0], "attack": None})
    assert [edit.failed_at for edit in result.edits] == [""]


def test_what_is_left_is_told_beforehand(small: dict[str, Any], done: tuple[BenchResult, Path]) -> None:
    bench = BenchSettings.build(merged(small, {"methods": [HOT, *small["methods"]]}))
    model, world = load(bench.model, device="cpu"), attacked_world()
    told = estimated(planned_cells(bench, model, world.prompts, world.prompts, done[1]), bench, model, world.prompts)
    assert (told.cells, told.made, told.failed, told.pictures) == (6, 4, 0, 18)
    assert set(told.erase) == {"hot", "esd", "stronger"}
    assert told.seconds == pytest.approx(2 * (sum(told.erase.values()) / 3 + told.evaluate + told.attack))  # type: ignore[arg-type]


def test_only_the_named_method_is_made_and_the_rest_is_missing(small: dict[str, Any], tmp_path: Path) -> None:
    few = {"seeds": [0], "attack": None}
    result = run(small, tmp_path, few, only=["stronger"])
    assert [edit.method for edit in result.edits] == ["stronger"]
    assert result.missing == 1
    assert result.summary("esd", "church").missing == 1
    assert run(small, tmp_path, few, make_cells=False).edits == result.edits
    with pytest.raises(UserError, match="no method called 'weaker'"):
        run(small, tmp_path, few, only=["weaker"])


def test_cells_of_other_settings_are_refused_with_what_differs(done: tuple[BenchResult, Path], small: dict[str, Any]
                                                               ) -> None:
    _, out = done
    longer = {"methods": [{"method": "esd", "settings": {**small["methods"][0]["settings"], "steps": 3}},
                          small["methods"][1]]}
    with pytest.raises(ConfigError, match=r"2 of 4 cells .*cells/esd/church/0: settings.steps 2, now 3"):
        run(small, out, longer)
    with pytest.raises(ConfigError, match=r"evaluation: seeds 2, now 3"):
        run(small, out, {"evaluation": {"seeds": 3}})
    with pytest.raises(ConfigError, match=r"attack: fresh 1, now 2"):
        run(small, out, {"attack": {"fresh": 2}})
    run(small, out, {"attack": {"batch": 7}}, make_cells=False)  # changes no number


@pytest.mark.slow
def test_two_processes_share_the_cells(small: dict[str, Any], tmp_path: Path, done: tuple[BenchResult, Path]) -> None:
    script = """
import json, sys
from colour_world import attacked_world
from expunge.bench.run import run_bench
from expunge.bench.settings import BenchSettings
run_bench(BenchSettings.build(json.loads(sys.argv[1])), out=sys.argv[2], world=attacked_world(),
          progress=lambda done, total, note: print(note, flush=True) if note.endswith("begins") else None)
"""
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(colour_world.__file__).parent), *sys.path])}
    begun: list[str] = []
    with subprocess.Popen([sys.executable, "-c", script, json.dumps(small), str(tmp_path)], stdout=subprocess.PIPE,
                          text=True, env=paths) as other:
        assert other.stdout is not None
        theirs = [other.stdout.readline().strip()]
        result = run(small, tmp_path, progress=lambda finished, total, note: begun.append(note)
                     if note.endswith("begins") else None)
        theirs += other.stdout.read().split("\n")[:-1]
        assert other.wait() == 0
    assert begun
    assert sorted(begun + theirs) == sorted(f"{edit.method}, church, seed {edit.seed}: begins"
                                            for edit in done[0].edits)
    assert result.missing == 0
    assert BenchResult.read((tmp_path / "bench.json").read_text()).edits == result.edits
    assert [told(edit) for edit in result.edits] == [told(edit) for edit in done[0].edits]


def test_a_bench_waits_for_a_cell_that_another_process_makes_and_says_so(
        small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("expunge.bench.run.PAUSE", 0.01)
    begun, let_go = threading.Event(), threading.Event()

    def other() -> None:  # a lock takes another thread for another process
        with held(tmp_path / "cells" / "esd" / "church" / "0"):
            begun.set()
            let_go.wait(120)

    def tell(done: int, total: int, note: str) -> None:
        notes.append(note)
        if note.startswith("waiting"):
            let_go.set()

    notes: list[str] = []
    thread = threading.Thread(target=other)
    thread.start()
    assert begun.wait(60)
    result = run(small, tmp_path, {"methods": [small["methods"][0]], "seeds": [0], "attack": None}, progress=tell)
    thread.join()
    assert "waiting for 1 cells of other processes" in notes
    assert notes.index("esd, church, seed 0: begins") > notes.index("waiting for 1 cells of other processes")
    assert not result.edits[0].failed_at


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    script = ("import sys, time; from pathlib import Path; from expunge.locks import held\n"
              f"with held(Path({str(tmp_path)!r})) as mine:\n    print(mine, flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with held(tmp_path) as mine:
            assert not mine
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with held(tmp_path) as mine:
        assert mine


def test_concepts_that_the_world_does_not_know_are_told_together(tmp_path: Path) -> None:
    bench = BenchSettings.build({"methods": [{"method": "esd"}], "device": "cpu",
                                 "concepts": [{"concept": "chruch"}, {"concept": "bom"}]})
    with pytest.raises(ConfigError, match=r"'chruch'.*'bom'"):
        run_bench(bench, out=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_processes_of_a_launcher_share_the_cells(small: dict[str, Any], done: tuple[BenchResult, Path],
                                                     tmp_path: Path) -> None:
    code = ("import json, sys; sys.path[:0] = sys.argv[3:]; from colour_world import attacked_world; "
            "from expunge.bench.run import run_bench; from expunge.bench.settings import BenchSettings; "
            "run_bench(BenchSettings.build(json.loads(sys.argv[1])), out=sys.argv[2], world=attacked_world())")
    worlds = str(Path(colour_world.__file__).parent)
    finished(launch(2, ["-c", code, json.dumps(small), str(tmp_path), worlds]))
    made = BenchResult.read((tmp_path / "bench.json").read_text())
    assert [told(edit) for edit in made.edits] == [told(edit) for edit in done[0].edits]


def test_a_check_under_a_launcher_is_refused(small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                             ) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="a check of cells under a launcher"):
        run(small, tmp_path, check=1)


@pytest.mark.slow
def test_a_bench_opens_a_variant_in_the_number_type_that_its_file_names(small: dict[str, Any], tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(small["model"], safety_checker=None, torch_dtype="auto").to(
        dtype=torch.float16)
    pipe.save_pretrained(tmp_path / "half", variant="fp16")
    one = {"model": str(tmp_path / "half"), "variant": "fp16", "dtype": "bfloat16", "seeds": [0], "attack": None,
           "methods": small["methods"][:1]}
    result = run(small, tmp_path / "bench", one)
    assert not any(edit.failed_at for edit in result.edits)
    (record,) = (tmp_path / "bench").rglob("evaluation.json")
    assert json.loads(record.read_text())["drawn"]["number type"] == "bfloat16"
    with pytest.raises(ConfigError, match=r"dtype .*bfloat16"):
        run(small, tmp_path / "bench", {**one, "dtype": "float32"})
    with pytest.raises(UserError, match="no variant 'ema'"):
        run(small, tmp_path / "other", {**one, "variant": "ema"})


def test_an_attack_that_cannot_be_made_is_told_before_any_edit_is_made(small: dict[str, Any], tmp_path: Path) -> None:
    asked = merged(small, {"attack": {"attacks": ["noising"], "options": {"noising": {"strengths": [0.95]}}}})
    asked["attack"]["options"].pop("seed-search")
    with pytest.raises(ConfigError, match=r"strength 0\.95 with 2 sampling steps"):
        run_bench(BenchSettings.build(asked), out=tmp_path / "out", world=attacked_world())
    assert not [*(tmp_path / "out").rglob("patch.safetensors")]


def test_null_controls_of_several_concepts_are_counted_together() -> None:
    def suite(hits: int, n: int) -> SuiteResult:
        control = Score(name="attack/noising/control", title="null control", value=hits / n, low=0.0, high=1.0,
                        interval="Wilson", n=n, numerator=hits, prompts=n)
        return SuiteResult.model_construct(scores=(control, Score(name="attack/worst", title="w", value=1.0, n=1)))

    control, = _controls([suite(1, 4), suite(0, 2)])
    assert (control.name, control.numerator, control.n, control.prompts) == ("attack/noising/control", 1, 6, 6)
    assert (control.low, control.high) == (None, None)
