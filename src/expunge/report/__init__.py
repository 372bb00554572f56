"""The report: one HTML file, the same as JSON, and a model card, from an evaluation's record alone.

Importing this package loads neither matplotlib nor jinja2; they are needed when a report is written
(the extra `report`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expunge.records import Evaluation

__all__ = ["write_report"]


def write_report(evaluation: Evaluation, folder: str | Path, out: str | Path, *, by: str = "", redact: bool = False
                 ) -> Path:
    """Write `report.html`, `report.json` and `README.md` (a Hugging Face model card) into the folder `out`.

    Args:
        evaluation: what to report.
        folder: the evaluation's folder; the files of its strips are relative to it.
        out: folder to write to; made if it does not exist. Each file is replaced as a whole or not at all.

        by: who answers for the report, as it is to stand there; "" leaves that open. It is never taken from the system.
        redact: write a copy to hand out, without what `report.sensitive` names.

    Returns:
        The path of `report.html`.

    Raises:
        UserError: jinja2, matplotlib or Pillow is missing, or the evaluation has taken in attacks that were drawn
            otherwise than it.
        StorageError: a file cannot be written.
    """
    from expunge.errors import check_type
    from expunge.files import output_folder
    from expunge.locks import alone
    from expunge.records import Evaluation
    from expunge.report import card, html
    from expunge.report.about import About
    from expunge.report.covering import without_folders
    from expunge.report.sensitive import redacted
    from expunge.suite_results import check_joined

    check_type(evaluation, Evaluation, "evaluation", "what expunge.evaluate returns")
    check_joined(evaluation)
    about, folder, out = About(by.strip(), redact, evaluation.digest), Path(folder), output_folder(out)
    shown = redacted(evaluation) if redact else evaluation
    read = without_folders(shown)  # the record alone says where things lay
    with alone(out):
        page = html.write_report(read, folder, out / "report.html", about)
        card.write_json(shown, out / "report.json", about)
        card.write_card(read, out / "README.md", about)
    return page
