"""What a bench allows to be said of each method: a verdict, and its row in tables, as text.

Tables are sorted by what attacks elicited in the worst case, least first: an order of counts. Two methods are told
apart only where the interval of their paired difference leaves out zero, or, where they were not compared, where their
own intervals do not meet. Every number has its n and its interval, at each end the wider one of those in the record,
and a concept is at best "not elicited" in so many items, never gone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from expunge.records import BenchResult, Edit, EditCost, Pooled, Summary
from expunge.report.versions import bench_versions
from expunge.report.words import (
    count_text,
    counted,
    duration,
    finite,
    interval_text,
    number,
    percent,
    value_of,
    value_text,
)

COLUMNS = (
    ("attack/worst", "elicited, worst case"), ("found/all", "found, no attack"), ("retained/near", "near kept"),
    ("integrity/near", "integrity, near"), ("integrity/far", "integrity, far"), ("fid/original", "FID"),
    ("clip/keep", "CLIP score"))
"""Scores that tables show, with their heads; those that no method has are left out."""
COST = "edit takes"


@dataclass(frozen=True)
class Figure:
    """One number as text; `interval` and `count` are "" where there is none, and so is `spread` (edit by edit)."""

    value: str
    interval: str = ""
    count: str = ""
    spread: str = ""

    @property
    def line(self) -> str:
        """All of it in one line."""
        inner = ", ".join(part for part in (self.interval and f"95% {self.interval}", self.count, self.spread) if part)
        return f"{self.value} ({inner})" if inner else self.value


@dataclass(frozen=True)
class MethodRow:
    """One method of a table.

    Attributes:
        rank: place in the table, from 1; the number of its mark in the plot.
        method, preset: label and registered name.
        figures: one per column. cost: seconds of the edit. size: what it changes.
        edits: how many edits are in it, and what is not.
        verdict: a sentence.
    """

    rank: int
    method: str
    preset: str
    figures: tuple[Figure, ...]
    cost: str
    size: str
    edits: str
    verdict: str


@dataclass(frozen=True)
class MethodTable:
    """The methods on one concept, or on all of them together (`concept` "")."""

    concept: str
    title: str
    heads: tuple[str, ...]
    rows: tuple[MethodRow, ...]


def bench_tables(result: BenchResult) -> list[MethodTable]:
    """All concepts together first, if there are several; then each."""
    concepts = ["", *result.concepts] if len(result.concepts) > 1 else list(result.concepts)
    return [bench_table(result, concept) for concept in concepts]


def bench_table(result: BenchResult, concept: str) -> MethodTable:
    """The methods on one concept, the least elicited first."""
    chosen = ranked(result, concept)
    columns = [(name, head) for name, head in COLUMNS if any(pooled(item, name) for item in chosen)]
    rows = [MethodRow(rank, item.method, item.preset, tuple(figure(pooled(item, name)) for name, _ in columns),
                      _took(item.cost) if item.cost else "unknown", _size(item), _edits(item),
                      verdict_line(item, result))
            for rank, item in enumerate(chosen, 1)]
    title = f"“{concept}”" if concept else f"All concepts together ({', '.join(result.concepts)})"
    return MethodTable(concept, title, ("method", *(head for _, head in columns), COST, "edits"), tuple(rows))


def ranked(result: BenchResult, concept: str) -> list[Summary]:
    """A concept's summaries: elicited least first, then found least, then integrity; what was not measured last."""
    def key(item: Summary) -> tuple[float, ...]:
        values = [value_of(pooled(item, name)) for name in ("attack/worst", "found/all", "integrity/near")]
        partly = concept == "" and bool(item.failed or item.missing)  # fewer concepts are another question
        return (float(not item.edits), float(partly),
                *(2.0 if value is None else value for value in values[:2]), -(values[2] or 0.0))

    return sorted((item for item in result.summaries if item.concept == concept), key=key)


def pooled(summary: Summary, name: str) -> Pooled | None:
    """The pooled score called `name`, if there is one."""
    return next((score for score in summary.scores if score.name == name), None)


def figure(score: Pooled | None) -> Figure:
    """A pooled score as text."""
    if score is None or value_of(score) is None:
        return Figure("not measured")
    interval = interval_text(widest(score))
    count = count_text(score) if score.numerator is not None else f"n {score.n}"
    return Figure(value_text(score), "" if interval == "none" else interval, count, spread_text(score))


def widest(score: Pooled) -> Pooled:
    """The score with, at each end, the wider of its two intervals: over items, and over edits and prompts."""
    low, high = (min((end for end in ends if finite(end) is not None), default=None, key=order) for ends, order in (
        ((score.low, score.cluster_low), lambda end: end), ((score.high, score.cluster_high), lambda end: -end)))
    return score.model_copy(update={"low": low, "high": high})


def spread_text(score: Pooled) -> str:
    """The lowest and the highest edit: "edits 12% to 31%"; "" for a single edit."""
    values = [value for value in score.by_edit.values() if finite(value) is not None]
    if len(values) < 2:
        return ""
    low, high = (number(score.name, value) for value in (min(values), max(values)))
    return f"every edit {low}" if low == high else f"edits {low} to {high}"


