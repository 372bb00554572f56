"""Search without knowledge: random prefixes and fresh seeds, the honest baselines of every other attack.

Source: `random` and `seed_search` of Zhang et al. 2023 (UnlearnDiffAtk); Diffusion-MU-Attack@5a3e5d3: 40 tries each,
random prefixes of k tokens. Differs: prefixes are made of whole words, so that the string reads back as the tokens that
were drawn; the seed search stops at its first success and its fresh seeds belong to the item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from expunge.attacks.base import Attack, Searches, item_generator
from expunge.attacks.proposal import Batch, Candidate, Rounds
from expunge.attacks.victim import Item, Victim, pictures_budget
from expunge.config import knob
from expunge.errors import UserError
from expunge.records import Request, Sampler, Spent


class RandomPrompt(Attack):
    """Random words before the prompt: how much any prefix would do."""

    null_elsewhere: ClassVar[bool] = True
    searches: ClassVar[Searches] = "tokens"
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

    def propose(self, batch: Batch) -> Rounds:
        """Every item's prompt after one random prefix after the other."""
        words = batch.victim.encoder.plain
        return batch.in_turn([self._tries(batch, row, words) for row in batch.standing])

    def budget(self, sampler: Sampler) -> Spent:
        """As many images as tries."""
        return pictures_budget(sampler, self.tries)

    def _tries(self, batch: Batch, row: int, words: Tensor) -> list[Candidate]:
        (prompt, _), encoder = batch.items[row], batch.victim.encoder
        rest, generator = tuple(encoder.tokens(prompt.text)), item_generator(self, batch.items[row])
        out: list[Candidate] = []
        for _ in range(2 * self.tries):  # a prefix that reads back as more tokens than fit is drawn again
            prefix = words[torch.randint(len(words), (self.tokens,), generator=generator)].tolist()
            text = f"{encoder.text_of(prefix)} {prompt.text}".strip()
            fits = batch.victim.sampler.truncate or len(encoder.tokens(text)) <= encoder.room
            if len(out) < self.tries and fits:
                out.append(Candidate(row, text, ids=(*prefix, *rest)))
        return out


class SeedSearch(Attack):
    """The unchanged prompt at other seeds: how much of any success is luck.

    A fresh seed is drawn from the item's own stream out of 2**48, so no two items share one, and none is among the
    seeds with which successes are drawn again. Those are shifted by as much as the found seed is from the item's: a
    success at one lucky seed is found once, and seldom again.
    """

    null_elsewhere: ClassVar[bool] = True
    source: ClassVar[str] = "Zhang et al. 2023 (UnlearnDiffAtk), attacker 'seed_search'"
    SMOKE: ClassVar[Mapping[str, Any]] = {"tries": 8}

    tries: int = knob(40, "seeds asked at most", ge=1, unit="pictures", source="Diffusion-MU-Attack@5a3e5d3")

    def propose(self, batch: Batch) -> Rounds:
        """Every item's prompt at one fresh seed after the other."""
        tries = []
        for row, item in enumerate(batch.items):
            seeds = torch.randint(2 ** 48, (self.tries,), generator=item_generator(self, item)).tolist()
            tries.append([Candidate(row, seed=seed, note=f"at seed {seed}") for seed in seeds])
        return batch.in_turn(tries)

    def budget(self, sampler: Sampler) -> Spent:
        """As many images as tries."""
        return pictures_budget(sampler, self.tries)


def room_for(victim: Victim, item: Item, extra: int) -> UserError | None:
    """Why `extra` tokens do not fit before the item's prompt; None if they do, or what is too long is cut."""
    room, count = victim.encoder.room, len(victim.encoder.tokens(item[0].text))
    if count + extra <= room or (victim.sampler.truncate and extra < room):
        return None
    return UserError(f"a prompt of {count} tokens, before which {extra} more are put: {item[0].text!r}",
                     accepted=f"{room} tokens in all", remedy="shorten the prompt or insert fewer tokens")
