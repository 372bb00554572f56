"""A number with everything needed to trust it, and what finds one by its name."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Literal, Protocol, TypeVar

from expunge.errors import UnknownName
from expunge.records.base import Record

SECOND = "second/"
JUDGES = ("", SECOND)
"""How the names of each judge's scores begin."""
NOT_DRAWN = "the original does not draw this stratum"
"""Reason in `Score.left_out`: images that say nothing about an edit. They were judged, unlike all others left out."""
NOT_SHOWN = "the original does not show it"
"""Reason in `Score.left_out`: rows whose image by the original lacks what was to go. They say nothing about an edit."""
NOT_FINITE = "not finite"
"""Reason in `Score.left_out`: images with values that are not finite. They are no images, and are not judged."""
NOT_ASKED = "not asked"
"""Reason in `Score.left_out`: images of prompts that leave open what the score asks about."""


class Score(Record):
    """A number with everything needed to trust it.

    Attributes:
        name: machine name ("found/held_out", "integrity/near", "fid/original").
        title: what a person reads.
        value: the estimate; None when nothing could be measured (then `note` says why).
        low, high: ends of the 95% interval.
        interval: how the interval was made ("Wilson", "bootstrap over prompts, 2000 draws, seed 0").
        n: how many items the estimate rests on, and `of`: what they are ("images", "prompts").
        prompts: how many prompts these come from: the unit of the interval, for seeds of one prompt go together; 0
            where items are no images of prompts.
        stratum: the way of asking that it is about, by the world's name for it; "" for all of them.
        numerator: for rates, the count.
        denominator: in words, what is counted over.
        left_out: items that are not in n, by reason ("abstained": 3, "detector failed": 0).
        higher_is_better: direction; None where neither is good.
        subject: "edited", "original" or "comparison".
        seeds: the seeds used.
        per_item: value by item key; kept so that worst cases and paired statistics stay possible.
        note: anything a reader must know.
    """

    name: str
    title: str
    value: float | None
    low: float | None = None
    high: float | None = None
    interval: str = ""
    n: int = 0
    of: str = "images"
    prompts: int = 0
    stratum: str = ""
    numerator: int | None = None
    denominator: str = ""
    left_out: dict[str, int] = {}
    higher_is_better: bool | None = None
    subject: Literal["edited", "original", "comparison"] = "edited"
    seeds: tuple[int, ...] = ()
    per_item: dict[str, float] = {}
    note: str = ""


ScoreT_co = TypeVar("ScoreT_co", bound=Score, covariant=True)


class _HasScores(Protocol[ScoreT_co]):
    @property
    def scores(self) -> tuple[ScoreT_co, ...]: ...


class Scored:
    """What every record with scores can do."""

    def score(self: _HasScores[ScoreT_co], name: str) -> ScoreT_co:
        """The score called `name`. UnknownName (a KeyError, too): there is none."""
        for score in self.scores:
            if score.name == name:
                return score
        names = [score.name for score in self.scores]
        close = get_close_matches(name, names, n=3, cutoff=0.5) if isinstance(name, str) else []
        raise UnknownName(f"no score {name!r}", accepted=", ".join(close or names[:12]) or "none: it has no scores")
