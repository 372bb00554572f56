"""A small evaluation of what was written: is the concept still found, are its near neighbours still there?

Models are opened from the exported file, by the same way as any other: as a model, as a LoRA on the base, or, where
nothing opens such a file, as the patch that it is of the base. A LoRA is measured at other strengths too, for users
draw with others, and with a LoRA of somebody else's on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from expunge.config import Settings, knob
from expunge.detectors.choosing import world_for
from expunge.evaluation.plan import EvaluateSettings, planned_items, planned_prompts
from expunge.exports.base import Base
from expunge.exports.formats import Format
from expunge.exports.incoming import METHOD, read_edit
from expunge.exports.writing import Job
from expunge.metrics.erasure import rate
from expunge.metrics.judging import ask
from expunge.metrics.prompts import aims_of
from expunge.metrics.rules import forget_rates, keep_rates
from expunge.models.cache import ImageCache
from expunge.models.model import Model, applied
from expunge.models.patch import Patch
from expunge.models.source import Source, weighted
from expunge.models.store import load
from expunge.records.export import CheckedModel

_Named = tuple[str, float | None, Model]
"""An exported model: what it is called, its strength where it has one, and the model."""


class CheckSettings(Settings):
    """How large the evaluation of an exported file is."""

    direct: int = knob(8, "prompts that name the concept, for each concept", ge=1)
    near: int = knob(8, "prompts for near neighbours", ge=1)
    seeds: int = knob(2, "images per prompt", ge=1)
    steps: int = knob(20, "denoising steps (deterministic DDIM)", ge=1, le=1000)
    guidance: float | None = knob(None, "classifier-free guidance scale; None means the model's own", ge=1.0, le=50.0)
    strengths: tuple[float, ...] = knob((0.5, 1.0, 1.5), "strengths of a LoRA or a difference; 0 is the base itself")
    with_lora: str = knob("", "a foreign LoRA (FILE or FILE:WEIGHT) that is on top in two rows more")
    batch: int = knob(32, "images drawn together", ge=1)
    clip: str = knob("", "open world: folder or Hub id of the CLIP that judges")
    cache: str = knob("", "folder of drawn images; empty: the user's own cache")


def checked(job: Job, form: Format, path: Path, settings: CheckSettings) -> tuple[CheckedModel, ...]:
    """Measure base, edit and export alike.

    Raises:
        ModelError, UserError: as `models.store.load`.
    """
    measure, base = _Measure(job, settings), job.base
    model = base.model if base.model.dtype == torch.float32 else base.opened()  # all are drawn in one number type
    out = [measure.row("original", model, None)]
    with applied(model, job.patch):
        out.append(measure.row("as edited", model, None))
    exported = {"model": _as_model, "lora": _as_lora, "patch": _as_patch}[form.loaded](job, path, settings, model)
    out += [measure.row(what, opened, strength) for what, strength, opened in exported]
    return tuple(out)


def _as_model(job: Job, path: Path, settings: CheckSettings, model: Model) -> Iterator[_Named]:
    yield "as exported", None, _exported(job.base, path)
    if settings.with_lora:
        name = weighted(settings.with_lora)[0].name
        yield f"original with {name}", None, job.base.opened(settings.with_lora)
        yield f"as exported with {name}", None, _exported(job.base, path, settings.with_lora)


def _exported(base: Base, path: Path, lora: str = "") -> Model:
    """The whole model that was written; what a single file lacks is lent as the base was."""
    lent = path.is_file()
    return load(Source(str(path), str(base.folder) if lent else ""), device="cpu", lora=lora or (),
                variant=base.place.variant if lent else None, allow_pickle=lent and base.place.allow_pickle)


def _as_lora(job: Job, path: Path, settings: CheckSettings, model: Model) -> Iterator[_Named]:
    for strength in settings.strengths:
        yield "as exported", strength, job.base.opened(f"{path}:{strength:g}" if strength else ())
    if settings.with_lora:
        name = weighted(settings.with_lora)[0].name
        yield f"original with {name}", None, job.base.opened(settings.with_lora)
        yield f"as exported with {name}", 1.0, job.base.opened([f"{path}:1", settings.with_lora])


def _as_patch(job: Job, path: Path, settings: CheckSettings, model: Model) -> Iterator[_Named]:
    found = read_edit(path, job.base, component=job.component)
    for strength in settings.strengths if found.kind == "add" else (1.0,):
        edit = Patch.of(found.tensors, model=model, request=job.patch.card.request, method=METHOD, settings={},
                        seed=0, kind=found.kind, scale=strength if found.kind == "add" else 1.0)
        with applied(model, edit):
            yield "as exported", strength if found.kind == "add" else None, model


class _Measure:
    """Prompts, judge and cache, the same for all models."""

    def __init__(self, job: Job, settings: CheckSettings) -> None:
        counts = {"direct": settings.direct, "near": settings.near, "held_out": 0, "paraphrase": 0, "implicit": 0,
                  "far": 0, "style": 0, "empty": 0, "never_seen": 0}
        how = EvaluateSettings.build({"counts": counts, "seeds": settings.seeds, "steps": settings.steps,
                                      "guidance": settings.guidance, "batch": settings.batch, "clip": settings.clip})
        base, request = job.base.model, job.patch.card.request
        world = world_for(base.world, base.name, how)
        prompts = planned_prompts(world.prompts, request, how)
        self._items, self._sampler = planned_items(prompts, how), how.sampler(base)
        self._judge, self._batch = world.judge(request), settings.batch
        self._cache = ImageCache(settings.cache or None)
        aims = aims_of(world.prompts, request)
        questions = tuple(dict.fromkeys(question for aim in aims for question in aim.wanted))
        self._found = next(rated for rated in forget_rates(prompts, aims) if rated.rule.name == "found/all")
        self._near = next(rated for rated in keep_rates(prompts, questions) if rated.rule.name == "retained/near")

    def row(self, what: str, model: Model, strength: float | None) -> CheckedModel:
        """Draw and judge."""
        shots, pictures = self._cache.draw(model, self._items, self._sampler, batch=self._batch, go_on=True)
        judged = list(zip(shots, ask(self._judge, pictures), strict=True))
        found, near = rate(judged, self._found), rate(judged, self._near)
        return CheckedModel(what=what, strength=strength, judge=self._judge.name,
                            found=found.numerator or 0, n=found.n, low=found.low, high=found.high,
                            near=near.numerator or 0, near_n=near.n, near_low=near.low, near_high=near.high)
