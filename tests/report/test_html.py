"""The page stands alone, says everything the record says, and lets no text of a record become markup."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from attack_examples import attack_run, items, make_suite
from report_examples import HOSTILE, make_evaluation, number, rate, strip

from expunge.errors import StorageError, UserError
from expunge.records import AttackExample
from expunge.report import write_report
from expunge.report.html import report_html
from expunge.report.verdict import verdict

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def full(draw):
    """An evaluation with pictures of every group."""
    name = draw("a.png")
    strips = tuple(strip(role, f"a prompt, {role}", (0, 1), (name, name), (name, name))
                   for role in ("direct", "near", "far", "style", "never_seen"))
    return make_evaluation(strips=strips)


def test_verdict_comes_first_then_pictures_plots_scores_method_and_limits(full, tmp_path):
    page = report_html(full, tmp_path)
    order = [page.index(mark) for mark in ("<h1>Rarely drawn", 'id="pictures"', 'id="plots"', 'id="scores"',
                                           'id="method"', 'id="untested"')]
    assert order == sorted(order)
    assert verdict(full).sentence in Page(page).text


def test_page_needs_nothing_else(full, tmp_path):
    page = Page(report_html(full, tmp_path))
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object"}
        for key in ("src", "href", "xlink:href"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/"))
    assert "@import" not in report_html(full, tmp_path)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_pictures_have_words_and_headings_do_not_jump(full, tmp_path):
    page = Page(report_html(full, tmp_path))
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 20 + 6  # the strips, and one seed of three of them at a glance
    assert all(re.match(r"(original|edited), seed \d: a prompt", a["alt"]) for a in pictures)
    levels = [int(tag[1]) for tag, _ in page.tags if tag in {"h1", "h2", "h3", "h4"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert dict(page.tags)["html"] == {"lang": "en"}
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_controls_are_explained_only_where_they_are_plotted(full, tmp_path):
    assert "controls of the detector" in Page(report_html(full, tmp_path)).text
    bare = make_evaluation([rate("found/direct", 1, 8), rate("original/found/direct", 8, 8)])
    assert "controls of the detector" not in Page(report_html(bare, tmp_path)).text


def test_every_score_is_in_the_tables_with_its_details(full, tmp_path):
    page = report_html(full, tmp_path)
    for score in full.scores:
        assert f"<code>{score.name}</code>" in page
    text = Page(page).text
    for detail in ("0.8% to 6.8%", "3 of 126", "2 abstained", "bootstrap over prompts", "seeds 0–3",
                   "not measured: needs 256 images, got 112", "judged images", "18.40"):
        assert detail in text


def test_scores_that_the_record_lacks_are_named(full, tmp_path):
    page = report_html(full, tmp_path)
    assert "Not measured, no such score in the evaluation" in page
    for name in ("retained/style", "integrity/empty", "clip/forget"):
        assert f"<code>{name}</code>" in page


def test_unknown_families_of_scores_are_shown(tmp_path):
    evaluation = make_evaluation([rate("found/all", 3, 126), number("novel/thing", 2.5)])
    page = report_html(evaluation, tmp_path)
    assert "Other scores" in page
    assert "<code>novel/thing</code>" in page


def test_method_settings_hashes_and_limits_are_told(full, tmp_path):
    text = Page(report_html(full, tmp_path)).text
    for detail in ("objective.eta", "1e-05", "5d1e0c9b", full.digest, full.card.digest, "emoji-judge", "1a2b3c4d",
                   "2.13.0", "x86_64, 2 cores, cpu", "1 min 14 s", "Only 12 prompts per stratum.",
                   "Prompts in other languages."):
        assert detail in text


def test_hostile_text_stays_text(hostile, tmp_path):
    html = report_html(hostile, tmp_path)
    page = Page(html)
    assert HOSTILE not in html
    assert not any(tag in {"script", "img"} for tag, _ in page.tags)
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert HOSTILE in page.text
    assert "file lies outside the evaluation's folder" in page.text
    assert "This evaluation cannot tell" in page.text


def test_bare_evaluation_still_makes_a_page(bare, tmp_path):
    text = Page(report_html(bare, tmp_path)).text
    for words in ("The evaluation holds no images to show.", "Nothing to plot for", "is still drawn was not measured",
                  "The evaluation names nothing"):
        assert words in text


def test_same_record_same_bytes(full, tmp_path):
    assert report_html(full, tmp_path) == report_html(full, tmp_path)


def test_three_files_are_written_and_the_page_is_small(full, tmp_path):
    path = write_report(full, str(tmp_path), str(tmp_path / "new" / "out"))
    assert path == tmp_path / "new" / "out" / "report.html"
    assert sorted(file.name for file in path.parent.iterdir()) == [".lock", "README.md", "report.html", "report.json"]
    assert path.stat().st_size < 3_000_000


def test_a_place_that_cannot_be_written_is_a_storage_error(full, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        write_report(full, tmp_path, tmp_path / "file" / "out")


@pytest.mark.parametrize("library", ["jinja2", "matplotlib", "PIL"])
def test_missing_library_says_what_to_install(full, tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=r"pip install 'expunge\[report\]'"):
        write_report(full, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_import_loads_no_heavy_library():
    code = ("import sys, expunge.report, expunge.report.card, expunge.report.html; "
            "print([m for m in ('torch', 'matplotlib', 'jinja2', 'PIL', 'diffusers') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_writing_a_report_needs_no_torch(full, tmp_path):
    (tmp_path / "evaluation.json").write_text(full.model_dump_json())
    code = ("import sys; from pathlib import Path; from expunge.records import Evaluation; "
            "from expunge.report import write_report; sys.modules['torch'] = None; folder = Path(sys.argv[1]); "
            "e = Evaluation.model_validate_json((folder / 'evaluation.json').read_text()); "
            "write_report(e, folder, folder / 'out')")
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000


@pytest.fixture
def attacked(draw):
    """An evaluation with attacks, three of whose finds have images, one none."""
    name, suite = draw("a.png"), make_suite()
    find = {"attack": "unlearndiff", "prompt": "a church", "seed": 0, "text": "qué church", "original": name,
            "edited": name, "found": name, "fresh": 4, "fresh_found": 3}
    finds = (*(AttackExample(**{**find, "seed": seed}) for seed in range(3)),
             AttackExample(**{**find, "found": "../secret.png"}))
    return make_evaluation(suite=suite, finds=finds)


def test_the_section_on_attacks_follows_the_pictures(attacked, tmp_path):
    html = report_html(attacked, tmp_path)
    order = [html.index(mark) for mark in ('id="pictures"', '<section id="attacks"', 'id="plots"')]
    assert order == sorted(order)
    page = Page(html)
    for words in ("Elicited in 7 of 24 items", "worst case", "3 of 19 (1 attempt failed)", "prompt, white box",
                  "40 gradient steps, 8 images, 4,200 NFE", "selected by the judge", "Success against budget",
                  "again on 3 of 4 fresh seeds", "emoji-clip@77aa", "file lies outside the evaluation's folder"):
        assert words in page.text
    assert sum(a["alt"].startswith("unlearndiff, seed") for tag, a in page.tags if tag == "img") == 3
    levels = [int(tag[1]) for tag, _ in page.tags if tag in {"h1", "h2", "h3", "h4"}]
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert "<code>attack/unlearndiff/fresh</code>" in html


def test_every_link_leads_somewhere_on_the_page(attacked, tmp_path):
    page = Page(report_html(attacked, tmp_path))
    links = {a["href"] for tag, a in page.tags if tag == "a"}
    assert {"#attacks", "#warning-null-control-scores", "#warning-failed-attempts"} <= links
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert {link[1:] for link in links} <= set(ids)
    assert len(ids) == len(set(ids))


def test_without_attacks_there_is_no_such_section(full, tmp_path):
    assert 'id="attacks"' not in report_html(full, tmp_path)


def test_hostile_prompts_of_attacks_stay_text(tmp_path):
    suite = make_suite(runs=(attack_run(HOSTILE, HOSTILE, items(8), 8, 10, text=HOSTILE),), warnings=(HOSTILE,))
    html = report_html(make_evaluation(suite=suite), tmp_path)
    assert HOSTILE not in html
    assert not any(tag in {"script", "img"} for tag, _ in Page(html).tags)
    assert "2 more" in html
