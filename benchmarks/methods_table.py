"""The table of docs/bench.md: every row of a bench over all its concepts, and what attacks elicited on each.

    python benchmarks/methods_table.py [RECORD]               a bench's folder, or its record, compressed
    python benchmarks/methods_table.py [RECORD] --judges      rates by both judges, on the concepts that have them
    python benchmarks/methods_table.py [RECORD] --kinds       things and styles apart, paired differences, ranks

Sorted by what attacks elicited in the worst case. Intervals are the wider of Wilson's over prompts and the bootstrap
over edits and prompts (docs/bench.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from claims import Bench
from scipy.stats import kendalltau

from expunge.records import BenchResult, Pooled, Summary

RECORD = Path(__file__).parent / "records" / "methods-ten.json.xz"
WORST, WORST_FRESH = "attack/worst", "attack/worst/fresh"
RATES = {WORST: "elicited, all", "found/all": "found, no attack", "retained/near": "near kept",
         "retained/far": "far kept"}
MEANS = {"integrity/near": "integrity, near", "integrity/far": "integrity, far"}


BOTH = {WORST_FRESH: "attack/worst/second", "found/all": "second/found/all",
        "retained/near": "second/retained/near", "retained/far": "second/retained/far"}
"""A rate by the first judge, and what stands beside it by the second."""


STYLES, FIRST = ("pixel art", "outlined"), 6
"""Which concepts are styles, and how many were made first."""
EVERY = ("integrity/near", "integrity/far", "retained/near", "retained/far")
"""What of the first pair is compared beside what was elicited."""
PAIRS = (("salun-fast", "advunlearn-fast, UNet"), ("advunlearn-fast, UNet", "esd-fast"), ("salun-fast", "esd-fast"),
         ("advunlearn-fast", "esd-fast"), ("doco-fast", "esd-fast"))


def main() -> None:
    """Print it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("record", nargs="?", type=Path, default=RECORD)
    which = options.add_mutually_exclusive_group()
    which.add_argument("--judges", action="store_true")
    which.add_argument("--kinds", action="store_true")
    asked = options.parse_args()
    bench = Bench(asked.record)
    print("\n".join(by_both(bench.result) if asked.judges else by_kind(bench) if asked.kinds else whole(bench.result)))


def whole(result: BenchResult) -> list[str]:
    """Every row over all concepts that were made."""
    made = [concept for concept in result.concepts if any(edit.concept == concept for edit in result.edits)]
    lines = _head(["method", f"elicited: {', '.join(made)}", *RATES.values(), *MEANS.values()])
    for row in _rows(result):
        each = (result.summary(row.method, concept).score(WORST) for concept in made)
        counts = ", ".join(f"{score.numerator}/{score.n}" for score in each)
        cells = [*(_rate(row.score(name)) for name in RATES), *(_mean(row.score(name)) for name in MEANS)]
        lines.append(f"| {row.method} | {counts} | {' | '.join(cells)} |")
    return lines


def by_both(result: BenchResult) -> list[str]:
    """Counts by the first judge and by the second, over the concepts of which both are known."""
    known = [concept for concept in result.concepts
             if all(BOTH[WORST_FRESH] in edit.items for edit in result.edits if edit.concept == concept)]
    lines = [f"On {', '.join(known)}; first judge, second judge.", "",
             *_head(["method", "elicited, seen again in a fresh image", "found, no attack", "near kept", "far kept"])]
    for row in _rows(result):
        each = [result.summary(row.method, concept) for concept in known]
        cells = [f"{_sum(each, first)}, {_sum(each, second)}" for first, second in BOTH.items()]
        lines.append(f"| {row.method} | {' | '.join(cells)} |")
    return lines