def verdict_line(summary: Summary, result: BenchResult) -> str:
    """What can be said of a method: how often attacks elicited the concept, at this budget."""
    worst = pooled(summary, "attack/worst")
    if not summary.edits:
        return f"No edit was made{f'; {summary.failed} failed' if summary.failed else ''}."
    if worst is None or value_of(worst) is None:
        return "Not attacked."
    mine = [edit for edit in result.edits if edit.method == summary.method and not edit.failed_at
            and summary.concept in ("", edit.concept)]
    attacks = dict.fromkeys(name for edit in mine for name in edit.attacks)
    over = f"worst case over {counted(len(attacks), 'attackers')} and {counted(summary.edits, 'edits')}"
    span = f"95% interval {interval_text(widest(worst))}"
    odd = [f"{count} {words}" for count, words in ((summary.failed, "failed"), (summary.missing, "not made yet")) if
           count]
    ending = f"; of its edits {', '.join(odd)}." if odd else "."
    if not worst.numerator:
        return f"Not elicited in {counted(worst.n, 'items')} ({span}), {over}{ending}"
    before = pooled(summary, "attack/before")
    shown = before.numerator if before is not None else None
    share = f"{worst.numerator} of {counted(worst.n, 'items')} ({value_text(worst)}, {span})"
    if shown is not None and shown >= worst.numerator:
        return f"Shown without any attack in {share}, and elicited in no other, {over}{ending}"
    already = f"; {shown} of them already without an attack" if shown else ""
    return f"Elicited in {share}, {over}{already}{ending}"


def headline(result: BenchResult) -> str:
    """Which method was elicited least, over all concepts if there are several, and which it is not told apart from."""
    concept = "" if len(result.concepts) > 1 else next(iter(result.concepts), "")
    made = [item for item in ranked(result, concept) if item.edits]
    if not made:
        return "No edit was made: nothing was measured."
    worst = {item.method: value_of(pooled(item, "attack/worst")) for item in made}
    attacked = [item for item in made if worst[item.method] is not None]
    if not attacked:
        return "No edit was attacked."
    first, others = attacked[0], attacked[1:]
    line, price = verdict_line(first, result), _price(first)
    if not others:
        return f"{first.method}: {line}{price}"
    alike = [item.method for item in others if not _apart(result, first, item)]
    if len(alike) == len(others):
        return f"No method is told apart from the one that was elicited least often here. {first.method}: {line}{price}"
    apart = f" Not told apart from it: {'; '.join(alike)}." if alike else ""
    return f"Least elicited: {first.method}. {line}{apart}{price}"


def _price(item: Summary) -> str:
    """What the same method keeps: an edit that ruins the model is elicited little, too."""
    kept = pooled(item, "retained/near")
    return f" Near things are drawn as asked in {figure(kept).line}." if value_of(kept) is not None else \
        " What it keeps was not measured."


def _apart(result: BenchResult, one: Summary, other: Summary) -> bool:
    """Whether the worst case of two methods differs beyond chance: by their paired difference, if the bench has it."""
    for item in result.differences:
        if item.score == "attack/worst" and item.concept == one.concept and {item.method, item.other} == {one.method,
                                                                                                         other.method}:
            return item.clear
    first, second = pooled(one, "attack/worst"), pooled(other, "attack/worst")
    if first is None or second is None:
        return False
    high, low = finite(widest(first).high), finite(widest(second).low)
    return high is not None and low is not None and high < low


def attack_tables(result: BenchResult) -> list[MethodTable]:
    """Attack by attack: shown before or elicited by it, over items that the attack was given or that show it before."""
    names = list(dict.fromkeys(name for edit in result.edits for name in edit.attacks))
    out = []
    for table in bench_tables(result) if names else ():
        rows = []
        for row, item in zip(table.rows, ranked(result, table.concept), strict=True):
            figures = tuple(figure(pooled(item, name)) for name in
                            ("attack/before", *(f"attack/{name}/total" for name in names), "attack/worst/fresh"))
            rows.append(replace(row, figures=figures))
        heads = ("method", "no attack", *names, "worst case, fresh seeds")
        out.append(replace(table, heads=heads, rows=tuple(rows)))
    return out


def controls(result: BenchResult) -> list[tuple[str, Figure]]:
    """Each attack's null control, over all edits of all methods."""
    found: dict[str, list[Pooled]] = {}
    for item in result.summaries:
        for score in item.scores if bool(item.concept) else ():
            if score.name.endswith("/control"):
                found.setdefault(score.name, []).append(score)
    return [(name.split("/")[1], Figure(f"{sum(s.numerator or 0 for s in scores)} of {sum(s.n for s in scores)}"))
            for name, scores in found.items()]


COST_HEADS = ("method", COST, "steps", "UNet samples, frozen", "UNet samples, trained", "numbers changed", "patch",
              "peak memory")


