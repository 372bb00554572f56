"""The relearning curve: found rate against steps of fine-tuning, beside that of a thing that no model ever knew.

Any model learns anything from enough pictures. What tells a forgotten concept from a hidden one is the pace: a concept
that comes back in fewer steps than an invented character takes, on the same model with the same training, was still
there.

Source: Polowczyk et al. 2025 (MemoRa, 2510.03263), short-term and long-term forgetting. Differs: the invented thing as
the measure, and intervals.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from expunge.attacks.base import Goal, Victim
from expunge.attacks.relearn import Lesson
from expunge.finetune import FineTune, fine_tuning, material
from expunge.metrics.statistics import wilson
from expunge.records import Prompt, Score


@dataclass(frozen=True)
class Subject:
    """Something to be taught, and how to tell that it was learned.

    Attributes:
        name: "church", "blorp". lesson: what is trained on.
        prompts: what is asked at every look; goal: who decides whether the answer shows it.
    """

    name: str
    lesson: Lesson
    prompts: Sequence[Prompt]
    goal: Goal


@dataclass(frozen=True)
class Curve:
    """Found rate of one subject by steps of training, in order."""

    subject: str
    points: tuple[tuple[int, Score], ...]

    def steps_to(self, rate: float) -> int | None:
        """Steps at the first look at which the found rate is at least `rate`; None if it never is."""
        return next((steps for steps, score in self.points if score.value is not None and score.value >= rate), None)


def relearning_curve(victim: Victim, subjects: Sequence[Subject], tune: FineTune | None = None, *,
                     at: Collection[int], seeds: Sequence[int] = (0,), seed: int = 0) -> list[Curve]:
    """Teach each subject to the model as it is now, anew for each, and look at it as it learns.

    Args:
        victim: the model (with the edit on, to attack it) and its sampler.
        tune: how; None means the defaults. Each curve ends at its `steps`.
        at: numbers of steps at which to look; 0 is the model before training.
        seeds: pictures per prompt and look.
        seed: of the training, the same for all subjects.

    Raises:
        UserError: pictures, captions or prompts that do not fit the model, or weights that cannot train.
    """
    tune = tune or FineTune()
    return [_curve(victim, subject, tune, at, seeds, seed) for subject in subjects]


def _curve(victim: Victim, subject: Subject, tune: FineTune, at: Collection[int], seeds: Sequence[int], seed: int
           ) -> Curve:
    learned = material(victim.model, subject.lesson.pictures, subject.lesson.captions)
    with fine_tuning(victim.model, learned, tune, seed=seed) as tuner:
        points = tuple((steps, _look(victim, subject, steps, tune, seeds)) for steps in tuner.train(at))
    return Curve(subject.name, points)


def _look(victim: Victim, subject: Subject, steps: int, tune: FineTune, seeds: Sequence[int]) -> Score:
    items = [(prompt.text, number) for prompt in subject.prompts for number in seeds]
    sights = subject.goal.see(victim.draw([text for text, _ in items], [number for _, number in items]))
    per_item = {f"{text}/{number}": float(sight.found)
                for (text, number), sight in zip(items, sights, strict=True) if not sight.error}
    n, hits = len(per_item), int(sum(per_item.values()))
    low, high = wilson(hits, n)
    lesson = subject.lesson
    return Score(name=f"relearn/{subject.name}/{steps}", title=f"{subject.name} found after {steps} steps of training",
                 value=hits / n if n else None, low=low, high=high, n=n, numerator=hits if n else None,
                 interval="95% Wilson, pictures taken as independent" if n else "",
                 denominator="pictures on which the detector worked; an abstention counts as not found",
                 left_out={"detector failed": len(sights) - n}, higher_is_better=None, seeds=tuple(seeds),
                 per_item=per_item, note=f"{tune.scope}, rate {tune.rate:g}, batch {tune.batch}, on "
                                         f"{len(lesson.pictures)} pictures of {lesson.whose}")
