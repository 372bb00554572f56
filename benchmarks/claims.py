"""What the published systems claim, looked for in benches that were run: a verdict for each, with its numbers.

    python benchmarks/claims.py [--methods runs/bench-methods] [--steering runs/bench-steering]

reads the records of `expunge bench benchmarks/methods.yaml` and `expunge bench benchmarks/steering.yaml` (by default
those in benchmarks/records: ten concepts, and the older steering bench; `--methods benchmarks/records/methods.json.xz`
gives the verdicts of docs/measured.md) and prints a Markdown table. A claim holds
("yes") where the difference that it speaks of has a 95% interval beyond zero on the claimed side, does not ("no") where
it lies beyond zero on the other side, and else "cannot be told". Erasure is called equal only where the interval of the
difference lies within `EQUAL` of zero. Nothing is corrected for how many claims there are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from expunge.bench.gather import compare
from expunge.bench.kinds import kinds
from expunge.errors import UserError
from expunge.files import packed_text
from expunge.records import BenchResult, Difference
from expunge.report.versions import bench_versions
from expunge.report.words import number

RECORDS = Path(__file__).parent / "records"
RATES = ("attack", "found", "retained", "gap")
ERASURE, INTEGRITY = "attack/worst", "integrity/near"
ERASURES = (ERASURE, "found/all")
"""Erasure is not equal where one of these is clearly higher."""
EQUAL = 0.10
"""Difference of shares, either way, within which erasure counts as equal: its whole interval must lie there."""


class Bench:
    """A bench's record, and differences between any two of its rows."""

    def __init__(self, place: Path) -> None:
        """From a bench's folder, or its record, compressed. UserError: there is none."""
        file = place / "bench.json" if place.is_dir() else place
        if not file.is_file():
            raise UserError(f"no bench at {place}", accepted="a folder with bench.json, or such a file with .xz",
                            remedy="run `expunge bench` with the file in benchmarks/ first")
        self.result = BenchResult.read(packed_text(file))
        self._kinds = {kind.name: kind for kind in kinds(self.result.edits)}

    def less(self, score: str, method: str, other: str) -> Difference:
        """`method` minus `other`, over all concepts."""
        mine, theirs = ([edit for edit in self.result.edits if edit.method == name and not edit.failed_at]
                        for name in (method, other))
        if not mine or not theirs:
            raise UserError(f"no whole edit of {method if not mine else other!r} in this bench",
                            accepted="a bench that was run for all its methods", remedy="run it to its end")
        return compare(self._kinds[score], mine, theirs, "", int(self.result.settings["draws"]))

    def count(self, score: str, method: str) -> str:
        """"3 of 72"."""
        found = self.result.summary(method, "").score(score)
        return f"{found.numerator} of {found.n}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=Path, default=RECORDS / "methods-ten.json.xz")
    parser.add_argument("--steering", type=Path, default=RECORDS / "steering.json.xz")
    options = parser.parse_args()
    methods, steering = Bench(options.methods), Bench(options.steering)
    print("| claim | here |\n| --- | --- |")
    for claim, verdict in (*advunlearn(methods, steering), *doco(methods), *integrity(methods), *closed(methods)):
        print(f"| {claim} | {verdict} |")
    print()
    for name, bench in (("methods", methods), ("steering", steering)):
        seeds = ", ".join(map(str, sorted({edit.seed for edit in bench.result.edits})))
        missing = f"; {bench.result.missing} missing" if bench.result.missing else ""
        print(f"{name}.yaml: {len(bench.result.edits)} edits, {len(bench.result.methods)} rows on "
              f"{', '.join(bench.result.concepts)}, seeds {seeds}{missing}")
        for line in bench_versions(bench.result):
            print(f"{name}.yaml: {line}")


def advunlearn(methods: Bench, steering: Bench) -> Iterator[tuple[str, str]]:
    """AdvUnlearn's."""
    attacked, mine, esd = "attack/unlearndiff/total", "advunlearn-fast", "esd-fast"
    pair = (f"{mine}, no anchor", f"{esd}, no anchor")
    yield ("AdvUnlearn is elicited less by UnlearnDiffAtk than ESD, both without an anchor, as published",
           _told(steering.less(attacked, *pair), -1) + _counts(steering, attacked, *pair))
    yield ("the same, both with an anchor", _told(methods.less(attacked, mine, esd), -1)
           + _counts(methods, attacked, mine, esd))
    bare = f"{mine}, no retain"
    yield ("without its retain term AdvUnlearn loses quality",
           f"{_told(methods.less('retained/near', bare, mine), -1)}; {_change(methods.less('clip/keep', bare, mine))}; "
           f"{_change(methods.less(INTEGRITY, bare, mine))}")
    unet = f"{mine}, UNet"
    yield ("training the text encoder beats training the UNet at this",
           f"under UnlearnDiffAtk {_told(methods.less(attacked, mine, unet), -1)}; under the worst of the attacks "
           f"{_told(methods.less(ERASURE, mine, unet), -1)}; {_change(methods.less(INTEGRITY, mine, unet))}")


