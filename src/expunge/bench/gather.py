"""From the cells' records to the bench's: summaries per method and concept, and the comparisons that its file names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from statistics import fmean

from expunge import runtime
from expunge.bench.cells import Cell
from expunge.bench.kinds import AGAIN, WHOLE, Kind, kinds
from expunge.bench.pooling import CLUSTER, PooledBlock, PooledStratum, block, differences, estimate
from expunge.bench.settings import BenchSettings
from expunge.metrics.statistics import BY_PROMPT, Groups, rate_interval, wilson_of
from expunge.models.model import Model
from expunge.records import BenchCheck, BenchResult, Difference, Edit, EditCost, Pooled, Score, Summary

SEED = 0
"""Seed of all resampling."""


def gathered(cells: Sequence[Cell], settings: BenchSettings, model: Model, check: BenchCheck | None = None
             ) -> BenchResult:
    """The bench's record, from what the cells' folders hold now, and the last check of it."""
    made = [(cell, edit) for cell in cells if (edit := cell.made()) is not None]
    edits = [edit for _, edit in made]
    return BenchResult(
        model=model.name, model_hash=model.hash, settings=settings.model_dump(mode="json"),
        methods=tuple(row.title for row in settings.methods),
        concepts=tuple(column.title for column in settings.concepts), edits=tuple(edits),
        summaries=tuple(summaries(edits, settings)), differences=tuple(compared(edits, settings)),
        missing=len(cells) - len(edits), check=check,
        unknown=tuple(dict.fromkeys(line for cell, _ in made for line in cell.unknown())), versions=runtime.versions(),
        machine="; ".join(dict.fromkeys(edit.machine for edit in edits)),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"))


def summaries(edits: Sequence[Edit], settings: BenchSettings) -> list[Summary]:
    """Per method and concept, then per method over all concepts."""
    known, concepts = kinds(edits), [column.title for column in settings.concepts]
    out = []
    for concept in [*concepts, *([""] if len(concepts) > 1 else [])]:
        for row in settings.methods:
            mine = [edit for edit in edits if edit.method == row.title and concept in ("", edit.concept)]
            good = [edit for edit in mine if not edit.failed_at]
            asked = len(settings.seeds) * (1 if concept else len(concepts))
            pooled = [pool(kind, good, settings.draws) for kind in known]
            partly = "" if concept else _partly(edits, _concepts(good))
            scores = [_noted(score, partly) for score in (*pooled, *_whole(good), *_controls(good))
                      if score is not None]
            out.append(Summary(method=row.title, preset=row.method, concept=concept, edits=len(good),
                               failed=len(mine) - len(good), missing=asked - len(mine), scores=tuple(scores),
                               cost=_cost([edit.cost for edit in good if edit.cost is not None])))
    return out


def pool(kind: Kind, edits: Sequence[Edit], draws: int = 2000) -> Pooled | None:
    """A score over edits of one method, of one concept or several; None if no edit has it."""
    strata = _strata(kind, edits)
    if any(not stratum.n for stratum in strata) or not _looked_again(kind, edits):
        return None
    cluster = estimate(strata, draws, SEED, *((0.0, 1.0) if kind.rate else (-math.inf, kind.most)))
    n, hits = sum(stratum.n for stratum in strata), round(sum(stratum.total for stratum in strata))
    words = CLUSTER.format(draws=draws, seed=SEED) if cluster.low is not None else ""
    low, high = rate_interval(_groups(strata)) if kind.rate else (cluster.low, cluster.high)
    alone = {f"{edit.concept}, {edit.seed}": value for edit in edits
             if (value := estimate(_strata(kind, [edit]), 1).value) is not None}
    blocks = [item for stratum in strata for item in stratum.blocks]
    return Pooled(
        name=kind.name, title=kind.title, value=cluster.value, low=low, high=high, n=n, of=kind.of,
        interval="95% Wilson, prompts of each edit as units" if kind.rate else words,
        numerator=hits if kind.rate else None, denominator=kind.denominator, higher_is_better=kind.higher_is_better,
        seeds=tuple(sorted({edit.seed for edit in edits})), by_edit=alone, cluster_low=cluster.low,
        cluster_high=cluster.high, prompts=sum(item.prompts for item in blocks),
        edits=sum(item.edits for item in strata[0].blocks), note=_few(edits))


def _looked_again(kind: Kind, edits: Sequence[Edit]) -> bool:
    """Whether every attacked edit has a score of successes that were looked at again; true of any other score.

    Without those whose successes nobody looked at, the rest would be edits on which nothing was found.
    """
    return kind.name not in AGAIN or all(kind.name in edit.items for edit in edits if "attack/worst" in edit.items)


def _groups(strata: Iterable[PooledStratum]) -> Groups:
    """The outcomes of a rate, by edit and prompt."""
    outcomes = [group for stratum in strata for item in stratum.blocks for group in item.outcomes()]
    return {str(k): group for k, group in enumerate(outcomes)}


def compared(edits: Sequence[Edit], settings: BenchSettings) -> list[Difference]:
    """The pairs that the bench names, score by score, per concept and over all of them."""
    known, concepts, out = kinds(edits), [column.title for column in settings.concepts], []
    for method, other in settings.pairs:
        for concept in [*([""] if len(concepts) > 1 else []), *concepts]:
            wanted = [edit for edit in edits if not edit.failed_at and concept in ("", edit.concept)]
            sides = [[edit for edit in wanted if edit.method == name] for name in (method, other)]
            if all(sides):
                out += [compare(kind, sides[0], sides[1], concept, settings.draws) for kind in known
                        if all(_looked_again(kind, side) for side in sides)]
    return [difference for difference in out if difference.n]


def compare(kind: Kind, edits: Sequence[Edit], others: Sequence[Edit], concept: str = "", draws: int = 2000
            ) -> Difference:
    """`edits` minus `others`, on the items that both have, with an interval over edits and prompts."""
    alone = 0

    def paired(names: Sequence[str], concepts: Iterable[str]) -> tuple[PooledBlock, ...]:
        nonlocal alone
        blocks = []
        for title in concepts:
            table, odd = differences(_items(edits, title, names), _items(others, title, names))
            alone += odd
            blocks.append(block(table, kind.by_prompt))
        return tuple(blocks)

    both = [title for title in _concepts(edits) if title in _concepts(others)]
    strata = [PooledStratum(paired(names, both), weight) for names, weight in kind.parts]
    value = estimate(strata, draws, SEED, *((-1.0, 1.0) if kind.rate else ()))
    few = "no interval: one prompt of each concept" if value.value is not None and value.low is None else \
        "every draw gives the same: how rare exceptions are cannot be seen" if value.low == value.high else ""
    return Difference(
        score=kind.name, title=kind.title, method=edits[0].method, other=others[0].method, concept=concept,
        value=value.value, low=value.low, high=value.high, n=sum(stratum.n for stratum in strata),
        interval=CLUSTER.format(draws=draws, seed=SEED) + ", paired by item" if value.low is not None else "",
        prompts=sum(item.prompts for stratum in strata for item in stratum.blocks), left_out=alone,
        edits=sum(item.edits for item in strata[0].blocks), higher_is_better=kind.higher_is_better,
        note="; ".join(filter(None, (few, _few(edits), _partly([*edits, *others], both)))))


def _strata(kind: Kind, edits: Sequence[Edit]) -> list[PooledStratum]:
    return [PooledStratum(tuple(block(_items(edits, concept, names), kind.by_prompt) for concept in _concepts(edits)),
                          weight) for names, weight in kind.parts]


def _items(edits: Sequence[Edit], concept: str, names: Iterable[str]) -> dict[int, dict[str, dict[str, float]]]:
    """A concept's items of several scores together, by the edit's seed."""
    chosen, out = set(names), dict[int, dict[str, dict[str, float]]]()
    for edit in edits:
        if edit.concept == concept:
            mine = out.setdefault(edit.seed, {})
            for text, values in (one for name in edit.items if name in chosen for one in edit.items[name].items()):
                mine.setdefault(text, {}).update(values)  # one text may have two roles, at other seeds
    return out


def _concepts(edits: Iterable[Edit]) -> list[str]:
    return list(dict.fromkeys(edit.concept for edit in edits))


def _whole(edits: Sequence[Edit]) -> list[Pooled]:
    """FID and KID: the mean over edits. The ends are means of the edits' own ends: they hold for these edits, and say
    nothing of the spread over edits by other seeds."""
    out = []
    for name, title in WHOLE:
        values = {f"{edit.concept}, {edit.seed}": score for edit in edits
                  if (score := _score(edit, name)) is not None and score.value is not None}
        if not values:
            continue
        low = [score.low for score in values.values() if score.low is not None]
        high = [score.high for score in values.values() if score.high is not None]
        whole = len(low) == len(high) == len(values)
        out.append(Pooled(
            name=name, title=title, value=fmean(score.value or 0.0 for score in values.values()),
            low=fmean(low) if whole else None, high=fmean(high) if whole else None,
            interval="mean of the edits' own 95% intervals over prompts, for these edits alone" if whole else "",
            edits=len(values),
            n=sum(score.n for score in values.values()), of="images", higher_is_better=False,
            denominator=next(iter(values.values())).denominator, note=_few(edits),
            by_edit={key: score.value or 0.0 for key, score in values.items()}))
    return out


def _controls(edits: Sequence[Edit]) -> list[Pooled]:
    """Null controls of the attacks, counted together."""
    out = []
    for attack in dict.fromkeys(name for edit in edits for name in edit.attacks):
        found = [score for edit in edits if (score := _score(edit, f"attack/{attack}/control")) is not None and score.n]
        n, hits = sum(score.n for score in found), sum(score.numerator or 0 for score in found)
        if n:
            low, high = wilson_of(hits / n, sum(score.prompts or score.n for score in found))
            out.append(Pooled(name=f"attack/{attack}/control", title=f"null control of {attack}", value=hits / n,
                              low=low, high=high, interval=BY_PROMPT, n=n, of="items",
                              numerator=hits, denominator="items of the null control", higher_is_better=False,
                              edits=len(found)))
    return out


def _score(edit: Edit, name: str) -> Score | None:
    return next((score for score in edit.scores if score.name == name), None)


def _cost(costs: Sequence[EditCost]) -> EditCost | None:
    if not costs:
        return None

    def mean(get: Callable[[EditCost], float | None]) -> int | None:
        values = [value for cost in costs if (value := get(cost)) is not None]
        return round(fmean(values)) if values else None

    busy = [cost.processor for cost in costs if cost.processor is not None]
    memory = [cost.peak_memory for cost in costs if cost.peak_memory is not None]
    return EditCost(
        seconds=round(fmean(cost.seconds for cost in costs), 2), processor=round(fmean(busy), 2) if busy else None,
        steps=mean(lambda cost: cost.steps) or 0,
        unet_frozen=mean(lambda cost: cost.unet_frozen), unet_trained=mean(lambda cost: cost.unet_trained),
        changed=mean(lambda cost: cost.changed) or 0, of=costs[0].of,
        patch_bytes=mean(lambda cost: cost.patch_bytes) or 0, peak_memory=max(memory) if memory else None)


def _noted(score: Pooled, note: str) -> Pooled:
    return score.model_copy(update={"note": "; ".join(filter(None, (score.note, note)))}) if note else score


def _partly(edits: Iterable[Edit], both: Sequence[str]) -> str:
    """Which concepts a comparison over all of them is really on."""
    return f"on {', '.join(both)} alone" if set(_concepts(edits)) - set(both) else ""


def _few(edits: Sequence[Edit]) -> str:
    count = len({edit.seed for edit in edits})
    return "one edit: nothing is known about other seeds of the edit" if count == 1 else \
        f"only {count} edits per concept: the interval is rough" if count < 3 else ""
