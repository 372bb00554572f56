"""Pool the edits of a published record again, by the statistics of this version: summaries and differences, no cell.

    python benchmarks/regather.py RECORD [RECORD ...]      benches' records, compressed; each is written in its place

What each image and each attacked item counted for stays as it was measured.
"""

from __future__ import annotations

import argparse
import lzma
from functools import partial
from pathlib import Path

from expunge.bench.gather import compared, summaries
from expunge.bench.settings import BenchSettings
from expunge.files import write_atomically
from expunge.records import BenchResult


def main() -> None:
    """Write them anew."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("records", nargs="+", type=Path)
    for file in options.parse_args().records:
        result = BenchResult.read(lzma.decompress(file.read_bytes()).decode())
        packed = lzma.compress(regathered(result).model_dump_json().encode(), preset=9)
        write_atomically(file, partial(_written, packed))
        print(f"{file}: {len(result.edits)} edits")


def _written(packed: bytes, file: Path) -> None:
    file.write_bytes(packed)


def regathered(result: BenchResult) -> BenchResult:
    """The record with its edits pooled and compared anew."""
    settings = BenchSettings.build(result.settings)
    return result.model_copy(update={"summaries": tuple(summaries(result.edits, settings)),
                                     "differences": tuple(compared(result.edits, settings))})


if __name__ == "__main__":
    main()
