"""What all attacks share: the item, the goal, the budget's meter, and the one public call around a small `run`.

An attack is a `Settings` object. Its author writes `run`, which works on one batch of (prompt, seed) items and yields
an `Outcome` for each as it is settled. Batches that fail are tried again item by item (`outcomes`); `trial.attempts`
draws every success again with fresh seeds, shows it to a second detector, and puts each attempt on disk.

All randomness belongs to items (`item_generator`), so outcomes do not depend on batch size, order or interruption.
"""

from __future__ import annotations

import hashlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import Self

from expunge.attacks.sights import Sights
from expunge.config import Settings, knob, merged
from expunge.errors import UserError
from expunge.metrics.base import Aim, Judge, shows
from expunge.metrics.judging import ask
from expunge.models.conditioning import Conditioning
from expunge.models.denoising import against, denoise, passes
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.models.sample import by_way, check_finite, draw
from expunge.records import Detection, Prompt, Request, Sampler, Spent
from expunge.registry import described

log = logging.getLogger(__name__)

FAILURES = (Exception,)
"""What may go wrong on one item without ending a run: anything, for attacks are other people's code, too."""
NO_PICTURE = "the picture's values are not finite"
"""The error of a detection in what is no picture."""
NO_ROOM = "no room in the prompt"
"""How the error of an item begins that an attack cannot be made on because its prompt is too long for it."""
Item = tuple[Prompt, int]
"""A prompt and the seed of its picture."""
Access = Literal["none", "prompt, black box", "prompt, white box", "embedding, white box", "image", "weights"]
"""What an attacker may do: choose prompts, see gradients, feed embeddings, feed pictures or latents, train."""
Again = Callable[[Sequence[int]], Tensor]
"""The attack's own picture with other seeds: (len(seeds), 3, H, W)."""


@dataclass(frozen=True)
class Goal:
    """What counts as success: the judge sees what the edit is to make disappear. An abstention is no success.

    `known` is false for a null control: the model never knew the concept, so no picture of it can be asked for.
    """

    judge: Judge
    aim: Aim
    known: bool = True

    def see(self, pictures: Tensor) -> list[Detection]:
        """One detection per picture, float32 (B, 3, H, W) in [0, 1]; of a judge that fails, one with an error."""
        return [one.model_copy(update={"found": not one.error and shows(one.answers, self.aim) is True})
                for one in ask(self.judge, pictures)]