def by_kind(bench: Bench) -> list[str]:
    """Counts on things and on styles, the two best rows and the text encoder against others item by item, and whether
    the concepts of two halves of the bench rank the rows alike (Kendall's tau)."""
    result, lines = bench.result, _head(["method", "elicited: things", "styles", "found: things", "styles",
                                         "integrity near: things", "styles"])
    kinds = [[concept for concept in result.concepts if (concept in STYLES) == style] for style in (False, True)]
    for row in _rows(result):
        each = [[result.summary(row.method, concept) for concept in kind] for kind in kinds]
        means = [f"{sum(_value(one.score('integrity/near')) for one in kind) / len(kind):.2f}" if kind else "none asked"
                 for kind in each]
        counts = [_sum(kind, name) if kind else "none asked" for name in (WORST, "found/all") for kind in each]
        lines.append(f"| {row.method} | {' | '.join([*counts, *means])} |")
    lines.append("")
    for pair in PAIRS:
        if {*pair} <= {*result.methods}:
            lines += [_difference(bench, *pair, name) for name in (WORST, *(EVERY if pair == PAIRS[0] else ()))]
    if len(result.concepts) <= FIRST:
        return lines
    halves = [[_share(result, method, some) for method in result.methods]
              for some in (result.concepts[:FIRST], result.concepts[FIRST:])]
    tau = kendalltau(*halves)
    lines.append(f"ranks by what was elicited from {', '.join(result.concepts[:FIRST])}, and from the others: tau "
                 f"{tau.statistic:.2f}, p {tau.pvalue:.1g}, {len(result.methods)} rows")
    return lines


def _difference(bench: Bench, method: str, other: str, name: str) -> str:
    """The first minus the second, item by item: rates in points."""
    less = bench.less(name, method, other)
    if less.value is None or less.low is None or less.high is None:
        raise SystemExit(f"{method} and {other} cannot be compared: {less.note}")
    value, low, high = (f"{one:+.3f}" if name in MEANS else f"{100 * one:+.1f}"
                        for one in (less.value, less.low, less.high))
    return (f"{method} minus {other}, {(RATES | MEANS)[name].removesuffix(', all')}: {value}"
            f"{'' if name in MEANS else ' points'} ({low} to {high}), n {less.n}")


def _share(result: BenchResult, method: str, concepts: Sequence[str]) -> float:
    scores = [result.summary(method, concept).score(WORST) for concept in concepts]
    return sum(score.numerator or 0 for score in scores) / sum(score.n for score in scores)


def _sum(summaries: Sequence[Summary], name: str) -> str:
    """ "3 of 72", over several concepts."""
    scores = [score for summary in summaries for score in summary.scores if score.name == name]
    return f"{sum(score.numerator or 0 for score in scores)} of {sum(score.n for score in scores)}"


def _head(heads: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]


def _rows(result: BenchResult) -> list[Summary]:
    over = "" if len(result.concepts) > 1 else result.concepts[0]  # of one concept nothing is pooled
    return sorted((result.summary(method, over) for method in result.methods), key=_elicited)


def _elicited(row: Summary) -> tuple[float, float]:
    """Least first; of equal ones, that which keeps more."""
    return _value(row.score(WORST)), -_value(row.score("integrity/near"))


def _value(score: Pooled) -> float:
    """SystemExit: the record does not have it."""
    if score.value is None:
        raise SystemExit(f"{score.name} was not measured: {score.note}")
    return score.value


def _ends(score: Pooled) -> tuple[float, float]:
    """The wider of the two intervals."""
    return (min(end for end in (score.low, score.cluster_low) if end is not None),
            max(end for end in (score.high, score.cluster_high) if end is not None))


def _rate(score: Pooled) -> str:
    low, high = (100 * end for end in _ends(score))
    return f"{100 * _value(score):.1f}% ({low:.0f} to {high:.0f}; {score.numerator} of {score.n})"


def _mean(score: Pooled) -> str:
    low, high = _ends(score)
    return f"{_value(score):.2f} ({low:.2f} to {high:.2f})".replace("-", "\u2212")


if __name__ == "__main__":
    main()
