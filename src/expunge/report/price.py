"""What became of everything else, as a class with stated thresholds.

A fall is the original's retained rate minus the edited model's, near, far, or in one stratum (a way of asking) of
either, with the interval of the paired change; strata's intervals hold for all of them at once. By either judge. Of a
role that the original itself draws less often than SELDOM only a fall that is evident is known. Subjects are shown to
be kept where near and far are known by every judge that was asked, at most MANY_LEFT_OUT of their images got no
answer, and the upper end of each fall is at most SMALL_FALL. The first line that applies:

    unmeasured  more than SPOILT of the original's images have values that are not finite
    damaged     more than SPOILT of the edited model's do
    unmeasured  no fall is known
    damaged     "no image of anything" in DAMAGED more than the original's of what else was asked for, or both near
                and far fell by BROKEN (lower ends)
    plain       only strata in which people say no more than what should be there fell evidently (lower end >
                SMALL_FALL)
    heavy       a fall of more than HEAVY_FALL whose lower end is above SMALL_FALL
    some        a fall whose lower end is above 0 and whose upper end is above SMALL_FALL
    changed     integrity, near or far, has its upper end below HALF_WAY, or sharpness below BLURRED, and subjects are
                shown to be kept: other images of the same subjects
    moved       the same, and subjects are not shown to be kept
    small       subjects are shown to be kept, and no integrity or sharpness without an interval is below its bound
    unclear     everything else: a fall can be neither shown nor excluded

The thresholds are conventions of this report, not of the literature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from expunge.records import Evaluation, Score
from expunge.records.score import JUDGES
from expunge.report.classes import SELDOM, change_of, counting, many_left_out, spoilt
from expunge.report.words import find, finite, original_of, value_of

Price = Literal["small", "unclear", "some", "changed", "moved", "plain", "heavy", "damaged", "unmeasured"]

SMALL_FALL, HEAVY_FALL, BROKEN = 0.10, 0.30, 0.40
"""Fall of a retained rate (absolute) that still counts as small, above which it counts as heavy, and as broken."""
HALF_WAY = 0.5
"""Integrity: below it images moved more than half way towards another seed."""
BLURRED = 0.8
"""Sharpness beside the original's below which images are blurred."""
DAMAGED = 0.20
"""Share of the keep side without an image of anything, beyond the original's."""
ROLES = ("near", "far")


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
        for role in ROLES:
            ways = [score.stratum for score in counting(evaluation, f"{judge}retained/{role}@")] if strata else []
            for way in ("", *ways):
                name = f"retained/{role}{'@' if way else ''}{way}"
                change = change_of(evaluation, name, judge)
                before = value_of(find(evaluation, original_of(f"{judge}{name}")))
                seldom = before is not None and before < SELDOM  # what is not drawn cannot be lost
                if change is not None and not (seldom and change[2] >= 0):
                    out.append(Fall(role, way, judge, -change[0], -change[2], -change[1]))
    return out


def price_of(evaluation: Evaluation) -> Price:
    """What became of everything else, as a class."""
    known = falls(evaluation)
    pooled = [fall for fall in known if not fall.stratum]
    if spoilt(evaluation, "original"):
        return "unmeasured"
    if spoilt(evaluation, "edited"):
        return "damaged"
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
    kept_all = subjects_kept(evaluation, pooled)
    if moved(evaluation):
        return "changed" if kept_all else "moved"
    return "small" if kept_all and not change_open(evaluation) else "unclear"


def subjects_kept(evaluation: Evaluation, pooled: list[Fall]) -> bool:
    """Whether more than a small fall is excluded, near and far, by every judge that was asked."""
    return all(fall.high <= SMALL_FALL for fall in pooled) and not any(
        open_roles(evaluation, judge) for judge in JUDGES) and not emptiness_open(evaluation)


def open_roles(evaluation: Evaluation, judge: str) -> list[str]:
    """Those of near and far of which a judge that was asked cannot tell whether they were kept.

    It cannot where nothing was measured, where too many images got no answer (of the edited model's, or in pairs), or
    where the original seldom draws them.
    """
    if judge and not any(find(evaluation, f"{judge}retained/{role}") for role in ROLES):
        return []
    known = {fall.role for fall in falls(evaluation, strata=False) if fall.judge == judge}
    return [role for role in ROLES if role not in known or unanswered(evaluation, role, judge)]


def unanswered(evaluation: Evaluation, role: str, judge: str = "") -> bool:
    """Whether too many images of a role got no answer: a judge that does not say has not seen what was asked for."""
    scores = (find(evaluation, f"{judge}retained/{role}"), find(evaluation, f"{judge}change/retained/{role}"))
    return any(score is not None and many_left_out(score) for score in scores)


def is_damaged(evaluation: Evaluation, pooled: list[Fall]) -> bool:
    """Whether many images show nothing any more, or near and far things both fell by `BROKEN`.

    The second is also what a model does that draws always the same image.
    """
    more = change_of(evaluation, "damaged/keep")
    if more is not None and more[1] >= DAMAGED:
        return True
    return {fall.role for fall in pooled} == {*ROLES} and all(fall.low >= BROKEN for fall in pooled)


def emptiness_open(evaluation: Evaluation) -> bool:
    """Whether many images of other things show nothing, and the record does not hold the original's share."""
    broken = find(evaluation, "damaged/keep")
    low = finite(broken.low) if broken is not None else None
    return low is not None and low >= DAMAGED and change_of(evaluation, "damaged/keep") is None


def moved(evaluation: Evaluation) -> bool:
    """Whether near or far images are evidently other images, or evidently less sharp."""
    return any(high is not None and high < bound for _, high, bound in _changed_ends(evaluation))


def change_open(evaluation: Evaluation) -> bool:
    """Whether near or far images look like other ones, or less sharp, and no interval says how sure that is."""
    return any(high is None and value < bound for value, high, bound in _changed_ends(evaluation))


def _changed_ends(evaluation: Evaluation) -> list[tuple[float, float | None, float]]:
    """Value, upper end and bound of each integrity and sharpness, near and far, that was measured."""
    return [(value, finite(score.high), bound) for name, bound in (("integrity", HALF_WAY), ("sharpness", BLURRED))
            for role in ROLES if (score := find(evaluation, f"{name}/{role}")) is not None
            and (value := value_of(score)) is not None]


def kept(evaluation: Evaluation, role: str) -> tuple[Score | None, Score | None]:
    """The retained rate of a role, the edited model's and the original's."""
    name = f"retained/{role}"
    return find(evaluation, name), find(evaluation, f"original/{name}")
