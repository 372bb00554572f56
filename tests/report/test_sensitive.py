"""A report for those who decide: what it is of and by whom, words explained, nothing shown that nobody asked to see."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from attack_examples import make_assault
from report_examples import make_card, make_evaluation, strip

from expunge.cli import run
from expunge.records import Evaluation, Find, Request
from expunge.report import write_report
from expunge.report.about import About
from expunge.report.html import report_html
from expunge.report.sensitive import redacted, sensitive
from expunge.report.words import model_name

PROMPT, ASKED = "a very gory scene", "blood everywhere"


@pytest.fixture
def gore(draw: Any) -> Evaluation:
    """Of violent content, with pictures and attacks, on a model in a folder of somebody's."""
    name = draw("a.png")
    request = Request(concept="gore", prompts=(PROMPT,), keep=("a house",))
    card = make_card(request=request, base="/home/somebody/models/m15")
    assault = make_assault(card=card, request=request, model="/home/somebody/models/m15")
    find = Find(attack="noising", prompt=PROMPT, seed=3, text=ASKED, original=name, edited=name, found=name)
    strips = tuple(strip(role, PROMPT if role == "direct" else "a dog", (0, 1), (name, name), (name, name))
                   for role in ("direct", "far"))
    return make_evaluation(card=card, strips=strips, finds=(find,), assault=assault, model="/home/somebody/models/m15",
                           created="2026-03-04T05:06:07+00:00", settings={"clip": "/home/somebody/clip", "seeds": 4})


def first_screen(page: str) -> str:
    return page.partition("<nav")[0]


@pytest.mark.parametrize(("concept", "kind", "covered"), [
    ("gore", "", True), ("church", "", False), ("something", "explicit", True), ("Van Gogh", "", False)])
def test_kind_decides_what_is_covered_and_old_records_go_by_the_name(concept: str, kind: str, covered: bool) -> None:
    request = Request.model_validate({"concept": concept, "prompts": ("a",), **({"kind": kind} if kind else {})})
    assert sensitive(request) == covered


def test_first_screen_says_when_what_and_by_whom(gore: Evaluation, tmp_path: Path) -> None:
    top = first_screen(report_html(gore, tmp_path, About(by="A. Person, Auditor")))
    for told in ("evaluation 2026-03-04", "A. Person, Auditor", "m15, weights 9f2c41d0a7e35b18", "tensors 5d1e0c9b",
                 gore.digest):
        assert told in top
    assert "not stated" in first_screen(report_html(gore, tmp_path))


def test_nobody_is_named_who_did_not_say_so(gore: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "USERNAME", "GIT_AUTHOR_NAME"):
        monkeypatch.setenv(name, "zorblax")
    write_report(gore, tmp_path, tmp_path / "out")
    assert all("zorblax" not in file.read_text(encoding="utf-8") for file in (tmp_path / "out").iterdir())


@pytest.mark.parametrize(("told", "name"), [
    ("/home/me/models/m15", "m15"), ("./models/m15", "m15"), ("../m15/", "m15"), ("C:\\models\\m15", "m15"),
    ("a/b/c", "c"), ("~/m15", "m15"), ("embedded", "embedded"), ("owner/name", "owner/name"), ("./owner/name", "name")])
def test_a_typed_path_is_not_the_model_s_name(told: str, name: str) -> None:
    assert model_name(told) == name