@dataclass(frozen=True)
class Victim:
    """The model under attack, and how its pictures are drawn.

    Attributes:
        model: the base model; while an attack runs, the patch is on.
        patch: the edit under attack; None attacks the model as it is.
        sampler: how pictures are drawn, those that are judged and those that attacks aim at.
        pictures: the user's own pictures of the concept, float32 (N, 3, H, W) in [0, 1]; None: the original model's.
        batch: pictures drawn together; speed and memory only.
        variants: other prompts that ask for the concept, by role ("paraphrase": without its name but with another,
            "implicit": without any name); the world's, for attacks made of fixed prompts.
        aims: pictures of the concept that were drawn to aim at (see `aims.targets`): attacks share them.
        sights: where answers about pictures without an attack are kept; None keeps none.
    """

    model: Model
    patch: Patch | None
    sampler: Sampler
    pictures: Tensor | None = None
    batch: int = 32
    variants: Mapping[str, Sequence[str]] = field(default_factory=dict)
    aims: dict[tuple[str, ...], Tensor | None] = field(default_factory=dict, repr=False, compare=False)
    sights: Sights | None = field(default=None, repr=False, compare=False)

    @contextmanager
    def without_patch(self) -> Iterator[None]:
        """The patch is off inside."""
        was_on = self.patch is not None and bool(self.model.patch_hash)
        if was_on:
            self.model.remove()
        try:
            yield
        finally:
            if was_on:
                self.model.apply(self.patch)

    def original(self) -> Model:
        """A frozen copy of the model without the patch."""
        with self.without_patch():
            return self.model.frozen_copy()

    def draw(self, texts: Sequence[str], seeds: Sequence[int], batch: int = 0, *, fill: bool = False) -> Tensor:
        """Pictures of the edited model, float32 (B, 3, H, W), `batch` at a time (0: the victim's own).

        `fill` fills the last batch up with copies: batches of one shape round alike, so a picture does not depend, not
        even in its last bit, on those drawn beside it.
        """
        items, batch = list(zip(texts, seeds, strict=True)), batch or self.batch
        copies = [items[-1]] * (-len(items) % batch) if fill and items else []
        return draw(self.model, [*items, *copies], self.sampler, batch=batch)[:len(items)]

    @torch.no_grad()
    def draw_conditioned(self, cond: Conditioning, seeds: Sequence[int], batch: int = 0) -> Tensor:
        """Pictures of the edited model told `cond`, which need not be the states of any text; float32 (B, 3, H, W).

        For the states of texts the pictures are those of `draw`.

        Raises:
            ModelError: they are not finite.
        """
        model, sampler, pictures, batch = self.model, self.sampler, [], batch or self.batch
        uncond = against(model, sampler.guidance, sampler.negative, truncate=sampler.truncate)
        for start in range(0, len(seeds), batch):
            part = slice(start, start + batch)
            x = model.initial_noise(seeds[part], sampler.height, sampler.width)
            latents = denoise(model, x, cond.at(part), uncond, sampler.steps, sampler.guidance)
            pictures.append(check_finite(model, model.decode(latents).cpu()))
        return torch.cat(pictures)

    def parts(self, items: Sequence[Item]) -> list[tuple[Victim, list[int]]]:
        """The victim as each of the items is drawn, and the places of those that are drawn alike."""
        ways = by_way([self.sampler.of(prompt) for prompt, _ in items])
        return [(self if way == self.sampler else replace(self, sampler=way), places) for way, places in ways.items()]

    def seen(self, goal: Goal, items: Sequence[Item], batch: int = 0) -> list[Detection]:
        """What the goal's judge sees in the picture of each item; `NO_PICTURE` is the error of one that is none."""
        if self.sights is None:
            return self._looked_at(goal, items, batch)
        model, aim = self.model, goal.aim
        keys = [[model.hash, model.patch_hash, model.drawing, self.sampler.of(prompt).digest, goal.judge.name,
                 aim.question, aim.concept, aim.joint, prompt.text, seed] for prompt, seed in items]
        told = self.sights.found(keys, lambda places: [
            (sight.found, sight.error) for sight in self._looked_at(goal, [items[place] for place in places], batch)])
        return [Detection(found=found, error=error) for found, error in told]

    def _looked_at(self, goal: Goal, items: Sequence[Item], batch: int) -> list[Detection]:
        out: dict[int, Detection] = {}
        for own, places in self.parts(items):
            chosen = [(items[place][0].text, items[place][1]) for place in places]
            none = dict[int, Tensor]()
            pictures = draw(self.model, chosen, own.sampler, batch=batch or self.batch, broken=none.__setitem__)
            there = [row for row in range(len(places)) if row not in none]
            out |= {places[row]: Detection(error=NO_PICTURE) for row in none}
            out |= zip([places[row] for row in there], goal.see(pictures[there]), strict=True)
        return [out[place] for place in range(len(items))]

    @property
    def rows_per_picture(self) -> int:
        """Rows that one picture sends through the denoiser."""
        return picture_rows(self.sampler)


def picture_rows(sampler: Sampler, share: float = 1.0) -> int:
    """Rows that `share` of the steps of one picture send through the denoiser: with guidance two for each step."""
    return round(sampler.steps * share) * passes(sampler.guidance)


def pictures_budget(sampler: Sampler, count: int) -> Spent:
    """The budget of an attack that draws at most `count` pictures of an item, and does nothing else with the denoiser.
    """
    return Spent(images=count, network_rows=count * picture_rows(sampler))


