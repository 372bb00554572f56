"""From the states' folders to the record of a sequence: found rates of every concept after every request, and what the
whole comes to.

    A[k][j] = found rate of concept j after request k, of the concepts that the original surely draws
    gone/own       A[j][j] over all j: each concept right after its own request
    gone/end       A[K][j] over all j
    revival        mean of A[K][j] - A[j][j] over the concepts that others came after, image by image, and its
                   interval over concepts
    revival/most   max of A[k][j] - A[j][j] over k > j: the worst that happened on the way

All stand under the second judge, too, where the world has one: `second/gone/own` and so on, of the concepts that the
original surely draws to that judge's eyes.

The prompt is the unit of the intervals of gone/own and gone/end: they hold for these concepts, and say nothing of how
often others would be found. Those of revival are over concepts.

Source: our specification; "rebound" in UnlearnCanvas (Zhang et al. 2024). Differs: revival is paired over the same
prompts and seeds; a concept that the original itself may not draw is left out of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from expunge import runtime, untrusted
from expunge.errors import UserError
from expunge.evaluation import places_of, planned_prompts
from expunge.metrics.prompts import Prompts
from expunge.metrics.statistics import bootstrap_over_groups, interval_words, rate_interval
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.records import Evaluation, Request, Score, SequenceResult, StateScores, counted
from expunge.records.score import JUDGES
from expunge.records.sequence import surely_drawn
from expunge.sequence.measure import kept_evaluation
from expunge.sequence.settings import SequenceSettings
from expunge.sequence.states import State, everything

COST = "cost.json"
KEPT = (*(f"{judge}retained/{stratum}" for judge in JUDGES for stratum in ("near", "far")), "integrity/near",
        "integrity/far", "fid/original", "clip/keep", "found/keep")
"""Scores of each state's evaluation that go into the record, beside found/<concept>."""
DRAWS, SEED = 2000, 0
FEW = 4
"""Concepts below which a bootstrap over them says nothing."""
UNDRAWN = "the original may not draw it"
"""Why images of a concept are in no score over the sequence."""
BEFORE = tuple(f"{judge}original/retained/{stratum}" for judge in JUDGES for stratum in ("near", "far"))
"""Scores of the original that stand beside those of the states."""


