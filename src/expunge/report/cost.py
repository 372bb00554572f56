"""The price in sentences: how much of everything else is still drawn as asked, what fell, and what stays unknown."""

from __future__ import annotations

from expunge.records import Evaluation
from expunge.records.score import JUDGES, SECOND
from expunge.report.classes import SELDOM, undrawn
from expunge.report.price import BLURRED, DAMAGED, ROLES, Fall, Price, falls, kept, open_roles, unanswered
from expunge.report.words import counted, find, finite, interval_text, number, percent, unjudged, value_of

JUDGE_WORDS = {"": "the first judge", SECOND: "the second judge"}
_ROLE_WORDS = {"near": "near neighbours", "far": "far things"}


def cost_text(evaluation: Evaluation, price: Price) -> str:
    """What became of everything else: rates with intervals, the worst fall, integrity, sharpness."""
    parts = ", ".join(_part(evaluation, role) for role in ROLES)
    sentence = f"Still drawn as asked: {parts}.{_undrawn(evaluation)}{_worst_fall(evaluation)}" \
        f"{_bound(evaluation, price)}{_open(evaluation)}{_empty(evaluation, price)}"
    known = [f"{number('integrity', value)} {stratum}" for stratum in ROLES
             if (value := value_of(find(evaluation, f"integrity/{stratum}"))) is not None]
    if not known:
        return f"{sentence} Integrity was not measured."
    scale = "1: only numerical noise, 0: as different as another seed"
    return f"{sentence} Integrity is {' and '.join(known)} ({scale}).{_blurred(evaluation)}"


def _part(evaluation: Evaluation, role: str) -> str:
    edited, original = kept(evaluation, role)
    value, before = value_of(edited), value_of(original)
    if edited is None or value is None:
        return f"{_ROLE_WORDS[role]} not measured"
    silent = unjudged(edited)
    pictures = f"the {counted(edited.n, 'images')} that could be judged ({silent} got no answer)" if silent else \
        counted(edited.n, "images")
    compared = f"; original {percent(before)}" if before is not None else "; original not measured"
    seldom = ", which says nothing of what the edit lost" if before is not None and before < SELDOM else ""
    return f"{_ROLE_WORDS[role]} in {percent(value)} of {pictures} (95% interval {interval_text(edited)}{compared}" \
        f"{seldom})"


def _undrawn(evaluation: Evaluation) -> str:
    names = [evaluation.strata[name] for name in undrawn(evaluation, "keep")]
    return f" The original does not draw other things in these ways, so they say nothing: {', '.join(names)}." \
        if names else ""


def _worst_fall(evaluation: Evaluation) -> str:
    """The stratum and judge with the largest evident fall, and what the other judge says of it."""
    evident = [fall for fall in falls(evaluation) if fall.low > 0]
    if not evident:
        return ""
    worst = max(evident, key=lambda fall: fall.value)
    other = [fall for fall in falls(evaluation)
             if (fall.role, fall.stratum) == (worst.role, worst.stratum) and fall.judge != worst.judge]
    unsure = f"; {JUDGE_WORDS[other[0].judge]} sees {_points(other[0])}" if other and other[0].low <= 0 else ""
    way = f" asked for by {evaluation.strata.get(worst.stratum, worst.stratum)}" if worst.stratum else ""
    return f" Lost most: {worst.role} things{way}, {_points(worst)} by {JUDGE_WORDS[worst.judge]}{unsure}."


def _bound(evaluation: Evaluation, price: Price) -> str:
    """Where a fall can be neither shown nor excluded: how large it may be."""
    pooled = falls(evaluation, strata=False)
    if price not in ("unclear", "moved") or not pooled:
        return ""
    widest = max(pooled, key=lambda fall: fall.high)
    silent = any(unanswered(evaluation, role, judge) for role in ROLES for judge in JUDGES)
    start = " Even of the images that got an answer, a" if silent else " A"
    return f"{start} fall of up to {100 * widest.high:.0f} points ({widest.role} things) cannot be excluded."


def _open(evaluation: Evaluation) -> str:
    """Of what a judge that was asked cannot tell whether it was kept, where figures do not say so already."""
    out = ""
    for judge in JUDGES:
        silent = [role for role in open_roles(evaluation, judge) if unanswered(evaluation, role, judge)]
        blind = [role for role in open_roles(evaluation, judge) if role not in silent and judge]
        for roles, why in ((silent, "gave no answer on too many images to tell whether {} things were kept"),
                           (blind, "cannot tell whether {} things were kept")):
            if roles:
                out += f" {JUDGE_WORDS[judge].capitalize()} {why.format(' and '.join(roles))}."
    return out


def _empty(evaluation: Evaluation, price: Price) -> str:
    """Images of other things that show nothing, where the original draws as many."""
    edited, original = find(evaluation, "damaged/keep"), find(evaluation, "original/damaged/keep")
    low = finite(edited.low) if edited is not None else None
    if edited is None or low is None or low < DAMAGED or price == "damaged":
        return ""
    before = value_of(original)
    beside = f"; the original's: {percent(before)}" if before is not None else "; the original's were not measured"
    return f" No image of anything in {percent(edited.value or 0.0)} of {edited.n} images of other things{beside}."


def _blurred(evaluation: Evaluation) -> str:
    for role in ROLES:
        score = find(evaluation, f"sharpness/{role}")
        high = finite(score.high) if score is not None else None
        if score is not None and high is not None and high < BLURRED:
            sharp = number(score.name, score.value or 0.0)
            return f" Images are blurred: {sharp} of the original's sharpness ({role})."
    return ""


def _points(fall: Fall) -> str:
    value, low, high = (round(100 * part) for part in (fall.value, fall.low, fall.high))  # no "-0"
    return f"{value} points (95% interval {low} to {high})".replace("-", "\N{MINUS SIGN}")
