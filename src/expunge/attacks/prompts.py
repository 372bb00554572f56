"""What prompt attacks that see gradients share: their knobs, their budget, and how they become a search (`gradient`).

`PromptSearch` is any of them; its author says how many steps lead to each look, where the free tokens stand, how they
are searched, at which times t, and towards what. `InsertedTokens` has a few tokens inserted into the prompt and t
rising from clean to noise, as in the experiments of UnlearnDiffAtk, where two attacks differ in the rest alone.

Source: Zhang et al. 2024 (ECCV, arXiv 2310.11868); Diffusion-MU-Attack@5a3e5d3. Differs: see the attacks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, final

from torch import Generator

from expunge.attacks.aims import check_pictures
from expunge.attacks.base import Access, Attack, Goal, Item, Outcome, Victim, picture_rows
from expunge.attacks.gradient import Plan, Wanted, searched
from expunge.attacks.tokens import FreeTokens, Layout, Slot, Vocabulary, prompt_layout
from expunge.config import knob
from expunge.errors import UserError
from expunge.models.model import Model
from expunge.models.schedule import Schedule
from expunge.records import Request, Sampler, Spent


class PromptSearch(Attack):
    """Search free tokens of each prompt by gradients, looking at the picture now and then.

    Class attributes:
        wanted_rows: rows through a network that the target costs per item and step.
    """

    access: ClassVar[Access] = "prompt, white box"
    white_box: ClassVar[bool] = True
    wanted_rows: ClassVar[int] = 0

    vocabulary: Literal["plain", "whole"] = knob("plain", "tokens to choose from: those that read back as themselves, "
                                                          "or all (as published)")
    rows: int = knob(16, "items per pass through the network; passes are filled up to it, so results differ by "
                         "rounding", ge=1)
    draw_all: bool = knob(False, "draw also strings already judged for the item (as published); the answer is the same")

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """Raise UserError where no prompt leaves room for the tokens, or for pictures of no use."""
        check_pictures(victim)
        self.some_room(victim, request, items)

    def no_room(self, victim: Victim, request: Request, item: Item) -> UserError | None:
        """For a prompt into which the tokens do not fit, and that is not left out anyhow."""
        try:
            if not self._left_out(victim.model, item):
                self._layout(victim.model, item, victim.sampler.truncate)
        except UserError as error:
            return error
        return None

    @final
    def run(self, victim: Victim, request: Request, items: Sequence[Item], goal: Goal) -> Iterator[Outcome]:
        """Search all items' tokens side by side, looking at the pictures of those that still stand."""
        model, words = victim.model, Vocabulary.of(victim.model, self.vocabulary)
        layout = partial(self._layout, model, cut=victim.sampler.truncate)
        plan = Plan(rounds=self._rounds(), rows=self.rows, layout=layout,
                    tokens=partial(self._tokens, words), time=partial(self._time, model.process.schedule),
                    wanted=self._wanted(victim, items), wanted_rows=self.wanted_rows, draw_all=self.draw_all,
                    left_out=partial(self._left_out, model))
        yield from searched(self, plan, victim, items, goal)

    @final
    def budget(self, sampler: Sampler) -> Spent:
        """All steps, and a picture after each round."""
        steps, looks = sum(self._rounds()), len(self._rounds())
        return Spent(gradient_steps=steps, images=looks,
                     network_rows=(3 + self.wanted_rows) * steps + looks * picture_rows(sampler))

    @abstractmethod
    def _rounds(self) -> Sequence[int]:
        """Gradient steps before each look."""

    @abstractmethod
    def _layout(self, model: Model, item: Item, cut: bool = False) -> Layout:
        """Where the item's free tokens stand. UserError if there is no room, unless the prompt's end may be `cut`."""

    @abstractmethod
    def _tokens(self, words: Vocabulary, item: Item, layout: Layout) -> FreeTokens:
        """A new search for the item's free tokens."""

    @abstractmethod
    def _time(self, schedule: Schedule, number: int, clock: Generator) -> float:
        """t of a step of round `number`; `clock` is the item's own."""

    @abstractmethod
    def _wanted(self, victim: Victim, items: Sequence[Item]) -> Wanted:
        """What the network should put out."""

    def _left_out(self, model: Model, item: Item) -> str:
        """Why the item is not attacked at all; "" if it is."""
        return ""


class InsertedTokens(PromptSearch):
    """Search a few tokens inserted into each prompt, t rising from clean to noise."""

    SMOKE: ClassVar[Mapping[str, Any]] = {"timesteps": 4, "steps": 10, "rows": 8}
    PUBLISHED: ClassVar[Mapping[str, Any]] = {"timesteps": 50, "steps": 40}

    tokens: int = knob(3, "free tokens per prompt", ge=1, unit="tokens",
                       source="5 for nudity, violence and illegal, 3 for styles and objects")
    slot: Slot = knob("prefix", "where they go: prefix, suffix, mid, at, spread, every or replace",
                      source="Diffusion-MU-Attack@5a3e5d3: prefix")
    at: int = knob(0, "for the slot at: the prompt's token before which they go", ge=0)
    every: int = knob(3, "for the slot every: tokens of the prompt per free one", ge=1, unit="tokens")
    timesteps: int = knob(10, "times visited, evenly spaced, from clean to noise; a look at the picture after each",
                          ge=1, source="Diffusion-MU-Attack@5a3e5d3: 50")
    steps: int = knob(20, "gradient steps at each time", ge=1, source="Diffusion-MU-Attack@5a3e5d3: 40",
                      former="iterations")
    learning_rate: float = knob(0.01, "Adam step size", gt=0.0, source="Diffusion-MU-Attack@5a3e5d3")
    weight_decay: float = knob(0.1, "as a part of the gradient", ge=0.0, source="Diffusion-MU-Attack@5a3e5d3")

    def _rounds(self) -> Sequence[int]:
        return [self.steps] * self.timesteps

    def _layout(self, model: Model, item: Item, cut: bool = False) -> Layout:
        return prompt_layout(model, item[0].text, self.slot, self.tokens, at=self.at, every=self.every, cut=cut)

    def _time(self, schedule: Schedule, number: int, clock: Generator) -> float:
        """The middle of part `number` of equal parts of the training times: 10, 30, ..., 990 for 50 of 1000."""
        return float(schedule.evenly(self.timesteps)[number])
