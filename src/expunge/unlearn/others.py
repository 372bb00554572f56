"""What the student says at the concept's own latents when it is told other things: what the original says there.

An edit that learns "at latents like these, no church" also answers so when a castle is asked for. Told a prompt to
keep, or random tokens, the student is held to the teacher at points of the erase loss:

    loss = mean |eps_theta(x_t | u) - eps_o(x_t | u)|^2,   x_t on the way to the concept, u something else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.models.conditioning import Conditioning
from expunge.models.free_places import FreePlaces, Layout
from expunge.models.model import Model
from expunge.train import step_generator
from expunge.unlearn.context import TrainContext

LENGTH = 8
"""Random tokens told at a point."""


class Others:
    """The loss above, of a step's number."""

    def __init__(self, context: TrainContext, prompts: Sequence[str], told: int, wide: int) -> None:
        """`told`: points of a step that are told one of the prompts; `wide`: random tokens.

        Raises:
            ExpungeError: the context has no points of an erase loss.
        """
        if context.erasing is None:
            raise ExpungeError("points of the concept for a keep outside a recipe",
                               accepted="a keep in a recipe, which has an erase loss",
                               remedy="leave beside and wide at 0")
        self._context, self._stream, self._prompts = context, context.erasing, tuple(prompts)
        self._told, self._wide = told, wide
        with torch.no_grad():
            self._known = context.teacher.encode(self._prompts).detach()

    def loss(self, number: int) -> Tensor:
        """A scalar with gradient; the points are those of the erase loss, as far as they go round."""
        context, points = self._context, self._stream.draw(number)
        points = points.at(torch.arange(self._told + self._wide) % len(points.t))
        generator = step_generator(context.seed, number, "keep/others")
        rows = torch.randint(len(self._prompts), (self._told,), generator=generator)
        plain = context.teacher.texts[0].plain
        drawn = plain[torch.randint(len(plain), (self._wide, LENGTH), generator=generator)]
        with torch.no_grad():
            wanted = context.teacher.predict(points.x_t, points.t, self._of(context.teacher, rows, drawn))
        out = context.student.predict(points.x_t, points.t, self._of(context.student, rows, drawn))
        return (out - wanted).square().mean()

    def _of(self, model: Model, rows: Tensor, drawn: Tensor) -> Conditioning:
        """What a model is told: the prompts to keep at `rows`, then the tokens `drawn`, (W, LENGTH)."""
        parts = []
        if len(rows):
            known, texts = self._known.at(rows), [self._prompts[int(row)] for row in rows]
            parts.append(known if model is self._context.teacher else self._context.conditioning(texts, known))
        if len(drawn):
            layouts = [Layout(tuple(row), ()) for row in drawn.tolist()]
            parts.append(FreePlaces.of(model, [""] * len(drawn), layouts).as_they_are(model))
        return Conditioning.cat(parts)
