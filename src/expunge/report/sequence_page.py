"""A sequence of requests as Markdown, and as one HTML page that draws the matrix."""

from __future__ import annotations

from pathlib import Path

from expunge.files import write_text
from expunge.records import SequenceResult
from expunge.report.about import NOBODY, About, sequence_facts
from expunge.report.glossary import sequence_glossary
from expunge.report.page import rendered
from expunge.report.sensitive import WITHOUT_PEOPLE, redacted_sequence, sensitive_sequence
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

TEMPLATES = ("sequence.html.j2", "style.css.j2", "shared.html.j2")
"""The page, and what it includes."""



def write_sequence_report(result: SequenceResult, out: str | Path, *, by: str = "", redact: bool = False) -> Path:
    """Write `sequence.html` and `sequence.md` into the folder `out`; returns the path of the page.

    Args:
        by: who answers for it, as it is to stand there. redact: write a copy to hand out (`report.sensitive`).

    Raises:
        UserError: jinja2 is missing. StorageError: a file cannot be written.
    """
    about = About(by.strip(), redact, result.digest)
    shown = redacted_sequence(result) if redact else result
    page = sequence_html(shown, about)
    write_text(Path(out) / "sequence.md", sequence_markdown(shown))
    write_text(Path(out) / "sequence.html", page)
    return Path(out) / "sequence.html"


def sequence_html(result: SequenceResult, about: About = NOBODY) -> str:
    """The whole page as text. Raises UserError if jinja2 is missing."""
    asked = [{**item, "anchor": ", ".join(filter(None, item["anchor"])) or "nothing in particular",
              "number": number, "title": ", ".join(item["concept"])}
             for number, item in enumerate(result.settings.get("requests", []), 1)]
    evaluation = result.settings.get("evaluation")
    return rendered(TEMPLATES, {
        "result": result, "headline": headline(result), "matrix": matrix(result), "share": share_text,
        "heads": state_heads(result), "rows": state_rows(result), "over_all": over_all(result), "notes": notes(result),
        "asked": asked, "facts": settings_of(result), "evaluation": flat(evaluation) if evaluation else {},
        "first": sequence_facts(result, about), "left_out": WITHOUT_PEOPLE if about.redacted else "",
        "veiled": sensitive_sequence(result), "glossary": sequence_glossary(result)})


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
