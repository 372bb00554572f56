"""A small evaluation of what was written: is the concept still found, are its near neighbours still there?

Models are opened from the exported file, by the same way as any other: as a model, as a LoRA on the base, or, where
nothing opens such a file, as the patch that it is of the base. A LoRA is measured at other strengths too, for users
draw with others, and with a LoRA of somebody else's on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from expunge.config import Settings, knob
from expunge.detectors.choosing import world_for
from expunge.errors import UserError
from expunge.evaluation.plan import EvaluateSettings, planned_items, planned_prompts
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
        UserError: a foreign LoRA with a format that nothing opens together with one. As `load`.
    """
    if settings.with_lora and form.loaded == "patch":
        raise UserError("a foreign LoRA with a format that is opened as a patch", accepted="a folder, a checkpoint or "
                        "a LoRA", remedy="leave --with-lora out")
    measure = _Measure(job, settings)
    out = [measure.row("original", job.base.model, None)]
    with applied(job.base.model, job.patch):
        out.append(measure.row("as edited", job.base.model, None))
    out += [measure.row(what, model, strength) for what, strength, model in _opened(job, form, path, settings)]
    return tuple(out)


def _opened(job: Job, form: Format, path: Path, settings: CheckSettings
            ) -> Iterator[tuple[str, float | None, Model]]:
    """The exported models, one after the other, with what they are called."""
    source = job.base.source
    if form.loaded == "model":
        exported = Source(str(path), str(job.base.folder) if path.is_file() else "")
        yield "as exported", None, load(exported, device="cpu")
        if settings.with_lora:
            name = weighted(settings.with_lora)[0].name
            yield f"original with {name}", None, load(source, device="cpu", lora=settings.with_lora)
            yield f"as exported with {name}", None, load(exported, device="cpu", lora=settings.with_lora)
        return
    if form.loaded == "lora":
        for strength in settings.strengths:
            yield "as exported", strength, load(source, device="cpu", lora=f"{path}:{strength:g}")
        if settings.with_lora:
            name = weighted(settings.with_lora)[0].name
            yield f"original with {name}", None, load(source, device="cpu", lora=settings.with_lora)
            yield f"as exported with {name}", 1.0, load(source, device="cpu",
                                                        lora=[f"{path}:1", settings.with_lora])
        return
    found = read_edit(path, job.base, component=job.component)
    for strength in settings.strengths if found.kind == "add" else (1.0,):
        edit = Patch.of(found.tensors, model=job.base.model, request=job.patch.card.request, method=METHOD, settings={},
                        seed=0, kind=found.kind, scale=strength if found.kind == "add" else 1.0)
        with applied(job.base.model, edit):
            yield "as exported", strength if found.kind == "add" else None, job.base.model


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
