"""The kill tests of counterfactual self-distillation: the table of one, and whether its branch goes on.

    OMP_NUM_THREADS=1 expunge bench benchmarks/kill/k1.yaml
    python benchmarks/kill.py k1 [RECORD]        a bench's folder, or its record, compressed

Each file of benchmarks/kill/ says at which line its branch is dropped; what the numbers say is printed under the table.
Intervals are the wider of Wilson's over prompts and the bootstrap over edits and prompts (docs/bench.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from claims import Bench

from expunge.records import BenchResult, Pooled
from expunge.tiny.world import STYLES

HERE = Path(__file__).parent
NEAR, FAR, FOUND = "integrity/near", "integrity/far", "found/all"
IMAGES = ("noising", "inpainting", "ddim-inversion")
"""Attacks that start from an image."""


def main() -> None:
    """Print it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("test", choices=VERDICTS)
    options.add_argument("record", nargs="?", type=Path)
    asked = options.parse_args()
    result = Bench(asked.record or Path("runs/kill") / asked.test).result
    print("\n".join(table(result)))
    for line in VERDICTS[asked.test](result):
        print(f"\n{line}")


def table(result: BenchResult) -> list[str]:
    """A row per setting and concept."""
    attacks = list(dict.fromkeys(name for edit in result.edits for name in edit.attacks))
    heads = ("setting", "concept", *attacks, "worst", "found, no attack", "near kept", "integrity near",
             "integrity far", "edit, s of the processor")
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for concept in result.concepts:
        for method in result.methods:
            row = result.summary(method, concept)
            if not row.edits:
                continue
            shares = [*(f"attack/{name}" for name in attacks), "attack/worst", FOUND, "retained/near"]
            seconds = f"{row.cost.time:.0f}" if row.cost else "unknown"
            cells = [*(_share(row.score(name)) for name in shares), _mean(row.score(NEAR)), _mean(row.score(FAR))]
            lines.append(f"| {' | '.join([method, concept, *cells, seconds])} |")
    return lines


def first(result: BenchResult) -> list[str]:
    """K1: on the style, some setting under 2 of 7 by soft prompts at integrity near of 0.90."""
    out = []
    for style in (concept for concept in result.concepts if concept in STYLES):
        soft = {method: _of(result, method, style, "attack/soft-prompt") for method in _made(result, style)}
        good = [method for method, share in soft.items()
                if share <= 2 / 7 and _of(result, method, style, NEAR) >= 0.9]
        out.append(f"{style}: goes on with {'; '.join(good)}" if good else
                   f"{style}: the half-space is dropped for styles: no setting has at most 2 of 7 by soft prompts at "
                   f"integrity near of 0.90 (the least: {100 * min(soft.values()):.0f}%)")
    return out


def second(result: BenchResult) -> list[str]:
    """K2: what a start adds, under each loss."""
    out = []
    for loss in ("half-space", "regression"):
        pair = (f"start, {loss}", f"no start, {loss}")
        far = {concept: _of(result, pair[0], concept, FAR) - _of(result, pair[1], concept, FAR)
               for concept in result.concepts}
        found = {concept: 100 * (_of(result, pair[1], concept, FOUND) - _of(result, pair[0], concept, FOUND))
                 for concept in result.concepts if concept in STYLES}
        gone = sum(far.values()) / len(far) < 0.05 and all(value < 20 for value in found.values())
        told = ", ".join(f"{concept} {value:+.2f}" for concept, value in far.items())
        less = ", ".join(f"{concept} {value:.0f} points less found" for concept, value in found.items())
        out.append(f"{loss}: a start adds to integrity far {told}; {less}: {'dropped' if gone else 'stays'}")
    return out


def third(result: BenchResult) -> list[str]:
    """K3: the bank against gradient steps at equal cost."""
    bank, others = result.methods[0], result.methods[1:]
    soft = {method: _sum(result, method, "attack/soft-prompt") for method in result.methods}
    return [f"{other}: soft prompts elicit {100 * (soft[bank] - soft[other]):+.0f} points more after the bank"
            + (": the bank is dropped" if soft[bank] - soft[other] > 0.1 else "") for other in others]


def fourth(result: BenchResult) -> list[str]:
    """K4: what each part of the keep adds to integrity near."""
    whole = result.methods[0]
    near = {method: sum(_of(result, method, concept, NEAR) for concept in result.concepts) / len(result.concepts)
            for method in result.methods}
    lines = {"neither": 0.03, "constant rate": 0.02}
    return [f"{other}: {near[whole] - near[other]:+.3f} integrity near by having it" + (
        f": {'dropped' if near[whole] - near[other] < line else 'stays'} (line: {line})"
        if (line := lines.get(other)) else "") for other in result.methods[1:]]


def fifth(result: BenchResult) -> list[str]:
    """K5: what attacks from images elicit, less what they elicit from random weights."""
    plain = "empty 0"
    out = []
    for method in result.methods:
        for concept in result.concepts:
            mine, bare = (sum(_of(result, one, concept, f"attack/{name}") - _of(result, one, concept,
                              f"attack/{name}/control") for name in IMAGES) / len(IMAGES) for one in (method, plain))
            empty = _of(result, method, concept, "integrity/empty")
            far = _of(result, method, concept, FAR) - _of(result, plain, concept, FAR)
            out.append(f"{method}, {concept}: elicited {100 * mine:.0f}% over the control ({100 * (bare - mine):+.0f} "
                       f"points less than with empty 0), integrity of the empty prompt {empty:.2f}, far {far:+.2f}")
    return out


VERDICTS: dict[str, Callable[[BenchResult], list[str]]] = {
    "k1": first, "k2": second, "k3": third, "k4": fourth, "k5": fifth}


def _made(result: BenchResult, concept: str) -> list[str]:
    return [method for method in result.methods if result.summary(method, concept).edits]


def _of(result: BenchResult, method: str, concept: str, name: str) -> float:
    value = result.summary(method, concept).score(name).value
    if value is None:
        raise SystemExit(f"{name} of {method} on {concept} was not measured")
    return value


def _sum(result: BenchResult, method: str, name: str) -> float:
    scores = [result.summary(method, concept).score(name) for concept in result.concepts]
    return sum(score.numerator or 0 for score in scores) / sum(score.n for score in scores)


def _share(score: Pooled) -> str:
    return f"{score.numerator} of {score.n}" if score.n else "–"


def _mean(score: Pooled) -> str:
    if score.value is None:
        return "–"
    ends = f" ({score.low:.2f} to {score.high:.2f})" if score.low is not None and score.high is not None else ""
    return f"{score.value:.2f}{ends}"


if __name__ == "__main__":
    main()
