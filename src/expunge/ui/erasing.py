"""Erase from the page: which methods there are and what they cost and keep, an estimate, and the edit itself, watched.

While it trains, the model that is being edited draws a few pictures now and then. They are looked at and no more: they
use none of the run's randomness, so the patch is the one that `expunge erase` makes under the same settings.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from expunge.bench.publish import shown as benched
from expunge.errors import UserError
from expunge.metrics.statistics import rate_interval
from expunge.models.model import applied
from expunge.models.sample import draw
from expunge.records import Sampler
from expunge.registry import FAILURES, METHODS
from expunge.report.sensitive import sensitive
from expunge.ui.asked import Edit
from expunge.ui.jobs import Job, stoppable
from expunge.ui.served import CHECKPOINT, Served
from expunge.ui.shown import Shown
from expunge.unlearn.erase import erase, plan, resolve_method, resolve_request
from expunge.unlearn.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from expunge.models.model import Model
    from expunge.records import OwnLook, Request

PREVIEW_EVERY, RARELY = 6.0, 4.0
"""Seconds between two looks at a model that trains, or so many times what a look takes, where that is more."""
PREVIEW = Sampler(steps=8)
POINTS, FIRST = 240, 10
"""Points of a loss that are told while it trains, beside those of the first steps of a run."""


def methods() -> list[dict[str, Any]]:
    """Every usable method: name, what it does, and what a bench of the embedded model showed, pooled over concepts
    (None where it was not measured). Those that were measured come first."""
    rows = []
    for name in METHODS.usable():
        measured = [row for row in benched(name) if row["label"] == name]
        rows.append({"name": name, "does": METHODS.help(name), "source": METHODS.source(name),
                     "measured": _pooled(measured) if measured else None})
    return sorted(rows, key=lambda row: (row["measured"] is None, (row["measured"] or {}).get("seconds") or 0.0))


def _pooled(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rates over all concepts that a method was measured on, with 95% intervals, and the mean time of an edit."""
    out: dict[str, Any] = {"seconds": round(sum(row["seconds"] or 0.0 for row in rows) / len(rows), 1),
                           "concepts": len(rows)}
    for name, key in (("attacked", "attack/worst"), ("found", "found/all"), ("kept", "retained/near")):
        scores = [row["scores"][key] for row in rows if row["scores"].get(key, {}).get("numerator") is not None]
        hits = {str(row): [1.0] * score["numerator"] + [0.0] * (score["n"] - score["numerator"])
                for row, score in enumerate(scores)}  # the items of one concept belong together
        n, (low, high) = sum(map(len, hits.values())), rate_interval(hits)
        out[name] = {"rate": sum(map(sum, hits.values())) / n, "n": n, "low": low, "high": high} if n else None
    return out


def estimate(served: Served, asked: Edit, job: Job) -> dict[str, Any]:
    """What the edit would do and take; a few real steps are run and undone."""
    job.tell(0, 1, "opening the model")
    model = served.model
    job.tell(0, 1, "running a few steps, which are undone")
    with stoppable(model, job):
        planned = plan(model, asked.concept, asked.method, **_how(asked))
    trained = planned.get("trained", {})
    return {"method": asked.method, "seconds": planned.get("seconds"),
            "memory": planned.get("memory_bytes"), "changes": trained.get("parameters"),
            "measured": planned.get("measured", planned.get("note", "")), "chosen": planned["chosen"],
            "steps": planned["settings"].get("steps"), "anchor": planned["request"].get("anchor", "")}


