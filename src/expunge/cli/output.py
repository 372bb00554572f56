"""What verbs print: an evaluation's verdict and its scores, a sequence, a patch's card, where the results lie."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.cli.terminal import echo, visible_console

if TYPE_CHECKING:
    from rich.console import Console

    from expunge.records import Evaluation, PatchCard, Relearning, SequenceResult, SuiteResult

HEADLINES = (
    "found/direct", "found/held_out", "found/paraphrase", "found/implicit", "found/all", "second/found/all",
    "something_else/all", "instead/surrogate", "instead/another", "instead/ordinary", "instead/shape",
    "instead/nothing", "abstained/all", "retained/near", "second/retained/near", "retained/far", "second/retained/far",
    "retained/style", "retained/homonym", "retained/beside",
    "not_finite/all", "damaged/keep", "integrity/near", "integrity_median/near", "integrity/far",
    "integrity_median/far", "integrity/forget", "sharpness/near", "fid/original", "kid/original",
    "clip/forget", "clip/keep", "found/never_seen",
)
"""The scores that `evaluate` and `demo` print; `show` prints them all."""
MEASURED = """\
  Comes back under attack; what it costs other images is unclear.
  Elicited in 4 of 8 items (50.0%, 95% interval 21.5% to 78.5%), worst case over
  3 attackers (seed-search, noising, unlearndiff); none of them without an
  attack. [...]
  score                   value      95% interval                   n  left out        original
  found/all                  0%        0% to 9.6%             0 of 72  none                100%
  [...]
"""
"""What the demo's evaluation printed, shortened: the examples of `demo`, `evaluate` and `show`; docs/measured.md has it
whole."""
STILL_THERE = 3
"""Exit code, with --strict, of an edit after which a concept is still there, or of which nothing looked."""
_LONG = 6
"""Lists longer than this are shown by their first entries and their count."""


def print_evaluation(evaluation: Evaluation, every: bool = False) -> None:
    """The verdict in sentences, then the scores that it rests on (or every score), edited beside original."""
    from rich.table import Table

    from expunge.report.verdict import verdict
    from expunge.report.ways import ways
    from expunge.report.words import count_text, find, interval_text, left_out_text, original_of, value_text

    said = verdict(evaluation)
    colour = {"good": "green", "mixed": "yellow", "bad": "red", "unknown": "magenta"}[said.tone]
    width = None if sys.stdout.isatty() else 118
    console = visible_console(width=width)
    console.print(f"{said.headline}.", style=f"bold {colour}", markup=False)
    lines = [said.sentence, *([said.asked] if said.asked else []), *([said.instead] if said.instead else []), said.cost]
    console.print("\n".join(lines) + "\n", markup=False)
    heads, rows = ways(evaluation)
    if rows:
        by_way = Table(box=None, pad_edge=False, header_style="dim")
        for head in ("asked by", *heads):
            by_way.add_column(head, min_width=10)
        for way in rows:
            by_way.add_row(way.words, *way.cells)
        console.print(by_way, markup=False)
        console.print()
    table = Table(box=None, pad_edge=False, header_style="dim")
    names = [score.name for score in evaluation.scores if score.subject != "original"]
    concepts = evaluation.card.request.concepts
    each = [f"found/all/{concept}" for concept in concepts] if len(concepts) > 1 else []
    chosen = [name for head in HEADLINES for name in (head, *(each if head == "found/all" else ()))]
    names = names if every else [name for name in chosen if name in names]
    for head in ("score", "value", "95% interval", "n", "left out", "original"):
        table.add_column(head, justify="left" if head in ("score", "left out") else "right",
                         min_width=max(map(len, names), default=0) if head == "score" else None)
    for name in names:
        score, original = evaluation.score(name), find(evaluation, original_of(name))
        table.add_row(name, value_text(score), interval_text(score), count_text(score), left_out_text(score),
                      value_text(original) if original else "")
    console.print(table, markup=False)
    _given(console, evaluation.given)
    for warning in evaluation.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)
    if evaluation.suite is not None:
        print_suite(evaluation.suite, sentence=False)
    if evaluation.relearning is not None:
        echo()
        print_relearning(evaluation.relearning)


def print_suite(suite: SuiteResult, sentence: bool = True) -> None:
    """The verdict in a sentence (if it is not told already), then one row per attack."""
    from rich.table import Table

    from expunge.report.attacks import attack_rows, attack_sentence, attacker_words

    console = visible_console(width=None if sys.stdout.isatty() else 118)
    console.print(f"{attack_sentence(suite)}\n" if sentence else "", markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("attack", "may", "elicited", "95% interval", "on fresh seeds", "second detector", "null control",
                 "budget per item"):
        table.add_column(head, no_wrap=head == "attack")
    for row in attack_rows(suite):
        table.add_row(row.name, row.access, row.elicited, row.interval, row.fresh, row.second, row.control, row.budget)
    console.print(table, markup=False)
    _given(console, suite.given)
    for words in attacker_words(suite):
        console.print(words, style="dim", markup=False)
    for warning in suite.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)


def print_relearning(made: Relearning) -> None:
    """What relearning curves say in sentences, then a row per look."""
    from rich.table import Table

    from expunge.report.relearning import relearning_heads, relearning_rows, relearning_sentence

    console = visible_console(width=None if sys.stdout.isatty() else 118)
    console.print(f"{relearning_sentence(made)}\n", markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("steps", *relearning_heads(made)):
        table.add_column(head)
    for row in relearning_rows(made):
        table.add_row(str(row.steps), *row.found)
    console.print(table, markup=False)
    _given(console, made.given)
    for warning in made.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)


def _given(console: Console, sentences: Sequence[str]) -> None:
    """What became of the user's own prompts."""
    for sentence in sentences:
        console.print(f"prompts: {sentence}", style="dim", markup=False)