def gathered(settings: SequenceSettings, model: Model, asks: Prompts, folder: Path, states: Sequence[State]
             ) -> SequenceResult:
    """The record of the states that there are.

    Raises:
        UserError: there is none, or some were measured otherwise than the others (see `check_alike`).
    """
    if settings.active and not states:
        raise UserError(f"no request of this sequence was met in {folder}", accepted="the folder of a sequence that "
                        "was begun", remedy="name it with --out, or leave out --gather to meet the requests")
    request, made, first = everything(settings, asks) if settings.active else None, list[StateScores](), None
    measured = dict[str, Evaluation]()
    for state in states:  # one patch in memory at a time
        assert request is not None
        patch = Patch.load(state.folder)
        evaluation = kept_evaluation(state, patch, request, settings, asks)
        made.append(_state(state, patch, evaluation, request, settings, model, asks, folder))
        first = first or evaluation
        if evaluation is not None:
            measured[f"{state.number} ({state.asked.title})"] = evaluation
    check_alike(measured)
    names = {state.asked.title: state.asked.concept for state in states}
    before = [score for judge in JUDGES for score in (_found(first, request, f"{judge}original/")
                                                      if first and request else ())]
    sure = {score.name for score in before if surely_drawn(score)}
    undrawn = {judge: [concept for concept in (request.concepts if request else ())
                       if f"{judge}original/found/{concept}" not in sure] for judge in JUDGES}
    kept = [score.model_copy(update={"per_item": {}}) for score in (first.scores if first else ())
            if score.name in BEFORE]
    return SequenceResult(
        model=model.name, model_hash=model.hash, strategy=settings.strategy, method=settings.method, seed=settings.seed,
        settings=settings.model_dump(mode="json"), concepts=request.concepts if request else (),
        before=(*before, *kept), states=tuple(made),
        scores=tuple(score for judge in JUDGES for score in _over_all(made, names, undrawn[judge], judge))
        if first else (),
        withdrawn=tuple(name for item in settings.requests if item.withdrawn is not None for name in item.concept
                        if request is None or name not in request.concepts),  # not what was asked again
        versions=runtime.versions(), machine=runtime.machine(model.device),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"))


def check_alike(measured: Mapping[str, Evaluation]) -> None:
    """Raise UserError unless all states answered the same prompts, drawn alike, to the same detectors.

    Args:
        measured: by the state's name; what an older record does not tell is not compared.
    """
    def protocol(one: Evaluation) -> dict[str, object]:
        apart = ("family", "device", "schedule and parts")
        drawn = {name: value for name, value in one.drawn.items() if name not in apart}
        return {**one.sampler.model_dump(), **one.detectors, "prompts": one.prompts_hash, **drawn}

    states = list(measured.items())
    for name, one in states[1:]:
        first, before = states[0]
        mine, theirs = protocol(one), protocol(before)
        odd = [f"{key}: {theirs[key]}, then {mine[key]}" for key in mine
               if key in theirs and mine[key] != theirs[key] and "" not in (mine[key], theirs[key])]
        odd += [f"{key}: in one of them alone" for key in mine.keys() ^ theirs.keys() if ": " in key]
        if odd:
            raise UserError(f"states {first} and {name} were measured otherwise ({'; '.join(odd)})",
                            accepted="states that answered the same prompts, drawn alike, to the same detectors",
                            remedy="delete the folder `evaluation` of the older ones, and they are measured again")


def _state(state: State, patch: Patch, evaluation: Evaluation | None, request: Request, settings: SequenceSettings,
           model: Model, asks: Prompts, folder: Path) -> StateScores:
    values = {"number": state.number, "concept": state.asked.title, "drift": drift(patch, model),
              "patch_hash": patch.hash, "folder": state.folder.relative_to(folder).as_posix(), **_cost(state, patch)}
    values["versions"] = evaluation.versions if evaluation is not None else patch.card.versions
    if evaluation is not None and settings.evaluation is not None:
        found = [score for judge in JUDGES for score in _found(evaluation, request, judge)]
        places = places_of(evaluation, planned_prompts(asks, request, settings.evaluation), settings.evaluation)
        values["items"] = {score.name: {f"{text} | {seed}": value for key, value in score.per_item.items()
                                        for text, seed in (places[key],)} for score in found}
        kept = [score for score in evaluation.scores if score.name in KEPT]
        values["scores"] = tuple(score.model_copy(update={"per_item": {}}) for score in (*found, *kept))
        values["warnings"] = evaluation.warnings
    return StateScores.model_validate(values)


def _cost(state: State, patch: Patch) -> dict[str, Any]:
    """What the request took; the wall time of the edit alone where its record is lost."""
    try:
        stored = untrusted.json_of(state.folder / COST)
        return {"seconds": float(stored["seconds"]), "processor": stored["processor"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {"seconds": patch.card.seconds, "processor": None}


def _found(evaluation: Evaluation, request: Request, prefix: str = "") -> list[Score]:
    """found/<concept> for each concept, its items with it."""
    out = []
    for concept in request.concepts:
        name = f"{prefix}found/all/{concept}" if len(request.concepts) > 1 else f"{prefix}found/all"
        score = next((one for one in evaluation.scores if one.name == name), None)
        if score is not None:
            out.append(score.model_copy(update={"name": f"{prefix}found/{concept}"}))
    return out


@torch.no_grad()
def drift(patch: Patch, model: Model) -> float:
    """|theta - theta_0| / |theta_0| over all of UNet and text encoder."""
    mine = model.editable()
    moved = sum(float((patch.value(name, mine[name]).to(mine[name]) - mine[name]).double().square().sum())
                for name in patch.weights)
    return math.sqrt(moved / sum(float(p.double().square().sum()) for p in mine.values()))


def _over_all(states: Sequence[StateScores], names: dict[str, tuple[str, ...]], undrawn: Collection[str] = (),
              judge: str = "") -> list[Score]:
    """What the sequence comes to, from the states in their order, of those that were measured.

    Args:
        undrawn: concepts that the original may not draw; they are left out.
        judge: what the names of its scores begin with (`JUDGES`).
    """
    measured = [state for state in (seen(state, judge) for state in states) if state.items]
    if not measured:
        return []
    met = {concept: state for state in measured for concept in names[state.concept]}
    own = {concept: state for concept, state in met.items() if concept not in undrawn}
    last, out = measured[-1], list[Score]()
    for name, title, at in (("gone/own", "found right after its own request, of these concepts", met),
                            ("gone/end", "found after the last request, of these concepts", dict.fromkeys(met, last))):
        lost = sum(len(at[concept].items.get(f"found/{concept}", {})) for concept in met if concept in undrawn)
        out.append(_rate(name, title, [(at[concept], concept) for concept in own], {UNDRAWN: lost} if lost else {}))
    earlier = [concept for concept, state in own.items() if state is not last]
    if earlier:
        out += [revival(rises(own, last)), _most(own, measured, earlier)]
    missing = len(states) - len(measured)
    note = f"{missing} of {len(states)} states were not measured and are left out" if missing else ""
    whose = ", second judge" if judge else ""
    return [score.model_copy(update={"name": f"{judge}{score.name}", "title": f"{score.title}{whose}",
                                     "note": "; ".join(filter(None, (score.note, note)))}) for score in out]


def seen(state: StateScores, judge: str) -> StateScores:
    """The state as one judge saw it, under the names that the first one's scores have."""
    mine = f"{judge}found/"
    items = {name.removeprefix(judge): values for name, values in state.items.items() if name.startswith(mine)}
    scores = tuple(score.model_copy(update={"name": score.name.removeprefix(judge)}) for score in state.scores
                   if score.name.startswith(mine))
    return state.model_copy(update={"items": items, "scores": scores})


def _rate(name: str, title: str, cells: Sequence[tuple[StateScores, str]], left_out: dict[str, int]) -> Score:
    groups: dict[str, list[float]] = {}
    for state, concept in cells:
        for item, value in state.items.get(f"found/{concept}", {}).items():
            groups.setdefault(item.rpartition(" | ")[0], []).append(value)  # a prompt's seeds go together
    values = [value for group in groups.values() for value in group]
    hits = round(sum(values))
    low, high = rate_interval(groups)
    return Score(name=name, title=title, value=hits / len(values) if values else None, low=low, high=high,
                 interval=interval_words(groups), n=len(values), prompts=len(groups), numerator=hits,
                 denominator="images of prompts for the concepts that were to go, with an answer", left_out=left_out,
                 higher_is_better=False, note="" if values else f"nothing is counted: {UNDRAWN}" if left_out else
                 "nothing was measured")


def rises(own: Mapping[str, StateScores], last: StateScores) -> dict[str, list[float]]:
    """Found at the end minus found right after its own request, image by image (same prompt and seed), by concept.

    Args:
        own: the state after each concept's own request.
    """
    out = dict[str, list[float]]()
    for concept, state in own.items():
        then, now = (one.items.get(f"found/{concept}", {}) for one in (state, last))
        both = sorted(then.keys() & now.keys())
        if state is not last and both:
            out[concept] = [now[key] - then[key] for key in both]
    return out


def revival(by_concept: Mapping[str, Sequence[float]]) -> Score:
    """Their mean, with an interval over concepts: images of one concept come back together or not at all.

    Args:
        by_concept: `rises`, of one sequence or of several.
    """
    estimate = bootstrap_over_groups(by_concept, DRAWS, SEED, least=-1.0, most=1.0)
    few = 0 < len(by_concept) < FEW
    same = estimate.low is not None and estimate.low == estimate.high
    note = f"only {counted(len(by_concept), 'concepts')}: no interval" if few else \
        "every concept alike: how rare exceptions are cannot be seen" if same else \
        "" if by_concept else "nothing was measured"
    low, high = (None, None) if few else (estimate.low, estimate.high)
    return Score(name="revival", title="found after the last request more often than after its own",
                 subject="comparison", value=estimate.value, low=low, high=high,
                 interval="" if low is None else
                 f"95% bootstrap over concepts, widened for their number, {DRAWS} draws, seed {SEED}",
                 n=sum(map(len, by_concept.values())), of="pairs of images", note=note, higher_is_better=False,
                 denominator="pairs of images (same prompt, same seed) with an answer both times")


def _most(own: dict[str, StateScores], states: Sequence[StateScores], earlier: Sequence[str]) -> Score:
    found = [(rise, f"{concept} after {state.concept}") for concept in earlier for state in states
             if state.number > own[concept].number and (rise := _rise(own[concept], state, concept)) is not None]
    value, where = max(found, default=(None, ""))
    where = where if value is None or value > 0 else ""
    return Score(name="revival/most", title="largest rise of a concept on the way", value=value, n=len(found),
                 of="pairs of states", subject="comparison", higher_is_better=False,
                 note=f"{where}; the largest of many is too large by chance" if where else
                 "nothing rose" if value is not None else "nothing was measured")


def _rise(then: StateScores, now: StateScores, concept: str) -> float | None:
    """Over the images that were answered both times."""
    before, after = (state.items.get(f"found/{concept}", {}) for state in (then, now))
    both = before.keys() & after.keys()
    return sum(after[key] - before[key] for key in both) / len(both) if both else None
