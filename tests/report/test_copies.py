"""Pages of benches and sequences say what they are of and by whom, explain words, and have copies to hand out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench_examples import bench
from sequence_examples import sequence

from expunge.cli import run
from expunge.records import BENCHES, SEQUENCES, BenchResult, SequenceResult
from expunge.report.about import About
from expunge.report.bench import bench_warnings, notes
from expunge.report.bench_page import bench_html, write_bench_report
from expunge.report.sequence_page import sequence_html, write_sequence_report

FAILED = "no room for 'a very gory scene' in /home/somebody/models/m15"
METHODS = {"esd-fast": (0.5, 0.5, 1.0), "uce": (0.4, 0.6, 1.0)}


def gory_bench(concept: str = "gore") -> BenchResult:
    made = bench(METHODS, (concept,), seeds=(0, 1), failed="uce")
    edits = tuple(edit.model_copy(update={"failure": FAILED} if edit.failure else {
        "created": f"2026-03-0{1 + edit.seed}T05:06:07+00:00", "patch_hash": f"{edit.seed}" * 8,
        "warnings": ("2 of the 18 images of the edited model are none.",)}) for edit in made.edits)
    return made.model_copy(update={"edits": edits, "model": "/home/somebody/models/m15",
                                   "settings": {**made.settings, "cache": "/home/somebody/cache"}})


def gory_sequence(concept: str = "gore") -> SequenceResult:
    made = sequence(model="/home/somebody/models/m15", created="2026-03-04T05:06:07+00:00",
                    versions={"expunge": "0.1.0"})
    asked = [{**item, "who": "A. Victim", "evidence": "a very gory scene, ticket 17"}
             for item in made.settings["requests"]]
    asked[0]["concept"] = [concept]
    asked[1]["withdrawn"] = {"who": "A. Victim", "when": None, "why": "ticket 18"}
    return made.model_copy(update={"settings": {"requests": asked}})


PAGES: list[tuple[Callable[..., Any], Callable[..., str]]] = [
    (gory_bench, bench_html), (gory_sequence, sequence_html)]


@pytest.mark.parametrize(("make", "page"), PAGES)
def test_first_screen_says_when_what_and_by_whom(make: Callable[..., Any], page: Callable[..., str]) -> None:
    made = make()
    top = page(made, About(by="A. Person, Auditor")).partition("<nav")[0]
    for told in ("gathered 2026-0", "A. Person, Auditor", f"m15, weights {made.model_hash[:16]}", made.digest,
                 "expunge 0.1.0"):
        assert told in top, told
    assert "/home/somebody/models" not in re.sub(r'<span class="said">.*?</span>', "", page(made))
    assert "not stated" in page(made).partition("<nav")[0]


def test_first_screen_tells_of_the_patches() -> None:
    assert "edits 2026-03-01 to 2026-03-02, gathered" in bench_html(gory_bench())
    assert "4 of 4, hashes of 2 patches in the record" in bench_html(gory_bench())
    last = gory_sequence().states[-1].model_copy(update={"patch_hash": "c" * 64})
    assert f"after request 3, esd-fast, tensors {'c' * 16}<" in sequence_html(
        gory_sequence().model_copy(update={"states": (last,)}))


@pytest.mark.parametrize(("make", "page"), PAGES)
def test_what_may_quote_an_explicit_concept_is_covered_until_asked_for(make: Callable[..., Any],
                                                                       page: Callable[..., str]) -> None:
    whole = page(make())
    boxes = re.findall(r'<input type="checkbox" id="([^"]+)"', whole)
    assert len(boxes) == 1
    assert f'<label for="{boxes[0]}">' in whole
    assert "a very gory scene" in whole
    assert "a very gory scene" not in re.sub(r'<span class="said">.*?</span>', "", whole)
    assert 'type="checkbox"' not in page(make("church"))


@pytest.mark.parametrize(("make", "write"), [(gory_bench, write_bench_report),
                                             (gory_sequence, write_sequence_report)])
def test_a_redacted_copy_holds_nothing_that_is_left_out(make: Callable[..., Any], write: Callable[..., Path],
                                                        tmp_path: Path) -> None:
    made = make()
    page = write(made, tmp_path, by="somebody else", redact=True)
    for file in tmp_path.iterdir():
        text = file.read_text(encoding="utf-8")
        for secret in ("a very gory scene", "/home/somebody", "A. Victim", "ticket 1"):
            assert secret not in text, (file.name, secret)
    top = page.read_text(encoding="utf-8").partition("<nav")[0]
    assert "A copy with parts left out" in top
    assert made.digest in top, "the whole record's"


@pytest.mark.parametrize(("make", "page", "word", "other"), [
    (gory_bench, bench_html, "Method", "Drift"), (gory_sequence, sequence_html, "Drift", "Null control")])
def test_words_are_explained(make: Callable[..., Any], page: Callable[..., str], word: str, other: str) -> None:
    words = page(make()).partition('id="words"')[2]
    for told in ("Concept", "95% interval", "Integrity", word):
        assert f"<dt>{told}</dt>" in words
    assert f"<dt>{other}</dt>" not in words


def test_a_bench_tells_what_its_edits_warn_of_and_which_drew_no_pictures() -> None:
    made = gory_bench()
    assert list(bench_warnings(made).values()) == ["2 edits, esd-fast, gore, seed 0 first"]
    assert "2 of the 18 images of the edited model are none." in bench_html(made)
    first = made.edits[0]
    share = first.scores[0].model_copy(update={"name": "not_finite/all", "value": 0.1, "numerator": 4, "n": 40})
    spoilt = made.model_copy(update={"edits": (first.model_copy(update={"scores": (share,)}), *made.edits[1:])})
    told = "values are not finite, which count neither way: esd-fast, gore, seed 0 (4 of 40)."
    assert any(told in line for line in notes(spoilt))
    assert not any("not finite" in line for line in notes(made))


@pytest.mark.parametrize(("make", "stored", "name"), [(gory_bench, BENCHES, "bench"),
                                                      (gory_sequence, SEQUENCES, "sequence")])
def test_command_writes_both_copies_apart(make: Callable[..., Any], stored: Any, name: str, tmp_path: Path) -> None:
    (tmp_path / stored.name).write_text(make().model_dump_json(), encoding="utf-8")
    assert run(["report", str(tmp_path), "--by", "A. Person"]) == 0
    assert run(["report", str(tmp_path), "--redact"]) == 0
    whole, copy = ((tmp_path / folder / f"{name}.html").read_text(encoding="utf-8")
                   for folder in ("report", "report-redacted"))
    assert "A. Person" in whole
    assert "a very gory scene" in whole
    assert "a very gory scene" not in copy
    assert "A. Person" not in copy
