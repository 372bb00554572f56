"""How fast does fine-tuning bring the concept back? Three curves that are worth nothing alone.

    edited     the concept, taught to the edited model: what an attacker who holds the weights does
    unknown    an invented thing, taught to the edited model with as many images: how fast anything is learned
    original   the concept, taught to the original model: what the training does to a model that knows it

A concept that the edited model draws again in fewer steps than it takes to learn the invented thing was still there.
The invented thing is drawn at run time under a made-up name. Its detector stands on the world's features, or, where
that has none, on ImageNet features; where there are neither there is no such measure, and the record says so.

A folder holds `relearning.json` (the `Relearning`) and `relearning/`, the looks made so far. An interrupted run trains
again, which its seed makes the same, and draws only the looks that are missing.

Source: ours; curves as in Polowczyk et al. 2025 (MemoRa, 2510.03263). Differs: see `curve`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from expunge import runtime, untrusted
from expunge.attacks.curve import Subject, items_of, relearning_curve
from expunge.attacks.lessons import Lesson
from expunge.attacks.relearn import Relearn
from expunge.attacks.settings import RelearnSettings
from expunge.attacks.stage import drawable, lost_words, named_prompts, pictures_in, prompts_of, sought, told_of_own
from expunge.attacks.victim import Goal, Victim, fresh_seed
from expunge.config import merged
from expunge.detectors.choosing import world_for
from expunge.detectors.watched import detector_words
from expunge.errors import UserError
from expunge.files import check_writable, write_json
from expunge.finetune import picture_folder
from expunge.isolated import isolated
from expunge.locks import alone_in_out
from expunge.metrics.base import Aim, Features
from expunge.metrics.extras import outside_features
from expunge.metrics.judging import check_questions
from expunge.metrics.prompts import aim_at
from expunge.metrics.reliability import NULL, SELDOM
from expunge.metrics.worlds import World
from expunge.models.fitting import split, unfit
from expunge.models.hashing import tensors_hash
from expunge.models.model import Model, applied, drawn_by
from expunge.models.patch import Patch, check_given
from expunge.records import RELEARNINGS, Look, Prompt, Relearning, RelearningCurve, Request
from expunge.registry import ATTACKS
from expunge.resume import Inputs, damaged
from expunge.runtime import Progress

KNOWN = 48
"""Images of other things, from which the invented one must be told."""
USUAL = 16
"""Prompts at every look where the user brings none of his own."""
_UNTAUGHT = 2
"""Images for each prompt of the invented one before it is taught: whatever they show, it is something else."""
_RIGHT = 0.8
"""A detector that is right less often gets a warning."""


@isolated
@alone_in_out("relearning")  # attacks may write beside it
def relearn(model: Model, patch: Patch | None, *, concept: str = "", settings: RelearnSettings | None = None,
            out: str | Path, progress: Progress | None = None, world: World | None = None) -> Relearning:
    """Measure how fast an edited model learns its concept again.

    Args:
        model: the base model, without a patch on.
        patch: the edit; None makes the curves of the model as it is, for `concept`.
        concept: what is taught; "" means what the patch took out.
        settings: None means the defaults.
        out: folder for everything; a run that was stopped goes on from there.
        progress: told (training steps done, in all, what is taught).
        world: prompts and judge; None means the model's world.

    Raises:
        UserError: a patch for another model, a concept that the judge does not know or that the original model does not
            draw, weights that cannot train, or images that do not fit.
        ConfigError: the folder holds looks of other settings. StorageError: it cannot be written.
    """
    check_given(model, patch, or_none=True)
    began, settings, folder = time.monotonic(), RelearnSettings.given(settings), Path(out)
    attack = training_attack(settings)
    world = world_for(model.world, model.name, settings, world)
    request, victim, goal, prompts = rehearsed(model, patch, concept, settings, world)
    chosen = named_prompts(world.prompts, request, settings.count, USUAL, settings.add_templates)
    check_writable(folder)
    subjects, no_unknown = _subjects(world, request, victim, goal, prompts, attack, settings)
    curves = _curves(subjects, victim, attack, settings.batch, folder / "relearning",
                     progress or (lambda done, total, note: None))
    made = Relearning(
        card=patch.card if patch else None, request=request, model=model.name, model_hash=model.hash,
        patch_hash=patch.hash if patch else "", sampler=victim.sampler, drawn=drawn_by(model), curves=tuple(curves),
        given=(*detector_words(world),
               *told_of_own(world.prompts, request, settings, len(chosen), lost=unfit(model, chosen, victim.sampler)),
               *lost_words(victim, chosen), *(_told_by(curve) for curve in curves if curve.detector is not None),
               *(picture_folder(settings.pictures).notices if settings.pictures else ())),
        enough=settings.enough, no_unknown=no_unknown, warnings=tuple(relearning_warnings(curves)),
        settings=settings.model_dump(mode="json"), versions=runtime.versions(), machine=runtime.machine(model.device),
        seconds=round(time.monotonic() - began, 1), created=datetime.now(timezone.utc).isoformat(timespec="seconds"))
    write_json(folder / RELEARNINGS.name, made.model_dump(mode="json"))
    return made


def rehearsed(model: Model, patch: Patch | None, concept: str, settings: RelearnSettings,
              world: World | None = None) -> tuple[Request, Victim, Goal, list[Prompt]]:
    """What is sought, from whom, when it counts as found, and the prompts that ask for it; nothing is drawn.

    Raises:
        UserError: what `relearn` refuses before it draws anything.
    """
    world = world_for(model.world, model.name, settings, world)
    request = sought(world.prompts, patch, concept)
    if patch is not None:
        with applied(model, patch):
            pass  # a patch for another model must not cost an hour first
    victim = Victim(model, patch, settings.sampler(model), pictures_in(settings.pictures), settings.batch)
    goal = Goal(world.judge(request), aim_at(world.prompts, request))
    asked = named_prompts(world.prompts, request, settings.count, USUAL, settings.add_templates)
    prompts = [prompt for prompt, _ in drawable(victim, [(prompt, 0) for prompt in asked])[0]]
    for question, label in goal.aim.wanted.items():
        check_questions(goal.judge, label, question, prompts)
    training_attack(settings).check(victim, request, [])
    return request, victim, goal, prompts


def training_attack(settings: RelearnSettings) -> Relearn:
    """The attack whose training it is. ConfigError for bad options; UserError for looks that make no curve."""
    looks = sorted({*settings.at})
    if len(looks) < 2 or looks[0] < 0:
        raise UserError(f"looks at {', '.join(map(str, looks)) or 'no'} steps",
                        accepted="two or more numbers of training steps, such as 0, 10, 100")
    if "steps" in settings.tune:
        raise UserError("tune.steps", accepted="the last of `at`, where the training ends")
    kind: type[Relearn] = ATTACKS.get(settings.training)
    values = merged({"pictures": settings.lesson}, {"tune": {**settings.tune, "steps": looks[-1]}, "at": looks})
    return kind.build(values, "expunge relearn")


def _subjects(world: World, request: Request, victim: Victim, goal: Goal, prompts: list[Prompt], attack: Relearn,
              settings: RelearnSettings) -> tuple[list[Subject], str]:
    """What is taught, and why nothing unknown is among it. The patch is off."""
    lesson = attack.lesson(victim, request, goal)
    if not len(lesson.pictures):
        raise UserError(f"none of {lesson.drawn} images of the original model shows {request.concept!r}",
                        accepted="a concept that it draws, or images of your own")
    count = len(prompts) * settings.seeds if settings.count is None else settings.count * settings.seeds
    items = items_of(prompts, count, settings.first_seed)
    out = [Subject("edited", request.concept, lesson, items, goal)] if victim.patch is not None else []
    unknown, why = _unknown(world, request, victim, len(lesson.pictures), count, settings)
    return [*out, *unknown, Subject("original", request.concept, lesson, items, goal)], why


def _unknown(world: World, request: Request, victim: Victim, pictures: int, count: int, settings: RelearnSettings
             ) -> tuple[list[Subject], str]:
    """Something that the model never knew, if there is any, else why there is not."""
    newcomer = world.unknown.newcomer() if world.unknown else None
    if newcomer is None:
        return [], f"nothing is known that {victim.model.name} never saw"
    features = _features(world)
    if isinstance(features, str):
        return [], f"nobody could tell {newcomer.name!r} from other things: {features}"
    others, own = (split(victim.model, prompts, victim.sampler)[0] for prompts in (
        prompts_of(world.prompts, request, near=KNOWN // 2, far=KNOWN // 2), newcomer.prompts))
    if not own:
        return [], f"{victim.model.name} cannot be asked for {newcomer.name!r} as {newcomer.prompts[0].text!r}"
    first = settings.first_seed
    asked = items_of(others, KNOWN if others else 0, first)
    asked += [(prompt, fresh_seed(first, k)) for k in range(1, _UNTAUGHT + 1) for prompt in own]
    drawn = victim.draw([prompt.text for prompt, _ in asked], [seed for _, seed in asked], settings.batch)
    judge = newcomer.judge(victim.model, features, drawn)
    lesson = Lesson(*newcomer.pictures(pictures, *drawn.shape[-2:]), whose="an invented thing")
    goal = Goal(judge, Aim(newcomer.name, newcomer.question), known=False)
    return [Subject("unknown", newcomer.name, lesson, items_of(own, count, first), goal, judge.score)], ""


def _told_by(curve: RelearningCurve) -> str:
    """By what, and how well, the invented thing is told from others."""
    score = curve.detector
    assert score is not None
    return f"“{curve.subject}” is seen in {score.numerator or 0} of {score.n} drawings of it held out, {score.note}."


def _features(world: World) -> Features | str:
    """The world's, else those of a network that comes as a package; a sentence where there are neither."""
    try:
        return world.features()
    except UserError as error:
        outside = outside_features()
        return outside if not isinstance(outside, str) else f"{error}; {outside}"


