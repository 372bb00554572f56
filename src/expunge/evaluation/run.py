"""An evaluation from end to end: draw with both models, judge, score, write the record."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from expunge import runtime
from expunge.errors import ConfigError
from expunge.evaluation.plan import (
    EvaluateSettings,
    drawable,
    lost_items,
    lost_words,
    not_tested,
    planned_items,
    planned_prompts,
    prompts_digest,
)
from expunge.evaluation.show import draw_finds, finds, shown_prompts, strips
from expunge.files import check_writable, write_json
from expunge.isolated import isolated
from expunge.locks import alone_in_out
from expunge.metrics.base import OfKin
from expunge.metrics.brought import given_prompts
from expunge.metrics.prompts import LeavesOut, Prompts, aims_of
from expunge.metrics.worlds import World
from expunge.records import (
    EVALUATIONS,
    KEEP_ROLES,
    Evaluation,
    Prompt,
    Request,
    Score,
    SuiteResult,
    counted,
    overlap,
)
from expunge.resume import kept
from expunge.runtime import Progress
from expunge.suite_results import Under, apart, beside, check_judge, check_same, suite_folder, untried

if TYPE_CHECKING:  # help texts need the settings and nothing of what follows
    from expunge.metrics.integrity import ImageSet
    from expunge.metrics.measure import Instruments, Part, Share
    from expunge.models.cache import ImageCache
    from expunge.models.model import Model
    from expunge.models.patch import Patch


@isolated
@alone_in_out(when=lambda: runtime.current().main)
def evaluate(model: Model, patch: Patch, *, settings: EvaluateSettings | None = None,
             out: str | Path | None = None, cache: str | Path | None = None, progress: Progress | None = None,
             world: World | None = None, suite: str | Path | SuiteResult | None = None) -> Evaluation:
    """Measure what a patch does to a model.

    Args:
        model: the base model, without a patch on.
        patch: the edit.
        settings: how to measure; None means the defaults.
        out: folder for the results; None keeps none (and the evaluation has no images to show).
        cache: folder of drawn images; None means the user's own cache.
        progress: told of every piece of work.
        world: prompts and instruments; None means the model's world.
        suite: what attacks on this patch found: the folder that they were written to, or their record alone (which
            shows no images of theirs). The verdict then rests on the worst case. Relearning curves in the folder are
            taken in, too. Attacks are for one concept at a
            time; of a patch for several, those on one can be given.

    Raises:
        UserError: the patch is for another model, a patch is on already, the judge could not find the concept, or the
            attacks were made on something else, drawn or judged otherwise, or cannot be read; another run that writes
            into `out`, or another edit's evaluation there (ConfigError).
        StorageError: results cannot be written.
    """
    from expunge.detectors.watched import detector_words
    from expunge.models.cache import ImageCache
    from expunge.models.patch import check_given
    from expunge.models.paths import left_open

    check_given(model, patch)
    began, processes = time.monotonic(), runtime.current()
    settings, tell = EvaluateSettings.given(settings), progress or (lambda done, total, note: None)
    attacks, relearning = beside(suite)
    request = patch.card.request
    world = _world(model, settings, world)
    asked, tools = rehearsed(model, patch, settings, world, suite)
    prompts, lost = drawable(model, asked, tools.aims, settings)
    if out is not None:
        check_writable(Path(out))
        _check_same_edit(Path(out), patch)
    pictures = ImageCache(cache)
    drawn = _draw(model, patch, prompts, settings, pictures, processes, tell)
    found = draw_finds(model, patch, attacks, settings, pictures, processes, tell)
    folder = Path(out) if out is not None else None
    evaluation = _measure(model, patch, prompts, tools, drawn, settings, pictures.root, folder, processes, tell, lost)
    records = {}
    if processes.main:  # the others wait in gather for what it made of it
        there = {prompt.stratum for prompt in prompts}
        strata = {name: stratum for name, stratum in world.prompts.strata.items() if name in there}
        shown = finds(found, suite_folder(suite), pictures.root, folder)
        untested = (*untried(attacks, request.concepts, relearning is not None), *evaluation.not_tested)
        around = left_open(model, patch.weights)
        warnings = (*evaluation.warnings, *filter(None, [around]),
                    *(line for made in (attacks, relearning) if made is not None
                      for line in apart(made, evaluation.versions, evaluation.machine)))
        cut = len(model.too_long([prompt.text for prompt in prompts])) if settings.truncate else 0
        said = [*detector_words(world), *given_prompts(world.prompts, request, settings.counts),
                *lost_words(prompts, lost, cut), *_sizes(drawn[0]), *_own_lists(world.prompts, patch, prompts)]
        evaluation = evaluation.model_copy(update={
            "given": tuple(said), "left_out": {prompt.text: why for prompt, why in lost}, "warnings": warnings,
            "suite": attacks, "finds": shown, "relearning": relearning,
            "not_tested": untested, "strata": {name: stratum.words for name, stratum in strata.items()},
            "plain": tuple(name for name in strata if strata[name].plain),
            "seconds": round(time.monotonic() - began, 1)})
        if folder is not None:
            write_json(folder / EVALUATIONS.name, evaluation.model_dump(mode="json"))
        records[0] = evaluation.model_dump(mode="json")
    return Evaluation.model_validate(processes.gather(records)[0])


def rehearsed(model: Model, patch: Patch, settings: EvaluateSettings, world: World | None = None,
              suite: str | Path | SuiteResult | None = None) -> tuple[list[Prompt], Instruments]:
    """The prompts that are asked and the instruments that measure; nothing is drawn.

    Raises:
        UserError: what `evaluate` refuses before it draws anything.
    """
    from expunge.models.model import drawn_by

    model.check_fits(patch)  # a patch for another model must not cost an hour of drawing first
    world, request = _world(model, settings, world), patch.card.request
    taken_in = [made for made in beside(suite) if made is not None]
    for made in taken_in:
        under = Under(model.hash, patch.hash, settings.sampler(model), drawn_by(model))
        check_same(made, under, request.concepts)
    prompts = planned_prompts(world.prompts, request, settings)
    tools = instruments(world, request, prompts, settings)
    alone = {one.concept: one for one in request.alone()}
    for made in taken_in:  # attacks ask for one concept; a judge may be made for what it is asked
        check_judge(made, tools.judge.name if len(alone) == 1 else world.judge(alone[made.request.concept]).name)
    return prompts, tools


def _check_same_edit(folder: Path, patch: Patch) -> None:
    """ConfigError: another edit's evaluation lies in the folder, which this one would replace."""
    there = kept(EVALUATIONS.read, folder, EVALUATIONS.name)
    if there is not None and there.card.tensors_hash != patch.hash:
        raise ConfigError(f"{folder / EVALUATIONS.name} is that of another edit ({there.card.tensors_hash[:8]} of "
                          f"{', '.join(there.card.request.concepts)})", accepted="a folder of its own for each edit",
                          remedy="choose another folder, or delete it")


