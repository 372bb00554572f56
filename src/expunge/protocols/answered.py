"""What formulas over answers share: one subject's images with their rows, and rates and means over them.

A detector that failed or abstained is in `left_out` and never counts as a success of the edit. Intervals are over
distinct prompts: images of one text go together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from expunge.metrics.statistics import BOOTSTRAP, bootstrap_interval, interval_words, rate_interval, resampled
from expunge.protocols.rows import Row
from expunge.protocols.schema import Measure
from expunge.records import Score
from expunge.records.protocol import DetectorAnswer, ImageAnswer, Subject

FAILED, ABSTAINED, NO_LABEL = "detector failed", "detector abstained", "the row has no label"
DRAWS = 2000
"""Of a bootstrap."""


@dataclass(frozen=True)
class Answered:
    """One subject's images with their rows.

    Attributes:
        rows: by number. erased: by number, whether the row asks for what the edit takes out.
        images: what was drawn, judged; each pass may read them from disk again. named: by detector, its label for a
            row's label, where they differ.
    """

    rows: Mapping[int, Row]
    erased: Mapping[int, bool | None]
    images: Iterable[ImageAnswer]
    subject: Subject
    named: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def only(self, erased: bool | None) -> Answered:
        """The images of rows that ask for what is erased (True), of the others (False), or all (None)."""
        if erased is None:
            return self
        return replace(self, images=Chosen(self.images, lambda image: self.erased.get(image.row) is erased))

    def label(self, image: ImageAnswer, detector: str) -> str:
        """What the detector calls the label of the image's row."""
        return self.called(self.rows[image.row].label, detector)

    def called(self, label: str, detector: str) -> str:
        """What the detector calls a label of the rows."""
        return self.named.get(detector, {}).get(label, label)

    def text(self, image: ImageAnswer) -> str:
        """The prompt's text: images of one text go together."""
        return self.rows[image.row].text


@dataclass(frozen=True)
class Chosen:
    """Those of the images that are wanted, at each pass."""

    images: Iterable[ImageAnswer]
    wanted: Callable[[ImageAnswer], bool]

    def __iter__(self) -> Iterator[ImageAnswer]:
        return filter(self.wanted, self.images)


def rate_of(answered: Answered, measure: Measure, verdict: Callable[[ImageAnswer, DetectorAnswer], bool | str | None]
            ) -> Score:
    """Share of images of which the verdict is yes; where it is None or says why, nothing was decided."""
    groups: dict[str, list[float]] = {}
    lost: Counter[str] = Counter()
    for image in answered.images:
        said = image.answers.get(measure.detector)
        why = why_not(image, said)
        hit = why if why or said is None else verdict(image, said)
        if hit is None or isinstance(hit, str):
            lost[hit or ABSTAINED] += 1
        else:
            groups.setdefault(answered.text(image), []).append(float(hit))
    return of_groups(answered, measure, groups, lost)


def of_groups(answered: Answered, measure: Measure, groups: Mapping[str, Sequence[float]], lost: Mapping[str, int]
              ) -> Score:
    """A rate, of 1 or 0 for each image by its text."""
    n, hits = sum(map(len, groups.values())), int(sum(map(sum, groups.values())))
    low, high = rate_interval(groups)
    return Score(name=name_of(answered, measure), title=title_of(measure), value=hits / n if n else None, low=low,
                 high=high, interval=interval_words(groups), n=n, prompts=len(groups), numerator=hits if n else None,
                 denominator="images that the detector could judge", left_out=dict(lost), subject=side_of(answered),
                 seeds=seeds_of(answered), note="" if n else why_none(answered, lost))


def why_none(answered: Answered, lost: Mapping[str, int]) -> str:
    """Why nothing was counted."""
    unknown = not lost and bool(answered.erased) and all(gone is None for gone in answered.erased.values())
    return "not measured: nothing says what was erased (--erased LABEL)" if unknown else \
        "not measured: no image could be judged"


def mean_of(answered: Answered, measure: Measure, groups: Mapping[str, Sequence[float]], lost: Mapping[str, int]
            ) -> Score:
    """The mean over images; texts are resampled, each with all its images."""
    n = sum(map(len, groups.values()))
    low, high, how = None, None, ""
    if len(groups) > 1:
        sums, counts = (np.array([part(its) for its in groups.values()], dtype=np.float64) for part in (sum, len))
        drawn = resampled(len(groups), DRAWS, 0, lambda rows: sums[rows].sum(1) / counts[rows].sum(1))
        value = float(sums.sum() / counts.sum())
        low, high = bootstrap_interval(drawn, value, len(groups) - 1, len(groups)) or (None, None)
        how = f"95% {BOOTSTRAP}, {DRAWS} draws, seed 0"
    return Score(name=name_of(answered, measure), title=title_of(measure),
                 value=sum(map(sum, groups.values())) / n if n else None, low=low, high=high, interval=how, n=n,
                 prompts=len(groups), denominator="images that the detector could judge", left_out=dict(lost),
                 subject=side_of(answered), seeds=seeds_of(answered),
                 note="" if n else why_none(answered, lost))


def why_not(image: ImageAnswer, said: DetectorAnswer | None) -> str:
    """Why a detector's answer to an image counts neither way; "" where it counts."""
    if image.lost:
        return image.lost
    if said is None or said.error:
        return FAILED
    return f"{ABSTAINED}: {said.note}" if said.note else ""


def plain(label: str) -> str:
    """A label without capitals and underscores, as it is compared."""
    return " ".join(label.casefold().replace("_", " ").split())


def by_plain(scores: Mapping[str, float], label: str) -> float | None:
    """The score of a label, however it is written."""
    return next((value for name, value in scores.items() if plain(name) == plain(label)), None)


def name_of(answered: Answered, measure: Measure) -> str:
    """The score's name: the original's has a prefix."""
    return measure.name if answered.subject != "original" else f"original/{measure.name}"


def title_of(measure: Measure) -> str:
    """The score in words."""
    return measure.title or measure.name.replace("-", " ")


def side_of(answered: Answered) -> Literal["original", "edited"]:
    """Whose score it is; supplied images stand where an edited model's do."""
    return "original" if answered.subject == "original" else "edited"


def seeds_of(answered: Answered) -> tuple[int, ...]:
    """The seeds of the images, where they are few."""
    seeds = sorted({image.seed for image in answered.images})
    return tuple(seeds) if len(seeds) <= 16 else ()
