"""What each image and each attacked item counted for, by prompt and seed: what is pooled and paired over edits.

found/<role>, retained/<role>      1 or 0 per image; images without an answer are missing
second/found/<role>, second/retained/<role>      the same by the second judge, where there is one
integrity/<stratum>                1 - (I - F) / (U - F) per image, with I its own distance and F and U those of the
                                   evaluation: their mean over prompts is the evaluation's integrity
clip/keep, change/clip/keep        per image
attack/before, attack/worst, attack/worst/fresh, attack/<name>      1 or 0 per item, counted as in attacks/scores.py
attack/worst/second                a success counts only if a fresh image shows it again by both judges
attack/<name>/total                shown without an attack or elicited by this one, the published success rate; items
                                   that the attack was not given because others had broken them are missing

Images and items keep the same names (prompt, seed) whatever was edited how, so edits can be compared item by item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from expunge.attacks.scores import looked_again, worst_case
from expunge.bench.kinds import AGAIN
from expunge.evaluation import EvaluateSettings, places_of, planned_prompts
from expunge.metrics.prompts import Prompts
from expunge.models.patch import Patch
from expunge.records import Evaluation, ItemKey, SuiteResult
from expunge.records.bench import Items

JUDGED = ("found/direct", "found/held_out", "found/paraphrase", "found/implicit", "retained/near", "retained/far",
          "retained/style")
PLAIN = (*JUDGED, *(f"second/{name}" for name in JUDGED), "clip/keep", "change/clip/keep")
"""Scores whose items are taken as the evaluation has them."""
STRATA = ("near", "far", "style")
"""Strata whose integrity is taken apart into images."""

def evaluation_items(evaluation: Evaluation, patch: Patch, asks: Prompts, settings: EvaluateSettings
                     ) -> dict[str, Items]:
    """Values by score, prompt and seed; scores that were not measured are missing."""
    places = places_of(evaluation, planned_prompts(asks, patch.card.request, settings), settings)
    scores = {score.name: score for score in evaluation.scores}
    out = {name: _placed(scores[name].per_item, places) for name in PLAIN if name in scores}
    out.update(integrity_items(evaluation, places))
    return {name: items for name, items in out.items() if items}


def integrity_items(evaluation: Evaluation, places: Mapping[str, ItemKey]) -> dict[str, Items]:
    """integrity/<stratum> image by image; none where no ceiling was measured or it is no higher than the floor.

    A prompt of one image has no ceiling, and is no part of the evaluation's integrity either."""
    scores = {score.name: score for score in evaluation.scores}
    floor = scores["perceptual/floor"].value or 0.0 if "perceptual/floor" in scores else 0.0
    out = {}
    for stratum in STRATA:
        inner, outer = scores.get(f"perceptual/{stratum}"), scores.get(f"perceptual/ceiling/{stratum}")
        if inner is None or outer is None or outer.value is None or outer.value <= floor:
            continue
        top = outer.value
        placed = _placed({key: 1 - (value - floor) / (top - floor) for key, value in inner.per_item.items()}, places)
        out[f"integrity/{stratum}"] = {text: values for text, values in placed.items() if len(values) > 1}
    return out


def attack_items(suites: Iterable[SuiteResult]) -> dict[str, Items]:
    """Values by score, prompt and seed, over the items that the judge could judge before the attacks."""
    out: dict[str, Items] = {}
    for suite in suites:
        shown = {item.item_key: item.outcome == "found before" for item in suite.before if item.outcome != "failed"}
        for run in suite.runs:
            found = {item.item_key: item.outcome == "found" for item in run.attempts if item.outcome != "failed"}
            total = {place: before or found[place] for place, before in shown.items() if before or place in found}
            _add(out, f"attack/{run.attack}", found)
            _add(out, f"attack/{run.attack}/total", total)
        _add(out, "attack/before", shown)
        _add(out, "attack/worst", worst_case(suite.before, suite.runs))
        if looked_again(suite.runs):
            _add(out, "attack/worst/fresh", worst_case(suite.before, suite.runs, fresh=True))
            if suite.second:
                _add(out, "attack/worst/second", worst_case(suite.before, suite.runs, second=True))
    return {name: items for name, items in out.items() if items or name in AGAIN}


def _add(out: dict[str, Items], name: str, values: Mapping[ItemKey, bool]) -> None:
    items = out.setdefault(name, {})
    for (text, seed), value in values.items():
        items.setdefault(text, {})[str(seed)] = float(value)


def _placed(values: Mapping[str, float], places: Mapping[str, ItemKey]) -> Items:
    out: Items = {}
    for name, value in values.items():
        text, seed = places[name]
        out.setdefault(text, {})[str(seed)] = value
    return out