def _own_lists(asks: Prompts, patch: Patch, prompts: Sequence[Prompt]) -> list[str]:
    """In sentences: what of its own lists is not asked, and which prompts the edit was made from as well."""
    request = patch.card.request
    out = list(asks.left_out(request)) if isinstance(asks, LeavesOut) else []
    made = {text for texts in patch.texts.values() for text in texts}
    texts = [prompt.text for prompt in prompts]
    both = dict.fromkeys([*overlap(request, texts), *(text for text in texts if text in made and text)])
    if both:
        some = ", ".join(map(repr, [*both][:4])) + (", ..." if len(both) > 4 else "")
        total = counted(len(texts), "prompts")
        out.append(f"{len(both)} of {total} among the texts that the edit was made from: {some}.")
    return out


def _world(model: Model, settings: EvaluateSettings, world: World | None) -> World:
    from expunge.detectors.choosing import world_for

    return world_for(model.world, model.name, settings, world)


def instruments(world: World, request: Request, prompts: Sequence[Prompt], settings: EvaluateSettings) -> Instruments:
    """Load all instruments and try them, so that nothing is missing after hours of drawing."""
    from expunge.metrics.extras import outside_features, tolerant_distance
    from expunge.metrics.judging import check_questions
    from expunge.metrics.measure import Instruments

    aims, second = aims_of(world.prompts, request), world.second(request)
    outside, tolerant = outside_features(), tolerant_distance()
    missing = [part for part in (outside, tolerant) if isinstance(part, str)]
    if second is None:
        missing.append("no second judge: this world has none, so that every rate rests on one")
    elif isinstance(second, OfKin) and second.kin:
        missing.append(f"the second judge is no independent one: {second.kin}")
    features, real = world.features(), world.reference()
    if real is not None and real.features != features.name:  # a world's own; one that is named is of these features
        missing.append(f"no statistics of real images: those of the world are of {real.features}")
        real = None
    tools = Instruments(
        world.judge(request), aims, features, world.distance(), world.clip(), real, second,
        None if isinstance(outside, str) else outside, None if isinstance(tolerant, str) else tolerant,
        {target.concept: target.anchor for target in request.targets}, tuple(missing))
    for aim in aims:
        for question, label in aim.wanted.items():
            check_questions(tools.judge, label, question, prompts)
    tools.try_out()
    return tools


