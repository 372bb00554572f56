"""A bench by workers: what some of them leave behind that are killed, others make."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from expunge.bench.cells import CELL
from expunge.bench.fleet import FLEET, submit, wait
from expunge.bench.settings import BenchSettings
from expunge.cli import run
from expunge.errors import ResourceError
from expunge.records import BenchResult, Edit

SMOKE = Path(__file__).parents[2] / "benchmarks" / "smoke.yaml"


def processes_of(root: int) -> Iterator[int]:
    """A process and all that descend from it, the oldest first."""
    yield root
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, parent = int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        if parent == root:
            yield from processes_of(name)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a worker's processes are found by /proc")
def test_four_workers_of_which_two_are_killed_end_with_what_one_process_makes(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    values = {**yaml.safe_load(SMOKE.read_text()), "seeds": [0, 1], "cache": str(tmp_path / "pictures")}
    settings, out = BenchSettings.build(values), tmp_path / "fleet"
    jobs = submit(yaml.safe_dump(settings.model_dump(mode="json")), 4, out=out)
    begun: set[Path] = set()
    while len(begun) < 2:  # until there is something to lose
        begun = {file.parent for file in out.glob("cells/*/*/*/.lock")}
        assert not all(job.done() for job in jobs), (out / FLEET).glob("*.err")
        time.sleep(0.2)
    for job in jobs[:2]:
        for process in [*processes_of(int(job.job_id))][::-1]:
            os.kill(process, signal.SIGKILL)
    told: list[tuple[int, int, str]] = []
    wait(jobs, settings, out, lambda *said: told.append(said))
    assert told[-1][1] == 4
    assert len([*out.glob(f"cells/*/*/*/{CELL}")]) == 4
    (tmp_path / "bench.yaml").write_text(yaml.safe_dump(values))
    for place in (out, tmp_path / "alone"):
        gather = ["--gather"] if place == out else []
        assert run(["bench", str(tmp_path / "bench.yaml"), "--out", str(place), *gather]) == 0
    made, alone = (BenchResult.read((place / "bench.json").read_text()) for place in (out, tmp_path / "alone"))
    assert [numbers(edit) for edit in made.edits] == [numbers(edit) for edit in alone.edits]


def numbers(edit: Edit) -> Any:
    return edit.method, edit.seed, edit.failed_at, edit.scores, edit.items, edit.patch_hash


@pytest.mark.slow
def test_workers_that_end_without_a_cell_are_an_error_that_says_where_their_logs_are(tmp_path: Path) -> None:
    settings = BenchSettings.build({"methods": [{"method": "esd"}], "concepts": [{"concept": "chruch"}]})
    earlier = tmp_path / "cells" / "esd" / "chruch" / "0" / CELL  # of another day
    earlier.parent.mkdir(parents=True)
    earlier.write_text("")
    jobs = submit(yaml.safe_dump(settings.model_dump(mode="json")), 1, out=tmp_path)
    with pytest.raises(ResourceError, match=f"1 workers ended without a cell; their logs are in {tmp_path / FLEET}"):
        wait(jobs, settings, tmp_path, lambda *said: None)
    assert any("'chruch'" in file.read_text() for file in (tmp_path / FLEET).glob("*.err"))


@pytest.mark.parametrize(("arguments", "says"), [
    (["--submit", "2", "--gather"], "--submit with --gather"),
    (["--job", "timeout_min=5"], "--job or --cluster without --submit"),
    (["--submit", "2", "--job", "timeout_min"], "--job 'timeout_min'"),
    (["--submit", "2", "--job", "no_such=1"], "no_such"),
    (["--submit", "2", "--cluster", "slurm"], "the executor 'slurm'"),
])
def test_mistakes_are_told_before_a_worker_starts(arguments: list[str], says: str, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", str(SMOKE), "--out", str(tmp_path), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "cells").exists()
