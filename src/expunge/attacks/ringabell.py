"""Ring-A-Bell: prompts whose text states ring the concept's bell, found in the text encoder alone.

With E(p) the text states (T, D) of a prompt, the concept's vector is

    v = mean over prompts p that name the concept of  E(p) - E(p with another word in its place),

and a genetic search over K token ids looks for the tokens whose states are nearest to E(p) + eta v, p the item's
prompt. Neither denoiser nor judge takes part, so the prompts are found without ever asking the model under attack; the
best of them are then drawn. Prompts with the same text share one search.

Source: Tsai et al. 2024, Ring-A-Bell, section 3; Ring-A-Bell@e4585ad. Differs: pairs are made of the request's own
prompts (theirs are written by hand, 50 for nudity, 30 for violence); fitness compares the written tokens and the end
token unless `compared` is "all" (the states behind them are padding, and the encoder is causal, so leaving those out
is exact and faster); the search starts from the item's prompt unless `start` is "random"; several prompts are drawn,
not the best alone; only words may be used that read back as themselves; survivors are kept as they are (theirs may be
mutated, so the best is sometimes lost). `RingABell.published` has the published values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor
from typing_extensions import Self

from expunge.attacks.base import Attack, Searches, item_generator
from expunge.attacks.naming import renamed
from expunge.attacks.proposal import Batch, Candidate, Rounds
from expunge.attacks.victim import Item, Victim, pictures_budget
from expunge.config import knob
from expunge.errors import UserError
from expunge.models.model import Model
from expunge.records import Request, Sampler, Spent

_PUBLISHED: Mapping[str, Any] = {"population": 200, "generations": 3000, "crossover": 0.5, "mutation": 0.25,
                                 "compared": "all", "start": "random", "draws": 1}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "nudity": {**_PUBLISHED, "tokens": 16, "eta": 3.0},
    "violence": {**_PUBLISHED, "tokens": 38, "eta": 5.5},
    "violence-long": {**_PUBLISHED, "tokens": 75, "eta": 5.5},
}
"""The settings of the published files, by what they were made for (their K = 77 counts start and end)."""


class RingABell(Attack):
    """Genetic search for tokens whose text states are those of the prompt plus the concept's vector."""

    searches: ClassVar[Searches] = "tokens"
    source: ClassVar[str] = "Tsai et al. 2024, Ring-A-Bell, section 3"
    SMOKE: ClassVar[Mapping[str, Any]] = {"generations": 20}

    tokens: int = knob(16, "length of the prompts", ge=2, unit="tokens", source="Ring-A-Bell@e4585ad, nudity")
    eta: float = knob(3.0, "how much of the concept's vector is added", gt=0.0, source="Ring-A-Bell@e4585ad, nudity")
    population: int = knob(32, "prompts alive at a time; half of them survive", ge=4, source="published: 200")
    generations: int = knob(60, "generations", ge=1, source="published: 3000")
    crossover: float = knob(0.5, "share of children with two parents, cut at one place", ge=0.0, le=1.0,
                            source="Ring-A-Bell@e4585ad")
    mutation: float = knob(0.25, "share of children with one token changed", ge=0.0, le=1.0,
                           source="Ring-A-Bell@e4585ad")
    pairs: int = knob(16, "prompts that make the concept's vector, at most", ge=1, source="published: 30 or 50")
    neutral: str = knob("object", "what takes the concept's place where the request has no anchor; empty: nothing")
    text_encoder: Literal["original", "edited"] = knob(
        "original", "whose states are compared: the original model's (knows nothing of the edit) or the edited one's")
    compared: Literal["written", "all"] = knob("written", "states compared: tokens and end, or padding too",
                                               source="published: all")
    start: Literal["prompt", "random"] = knob("prompt", "the item's prompt among random ones, or random ones only",
                                              source="published: random")
    draws: int = knob(4, "prompts drawn at most, best first", ge=1, unit="pictures", source="published: 1")

    @classmethod
    def published(cls, preset: str = "nudity", **settings: Any) -> Self:
        """The attack with the values of a published file, see `PRESETS`; `settings` on top.

        Raises:
            UserError: unknown preset. ConfigError: unknown or bad settings.
        """
        if preset not in PRESETS:
            raise UserError(f"unknown preset {preset!r}", accepted=", ".join(PRESETS))
        return cls.build({**PRESETS[preset], **settings}, origin=cls.name)

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """Raise UserError where all prompts are too long, or for a request that never names its concept."""
        room = victim.encoder.room
        if self.tokens > room:
            raise UserError(f"{self.tokens} tokens", accepted=f"up to {room} for this text encoder")
        self._pairs(victim.model, request)
        self.some_room(victim, request, items)

    def no_room(self, victim: Victim, request: Request, item: Item) -> UserError | None:
        """For a prompt that the text encoder does not read to its end."""
        long = {} if victim.sampler.truncate else victim.model.too_long([item[0].text])
        return UserError(f"prompt {item[0].text!r} has {long[item[0].text]} tokens",
                         accepted=f"up to {victim.encoder.room}", remedy="shorten it") if long else None

    def propose(self, batch: Batch) -> Rounds:
        """One search per distinct prompt, then its best finds at every item's seed."""
        with batch.victim.without_patch() if self.text_encoder == "original" else nullcontext():
            found = self._search_all(batch)
        return batch.in_turn([self._tries(batch.victim.model, found[prompt.text], row)
                              for row, (prompt, _) in enumerate(batch.items)])

    def budget(self, sampler: Sampler) -> Spent:
        """As many images as prompts are drawn; the search costs text states only."""
        return pictures_budget(sampler, self.draws)

    def _pairs(self, model: Model, request: Request) -> list[tuple[str, str]]:
        """Prompts of the request with the concept and with something else in its place, those that are read whole."""
        word = request.anchor or self.neutral
        pairs = [(text, without) for text in request.prompts
                 if (without := renamed(text, request.word, word)) is not None]
        long = model.too_long([text for pair in pairs for text in pair])
        pairs = [pair for pair in pairs if not long.keys() & {*pair}]
        if not pairs:
            raise UserError(f"none of the request's prompts names {request.concept!r}",
                            accepted="at least one prompt that does, to take the concept out of",
                            remedy="add one to the request, or leave the attack out")
        return pairs[:self.pairs]

    @torch.no_grad()
    def _search_all(self, batch: Batch) -> dict[str, list[list[int]]]:
        """The survivors of each distinct prompt's search, best first."""
        model, found = batch.victim.model, dict[str, list[list[int]]]()
        v = torch.stack([_states(model, a) - _states(model, b)
                         for a, b in self._pairs(model, batch.request)]).mean(0)  # (T, D)
        words = model.texts[0].plain
        for text in dict.fromkeys(prompt.text for prompt, _ in batch.items):
            target = _states(model, text) + self.eta * v  # (T, D)
            prompt = next(prompt for prompt, _ in batch.items if prompt.text == text)
            generator = item_generator(self, (prompt, 0), "search")  # of the text alone: seeds share the search
            found[text] = self._search(model, model.texts[0].tokens(text), target, words, generator)
            batch.spend([row for row, item in enumerate(batch.items) if item[0].text == text])
        return found

    def _search(self, model: Model, own: Sequence[int], target: Tensor, words: Tensor, generator: Generator
                ) -> list[list[int]]:
        alive = words[torch.randint(len(words), (self.population, self.tokens), generator=generator)]  # (P, K)
        if self.start == "prompt":
            alive[0, :len(own)] = torch.tensor(own[:self.tokens], dtype=torch.int64)
        misfit = self._misfits(model, alive, target)
        half = self.population // 2
        for _ in range(self.generations):
            best = misfit.sort(stable=True).indices[:half]
            alive, misfit = alive[best], misfit[best]
            children = self._children(alive, self.population - half, words, generator)
            alive = torch.cat([alive, children])
            misfit = torch.cat([misfit, self._misfits(model, children, target)])
        ranked: list[list[int]] = alive[misfit.sort(stable=True).indices].tolist()
        return ranked

    def _children(self, parents: Tensor, count: int, words: Tensor, generator: Generator) -> Tensor:
        """(count, K): one parent's tokens, or two parents' around a cut, perhaps with one token changed."""
        K = self.tokens
        pair = parents[torch.randint(len(parents), (2, count), generator=generator)]  # (2, count, K)
        cut = torch.randint(1, K, (count, 1), generator=generator)
        crossed = torch.rand(count, 1, generator=generator) < self.crossover
        children = torch.where(crossed & (torch.arange(K) >= cut), pair[1], pair[0])
        changed = torch.rand(count, 1, generator=generator) < self.mutation
        place = torch.randint(K, (count, 1), generator=generator)
        fresh = words[torch.randint(len(words), (count, 1), generator=generator)]
        return torch.where(changed & (torch.arange(K) == place), fresh, children)

    def _misfits(self, model: Model, rows: Tensor, target: Tensor) -> Tensor:
        """(P,) float64 on the CPU: sum of squared differences to the target's states."""
        encoder = model.texts[0]
        read = self.tokens + len(encoder.start) + 1 if self.compared == "written" else encoder.length
        tokens = encoder.framed(rows.tolist())
        # A causal encoder's states do not depend on what stands behind: it need not read it.
        states = encoder.read(tokens.first(read) if encoder.causal else tokens)["states"][:, :read]  # (P, read, D)
        return (states.double() - target[:read].double()).square().sum((1, 2)).cpu()

    def _tries(self, model: Model, ranked: Sequence[Sequence[int]], row: int) -> list[Candidate]:
        """The best distinct strings that the text encoder reads whole."""
        texts = dict[str, tuple[int, ...]]()
        for ids in ranked:
            text = model.texts[0].text_of(ids)
            if text not in texts and 0 < len(model.texts[0].tokens(text)) <= model.texts[0].room:
                texts[text] = tuple(ids)
            if len(texts) == self.draws:
                break
        return [Candidate(row, text, ids=ids) for text, ids in texts.items()]


def _states(model: Model, text: str) -> Tensor:
    """(T, D): how the first encoder reads a text, cut if it is too long."""
    encoder = model.texts[0]
    return encoder.read(encoder.laid_out([text]))["states"][0]
