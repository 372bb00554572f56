"""How gone is it, and what else changed? Draws with both models, asks the world's instruments, keeps every record.

The only place where models and metrics meet. A folder of results holds `evaluation.json`, `judgments.jsonl` and
`pictures/` (those that the report shows). Pictures are drawn through the cache and judgments are kept, so a second
run draws nothing, and an interrupted one goes on where it was.

Names of the scores ("original/..." is the same for the original model; roles and strata that were not asked are
missing; a score that could not be measured has the value None and says why):

    found/direct, held_out, paraphrase, implicit, all     share of pictures in which the concept is still found
    abstained/<role>                                      share on which the judge would not say
    found/never_seen, found/keep                          null controls of the judge
    retained/near, far, style; retained/keep:<question>   share that shows what was asked for
    change/found/all, change/clip/forget, change/clip/keep      edited minus original, paired
    integrity/near, far, style, empty, forget             J: 1 only numerical noise, 0 as different as another seed
    perceptual/<stratum>, perceptual/ceiling/<stratum>, perceptual/floor, perceptual/ceiling, ssim/<stratum>
    fid/original, kid/original, fid/real, kid/real        pictures of the keep prompts
    clip/forget, clip/keep                                100 x cosine
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from expunge import runtime
from expunge.assault import assault_folder, check_same, read_assault, untried
from expunge.config import knob
from expunge.errors import ExpungeError, UserError
from expunge.files import check_writable, write_atomically, write_json
from expunge.metrics.base import PromptCounts, World
from expunge.records import FORGET_ROLES, KEEP_ROLES, Assault, Evaluation, Find, Prompt, Request, Role, Strip
from expunge.sampling import SamplingSettings

if TYPE_CHECKING:  # help texts need the settings below and nothing of what follows
    from expunge.metrics.integrity import Drawn
    from expunge.metrics.measure import Instruments
    from expunge.models.cache import Pictures
    from expunge.models.patch import Patch
    from expunge.models.sd import StableDiffusion
    from expunge.records import Attempt, Shot

Progress = Callable[[int, int, str], None]
"""Called with (done, in all, what is being done); a smaller `done` than before begins the next piece of work."""


class EvaluateSettings(SamplingSettings):
    """Everything about an evaluation that can be set."""

    counts: PromptCounts = knob(PromptCounts(), "how many prompts of each role")
    seeds: int = knob(4, "pictures per prompt, with seeds first_seed, first_seed + 1, ...; integrity needs two", ge=1)
    distance: str = knob("default", "perceptual distance of integrity, by the world's name for it")
    floor_items: int = knob(8, "keep pictures drawn a second time in other batches, for integrity's floor", ge=0)
    draws: int = knob(2000, "bootstrap draws", ge=100)
    fid_draws: int = knob(100, "bootstrap draws of FID and KID", ge=20)
    bootstrap_seed: int = knob(0, "seed of all resampling", ge=0)
    strips: int = knob(2, "prompts of each role that the report shows, the first ones", ge=0)
    strip_columns: int = knob(4, "seeds that the report shows per prompt", ge=1)
    clip: str = knob("", "open world: folder or Hub id of the CLIP that judges")
    prompts: str = knob("", "open world: YAML or CSV file of prompts by role")


def evaluate(model: StableDiffusion, patch: Patch, *, settings: EvaluateSettings | None = None,
             out: str | Path | None = None, cache: str | Path | None = None, progress: Progress | None = None,
             world: World | None = None, assault: str | Path | Assault | None = None) -> Evaluation:
    """Measure what a patch does to a model.

    Args:
        model: the base model, without a patch on.
        patch: the edit.
        settings: how to measure; None means the defaults.
        out: folder for the results; None keeps none (and the evaluation has no pictures to show).
        cache: folder of drawn pictures; None means the user's own cache.
        progress: told of every piece of work.
        world: prompts and instruments; None means the model's world.
        assault: what attacks on this patch found: the folder that they were written to, or their record alone (which
            shows no pictures of theirs). The verdict then rests on the worst case.

    Raises:
        UserError: the patch is for another model, a patch is on already, the judge could not find the concept, or the
            attacks were made on something else or cannot be read.
        StorageError: results cannot be written.
    """
    from expunge.models.cache import Pictures
    from expunge.models.patch import applied

    began, processes = time.monotonic(), runtime.current()
    settings, tell = settings or EvaluateSettings(), progress or (lambda done, total, note: None)
    attacks = read_assault(Path(assault)) if isinstance(assault, (str, Path)) else assault
    world, request = world or _world(model, settings), patch.card.request
    if model.patch_hash:
        raise UserError(f"{model.name} has a patch on already ({model.patch_hash[:12]})",
                        accepted="the base model, without a patch", remedy="call model.remove() first")
    with applied(model, patch):
        pass  # a patch for another model must not cost an hour of drawing first
    if attacks is not None:
        check_same(attacks, model.hash, patch.hash, request.concept)
    if out is not None:
        check_writable(Path(out))
    prompts = planned_prompts(world, request, settings)
    tools = _instruments(world, request, prompts, settings)
    pictures = Pictures(cache)
    drawn = _draw(model, patch, prompts, settings, pictures, processes, tell)
    finds = _draw_finds(model, patch, attacks, settings, pictures, processes, tell)
    records = {}
    if processes.main:  # the others wait in gather for what it found
        folder = Path(out) if out is not None else None
        evaluation = _measure(model, patch, prompts, tools, drawn, settings, pictures.root, folder, tell)
        shown = _finds(finds, assault_folder(assault), pictures.root, folder)
        told = (*untried(attacks), *evaluation.not_tested)
        evaluation = evaluation.model_copy(update={"assault": attacks, "finds": shown, "not_tested": told,
                                                   "seconds": round(time.monotonic() - began, 1)})
        if folder is not None:
            write_json(folder / "evaluation.json", evaluation.model_dump(mode="json"))
        records[0] = evaluation.model_dump(mode="json")
    return Evaluation.model_validate(processes.gather(records)[0])


def _world(model: StableDiffusion, settings: EvaluateSettings) -> World:
    from expunge.metrics.worlds import world_of

    return world_of(model.world, model.name, settings.clip, settings.prompts)


def planned_prompts(world: World, request: Request, settings: EvaluateSettings) -> list[Prompt]:
    """The prompts that an evaluation asks.

    Raises:
        UserError: none of them asks for the concept.
        ExpungeError: two are alike (a world's mistake).
    """
    prompts = world.prompts(request, settings.counts)
    if len({prompt.text for prompt in prompts}) < len(prompts):
        raise ExpungeError(f"the world {world.name} gave the same prompt twice", accepted="distinct prompts")
    if not any(prompt.role in FORGET_ROLES for prompt in prompts):
        raise UserError("no prompt asks for the concept", accepted="at least one direct, held_out, paraphrase or "
                        "implicit prompt", remedy="raise one of their counts")
    return prompts


def picture_count(prompts: Sequence[Prompt], settings: EvaluateSettings) -> int:
    """How many pictures an evaluation draws when none is in the cache."""
    keep = sum(prompt.role in KEEP_ROLES for prompt in prompts) * settings.seeds
    return 2 * len(prompts) * settings.seeds + min(settings.floor_items, keep)


def _instruments(world: World, request: Request, prompts: Sequence[Prompt], settings: EvaluateSettings) -> Instruments:
    """Load all instruments and try them, so that nothing is missing after hours of drawing."""
    import torch

    from expunge.metrics.judging import check_questions
    from expunge.metrics.measure import Instruments

    tools = Instruments(world.judge(request), world.question(request.concept), world.features(),
                        world.distance(settings.distance), world.clip(), world.real())
    check_questions(tools.judge, request.concept, tools.question, prompts)
    grey = torch.full((2, 3, 64, 64), 0.5)
    tools.distance(grey, grey)
    tools.features(grey)
    if tools.clip is not None:
        tools.clip(grey, ["a", "b"])
    return tools


def _draw(model: StableDiffusion, patch: Patch, prompts: Sequence[Prompt], settings: EvaluateSettings,
          pictures: Pictures, processes: runtime.Runtime, tell: Progress) -> tuple[Drawn, Drawn, Drawn]:
    """Pictures of the original, of the edited model, and some of the original's drawn again in other batches."""
    from expunge.metrics.integrity import Drawn
    from expunge.models.cache import Pictures
    from expunge.models.patch import applied

    seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
    items = [(prompt, seed) for prompt in prompts for seed in seeds]
    sampler = settings.sampler

    def draw(where: Pictures, what: Sequence[tuple[Prompt, int]], batch: int, words: str) -> Drawn:
        shots, pixels = where.draw(model, what, sampler, batch=batch, processes=processes,
                                   progress=lambda done, total: tell(done, total, words))
        return Drawn(shots, pixels)

    original = draw(pictures, items, settings.batch, "drawing with the original model")
    keep = [item for item in items if item[0].role in KEEP_ROLES]
    other = settings.batch // 2 + 1 if settings.batch > 1 else 2
    apart = Pictures(pictures.root / f"again-in-batches-of-{other}")
    again = draw(apart, keep[::max(1, len(keep) // max(1, settings.floor_items))][:settings.floor_items], other,
                 "drawing some again")
    with applied(model, patch):
        edited = draw(pictures, items, settings.batch, "drawing with the edited model")
    return original, edited, again


def _measure(model: StableDiffusion, patch: Patch, prompts: Sequence[Prompt], tools: Instruments,
             drawn: tuple[Drawn, Drawn, Drawn], settings: EvaluateSettings, root: Path, folder: Path | None,
             tell: Progress) -> Evaluation:
    """Judge and score what was drawn (original, edited, original again); copy the pictures to show."""
    from expunge.metrics.doubts import doubts
    from expunge.metrics.judging import judged
    from expunge.metrics.measure import measured

    original, edited, again = drawn
    before, after = judged([original, edited], tools.judge, folder / "judgments.jsonl" if folder else None,
                           lambda done, total: tell(done, total, "judging"))
    request = patch.card.request
    scores = measured(original, edited, again, before, after, request.concept, tools, draws=settings.draws,
                      fid_draws=settings.fid_draws, seed=settings.bootstrap_seed, tell=tell)
    return Evaluation(
        card=patch.card, model=model.name, model_hash=model.hash, sampler=settings.sampler, detectors=tools.names(),
        scores=tuple(scores), strips=_strips(original, edited, prompts, settings, root, folder),
        not_tested=tuple(_not_tested(prompts, request, settings)), warnings=tuple(doubts(scores)),
        settings=settings.model_dump(mode="json"), versions=runtime.versions(),
        machine=runtime.machine(model.device), created=datetime.now(timezone.utc).isoformat(timespec="seconds"))


def _strips(original: Drawn, edited: Drawn, prompts: Sequence[Prompt], settings: EvaluateSettings, root: Path,
            folder: Path | None) -> tuple[Strip, ...]:
    """The first prompts of each role (nothing is picked by its looks), their pictures copied into the results."""
    if folder is None:
        return ()
    chosen = [prompt for role in get_args(Role)
              for prompt in [item for item in prompts if item.role == role][:settings.strips]]
    strips = []
    for prompt in chosen:
        files: dict[str, list[str]] = {}
        for name, side in (("original", original), ("edited", edited)):
            shots = [shot for shot in side.shots if shot.prompt.text == prompt.text][:settings.strip_columns]
            for shot in shots:
                to = folder / "pictures" / f"{name}-{shot.key}.png"
                if not to.exists():
                    write_atomically(to, partial(_copy, root / shot.file))
                files.setdefault(name, []).append(to.relative_to(folder).as_posix())
        strips.append(Strip(role=prompt.role, prompt=prompt.text, seeds=tuple(shot.seed for shot in shots),
                            original=tuple(files["original"]), edited=tuple(files["edited"])))
    return tuple(strips)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _draw_finds(model: StableDiffusion, patch: Patch, assault: Assault | None, settings: EvaluateSettings,
                pictures: Pictures, processes: runtime.Runtime, tell: Progress) -> list[tuple[Attempt, Shot, Shot]]:
    """The first finds of each attack, with what both models draw for the same item without the attack."""
    from expunge.models.patch import applied

    if assault is None:
        return []
    chosen = [item for run in assault.runs
              for item in [find for find in run.attempts if find.outcome == "found" and find.picture
                           ][:settings.strip_columns]]
    items = [(item.prompt, item.seed) for item in chosen]

    def draw(words: str) -> list[Shot]:
        return pictures.draw(model, items, assault.sampler, batch=settings.batch, processes=processes,
                             progress=lambda done, total: tell(done, total, words))[0]

    original = draw("drawing what was attacked with the original model")
    with applied(model, patch):
        edited = draw("drawing what was attacked with the edited model")
    return list(zip(chosen, original, edited, strict=True))


def _finds(drawn: Sequence[tuple[Attempt, Shot, Shot]], source: Path | None, root: Path, folder: Path | None
           ) -> tuple[Find, ...]:
    """The finds to show, their pictures copied into the results; none where either side has no folder."""
    if source is None or folder is None:
        return ()
    finds = []
    for item, original, edited in drawn:
        files = {f"original-{original.key}": root / original.file, f"edited-{edited.key}": root / edited.file,
                 f"attacked-{item.digest}": source / item.attack / item.picture}
        for name, file in files.items():
            to = folder / "pictures" / f"{name}.png"
            inside = file.resolve().is_relative_to((source if name.startswith("attacked") else root).resolve())
            if not to.exists() and inside and file.is_file():  # a picture that is gone: the report says so in its place
                write_atomically(to, partial(_copy, file))
        shown = [f"pictures/{name}.png" for name in files]
        finds.append(Find(attack=item.attack, prompt=item.prompt.text, seed=item.seed, original=shown[0],
                          edited=shown[1], found=shown[2], text="" if item.text == item.prompt.text else item.text,
                          fresh=item.fresh, fresh_found=item.fresh_found, confirmed=item.confirmed))
    return tuple(finds)


def _not_tested(prompts: Sequence[Prompt], request: Request, settings: EvaluateSettings) -> list[str]:
    """Plain sentences on what the scores say nothing about."""
    from expunge.metrics.doubts import missing_roles

    return [
        f"One way of drawing: deterministic DDIM, {settings.steps} steps, guidance {settings.guidance:g}. Other "
        "samplers, guidance, sizes, pictures as input and other number types were not tried.",
        f"{request.concept} was asked for in the language of these prompts only, and not within long descriptions.",
        *missing_roles(prompts),
    ]