def _curves(subjects: Sequence[Subject], victim: Victim, attack: Relearn, batch: int, folder: Path, progress: Progress
            ) -> list[RelearningCurve]:
    """One curve after the other, the looks of each kept in a file of its own."""
    curves, last, known = [], attack.tune.steps, list[_Kept]()
    for subject in subjects:  # all are looked at before one is taught
        with _as_taught(victim, subject):
            known.append(_Kept(folder / f"{subject.of}.json", _inputs(victim, subject, attack)))
    for number, subject in enumerate(subjects):
        whom = "original" if subject.of == "original" or victim.patch is None else "edited"
        words = f"teaching {subject.name} to the {whom} model"

        def report(done: int, before: int = number * last, words: str = words) -> None:
            progress(before + done, len(subjects) * last, words)

        report(0)
        with _as_taught(victim, subject):
            curves.append(relearning_curve(victim, subject, attack.tune, at=attack.at, seed=attack.seed, batch=batch,
                                           known=known[number].looks, keep=known[number].add, tell=report))
    return curves


@contextmanager
def _as_taught(victim: Victim, subject: Subject) -> Iterator[None]:
    """The patch is on inside, where there is one and the edited model is taught."""
    if victim.patch is None or subject.of == "original":
        yield
    else:
        with applied(victim.model, victim.patch):
            yield