def doco(bench: Bench) -> Iterator[tuple[str, str]]:
    """DoCo's."""
    mine, other, plain = "doco-fast", "ablation-fast", "doco-fast, no surgery"
    yield ("DoCo's gap between trained and unseen wordings is smaller than Concept Ablation's",
           _told(bench.less("gap/found", mine, other), -1) + _counts(bench, "found/all", mine, other))
    yield ("with surgery what is kept suffers less",
           f"{_told(bench.less(INTEGRITY, mine, plain), 1)}; {_change(bench.less('retained/near', mine, plain))}; "
           f"{_change(bench.less(ERASURE, mine, plain))}")


def integrity(bench: Bench) -> Iterator[tuple[str, str]]:
    """Model integrity's."""
    blind, seen, pairs = list(_unseen(bench)), _seen_otherwise(bench), len(list(_pairs(bench)))
    told = "; ".join(f"`{a}` and `{b}`: {_change(gap)}" for a, b, gap in blind[:3])
    yield ("FID and CLIP score hardly see what integrity sees",
           f"in {len(blind)} of {pairs} pairs of methods: there FID intervals overlap on every concept, CLIP scores "
           f"do not "
           f"differ clearly, and integrity does; the other way round in {seen}. Of {pairs} pairs without any "
           f"difference "
           f"about {0.05 * pairs:.0f} would differ clearly in one score by chance"
           + (f". Most of all {told}" if blind else ""))
    for mine in ("integrity-fast", "integrity-dual-fast"):
        for other in ("esd-fast", "ablation-fast"):
            gap, erased = bench.less(INTEGRITY, mine, other), [bench.less(name, mine, other) for name in ERASURES]
            yield (f"`{mine}` is ahead of `{other}` on integrity at equal erasure",
                   "; ".join([ahead(gap, erased), *map(_change, erased)]))


def ahead(gap: Difference, erased: Sequence[Difference]) -> str:
    """The verdict on "ahead at equal erasure": erasure that is not told apart is not equal for that."""
    if not (gap.clear and (gap.value or 0.0) > 0):
        return _told(gap, 1)
    if any(one.clear and (one.value or 0.0) > 0 for one in erased):
        return f"ahead, but erasure is not equal: {_change(gap)}"
    if all(one.low is not None and one.high is not None and -EQUAL <= one.low <= one.high <= EQUAL for one in erased):
        return f"**yes**: {_change(gap)}"
    return f"ahead; whether erasure is equal cannot be told: {_change(gap)}"


def closed(bench: Bench) -> Iterator[tuple[str, str]]:
    """Closed forms against training."""
    for mine in ("uce", "oce-fast"):
        yield (f"`{mine}`, a closed form, keeps more than ESD",
               "; ".join([_told(bench.less(INTEGRITY, mine, "esd-fast"), 1),
                          *(_change(bench.less(erasure, mine, "esd-fast")) for erasure in ERASURES)]))


def _pairs(bench: Bench) -> Iterator[tuple[str, str]]:
    yield from combinations(bench.result.methods, 2)


def _unseen(bench: Bench) -> Iterator[tuple[str, str, Difference]]:
    """Pairs that FID and CLIP score do not tell apart and integrity does, the largest gap first."""
    found = []
    for a, b in _pairs(bench):
        gap = bench.less(INTEGRITY, a, b)
        if gap.clear and not bench.less("clip/keep", a, b).clear and _overlap(bench, a, b):
            found.append((a, b, gap) if (gap.value or 0.0) > 0 else (b, a, bench.less(INTEGRITY, b, a)))
    yield from sorted(found, key=lambda item: -(item[2].value or 0.0))


def _seen_otherwise(bench: Bench) -> int:
    """How many pairs FID or CLIP score tell apart and integrity does not."""
    return sum(not bench.less(INTEGRITY, a, b).clear and (bench.less("clip/keep", a, b).clear
                                                          or not _overlap(bench, a, b)) for a, b in _pairs(bench))


def _overlap(bench: Bench, a: str, b: str) -> bool:
    """Whether the FID intervals overlap on every concept that was made."""
    for concept in dict.fromkeys(edit.concept for edit in bench.result.edits):
        mine, theirs = (bench.result.summary(name, concept).score("fid/original") for name in (a, b))
        if mine.low is None or mine.high is None or theirs.low is None or theirs.high is None:
            return False
        if mine.low > theirs.high or theirs.low > mine.high:
            return False
    return True


def _told(difference: Difference, wanted: int) -> str:
    """A verdict and the difference that it rests on; `wanted` is the sign that the claim speaks of."""
    verdict = "cannot be told"
    if difference.clear and difference.value is not None:
        verdict = "**yes**" if difference.value * wanted > 0 else "**no**"
    return f"{verdict}: {_change(difference)}"


def _change(difference: Difference) -> str:
    """"elicited, worst case -12.5 points (-20.0 to -5.0), n 72"."""
    if difference.value is None:
        return f"{difference.title}: not measured"
    name = f"change/{difference.score.removeprefix('change/')}"
    if difference.score.split("/")[0] in RATES:
        name = "change/found/all"  # shares, written in points
    ends = "no interval" if difference.low is None or difference.high is None else \
        f"{number(name, difference.low)} to {number(name, difference.high)}"
    return f"{difference.title} {number(name, difference.value)} ({ends}), n {difference.n}"


def _counts(bench: Bench, score: str, method: str, other: str) -> str:
    return f" ({bench.count(score, method)} against {bench.count(score, other)})"


if __name__ == "__main__":
    main()
