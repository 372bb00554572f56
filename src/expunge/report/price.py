"""What became of everything else, as a class with stated thresholds.

A fall is the original's retained rate minus the edited model's, near, far, or in one stratum (a way of asking) of
either, with the interval of the paired change; strata's intervals hold for all of them at once. By either judge. The
first line that applies:

    unmeasured  no fall is known
    damaged     "no picture of anything" in DAMAGED of what else was asked for, or both near and far fell by BROKEN
                (lower ends)
    plain       only strata in which people say no more than what should be there fell evidently (lower end >
                SMALL_FALL)
    heavy       a fall of more than HEAVY_FALL whose lower end is above SMALL_FALL
    some        a fall whose lower end is above 0 and whose upper end is above SMALL_FALL
    changed     integrity, near or far, has its upper end below HALF_WAY, or sharpness below BLURRED: other pictures of
                the same subjects
    small       near and far are known, and the upper end of each fall is at most SMALL_FALL
    unclear     everything else: a fall can be neither shown nor excluded

The thresholds are conventions of this report, not of the literature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from expunge.records import Evaluation, Score
from expunge.report.classes import JUDGES, change_of, counting
from expunge.report.words import find, finite, value_of

Price = Literal["small", "unclear", "some", "changed", "plain", "heavy", "damaged", "unmeasured"]

SMALL_FALL, HEAVY_FALL, BROKEN = 0.10, 0.30, 0.40
"""Fall of a retained rate (absolute) that still counts as small, above which it counts as heavy, and as broken."""
HALF_WAY = 0.5
"""Integrity: below it pictures moved more than half way towards another seed."""
BLURRED = 0.8
"""Sharpness beside the original's below which pictures are blurred."""
DAMAGED = 0.20
"""Share of the keep side without a picture of anything."""


@dataclass(frozen=True)
class Fall:
    """A fall of a retained rate, absolute, with its interval.

    Attributes:
        role: "near" or "far"; stratum: the way of asking, "" for all of them; judge: prefix of its scores.
    """

    role: str
    stratum: str
    judge: str
    value: float
    low: float
    high: float


def falls(evaluation: Evaluation, strata: bool = True) -> list[Fall]:
    """Every fall that is known, of near and far things, by each judge, over all prompts and by stratum."""
    out = []
    for judge in JUDGES:
        for role in ("near", "far"):
            ways = [score.stratum for score in counting(evaluation, f"{judge}retained/{role}@")] if strata else []
            for way in ("", *ways):
                change = change_of(evaluation, f"retained/{role}{'@' if way else ''}{way}", judge)
                if change is not None:
                    out.append(Fall(role, way, judge, -change[0], -change[2], -change[1]))
    return out


def price_of(evaluation: Evaluation) -> Price:
    """What became of everything else, as a class."""
    known = falls(evaluation)
    pooled = [fall for fall in known if not fall.stratum]
    if not pooled:
        return "unmeasured"
    if is_damaged(evaluation, pooled):
        return "damaged"
    evident = [fall for fall in known if fall.stratum and fall.low > SMALL_FALL]
    elaborate = [fall for fall in known if fall.stratum and fall.stratum not in evaluation.plain]
    if evident and elaborate and all(fall.stratum in evaluation.plain for fall in evident) and \
            not any(fall.low > 0 for fall in elaborate):
        return "plain"
    if any(fall.value > HEAVY_FALL and fall.low > SMALL_FALL for fall in known):
        return "heavy"
    if any(fall.low > 0 and fall.high > SMALL_FALL for fall in known):
        return "some"
    if moved(evaluation):
        return "changed"
    both = {fall.role for fall in pooled} == {"near", "far"}
    return "small" if both and all(fall.high <= SMALL_FALL for fall in pooled) else "unclear"


def is_damaged(evaluation: Evaluation, pooled: list[Fall]) -> bool:
    """Whether the model draws no pictures any more, or always the same ones."""
    broken = find(evaluation, "damaged/keep")
    low = finite(broken.low) if broken is not None else None
    if low is not None and low >= DAMAGED:
        return True
    return {fall.role for fall in pooled} == {"near", "far"} and all(fall.low >= BROKEN for fall in pooled)


def moved(evaluation: Evaluation) -> bool:
    """Whether near or far pictures are evidently other pictures, or evidently less sharp."""
    ends = [(finite(score.high), bound) for name, bound in (("integrity", HALF_WAY), ("sharpness", BLURRED))
            for role in ("near", "far") for score in [find(evaluation, f"{name}/{role}")]
            if score is not None and value_of(score) is not None]
    return any(high is not None and high < bound for high, bound in ends)


def kept(evaluation: Evaluation, role: str) -> tuple[Score | None, Score | None]:
    """The retained rate of a role, the edited model's and the original's."""
    name = f"retained/{role}"
    return find(evaluation, name), find(evaluation, f"original/{name}")