def erasing(served: Served, shown: Shown, asked: Edit, job: Job) -> dict[str, Any]:
    """Make the edit, telling losses and previews; it ends as a patch in the served folder."""
    job.tell(0, 1, "opening the model")
    model, how = served.model, _how(asked)
    request = resolve_request(model, asked.concept, asked.anchor or "", asked.keep)
    settings = json.dumps([model.hash, asked.model_dump(mode="json")], sort_keys=True)
    folder = served.new_folder(asked.concept, asked.method, settings)
    if (folder / CHECKPOINT).is_file():
        job.say("note", text="Going on where this edit was stopped.")
    look = _previews(model, request, shown, job)
    look(0)
    trains = isinstance(resolve_method(asked.method, how["settings"], model), Recipe)  # its steps change this model

    def tell(done: int, total: int, losses: Mapping[str, float]) -> None:
        job.tell(done, total, "training" if losses else "preparing")
        job.counts["steps"] += bool(losses)
        if losses and (job.counts["steps"] <= FIRST or done == total or done % max(1, total // POINTS) == 0):
            job.say("loss", step=done, of=total, values={name: float(value) for name, value in losses.items()})
        if losses and trains and done < total:
            look(done)

    try:
        patch = erase(model, asked.concept, asked.method, out=folder, progress=tell, **how)
    except KeyboardInterrupt as stop:
        kept = "What was done is kept: start the same edit again to go on." if (folder / CHECKPOINT).is_file() \
            else "Nothing was kept yet."
        raise KeyboardInterrupt(f"Stopped. {kept}") from stop
    card = patch.card
    with applied(model, patch):
        look(None)
    chosen = [f"{target.anchor} takes the place of {target.concept} (the closest thing to it)"
              for target in card.request.targets if target.concept in card.chosen]
    unused = [] if card.keeps or not asked.keep else [f"{asked.method} makes no use of what it is asked to keep."]
    return {"patch": folder.relative_to(served.root).as_posix(), "concepts": list(card.request.concepts),
            "anchors": [target.anchor for target in card.request.targets], "method": card.method,
            "seconds": card.seconds, "steps": card.steps, "look": [_seen(one) for one in card.look],
            "notes": [*chosen, *unused], "folder": str(served.called(folder))}


def _seen(look: OwnLook) -> dict[str, Any]:
    """What an edit saw when it looked at itself, in plain words."""
    words = look.words if not look.n and look.left is None else \
        f"{look.concept} in {look.found} of {look.n} images" if look.n else \
        f"{look.left:.0%} of the model's answer to {look.concept!r} is left"
    return {"words": words, "still": look.still}


def _how(asked: Edit) -> dict[str, Any]:
    """Keyword arguments of `erase` and `plan`. UserError: steps of a method without steps."""
    settings: dict[str, Any] = {}
    if asked.steps is not None:
        try:
            stepping = "steps" in getattr(type(resolve_method(asked.method)), "model_fields", {})
        except FAILURES:
            stepping = True  # what is wrong with the method is told where it is used
        if not stepping:
            raise UserError(f"training steps for {asked.method}, which does not train in steps", accepted="none",
                            remedy="leave the number of steps empty")
        settings["steps"] = asked.steps
    return {"anchor": asked.anchor, "keep": asked.keep, "settings": settings, "seed": asked.seed}


def _previews(model: Model, request: Request, shown: Shown, job: Job) -> Callable[[int | None], None]:
    """A look at the model as it is now, a picture of the concept and one of what must stay: called with the step, and
    with None in the end; in between at most every `PREVIEW_EVERY` seconds."""
    long = model.too_long([*request.prompts, *request.keep])
    firsts = [[one for one in those if one not in long][:1] for those in (request.prompts, request.keep)]
    texts = [text for first in firsts for text in first]
    how = PREVIEW.model_copy(update={"guidance": model.guidance})
    due = [0.0]

    def look(step: int | None) -> None:
        began = time.monotonic()
        if (began < due[0] and step is not None) or not texts:
            return
        broken: list[int] = []
        with torch.no_grad():
            pictures = draw(model, [(text, 0) for text in texts], how, broken=lambda row, _: broken.append(row))
        job.say("preview", step=step, veiled=sensitive(request), pictures=[
            {"prompt": text, "picture": shown.add(picture) if row not in broken else "", "keep": text in request.keep}
            for row, (text, picture) in enumerate(zip(texts, pictures, strict=True))])
        now = time.monotonic()
        due[0] = now + max(PREVIEW_EVERY, RARELY * (now - began))

    return look