class _Kept:
    """Looks made so far, on disk.

    Raises:
        ConfigError: they were made under other settings. ModelError: the file is damaged.
    """

    def __init__(self, file: Path, under: Inputs) -> None:
        self._file, self._under = file, under
        self.looks: dict[int, Look] = {}
        if not file.is_file():
            return
        try:
            stored = untrusted.json_of(file)
            looks, _ = [Look.model_validate(look) for look in stored["looks"]], stored["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise damaged(file, error) from error
        under.check(file, stored)
        self.looks = {look.steps: look for look in looks}

    def add(self, look: Look) -> None:
        """Keep one more."""
        self.looks[look.steps] = look
        write_json(self._file, {**self._under.record,
                                "looks": [one.model_dump(mode="json") for one in self.looks.values()]})


def _inputs(victim: Victim, subject: Subject, attack: Relearn) -> Inputs:
    """All that decides the looks."""
    model, goal, lesson = victim.model, subject.goal, subject.lesson
    own = partial(attack.model_dump, mode="json", exclude={"batch"})
    return Inputs({
        "model": model.hash, "patch": model.patch_hash, "drawing": model.drawing,
        "sampler": victim.sampler.model_dump(mode="json"),
        "settings": own(), "curve": subject.of, "taught": subject.name,
        "items": [(prompt.text, seed) for prompt, seed in subject.items], "judge": goal.judge.name,
        "question": goal.aim.question, "concept": goal.aim.concept,
        "pictures": tensors_hash({"pictures": lesson.pictures}), "captions": lesson.captions,
    }, former={"drawing": model.former_drawing, "settings": own(by_alias=True)})


def relearning_warnings(curves: list[RelearningCurve]) -> list[str]:
    """One sentence per sign that the curves say less than they seem to."""
    by_kind, out = {curve.of: curve for curve in curves}, []
    original, unknown = by_kind.get("original"), by_kind.get("unknown")
    if original is not None and original.looks and not original.looks[0].found.n:
        out.append("rare detector: no image of the original model before any training could be judged")
    elif original is not None and original.looks and (original.looks[0].found.value or 0.0) < SELDOM:
        found = original.looks[0].found
        out.append(f"rare detector: the judge finds the concept in only {found.numerator or 0} of {found.n} images "
                   "of the original model before any training")
    if unknown is None:
        return out
    if unknown.detector is not None and (unknown.detector.value or 0.0) < _RIGHT:
        out.append(f"weak detector: the judge of {unknown.subject!r} sees it in {unknown.detector.numerator or 0} of "
                   f"{unknown.detector.n} images of it that it did not learn from")
    if unknown.looks and (unknown.looks[0].found.value or 0.0) > NULL:
        found = unknown.looks[0].found
        out.append(f"null control scores: {unknown.subject!r} is \"found\" in {found.numerator} of {found.n} images "
                   "before it was taught")
    return out