def _draw(model: Model, patch: Patch, prompts: Sequence[Prompt], settings: EvaluateSettings,
          pictures: ImageCache, processes: runtime.Runtime, tell: Progress) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Images of the original, of the edited model, and some of the original's drawn again in other batches."""
    from expunge.metrics.integrity import ImageSet
    from expunge.models.cache import ImageCache
    from expunge.models.cache_size import APART
    from expunge.models.model import applied

    items, sampler = planned_items(prompts, settings), settings.sampler(model)  # an image may be none: `spoilt`

    def draw(where: ImageCache, what: Sequence[tuple[Prompt, int]], batch: int, words: str) -> ImageSet:
        shots, pixels = where.spooled(model, what, sampler, batch=batch, processes=processes,
                                   progress=lambda done, total: tell(done, total, words), go_on=True)
        return ImageSet(shots, pixels)

    original = draw(pictures, items, settings.batch, "drawing with the original model")
    keep = [item for item in items if item[0].role in KEEP_ROLES]
    other = settings.batch // 2 + 1 if settings.batch > 1 else 2
    apart = ImageCache(pictures.root / f"{APART}{other}")
    again = draw(apart, keep[::max(1, len(keep) // max(1, settings.floor_items))][:settings.floor_items], other,
                 "drawing some again")
    with applied(model, patch):
        edited = draw(pictures, items, settings.batch, "drawing with the edited model")
    return original, edited, again


def _measure(model: Model, patch: Patch, prompts: Sequence[Prompt], tools: Instruments,
             drawn: tuple[ImageSet, ImageSet, ImageSet], settings: EvaluateSettings, root: Path, folder: Path | None,
             processes: runtime.Runtime, tell: Progress, lost: Sequence[tuple[Prompt, str]]) -> Evaluation:
    """Judge and score what was drawn (original, edited, original again), shared out; copy the images to show."""
    from expunge.metrics.judging import judged
    from expunge.metrics.measure import measured
    from expunge.metrics.reliability import evaluation_warnings
    from expunge.metrics.spoilt import Spoilt, finite_only, rows_in_both
    from expunge.models.model import drawn_by

    (original, none), (edited, broken), (again, _) = map(finite_only, drawn)
    before_and_after = rows_in_both(original, edited)
    pairs = original.only(before_and_after[0]), edited.only(before_and_after[1])
    judges = [(tools.judge, "judgments.jsonl"), *([(tools.second, "judgments-second.jsonl")] if tools.second else [])]
    said = []
    for judge, file in judges:
        before, after = judged([original, edited], judge, folder / file if folder else None,
                               lambda done, total: tell(done, total, "judging"), processes)
        said.append((before, after))
    request, chosen = patch.card.request, shown_prompts(prompts, tools.aims, settings.strips)
    sampler = settings.sampler(model)
    scores = measured(original, edited, again, said, tools, draws=settings.draws,
                      fid_draws=settings.fid_draws, seed=settings.bootstrap_seed, share=_shared(processes, tell),
                      lost=lost_items(lost, settings), spoilt=Spoilt(broken, none))
    return Evaluation(
        card=patch.card, model=model.name, model_hash=model.hash, sampler=sampler, drawn=drawn_by(model),
        prompts_hash=prompts_digest(prompts), detectors=tools.names(),
        scores=tuple(scores), strips=strips(*pairs, chosen, settings, root, folder if processes.main else None),
        not_tested=(*not_tested(prompts, tools.aims, sampler), *map(_sentence, tools.missing)),
        warnings=tuple(evaluation_warnings(scores, request.concepts)),
        settings=settings.model_dump(mode="json"), versions=runtime.versions(),
        machine=runtime.machine(model.device), created=datetime.now(timezone.utc).isoformat(timespec="seconds"))


def _shared(processes: runtime.Runtime, tell: Progress) -> Share:
    """Parts of the measuring, each done by one of the processes."""
    def share(parts: Sequence[Part]) -> list[list[Score]]:
        mine: dict[int, list[Score]] = {}
        own = processes.shard(range(len(parts)))
        for done, number in enumerate(own):
            words, part = parts[number]
            tell(done, len(own), words)
            mine[number] = part()
        tell(len(own), len(own), "measured")
        if processes.count == 1:
            return [mine[number] for number in own]
        told = processes.gather({number: [score.model_dump(mode="json") for score in scores]
                                 for number, scores in mine.items()})
        return [[Score.model_validate(score) for score in scores] for scores in told]

    return share


def _sizes(drawn: ImageSet) -> list[str]:
    """In a sentence, how many images were brought to the size of most before they were measured."""
    sizes = Counter((shot.sampler.width, shot.sampler.height) for shot in drawn.shots)
    others = len(drawn.shots) - max(sizes.values(), default=0)
    return [f"{others} of {len(drawn.shots)} images are of other sizes than most, and were measured at the size of "
            "most."] if others else []


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."
