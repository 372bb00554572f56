"""Images that are none: values that are not finite, as damaged weights and small number types give.

Such an image is black once it is a file, and a judge would say that the concept is not in it. So it is neither shown
to a judge nor measured. Every score that would hold it counts it in `left_out` as `NOT_FINITE`, and how many there are
is a score of its own:

    not_finite/all, original/not_finite/all    share of the images that were asked for; only where there is one

A rate of one model leaves out that model's own ones; what compares the models leaves out the items of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from expunge.metrics.base import Aim, aim_of
from expunge.metrics.erasure import Lost
from expunge.metrics.integrity import ImageSet
from expunge.metrics.rules import Subject
from expunge.metrics.statistics import interval_words, rate_interval
from expunge.pixels import chunks
from expunge.records import FORGET_ROLES, KEEP_ROLES, NOT_FINITE, ImageRecord, Prompt, Score

Items = tuple[ImageRecord, ...]
_ROLES = {"instead": FORGET_ROLES, "something_else": FORGET_ROLES, "margin": FORGET_ROLES, "forget": FORGET_ROLES,
          "found": FORGET_ROLES, "damaged": ("near", "far", "style"), "kept": ("near", "far"), "keep": KEEP_ROLES,
          "fid": KEEP_ROLES, "kid": KEEP_ROLES, "precision": KEEP_ROLES, "recall": KEEP_ROLES}
"""Which prompts' images a score is over, by a part of its name; any other part that is a role is that role's."""


@dataclass(frozen=True)
class Spoilt:
    """The records of the images that are not finite, by whose they are."""

    edited: Items = ()
    original: Items = ()

    def of(self, subject: Subject) -> Items:
        """One model's."""
        return self.edited if subject == "edited" else self.original

    def either(self) -> Items:
        """One record for each item of which either model's image is not finite."""
        return tuple({shot.item_key: shot for shot in (*self.original, *self.edited)}.values())

    def lost(self, subject: Subject) -> Lost:
        """One model's, as images that could not be drawn."""
        return [(shot.prompt, NOT_FINITE) for shot in self.of(subject)]

    def prompts(self) -> list[Prompt]:
        """What the images were to show."""
        return [shot.prompt for shot in self.either()]


NONE_SPOILT = Spoilt()


def finite_only(drawn: ImageSet) -> tuple[ImageSet, Items]:
    """The images that are some, and the records of the others."""
    parts = chunks(drawn.pictures) if len(drawn.shots) else ()
    there = [is_one for part in parts for is_one in part.flatten(1).isfinite().all(1).tolist()]
    return (drawn.only([row for row, is_one in enumerate(there) if is_one]),
            tuple(shot for shot, is_one in zip(drawn.shots, there, strict=True) if not is_one))


def rows_in_both(original: ImageSet, edited: ImageSet) -> tuple[list[int], list[int]]:
    """The rows on either side of the items that both have, in the edited model's order."""
    first = original.rows()
    both = [(first[shot.item_key], row) for row, shot in enumerate(edited.shots) if shot.item_key in first]
    return [row for row, _ in both], [row for _, row in both]


def spoilt_scores(original: ImageSet, edited: ImageSet, spoilt: Spoilt) -> list[Score]:
    """not_finite/all of both models; none where every image of both is one."""
    if not spoilt.either():
        return []
    return [_share(edited, spoilt.edited, "edited"), _share(original, spoilt.original, "original")]


def with_spoilt(scores: Sequence[Score], spoilt: Spoilt, aims: Sequence[Aim]) -> list[Score]:
    """The scores, none of them a rate of one model, with what each leaves out because it is not finite."""
    out = []
    for score in scores:
        over = spoilt.edited if score.name.startswith("margin/") else \
            (*spoilt.edited, *spoilt.original) if score.name.startswith("agreement/") else spoilt.either()
        count = sum(_is_over(score, shot.prompt, aims) for shot in over)
        out.append(score.model_copy(update={"left_out": {**score.left_out, NOT_FINITE: count}}) if count else score)
    return out


def _is_over(score: Score, prompt: Prompt, aims: Sequence[Aim]) -> bool:
    """Whether an image of the prompt would be among those of the score, by the score's name."""
    name = score.name.removeprefix("second/").removeprefix("original/").removeprefix("change/")
    parts = name.partition("@")[0].split("/")
    roles = next((_ROLES[part] for part in parts if part in _ROLES), ())
    if prompt.role not in roles and prompt.role not in parts:
        return False
    if score.stratum and prompt.stratum != score.stratum:
        return False
    own = [aim.concept for aim in aims if aim.concept == parts[-1]] if len(aims) > 1 and len(parts) > 2 else []
    return not own or prompt.role not in FORGET_ROLES or aim_of(prompt, aims).concept in own


def _share(drawn: ImageSet, spoilt: Items, subject: Subject) -> Score:
    groups: dict[str, list[float]] = {}
    for shots, value in ((drawn.shots, 0.0), (spoilt, 1.0)):
        for shot in shots:
            groups.setdefault(shot.prompt.text, []).append(value)
    n = sum(map(len, groups.values()))
    low, high = rate_interval(groups)
    return Score(name=f"{'' if subject == 'edited' else 'original/'}not_finite/all",
                 title="no image at all: values that are not finite", value=len(spoilt) / n, low=low, high=high,
                 interval=interval_words(groups), n=n, prompts=len(groups), numerator=len(spoilt),
                 denominator="images that were asked for", higher_is_better=False, subject=subject,
                 seeds=tuple(sorted({shot.seed for shot in (*drawn.shots, *spoilt)})))
