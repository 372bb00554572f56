"""The search that white-box prompt attacks share: many items at once, each with its own early stop.

With e the embeddings looked up for the free tokens c', each item descends

    L(c') = E over t, eps of  mean |wanted(x0, eps, t) - f_edited(x_t | c')|^2,     x_t = noise(x0, eps, t),

x0 the latent of a picture that shows the concept. After every round of steps the free tokens are decoded to a string,
and the picture of that string, read anew by the tokenizer, is judged: an attack counts for what can be typed.

What makes it fast, and what does not change: a pass of text encoder and network serves many items, each with its own
noise; those that are found leave at once, and the others close up; pictures are drawn for all items together; a string
that reads as tokens which were already judged for this item is not drawn again, for its picture is known. Every pass is
filled up to the same number of rows: matrix products of one shape add each row in one order, so that even after
thousands of steps an item's tokens do not depend on what was searched beside it (on CPU bit for bit).

Source: the loop of Diffusion-MU-Attack@5a3e5d3 (rounds of steps, then a strict look). Differs: all of the above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Generator, Tensor

from expunge.attacks.aims import targets
from expunge.attacks.base import Attack, Goal, Item, Meter, Outcome, Victim, item_generator, item_noise
from expunge.attacks.tokens import FreeTokens, Layout
from expunge.models.model import Model

Wanted = Callable[[Sequence[int], Tensor, Tensor, Tensor, Tensor], Tensor]
"""What the network should put out: (places of the items, x0, eps, x_t, t) -> (B, c, h, w)."""


@dataclass(frozen=True)
class Plan:
    """An attack in parts.

    Attributes:
        rounds: gradient steps of each round; a look at the picture ends it.
        rows: rows of every pass through the network.
        layout: where an item's free tokens stand; tokens: a new search for them.
        time: t of the next step, from the number of the round and the item's own generator.
        wanted: the target; wanted_rows: rows through a network that it costs per item and step.
        draw_all: draw also what was judged before.
        left_out: why an item is not attacked at all, "" if it is.
    """

    rounds: Sequence[int]
    rows: int
    layout: Callable[[Item], Layout]
    tokens: Callable[[Item, Layout], FreeTokens]
    time: Callable[[int, Generator], float]
    wanted: Wanted
    wanted_rows: int = 0
    draw_all: bool = False
    left_out: Callable[[Item], str] = lambda item: ""


@dataclass
class _Search:
    """One item under way: `judged` are the token rows whose pictures are known; `moved`: some gradient was not 0."""

    row: int
    item: Item
    x0: Tensor
    layout: Layout
    tokens: FreeTokens
    noise: Generator
    clock: Generator
    judged: set[tuple[int, ...]]
    moved: bool = False
    error: str = ""
    ids: tuple[int, ...] = ()
    text: str = ""
    picture: Tensor | None = field(default=None, repr=False)


def searched(attack: Attack, plan: Plan, victim: Victim, items: Sequence[Item], goal: Goal) -> Iterator[Outcome]:
    """Search every item's free tokens side by side; yields each item's outcome as it is settled."""
    meter = Meter(len(items))
    notes = [plan.left_out(item) for item in items]
    yield from (Outcome(row, False, meter[row], note=note) for row, note in enumerate(notes) if note)
    aimed = [row for row, note in enumerate(notes) if not note]
    pictures = targets(victim, [items[row] for row in aimed], goal)
    meter.add(aimed)
    active: list[_Search] = []
    for row, picture in zip(aimed, pictures, strict=True):
        if picture is None:
            yield Outcome(row, False, meter[row], error=f"no picture of {goal.aim.concept!r} to aim at")
        else:
            active.append(_begun(attack, plan, victim.model, row, items[row], picture))
    for number, steps in enumerate(plan.rounds):
        for _ in range(steps):
            moving = [one for one in active if not one.error]
            for first in range(0, len(moving), plan.rows):
                _descend(plan, victim.model, number, moving[first:first + plan.rows])
            meter.add([one.row for one in moving], gradient_steps=1, network_rows=3 + plan.wanted_rows)
        last = number == len(plan.rounds) - 1
        settled = dict(_looked(attack, plan, victim, active, goal, meter, last))
        yield from settled.values()
        meter.add([])  # what is done with outcomes meanwhile is not the attack's time
        active = [one for one in active if one.row not in settled]
        if not active:
            return


def _begun(attack: Attack, plan: Plan, model: Model, row: int, item: Item, picture: Tensor) -> _Search:
    layout = plan.layout(item)
    with torch.no_grad():
        x0 = model.encode_pixels(picture[None])[0]  # (c, h, w); each picture alone
    return _Search(row, item, x0, layout, plan.tokens(item, layout),
                   item_generator(attack, item, "noise"), item_generator(attack, item, "time"),
                   {tuple(model.texts[0].tokens(item[0].text))})


def _descend(plan: Plan, model: Model, number: int, active: Sequence[_Search]) -> None:
    """One gradient step of round `number` for each of the active items, as many as a pass has rows at most."""
    fill = [*range(len(active)), *[0] * (plan.rows - len(active))]  # each pass has the same shape
    x0 = torch.stack([one.x0 for one in active])[fill]
    eps = item_noise([one.noise for one in active], x0.shape[1:]).to(model.device)[fill]
    t = torch.tensor([plan.time(number, one.clock) for one in active], device=model.device)[fill]
    x_t = model.process.noised(x0, eps, t)
    with torch.no_grad():
        wanted = plan.wanted([active[place].row for place in fill], x0, eps, x_t, t)
    points = [one.tokens.points() for one in active]
    asked = [active[place] for place in fill]
    gradients = prompt_gradient(model, [one.item[0].text for one in asked], [one.layout for one in asked],
                                [one.layout.free for one in active], torch.cat(points), x_t, t, wanted)[1]
    for one, gradient in zip(active, gradients.split([len(part) for part in points]), strict=True):
        if gradient.isfinite().all():
            one.moved = one.moved or bool(gradient.any())
            one.tokens.step(gradient)
        else:
            one.error = "the gradient is not a number"


def prompt_gradient(model: Model, prompts: Sequence[str], layouts: Sequence[Layout], free: Sequence[Sequence[int]],
                    points: Tensor, x_t: Tensor, t: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (B,) and the gradient (M, D) of each row's loss at the embeddings of its free tokens.

    Args:
        prompts: B texts, which the other encoders of a model with several read as they are.
        layouts: B rows of tokens for the first encoder.
        free: free places of the first rows, counted within a layout's tokens; rows beyond have none.
        points: float32 (M, D), embeddings for all free places in order.
        x_t, wanted: (B, c, h, w); t: float32 (B,).
    """
    encoder = model.texts[0]
    told = encoder.framed([layout.tokens for layout in layouts])
    rows = [row for row, places in enumerate(free) for _ in places]
    columns = [len(encoder.start) + place for places in free for place in places]
    where = (torch.tensor(rows, device=told.ids.device), torch.tensor(columns, device=told.ids.device))
    with torch.enable_grad():
        e = points.detach().clone().requires_grad_()
        cond = model.encode_embedded(prompts, told, encoder.table[told.ids].index_put(where, e))  # (B, T, D)
        losses = (model.predict(x_t, t, cond) - wanted).square().flatten(1).mean(1)
        gradient, = torch.autograd.grad(losses.sum(), e)
    return losses.detach(), gradient


