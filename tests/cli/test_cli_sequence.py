"""`expunge sequence`: thin over the Python API, on the embedded model, clear about mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from expunge.cli import run
from expunge.records import SequenceResult

FILE = {
    "method": "esd-fast", "settings": {"steps": 2, "source.trajectories": 2, "source.grid": 3}, "strategy": "naive",
    "requests": [{"concept": "church", "anchor": "house", "who": "a parish", "when": "2026-03-02"},
                 {"concept": "bomb"}],
    "evaluation": {"counts": {"direct": 1, "held_out": 0, "paraphrase": 0, "implicit": 0, "near": 1, "far": 1,
                              "style": 0, "empty": 0, "never_seen": 0}, "seeds": 2, "steps": 2, "strips": 0,
                   "floor_items": 0, "draws": 100, "fid_draws": 20}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file, and the sequence that was run from it."""
    out = tmp_path_factory.mktemp("sequence")
    (out / "requests.yaml").write_text(yaml.safe_dump({**FILE, "out": str(out / "run")}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_CACHE", str(out / "pictures"))
        assert run(["sequence", str(out / "requests.yaml")]) == 0
    return out


def test_it_leaves_ledger_patches_record_and_report(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = SequenceResult.read((made / "run" / "sequence.json").read_text())
    assert [state.concept for state in result.states] == ["church", "bomb"]
    page = made / "run" / "report" / "sequence.html"
    assert page.is_file()
    capsys.readouterr()
    assert run(["report", str(made / "run"), "--out", str(made / "again")]) == 0
    assert str(made / "again" / "sequence.html") in capsys.readouterr().out.replace("\n", "")
    assert (made / "again" / "sequence.html").read_bytes() == page.read_bytes()
    assert run(["sequence", str(made / "requests.yaml"), "--gather"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("2 requests, an edit for each by esd-fast, strategy naive: of church, bomb nothing can be "
                           "said: the original itself draws them in 2 of 2 images")
    assert f"ledger: {made}/run/ledger.json" in told
    assert run(["show", str(made / "run" / result.states[1].folder)]) == 0
    told = yaml.safe_load(capsys.readouterr().out)
    assert [item["concept"] for item in told["concepts"]] == ["church", "bomb"]


@pytest.mark.slow
def test_a_dry_run_says_what_is_left(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sequence", str(made / "requests.yaml"), "-n"]) == 0
    assert "# request 2 (bomb): met" in capsys.readouterr().out
    assert run(["sequence", str(made / "requests.yaml"), "-n", "--out", str(tmp_path / "new")]) == 0
    told = capsys.readouterr().out
    assert "# request 1 (church): " in told
    assert yaml.safe_load(told)["requests"][0]["who"] == "a parish"
    assert not (tmp_path / "new").exists()


def test_show_tells_the_same_without_a_model(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(made / "run")]) == 0
    assert capsys.readouterr().out.startswith("2 requests, an edit for each by esd-fast")


@pytest.mark.slow
def test_markdown(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sequence", str(made / "requests.yaml"), "--gather", "--markdown"]) == 0
    assert "| found after | church | bomb |" in capsys.readouterr().out


@pytest.mark.parametrize(("change", "says"), [
    ({"requests": [*FILE["requests"], {"concept": "church"}]}, "unlearned twice"),  # type: ignore[misc]
    ({"requests": [FILE["requests"][1]]}, "request 1 was church"),  # type: ignore[index]
    ({"requests": []}, "requests"),
    ({"strategy": "hope"}, "unknown strategy"),
    ({"requests": [*FILE["requests"], {"concept": "chruch"}]}, "chruch"),  # type: ignore[misc]
])
def test_mistakes_are_told_and_leave_the_ledger_alone(made: Path, tmp_path: Path, change: dict[str, object], says: str,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    before = (made / "run" / "ledger.json").read_bytes()
    (tmp_path / "requests.yaml").write_text(yaml.safe_dump({**FILE, "out": str(made / "run"), **change}))
    assert run(["sequence", str(tmp_path / "requests.yaml")]) == 2
    assert says in capsys.readouterr().err
    assert (made / "run" / "ledger.json").read_bytes() == before


def test_an_edited_ledger_is_refused(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = made / "run" / "ledger.json"
    before = ledger.read_text()
    try:
        ledger.write_text(before.replace("a parish", "nobody"))
        assert run(["sequence", str(made / "requests.yaml")]) == 2
        assert "changed by hand" in capsys.readouterr().err
    finally:
        ledger.write_text(before)


def test_a_ledger_and_a_sequence_that_has_not_ended_are_told_as_what_they_are(
        made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("show", "report"):
        assert run([verb, str(made / "run" / "ledger.json")]) == 2
        assert "is the ledger of a sequence" in capsys.readouterr().err
        (tmp_path / "ledger.json").write_bytes((made / "run" / "ledger.json").read_bytes())
        assert run([verb, str(tmp_path)]) == 2
        assert "was begun in" in capsys.readouterr().err
