"""What verbs print: an evaluation's verdict and its scores, a patch's card, where the results lie."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from expunge.errors import UserError

if TYPE_CHECKING:
    from expunge.records import Assault, Evaluation, PatchCard

EVALUATION = "evaluation.json"
"""Name of an evaluation's record in its folder."""
HEADLINES = (
    "found/direct", "found/held_out", "found/paraphrase", "found/implicit", "found/all", "abstained/all",
    "retained/near", "retained/far", "retained/style", "integrity/near", "integrity/far", "integrity/forget",
    "fid/original", "kid/original", "clip/forget", "clip/keep", "found/never_seen",
)
"""The scores that `evaluate` and `demo` print; `show` prints them all."""
MEASURED = """\
  Comes back under attack in some items.
  Elicited in 3 of 6 items (50.0%, 95% interval 18.8% to 81.2%), worst case over
  5 attackers (paraphrase, implicit, seed-search, noising, unlearndiff); none of
  them without an attack. [...]
  score         value  95% interval  n        left out      original
  found/all        0%    0% to 3.9%  0 of 95  1 abstained      92.7%
  [...]
"""
"""What the demo's evaluation printed, shortened: the examples of `demo`, `evaluate` and `show`. README has it whole."""
_LONG = 6
"""Lists longer than this are shown by their first entries and their count."""


def evaluation_file(path: Path) -> Path | None:
    """The record of the evaluation at `path` (its folder, or the file itself); None if there is none."""
    inside = path if path.name == EVALUATION else path / EVALUATION
    return inside if inside.is_file() else None


def read_evaluation(path: Path) -> Evaluation:
    """The evaluation at `path`.

    Raises:
        UserError: there is none, or its record is damaged.
    """
    from expunge.records import Evaluation

    file = evaluation_file(path)
    if file is None:
        below = evaluation_file(path / "evaluation")
        raise UserError(f"no evaluation at {path}", accepted=f"a folder with {EVALUATION}",
                        remedy=f"there is one at {below.parent}" if below else "make one with `expunge evaluate PATCH`")
    try:
        return Evaluation.read(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}", accepted="a record that `expunge evaluate` wrote",
                        remedy="evaluate again") from error


def print_evaluation(evaluation: Evaluation, every: bool = False) -> None:
    """The verdict in sentences, then the scores that it rests on (or every score), edited beside original."""
    from rich.console import Console
    from rich.table import Table

    from expunge.report.verdict import verdict
    from expunge.report.words import count_text, find, interval_text, left_out_text, value_text

    said = verdict(evaluation)
    colour = {"good": "green", "mixed": "yellow", "bad": "red", "unknown": "magenta"}[said.tone]
    width = None if sys.stdout.isatty() else 118
    console = Console(width=width, highlight=False)
    console.print(f"{said.headline}.", style=f"bold {colour}", markup=False)
    told = [said.sentence, *([said.asked] if said.asked else []), said.cost]
    console.print("\n".join(told) + "\n", markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    names = [score.name for score in evaluation.scores if score.subject != "original"]
    names = names if every else [name for name in HEADLINES if name in names]
    for head in ("score", "value", "95% interval", "n", "left out", "original"):
        table.add_column(head, justify="left" if head in ("score", "left out") else "right",
                         min_width=max(map(len, names), default=0) if head == "score" else None)
    for name in names:
        score, original = evaluation.score(name), find(evaluation, f"original/{name}")
        table.add_row(name, value_text(score), interval_text(score), count_text(score), left_out_text(score),
                      value_text(original) if original else "")
    console.print(table, markup=False)
    for warning in evaluation.warnings:
        console.print(f"doubt: {warning}", style="yellow", markup=False)
    if evaluation.assault is not None:
        print_assault(evaluation.assault, sentence=False)


def print_assault(assault: Assault, sentence: bool = True) -> None:
    """The verdict in a sentence (if it is not told already), then one row per attack."""
    from rich.console import Console
    from rich.table import Table

    from expunge.report.attacks import attack_rows, attack_sentence

    console = Console(width=None if sys.stdout.isatty() else 118, highlight=False)
    console.print(f"{attack_sentence(assault)}\n" if sentence else "", markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("attack", "may", "elicited", "95% interval", "on fresh seeds", "second detector", "null control",
                 "budget per item"):
        table.add_column(head, no_wrap=head == "attack")
    for row in attack_rows(assault):
        table.add_row(row.name, row.access, row.elicited, row.interval, row.fresh, row.second, row.control, row.budget)
    console.print(table, markup=False)
    for warning in assault.warnings:
        console.print(f"doubt: {warning}", style="yellow", markup=False)


def card_lines(card: PatchCard) -> dict[str, object]:
    """A patch's card for reading: long lists shortened, losses as first and last."""
    told: dict[str, object] = card.model_dump(mode="json", exclude={"request", "losses", "tensors"})
    request = card.request
    head = {"concept": request.concept, "anchor": request.anchor or "(nothing in particular)",
            "prompts": _shortened(request.prompts), "keep": _shortened(request.keep)}
    losses = {name: f"{values[0]:.4g} first, {values[-1]:.4g} last" for name, values in card.losses.items() if values}
    return {**head, **told, "tensors": _shortened(card.tensors), "losses": losses}


def tell(what: str, path: Path) -> None:
    """One line: what was written, and where."""
    click.echo(f"{what}: {path}")


def slug(text: str) -> str:
    """`text` as part of a file's name: small letters of any script, digits and dashes, 40 at most."""
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:40].strip("-") or "empty"


def _shortened(items: tuple[str, ...]) -> list[str]:
    shown = list(items[:_LONG])
    return [*shown, f"... {len(items)} in all"] if len(items) > _LONG else shown
