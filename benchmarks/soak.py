"""Hours of a bench in one process: does its memory stay flat, does anything grow that should not?

    OMP_NUM_THREADS=1 python benchmarks/soak.py [--minutes 120]
    python benchmarks/soak.py --read runs/soak                     print the figures of a run that has ended

A bench on emoji-64 of small cells: edits in closed form, by training, by a LoRA and by adversarial training, each
attacked and evaluated, seed after seed. Every five seconds the resident memory of its process (and of processes that it
started), its open files, its threads and the finished cells are written down; when the time is over it is stopped as
Ctrl-C stops it. Printed: by how much memory grows per hour, by Theil and Sen's slope (the median over all pairs of
finished cells) with its 95% interval, for what the process held in the middle of each cell; the same of the disk space
per cell; which files outside the cells' folders grew; and the last lines of the log. The first quarter is left out:
there the process loads what it needs.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from scipy.stats import theilslopes

from expunge.runtime import machine

MIB, EVERY = 2**20, 5.0
SHORT = {"steps": 12, "batch": 2, "source": {"trajectories": 2, "grid": 6}}
BENCH: dict[str, Any] = {
    "methods": [
        "uce",
        {"method": "esd-fast", "settings": SHORT},
        {"method": "eraseflow-fast", "settings": {"steps": 12, "batch": 2}},
        {"method": "advunlearn-fast", "settings": {**SHORT, "adversary": {"steps": 2}, "steps": 4}},
    ],
    "concepts": ["castle", "guitar"],
    "seeds": list(range(2000)),
    "attack": {"attacks": ["seed-search", "soft-prompt", "unlearndiff", "inpainting"], "count": 2, "control_items": 0,
               "fresh": 1, "each": True, "steps": 10, "options": {
                   "seed-search": {"tries": 2}, "soft-prompt": {"steps": 4},
                   "unlearndiff": {"timesteps": 2, "steps": 2}}},
    "evaluation": {"counts": {"direct": 4, "held_out": 2, "paraphrase": 1, "implicit": 1, "near": 4, "far": 4,
                              "empty": 1, "never_seen": 1},
                   "seeds": 2, "steps": 10, "floor_items": 2, "draws": 100, "fid_draws": 20, "strips": 1},
    "draws": 200,
}


def main() -> int:
    """Prints the figures; 1 if the bench ended by itself, or memory grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120, metavar="NUMBER")
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), metavar="FOLDER", help="a new folder")
    parser.add_argument("--read", type=Path, metavar="FOLDER", help="measure nothing, print what a run found")
    given = parser.parse_args()
    return _told(given.read) if given.read else _told(_soaked(given.out, given.minutes))


def _soaked(out: Path, minutes: float) -> Path:
    """Run the bench for so long; its samples are in `samples.jsonl`."""
    out.mkdir(parents=True)
    (out / "soak.yaml").write_text(json.dumps({**BENCH, "out": str(out / "bench"), "cache": str(out / "pictures")}))
    with (out / "log").open("w") as log, (out / "samples.jsonl").open("w") as samples:
        bench = psutil.Popen([sys.executable, "-m", "expunge", "bench", str(out / "soak.yaml")], stdout=log, stderr=log)
        began = time.monotonic()
        while bench.poll() is None and (gone := time.monotonic() - began) < 60 * minutes:
            samples.write(json.dumps({"seconds": gone, **_now(bench, out)}) + "\n")
            samples.flush()
            time.sleep(EVERY)
        if bench.poll() is None:
            bench.send_signal(signal.SIGINT)
        code = bench.wait(300)
    (out / "ended.json").write_text(json.dumps({"code": code, "minutes": minutes, "machine": machine()}))
    return out


def _now(bench: psutil.Popen, out: Path) -> dict[str, Any]:
    held = [bench, *bench.children(recursive=True)]
    cells = [cell.parents[1] for cell in (out / "bench").glob("cells/*/*/*/evaluation/evaluation.json")]
    return {"resident": sum(one.memory_info().rss for one in held), "processes": len(held),
            "files": bench.num_fds(), "threads": bench.num_threads(), "cells": len(cells),
            "last": str(max(cells, key=lambda cell: cell.stat().st_mtime).relative_to(out)) if cells else "",
            "others": {str(file.relative_to(out)): file.stat().st_size for file in _others(out)}}


def _others(out: Path) -> list[Path]:
    """Files that belong to no cell and are no drawn image: those that could grow for ever."""
    files = [*out.glob("*"), *(out / "bench").glob("*"), *(out / "bench" / "report").rglob("*")]
    return sorted(file for file in files if file.is_file())


def _told(out: Path) -> int:
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    ended = json.loads((out / "ended.json").read_text())
    said = "\n".join((out / "log").read_text().splitlines()[-4:])
    if ended["code"] != 130:
        print(f"it ended with {ended['code']}, before anybody stopped it:\n{said}")
        return 1
    late = [one for one in samples if one["cells"] > 0 and one["seconds"] > samples[-1]["seconds"] / 4]
    print(f"{samples[-1]['seconds'] / 60:.0f} minutes, {samples[-1]['cells']} cells, on {ended['machine']}")
    held = defaultdict[int, list[Any]](list)
    for one in late:
        held[one["cells"]].append(one)
    whole = [*held.values()][1:-1]  # the first and the last are cut
    if len(whole) < 8:
        print("too few cells for a slope: let it run for longer")
        return 1
    hours = [statistics.median(one["seconds"] for one in cell) / 3600 for cell in whole]
    grew = _slope("resident memory, MiB", hours, _medians(whole, "resident", MIB))
    for what in ("files", "threads", "processes"):
        _slope(what, hours, _medians(whole, what))
    print(f"most memory at any sample: first quarter {_peak(samples, late, before=True)} MiB, after it "
          f"{_peak(samples, late, before=False)} MiB")
    first, last = late[0]["others"], samples[-1]["others"]
    for name, size in last.items():
        print(f"{name}: {first.get(name, 0)} bytes after a quarter, {size} at the end")
    print(f"stopped as it was asked to; its last lines:\n{said}")
    return int(grew)


def _medians(cells: Sequence[Sequence[Any]], what: str, unit: float = 1) -> list[float]:
    return [statistics.median(one[what] for one in cell) / unit for cell in cells]


def _slope(what: str, hours: Sequence[float], values: Sequence[float]) -> bool:
    """Print by how much it grows per hour; whether the whole interval is above zero."""
    slope, _, low, high = theilslopes(values, hours, alpha=0.95)
    print(f"{what}: median {statistics.median(values):.1f}; grows by {slope:.2f} per hour ({low:.2f} to {high:.2f}; "
          f"n={len(values)} cells)")
    return bool(low > 0)


def _peak(samples: Sequence[Any], late: Sequence[Any], before: bool) -> str:
    some = [one["resident"] for one in samples if (one["seconds"] < late[0]["seconds"]) == before]
    return f"{max(some, default=0) / MIB:.0f}"


if __name__ == "__main__":
    sys.exit(main())