def refuse_unfinished(path: Path) -> None:
    """UserError for the ledger of a sequence, or the folder of one that has not ended."""
    from expunge.errors import UserError
    from expunge.records import LEDGER, SEQUENCES

    file = path if path.name == LEDGER else path / LEDGER
    if file.is_file() and SEQUENCES.at(file.parent) is not None:
        raise UserError(f"{file} is the ledger of a sequence", accepted=f"the sequence itself, {file.parent}")
    if file.is_file():
        raise UserError(f"a sequence was begun in {file.parent}, and has not ended",
                        accepted="a sequence that has ended",
                        remedy="`expunge sequence FILE` goes on with it, and with --gather shows what is there")


def print_sequence(result: SequenceResult) -> None:
    """The headline, the matrix, the model after each request, and how to read it."""
    from rich.table import Table

    from expunge.report.sequence import headline, matrices, notes, over_all, state_heads, state_rows

    console = visible_console(width=None if sys.stdout.isatty() else 150)
    console.print(f"{headline(result)}\n", markup=False)
    for one in matrices(result) if result.before else ():
        table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left",
                      title=f"found after{f', {one.title[0].lower()}{one.title[1:]}' if one.title else ''}")
        for head in ("", *result.concepts):
            table.add_column(head, justify="left" if not head else "right")
        for row in one.rows:
            table.add_row(row.words, *(f"[{cell.text}]" if cell.own else f"({cell.text})" if cell.to_come else cell.text
                                       for cell in row.cells))
        console.print(table, "", markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in state_heads(result):
        table.add_column(head)
    for state in state_rows(result):
        table.add_row(state.words, *("\n".join(filter(None, (item.value, item.interval))) for item in state.figures))
    console.print(table, "", markup=False)
    for title, figure, note in over_all(result):
        console.print(f"{title}: {figure.line}" + (f" ({note})" if note else ""), markup=False)
    for line in notes(result):
        console.print(line, style="dim", markup=False)


def card_lines(card: PatchCard) -> dict[str, object]:
    """A patch's card for reading: long lists shortened, losses as first and last."""
    fields: dict[str, object] = card.model_dump(mode="json", exclude={"request", "losses", "tensors"})
    targets = [{"concept": target.concept, "anchor": target.anchor or "(nothing in particular)",
                "prompts": _shortened(target.prompts)} for target in card.request.targets]
    keep = "keep" if card.keeps or not card.request.keep else "asked to keep, which the method makes no use of"
    head = {**(targets[0] if len(targets) == 1 else {"concepts": targets}), keep: _shortened(card.request.keep)}
    losses = {name: f"{values[0]:.4g} first, {values[-1]:.4g} last" for name, values in card.losses.items() if values}
    return {**head, **fields, "tensors": _shortened(card.tensors), "losses": losses}


def still_there(card: PatchCard) -> list[str]:
    """What must be read before anything else, in a line: the edit's own look found a concept still there."""
    still = [one for one in card.look if one.still]
    if not still:
        return []
    names = ", ".join(one.concept for one in still)
    return [f"warning: {names} still there, as the edit itself sees it: {'; '.join(one.words for one in still)}"]


def not_looked(card: PatchCard, patch: Path | str) -> list[str]:
    """In a line, that an edit did not look at itself, so that nobody knows whether a concept is still there."""
    if card.look:
        return []
    return [f"warning: nothing looked whether {card.request.title} is still there: the card holds no look of the "
            f"edit's own; erase without --no-own-look looks, and so does `expunge evaluate {patch}`"]


def tell(what: str, path: Path) -> None:
    """One line: what was written, and where."""
    echo(f"{what}: {path}")


def some(names: Sequence[str], most: int = 3) -> str:
    """Names in a line: "church, bomb", of many "church, bomb, knife and 4 more"."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _shortened(items: tuple[str, ...]) -> list[str]:
    shown = list(items[:_LONG])
    return [*shown, f"... {len(items)} in all"] if len(items) > _LONG else shown
