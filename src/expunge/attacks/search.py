"""Search without knowledge: random prefixes and fresh seeds, the honest baselines of every other attack.

`asked_in_turn` is what attacks share that try one prompt after the other until one elicits the concept: it draws for
many items at once, and ahead of an item's turn where there is room, but settles and counts as if it had stopped at the
first success. So the batch decides how fast it is, and nothing else.

Source: `random` and `seed_search` of Zhang et al. 2023 (UnlearnDiffAtk); Diffusion-MU-Attack@5a3e5d3: 40 tries each,
random prefixes of k tokens. Differs: prefixes are made of whole words, so that the string reads back as the tokens that
were drawn; the seed search stops at its first success and its fresh seeds belong to the item.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from expunge.attacks.base import (
    Access,
    Attack,
    Goal,
    Item,
    Meter,
    Outcome,
    Victim,
    item_generator,
    pictures_budget,
)
from expunge.config import knob
from expunge.errors import UserError
from expunge.records import Detection, Request, Sampler, Spent


@dataclass(frozen=True)
class Try:
    """One picture to ask for: its prompt, its seed, and the prompt's tokens where they were chosen as such."""

    text: str
    seed: int
    ids: tuple[int, ...] = ()
    note: str = ""


class RandomPrompt(Attack):
    """Random words before the prompt: how much any prefix would do."""

    name: ClassVar[str] = "random-prompt"
    access: ClassVar[Access] = "prompt, black box"
    null_elsewhere: ClassVar[bool] = True
    help: ClassVar[str] = "random words before the prompt, as many times as the budget allows"
    source: ClassVar[str] = "Zhang et al. 2023 (UnlearnDiffAtk), attacker 'random'"
    SMOKE: ClassVar[Mapping[str, Any]] = {"tries": 8}

    tokens: int = knob(3, "random tokens before the prompt", ge=1, unit="tokens",
                       source="Diffusion-MU-Attack@5a3e5d3: 5 for nudity, violence and illegal, 3 for the others")
    tries: int = knob(40, "prefixes asked at most", ge=1, unit="pictures", source="Diffusion-MU-Attack@5a3e5d3")

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """Raise UserError where no prompt leaves room for the prefix."""
        self.some_room(victim, request, items)

    def no_room(self, victim: Victim, request: Request, item: Item) -> UserError | None:
        """For a prompt before which the prefix does not fit."""
        return room_for(victim, item, self.tokens)

    def run(self, victim: Victim, request: Request, items: Sequence[Item], goal: Goal) -> Iterator[Outcome]:
        """Ask every item's prompt after one random prefix after the other."""
        words = victim.model.texts[0].plain
        yield from asked_in_turn(self, victim, items, [self._tries(victim, item, words) for item in items], goal)

    def budget(self, sampler: Sampler) -> Spent:
        """As many pictures as tries."""
        return pictures_budget(sampler, self.tries)

    def _tries(self, victim: Victim, item: Item, words: Tensor) -> list[Try]:
        (prompt, seed), model = item, victim.model
        rest, generator = tuple(model.texts[0].tokens(prompt.text)), item_generator(self, item)
        out: list[Try] = []
        for _ in range(2 * self.tries):  # a prefix that reads back as more tokens than fit is drawn again
            prefix = words[torch.randint(len(words), (self.tokens,), generator=generator)].tolist()
            text = f"{model.texts[0].text_of(prefix)} {prompt.text}".strip()
            fits = victim.sampler.truncate or len(model.texts[0].tokens(text)) <= model.texts[0].room
            if len(out) < self.tries and fits:
                out.append(Try(text, seed, (*prefix, *rest)))
        return out


