"""What of a reading counts: labels, a threshold, and how they decide. Data, so a part of a protocol file.

    any     yes if one of the labels has a score that reaches the cut; the value is the best score of a label
    top     yes if one of the labels is among the k highest scores (and reaches the cut); the value as for any
    mean    the value is the probability of the labels together, to be averaged; yes or no only with a cut
    boxes   the value is the number of boxes of the labels that reach the cut; yes if there are `least` of them

An abstention and a failure have no value and decide nothing.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Literal

from expunge.config import Settings, knob
from expunge.errors import UserError

if TYPE_CHECKING:
    from expunge.detectors.base import Detector, Reading

USUAL_CUT = 0.5


class Rule(Settings):
    """See the module."""

    labels: tuple[str, ...] = knob((), "which of the detector's labels count")
    rule: Literal["any", "top", "mean", "boxes"] = knob("any", "how they decide")
    cut: float | None = knob(None, "score from which a label counts; None means 0.5 for any, and 0 for the others",
                             ge=-1.0, le=1.0)
    strictly: bool = knob(False, "a score must exceed the cut, not only reach it")
    k: int = knob(1, "how many of the highest scores are looked at (rule top)", ge=1)
    least: int = knob(1, "boxes that make a yes (rule boxes)", ge=1)

    @property
    def threshold(self) -> float:
        """The cut that counts."""
        return self.cut if self.cut is not None else USUAL_CUT if self.rule == "any" else 0.0

    @property
    def decides(self) -> bool:
        """Whether there is a yes and a no."""
        return self.rule != "mean" or self.cut is not None

    @property
    def words(self) -> str:
        """The rule in words, with all that it was not left to guess."""
        labels = ", ".join(self.labels) or "the label of the concept's name"
        reach = f"{'above' if self.strictly else 'from'} {self.threshold:g}"
        return {"any": f"one of {labels} {reach}", "top": f"one of {labels} among the {self.k} highest, {reach}",
                "mean": f"probability of {labels} together, {reach}",
                "boxes": f"{self.least} or more boxes of {labels} {reach}"}[self.rule]

    def at(self, cut: float) -> Rule:
        """The same rule with another threshold."""
        return self.model_copy(update={"cut": cut})

    def check(self, detector: Detector) -> None:
        """Make sure that the detector could say yes at all: a label that it lacks would pass for one that is not there.

        Raises:
            UserError: no labels, labels that it does not know, or boxes of a detector that has none.
        """
        unknown = [label for label in self.labels if label not in detector.labels]
        if unknown or not self.labels:
            some = ", ".join(detector.labels[:20]) + (", ..." if len(detector.labels) > 20 else "")
            close = [near for label in unknown for near in difflib.get_close_matches(label, detector.labels, n=1)]
            raise UserError(f"the rule's labels {', '.join(map(repr, unknown)) or '(none are named)'}",
                            accepted=f"labels of {detector.name}: {some}",
                            remedy=f"did you mean {', '.join(close)}?" if close else "name them as rule.labels")
        if self.rule == "boxes" and not detector.finds_boxes:
            raise UserError(f"the rule counts boxes, and {detector.name} gives none", accepted="rule any, top or mean")

    def value(self, reading: Reading) -> float | None:
        """The number that the rule looks at; None of a reading that is a failure or an abstention."""
        if reading.error or reading.note:
            return None
        if self.rule == "boxes":
            return float(sum(box.label in self.labels and self._counts(box.score) for box in reading.boxes))
        scores = [reading.scores[label] for label in self.labels if label in reading.scores]
        if self.rule == "mean":
            return float(sum(scores))
        return max(scores, default=0.0)

    def shows(self, reading: Reading) -> bool | None:
        """Yes or no; None of a reading that is a failure or an abstention, and of a mean without a cut."""
        value = self.value(reading)
        if value is None or not self.decides:
            return None
        if self.rule == "boxes":
            return value >= self.least
        if self.rule == "mean":
            return self._counts(value)
        chosen = [label for label in self.labels if label in reading.scores]
        if self.rule == "top":  # sorted is stable: of equal scores the earlier label is the higher, as in an argmax
            highest = sorted(reading.scores, key=lambda label: -reading.scores[label])[:self.k]
            chosen = [label for label in chosen if label in highest]
        return any(self._counts(reading.scores[label]) for label in chosen)

    def _counts(self, score: float) -> bool:
        return score > self.threshold if self.strictly else score >= self.threshold
