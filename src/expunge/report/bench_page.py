"""A bench as Markdown for a README, and as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from expunge.errors import check_type
from expunge.files import output_folder, write_text
from expunge.records import BenchResult
from expunge.report.about import NOBODY, About, bench_facts
from expunge.report.bench import (
    COST_HEADS,
    Figure,
    attack_tables,
    bench_tables,
    bench_warnings,
    controls,
    cost_rows,
    failures,
    headline,
    notes,
)
from expunge.report.differences import difference_tables
from expunge.report.glossary import bench_glossary
from expunge.report.page import rendered
from expunge.report.pareto import pareto_chart
from expunge.report.sensitive import WITHOUT_REASONS, redacted_bench, sensitive_bench
from expunge.report.tables import flat
from expunge.untrusted import in_markdown

TEMPLATES = ("bench.html.j2", "style.css.j2", "shared.html.j2")
"""The page, and what it includes."""



def write_bench_report(result: BenchResult, out: str | Path, *, by: str = "", redact: bool = False) -> Path:
    """Write `bench.html` and `bench.md` into the folder `out`; returns the path of the page.

    Args:
        by: who answers for it, as it is to stand there. redact: write a copy to hand out (`report.sensitive`).

    Raises:
        UserError: jinja2 or matplotlib is missing.
        StorageError: a file cannot be written.
    """
    check_type(result, BenchResult, "result", "what expunge.run_bench returns")
    about, out = About(by.strip(), redact, result.digest), output_folder(out)
    shown = redacted_bench(result) if redact else result
    page = bench_html(shown, about)
    write_text(out / "bench.md", markdown(shown))
    write_text(out / "bench.html", page)
    return out / "bench.html"


def bench_html(result: BenchResult, about: About = NOBODY) -> str:
    """The whole page as text. Raises UserError if jinja2 or matplotlib is missing."""
    return rendered(TEMPLATES, _content(result, about))


def _content(result: BenchResult, about: About) -> dict[str, Any]:
    tables = bench_tables(result)
    plots = [(table.title, pareto_chart(result, table.concept)) for table in tables]
    return {"result": result, "headline": headline(result), "tables": tables, "differences": difference_tables(result),
            "plots": [plot for plot in plots if plot[1]], "attacks": attack_tables(result),
            "controls": controls(result), "failures": failures(result),
            "cost_heads": COST_HEADS, "costs": cost_rows(result),
            "notes": notes(result, with_failures=False), "warnings": bench_warnings(result),
            "first": bench_facts(result, about), "left_out": WITHOUT_REASONS if about.redacted else "",
            "veiled": sensitive_bench(result), "glossary": bench_glossary(result),
            "settings": {name: flat(value) if isinstance(value, dict) else {name: str(value)}
                         for name, value in result.settings.items() if name in ("attack", "evaluation")},
            "rows": result.rows}


def markdown(result: BenchResult) -> str:
    """Every table and the comparisons, in Markdown."""
    parts = [in_markdown(headline(result))]
    for table in bench_tables(result):
        heads = ("", *table.heads)
        lines = [f"**{in_markdown(table.title)}**", "", *_head(heads)]
        lines += [_line(map(in_markdown, [str(row.rank), row.method, *(_short(item) for item in row.figures), row.cost,
                                         row.edits]))
                  for row in table.rows]
        parts.append("\n".join(lines))
    for pairs in difference_tables(result)[:1]:
        lines = [f"**{in_markdown(pairs.title)}**", "", *_head(pairs.heads)]
        lines += [_line([in_markdown(pair.words), *(_bold(in_markdown(item.text), item.clear) for item in pair.items)])
                  for pair in pairs.rows]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, "\n".join(f"- {in_markdown(note)}" for note in notes(result))]) + "\n"


def _short(item: Figure) -> str:
    inner = "; ".join(part for part in (item.interval, item.count) if part)
    return f"{item.value} ({inner})" if inner else item.value


def _bold(cell: str, so: bool) -> str:
    return f"**{cell}**" if so else cell


def _head(heads: Sequence[str]) -> list[str]:
    return [_line(map(in_markdown, heads)), _line(["---"] * len(heads))]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
