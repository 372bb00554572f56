"""Concepts, methods and notes that are pages, tables or commands to a terminal: shown as the text that they are."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from attack_examples import make_suite
from bench_examples import bench
from hostile_inputs import ESCAPE
from report_examples import make_card, make_evaluation
from sequence_examples import sequence

from expunge.cli import run
from expunge.protocols.table import markdown as protocol_markdown
from expunge.records.protocol import ProtocolResult
from expunge.report.bench_page import bench_html
from expunge.report.bench_page import markdown as bench_markdown
from expunge.report.card import model_card
from expunge.report.html import report_html
from expunge.report.sequence_page import sequence_html, sequence_markdown

NAME = "<script>alert(1)</script> | x\n\n# y <img src=x onerror=alert(1)> [z](javascript:alert(1)) `q` </td></table>"


class Tags(HTMLParser):
    """What a browser would make of a page: its tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def evaluation() -> Any:
    card = make_card(NAME, method=NAME, base=NAME, settings={NAME: NAME})
    return make_evaluation(card=card, model=NAME, warnings=(NAME,), not_tested=(NAME,), detectors={NAME: NAME},
                           given=(NAME,), machine=NAME)


PAGES = {"evaluation": lambda: report_html(evaluation(), Path(".")),
         "bench": lambda: bench_html(bench({"uce": (0.1, 0.9, 3.0)}, (NAME, "dog"))),
         "sequence": lambda: sequence_html(renamed())}
TEXTS = {"card": lambda: model_card(evaluation()),
         "bench": lambda: bench_markdown(bench({"uce": (0.1, 0.9, 3.0)}, (NAME, "dog"))),
         "sequence": lambda: sequence_markdown(renamed()),
         "protocol": lambda: protocol_markdown(ProtocolResult(
             protocol=NAME, protocol_hash="0" * 16, version=1, title=NAME, source=NAME, notes=(NAME,),
             scores=make_evaluation().scores))}


def renamed() -> Any:
    made = sequence()
    first = made.concepts[0]
    text = made.model_dump_json().replace(f'"{first}"', json.dumps(NAME)).replace(
        f"found/{first}", json.dumps(f"found/{NAME}")[1:-1])
    return type(made).read(text)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_tag_of_a_records(page: str) -> None:
    html = PAGES[page]()
    assert "alert(1)" in html
    for tag, attributes in Tags(html).found:
        assert tag != "script"
        assert "onerror" not in attributes
        assert not (attributes.get("href") or "").startswith("javascript:")
        assert attributes.get("src") != "x"


@pytest.mark.parametrize("text", TEXTS)
def test_a_table_keeps_its_columns_and_a_text_its_marks(text: str) -> None:
    words = TEXTS[text]().rpartition("\n---\n")[2]  # a card begins with YAML, whose texts are quoted
    assert "alert(1)" in words
    assert "<script" not in words
    assert "<img" not in words
    assert not re.search(r"(?<!\\)\]\(javascript", words)
    assert not re.search(r"^# y", words, re.MULTILINE)
    lines = words.split("\n")
    for before, line in pairwise(lines):
        if before.startswith("| ") and line.startswith("| "):
            assert columns(before) == columns(line), line


def columns(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line))


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("record", ["evaluation", "attack", "card"])
def test_a_name_does_nothing_to_a_terminal(record: str, as_json: bool, good: Any, tmp_path: Path,
                                          capfd: pytest.CaptureFixture[str]) -> None:
    card = make_card(ESCAPE, method=ESCAPE, base=ESCAPE)
    made = {"evaluation": lambda: make_evaluation(card=card, model=ESCAPE, warnings=(ESCAPE,)),
            "attack": lambda: make_suite(card=card, warnings=(ESCAPE,)), "card": lambda: card}[record]()
    name = "patch.json" if record == "card" else f"{record}.json"
    (tmp_path / name).write_text(made.model_dump_json(), encoding="utf-8")
    (tmp_path / "patch.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    assert run(["show", str(tmp_path), *(["--json"] * as_json)]) == 0
    told = "".join(capfd.readouterr())
    assert "owned" in told
    assert not {"\x1b", "\x07", "\u202e"} & {*told}
