"""An edit looks at itself: is the concept still there? A few images where they can be judged, else the outputs.

With a judge (the embedded world's, or a CLIP that was given) the edited model draws training prompts of each concept
in few steps. Without one, a closed form has already told which share of the concept's outputs is left; of other edits
it is measured on the original's own trajectories,

    left = sum (e - o_a) . (o_c - o_a) / sum |o_c - o_a|^2,

with o_c, o_a what the original predicts for the concept's prompt and for what takes its place, e what the edited
model predicts for the concept's prompt: 1 before, 0 at what takes its place, less beyond that. It is a look and no
evaluation: few images, by prompts that training has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from expunge.errors import UserError
from expunge.files import text_digest
from expunge.models.denoising import denoise
from expunge.models.model import Model, applied
from expunge.models.patch import Patch
from expunge.models.sample import draw
from expunge.records import OwnLook, Sampler, Target
from expunge.registry import WORLDS
from expunge.unlearn.anchor import anchored
from expunge.unlearn.context import spread

PICTURES, STEPS = 12, 8
"""Images in all (two of each concept at least), and their sampler steps."""
POINTS = 4
"""Trajectories of each concept, where outputs are compared."""
MOST = 6
"""Concepts of one edit that are looked at; of more, evenly spaced ones."""
STILL_PICTURES, STILL_OUTPUTS = 0.25, 0.5
"""From these shares on a concept is told to be still there."""


def look(model: Model, patch: Patch) -> tuple[OwnLook, ...]:
    """What is there of each concept of the patch's request (of many concepts: of some).

    Args:
        model: the model that the patch was made for, without it; so it is afterwards.
    """
    request, world = patch.card.request, WORLDS.get(model.world)()
    every = request.targets
    targets = every if len(every) <= MOST else tuple(every[i * len(every) // MOST] for i in range(MOST))
    try:
        judge = world.judge(request)
    except UserError:  # an open world to which no CLIP was given: then by outputs, as the record says
        judge = None
    if judge is not None:
        return _by_pictures(model, patch, targets, judge,
                            [world.prompts.question(target.concept) for target in targets])
    if patch.card.losses.get("left"):
        return (_of_outputs(request.title, patch.card.losses["left"][-1]),)
    return tuple(_of_outputs(target.concept, _left(model, patch, target)) for target in targets)


def _by_pictures(model: Model, patch: Patch, targets: Sequence[Target], judge: Any, questions: Sequence[str]
                 ) -> tuple[OwnLook, ...]:
    each = max(2, PICTURES // len(targets))
    items = [(prompt, int(text_digest(f"{patch.card.seed}/look/{target.concept}/{place}")[:8], 16))
             for target in targets for place, prompt in enumerate(spread(target.prompts, each))]
    lost: list[int] = []
    with applied(model, patch):
        pictures = draw(model, items, Sampler(steps=STEPS, guidance=model.guidance),
                        broken=lambda place, _: lost.append(place))
    seen = [place for place in range(len(items)) if place not in lost]
    answers = dict(zip(seen, judge(pictures[seen]) if seen else [], strict=True))
    looks = []
    for number, (target, question) in enumerate(zip(targets, questions, strict=True)):
        mine = [answers[place] for place in range(number * each, (number + 1) * each) if place in answers]
        found = sum(answer.answers.get(question) == target.concept for answer in mine)
        # Where no image is finite nothing was seen to be gone.
        looks.append(OwnLook(concept=target.concept, by=judge.name, found=found, n=len(mine),
                             still=found >= STILL_PICTURES * len(mine)))
    return tuple(looks)


def _of_outputs(concept: str, left: float) -> OwnLook:
    return OwnLook(concept=concept, by="outputs", left=round(left, 4), still=left >= STILL_OUTPUTS)


@torch.no_grad()
def _left(model: Model, patch: Patch, target: Target) -> float:
    """The share of the concept's outputs that is left."""
    prompts = spread(target.prompts, POINTS)
    asked, instead = model.encode(prompts), model.encode([anchored(prompt, target) for prompt in prompts])
    seeds = [int(text_digest(f"{patch.card.seed}/look/{target.concept}/{place}")[:8], 16) for place in range(POINTS)]
    x, grid = model.initial_noise(seeds), model.process.schedule.grid(STEPS)
    points: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for k in range(STEPS):
        t = grid[k].repeat(POINTS)
        points.append((x, t, model.predict(x, t, asked), model.predict(x, t, instead)))
        if k + 1 < STEPS:
            x = denoise(model, x, asked, None, STEPS, 1.0, start=k, stop=k + 1)
    along = whole = 0.0
    with applied(model, patch):
        cond = model.encode(prompts)
        for x_t, t, of_concept, of_anchor in points:
            way = of_concept - of_anchor
            along += float(((model.predict(x_t, t, cond) - of_anchor) * way).sum())
            whole += float(way.square().sum())
    return along / whole if whole else 1.0
