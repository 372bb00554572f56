"""A bench as Markdown for a README, and as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expunge.files import write_text
from expunge.records import BenchResult
from expunge.report.bench import (
    COST_HEADS,
    Figure,
    attack_tables,
    bench_tables,
    controls,
    cost_rows,
    failures,
    headline,
    notes,
)
from expunge.report.differences import difference_tables
from expunge.report.page import rendered
from expunge.report.pareto import pareto_chart
from expunge.report.tables import flat

TEMPLATES = ("bench.html.j2", "style.css.j2")
"""The page, and what it includes."""


def write_bench_report(result: BenchResult, out: str | Path) -> Path:
    """Write `bench.html` and `bench.md` into the folder `out`; returns the path of the page.

    Raises:
        UserError: jinja2 or matplotlib is missing.
        StorageError: a file cannot be written.
    """
    page = bench_html(result)
    write_text(Path(out) / "bench.md", markdown(result))
    write_text(Path(out) / "bench.html", page)
    return Path(out) / "bench.html"


def bench_html(result: BenchResult) -> str:
    """The whole page as text. Raises UserError if jinja2 or matplotlib is missing."""
    return rendered(TEMPLATES, _content(result))


def _content(result: BenchResult) -> dict[str, Any]:
    tables = bench_tables(result)
    plots = [(table.title, pareto_chart(result, table.concept)) for table in tables]
    return {"result": result, "headline": headline(result), "tables": tables, "differences": difference_tables(result),
            "plots": [plot for plot in plots if plot[1]], "attacks": attack_tables(result),
            "controls": controls(result), "failures": failures(result),
            "cost_heads": COST_HEADS, "costs": cost_rows(result), "notes": notes(result),
            "settings": {name: flat(value) if isinstance(value, dict) else {name: str(value)}
                         for name, value in result.settings.items() if name in ("attack", "evaluation")},
            "rows": result.settings.get("methods", [])}


def markdown(result: BenchResult) -> str:
    """Every table and the comparisons, in Markdown."""
    parts = [headline(result)]
    for table in bench_tables(result):
        heads = ("", *table.heads)
        lines = [f"**{table.title}**", "", _line(heads), _line(["---"] * len(heads))]
        lines += [_line([str(row.rank), row.method, *(_short(item) for item in row.figures), row.cost, row.edits])
                  for row in table.rows]
        parts.append("\n".join(lines))
    for pairs in difference_tables(result)[:1]:
        lines = [f"**{pairs.title}**", "", _line(pairs.heads), _line(["---"] * len(pairs.heads))]
        lines += [_line([pair.words, *(f"**{item.text}**" if item.clear else item.text for item in pair.items)])
                  for pair in pairs.rows]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes(result))]) + "\n"


def _short(item: Figure) -> str:
    inner = "; ".join(part for part in (item.interval, item.count) if part)
    return f"{item.value} ({inner})" if inner else item.value


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
