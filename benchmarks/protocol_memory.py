"""Peak memory of a protocol's run at 300 and 3,000 images: it should not grow with their number.

    python benchmarks/protocol_memory.py

Draws with a very small pipeline of random weights, 2 steps, in a process of its own for each number; a CLIP score and
a classifier's rule take part. Prints peak resident memory of both and their ratio.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

COUNTS = (300, 3000)


def main() -> None:
    """Print both peaks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    count = parser.parse_args().count
    if count:
        _run(count)
        return
    peaks = [int(subprocess.check_output([sys.executable, __file__, "--count", str(one)], text=True).split()[-1])
             for one in COUNTS]
    for one, peak in zip(COUNTS, peaks, strict=True):
        print(f"{one} images: peak {peak / 2**20:.0f} MiB")
    print(f"ratio: {peaks[1] / peaks[0]:.3f}")


def _run(count: int) -> None:
    sys.path[:0] = [str(Path(__file__).parent.parent / "tests"), str(Path(__file__).parent.parent / "tests/protocols")]
    from given import classifier, protocol, table

    from expunge.models.store import load
    from expunge.protocols.run import run_protocol
    from expunge.protocols.schema import Protocol
    from expunge.protocols.settings import RunSettings
    from pipelines import pipeline
    from tiny_clip import tiny_clip

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        pipeline({"steps_offset": 1, "set_alpha_to_one": False}).save_pretrained(folder / "p", safe_serialization=True)
        files = {"prompts": table(folder / "list.csv", [{"prompt": f"a church {i}", "s": i} for i in range(count)]),
                 "classifier": classifier(folder / "c", ("church", "house")),
                 "clip": tiny_clip(folder / "p", folder / "k")}
        values = protocol(sampler={"scheduler": "own", "steps": 2, "guidance": 2.0})
        values["scores"].append({"name": "clip", "formula": "clip-score",
                                 "artefacts": {"clip": {"role": "clip", "what": "a CLIP"}}})
        result = run_protocol(load(folder / "p", device="cpu"), Protocol.build(values), files=files,
                              settings=RunSettings(batch=32), out=folder / "out")
        assert result.score("original/shown").n == count
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak * (1 if sys.platform == "darwin" else 1024))


if __name__ == "__main__":
    main()
