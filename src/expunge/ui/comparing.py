"""Before and after: one prompt at several seeds, by the original and by the edited model, and what detectors see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from expunge.models.cache import ImageCache
from expunge.models.model import Model, applied
from expunge.models.patch import Patch
from expunge.records import Prompt
from expunge.ui.asked import Comparison
from expunge.ui.jobs import Job, stoppable
from expunge.ui.served import Served
from expunge.ui.shown import Shown, difference
from expunge.ui.sights import panel

if TYPE_CHECKING:
    from torch import Tensor

    from expunge.records import Sampler

TOGETHER = 4
"""Images drawn together."""


def compare(served: Served, shown: Shown, asked: Comparison, job: Job) -> dict[str, Any]:
    """Draw and tell: a row per seed, as soon as there is something of it to see."""
    job.tell(0, 1, "opening the model")
    model, patch = served.model, served.patch(asked.patch)
    model.check_fits(patch)
    patch, how = weakened(model, patch, asked.strength), asked.sampler(model.guidance)
    model.check_lengths([asked.prompt])
    items = [(Prompt(text=asked.prompt, role="direct"), asked.seed + k) for k in range(asked.count)]
    looking = panel(served.world, patch.card.request)
    sides: dict[str, list[dict[str, Any]]] = {}
    pixels: dict[str, list[Tensor]] = {}
    for side in ("original", "edited"):
        pixels[side] = _drawn(model, patch if side == "edited" else None, items, how, job, side)
        seen = looking.see(torch.stack(pixels[side])) if looking.judges else [[] for _ in items]
        sides[side] = [{"picture": shown.add(one), "seen": its} for one, its in zip(pixels[side], seen, strict=True)]
        for (_, seed), one in zip(items, sides[side], strict=True):
            job.say("picture", side=side, seed=seed, **one)
    rows = []
    for row, (_, seed) in enumerate(items):
        picture, change = difference(pixels["original"][row], pixels["edited"][row])
        rows.append({"seed": seed, "original": sides["original"][row], "edited": sides["edited"][row],
                     "difference": {"picture": shown.add(picture), "change": change}})
    return {"prompt": asked.prompt, "concepts": list(patch.card.request.concepts), "patch": asked.patch, "rows": rows,
            "steps": how.steps, "guidance": how.guidance, "strength": asked.strength, "missing": looking.missing}


def _drawn(model: Model, patch: Patch | None, items: list[tuple[Prompt, int]], how: Sampler, job: Job, side: str
           ) -> list[Tensor]:
    """The items' images by one of the two models."""
    def tell(done: int, total: int) -> None:
        job.tell(done, total, f"drawing with the {side} model")

    tell(0, len(items))
    with stoppable(model, job):
        if patch is None:
            return ImageCache().each(model, items, how, batch=TOGETHER, progress=tell)[1]
        with applied(model, patch):
            return ImageCache().each(model, items, how, batch=TOGETHER, progress=tell)[1]


def weakened(model: Model, patch: Patch, strength: float) -> Patch:
    """The patch at a share of its strength: W + strength (its weight - W); itself at 1."""
    if strength == 1:
        return patch
    weights, card = model.editable(), patch.card
    gaps = {name: patch.value(name, weights[name].detach()).float().cpu() - weights[name].detach().float().cpu()
            for name in patch.weights}
    return Patch.of(gaps, model=model, request=card.request, method=card.method, settings=card.settings,
                    seed=card.seed, kind="add", scale=strength)
