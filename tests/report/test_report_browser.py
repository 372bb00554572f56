"""Reports in a real, headless Chromium: nothing lies over anything else, and nothing sticks out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attack_examples import make_suite
from bench_examples import bench
from report_examples import make_evaluation
from sequence_examples import sequence

from expunge.report import write_report
from expunge.report.bench_page import write_bench_report
from expunge.report.sequence_page import write_sequence_report
from headless import chromium, needs_chromium

pytestmark = needs_chromium
TOO_WIDE = """[...document.querySelectorAll('th, td')].filter(cell => cell.offsetParent
    && cell.clientWidth > 1 && cell.scrollWidth > cell.clientWidth + 1).map(cell => cell.textContent.trim())"""
"""The text of cells whose words lie over the next one; what only a screen reader hears is one pixel wide."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module", params=["evaluation", "bench", "sequence"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp(request.param)
    if request.param == "evaluation":
        return write_report(make_evaluation(suite=make_suite(), strips=()), out, out / "report")
    if request.param == "bench":
        methods = {"esd-fast": (0.6, 0.5, 50.0), "advunlearn-fast": (0.1, 0.5, 300.0)}
        return write_bench_report(bench(methods), out)
    return write_sequence_report(sequence(), out)


@pytest.mark.parametrize("width", [1440, 1000, 390])
def test_no_words_lie_over_others_and_nothing_sticks_out(browser: Any, page: Path, width: int) -> None:
    opened = browser.new_page(viewport={"width": width, "height": 900})
    opened.goto(page.as_uri())
    assert opened.evaluate(TOO_WIDE) == []
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    opened.close()
