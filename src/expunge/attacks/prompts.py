"""What prompt attacks that see gradients share: their knobs, their budget, and how they become a search (`gradient`).

`PromptSearch` is any of them; its author says how many steps lead to each look, where the free tokens stand, how they
are searched, at which times t, and towards what. `InsertedTokens` has a few tokens inserted into the prompt and t
rising from clean to noise, as in the experiments of UnlearnDiffAtk, where two attacks differ in the rest alone.

Source: Zhang et al. 2024 (ECCV, arXiv 2310.11868); Diffusion-MU-Attack@5a3e5d3. Differs: see the attacks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, final

import torch
from torch import Generator, Tensor

from expunge.attacks.aims import aimed, check_pictures
from expunge.attacks.base import Access, Attack, Searches, item_generator
from expunge.attacks.gradient import Search, Wanted, descend, spelt
from expunge.attacks.proposal import Batch, Candidate, Rounds
from expunge.attacks.tokens import FreeTokens, Vocabulary
from expunge.attacks.victim import Item, Victim, picture_rows
from expunge.config import knob
from expunge.errors import UserError
from expunge.models.free_places import Layout, Slot, prompt_layout
from expunge.models.model import Model
from expunge.models.schedule import Schedule
from expunge.records import Request, Sampler, Spent


class PromptSearch(Attack):
    """Search free tokens of each prompt by gradients, looking at the image now and then.

    Class attributes:
        wanted_rows: rows through a network that the target costs per item and step.
    """

    access: ClassVar[Access] = "prompt, white box"
    white_box: ClassVar[bool] = True
    searches: ClassVar[Searches] = "tokens"
    wanted_rows: ClassVar[int] = 0

    vocabulary: Literal["plain", "whole"] = knob("plain", "tokens to choose from: those that read back as themselves, "
                                                          "or all (as published)")
    rows: int = knob(16, "items per pass through the network; passes are filled up to it, or to the power of two that "
                         "holds a smaller trial, so results differ by rounding", ge=1)
    draw_all: bool = knob(False, "draw also strings already judged for the item (as published); the answer is the same")

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """Raise UserError where no prompt leaves room for the tokens, or for images of no use."""
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
    def propose(self, batch: Batch) -> Rounds:
        """Search all items' tokens side by side, and ask with the strings that those still standing have come to."""
        victim, model = batch.victim, batch.victim.model
        for row, item in enumerate(batch.items):
            if note := self._left_out(model, item):
                batch.give_up([row], note)
        wanted, words = self._wanted(victim, batch.items), Vocabulary.of(model, self.vocabulary)
        searches = {row: self._begun(victim, words, row, batch.items[row], aim) for row, aim in
                    aimed(batch, f"no image of {batch.goal.aim.concept!r} to aim at").items()}
        for number, steps in enumerate(self._rounds()):
            for _ in range(steps):
                self._step(batch, wanted, number, [searches[row] for row in batch.standing])
            for row in batch.standing:
                batch.notes[row] = [] if searches[row].moved else [
                    f"zero gradient: nothing moved the tokens of {self.name}"]
            found = {row: spelt(model, searches[row], self.draw_all) for row in batch.standing}
            yield [Candidate(row, best[0], ids=best[1]) for row, best in found.items() if best]

    def _begun(self, victim: Victim, words: Vocabulary, row: int, item: Item, aim: Tensor) -> Search:
        layout = self._layout(victim.model, item, victim.sampler.truncate)
        with torch.no_grad():
            x0 = victim.model.encode_pixels(aim[None])[0]  # (c, h, w); each image alone
        return Search(row, item, x0, layout, self._tokens(words, item, layout), item_generator(self, item, "noise"),
                      item_generator(self, item, "time"), {tuple(victim.encoder.tokens(item[0].text))})

    def _step(self, batch: Batch, wanted: Wanted, number: int, active: Sequence[Search]) -> None:
        model, broken = batch.victim.model, list[int]()
        time = partial(self._time, model.process.schedule, number)
        rows = min(self.rows, 1 << (batch.victim.trial - 1).bit_length()) if batch.victim.trial else self.rows
        for first in range(0, len(active), rows):
            broken += descend(model, wanted, time, rows, active[first:first + rows])
        batch.spend([one.row for one in active], gradient_steps=1, network_rows=3 + self.wanted_rows)
        batch.fail(broken, "the gradient is not a number")

    @final
    def budget(self, sampler: Sampler) -> Spent:
        """All steps, and an image after each round."""
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
    timesteps: int = knob(10, "times visited, evenly spaced, from clean to noise; a look at the image after each",
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
