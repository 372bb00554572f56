"""UnlearnDiffAtk: tokens around the prompt under which the edited model denoises a picture of the concept best.

By Bayes' rule a diffusion model is a classifier of pictures: the prompt c' that fits a picture x_tgt best is the one
with the smallest denoising error. So no detector is needed to aim, only a picture of the concept:

    min over c'  E over eps  mean | target(x0, eps, t) - f_edited(x_t | c') |^2,   x0 the latent of x_tgt,

c' being the prompt with k free tokens, relaxed to distributions over the vocabulary (`tokens.Simplex`). t rises from
the clean end to the noisy one, with `iterations` steps at each value, and each value ends in a look at the picture of
the most probable tokens, as a string. `UnlearnDiff.published` has the published budget, `smoke` one for minutes.

Source: Zhang et al. 2024 (ECCV, arXiv 2310.11868), eq. 6; text_grad, Diffusion-MU-Attack@5a3e5d3. Differs: the target
is in the model's own parametrisation (v for v-prediction; noise there, for noise prediction both are the same); only
tokens that read back as themselves, unless `vocabulary` is "whole"; the budget's defaults; what `gradient` lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from torch import Generator, Tensor
from typing_extensions import Self

from expunge.attacks.base import Access, Attack, Goal, Item, Outcome, Victim, denoising_target, item_generator
from expunge.attacks.gradient import Plan, check_pictures, searched
from expunge.attacks.tokens import Layout, Simplex, Slot, Vocabulary, prompt_layout
from expunge.config import knob
from expunge.models.sd import StableDiffusion
from expunge.models.text import tokens_of
from expunge.records import Request, Spent

PUBLISHED: Mapping[str, Any] = {"timesteps": 50, "iterations": 40}
"""The published budget: 2000 gradient steps and 50 pictures."""
SMOKE: Mapping[str, Any] = {"timesteps": 4, "iterations": 10, "rows": 8}
"""A budget for a first look at a small model."""
LONGEST = 60
"""Prompts of more tokens, start and end included, were left out of the published runs."""


class UnlearnDiff(Attack):
    """Search tokens around each prompt by the edited model's own denoising error."""

    name: ClassVar[str] = "unlearndiff"
    access: ClassVar[Access] = "prompt, white box"
    white_box: ClassVar[bool] = True
    help: ClassVar[str] = "tokens around the prompt that make the edited model denoise a picture of the concept"
    source: ClassVar[str] = "Zhang et al. 2024, UnlearnDiffAtk"

    tokens: int = knob(3, "free tokens per prompt", ge=1, unit="tokens",
                       source="5 for nudity, violence and illegal, 3 for styles and objects")
    slot: Slot = knob("prefix", "where they go: prefix, suffix, mid, at, spread, every or replace",
                      source="Diffusion-MU-Attack@5a3e5d3: prefix")
    at: int = knob(0, "for the slot at: the prompt's token before which they go", ge=0)
    every: int = knob(3, "for the slot every: tokens of the prompt per free one", ge=1, unit="tokens")
    timesteps: int = knob(10, "times visited, evenly spaced, from clean to noise; a look at the picture after each",
                          ge=1, source="Diffusion-MU-Attack@5a3e5d3: 50")
    iterations: int = knob(20, "gradient steps at each time", ge=1, source="Diffusion-MU-Attack@5a3e5d3: 40")
    learning_rate: float = knob(0.01, "Adam step size on the simplex", gt=0.0, source="Diffusion-MU-Attack@5a3e5d3")
    weight_decay: float = knob(0.1, "as a part of the gradient", ge=0.0, source="Diffusion-MU-Attack@5a3e5d3")
    clip: float = knob(1.0, "largest component of the gradient", gt=0.0, source="Diffusion-MU-Attack@5a3e5d3")
    vocabulary: Literal["plain", "whole"] = knob("plain", "tokens to choose from: those that read back as themselves, "
                                                          "or all (as published)")
    rows: int = knob(16, "items searched at a time; passes are filled up to it, so results differ by rounding", ge=1)
    draw_all: bool = knob(False, "draw also strings already judged for the item (as published); the answer is the same")
    legacy_length: bool = knob(False, f"leave prompts of more than {LONGEST} tokens unattacked, which counts as not "
                                      "elicited (as published), where else they are refused if they do not fit")

    @classmethod
    def published(cls, **settings: Any) -> Self:
        """The published budget; `settings` on top."""
        return cls.build({**PUBLISHED, **settings})

    @classmethod
    def smoke(cls, **settings: Any) -> Self:
        """A budget for a first look; `settings` on top."""
        return cls.build({**SMOKE, **settings})

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """Raise UserError for a prompt that leaves no room for the tokens, or an empty set of pictures."""
        check_pictures(victim)
        for item in items:
            if not self._left_out(victim.model, item):
                self._layout(victim.model, item)

    def run(self, victim: Victim, request: Request, items: Sequence[Item], goal: Goal) -> Iterator[Outcome]:
        """Search all items' tokens side by side, looking at the pictures of those that still stand."""
        model, words = victim.model, Vocabulary.of(victim.model, self.vocabulary)

        def wanted(places: Sequence[int], x0: Tensor, eps: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
            return denoising_target(model, x0, eps, t)

        plan = Plan(rounds=[self.iterations] * self.timesteps, rows=self.rows, layout=partial(self._layout, model),
                    tokens=partial(self._tokens, words), time=partial(time_in_turn, model.train_steps, self.timesteps),
                    wanted=wanted, draw_all=self.draw_all, left_out=partial(self._left_out, model))
        yield from searched(self, plan, victim, items, goal)

    def budget(self) -> Spent:
        """All steps at all times, and a picture after each time."""
        steps = self.timesteps * self.iterations
        return Spent(gradient_steps=steps, network_rows=3 * steps, images=self.timesteps)

    def _layout(self, model: StableDiffusion, item: Item) -> Layout:
        return prompt_layout(model, item[0].text, self.slot, self.tokens, at=self.at, every=self.every)

    def _tokens(self, words: Vocabulary, item: Item, layout: Layout) -> Simplex:
        return Simplex(words, len(layout.free), item_generator(self, item, "tokens"), learning_rate=self.learning_rate,
                       weight_decay=self.weight_decay, clip=self.clip)

    def _left_out(self, model: StableDiffusion, item: Item) -> str:
        length = len(tokens_of(model, item[0].text)) + 2
        if not self.legacy_length or length <= LONGEST:
            return ""
        return f"not attacked: {length} tokens, more than the {LONGEST} of the published runs"


def time_in_turn(train_steps: int, count: int, number: int, clock: Generator) -> int:
    """The middle of part `number` of `count` equal parts of the time grid: 10, 30, ..., 990 for 50 of 1000."""
    return (2 * number + 1) * train_steps // (2 * count)
