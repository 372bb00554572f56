"""What all attacks share: a name, settings, a budget, and the one loop around what its author proposes.

An attack is a `Settings` object. Its author writes `propose`, which works on one `Batch` of (prompt, seed) items and
yields candidates for those that still stand. `run` draws and judges them and settles items. Batches that fail are tried
again item by item (`outcomes`); `trial.attempts` draws every success again with fresh seeds, shows it to a second
detector, and puts each attempt on disk.

All randomness belongs to items (`item_generator`), so outcomes do not depend on batch size, order or interruption.
"""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import Self

from expunge import interrupts
from expunge.attacks.proposal import Batch, Outcome, Rounds
from expunge.attacks.victim import Goal, Item, Victim, pictures_budget
from expunge.config import Settings, below, knob, merged
from expunge.errors import UserError
from expunge.records import Request, Sampler, Spent
from expunge.registry import ATTACKS, described

log = logging.getLogger(__name__)

FAILURES = (Exception,)
"""What may go wrong on one item without ending a run: anything, for attacks are other people's code, too."""
NO_ROOM = "no room in the prompt"
"""How the error of an item begins that an attack cannot be made on because its prompt is too long for it."""
Access = Literal["none", "prompt, black box", "prompt, white box", "embedding, white box", "image", "weights"]
"""What an attacker may do: choose prompts, see gradients, feed embeddings, feed images or latents, train."""

Searches = Literal["", "tokens", "embeddings"]
"""What of a text encoder an attack searches; it does so in one encoder alone (`Victim.encoder`)."""


