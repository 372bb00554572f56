"""A sequence of requests as Markdown, and as one HTML page that draws the matrix."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from expunge.errors import check_type
from expunge.files import output_folder, write_text
from expunge.records import SequenceResult
from expunge.report.about import NOBODY, About, sequence_facts
from expunge.report.glossary import sequence_glossary
from expunge.report.page import rendered
from expunge.report.sensitive import WITHOUT_PEOPLE, redacted_sequence, sensitive_sequence
from expunge.report.sequence import (
    headline,
    matrices,
    notes,
    over_all,
    settings_of,
    share_text,
    state_heads,
    state_rows,
)
from expunge.report.tables import flat
from expunge.untrusted import in_markdown

TEMPLATES = ("sequence.html.j2", "style.css.j2", "shared.html.j2")
"""The page, and what it includes."""



def write_sequence_report(result: SequenceResult, out: str | Path, *, by: str = "", redact: bool = False) -> Path:
    """Write `sequence.html` and `sequence.md` into the folder `out`; returns the path of the page.

    Args:
        by: who answers for it, as it is to stand there. redact: write a copy to hand out (`report.sensitive`).

    Raises:
        UserError: jinja2 is missing. StorageError: a file cannot be written.
    """
    check_type(result, SequenceResult, "result", "what expunge.run_sequence returns")
    about, out = About(by.strip(), redact, result.digest), output_folder(out)
    shown = redacted_sequence(result) if redact else result
    page = sequence_html(shown, about)
    write_text(out / "sequence.md", sequence_markdown(shown))
    write_text(out / "sequence.html", page)
    return out / "sequence.html"


def sequence_html(result: SequenceResult, about: About = NOBODY) -> str:
    """The whole page as text. Raises UserError if jinja2 is missing."""
    asked = [{**item.model_dump(), "anchor": ", ".join(filter(None, item.anchor)) or "nothing in particular",
              "number": number, "title": ", ".join(item.concept)} for number, item in enumerate(result.requests, 1)]
    evaluation = result.settings.get("evaluation")
    return rendered(TEMPLATES, {
        "result": result, "headline": headline(result), "matrices": matrices(result), "share": share_text,
        "heads": state_heads(result), "rows": state_rows(result), "over_all": over_all(result), "notes": notes(result),
        "asked": asked, "facts": settings_of(result), "evaluation": flat(evaluation) if evaluation else {},
        "first": sequence_facts(result, about), "left_out": WITHOUT_PEOPLE if about.redacted else "",
        "veiled": sensitive_sequence(result), "glossary": sequence_glossary(result)})


def sequence_markdown(result: SequenceResult) -> str:
    """Matrix, states and scores, in Markdown."""
    lines = [in_markdown(headline(result))]
    for one in matrices(result):
        lines += ["", *([f"{one.title}:", ""] if one.title else []),
                  _line(map(in_markdown, ["found after", *result.concepts])),
                  _line(["---"] * (1 + len(result.concepts)))]
        for row in one.rows:
            cells = ["not measured" if not cell.text else f"**{in_markdown(cell.text)}**" if cell.own
                     else in_markdown(f"({cell.text})" if cell.to_come else cell.text)
                     for cell in row.cells]
            lines.append(_line([in_markdown(row.words), *cells]))
    lines += ["", _line(map(in_markdown, state_heads(result))), _line(["---"] * len(state_heads(result)))]
    for state in state_rows(result):
        figures = [_short(figure.value, figure.interval) for figure in state.figures]
        lines.append(_line(map(in_markdown, [state.words, *figures])))
    lines += ["", *(f"- {in_markdown(title)}: {in_markdown(figure.line)}{f' ({in_markdown(note)})' if note else ''}"
                    for title, figure, note in over_all(result)), *(f"- {in_markdown(note)}" for note in notes(result))]
    return "\n".join(lines) + "\n"


def _short(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
