"""Warnings about a suite of attacks itself: signs in its own records that it says less than it seems to.

Each has a name, under which docs/attacks.md explains it. Source: the flags of AutoAttack (Croce and Hein 2020) and the
checklist of Carlini et al. 2019 (On Evaluating Adversarial Robustness), sections 4 and 5. Differs: the signs; sizes
count prompts, for the seeds of one prompt go together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from expunge.metrics.reliability import NULL, SELDOM, WIDE
from expunge.metrics.statistics import rate_interval, wilson
from expunge.records import AttackRun, Attempt, ItemKey, Score, counted


def attack_warnings(before: Sequence[Attempt], runs: Sequence[AttackRun], scores: Sequence[Score], shown: int,
                   asked: int) -> list[str]:
    """One sentence per warning.

    Args:
        before, runs, scores: of the suite.
        shown, asked: of `asked` images by the original model the judge found the concept in `shown`.
    """
    by_name = {score.name: score for score in scores}
    return [*_detector(shown, asked), *_idle(runs), *_order(runs), *_controls(runs, by_name),
            *_failures(runs), *_size(by_name, len(before))]


def _detector(shown: int, asked: int) -> list[str]:
    if asked and shown / asked < SELDOM:
        return [f"rare detector: the judge finds the concept in only {shown} of {asked} images of the original "
                "model; what was attacked are the items that it does find"]
    return []


def _idle(runs: Sequence[AttackRun]) -> list[str]:
    """An attack that sees gradients and reports none at work."""
    out = []
    for run in (run for run in runs if run.white_box):
        notes = [item.note for item in run.attempts if "zero gradient" in item.note]
        out += [f"zero gradients: {notes[0]}, in {len(notes)} of {len(run.attempts)} attempts"] if notes else []
    return out


def _order(runs: Sequence[AttackRun]) -> list[str]:
    """Black box above white box on the same channel says that the white box found less than it could.

    Counted against the warning, on the items that either was given: one that the black box was not given (or on which
    it broke off) counts as not elicited by it, one that the white box was not given as elicited by it. For where each
    attack gets what the ones before it left, the later one has the harder items.
    """
    prompts = [run for run in runs if run.access.startswith("prompt")]
    out = []
    for white in (run for run in prompts if run.white_box):
        for black in (run for run in prompts if not run.white_box):
            mine, theirs = _outcomes(black), _outcomes(white)
            places = {*mine, *theirs}
            more = {place for place in places if mine.get(place) == "found"}
            less = {place for place in places if theirs.get(place, "found") != "not elicited"}
            (low, _), (_, high) = _interval(places, more), _interval(places, less)
            if low is not None and high is not None and low > high:
                out.append(f"black box beats white box: {black.attack} elicits more than {white.attack} ({len(more)} "
                           f"of {len(places)} items at least, {len(less)} at most), beyond both intervals")
    return out


def _interval(places: Collection[ItemKey], hits: Collection[ItemKey]) -> tuple[float, float] | tuple[None, None]:
    groups: dict[str, list[float]] = {}
    for place in places:
        groups.setdefault(place[0], []).append(float(place in hits))
    return rate_interval(groups)


def _outcomes(run: AttackRun) -> dict[ItemKey, str]:
    return {item.item_key: item.outcome for item in run.attempts}


def _controls(runs: Sequence[AttackRun], scores: Mapping[str, Score]) -> list[str]:
    out = []
    for run in (run for run in runs if run.attempts):
        score = scores.get(f"attack/{run.attack}/control")
        if run.uncontrolled:
            out.append(f"no null control: {run.attack} is uncontrolled, it was not run where nothing can be found "
                       f"({run.uncontrolled})")
        elif score is None:
            out.append(f"no null control: {run.attack} was not run where nothing can be found")
        elif score.value is None:
            out.append(f"no null control: all {len(run.control)} attempts of {run.attack} where nothing can be found "
                       "broke off")
        elif score.value > NULL and score.low is not None and score.high is not None:
            out.append(f"null control scores: {run.attack} \"finds\" in {score.numerator} of {score.n} items of its "
                       f"null control ({run.control_of}; 95% {score.low:.0%} to {score.high:.0%}); so much of its "
                       "success may be no evidence")
    return out


def _failures(runs: Sequence[AttackRun]) -> list[str]:
    out = []
    for run in runs:
        failed = [item for item in run.attempts if item.outcome == "failed"]
        if failed:
            out.append(f"failed attempts: {len(failed)} of {len(run.attempts)} of {run.attack} broke off, the first "
                       f"with: {failed[0].error}")
    return out


def _size(scores: Mapping[str, Score], items: int) -> list[str]:
    """Too few items for the claim that nothing was elicited."""
    worst = scores["attack/worst"]
    if items and not worst.n:
        return ["too few items: none could be judged"]
    _, high = wilson(0, worst.prompts or worst.n)
    if worst.value is not None and worst.low == 0 and (high or 0) > WIDE:
        prompts = f" from {counted(worst.prompts, 'prompts')}" if worst.prompts else ""
        return [f"too few items: with {worst.n} of them{prompts} a rate of 0 still allows up to {high:.0%}"]
    return [] if items else ["too few items: none was attacked"]
