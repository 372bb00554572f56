"""A sequence of requests as Markdown, and as one HTML page that draws the matrix."""

from __future__ import annotations

from pathlib import Path

from expunge.files import write_text
from expunge.records import SequenceResult
from expunge.report.page import rendered
from expunge.report.sequence import (
    headline,
    matrix,
    notes,
    over_all,
    settings_of,
    share_text,
    state_heads,
    state_rows,
)
from expunge.report.tables import flat

TEMPLATES = ("sequence.html.j2", "style.css.j2")
"""The page, and what it includes."""


def write_sequence_report(result: SequenceResult, out: str | Path) -> Path:
    """Write `sequence.html` and `sequence.md` into the folder `out`; returns the path of the page.

    Raises:
        UserError: jinja2 is missing. StorageError: a file cannot be written.
    """
    page = sequence_html(result)
    write_text(Path(out) / "sequence.md", sequence_markdown(result))
    write_text(Path(out) / "sequence.html", page)
    return Path(out) / "sequence.html"


def sequence_html(result: SequenceResult) -> str:
    """The whole page as text. Raises UserError if jinja2 is missing."""
    asked = [{**item, "anchor": ", ".join(filter(None, item["anchor"])) or "nothing in particular",
              "number": number, "title": ", ".join(item["concept"])}
             for number, item in enumerate(result.settings.get("requests", []), 1)]
    evaluation = result.settings.get("evaluation")
    return rendered(TEMPLATES, {
        "result": result, "headline": headline(result), "matrix": matrix(result), "share": share_text,
        "heads": state_heads(result), "rows": state_rows(result), "over_all": over_all(result), "notes": notes(result),
        "asked": asked, "facts": settings_of(result), "evaluation": flat(evaluation) if evaluation else {}})


def sequence_markdown(result: SequenceResult) -> str:
    """Matrix, states and scores, in Markdown."""
    lines = [headline(result), "", _line(["found after", *result.concepts]),
             _line(["---"] * (1 + len(result.concepts)))]
    for row in matrix(result):
        cells = ["not measured" if not cell.text else f"**{cell.text}**" if cell.own
                 else f"({cell.text})" if cell.to_come else cell.text
                 for cell in row.cells]
        lines.append(_line([row.words, *cells]))
    lines += ["", _line(state_heads(result)), _line(["---"] * len(state_heads(result)))]
    lines += [_line([state.words, *(_short(figure.value, figure.interval) for figure in state.figures)])
              for state in state_rows(result)]
    lines += ["", *(f"- {title}: {figure.line}{f' ({note})' if note else ''}" for title, figure, note in
                    over_all(result)), *(f"- {note}" for note in notes(result))]
    return "\n".join(lines) + "\n"


def _short(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
