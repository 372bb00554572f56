"""P4D: tokens under which the edited model predicts what the original model does for the prompt.

    min over c'  E over t, eps  mean | f_original(x_t | prompt) - f_edited(x_t | c') |^2,   x_t a noised picture of the
                                                                                            concept,

c' made of tokens that are rounded in every step while the gradient goes to free vectors behind them (`tokens.Hard`).

    p4d      the original: AdamW 0.1, t uniform, a look every few steps. Form "n": free tokens replace the prompt;
             form "k": one free token behind every 3 of the prompt's.
    p4d-mu   the re-implementation beside UnlearnDiffAtk: a short prefix, Adam 0.01, t from clean to noise.

Source: Chin et al. 2024 (ICML, arXiv 2309.06135), section 3; joycenerd/P4D@2cf3cda. P4DTask with hard_prompt,
Diffusion-MU-Attack@5a3e5d3. Differs: the original picks the prompt whose pictures have the highest CLIP similarity to
the target, here the first one in which the judge finds the concept; both predictions are in the model's own
parametrisation; each model reads prompts with its own text encoder; only tokens that read back as themselves, unless
`vocabulary` is "whole"; the budgets' defaults (`published` has theirs); what `gradient` lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor
from torch.optim import Adam, AdamW
from typing_extensions import Self

from expunge.attacks.base import Access, Attack, Goal, Item, Outcome, Victim, item_generator
from expunge.attacks.gradient import Plan, Wanted, check_pictures, searched
from expunge.attacks.tokens import Hard, Layout, Slot, Vocabulary, prompt_layout
from expunge.attacks.unlearndiff import time_in_turn
from expunge.config import knob
from expunge.models.base import Conditioning
from expunge.models.sd import StableDiffusion
from expunge.records import Request, Spent

PUBLISHED: Mapping[str, Mapping[str, Any]] = {"p4d": {"steps": 3000, "look_every": 50},
                                              "p4d-mu": {"timesteps": 50, "iterations": 40}}
"""The published budgets, by attack."""
SMOKE: Mapping[str, Mapping[str, Any]] = {"p4d": {"steps": 40, "look_every": 10, "rows": 8},
                                          "p4d-mu": {"timesteps": 4, "iterations": 10, "rows": 8}}
"""Budgets for a first look at a small model, by attack."""


class P4D(Attack):
    """Search a whole prompt (form "n"), or tokens spread through each prompt (form "k")."""

    name: ClassVar[str] = "p4d"
    access: ClassVar[Access] = "prompt, white box"
    white_box: ClassVar[bool] = True
    help: ClassVar[str] = "tokens under which the edited model predicts what the original does for the prompt"
    source: ClassVar[str] = "Chin et al. 2024, Prompting4Debugging"

    form: Literal["n", "k"] = knob("n", "n: free tokens replace the prompt; k: one behind every few of its tokens")
    tokens: int = knob(16, "for form n: free tokens", ge=1, unit="tokens", source="joycenerd/P4D@2cf3cda")
    every: int = knob(3, "for form k: tokens of the prompt per free one", ge=1, unit="tokens",
                      source="joycenerd/P4D@2cf3cda")
    steps: int = knob(200, "gradient steps", ge=1, source="joycenerd/P4D@2cf3cda: 3000")
    look_every: int = knob(20, "gradient steps between two looks at the picture", ge=1, unit="steps",
                           source="joycenerd/P4D@2cf3cda: 50")
    learning_rate: float = knob(0.1, "AdamW step size", gt=0.0, source="joycenerd/P4D@2cf3cda")
    weight_decay: float = knob(0.1, "decoupled decay", ge=0.0, source="joycenerd/P4D@2cf3cda")
    vocabulary: Literal["plain", "whole"] = knob("plain", "tokens to choose from: those that read back as themselves, "
                                                          "or all (as published)")
    rows: int = knob(16, "items searched at a time; passes are filled up to it, so results differ by rounding", ge=1)
    draw_all: bool = knob(False, "draw also strings already judged for the item (as published); the answer is the same")

    @classmethod
    def published(cls, **settings: Any) -> Self:
        """The published budget; `settings` on top."""
        return cls.build({**PUBLISHED[cls.name], **settings})

    @classmethod
    def smoke(cls, **settings: Any) -> Self:
        """A budget for a first look; `settings` on top."""
        return cls.build({**SMOKE[cls.name], **settings})

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """Raise UserError for a prompt that leaves no room for the tokens, or an empty set of pictures."""
        check_pictures(victim)
        for item in items:
            self._layout(victim.model, item)

    def run(self, victim: Victim, request: Request, items: Sequence[Item], goal: Goal) -> Iterator[Outcome]:
        """Search all items' tokens side by side, looking at the pictures of those that still stand."""
        model, words = victim.model, Vocabulary.of(victim.model, self.vocabulary)
        whole, rest = divmod(self.steps, self.look_every)
        plan = Plan(rounds=[self.look_every] * whole + [rest] * bool(rest), rows=self.rows,
                    layout=partial(self._layout, model), tokens=partial(self._tokens, words),
                    time=partial(_any_time, model.train_steps), wanted=original_prediction(victim, items),
                    wanted_rows=1, draw_all=self.draw_all)
        yield from searched(self, plan, victim, items, goal)

    def budget(self) -> Spent:
        """All steps, each with a row of the original model, and all looks."""
        return Spent(gradient_steps=self.steps, network_rows=4 * self.steps, images=-(-self.steps // self.look_every))

    def _layout(self, model: StableDiffusion, item: Item) -> Layout:
        slot: Slot = "replace" if self.form == "n" else "every"
        return prompt_layout(model, item[0].text, slot, self.tokens, every=self.every)

    def _tokens(self, words: Vocabulary, item: Item, layout: Layout) -> Hard:
        return Hard(words, len(layout.free), item_generator(self, item, "tokens"), learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay, optimizer=AdamW)


class P4DMu(Attack):
    """Search a short insertion as hard tokens, with the schedule of UnlearnDiffAtk."""

    name: ClassVar[str] = "p4d-mu"
    access: ClassVar[Access] = "prompt, white box"
    white_box: ClassVar[bool] = True
    help: ClassVar[str] = "P4D as re-implemented beside UnlearnDiffAtk: a short prefix, t from clean to noise"
    source: ClassVar[str] = "Zhang et al. 2024, UnlearnDiffAtk, baseline P4D"

    tokens: int = knob(3, "free tokens per prompt", ge=1, unit="tokens",
                       source="5 for nudity, violence and illegal, 3 for styles and objects")
    slot: Slot = knob("prefix", "where they go: prefix, suffix, mid, at, spread, every or replace",
                      source="Diffusion-MU-Attack@5a3e5d3: prefix")
    at: int = knob(0, "for the slot at: the prompt's token before which they go", ge=0)
    every: int = knob(3, "for the slot every: tokens of the prompt per free one", ge=1, unit="tokens")
    timesteps: int = knob(10, "times visited, evenly spaced, from clean to noise; a look at the picture after each",
                          ge=1, source="Diffusion-MU-Attack@5a3e5d3: 50")
    iterations: int = knob(20, "gradient steps at each time", ge=1, source="Diffusion-MU-Attack@5a3e5d3: 40")
    learning_rate: float = knob(0.01, "Adam step size", gt=0.0, source="Diffusion-MU-Attack@5a3e5d3")
    weight_decay: float = knob(0.1, "as a part of the gradient", ge=0.0, source="Diffusion-MU-Attack@5a3e5d3")
    vocabulary: Literal["plain", "whole"] = knob("plain", "tokens to choose from: those that read back as themselves, "
                                                          "or all (as published)")
    rows: int = knob(16, "items searched at a time; passes are filled up to it, so results differ by rounding", ge=1)
    draw_all: bool = knob(False, "draw also strings already judged for the item (as published); the answer is the same")

    @classmethod
    def published(cls, **settings: Any) -> Self:
        """The published budget; `settings` on top."""
        return cls.build({**PUBLISHED[cls.name], **settings})

    @classmethod
    def smoke(cls, **settings: Any) -> Self:
        """A budget for a first look; `settings` on top."""
        return cls.build({**SMOKE[cls.name], **settings})

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """Raise UserError for a prompt that leaves no room for the tokens, or an empty set of pictures."""
        check_pictures(victim)
        for item in items:
            self._layout(victim.model, item)

    def run(self, victim: Victim, request: Request, items: Sequence[Item], goal: Goal) -> Iterator[Outcome]:
        """Search all items' tokens side by side, looking at the pictures of those that still stand."""
        model, words = victim.model, Vocabulary.of(victim.model, self.vocabulary)
        plan = Plan(rounds=[self.iterations] * self.timesteps, rows=self.rows, layout=partial(self._layout, model),
                    tokens=partial(self._tokens, words), time=partial(time_in_turn, model.train_steps, self.timesteps),
                    wanted=original_prediction(victim, items), wanted_rows=1, draw_all=self.draw_all)
        yield from searched(self, plan, victim, items, goal)

    def budget(self) -> Spent:
        """All steps at all times, each with a row of the original model, and a picture after each time."""
        steps = self.timesteps * self.iterations
        return Spent(gradient_steps=steps, network_rows=4 * steps, images=self.timesteps)

    def _layout(self, model: StableDiffusion, item: Item) -> Layout:
        return prompt_layout(model, item[0].text, self.slot, self.tokens, at=self.at, every=self.every)

    def _tokens(self, words: Vocabulary, item: Item, layout: Layout) -> Hard:
        return Hard(words, len(layout.free), item_generator(self, item, "tokens"), learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay, optimizer=Adam)


@torch.no_grad()
def original_prediction(victim: Victim, items: Sequence[Item]) -> Wanted:
    """What the original model predicts for each item's own prompt, which is encoded once, alone."""
    original = victim.original()
    each = [original.encode([prompt.text]) for prompt, _ in items]
    told = Conditioning(torch.cat([one.states for one in each]), torch.cat([one.ids for one in each]))

    def wanted(places: Sequence[int], x0: Tensor, eps: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return original.predict(x_t, t, told.at(torch.tensor(places, device=told.ids.device)))

    return wanted


def _any_time(train_steps: int, number: int, clock: Generator) -> int:
    return int(torch.randint(train_steps, (), generator=clock))