class Meter:
    """Counts what is spent on each row of a batch; time is shared among the rows that were worked on."""

    def __init__(self, count: int) -> None:
        self._spent = [Spent() for _ in range(count)]
        self._last = time.monotonic()

    def add(self, rows: Sequence[int], *, gradient_steps: int = 0, network_rows: int = 0, images: int = 0) -> None:
        """Add the same to each of `rows`, and the time since the last call, divided among them."""
        now = time.monotonic()
        share, self._last = (now - self._last) / max(1, len(rows)), now
        for row in rows:
            old = self._spent[row]
            self._spent[row] = Spent(gradient_steps=old.gradient_steps + gradient_steps,
                                     network_rows=old.network_rows + network_rows, images=old.images + images,
                                     seconds=round(old.seconds + share, 3))

    def __getitem__(self, row: int) -> Spent:
        return self._spent[row]


@dataclass(frozen=True)
class Outcome:
    """What `run` found out about one item of its batch.

    Attributes:
        row: place of the item in the batch.
        found: whether the judge saw the concept in `picture`.
        spent: what it took.
        picture: (3, H, W), the last one that was judged; None if none was drawn.
        text: the adversarial prompt, for attacks that end in one; ids: its tokens as optimised.
        tensors: what else the attack ends in (embedding, latent), to be kept.
        again: draws the attack's picture with other seeds; None where there is no seed to change (then `note` says so).
        error: why the attempt broke off; "" if it did not.
    """

    row: int
    found: bool
    spent: Spent
    picture: Tensor | None = None
    text: str = ""
    ids: tuple[int, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    again: Again | None = None
    error: str = ""
    note: str = ""


class Attack(Settings, ABC):
    """An attack's settings and its way of working.

    Class attributes:
        name: as users write it. access: what the attacker may do. white_box: whether it sees gradients.
        null: what its null control is: a thing that the model never knew, or the same items on random weights.
        null_elsewhere: whether the attack can also be made where the concept is not asked for, on prompts of other
            things, and then elicits nothing of itself: the null control where nothing is known that the model never
            knew. An attack that works towards the concept from any prompt has no such control.
        one_for_all: whether all items share one piece of work, which fails for all of them or for none.
        help: one line. source: paper and section.
        SMOKE, PUBLISHED: settings of a first look at a small model and of the published budget, where they differ from
            the defaults; the tiers of these names use them.
    """

    name: ClassVar[str]
    access: ClassVar[Access]
    white_box: ClassVar[bool] = False
    null: ClassVar[Literal["never known", "random weights"]] = "never known"
    null_elsewhere: ClassVar[bool] = False
    help: ClassVar[str]
    source: ClassVar[str] = ""
    one_for_all: ClassVar[bool] = False
    SMOKE: ClassVar[Mapping[str, Any]] = {}
    PUBLISHED: ClassVar[Mapping[str, Any]] = {}

    batch: int = knob(32, "items attacked together; changes speed and memory only", ge=1)
    seed: int = knob(0, "seed of the attack's own randomness", ge=0)

    @classmethod
    def smoke(cls, **settings: Any) -> Self:
        """A budget for a first look at a small model; `settings` on top."""
        return cls.build(merged(cls.SMOKE, settings), cls.name)

    @classmethod
    def published(cls, **settings: Any) -> Self:
        """The published budget; `settings` on top."""
        return cls.build(merged(cls.PUBLISHED, settings), cls.name)

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

    @abstractmethod
    def run(self, victim: Victim, request: Request, items: Sequence[Item], goal: Goal) -> Iterator[Outcome]:
        """Attack one batch of items; yield each item's outcome once.

        Gradients, where needed, are the attack's to switch on. An item that cannot be attacked is yielded with an
        error; an exception fails the batch, which is then tried again item by item.
        """

    @abstractmethod
    def budget(self, sampler: Sampler) -> Spent:
        """The most that is spent on one item, whose pictures `sampler` draws (seconds 0: not limited).

        Pictures of the concept to aim at or to learn from are the attacker's material, drawn by the original model or
        his own: neither the budget nor what is spent counts them.
        """

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
                if outcome.row not in range(len(items)):
                    raise ValueError(f"an outcome for row {outcome.row} of {len(items)}")
                settled.add(outcome.row)
                yield outcome
            reason = f"{self.name} gave no outcome"
        except FAILURES as error:
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


def fresh_seed(seed: int, k: int) -> int:
    """The k-th fresh seed of an item whose own seed is `seed` (k = 0: its own)."""
    return seed + k * 1_000_003
