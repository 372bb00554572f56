"""A detector and a rule as a judge of a concept, so that all that asks a judge can ask any detector.

The detector decides whether the concept is there. What else an image shows it may not know: for that another judge, the
world's own, is asked, and its answer stands where it is not the concept. Where the detector says no and nobody says
what else there is, the answer is "something else".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from expunge.detectors.base import Detector, Reading
from expunge.detectors.reading import read
from expunge.detectors.rule import Rule
from expunge.errors import ConfigError, UserError
from expunge.files import text_digest
from expunge.metrics.base import Judge
from expunge.metrics.clip import SOMETHING_ELSE
from expunge.metrics.judging import ask
from expunge.records import Detection


class DetectorJudge:
    """`Judge`: a detector for the concepts, and beside it another judge for the rest.

    Attributes:
        name: the detector's, with a digest of the rules, and the other judge's.
        questions: labels by question: the concepts, and the other judge's.
        rules: what of a reading shows a concept, by concept.
    """

    def __init__(self, detector: Detector, rules: Mapping[str, Rule], question: str = "object",
                 beside: Judge | None = None) -> None:
        """Make it.

        Args:
            rules: by concept. question: the one that the concepts answer. beside: who is asked for the rest.

        Raises:
            UserError: no rules, or one with labels that the detector does not have.
            ConfigError: a rule that gives no yes and no.
        """
        if not rules:
            raise UserError("a detector without a concept to look for", accepted="a rule for each concept")
        for rule in rules.values():
            rule.check(detector)
            if not rule.decides:
                raise ConfigError("the rule mean has no yes and no", accepted="rule.cut, or another rule")
        self._detector, self.rules, self._question, self._beside = detector, dict(rules), question, beside
        known = dict(beside.questions) if beside is not None else {}
        own = dict.fromkeys([*rules, *known.get(question, ()), SOMETHING_ELSE])
        self.questions: dict[str, tuple[str, ...]] = {**known, question: tuple(own)}
        told = "+".join(f"{concept}:{rule.model_dump_json()}" for concept, rule in sorted(rules.items()))
        self.name = f"{detector.name}/{text_digest(told)[:8]}" + (f"+{beside.name}" if beside is not None else "")

    def __call__(self, pictures: Tensor) -> list[Detection]:
        """One answer per image. A failure of either is a failure."""
        others: Sequence[Detection] = [Detection()] * len(pictures) if self._beside is None or not len(pictures) else \
            ask(self._beside, pictures)
        return [self._answer(reading, other)
                for reading, other in zip(read(self._detector, pictures), others, strict=True)]

    def _answer(self, reading: Reading, other: Detection) -> Detection:
        if reading.error or other.error:
            return Detection(error=reading.error or f"{self._beside.name if self._beside else ''}: {other.error}")
        shown = {concept: rule.shows(reading) for concept, rule in self.rules.items()}
        values = {concept: value for concept, rule in self.rules.items() if (value := rule.value(reading)) is not None}
        answers = dict(other.answers)
        seen = [concept for concept, yes in shown.items() if yes]
        if seen:
            answers[self._question] = max(seen, key=lambda concept: values[concept])
        elif None in shown.values():
            answers.pop(self._question, None)
        elif answers.get(self._question, SOMETHING_ELSE) in (*self.rules, SOMETHING_ELSE):
            answers[self._question] = SOMETHING_ELSE  # also where the other judge abstains: the detector has decided
        sure = {self._question: round(max(values.values()), 4)} if values else {}
        return Detection(answers=answers, confidence={**other.confidence, **sure})


def rule_for(concept: str, detector: Detector, rule: Rule) -> Rule:
    """The rule with its labels; one that names none looks for the detector's label of the concept's name.

    ImageNet's labels are lists of names ("church, church building"): any of them will do.

    Raises:
        UserError: the detector has no such label.
    """
    if rule.labels:
        return rule
    wanted = concept.strip().casefold()
    found = [label for label in detector.labels if wanted in (label.casefold(), *_names(label))]
    if not found:
        some = ", ".join(detector.labels[:12]) + (", ..." if len(detector.labels) > 12 else "")
        raise UserError(f"{detector.name} has no label {concept!r}", accepted=f"its labels: {some}",
                        remedy="say which of them show it: --detector-option 'rule.labels=[LABEL, ...]', or the name "
                               "of a usual rule of the detector (`expunge ls detectors`)")
    return rule.model_copy(update={"labels": tuple(found)})


def _names(label: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in label.casefold().partition(" #")[0].split(","))
