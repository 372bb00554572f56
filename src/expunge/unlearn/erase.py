"""The verb: take a concept out of a model. And its dry run."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge import runtime
from expunge.errors import ConfigError, UserError
from expunge.files import check_writable
from expunge.models.base import Conditioning, Denoiser
from expunge.models.patch import Patch
from expunge.records import Request
from expunge.registry import METHODS, WORLDS
from expunge.train import Progress
from expunge.unlearn.recipe import Method, Recipe, text_trains, training

CHECKPOINT = "checkpoint.safetensors"
"""Name of the file in the output folder from which a killed run goes on; gone once the patch is there."""


def erase(model: Denoiser, concept: str | Request, method: str | Method = "esd", *, anchor: str = "",
          keep: Sequence[str] = (), settings: Mapping[str, Any] | None = None, seed: int = 0,
          out: Path | str | None = None, progress: Progress | None = None) -> Patch:
    """Take `concept` out of `model`; the edit comes back as a patch and the model stays as it was.

    Args:
        concept: a name, which the model's world makes a request of, or a whole request.
        method: name of a registered method, or a method.
        anchor: what takes the concept's place; keep: what must stay. Only with a name: a request has its own.
        settings: overrides of the method's settings, by (dotted) name.
        seed: decides every random draw.
        out: folder for the patch; a run that was killed goes on from there when it is started again.
        progress: called with (done, total, losses); without losses while work before the first step is done.

    Raises:
        UserError: an empty, unknown, truncated or contradictory request; unknown method; bad settings
            (ConfigError).
        TrainingError: a loss is not finite.
        StorageError: the patch cannot be written.
    """
    request = resolve_request(model, concept, anchor, keep)
    chosen = resolve_method(method, settings)
    folder = Path(out) if out is not None else None
    if folder is not None:
        check_writable(folder)
    checkpoint = folder / CHECKPOINT if folder is not None else None
    patch = chosen(model, request, seed=seed, checkpoint=checkpoint, progress=progress)
    if folder is not None and checkpoint is not None:
        patch.save(folder)
        checkpoint.unlink(missing_ok=True)
    return patch


def plan(model: Denoiser, concept: str | Request, method: str | Method = "esd", *, anchor: str = "",
         keep: Sequence[str] = (), settings: Mapping[str, Any] | None = None, seed: int = 0
         ) -> dict[str, Any]:
    """What `erase` would do: every setting resolved, and what it would take. Trains nothing.

    Time is measured: one batch forward without gradient and one forward and backward, on the model itself.

    Returns:
        JSON-able: method, request, settings, seed; for recipes also trained (tensors, parameters),
        unet_samples (frozen, trained), seconds and memory_bytes (peak of the process; None where the system
        does not tell).

    Raises:
        UserError: as `erase`, before any computing.
    """
    request = resolve_request(model, concept, anchor, keep)
    chosen = resolve_method(method, settings)
    name = method if isinstance(method, str) else getattr(method, "name", repr(method))
    told: dict[str, Any] = {"method": name, "model": model.name, "request": request.model_dump(mode="json"),
                            "seed": seed}
    if not isinstance(chosen, Recipe):
        return {**told, "settings": {}, "note": "this method is no recipe: its cost is not known beforehand"}
    params = chosen.check(model, request)
    cost = chosen.cost(request)
    per_frozen, per_trained = _timed(model, chosen, request)
    size = sum(p.numel() for p in params.values())
    return {**told, "settings": chosen.model_dump(mode="json"),
            "trained": {"tensors": len(params), "parameters": size},
            "unet_samples": {"frozen": cost.frozen, "trained": cost.trained},
            "seconds": round(cost.frozen * per_frozen + cost.trained * per_trained, 1),
            "memory_bytes": _memory(model, size, cost.pooled)}


def resolve_request(model: Denoiser, concept: str | Request, anchor: str = "", keep: Sequence[str] = ()
                    ) -> Request:
    """The full request; a name is completed by the model's world.

    Raises:
        UserError: empty, contradictory, or unknown to the world.
    """
    if isinstance(concept, Request):
        if anchor or keep:
            raise UserError("a request together with anchor or keep", accepted="a concept's name with them",
                            remedy="put them into the request")
        request = concept
    else:
        check_words(concept, anchor, keep)
        request = WORLDS.get(model.world)().request(concept.strip(), anchor.strip(), tuple(keep))
    check_words(request.concept, request.anchor, request.keep)
    blank = [prompt for prompt in request.prompts if not prompt.strip()]
    if blank:
        raise UserError(f"{len(blank)} empty prompts that ask for {request.concept!r}",
                        accepted="prompts with words")
    return request


def resolve_method(method: str | Method, settings: Mapping[str, Any] | None = None) -> Method:
    """The method with its settings. A registered method is a function that takes them and gives a `Method`.

    Raises:
        UserError: unknown name. ConfigError: settings that do not fit, all at once.
    """
    if isinstance(method, str):
        build: Callable[..., Method] = METHODS.get(method)
        return build(**dict(settings or {}))
    if settings and not isinstance(method, Recipe):
        raise ConfigError(f"settings {', '.join(settings)} for a method that is no recipe",
                          accepted="no settings")
    return method.override(settings) if settings and isinstance(method, Recipe) else method


def check_words(concept: str, anchor: str, keep: Sequence[str]) -> None:
    """What can be said of a request without a model. UserError: empty, its own anchor, or contradictory."""
    if isinstance(keep, str):
        raise UserError(f"keep is the single text {keep!r}", accepted="a list of texts")
    if not concept.strip():
        raise UserError("an empty concept", accepted="a name, for example 'church'")
    if anchor and anchor.strip().casefold() == concept.strip().casefold():
        raise UserError(f"{concept!r} is its own anchor", accepted="another thing, or no anchor")
    word = re.compile(rf"(?<!\w){re.escape(concept.strip())}(?!\w)", re.IGNORECASE)
    both = [text for text in keep if word.search(text)]
    if both:
        raise UserError(f"{concept!r} is to be unlearned and to be kept ({', '.join(map(repr, both))})",
                        accepted="one of the two", remedy="take it out of the things to keep")


def _timed(model: Denoiser, recipe: Recipe, request: Request) -> tuple[float, float]:
    """Seconds per UNet sample: without gradient at the frozen batch, and trained at the batch."""
    params, middle = model.parameters_in(recipe.scope), torch.tensor([model.train_steps // 2])
    with torch.no_grad():
        known = model.encode(request.prompts[:1])

    def forward(count: int, cond: Conditioning) -> Tensor:
        return model.predict(model.initial_noise(range(count)), middle.expand(count), cond)

    def frozen() -> None:
        with torch.no_grad():
            forward(recipe.frozen_batch, known.repeat(recipe.frozen_batch))

    def trained() -> None:
        cond = model.encode(request.prompts[:1] * recipe.batch) if text_trains(params) else None
        forward(recipe.batch, cond or known.repeat(recipe.batch)).square().mean().backward()

    with training(params):
        return _seconds(frozen) / recipe.frozen_batch, _seconds(trained) / recipe.batch


def _seconds(work: Callable[[], None]) -> float:
    """Shortest of three runs; of one if that takes more than two seconds."""
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
        if best > 2.0:
            break
    return best


def _memory(model: Denoiser, trained: int, pooled: int) -> int | None:
    """Peak so far (weights, one training step) and what a run adds: teacher, optimizer, originals, pools."""
    peak = runtime.peak_memory()
    if peak is None:
        return None
    teacher = sum(p.numel() for p in model.parameters_in("all").values())
    c, h, w = model.latent_shape
    return peak + 4 * (teacher + 3 * trained + 2 * pooled * c * h * w)