def _looked(attack: Attack, plan: Plan, victim: Victim, active: Sequence[_Search], goal: Goal, meter: Meter, last: bool
            ) -> Iterator[tuple[int, Outcome]]:
    """Draw and judge what the active items' tokens spell; (row, outcome) of those that are settled, in the end all."""
    asked, found = [one for one in active if not one.error and _spelt(plan, victim.model, one)], set[int]()
    if asked:
        pictures = victim.draw([one.text for one in asked], [one.item[1] for one in asked], attack.batch)
        sights = goal.see(pictures)
        meter.add([one.row for one in asked], images=1, network_rows=victim.rows_per_picture)
        for one, picture, sight in zip(asked, pictures, sights, strict=True):
            one.picture, one.error = picture, sight.error
            if sight.found and not sight.error:
                found.add(one.row)
    for one in active:
        if one.row in found or one.error or last:
            note = "" if one.moved or one.error else f"zero gradient: nothing moved the tokens of {attack.name}"
            yield one.row, Outcome(one.row, one.row in found, meter[one.row], one.picture, one.text, one.ids,
                                   again=partial(_again, victim, one.text) if one.row in found else None,
                                   error=one.error, note=note)


def _spelt(plan: Plan, model: Model, one: _Search) -> bool:
    """Whether the tokens now spell something that is worth drawing; if so, it is `one.text`."""
    ids = one.layout.filled(one.tokens.ids())
    text = model.texts[0].with_tokens(one.item[0].text, ids, one.layout.free)
    read = tuple(model.texts[0].tokens(text))
    if len(read) > model.texts[0].room or (read in one.judged and not plan.draw_all):
        return False
    one.judged.add(read)
    one.ids, one.text = ids, text
    return True


def _again(victim: Victim, text: str, seeds: Sequence[int]) -> Tensor:
    return victim.draw([text] * len(seeds), seeds)
