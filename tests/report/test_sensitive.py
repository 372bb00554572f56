"""A report for those who decide: what it is of and by whom, words explained, nothing shown that nobody asked to see."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal, get_origin

import pytest
from attack_examples import make_relearning, make_suite
from report_examples import make_card, make_evaluation, rate, strip

from expunge.cli import run
from expunge.records import AttackExample, Evaluation, Record, Request
from expunge.report import write_report
from expunge.report.about import About
from expunge.report.covering import Covering
from expunge.report.html import report_html
from expunge.report.sensitive import redacted, sensitive
from expunge.report.words import model_name

PROMPT, ASKED = "a very gory scene", "blood everywhere"


@pytest.fixture
def gore(draw: Any) -> Evaluation:
    """Of violent content, with images and attacks, on a model in a folder of somebody's."""
    name = draw("a.png")
    request = Request(concept="gore", prompts=(PROMPT,), keep=("a house",))
    card = make_card(request=request, base="/home/somebody/models/m15")
    suite = make_suite(card=card, request=request, model="/home/somebody/models/m15")
    find = AttackExample(attack="noising", prompt=PROMPT, seed=3, text=ASKED, original=name, edited=name, found=name)
    strips = tuple(strip(role, PROMPT if role == "direct" else "a dog", (0, 1), (name, name), (name, name))
                   for role in ("direct", "far"))
    return make_evaluation(card=card, strips=strips, finds=(find,), suite=suite, model="/home/somebody/models/m15",
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
    assert "/home/somebody" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "/home/somebody" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "/home/somebody" in (tmp_path / "out" / "report.json").read_text(encoding="utf-8")  # the whole record


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
    assert gore.suite is not None
    wordings = {attempt.text for one in gore.suite.runs for attempt in one.attempts if " " in attempt.text}
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
    assert text.count("data:image") == 6  # the far strip alone: its two seeds, the first of them at a glance, too


SECRETS = (PROMPT, ASKED, "a scene that only an item names", "somebody", "secret, team", "hidden team", "gory")
HERE = "./hidden-team/model"
PLACES = {"clip": "hidden-team/clip", "prompts": "/home/somebody/secret, team/prompts.csv", "out": "hidden team/run",
          "against": "hidden-team/runs/one",
          "deep": [{"file": "C:\\\\somebody\\\\x.json"}]}


def planted(value: Any, secret: str) -> Any:
    """A record with the secret in every text that it holds and in a key of every open mapping of texts or numbers."""
    if isinstance(value, Record):
        free = [name for name, field in type(value).model_fields.items() if get_origin(field.annotation) is not Literal
                and not (isinstance(getattr(value, name), str) and name in {"name", "role", "model_hash", "prompt",
                                                                           "concept", "base", "model"})]
        files = {"original", "edited", "found"} if type(value).__name__ in {"ImageStrip", "AttackExample"} else set()
        return value.model_copy(update={name: planted(getattr(value, name), secret) for name in {*free} - files})
    if isinstance(value, str):
        return f"{value} on {secret}."
    if isinstance(value, dict):
        return {**{key: planted(inner, secret) for key, inner in value.items()},
                **({f"{secret}/3": next(iter(value.values()))} if value else {})}
    return type(value)(planted(one, secret) for one in value) if isinstance(value, list | tuple) else value


def everything(gore: Evaluation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Evaluation:
    """With attacks, relearning, items by prompts, and what warns of them."""
    (tmp_path / "hidden-team" / "clip").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    quoted_cut = "2 prompts were cut, 'some gory thing that no list has...' first"
    items = {f"{PROMPT}/0": 1.0, f"{PROMPT}/1": 0.0, "a scene that only an item names | 2": 1.0}
    score = rate("found/all", 3, 126).model_copy(update={"per_item": items})
    assert gore.suite is not None
    relearning = make_relearning(card=gore.card, request=gore.card.request, model=HERE, settings=PLACES)
    curve = relearning.curves[0]
    look = curve.looks[0].model_copy(update={"found": curve.looks[0].found.model_copy(update={"per_item": items})})
    relearning = relearning.model_copy(update={
        "curves": (curve.model_copy(update={"looks": (look, *curve.looks[1:])}), *relearning.curves[1:]),
        "warnings": (f"{PROMPT!r} is rarely seen", quoted_cut), "given": (f"/home/somebody/x.csv: “{PROMPT}” twice",)})
    suite = gore.suite.model_copy(update={
        "given": (f"left out: {PROMPT!r}",), "warnings": (f'broke off on "{PROMPT.upper()}"', quoted_cut),
        "scores": (*gore.suite.scores, score.model_copy(update={"name": "attack/items"})), "settings": PLACES})
    return gore.model_copy(update={
        "suite": suite, "relearning": relearning, "scores": (score, *gore.scores[1:]), "settings": PLACES,
        "left_out": {f"{PROMPT}, and much longer": "too long"}, "warnings": (quoted_cut,), "model": HERE,
        "card": gore.card.model_copy(update={"left_out": {PROMPT: "too long"}, "settings": PLACES})})


def found_in(folder: Path, secrets: tuple[str, ...]) -> list[tuple[str, str, str]]:
    out = []
    for file in folder.iterdir():
        text = file.read_text(encoding="utf-8")
        out += [(file.name, secret, text[max(0, place - 60):place + 60]) for secret in secrets
                for place in [text.lower().find(secret.lower())] if place >= 0]
    return out


def test_no_file_of_a_redacted_copy_holds_a_prompt_or_a_folder_in_any_field_or_key(
        gore: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = everything(gore, monkeypatch, tmp_path)
    write_report(whole, tmp_path, tmp_path / "whole")
    assert {name for name, *_ in found_in(tmp_path / "whole", (PROMPT,))} == {"report.html", "report.json", "README.md"}
    write_report(whole, tmp_path, tmp_path / "out", redact=True)
    assert not found_in(tmp_path / "out", (*SECRETS, "hidden-team"))
    held = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["evaluation"]
    again = Evaluation.model_validate(held)
    assert again.relearning is not None
    assert [*again.scores[0].per_item.values()] == [1.0, 0.0, 1.0]  # paired statistics stay possible
    assert again.relearning.curves[0].looks[0].found.per_item.keys() == again.scores[0].per_item.keys()
    assert again.card.tensors == whole.card.tensors
    assert (again.settings["prompts"], again.settings["clip"], again.model) == ("prompts.csv", "clip", "model")


@pytest.mark.parametrize("secret", [PROMPT, "/home/somebody/models/m15"])
def test_a_secret_in_every_text_and_key_of_the_record_is_left_out_of_all_of_them(
        gore: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    whole = planted(everything(gore, monkeypatch, tmp_path), secret)
    assert whole.model_dump_json().count(secret) > 1000
    for text in (secret, "somebody"):
        assert text not in redacted(whole).model_dump_json()


def test_names_of_concepts_and_prompts_to_keep_stay_in_a_redacted_copy(
        gore: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = redacted(everything(gore, monkeypatch, tmp_path))
    assert (copy.card.request.concept, copy.card.request.keep) == ("gore", ("a house",))
    assert [one.prompt for one in copy.strips][1] == "a dog"


def test_items_of_a_redacted_copy_stay_apart_whatever_their_names_become() -> None:
    items = {"A gory scene/0": 1.0, "a gory scene/0": 0.0, "x/0": 0.5}
    score = rate("found/all", 3, 126).model_copy(update={
        "per_item": items, "left_out": {"read from /a/b.csv": 1, "read from /c/b.csv": 2}})
    made = Covering(["A gory scene", "a gory scene"], paths=["/a/b.csv", "/c/b.csv"]).walk(score)
    assert [*made.per_item.values()] == [*items.values()]
    assert made.left_out == {"read from b.csv": 1, "read from b.csv (2)": 2}


@pytest.mark.parametrize(("told", "key", "stays"), [
    ("runwayml/stable-diffusion", "model", "runwayml/stable-diffusion"), ("./team/model", "model", "model"),
    ("second/original/found/all", "name", "second/original/found/all"), ("https://arxiv.org/abs/1", "source", None),
    ("unet/a/b.weight", "tensors", None), ("lists, mine/a b.csv", "settings.any", "a b.csv"),
    ("/a/b.csv: 3 prompts of 1/2", "given", "b.csv: 3 prompts of 1/2"),
    ("black/white image, plain", "settings.caption", None)])
def test_only_what_is_a_path_loses_its_folders(told: str, key: str, stays: str | None) -> None:
    assert Covering()._walk(told, key) == (told if stays is None else stays)


def test_redacted_copy_of_harmless_things_keeps_its_pictures(tmp_path: Path, draw: Any) -> None:
    name = draw("a.png")
    made = make_evaluation(strips=(strip("direct", "a church", (0,), (name,), (name,)),), suite=make_suite())
    again = redacted(made)
    assert again.strips == made.strips
    assert again.suite is not None
    assert not any(attempt.text for one in again.suite.runs for attempt in one.attempts)


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
