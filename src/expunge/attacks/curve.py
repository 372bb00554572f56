"""The relearning curve: found rate against steps of fine-tuning.

Any model learns anything from enough images. What tells a forgotten concept from a hidden one is the pace: a concept
that comes back in fewer steps than an invented thing takes, on the same model with the same training, was still there.
`relearning` makes the curves that this comparison needs.

Source: Polowczyk et al. 2025 (MemoRa, 2510.03263), short-term and long-term forgetting. Differs: the invented thing as
the measure, and intervals.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from expunge.attacks.lessons import Lesson
from expunge.attacks.victim import NO_PICTURE, Goal, Item, Victim
from expunge.finetune import FineTune, fine_tuning, material
from expunge.metrics.statistics import interval_words, rate_interval
from expunge.records import NOT_FINITE, Look, Prompt, RelearningCurve, Score
from expunge.records.relearning import Taught
from expunge.train import Losses


@dataclass(frozen=True)
class Subject:
    """Something to be taught, and how to tell that it was learned.

    Attributes:
        of: which curve it makes; name: "church", "blorp". lesson: what is trained on.
        items: what is asked at every look; goal: who decides whether the answer shows it.
        detector: how often the judge is right, where it was learned on the spot.
    """

    of: Taught
    name: str
    lesson: Lesson
    items: Sequence[Item]
    goal: Goal
    detector: Score | None = None


def relearning_curve(victim: Victim, subject: Subject, tune: FineTune | None = None, *, at: Collection[int],
                     seed: int = 0, batch: int = 32, known: Mapping[int, Look] | None = None,
                     keep: Callable[[Look], None] | None = None, tell: Callable[[int], None] | None = None
                     ) -> RelearningCurve:
    """Teach a subject to the model as it is now, and look at it as it learns.

    Args:
        victim: the model (with the edit on, to attack it) and its sampler.
        tune: how; None means the defaults. The curve ends at its `steps`.
        at: numbers of steps at which to look; 0 is the model before training.
        seed: of the training. batch: images drawn together.
        known: looks of an earlier call with the same arguments, by steps: they are not drawn again, and where all are
            known nothing is trained.
        keep: called with every new look. tell: called with the steps done, after each.

    Raises:
        UserError: images, captions or prompts that do not fit the model, or weights that cannot train.
    """
    tune, looks, began = tune or FineTune(), dict(known or {}), time.monotonic()
    stops = {step for step in at if step < tune.steps} | {tune.steps}
    if stops - looks.keys():
        _train(victim, subject, tune, stops, seed, batch, looks, keep, tell)
    lesson = subject.lesson
    return RelearningCurve(of=subject.of, subject=subject.name, pictures=len(lesson.pictures), whose=lesson.whose,
                           judge=subject.goal.judge.name, detector=subject.detector,
                           looks=tuple(looks[step] for step in sorted(stops)),
                           seconds=round(time.monotonic() - began, 1))


def _train(victim: Victim, subject: Subject, tune: FineTune, stops: Collection[int], seed: int, batch: int,
           looks: dict[int, Look], keep: Callable[[Look], None] | None, tell: Callable[[int], None] | None) -> None:
    def report(done: int, total: int, losses: Losses) -> None:
        if tell is not None:
            tell(done)

    learned = material(victim.model, subject.lesson.pictures, subject.lesson.captions)
    with fine_tuning(victim.model, learned, tune, seed=seed) as tuner:
        for steps in tuner.train(stops, progress=report):
            if steps not in looks:
                looks[steps] = Look(steps=steps, found=_look(victim, subject, steps, tune, batch))
                if keep is not None:
                    keep(looks[steps])
            if not stops - looks.keys():
                return


def _look(victim: Victim, subject: Subject, steps: int, tune: FineTune, batch: int) -> Score:
    texts, seeds = [prompt.text for prompt, _ in subject.items], [seed for _, seed in subject.items]
    sights = victim.seen(subject.goal, subject.items, batch)
    per_item = {f"{text}/{seed}": float(sight.found) for text, seed, sight in zip(texts, seeds, sights, strict=True)
                if not sight.error}
    groups: dict[str, list[float]] = {}
    for text, sight in zip(texts, sights, strict=True):
        if not sight.error:
            groups.setdefault(text, []).append(float(sight.found))
    n, hits = len(per_item), int(sum(per_item.values()))
    spoilt = sum(sight.error == NO_PICTURE for sight in sights)
    low, high = rate_interval(groups)
    lesson = subject.lesson
    return Score(name=f"relearn/{subject.of}/{steps}", title=f"{subject.name} found after {steps} steps of training",
                 value=hits / n if n else None, low=low, high=high, n=n, numerator=hits if n else None,
                 prompts=len(groups), interval=interval_words(groups),
                 denominator="images on which the detector worked; an abstention counts as not found",
                 left_out={"detector failed": len(sights) - n - spoilt, **({NOT_FINITE: spoilt} if spoilt else {})},
                 higher_is_better=None, seeds=tuple(sorted({*seeds})),
                 per_item=per_item, note=f"{tune.scope}, learning rate {tune.learning_rate:g}, batch {tune.batch}, on "
                                         f"{len(lesson.pictures)} images of {lesson.whose}")


def items_of(prompts: Sequence[Prompt], count: int, first_seed: int = 0) -> list[Item]:
    """`count` different items: every prompt at the first seed, then every prompt at the next one, as far as it goes.

    The first seed of a prompt whose list gives it one is that. A text that is there more than once gets its next free
    seed each time.
    """
    begins = [first_seed if prompt.seed is None else prompt.seed for prompt in prompts]
    out, taken = list[Item](), set[tuple[str, int]]()
    for k in range(count):
        prompt = prompts[k % len(prompts)]
        seed = begins[k % len(prompts)] + k // len(prompts)
        while (prompt.text, seed) in taken:
            seed += 1
        taken.add((prompt.text, seed))
        out.append((prompt, seed))
    return out