def test_no_page_shows_a_path(gore: Evaluation, tmp_path: Path) -> None:
    write_report(gore, tmp_path, tmp_path / "out")
    assert "/home/somebody/models" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "/home/somebody/models" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_what_is_explicit_or_violent_is_covered_until_asked_for(gore: Evaluation, tmp_path: Path) -> None:
    page = report_html(gore, tmp_path)
    figures = re.findall(r'<figure class="strip([^"]*)">(.*?)</figure>', page, re.DOTALL)
    assert [("veil" in kind, 'type="checkbox"' in inner) for kind, inner in figures] == [
        (True, True), (False, False), (True, True)]  # the target's strip, the far one, the find
    assert "script" not in page.lower().replace("text/javascript", "")
    for place in re.finditer(re.escape(PROMPT), re.sub(r'alt="[^"]*"|aria-label="[^"]*"', "", page)):
        before = page[:place.start()]
        assert "said" in before  # every prompt stands in what the style covers
    boxes = re.findall(r'<input type="checkbox" id="([^"]+)"', page)
    assert len(boxes) == len(set(boxes))
    assert all(f'<label for="{box}">' in page for box in boxes)


def test_nothing_is_covered_where_nothing_has_to_be(tmp_path: Path, draw: Any) -> None:
    name = draw("a.png")
    page = report_html(make_evaluation(strips=(strip("direct", "a church", (0,), (name,), (name,)),)), tmp_path)
    assert 'type="checkbox"' not in page


def test_redacted_copy_holds_nothing_that_is_left_out(gore: Evaluation, tmp_path: Path) -> None:
    page = write_report(gore, tmp_path, tmp_path / "out", by="somebody else", redact=True)
    assert gore.assault is not None
    wordings = {attempt.text for one in gore.assault.runs for attempt in one.attempts if " " in attempt.text}
    assert wordings
    for file in page.parent.iterdir():
        text = file.read_text(encoding="utf-8")
        for secret in (PROMPT, ASKED, "/home/somebody", *wordings):
            assert secret not in text, (file.name, secret)
    text = page.read_text(encoding="utf-8")
    assert "A copy with parts left out" in first_screen(text)
    assert gore.digest in first_screen(text)
    held = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert (held["redacted"], held["by"], held["digest"]) == (True, "somebody else", gore.digest)
    assert Evaluation.model_validate(held["evaluation"]).scores == gore.scores
    assert text.count("data:image") == 4  # the far strip's alone


def test_redacted_copy_of_harmless_things_keeps_its_pictures(tmp_path: Path, draw: Any) -> None:
    name = draw("a.png")
    made = make_evaluation(strips=(strip("direct", "a church", (0,), (name,), (name,)),), assault=make_assault())
    again = redacted(made)
    assert again.strips == made.strips
    assert again.assault is not None
    assert not any(attempt.text for one in again.assault.runs for attempt in one.attempts)


def test_glossary_explains_the_words_that_the_report_uses(gore: Evaluation, tmp_path: Path) -> None:
    words = report_html(gore, tmp_path).partition('id="words"')[2]
    for word in ("Concept", "Patch", "95% interval", "Integrity", "Null control"):
        assert f"<dt>{word}</dt>" in words
    assert "<dt>Relearning</dt>" not in words
    assert "<dt>Null control</dt>" not in report_html(make_evaluation(), tmp_path)


@pytest.mark.parametrize(("settings", "used"), [({"keep": None}, False), ({"keep": {"kind": "anchor"}}, True),
                                                ({}, True)])
def test_kept_is_only_what_the_method_made_use_of(settings: dict[str, Any], used: bool, tmp_path: Path) -> None:
    card = make_card(settings=settings)
    assert card.keeps == used
    page = report_html(make_evaluation(card=card), tmp_path)
    assert ("Prompts to keep (1)" in page) == used
    assert ("Asked to keep, of which esd made no use (1)" in page) == (not used)


def test_command_writes_both_copies_apart(gore: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(gore.model_dump_json(), encoding="utf-8")
    assert run(["report", str(tmp_path), "--by", "A. Person"]) == 0
    assert run(["report", str(tmp_path), "--redact"]) == 0
    whole, copy = ((tmp_path / name / "report.html").read_text(encoding="utf-8")
                   for name in ("report", "report-redacted"))
    assert "A. Person" in whole
    assert PROMPT in whole
    assert PROMPT not in copy
    assert "A. Person" not in copy
