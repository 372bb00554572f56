"""What a bench showed, packaged: a few numbers per method and concept for `expunge ls methods`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from expunge import untrusted
from expunge.errors import ModelError
from expunge.files import write_json
from expunge.records import BenchResult, Pooled

SHOWN = Path(str(resources.files("expunge"))) / "unlearn" / "shown.json"
"""The file that comes with the package."""
NAMES = ("attack/worst", "attack/unlearndiff/total", "found/all", "retained/near", "integrity/near", "integrity/far",
         "fid/original")
"""Scores that are kept, of those that there are."""


def published(result: BenchResult, file: Path, command: str) -> Path:
    """Write the summaries of a bench to `file`, with how they came about; returns `file`.

    Methods that the bench did not have keep what an earlier one showed, with its own origin.
    """
    rows = {**_read(file), **_rows(result, command)}
    write_json(file, {key: rows[key] for key in sorted(rows)})
    return file


def shown(method: str, file: Path = SHOWN) -> list[dict[str, Any]]:
    """What benches showed of a registered method: rows of label, concept, scores, seconds (`EditCost.time`) and origin.

    Raises:
        ModelError: the file is damaged.
    """
    return [row for row in _read(file).values() if row["method"] == method]


def _read(file: Path) -> dict[str, dict[str, Any]]:
    if not file.is_file():
        return {}
    try:
        rows: dict[str, dict[str, Any]] = untrusted.json_of(file)
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}", remedy="install expunge again, or publish a bench again"
                         ) from error
    return rows


def _rows(result: BenchResult, command: str) -> dict[str, dict[str, Any]]:
    settings = {row.title: row.settings for row in result.rows}
    origin = {"command": f"expunge bench {command}", "model": result.model, "model_hash": result.model_hash[:16],
              "created": result.created,
              "expunge": ", ".join(dict.fromkeys(edit.versions.get("expunge", "") for edit in result.edits))}
    out = {}
    for item in result.summaries:
        if item.edits and (item.concept or len(result.concepts) == 1):
            scores = {score.name: _kept(score) for score in item.scores if score.name in NAMES}
            mine = [edit for edit in result.edits if (edit.method, edit.concept) == (item.method, item.concept)
                    and not edit.failed_at]
            out[f"{item.method} | {item.concept}"] = {
                "method": item.preset, "label": item.method, "settings": settings.get(item.method, {}),
                "concept": item.concept, "edits": item.edits, "seconds": item.cost.time if item.cost else None,
                "attacks": list(dict.fromkeys(name for edit in mine for name in edit.attacks)), "scores": scores,
                **origin}
    return out


def _kept(score: Pooled) -> dict[str, Any]:
    """The score with, at each end, the wider of its intervals: over items, and over edits and prompts."""
    lows, highs = ([end for end in ends if end is not None] for ends in ((score.low, score.cluster_low),
                                                                        (score.high, score.cluster_high)))
    return {"value": score.value, "low": min(lows, default=None), "high": max(highs, default=None), "n": score.n,
            "numerator": score.numerator}
