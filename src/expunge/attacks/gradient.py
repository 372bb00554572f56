"""The search that white-box prompt attacks share: many items at once, each with its own early stop.

With e the embeddings looked up for the free tokens c', each item descends

    L(c') = E over t, eps of  mean |wanted(x0, eps, t) - f_edited(x_t | c')|^2,     x_t = noise(x0, eps, t),

x0 the latent of an image that shows the concept. After every round of steps the free tokens are decoded to a string,
and the image of that string, read anew by the tokenizer, is judged: an attack counts for what can be typed.

What makes it fast, and what does not change: a pass of text encoder and network serves many items, each with its own
noise; those that are found leave at once, and the others close up; images are drawn for all items together; a string
that reads as tokens which were already judged for this item is not drawn again, for its image is known. Every pass
of a trial is filled up to the same number of rows: matrix products of one shape add each row in one order, so that even
after thousands of steps an item's tokens do not depend on what was searched beside it (on CPU bit for bit).

Source: the loop of Diffusion-MU-Attack@5a3e5d3 (rounds of steps, then a strict look). Differs: all of the above.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from expunge.attacks.base import item_noise
from expunge.attacks.tokens import FreeTokens
from expunge.attacks.victim import Item
from expunge.models.free_places import FreePlaces, Layout
from expunge.models.model import Model

Wanted = Callable[[Sequence[int], Tensor, Tensor, Tensor, Tensor], Tensor]
"""What the network should put out: (rows of the items, x0, eps, x_t, t) -> (B, c, h, w)."""


@dataclass
class Search:
    """One item under way.

    Attributes:
        row, item: the item. x0: latent (c, h, w) of the image that it aims at.
        layout, tokens: where its free tokens stand, and the search for them.
        noise, clock: its own randomness, of eps and of t.
        judged: the rows of tokens whose images are known.
        moved: whether some gradient was not 0.
    """

    row: int
    item: Item
    x0: Tensor
    layout: Layout
    tokens: FreeTokens
    noise: Generator
    clock: Generator
    judged: set[tuple[int, ...]]
    moved: bool = False


def descend(model: Model, wanted: Wanted, time: Callable[[Generator], float], rows: int, active: Sequence[Search]
            ) -> list[int]:
    """One gradient step for each of the active items, at most `rows` of them, in a pass of so many rows.

    Returns the rows of the items whose gradient is not a number. `time`: t of the step, by the item's own generator.
    """
    fill = [*range(len(active)), *[0] * (rows - len(active))]  # each pass has the same shape
    x0 = torch.stack([one.x0 for one in active])[fill]
    eps = item_noise([one.noise for one in active], x0.shape[1:]).to(model.device)[fill]
    t = torch.tensor([time(one.clock) for one in active], device=model.device)[fill]
    x_t = model.process.noised(x0, eps, t)
    with torch.no_grad():
        aim = wanted([active[place].row for place in fill], x0, eps, x_t, t)
    points = [one.tokens.points() for one in active]
    layouts = [one.layout for one in active] + [active[0].layout.closed] * (rows - len(active))
    places = FreePlaces.of(model, [active[place].item[0].text for place in fill], layouts)
    gradients = prompt_gradient(model, places, torch.cat(points), x_t, t, aim)[1]
    broken = []
    for one, gradient in zip(active, gradients.split([len(part) for part in points]), strict=True):
        if gradient.isfinite().all():
            one.moved = one.moved or bool(gradient.any())
            one.tokens.step(gradient)
        else:
            broken.append(one.row)
    return broken


def prompt_gradient(model: Model, places: FreePlaces, points: Tensor, x_t: Tensor, t: Tensor, wanted: Tensor
                    ) -> tuple[Tensor, Tensor]:
    """Losses (B,) and the gradient (M, D) of each row's loss at the embeddings of its free tokens.

    Args:
        places: B prompts with M free places.
        points: float32 (M, D), embeddings for all free places in order.
        x_t, wanted: (B, c, h, w); t: float32 (B,).
    """
    with torch.enable_grad():
        e = points.detach().clone().requires_grad_()
        losses = (model.predict(x_t, t, places.told(model, e)) - wanted).square().flatten(1).mean(1)
        gradient, = torch.autograd.grad(losses.sum(), e)
    return losses.detach(), gradient


def spelt(model: Model, one: Search, draw_all: bool = False) -> tuple[str, tuple[int, ...]] | None:
    """What the item's tokens now spell, and the tokens; None if the string is too long, or was judged before."""
    ids = one.layout.filled(one.tokens.ids())
    text = model.texts[0].with_tokens(one.item[0].text, ids, one.layout.free)
    read = tuple(model.texts[0].tokens(text))
    if len(read) > model.texts[0].room or (read in one.judged and not draw_all):
        return None
    one.judged.add(read)
    return text, ids
