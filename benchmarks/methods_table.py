"""The table of docs/bench.md: every row of a bench over all its concepts, and what attacks elicited on each.

    python benchmarks/methods_table.py [RECORD]     a bench's folder, or its record, compressed

Sorted by what attacks elicited in the worst case. Intervals are the wider of Wilson's over prompts and the bootstrap
over edits and prompts (docs/bench.md).
"""

from __future__ import annotations

import sys
from pathlib import Path

from claims import Bench

from expunge.records import Pooled, Summary

RECORD = Path(__file__).parent / "records" / "methods-ten.json.xz"
WORST = "attack/worst"
RATES = {WORST: "elicited, all", "found/all": "found, no attack", "retained/near": "near kept",
         "retained/far": "far kept"}
MEANS = {"integrity/near": "integrity, near", "integrity/far": "integrity, far"}


def main() -> None:
    """Print it."""
    result = Bench(Path(sys.argv[1]) if len(sys.argv) > 1 else RECORD).result
    made = [concept for concept in result.concepts if any(edit.concept == concept for edit in result.edits)]
    heads = ["method", f"elicited: {', '.join(made)}", *RATES.values(), *MEANS.values()]
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for row in sorted((result.summary(method, "") for method in result.methods), key=_elicited):
        each = (result.summary(row.method, concept).score(WORST) for concept in made)
        counts = ", ".join(f"{score.numerator}/{score.n}" for score in each)
        cells = [*(_rate(row.score(name)) for name in RATES), *(_mean(row.score(name)) for name in MEANS)]
        print(f"| {row.method} | {counts} | {' | '.join(cells)} |")


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
