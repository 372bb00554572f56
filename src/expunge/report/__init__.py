"""The report: one HTML file, the same as JSON, and a model card, from an evaluation's record alone.

Importing this package loads neither matplotlib nor jinja2; they are needed when a report is written
(`pip install 'expunge[report]'`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expunge.records import Evaluation

__all__ = ["write_report"]


def write_report(evaluation: Evaluation, folder: str | Path, out: str | Path) -> Path:
    """Write `report.html`, `report.json` and `README.md` (a Hugging Face model card) into the folder `out`.

    Args:
        evaluation: what to report.
        folder: the evaluation's folder; the files of its strips are relative to it.
        out: folder to write to; made if it does not exist. Each file is replaced as a whole or not at all.

    Returns:
        The path of `report.html`.

    Raises:
        UserError: jinja2, matplotlib or Pillow is missing, or the evaluation has taken in attacks that were drawn
            otherwise than it.
        StorageError: a file cannot be written.
    """
    from expunge.assault import check_joined
    from expunge.locks import alone
    from expunge.report import card, html

    check_joined(evaluation)
    folder, out = Path(folder), Path(out)
    with alone(out):
        page = html.write_report(evaluation, folder, out / "report.html")
        card.write_json(evaluation, out / "report.json")
        card.write_card(evaluation, out / "README.md")
    return page
