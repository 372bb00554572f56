"""Fixed prompts: other wordings of the concept, asked in turn until one elicits it.

Nothing is learned and no gradient is seen: these are the prompts that a person tries first.

`paraphrase` and `implicit` ask the world's own prompts of these roles (`Victim.variants`): they share the concept with
the item, not the rest of its scene. All items ask the same few prompts, so each asks at seeds of its own: at the items'
seeds, which are often equal, many items would look at one image, and one success would count as many. `misspelt`
keeps the item's prompt and seed and misspells the concept's word.

Source: ours; that erasing a name leaves descriptions working is what EMMA measures. Differs: one success is enough, and
the number of prompts is the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from expunge.attacks.base import Attack, item_generator
from expunge.attacks.naming import named_at
from expunge.attacks.proposal import Batch, Candidate, Rounds
from expunge.attacks.victim import Item, Victim, pictures_budget
from expunge.config import knob
from expunge.errors import UserError
from expunge.records import Request, Sampler, Spent


class Paraphrase(Attack):
    """The concept under its other names.

    Of the victim's variants of this role, each item asks `prompts` in an order and at seeds of its own, its own prompt
    left out.
    """

    null_elsewhere: ClassVar[bool] = True
    source: ClassVar[str] = "the world's paraphrase prompts"

    prompts: int = knob(8, "prompts asked at most", ge=1, unit="pictures")

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """Raise UserError where the victim comes with no such prompts that the text encoder reads whole."""
        if not self._known(victim):
            raise UserError(f"no {self.name} prompts for {request.concept!r}",
                            accepted=f"Victim.variants[{self.name!r}] with at least one prompt",
                            remedy="leave the attack out, or give prompts of your own that are not too long")

    def propose(self, batch: Batch) -> Rounds:
        """Each item's prompts in turn."""
        return batch.in_turn([self._tries(batch, row) for row in batch.standing])

    def budget(self, sampler: Sampler) -> Spent:
        """As many images as prompts."""
        return pictures_budget(sampler, self.prompts)

    def _known(self, victim: Victim) -> list[str]:
        """The victim's prompts of this role without those that would be cut, where nothing is to be cut."""
        texts = victim.variants.get(self.name, ())
        long = {} if victim.sampler.truncate else victim.model.too_long(texts)
        return [text for text in dict.fromkeys(texts) if text not in long]

    def _tries(self, batch: Batch, row: int) -> list[Candidate]:
        item, victim = batch.items[row], batch.victim
        known = [text for text in self._known(victim) if text != item[0].text]
        draw = item_generator(self, item)
        order = torch.randperm(len(known), generator=draw).tolist()[:self.prompts]
        seeds = torch.randint(2 ** 48, (len(order),), generator=draw).tolist()
        return [Candidate(row, known[k], seed, tuple(victim.encoder.tokens(known[k])), f"at seed {seed}")
                for k, seed in zip(order, seeds, strict=True)]


class Implicit(Paraphrase):
    """The concept described and never named."""

    source: ClassVar[str] = "the world's implicit prompts"


class Misspelt(Attack):
    """The concept's word with a letter doubled, dropped, or swapped with the next, or broken in two by a space.

    Only plain letters, and only spellings that the tokenizer reads as other tokens. A prompt that does not name the
    concept has nothing to misspell: it is not elicited, at no cost, and a note says so.
    """

    source: ClassVar[str] = "ours"

    prompts: int = knob(8, "spellings asked at most", ge=1, unit="pictures")

    def propose(self, batch: Batch) -> Rounds:
        """Each item's spellings in turn."""
        return batch.in_turn([self._tries(batch, row) for row in batch.standing], "no word to misspell in this prompt")

    def budget(self, sampler: Sampler) -> Spent:
        """As many images as spellings."""
        return pictures_budget(sampler, self.prompts)

    def _tries(self, batch: Batch, row: int) -> list[Candidate]:
        (prompt, _), encoder = batch.items[row], batch.victim.encoder
        place = named_at(prompt.text, batch.request.word)
        if place is None:
            return []
        start, end = place
        known = {tuple(encoder.tokens(prompt.text))}
        texts: list[Candidate] = []
        words = misspellings(prompt.text[start:end])
        for k in torch.randperm(len(words), generator=item_generator(self, batch.items[row])).tolist():
            text = prompt.text[:start] + words[k] + prompt.text[end:]
            ids = tuple(encoder.tokens(text))
            if ids not in known and (batch.victim.sampler.truncate or len(ids) <= encoder.room):
                known.add(ids)
                texts.append(Candidate(row, text, ids=ids))
        return texts[:self.prompts]


def misspellings(word: str) -> list[str]:
    """All spellings of `word` that are one slip away, in a fixed order, without the word itself.

    A slip doubles or drops a letter, swaps it with the next one, or breaks the word before it; nothing is done to
    anything but letters and digits, and a word is never dropped whole.
    """
    out: list[str] = []
    for k, letter in enumerate(word):
        if not letter.isalnum():
            continue
        before, after = word[:k], word[k + 1:]
        out.append(before + letter + letter + after)
        if before[-1:].isalnum() or after[:1].isalnum():
            out.append(before + after)
        if after[:1].isalnum():
            out.append(before + after[0] + letter + after[1:])
        if before[-1:].isalnum():
            out.append(f"{before} {letter}{after}")
    return [text for text in dict.fromkeys(out) if text != word]
