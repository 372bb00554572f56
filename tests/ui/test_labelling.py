"""Label blind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from colour_world import SMALL
from sides_world import sides_world

from expunge.errors import UserError
from expunge.evaluation import evaluate
from expunge.locks import alone, in_turn
from expunge.models.patch import Patch
from expunge.records import EVALUATIONS
from expunge.records.labels import Agreement, Label, Labelling
from expunge.records.stored import LABELS
from expunge.report.about import About
from expunge.ui.asked import Said, Sample
from expunge.ui.labelling import LABELS_LOCK, agreements, answer, begin, cached
from expunge.ui.reports import report, reports
from expunge.ui.served import Served
from expunge.ui.shown import Shown

ASKED: dict[str, Any] = {"run": "church/evaluation", "person": "AB", "seed": 3, "count": 12}


@pytest.fixture(scope="module")
def _once(_made: Path, sides_model: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An evaluation of the patch, and the cache with its pictures."""
    out, cache = tmp_path_factory.mktemp("once") / "evaluation", tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("EXPUNGE_CACHE", str(cache))
        evaluate(sides_model, Patch.load(_made), settings=SMALL.model_copy(update={"seeds": 6}), out=out,
                 world=sides_world())
    return out, cache


@pytest.fixture
def measured(sides: Served, _once: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Served:
    """The served folder with an evaluation of its patch."""
    shutil.copytree(_once[0], sides.root / "church" / "evaluation")
    monkeypatch.setenv("EXPUNGE_CACHE", str(_once[1]))
    return sides


def label(served: Served, answers: list[str], **asked: Any) -> dict[str, Any]:
    """Give these answers one after the other; what the last one returned."""
    begin(served, Shown(), Sample.build({**ASKED, **asked}))
    return [answer(served, Said.build({**ASKED, **asked, "place": place, "answer": said}))
            for place, said in enumerate(answers)][-1]


def test_the_sample_is_half_and_half_and_its_seed_decides_it(measured: Served) -> None:
    sheets = [begin(measured, Shown(), Sample.build({**ASKED, "seed": seed})) for seed in (3, 3, 4)]
    assert sheets[0] == sheets[1]
    assert sheets[0]["pictures"] != sheets[2]["pictures"]
    mine, other = LABELS.read(measured.root / "church" / "evaluation").people
    assert (mine.seed, mine.count, len(mine.labels), other.seed) == (3, 12, 12, 4)
    assert sum(one.edited for one in mine.labels) == 6


def test_whoever_labels_sees_neither_words_nor_method_nor_judges(measured: Served) -> None:
    shown = Shown()
    sheet = begin(measured, shown, Sample.build(ASKED))
    assert set(sheet) == {"run", "question", "person", "seed", "count", "answers", "pictures", "summary",
                          "veiled"}
    assert sheet["question"] == "Is there a church in this image?"
    assert all(shown.get(one) for one in sheet["pictures"])
    text = json.dumps(sheet)
    assert not [word for word in ("edited", "original", "uce", "judge", "hill", "patch") if word in text]
    assert label(measured, ["yes"] * 11)["summary"]["agreement"] == []  # nothing that could sway anybody


def test_answers_are_kept_as_they_come_and_agreement_is_worked_out(measured: Served) -> None:
    label(measured, ["yes", "no"])
    again = begin(measured, Shown(), Sample.build(ASKED))
    assert again["answers"] == ["yes", "no", *[""] * 10]
    sees = [one.judges for one in LABELS.read(measured.root / "church" / "evaluation").people[0].labels]
    judge, second = next(iter(sees))
    likewise = ["yes" if one[judge] else "no" for one in sees]
    said = {(one["other"], one["side"]): one for one in label(measured, likewise)["summary"]["agreement"]}
    assert said[judge, "all"]["agreed"] == 1
    assert said[judge, "all"]["kappa"] == pytest.approx(1)
    assert said[judge, "all"]["low"] < 1
    assert {side for other, side in said if other == second} == {"all", "original", "edited"}
    contrary = ["no" if one == "yes" else "yes" for one in likewise]
    other = {(one["other"], one["side"]): one for one in label(measured, contrary, person="CD")["summary"]["agreement"]}
    assert other[judge, "all"]["agreed"] == 0
    both = [one for one in LABELS.read(measured.root / "church" / "evaluation").agreement
            if {one.one, one.other} == {"person: AB", "person: CD"}]
    assert both[0].kappa == pytest.approx(-1, abs=0.6)
    assert both[0].agreed == 0


def test_a_sample_stands_from_its_beginning_on(measured: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = measured.root / "church" / "evaluation"
    first = begin(measured, Shown(), Sample.build(ASKED))
    mine, = LABELS.read(folder).people
    assert (mine.seed, mine.count, mine.answered, len(mine.labels)) == (3, 12, 0, 12)
    assert "What people saw" not in report(measured, "church/evaluation")
    shots = [cached(one.file) for one in mine.labels]
    lost = next(file for file in sorted(Path(os.environ["EXPUNGE_CACHE"]).rglob("*.png")) if file not in shots)
    data = lost.read_bytes()
    lost.unlink()  # a sample that was drawn anew would be another one
    try:
        again = begin(measured, Shown(), Sample.build(ASKED))
        other = begin(measured, Shown(), Sample.build({**ASKED, "person": "CD"}))
    finally:
        lost.write_bytes(data)
    assert again == first
    assert other["pictures"] != first["pictures"]
    label(measured, ["yes", "no"], person="CD")
    assert {one.one for one in LABELS.read(folder).agreement} == {"person: CD"}  # AB has said nothing yet


def test_a_persons_second_answer_to_a_picture_replaces_the_first(measured: Served) -> None:
    folder = measured.root / "church" / "evaluation"
    label(measured, ["yes"] * 12)
    label(measured, ["no"] * 14, count=14)
    first, second = LABELS.read(folder).people
    both = {one.shot for one in first.labels} & {one.shot for one in second.labels}
    assert both
    assert {one.answer for one in first.labels if one.shot in both} == {"no"}
    every = {one.shot for mine in (first, second) for one in mine.labels}
    judge = LABELS.read(folder).agreement[0]
    assert (judge.side, judge.n + judge.left_out) == ("all", len(every))
    assert f"One person labelled {len(every)} images blind" in report(measured, "church/evaluation")


def test_an_answer_can_be_changed_and_taken_back(measured: Served) -> None:
    label(measured, ["yes"])
    made = answer(measured, Said.build({**ASKED, "place": 0, "answer": ""}))
    assert made["answers"] == [""] * 12
    with pytest.raises(UserError, match="image 13"):
        answer(measured, Said.build({**ASKED, "place": 12, "answer": "yes"}))


PAGE = """
import json, sys
from types import SimpleNamespace
from expunge.registry import WORLDS
from expunge.ui.asked import Said, Sample
from expunge.ui.labelling import answer, begin
from expunge.ui.served import Served
from expunge.ui.shown import Shown

WORLDS._entries["sides"] = ("sides_world:sides_world", "a world of tests", "")
served = Served(sys.argv[1], "sides", lambda: SimpleNamespace(world="sides", name="sides"))
served.open()
asked = json.loads(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
begin(served, Shown(), Sample.build(asked))
for place in range(asked["count"]):
    answer(served, Said.build({**asked, "place": place, "answer": "yes"}))
"""


@pytest.mark.slow
def test_two_pages_on_one_folder_lose_none_of_each_others_answers(measured: Served) -> None:
    people = ("AB", "CD")
    with ExitStack() as stack:
        pages = [stack.enter_context(subprocess.Popen(
            [sys.executable, "-c", PAGE, str(measured.root), json.dumps({**ASKED, "person": person})], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}))
            for person in people]
        for page in pages:
            assert page.stdout is not None
            assert page.stdout.readline() == "ready\n"
        for page in pages:
            assert page.stdin is not None
            page.stdin.write("\n")
            page.stdin.flush()
    assert [page.returncode for page in pages] == [0, 0]
    kept = LABELS.read(measured.root / "church" / "evaluation")
    assert {one.person: one.answered for one in kept.people} == dict.fromkeys(people, 12)
    assert any({one.one, one.other} == {"person: AB", "person: CD"} for one in kept.agreement)


def test_a_page_that_does_not_get_its_turn_says_so_and_a_run_in_the_folder_is_in_nobodys_way(
        measured: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = measured.root / "church" / "evaluation"
    with ThreadPoolExecutor(1) as elsewhere:
        with alone(folder):
            elsewhere.submit(label, measured, ["yes"]).result()
        monkeypatch.setattr("expunge.locks.PATIENCE", 0.1)
        with in_turn(folder, LABELS_LOCK), pytest.raises(UserError, match="try again; nothing was changed"):
            elsewhere.submit(label, measured, ["no"]).result()
    assert LABELS.read(folder).people[0].labels[0].answer == "yes"


def test_unsure_answers_and_abstentions_are_left_out_and_counted() -> None:
    def one(place: int, said: str, judge: bool | None) -> Label:
        return Label(shot=str(place), file="", edited=False, prompt=str(place), seed=0, answer=said,  # type: ignore
                     judges={"judge": judge})

    labels = (one(0, "yes", True), one(1, "no", False), one(2, "unsure", True), one(3, "yes", None), one(4, "", True))
    made = {row.side: row for row in agreements([Labelling(person="AB", question="?", seed=0, count=5, labels=labels)])}
    assert (made["all"].n, made["all"].left_out, made["all"].agreed) == (2, 2, 1.0)
    assert made["edited"] == Agreement(one="person: AB", other="judge", side="edited")


def test_a_record_may_name_no_picture_outside_the_cache(measured: Served, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"\x89PNG\r\n\x1a\n...")
    for name in ("../secret.png", str(secret), "", ".", "../../etc/passwd"):
        assert cached(name) is None
    assert cached(label_file(measured)) is not None


def label_file(served: Served) -> str:
    label(served, ["yes"])
    return LABELS.read(served.root / "church" / "evaluation").people[0].labels[0].file


def test_pictures_that_are_gone_are_said_to_be_gone(measured: Served, monkeypatch: pytest.MonkeyPatch,
                                                    tmp_path: Path) -> None:
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(UserError, match="in the cache any more"):
        begin(measured, Shown(), Sample.build(ASKED))


@pytest.mark.slow
def test_reports_are_made_by_the_reports_code_and_show_what_people_said(measured: Served) -> None:
    from expunge.report.html import report_html

    folder = measured.root / "church" / "evaluation"
    row, = reports(measured)
    assert (row["name"], row["kind"], row["page"]) == ("church/evaluation", "evaluation", True)
    assert row["line"].startswith("church by uce: ")
    assert report(measured, row["name"]) == report_html(EVALUATIONS.read(folder), folder)
    assert "What people saw" not in report(measured, row["name"])
    label(measured, ["yes", "no"] * 6, person="Annabel Lee")
    page = report(measured, row["name"])
    assert "What people saw" in page
    assert "Annabel Lee" in page
    assert "One person labelled 12 images blind; the judge agrees on" in page
    handed_out = report_html(EVALUATIONS.read(folder), folder, About(redacted=True))
    assert "What people saw" in handed_out
    assert "Annabel" not in handed_out
    with pytest.raises(UserError, match="the run"):
        report(measured, "../church/evaluation")
