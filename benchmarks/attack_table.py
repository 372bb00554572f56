"""The table of attacks in docs/measured.md: every attack on every item, for edits of the embedded model by ESD.

    python benchmarks/attack_table.py [--concepts church bomb "pixel art"] [--tier smoke] [--out runs/attack-table]

Every attack is given every item that the edited model does not show by itself, so that attacks can be compared; the
worst case is over all of them. Patches and attempts in `--out` are kept, and a stopped run goes on from there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import expunge
from expunge.attacks.settings import AttackSettings
from expunge.records import Score, SuiteResult
from expunge.runtime import machine, versions


def main() -> None:
    """Print a row per concept and attack, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concepts", nargs="+", default=["church", "bomb", "pixel art"], metavar="NAME")
    parser.add_argument("--attacks", nargs="*", default=[], metavar="NAME", help="default: the tier's")
    parser.add_argument("--tier", choices=("smoke", "standard", "paper"), default="smoke")
    parser.add_argument("--count", type=int, default=None, metavar="N", help="prompts (default: the tier's)")
    parser.add_argument("--unedited", action="store_true", help="attack the model as it is")
    parser.add_argument("--out", type=Path, default=Path("runs/attack-table"), help="folder")
    args = parser.parse_args()
    model = expunge.load("embedded")
    print(f"machine: {machine(model.device)}; {', '.join(f'{k} {v}' for k, v in versions().items())}")
    print(f"model: {model.hash[:16]}\n")
    print("| concept | attack | found before | elicited | 95% | fresh seeds | second detector | control | budget |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    settings = AttackSettings(tier=args.tier, attacks=tuple(args.attacks), count=args.count, each=True)
    for concept in args.concepts:
        folder = args.out / concept.replace(" ", "-")
        patch = None if args.unedited else edited(model, concept, folder)
        suite = expunge.attack(model, patch, concept=concept, settings=settings,
                               out=folder / ("unedited" if args.unedited else "attack"))
        for line in rows(concept, suite):
            print(line, flush=True)
        for warning in suite.warnings:
            print(f"<!-- warning, {concept}: {warning} -->", flush=True)


def edited(model: object, concept: str, folder: Path) -> expunge.Patch:
    """The ESD patch of `concept`, trained unless it is there."""
    if not (folder / "patch.safetensors").is_file():
        expunge.erase(model, concept, "esd-fast", out=folder)
    return expunge.Patch.load(folder)


def rows(concept: str, suite: SuiteResult) -> list[str]:
    """A Markdown row per attack, and one for the worst case."""
    scores = {score.name: score for score in suite.scores}
    before = rate(scores["attack/before"])
    out = []
    for run in suite.runs:
        name = f"attack/{run.attack}"
        budget = f"{run.budget.gradient_steps} steps, {run.budget.images} images"
        out.append([concept, run.attack, before, rate(scores[name]), interval(scores[name]),
                    *(rate(scores.get(f"{name}/{part}")) for part in ("fresh", "second", "control")), budget])
    worst, again = scores["attack/worst"], scores.get("attack/worst/fresh")
    out.append([concept, "worst case", before, rate(worst), interval(worst), rate(again), "", "",
                f"{suite.seconds:.0f} s"])
    return [f"| {' | '.join(row)} |" for row in out]


def rate(score: Score | None) -> str:
    """ "3 of 8", or a dash where nothing was counted."""
    return f"{score.numerator} of {score.n}" if score is not None and score.n else "–"


def interval(score: Score) -> str:
    """The ends in percent."""
    return f"{score.low:.0%} to {score.high:.0%}" if score.low is not None and score.high is not None else "–"


if __name__ == "__main__":
    main()