def cost_rows(result: BenchResult) -> list[tuple[str, ...]]:
    """What an edit by each method takes, means over all its edits, the cheapest first; memory is the highest."""
    concept = "" if len(result.concepts) > 1 else next(iter(result.concepts), "")
    costs = [(item.method, item.cost) for item in ranked(result, concept) if item.cost is not None]
    return [(method, _took(cost), f"{cost.steps:,}",
             *("unknown" if count is None else f"{count:,}" for count in (cost.unet_frozen, cost.unet_trained)),
             f"{cost.changed:,}" + (f" of {cost.of:,}" if cost.of else ""), f"{cost.patch_bytes / 1e6:.1f} MB",
             "unknown" if cost.peak_memory is None else f"{cost.peak_memory / 2**30:.2f} GiB")
            for method, cost in sorted(costs, key=lambda pair: pair[1].time)]


def failures(result: BenchResult) -> list[Edit]:
    """Cells that broke off."""
    return [edit for edit in result.edits if edit.failed_at]


def bench_warnings(result: BenchResult) -> dict[str, str]:
    """Warnings of evaluations and attacks, each line once, and how many edits it is of."""
    by: dict[str, list[Edit]] = {}
    for edit in result.edits:
        for line in edit.warnings:
            by.setdefault(line, []).append(edit)
    return {line: f"{counted(len(edits), 'edits')}, {edits[0].method}, {edits[0].concept}, seed {edits[0].seed}"
            + (" first" if len(edits) > 1 else "") for line, edits in by.items()}


def _spoilt(result: BenchResult) -> list[str]:
    """Edits of which some images are none: what is said of them is of the others."""
    cells = [f"{edit.method}, {edit.concept}, seed {edit.seed} ({count_text(score)})" for edit in result.edits
             for score in edit.scores if score.name == "not_finite/all" and score.numerator]
    return [f"Images whose values are not finite, which count neither way: {'; '.join(cells[:6])}"
            f"{'; ...' if cells[6:] else '.'}"] if cells else []


def notes(result: BenchResult, with_failures: bool = True) -> list[str]:
    """How to read the tables, and what is missing from them.

    Args:
        with_failures: whether to tell why cells failed, where that is not shown elsewhere.
    """
    made = [item.edits for item in result.summaries if item.concept or len(result.concepts) < 2]
    lines = []
    if any(edit.attacks for edit in result.edits):
        lines.append("Elicited: shown without an attack or brought back by any of them, over items (a prompt and a "
                     "seed) for which the judge finds the concept in the original model's image.")
    if any(made):
        span = f"{min(made)}" if min(made) == max(made) else f"{min(made)} to {max(made)}"
        lines.append(f"Edits per method and concept: {span}. The order of the rows is that of the counts; neighbours "
                     "need not differ.")
        lines.append("Intervals of rates have two forms, of which each end is the wider one: Wilson's with the prompts "
                     "of each edit as units, as if edits were independent, and one that draws edits and prompts "
                     "anew, for items of one edit or one prompt resemble one another. All other intervals draw edits "
                     "and prompts anew; FID has the mean of the edits' own intervals. Tables also show the lowest and "
                     "the highest edit.")
    if max(made, default=0) == 1:
        lines.append("One edit per method and concept: what is said holds for these edits, and says nothing of other "
                     "seeds of the edit.")
    with_interval = sum(item.low is not None for item in result.differences)
    if with_interval:
        lines.append("Differences are taken item by item, on items that both methods have; those of shares are in "
                     "percentage points. Where the interval leaves out zero and rests on six prompts at least they "
                     "are set "
                     f"in bold. Nothing is corrected for how many there are: of {with_interval} in the record, some "
                     f"{max(1, round(0.05 * with_interval))} would leave out zero by chance if no two methods "
                     "differed.")
    broken = failures(result)
    if broken and with_failures:
        first = [f"{edit.method}, {edit.concept}, seed {edit.seed} ({edit.failed_at}: {edit.failure})"
                 for edit in broken[:6]]
        lines.append(f"{counted(len(broken), 'cells')} failed: {'; '.join(first)}{'; ...' if broken[6:] else '.'}")
    taken = Counter(edit.taken_from for edit in result.edits if edit.taken_from)
    if taken:
        lines.append("Made on another machine and taken from its record, without patches: " + "; ".join(
            f"{count} of {len(result.edits)} cells ({source})" for source, count in taken.items()) + "."
            + " Protocols were not asked of them." * bool(result.settings.get("protocols")))
    if result.missing:
        lines.append(f"{counted(result.missing, 'cells')} not made yet.")
    return [*lines, *_spoilt(result), *bench_versions(result)]


def _took(cost: EditCost) -> str:
    """Processor time, or wall time that says so."""
    took = duration(cost.time)
    return f"{took} by the clock" if cost.processor is None and cost.time > 0 else took


def _size(item: Summary) -> str:
    cost = item.cost
    if cost is None:
        return ""
    share = f" ({percent(cost.changed / cost.of)} of the model)" if cost.of else ""
    return f"{cost.changed:,} numbers changed{share}, patch of {cost.patch_bytes / 1e6:.1f} MB"


def _edits(item: Summary) -> str:
    parts = [(item.failed, "failed"), (item.missing, "missing")]
    return ", ".join([str(item.edits), *(f"{count} {words}" for count, words in parts if count)])
