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
from expunge.config import Settings, knob
from expunge.errors import ExpungeError, UserError
from expunge.files import write_atomically, write_json
from expunge.records import FORGET_ROLES, KEEP_ROLES, Evaluation, Prompt, Request, Role, Sampler, Strip
from expunge.registry import WORLDS

if TYPE_CHECKING:  # help texts need the settings below and nothing of what follows
    from expunge.metrics.base import World
    from expunge.metrics.integrity import Drawn
    from expunge.metrics.measure import Instruments
    from expunge.models.cache import Pictures
    from expunge.models.patch import Patch
    from expunge.models.sd import StableDiffusion

Progress = Callable[[int, int, str], None]
"""Called with (done, in all, what is being done); a smaller `done` than before begins the next piece of work."""


class Counts(Settings):
    """How many prompts of each role are asked; 0 leaves the role out."""

    direct: int = knob(8, "prompts like those of training", ge=0)
    held_out: int = knob(8, "prompts from templates that training does not use", ge=0)
    paraphrase: int = knob(8, "prompts with a synonym of the concept", ge=0)
    implicit: int = knob(8, "prompts that elicit the concept without its name", ge=0)
    near: int = knob(12, "prompts for near neighbours", ge=0)
    far: int = knob(12, "prompts for far things", ge=0)
    style: int = knob(0, "prompts for other styles", ge=0)
    empty: int = knob(1, "empty prompts (0 or 1)", ge=0, le=1)
    never_seen: int = knob(4, "prompts for things that the model never saw (null control)", ge=0)


class EvaluateSettings(Settings):
    """Everything about an evaluation that can be set."""

    counts: Counts = knob(Counts(), "how many prompts of each role")
    seeds: int = knob(4, "pictures per prompt, with seeds first_seed, first_seed + 1, ...; integrity needs two", ge=1)
    first_seed: int = knob(0, "first of the seeds, the same for every prompt", ge=0)
    steps: int = knob(20, "denoising steps (deterministic DDIM)", ge=1, le=1000)
    guidance: float = knob(3.0, "classifier-free guidance scale; 1 means none", ge=1.0, le=50.0)
    height: int | None = knob(None, "height; None means the model's own", unit="pixels", ge=8)
    width: int | None = knob(None, "width; None means the model's own", unit="pixels", ge=8)
    negative: str = knob("", "negative prompt")
    batch: int = knob(32, "pictures drawn together; changes speed and memory only", ge=1)
    distance: str = knob("default", "perceptual distance of integrity, by the world's name for it")
    floor_items: int = knob(8, "keep pictures drawn a second time in other batches, for integrity's floor", ge=0)
    draws: int = knob(2000, "bootstrap draws", ge=100)
    fid_draws: int = knob(100, "bootstrap draws of FID and KID", ge=20)
    bootstrap_seed: int = knob(0, "seed of all resampling", ge=0)
    strips: int = knob(2, "prompts of each role that the report shows, the first ones", ge=0)
    strip_columns: int = knob(4, "seeds that the report shows per prompt", ge=1)
    clip: str = knob("", "open world: folder or Hub id of the CLIP that judges")
    prompts: str = knob("", "open world: YAML or CSV file of prompts by role")

    @property
    def sampler(self) -> Sampler:
        """How pictures are drawn."""
        return Sampler(steps=self.steps, guidance=self.guidance, height=self.height, width=self.width,
                       negative=self.negative)


def evaluate(model: StableDiffusion, patch: Patch, *, settings: EvaluateSettings | None = None,
             out: str | Path | None = None, cache: str | Path | None = None, progress: Progress | None = None,
             world: World | None = None) -> Evaluation:
    """Measure what a patch does to a model.

    Args:
        model: the base model, without a patch on.
        patch: the edit.
        settings: how to measure; None means the defaults.
        out: folder for the results; None keeps none (and the evaluation has no pictures to show).
        cache: folder of drawn pictures; None means the user's own cache.
        progress: told of every piece of work.
        world: prompts and instruments; None means the model's world.

    Raises:
        UserError: the patch is for another model, a patch is on already, or the judge could not find the concept.
        StorageError: results cannot be written.
    """
    from expunge.models.cache import Pictures
    from expunge.models.patch import applied

    began, processes = time.monotonic(), runtime.current()
    settings, tell = settings or EvaluateSettings(), progress or (lambda done, total, note: None)
    world, request = world or world_of(model, settings), patch.card.request
    if model.patch_hash:
        raise UserError(f"{model.name} has a patch on already ({model.patch_hash[:12]})",
                        accepted="the base model, without a patch", remedy="call model.remove() first")
    with applied(model, patch):
        pass  # a patch for another model must not cost an hour of drawing first
    prompts = planned_prompts(world, request, settings)
    tools = _instruments(world, request, prompts, settings)
    pictures = Pictures(cache)
    drawn = _draw(model, patch, prompts, settings, pictures, processes, tell)
    records = {}
    if processes.main:  # the others wait in gather for what it found
        folder = Path(out) if out is not None else None
        evaluation = _measure(model, patch, prompts, tools, drawn, settings, pictures.root, folder, tell)
        evaluation = evaluation.model_copy(update={"seconds": round(time.monotonic() - began, 1)})
        if folder is not None:
            write_json(folder / "evaluation.json", evaluation.model_dump(mode="json"))
        records[0] = evaluation.model_dump(mode="json")
    return Evaluation.model_validate(processes.gather(records)[0])


def world_of(model: StableDiffusion, settings: EvaluateSettings) -> World:
    """The world that goes with the model.

    Raises:
        UserError: unknown world, or settings of the open world for a model with one of its own.
    """
    kind = WORLDS.get(model.world)
    own = {name: value for name, value in (("clip", settings.clip), ("prompts", settings.prompts)) if value}
    if own and model.world != "open":
        raise UserError(f"{', '.join(own)} given, but {model.name} has a world of its own ({model.world})",
                        accepted="these settings for models of the open world", remedy="leave them out")
    world: World = kind(**own)
    return world


def planned_prompts(world: World, request: Request, settings: EvaluateSettings) -> list[Prompt]:
    """The prompts that an evaluation asks.

    Raises:
        UserError: none of them asks for the concept.
        ExpungeError: two are alike (a world's mistake).
    """
    from expunge.metrics.base import PromptCounts

    prompts = world.prompts(request, PromptCounts(**settings.counts.model_dump()))
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

    tools = Instruments(world.judge(), world.question(request.concept), world.features(),
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


def _not_tested(prompts: Sequence[Prompt], request: Request, settings: EvaluateSettings) -> list[str]:
    """Plain sentences on what the scores say nothing about."""
    from expunge.metrics.doubts import missing_roles

    return [
        "No attacks were run: neither prompts optimised against the edited model, nor learned embeddings, nor inverted "
        "noise. A concept that prompts do not elicit may still be in the weights.",
        "No fine-tuning was tried: how fast the concept comes back when the model learns again is not known.",
        f"One way of drawing: deterministic DDIM, {settings.steps} steps, guidance {settings.guidance:g}. Other "
        "samplers, guidance, sizes, pictures as input and other number types were not tried.",
        f"{request.concept} was asked for in the language of these prompts only, and not within long descriptions.",
        *missing_roles(prompts),
    ]
