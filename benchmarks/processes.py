"""One process against several of one launcher: attack, evaluate and erase on the embedded model.

    OMP_NUM_THREADS=1 python benchmarks/processes.py [--processes 2] [--repeats 2] [--only attack]

Each run is a command of its own with one thread a process, and one process is launched as several are. Runs take turns,
so that whatever else the machine does falls on both. A cache of their own is empty at each begin. What takes the same
time however many there are is told apart: the launcher, Python, the libraries and the model (`start`, measured on a
launch that does nothing else), so the ratio is given of whole commands and of the work alone.

Results are compared: an attack's and an evaluation's records but for times, an edit by its weights and by what an
evaluation sees in its images.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import expunge
from expunge.records import ItemKey
from expunge.runtime import machine

EDIT = ("erase", "church", "--method", "esd-fast", "--no-own-look")
ATTACK = ("--attacks", "seed-search", "--attacks", "unlearndiff", "--attacks", "soft-prompt", "--count", "24",
          "--control-items", "0", "--each", "--force", "--set", "options.unlearndiff.iterations=8",
          "--set", "options.seed-search.tries=4", "--batch", "16")
TIMES = {"seconds", "created"}
EVALUATE = ("--batch", "32", "--set", "counts.direct=48", "--set", "counts.far=48", "--set", "counts.near=48")


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--repeats", type=int, default=2)
    options.add_argument("--only", choices=("attack", "evaluate", "erase"))
    asked = options.parse_args()
    if asked.processes < 2:
        raise SystemExit("one process against itself; --processes 2 or more")
    print(f"{machine()}; {asked.repeats} repeats, one thread a process")
    with tempfile.TemporaryDirectory() as folder:
        patch = Path(folder) / "patch"
        ran(1, (*EDIT, "--out", str(patch)), Path(folder) / "cache-of-the-edit")
        verbs: dict[str, Sequence[str]] = {
            "attack": ("attack", str(patch), *ATTACK), "evaluate": ("evaluate", str(patch), *EVALUATE), "erase": EDIT}
        print("| verb | seconds by 1 | seconds by N | ratio | start by 1, by N | ratio of the work alone | results |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for verb in (asked.only,) if asked.only else verbs:
            print(row(verb, verbs[verb], Path(folder), asked.processes, asked.repeats), flush=True)


def row(verb: str, command: Sequence[str], folder: Path, processes: int, repeats: int) -> str:
    """A verb's line of the table."""
    took: dict[int, list[float]] = {1: [], processes: []}
    begun: dict[int, list[float]] = {1: [], processes: []}
    for repeat in range(repeats):
        for count in took:
            out, cache = folder / f"{verb}-{count}-{repeat}", folder / f"cache-{verb}-{count}-{repeat}"
            took[count].append(ran(count, (*command, "--out", str(out)), cache))
            begun[count].append(ran(count, (), cache))
    one, many = statistics.median(took[1]), statistics.median(took[processes])
    start, starts = statistics.median(begun[1]), statistics.median(begun[processes])
    same = compared(verb, folder / f"{verb}-1-0", folder / f"{verb}-{processes}-0")
    if verb == "erase":  # what another order of the same sums does anyhow
        ran(1, (*command, "--out", str(folder / "threads")), folder / "cache-threads", threads=2)
        same += f"; two threads: {compared(verb, folder / f'{verb}-1-0', folder / 'threads')}"
        same += f"; verdicts by image: {agreed([folder / f'{verb}-{count}-0' for count in took], folder)}"
    return (f"| {verb} | {one:.1f} | {many:.1f} | {one / many:.2f} | {start:.1f}, {starts:.1f} "
            f"| {(one - start) / (many - starts):.2f} | {same} |")


def ran(count: int, command: Sequence[str], cache: Path, threads: int = 1) -> float:
    """Wall time of a command in so many processes; without one, of opening the embedded model in them."""
    opening = cache.with_suffix(".py")
    opening.write_text("import expunge.unlearn.erase, expunge\nexpunge.load('embedded')\nexpunge.runtime.current()\n",
                       encoding="utf-8")
    what = ["-m", "expunge", *command] if command else [str(opening)]
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(count), *what],
                          env=_environment(cache, threads), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(what)} in {count} processes ended with {done.returncode}:\n{done.stderr}")
    return time.monotonic() - began


def agreed(edits: Sequence[Path], folder: Path) -> str:
    """On how many images an evaluation of each of two edits gives the same verdict, and what each edit shows."""
    from expunge.evaluation import EvaluateSettings, places_of, planned_prompts
    from expunge.metrics.worlds import world_of
    from expunge.records import EVALUATIONS

    items: list[dict[str, dict[ItemKey, float]]] = []
    shown: dict[str, list[str]] = {}
    for edit in edits:
        ran(1, ("evaluate", str(edit)), folder / "cache-verdicts", threads=2)
        evaluation = EVALUATIONS.read(edit / "evaluation")
        settings = EvaluateSettings.model_validate(evaluation.settings)
        prompts = world_of("emoji", "embedded").prompts
        places = places_of(evaluation, planned_prompts(prompts, evaluation.card.request, settings), settings)
        items.append({})
        for name in ("found/all", "retained/near", "retained/far"):
            score = evaluation.score(name)
            items[-1][name] = {places[key]: value for key, value in score.per_item.items()}
            shown.setdefault(name, []).append(f"{score.numerator} of {score.n}")
    out = []
    for name, counts in shown.items():
        first, last = items[0][name], items[-1][name]
        shared = first.keys() & last.keys()
        same = sum(first[key] == last[key] for key in shared)
        out.append(f"{name} {' and '.join(counts)}, alike in {same} of {len(shared)}")
    return "; ".join(out)


def _environment(cache: Path, threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "EXPUNGE_CACHE": str(cache)}


def compared(verb: str, one: Path, many: Path) -> str:
    """How far the results are apart."""
    if verb == "erase":
        from expunge.models.patch import Patch

        ours, theirs = (Patch.load(folder).tensors for folder in (one, many))
        before = expunge.load("embedded").parameters_of("denoiser", "text")
        apart, changed = ((sum(float((value - other[name].detach()).square().sum()) for name, value in theirs.items())
                           / sum(float(value.square().sum()) for value in theirs.values())) ** 0.5
                          for other in (ours, before))
        return f"weights {apart:.1e} of their norm apart, changed by {changed:.1e}"
    name = {"attack": "attack.json", "evaluate": "evaluation.json"}[verb]
    records = [without_times(json.loads((folder / name).read_text(encoding="utf-8"))) for folder in (one, many)]
    return "the same record" if records[0] == records[1] else "RECORDS DIFFER"


def without_times(value: Any) -> Any:
    """A record without what the clock says."""
    if isinstance(value, dict):
        return {name: without_times(inner) for name, inner in value.items() if name not in TIMES}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