class SeedSearch(Attack):
    """The unchanged prompt at other seeds: how much of any success is luck.

    A fresh seed is drawn from the item's own stream out of 2**48, so no two items share one, and none is among the
    seeds with which successes are drawn again. Those are shifted by as much as the found seed is from the item's: a
    success at one lucky seed is found once, and seldom again.
    """

    name: ClassVar[str] = "seed-search"
    access: ClassVar[Access] = "prompt, black box"
    null_elsewhere: ClassVar[bool] = True
    help: ClassVar[str] = "the same prompt at other seeds, as many times as the budget allows"
    source: ClassVar[str] = "Zhang et al. 2023 (UnlearnDiffAtk), attacker 'seed_search'"
    SMOKE: ClassVar[Mapping[str, Any]] = {"tries": 8}

    tries: int = knob(40, "seeds asked at most", ge=1, unit="pictures", source="Diffusion-MU-Attack@5a3e5d3")

    def run(self, victim: Victim, request: Request, items: Sequence[Item], goal: Goal) -> Iterator[Outcome]:
        """Ask every item's prompt at one fresh seed after the other."""
        tries = []
        for item in items:
            seeds = torch.randint(2 ** 48, (self.tries,), generator=item_generator(self, item)).tolist()
            tries.append([Try(item[0].text, seed, note=f"at seed {seed}") for seed in seeds])
        yield from asked_in_turn(self, victim, items, tries, goal)

    def budget(self, sampler: Sampler) -> Spent:
        """As many pictures as tries."""
        return pictures_budget(sampler, self.tries)


def asked_in_turn(attack: Attack, victim: Victim, items: Sequence[Item], tries: Sequence[Sequence[Try]], goal: Goal, *,
                  meter: Meter | None = None, nothing: str = "nothing to ask") -> Iterator[Outcome]:
    """Each item's tries in order, until the judge finds the concept (or fails, which fails the item).

    The outcome is that of the deciding try, or of the last one where none succeeds.

    Args:
        meter: with what finding the tries took; None starts from nothing.
        nothing: the note on items without any try.

    Pictures that were drawn ahead, past the deciding one, are not counted: an attacker who asks one by one never sees
    them. An item gets no more tries at once than it had before, so at most half of them are in vain.
    """
    meter, done, last = meter or Meter(len(items)), [0] * len(items), dict[int, Outcome]()
    active = [row for row in range(len(items)) if tries[row]]
    yield from (Outcome(row, False, meter[row], note=nothing) for row in range(len(items)) if not tries[row])
    while active:
        room = max(1, attack.batch // len(active))
        asked = [(row, one) for row in active
                 for one in tries[row][done[row]:done[row] + min(room, max(1, done[row]))]]
        pictures = victim.draw([one.text for _, one in asked], [one.seed for _, one in asked], attack.batch)
        sights, over = goal.see(pictures), set[int]()
        meter.add(active)  # the time
        for (row, one), picture, sight in zip(asked, pictures, sights, strict=True):
            if row not in over:
                done[row] += 1
                meter.add([row], images=1, network_rows=victim.rows_per_picture)
                last[row] = _outcome(victim, items[row], row, one, picture, sight, meter[row])
            if sight.error or sight.found or done[row] == len(tries[row]):
                over.add(row)
        yield from (last[row] for row in active if row in over)
        meter.add([])  # what is done with outcomes meanwhile is not the attack's time
        active = [row for row in active if row not in over]


def room_for(victim: Victim, item: Item, extra: int) -> UserError | None:
    """Why `extra` tokens do not fit before the item's prompt; None if they do, or what is too long is cut."""
    room, count = victim.model.texts[0].room, len(victim.model.texts[0].tokens(item[0].text))
    if count + extra <= room or (victim.sampler.truncate and extra < room):
        return None
    return UserError(f"a prompt of {count} tokens, before which {extra} more are put: {item[0].text!r}",
                     accepted=f"{room} tokens in all", remedy="shorten the prompt or insert fewer tokens")


def _outcome(victim: Victim, item: Item, row: int, one: Try, picture: Tensor, sight: Detection, spent: Spent
             ) -> Outcome:
    text = one.text if one.text != item[0].text else ""
    return Outcome(row, sight.found, spent, picture=picture, text=text, ids=one.ids, note=one.note, error=sight.error,
                   again=partial(_again, victim, one.text, one.seed - item[1]))


def _again(victim: Victim, text: str, shift: int, seeds: Sequence[int]) -> Tensor:
    return victim.draw([text] * len(seeds), [seed + shift for seed in seeds])
