"""Memory of an evaluation by the number of images: does it stay the same?

    python benchmarks/evaluate_memory.py
    python benchmarks/evaluate_memory.py --counts 300 3000 --side 64

A very small pipeline with random weights, the judge and features of the tests' world of colours, one denoising step;
each count in a process of its own with an empty cache. Printed: what the process held at most (resident), what it held
when the model was loaded, and the ratio of both peaks. What stays by design, per image and model: its record, its
answers, its features (12 numbers here, 1,280 with the extra `second`, 2,048 of Inception).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20


def main() -> int:
    """Prints a line per count, and the ratio of the last to the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs=2, default=(300, 3000), metavar="INTEGER")
    parser.add_argument("--side", type=int, default=64, metavar="INTEGER", help="pixels")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_measured(options.one, options.side)))
        return 0
    peaks = []
    for count in options.counts:
        asked = [sys.executable, __file__, "--one", str(count), "--side", str(options.side)]
        made = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        peaks.append(made["peak"])
        print(f"{made['images']} images of each model, {options.side} x {options.side}: peak {made['peak'] / MIB:.0f} "
              f"MiB, {made['loaded'] / MIB:.0f} MiB with the model loaded; as float32 they would be "
              f"{2 * made['images'] * 3 * options.side**2 * 4 / MIB:.0f} MiB", flush=True)
    print(f"ratio of the peaks: {peaks[1] / peaks[0]:.2f}")
    return 0


def _measured(count: int, side: int) -> dict[str, int]:
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "evaluation")]
    from colour_world import colour_world, edit  # type: ignore[import-not-found]

    import expunge
    from pipelines import pipeline  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        pipeline({"steps_offset": 1}).save_pretrained(place / "model", safe_serialization=True)
        model, world = expunge.load(str(place / "model"), device="cpu"), colour_world()
        settings = expunge.EvaluateSettings(seeds=-(-count // 9), steps=1, guidance=1.0, batch=32, floor_items=3,
                                            draws=100, fid_draws=20, strips=1, height=side, width=side)
        patch, loaded = edit(model, 0.3), _peak()
        expunge.evaluate(model, patch, settings=settings, world=world, out=place / "out",
                         cache=place / "cache")
    return {"images": 9 * settings.seeds, "peak": _peak(), "loaded": loaded}


def _peak() -> int:
    """The most that this process was resident, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.exit(main())
