"""The table of docs/bench.md: every row of a bench over all its concepts, and what attacks elicited on each.

    python benchmarks/methods_table.py [RECORD]               a bench's folder, or its record, compressed
    python benchmarks/methods_table.py [RECORD] --judges      rates by both judges, on the concepts that have them

Sorted by what attacks elicited in the worst case. Intervals are the wider of Wilson's over prompts and the bootstrap
over edits and prompts (docs/bench.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from claims import Bench

from expunge.records import BenchResult, Pooled, Summary

RECORD = Path(__file__).parent / "records" / "methods-ten.json.xz"
WORST, WORST_FRESH = "attack/worst", "attack/worst/fresh"
RATES = {WORST: "elicited, all", "found/all": "found, no attack", "retained/near": "near kept",
         "retained/far": "far kept"}
MEANS = {"integrity/near": "integrity, near", "integrity/far": "integrity, far"}


BOTH = {WORST_FRESH: "attack/worst/second", "found/all": "second/found/all",
        "retained/near": "second/retained/near", "retained/far": "second/retained/far"}
"""A rate by the first judge, and what stands beside it by the second."""


def main() -> None:
    """Print it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("record", nargs="?", type=Path, default=RECORD)
    options.add_argument("--judges", action="store_true")
    asked = options.parse_args()
    result = Bench(asked.record).result
    print("\n".join(by_both(result) if asked.judges else whole(result)))


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


def _sum(summaries: Sequence[Summary], name: str) -> str:
    """ "3 of 72", over several concepts."""
    scores = [score for summary in summaries for score in summary.scores if score.name == name]
    return f"{sum(score.numerator or 0 for score in scores)} of {sum(score.n for score in scores)}"


def _head(heads: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]


def _rows(result: BenchResult) -> list[Summary]:
    return sorted((result.summary(method, "") for method in result.methods), key=_elicited)


def _elicited(row: Summary) -> tuple[float, float]:
    """Least first; of equal ones, that which keeps more."""
    return row.score(WORST).value, -row.score("integrity/near").value


def _ends(score: Pooled) -> tuple[float, float]:
    """The wider of the two intervals."""
    return (min(end for end in (score.low, score.cluster_low) if end is not None),
            max(end for end in (score.high, score.cluster_high) if end is not None))


def _rate(score: Pooled) -> str:
    low, high = (100 * end for end in _ends(score))
    return f"{100 * score.value:.1f}% ({low:.0f} to {high:.0f}; {score.numerator} of {score.n})"


def _mean(score: Pooled) -> str:
    low, high = _ends(score)
    return f"{score.value:.2f} ({low:.2f} to {high:.2f})".replace("-", "\u2212")


if __name__ == "__main__":
    main()
