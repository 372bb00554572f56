"""`expunge bench` and what `expunge ls methods` tells: thin over the Python API, clear about mistakes."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml

from expunge.cli import run
from expunge.errors import UserError
from expunge.records import BenchResult
from expunge.registry import METHODS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke file's bench on the embedded model."""
    out = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_CACHE", str(out / "pictures"))
        assert run(["bench", str(BENCHMARKS / "smoke.yaml"), "--out", str(out)]) == 0
    return out


@pytest.mark.slow
def test_smoke_bench_leaves_record_table_and_report(smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = BenchResult.read((smoke / "bench.json").read_text())
    assert [(edit.method, edit.failed_at) for edit in result.edits] == [("esd-fast", ""), ("esd-fast, noxattn", "")]
    assert (smoke / "report" / "bench.html").is_file()
    assert run(["bench", str(BENCHMARKS / "smoke.yaml"), "--out", str(smoke), "--gather"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(("Least elicited", "No method is told apart"))
    assert "esd-fast, noxattn" in told
    assert f"report: {smoke}/report/bench.html" in told
    assert run(["bench", str(BENCHMARKS / "smoke.yaml"), "--out", str(smoke), "--gather", "--markdown"]) == 0
    assert (smoke / "report" / "bench.md").read_text() in capsys.readouterr().out
    again = BenchResult.read((smoke / "bench.json").read_text())
    assert again.edits == result.edits


@pytest.mark.slow
def test_cells_of_a_record_from_elsewhere_are_counted_as_made(smoke: Path, tmp_path: Path,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    taken = ["bench", str(BENCHMARKS / "smoke.yaml"), "--out", str(tmp_path), "--take", str(smoke / "bench.json")]
    assert run([*taken, "--gather"]) == 0
    told = capsys.readouterr()
    assert f"taken from {smoke}/bench.json: 2 cells\n" in told.err
    assert "Made on another machine and taken from its record" in " ".join(told.out.split())
    assert run([*taken, "--gather"]) == 0
    assert "0 cells (left out: 2 begun here already)" in capsys.readouterr().err
    assert run([*taken, "--dry-run"]) == 2
    assert "--take beside --dry-run" in capsys.readouterr().err


@pytest.mark.slow
def test_dry_run_tells_cells_and_time_and_is_a_file_of_the_same_bench(smoke: Path, tmp_path: Path,
                                                                      capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--set", "evaluation.steps=2", "--set", "attack.steps=2"]
    arguments = ["bench", str(BENCHMARKS / "smoke.yaml"), "--out", str(tmp_path / "new"), *small, "--dry-run"]
    assert run(arguments) == 0
    told = capsys.readouterr().out
    for words in ("# 2 cells, 0 of them made, 0 failed", "# esd-fast: ", "# attacks: at most 2 items", "# estimate: "):
        assert words in told
    assert not (tmp_path / "new").exists()
    file = tmp_path / "bench.yaml"
    file.write_text(told)
    assert yaml.safe_load(told)["attack"]["steps"] == 2
    assert run(["bench", str(file), "--dry-run", "--only", "esd-fast, noxattn"]) == 0
    assert "# 1 cells, 0 of them made" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "says"), [
    (["bench", "nowhere.yaml"], "cannot read settings from nowhere.yaml"),
    (["bench", str(BENCHMARKS / "smoke.yaml"), "--only", "esdd"], "no method called 'esdd'"),
    (["bench", str(BENCHMARKS / "smoke.yaml"), "--set", "seeds=[]", "--set", "draws=1"], "draws: got 1"),
    (["bench", str(BENCHMARKS / "smoke.yaml"), "--set", "seeds=[]", "--set", "draws=1"], "at least one"),
    (["ls", "methods", "esdd"], "did you mean 'esd'"),
    (["ls", "worlds", "emoji"], "a name with worlds"),
    (["ls", "attacks", "--long"], "--long with attacks"),
])
def test_mistakes_end_with_code_two_and_a_message(arguments: list[str], says: str, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    if arguments[0] == "bench":
        arguments = [*arguments, "--out", str(tmp_path)]
    assert run(arguments) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert told.out == ""


def test_the_list_of_methods_loads_no_torch() -> None:
    script = ("import sys; from expunge.cli import run; code = run(['ls', 'methods']); "
              "sys.exit('torch' in sys.modules or code)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == METHODS.names()


def test_of_each_method_everything_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ls", "methods", "--long"]) == 0
    blocks = capsys.readouterr().out.replace("\n  ", "\t").splitlines()
    assert [block.split("\t")[0] for block in blocks] == METHODS.names()
    for block in blocks:
        for about in ("does:", "trains:", "needs:", "cost:", "source:", "shown:"):
            assert f"\t{about}" in block
        assert "not said" not in block


@pytest.mark.slow
def test_what_a_method_needs_is_what_it_refuses_to_do_without(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ls", "methods", "esd-fast"]) == 0
    told = capsys.readouterr().out
    assert "trains:  xattn: " in told
    assert "no anchor, but takes one" in told
    assert "100 steps of 6 samples" in told
    assert "https://arxiv.org/abs/2303.07345" in told
    assert run(["ls", "methods", "ablation-fast"]) == 0
    assert "needs:   an anchor;" in capsys.readouterr().out


@pytest.mark.slow
def test_what_a_published_bench_showed_is_told_with_its_origin(smoke: Path, tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    from expunge.bench import publish
    from expunge.cli.ls import _shown

    result = BenchResult.read((smoke / "bench.json").read_text())
    file = publish.published(result, tmp_path / "shown.json", "smoke.yaml")
    monkeypatch.setattr(publish, "shown", partial(publish.shown, file=file))
    told = _shown("esd-fast")["shown"]
    assert re.search(r"church: elicited in the worst case .* \(\d of \d, .* to .*\); found without attacks", told)
    assert "esd-fast, noxattn, church: " in told
    assert "by `expunge bench smoke.yaml` on embedded" in told
    assert _shown("uce") == {"shown": "not yet measured here"}


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_says_whose_it_is(name: str) -> None:
    assert "https://" in METHODS.source(name)


def test_source_of_an_unknown_method_is_an_error() -> None:
    with pytest.raises(UserError, match="unknown method"):
        METHODS.source("esdd")