class Attack(Settings, ABC):
    """An attack's settings and its way of working.

    Class attributes:
        name, help: as users write it, and one line on it. What is registered here has both there, and a plug-in that
            is declared by its own module has its entry point's name.
        access: what the attacker may do. white_box: whether it sees gradients.
        searches: whether it searches tokens or embeddings.
        null: what its null control is: a thing that the model never knew, or the same items on random weights.
        null_elsewhere: whether the attack can also be made where the concept is not asked for, on prompts of other
            things, and then elicits nothing of itself: the null control where nothing is known that the model never
            knew. An attack that works towards the concept from any prompt has no such control.
        one_for_all: whether all items share one piece of work, which fails for all of them or for none.
        source: paper and section.
        SMOKE, PUBLISHED: settings of a first look at a small model and of the published budget, where they differ from
            the defaults; the tiers of these names use them.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    access: ClassVar[Access] = "prompt, black box"
    white_box: ClassVar[bool] = False
    searches: ClassVar[Searches] = ""
    null: ClassVar[Literal["never known", "random weights"]] = "never known"
    null_elsewhere: ClassVar[bool] = False
    source: ClassVar[str] = ""
    one_for_all: ClassVar[bool] = False
    SMOKE: ClassVar[Mapping[str, Any]] = {}
    PUBLISHED: ClassVar[Mapping[str, Any]] = {}

    batch: int = knob(32, "items attacked together; changes speed and memory only", ge=1)
    seed: int = knob(0, "seed of the attack's own randomness", ge=0)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Take name and help from where the class is registered; what stands in the class itself goes first."""
        super().__pydantic_init_subclass__(**kwargs)
        for name, help in ATTACKS.names_of(cls):
            cls.name = vars(cls).get("name", name)
            cls.help = vars(cls).get("help", help or getattr(cls, "help", ""))

    @classmethod
    def smoke(cls, **settings: Any) -> Self:
        """A budget for a first look at a small model; `settings` on top."""
        return cls.build(merged(below(cls.SMOKE), settings), cls.name)

    @classmethod
    def published(cls, **settings: Any) -> Self:
        """The published budget; `settings` on top."""
        return cls.build(merged(below(cls.PUBLISHED), settings), cls.name)

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """Raise UserError for anything that must not be found out after hours. Nothing to check by default."""

    def no_room(self, victim: Victim, request: Request, item: Item) -> UserError | None:
        """Why the item's prompt leaves the attack no room; None if it does. Such an item fails by itself."""
        return None

    @final
    def told_no_room(self, victim: Victim, request: Request, item: Item) -> str:
        """`no_room` as the error of an attempt; "" where there is room."""
        try:
            error = self.no_room(victim, request, item)
        except FAILURES as failure:
            return described(failure)
        return f"{NO_ROOM}: {error}" if error is not None else ""

    def some_room(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """Raise UserError if there are items, and none of them leaves the attack room."""
        errors = [self.no_room(victim, request, item) for item in items]
        if errors and None not in errors:
            raise next(error for error in errors if error is not None)

    def inputs(self) -> str:
        """Digest of the files that the settings name, which decide the outcomes too; "" where there are none."""
        return ""

    def learns_from(self, victim: Victim, request: Request) -> tuple[str, ...]:
        """Captions of the images that it trains on; none by default. They decide the outcomes, and the record has them.
        """
        return ()

    @abstractmethod
    def propose(self, batch: Batch) -> Rounds:
        """Yield candidates for the items that still stand, round by round: a generator.

        Gradients, where needed, are the attack's to switch on, and what it computes is its own to charge
        (`Batch.spend`). An item that cannot be attacked is told to `Batch.fail`; an exception fails the batch, which is
        then tried again item by item. What is still standing in the end was not elicited.
        """

    def budget(self, sampler: Sampler) -> Spent:
        """The most that is spent on one item, whose images `sampler` draws (seconds 0: not limited); one image.

        An item is settled when its images are spent. Images of the concept to aim at or to learn from are the
        attacker's material, drawn by the original model or his own: neither the budget nor what is spent counts them.
        """
        return pictures_budget(sampler, 1)

    @final
    def run(self, victim: Victim, request: Request, items: Sequence[Item], goal: Goal) -> Iterator[Outcome]:
        """Attack one batch: ask for candidates, draw and judge them, until every item is settled; an outcome of each.
        """
        size = victim.batch if self.one_for_all else self.batch
        batch = Batch(victim, request, items, goal, size, self.budget(victim.sampler).images)
        with closing(self.propose(batch)) as rounds:
            for candidates in rounds:
                batch.judge(candidates)
                yield from batch.settled()
                if not batch.standing:
                    return
        batch.give_up(batch.standing)
        yield from batch.settled()

    @final
    def outcomes(self, victim: Victim, request: Request, items: Sequence[Item], goal: Goal) -> Iterator[Outcome]:
        """`run` over all items in batches, each outcome's `row` counting over all items; no exception gets out.

        Items without room fail one by one. Others are attacked beside those that are drawn alike, but for an attack
        whose items share one piece of work: it draws each as it is drawn.
        """
        rows = []
        for row, item in enumerate(items):
            error = self.told_no_room(victim, request, item)
            if not error:
                rows.append(row)
            else:
                yield Outcome(row, False, Spent(), error=error)
        rest = [items[row] for row in rows]
        for own, places in [(victim, [*range(len(rest))])] if self.one_for_all else victim.parts(rest):
            for start in range(0, len(places), self.batch):
                part = places[start:start + self.batch]
                for outcome in self._guarded(own, request, [rest[place] for place in part], goal):
                    yield replace(outcome, row=rows[part[outcome.row]])

    def _guarded(self, victim: Victim, request: Request, items: Sequence[Item], goal: Goal) -> Iterator[Outcome]:
        settled: set[int] = set()
        try:
            for outcome in self.run(victim, request, items, goal):
                settled.add(outcome.row)
                yield outcome
            reason = ""
        except FAILURES as error:
            interrupts.check()
            reason = described(error)
            log.warning("%s failed on a batch of %d: %s", self.name, len(items), reason)
            log.debug("where it failed", exc_info=error)
        left = [row for row in range(len(items)) if row not in settled]
        for row in left:
            if len(items) == 1 or self.one_for_all:
                yield Outcome(row, False, Spent(), error=reason)
            else:
                yield from (replace(outcome, row=row) for outcome in self._guarded(victim, request, [items[row]], goal))


def item_generator(attack: Attack, item: Item, stream: str = "") -> torch.Generator:
    """A CPU generator that belongs to one item of one attack (and to one named stream within it)."""
    prompt, seed = item
    digest = hashlib.sha256(f"{attack.name}/{attack.seed}/{prompt.text}/{seed}/{stream}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def item_noise(generators: Sequence[torch.Generator], shape: Sequence[int]) -> Tensor:
    """Standard normal (B, *shape), row i from generators[i] alone."""
    return torch.stack([torch.randn(*shape, generator=generator) for generator in generators])
