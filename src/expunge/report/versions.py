"""Which versions made what stands in one table, and whether they agree: figures carry the version that made them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from expunge.records import BenchCheck, BenchResult
from expunge.report.words import counted


def bench_versions(result: BenchResult) -> list[str]:
    """Which versions made a bench's cells, where they are several or not the one that gathers; what they did not know;
    and whether cells made again agree."""
    versions = several([edit.versions for edit in result.edits], result.versions, "cells")
    if result.unknown:
        versions.append(f"Cells were made before these settings existed; they are taken to be as they are now: "
                        f"{', '.join(result.unknown)}.")
    if result.check is not None:
        versions.append(check_sentence(result.check, len(result.edits)))
    elif versions:
        versions.append("Whether this version gives the same numbers was not checked: `expunge bench FILE --check 3`.")
    return versions


def several(made: Sequence[Mapping[str, str]], now: Mapping[str, str], what: str) -> list[str]:
    """A sentence where the things called `what` were made by several versions, or by another than `now`; else none."""
    by = Counter(tuple(one.items()) for one in made)
    if not by or set(by) == {tuple(now.items())}:
        return []
    everyone = [dict(key) for key in by] + [dict(now)]
    each = "; ".join(f"{counted(count, what)} by {_named(dict(key), everyone)}" for key, count in by.items())
    begins = f"{what.capitalize()} come from several versions" if len(by) > 1 else \
        f"All {what} come from another version"
    return [f"{begins}: {each} (gathered by {_named(now, everyone)})."]


def check_sentence(check: BenchCheck, edits: int) -> str:
    """How cells that were made again compare."""
    count, whole = len(check.cells), [cell for cell in check.cells if not cell.apart]
    same, scores = sum(cell.equal for cell in check.cells), sum(cell.scores for cell in check.cells)
    odd = [line for cell in check.cells for line in (f"{cell.name}, {one}" for one in cell.apart)]
    return (f"Of {counted(edits, 'cells')} {count} {'was' if count == 1 else 'were'} made again: {len(whole)} of "
            f"{count} agree; {same} of {scores} scores are equal, and "
            + (f"these lie outside each other's intervals: {'; '.join(odd[:6])}{'; ...' if odd[6:] else ''}" if odd else
               "the others lie in each other's intervals" if same < scores else "none differs")
            + f" (by expunge {check.versions.get('expunge', 'unknown')}, {check.created[:10]}).")


def _named(mine: Mapping[str, str], everyone: Sequence[Mapping[str, str]]) -> str:
    """"expunge 0.1.0, torch 2.9": expunge's, and those that are not the same everywhere."""
    names = [name for name in dict.fromkeys(key for one in everyone for key in one)
             if name == "expunge" or len({one.get(name) for one in everyone}) > 1]
    return ", ".join(f"{name} {mine.get(name, 'unknown')}" for name in names) or "an unknown version"
