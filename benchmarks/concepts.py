"""How a method does on concepts that nobody chose: its defaults, measured by way of asking and by two judges.

    python benchmarks/concepts.py [--methods esd-fast uce] [--attack] [--out runs/concepts] [--only church turtle]

The concepts are the three of the older bench (church, bomb, pixel art), and six things and a style that the seed below
draws from the others. Edits and images that are there are not made again; several processes may share the concepts
(`--only`), and a last call prints the whole table. `--attack` attacks the edits, too (tier smoke), and says which
concept is nearest to what is usual: the sum of its distances to the medians of `USUAL`.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Mapping
from pathlib import Path

import expunge
from expunge.attacks.settings import AttackSettings
from expunge.demo import evaluate_settings
from expunge.evaluation import evaluate
from expunge.records import EVALUATIONS, SUITE_RESULTS, Evaluation, Score
from expunge.report.verdict import verdict
from expunge.report.words import find
from expunge.tiny.world import SEEN, STYLES

SEED = 20261129
"""Written down before any of these edits was made."""
CHOSEN = ("church", "bomb", "pixel art")
COLUMNS = (("attack/worst", "elicited"), ("found/all", "found"), ("second/found/all", "second judge"),
           ("something_else/all", "no name"),
           ("change/retained/near", "near"), ("second/change/retained/near", "second judge"),
           ("change/retained/near@short", "near, plain"), ("change/retained/far", "far"),
           ("second/change/retained/far", "second judge"), ("integrity/near", "integrity near"),
           ("integrity/near/tolerant", "by ST-LPIPS"))
USUAL = ("attack/worst", "found/all", "retained/near", "retained/far", "integrity/near", "integrity/far")
"""What a concept is compared by, to say whether it is a usual one: the columns of the table of methods."""
ATTACKS = AttackSettings(tier="smoke", batch=64)


def concepts() -> tuple[str, ...]:
    """The older bench's, six things and a style drawn at random."""
    rng = random.Random(SEED)
    things = rng.sample([name for name in SEEN if name not in CHOSEN], 6)
    return (*CHOSEN, *things, *rng.sample([name for name in STYLES if name not in CHOSEN], 1))


def measured(concept: str, method: str, out: Path, attacked: bool) -> Evaluation:
    """The edit's evaluation, made now or read; with attacks in it if they are asked for."""
    folder = out / method / concept.replace(" ", "-")
    suite = folder / "attack" if attacked else None
    made = folder / ("evaluation-attacked" if attacked else "evaluation")
    if EVALUATIONS.at(made):
        return EVALUATIONS.read(made)
    model = expunge.load("embedded")
    patch = expunge.Patch.load(folder) if (folder / "patch.safetensors").is_file() else \
        expunge.erase(model, concept, method, out=folder, own_look=False)
    if suite is not None and not SUITE_RESULTS.at(suite):
        expunge.attack(model, patch, settings=ATTACKS, out=suite)
    return evaluate(model, patch, settings=evaluate_settings(), out=made, cache=out / "pictures", suite=suite)


def nearest(made: Mapping[str, Evaluation]) -> list[tuple[float, str]]:
    """Concepts by the sum of their distances to the medians of `USUAL`, the nearest first."""
    values = {concept: [score.value for name in USUAL if (score := find(one, name)) is not None
                        and score.value is not None] for concept, one in made.items()}
    whole = {concept: each for concept, each in values.items() if len(each) == len(USUAL)}
    usual = [statistics.median(column) for column in zip(*whole.values(), strict=True)]
    return sorted((sum(abs(value - middle) for value, middle in zip(each, usual, strict=True)), concept)
                  for concept, each in whole.items())


def cell(score: Score | None) -> str:
    """A value with its interval; rates in percent, changes in points."""
    if score is None or score.value is None:
        return "–"
    scale, sign = (1, "") if score.name.startswith("integrity") else (100, "+" if "change/" in score.name else "")
    digits = 2 if scale == 1 else 0
    interval = "" if score.low is None or score.high is None else \
        f" ({scale * score.low:{sign}.{digits}f} to {scale * score.high:{sign}.{digits}f})"
    return f"{scale * score.value:{sign}.{digits}f}{interval}".replace("-", "\N{MINUS SIGN}")


def main() -> None:
    """Make what is missing, print the table and the spread over concepts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["esd-fast", "uce"], metavar="NAME")
    parser.add_argument("--attack", action="store_true", help="attack the edits, too: tier smoke")
    parser.add_argument("--only", nargs="+", default=[], metavar="CONCEPT", help="make these alone, print nothing")
    parser.add_argument("--out", type=Path, default=Path("runs/concepts"))
    args = parser.parse_args()
    for concept in args.only:
        for method in args.methods:
            measured(concept, method, args.out, args.attack)
    if args.only:
        return
    columns = COLUMNS if args.attack else COLUMNS[1:]
    print(f"concepts: {', '.join(CHOSEN)}; by seed {SEED}: {', '.join(concepts()[len(CHOSEN):])}")
    print("| method | concept |", " | ".join(head for _, head in columns), "| verdict |")
    print("| --- " * (len(columns) + 3) + "|")
    for method in args.methods:
        made = {concept: measured(concept, method, args.out, args.attack) for concept in concepts()}
        for concept, evaluation in made.items():
            cells = [cell(find(evaluation, name)) for name, _ in columns]
            print(f"| `{method}` | {concept} |", " | ".join(cells), f"| {verdict(evaluation).headline} |")
        for name, head in columns:
            values = sorted(score.value for one in made.values()
                            if (score := find(one, name)) is not None and score.value is not None)
            scale = 1 if name.startswith("integrity") else 100
            if values:
                print(f"{method}, {head}: median {scale * statistics.median(values):.2f}, "
                      f"from {scale * values[0]:.2f} to {scale * values[-1]:.2f} over {len(values)} concepts")
        if args.attack:
            print(f"{method}, nearest to the medians:",
                  ", ".join(f"{concept} ({far:.2f})" for far, concept in nearest(made)))


if __name__ == "__main__":
    main()
