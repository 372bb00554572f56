"""Strategies for sequences of requests, compared: what comes back, what else is lost, what each request takes.

    OMP_NUM_THREADS=1 python benchmarks/sequences.py &           one process per core; they share the sequences
    OMP_NUM_THREADS=1 python benchmarks/sequences.py
    python benchmarks/sequences.py --gather                      the table of what is there
    python benchmarks/sequences.py --quick                       three requests, few steps: does it run?
    python benchmarks/sequences.py --records benchmarks/records/sequences.json.xz    the table of what was published

Every strategy meets the eight requests of sequence.yaml in two orders with every seed; sequences go on where they were
stopped. Afterwards the first concept of each order is taught to the last model again (relearning curves). The table
goes to standard output as Markdown, the records lie in the folder of each sequence.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from expunge.attacks.relearning import relearn
from expunge.attacks.settings import RelearnSettings
from expunge.errors import UserError
from expunge.files import packed_text, write_json
from expunge.metrics.statistics import wilson
from expunge.models.patch import Patch
from expunge.models.store import load
from expunge.records import RELEARNINGS, SEQUENCES, Relearning, SequenceResult
from expunge.records.score import JUDGES
from expunge.records.sequence import surely_drawn
from expunge.runtime import machine
from expunge.sequence.gather import revival, rises, seen
from expunge.sequence.run import run_sequence
from expunge.sequence.settings import SequenceSettings, read_sequence
from expunge.sequence.strategy import PRESETS

HERE = Path(__file__).parent
STEPS = (0, 10, 20, 40, 80, 160)
"""Training steps at which a relearning curve looks."""
QUICK = {"settings": {"steps": 8}, "evaluation": {"seeds": 2, "fid_draws": 20, "draws": 100, "strips": 0, "counts": {
    "direct": 2, "held_out": 0, "paraphrase": 0, "implicit": 0, "near": 4, "far": 4, "empty": 0, "never_seen": 0}}}


def main() -> None:
    """Run what is not there yet, then print the table."""
    options = _options()
    if options.records:
        told = json.loads(packed_text(options.records))
        report({name: [(SequenceResult.model_validate(result), curve and Relearning.model_validate(curve))
                       for result, curve in runs] for name, runs in told["made"].items()}, told["machine"])
        return
    out = Path(options.out or ("runs/sequences-quick" if options.quick else "runs/sequences"))
    names = options.strategies or list(PRESETS)
    plan = [(name, order, seed) for seed in options.seeds for order in ("forward", "backward") for name in names]
    if not options.gather:
        for name, order, seed in plan:
            _make(_settings(options, name, order, seed, out), f"{name}, {order}, seed {seed}")
        if not options.no_relearning:
            for name, order, seed in plan:
                _relearn(_settings(options, name, order, seed, out), f"{name}, {order}, seed {seed}")
    made: dict[str, list[tuple[SequenceResult, Relearning | None]]] = {}
    for name, order, seed in plan:
        folder = out / name / order / str(seed)
        if SEQUENCES.at(folder):
            result = SEQUENCES.read(folder)
            _same(result, _settings(options, name, order, seed, out))
            curve = RELEARNINGS.read(folder / "relearn") if RELEARNINGS.at(folder / "relearn") else None
            made.setdefault(name, []).append((result, curve))
    told = {name: [[part and part.model_dump(mode="json") for part in run] for run in runs]
            for name, runs in made.items()}
    write_json(out / "sequences.json", {"machine": machine(torch.device("cpu")), "made": told})
    report(made, machine(torch.device("cpu")))


def report(made: dict[str, list[tuple[SequenceResult, Relearning | None]]], where: str) -> None:
    """Print the table and what goes with it."""
    print(table(made))
    print("\nShares: Wilson's interval, images taken as independent (sequences share prompts and seeds). Revival: "
          "over concepts. Times: of the processor; a request that was interrupted, by the clock.")
    counts = ", ".join(f"{name} {len(runs)}" for name, runs in made.items())
    print(f"\n{where}; sequences: {counts}")


def table(made: dict[str, list[tuple[SequenceResult, Relearning | None]]]) -> str:
    """A row per strategy, pooled over its sequences."""
    heads = ("strategy", "found right after its own request", "found at the end", "second judge", "revival, points",
             "second judge", "near kept", "second judge", "far kept", "second judge", "integrity near",
             "integrity far", "drift", "processor time of a request: first, last", "time over a naive request",
             "steps to relearn half")
    naive = statistics.fmean(_times(made["naive"])) if "naive" in made else None
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join(['---'] * len(heads))} |"]
    for name, runs in made.items():
        results, times = [result for result, _ in runs], _times(runs)
        first, last = (statistics.fmean(_time(result, place) for result in results) for place in (0, -1))
        cells = [name, _rate(results, "gone/own"), *(_rate(results, f"{judge}gone/end") for judge in JUDGES),
                 *(_revival(results, judge) for judge in JUDGES),
                 *(_last_rate(results, f"{judge}retained/{stratum}") for stratum in ("near", "far")
                   for judge in JUDGES),
                 *(_last_mean(results, f"integrity/{stratum}") for stratum in ("near", "far")),
                 f"{100 * statistics.fmean(result.states[-1].drift for result in results):.1f}%",
                 f"{first:.0f} s, {last:.0f} s", f"{statistics.fmean(times) / naive:.2f}" if naive else "unknown",
                 ", ".join(_relearned(curve) for _, curve in runs)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _settings(options: argparse.Namespace, name: str, order: str, seed: int, out: Path) -> SequenceSettings:
    changes = {"strategy": name, "seed": seed, "out": str(out / name / order / str(seed))}
    settings = read_sequence(HERE / "sequence.yaml", changes, QUICK if options.quick else {})
    requests = settings.requests[:3] if options.quick else settings.requests
    return settings.model_copy(update={"requests": requests if order == "forward" else requests[::-1]})


def _make(settings: SequenceSettings, words: str) -> None:
    with _left_to_another(words):  # what is there already is found again, if it was made under the same settings
        run_sequence(settings, progress=lambda done, total, note: print(f"{words}: {note}", end="\r", file=sys.stderr))


@contextmanager
def _left_to_another(words: str) -> Iterator[None]:
    """What another process is at is left to it, and told."""
    try:
        yield
    except UserError as error:
        if "another process" not in str(error) and "another run" not in str(error):
            raise
        print(f"{words}: {error.got}", file=sys.stderr)


def _same(result: SequenceResult, settings: SequenceSettings) -> None:
    """SystemExit where a record is of other settings than are asked for now."""
    asked = settings.model_dump(mode="json")
    odd = [name for name, value in asked.items() if name not in ("out", "cache") and result.settings.get(name) != value]
    if odd:
        raise SystemExit(f"{settings.out} was made with another {odd[0]}: choose another --out")


def _relearn(settings: SequenceSettings, words: str) -> None:
    """Teach the first concept to the last model."""
    folder = Path(settings.out)
    if not SEQUENCES.at(folder) or RELEARNINGS.at(folder / "relearn"):
        return
    result = SEQUENCES.read(folder)
    model, patch = load(settings.model, device=settings.device), Patch.load(folder / result.states[-1].folder)
    with _left_to_another(words):
        relearn(model, patch, concept=settings.requests[0].concept[0], out=folder / "relearn",
                settings=RelearnSettings(at=STEPS, count=8, seeds=1),
                progress=lambda done, total, note: print(f"{words}: {note} {done}/{total}", end="\r", file=sys.stderr))


def _times(runs: Sequence[tuple[SequenceResult, Relearning | None]]) -> list[float]:
    return [_time(result, place) for result, _ in runs for place in range(len(result.states))]


def _time(result: SequenceResult, place: int) -> float:
    state = result.states[place]
    return state.seconds if state.processor is None else state.processor


def _rate(results: Sequence[SequenceResult], name: str) -> str:
    scores = [score for result in results for score in result.scores if score.name == name]
    return _share(sum(score.numerator or 0 for score in scores), sum(score.n for score in scores))


def _last_rate(results: Sequence[SequenceResult], name: str) -> str:
    scores = [score for result in results for score in result.states[-1].scores if score.name == name]
    return _share(sum(score.numerator or 0 for score in scores), sum(score.n for score in scores))


def _share(hits: int, n: int) -> str:
    if not n:
        return "not measured"
    low, high = wilson(hits, n)
    return f"{hits} of {n} ({100 * (low or 0):.0f}% to {100 * (high or 0):.0f}%)"


def _last_mean(results: Sequence[SequenceResult], name: str) -> str:
    scores = [result.states[-1].score(name) for result in results]
    inner = "; ".join(f"{score.low:.2f} to {score.high:.2f}" for score in scores
                      if score.low is not None and score.high is not None)
    values = [score.value for score in scores if score.value is not None]
    return f"{statistics.fmean(values):.2f} ({inner})" if values else "not measured"


def _revival(results: Sequence[SequenceResult], judge: str) -> str:
    """Over all sequences together, with an interval over concepts."""
    by_concept = dict[str, list[float]]()
    for result in results:
        states = [seen(state, judge) for state in result.states]
        own = {name: state for state in states
               for name in result.settings["requests"][state.number - 1]["concept"]}
        sure = {score.name for score in result.before if surely_drawn(score)}
        for name, values in rises(own, states[-1]).items():
            if f"{judge}original/found/{name}" not in sure:
                continue
            by_concept.setdefault(name, []).extend(values)
    made = revival(by_concept)
    ends = made.note if made.low is None or made.high is None else f"{100 * made.low:+.1f} to {100 * made.high:+.1f}"
    return f"{100 * made.value:+.1f} ({ends})" if made.value is not None else "not measured"


def _relearned(curve: Relearning | None) -> str:
    """"church 40 (5 of 8)": the first look at which half of the images show it again, and what it saw."""
    if curve is None:
        return "not measured"
    mine = next(one for one in curve.curves if one.of == "edited")
    looks = [look for look in mine.looks if look.found.value is not None]
    if not looks:
        return f"{mine.subject}: not measured"
    enough = next((look for look in looks if (look.found.value or 0.0) >= curve.enough), None)
    last = enough or looks[-1]
    return (f"{mine.subject} {'' if enough else 'more than '}{last.steps} "
            f"({last.found.numerator} of {last.found.n})")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", help="folder of all sequences [default: runs/sequences, or runs/sequences-quick]")
    parser.add_argument("--strategies", nargs="*", choices=list(PRESETS), help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--records", type=Path, help="print what an earlier run made: sequences.json, or that with .xz")
    parser.add_argument("--gather", action="store_true", help="run nothing; print the table of what is there")
    parser.add_argument("--no-relearning", action="store_true", help="leave the relearning curves out")
    parser.add_argument("--quick", action="store_true", help="three requests and few steps")
    return parser.parse_args()


if __name__ == "__main__":
    main()
