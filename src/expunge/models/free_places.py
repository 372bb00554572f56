"""Free places in prompts: where they stand, and what a model is told with embeddings in them.

Places are counted in tokens, never in words: "nudity" is two tokens of CLIP's, and counting it as one word cuts it in
half. Whoever searches for tokens, learns a soft prompt or trains against one puts embeddings into these places, and
what a model is told of them is differentiable in the embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from expunge.errors import UserError
from expunge.models.conditioning import Conditioning
from expunge.models.model import Model
from expunge.models.text import Tokens

Slot = Literal["prefix", "suffix", "mid", "at", "spread", "every", "replace"]
"""Where free tokens go: before the prompt, behind it, in its middle, before its token number `at`, at equal distances,
one behind every n tokens, or in the place of the whole prompt."""


@dataclass(frozen=True)
class Layout:
    """A prompt's tokens with room for free ones.

    Attributes:
        tokens: ids without start and end; at the free places any id.
        free: the free places, rising, counted within `tokens`.
    """

    tokens: tuple[int, ...]
    free: tuple[int, ...]

    @property
    def closed(self) -> Layout:
        """The same tokens, none of them free."""
        return Layout(self.tokens, ())

    def filled(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The tokens with `ids` in the free places."""
        given = dict(zip(self.free, ids, strict=True))
        return tuple(given.get(place, token) for place, token in enumerate(self.tokens))


def laid_out(own: Sequence[int], slot: Slot, count: int, *, at: int = 0, every: int = 3) -> Layout:
    """The prompt `own` with free tokens.

    Args:
        count: free tokens; not looked at by "every", which puts one behind each full `every` tokens (and one at the end
            of a prompt that is shorter).
        at: for "at", 0 to len(own): the free tokens stand before this token of the prompt.

    Raises:
        UserError: `at` is not in the prompt.
    """
    n = len(own)
    if slot == "at" and not 0 <= at <= n:
        raise UserError(f"insertion at token {at} of a prompt of {n} tokens", accepted=f"0 to {n}")
    if slot == "every":
        before = [every * i for i in range(1, n // every + 1)] or [n]
    elif slot == "spread":
        before = [round(n * i / (count + 1)) for i in range(1, count + 1)]
    else:
        before = [{"prefix": 0, "suffix": n, "mid": n // 2, "at": at, "replace": 0}[slot]] * count
    free = tuple(place + i for i, place in enumerate(before))
    kept = iter(() if slot == "replace" else own)
    length = len(free) + (0 if slot == "replace" else n)
    return Layout(tuple(0 if place in set(free) else next(kept) for place in range(length)), free)


def prompt_layout(model: Model, text: str, slot: Slot, count: int, *, at: int = 0, every: int = 3,
                  cut: bool = False) -> Layout:
    """`laid_out` for a text, in the model's own tokens.

    Args:
        cut: leave out the end of a text that is too long.

    Raises:
        UserError: prompt and insertion together are longer than the text encoder reads, or `at` is not in the prompt.
    """
    own = model.texts[0].tokens(text)
    layout = laid_out(own, slot, count, at=at, every=every)
    for length in range(len(own) - 1, 0, -1) if cut and len(layout.tokens) > model.texts[0].room else ():
        layout = laid_out(own[:length], slot, count, at=min(at, length), every=every)
        if len(layout.tokens) <= model.texts[0].room:
            break
    if len(layout.tokens) > model.texts[0].room:
        raise UserError(f"prompt {text!r} has {len(own)} tokens, with {len(layout.free)} inserted {len(layout.tokens)}",
                        remedy="shorten the prompt or insert fewer tokens",
                        accepted=f"up to {model.texts[0].room} in all")
    return layout


@dataclass(frozen=True)
class FreePlaces:
    """B prompts as the first text encoder reads them, with M free places in all.

    Attributes:
        prompts: the texts, which a model's other encoders read as they are.
        tokens: rows of the first encoder; at free places any id.
        embeddings: float32 (B, T, D), those of the tokens.
        row, column: int64 (M,), where the free places are, row by row, each row's from left to right.
    """

    prompts: tuple[str, ...]
    tokens: Tokens
    embeddings: Tensor
    row: Tensor
    column: Tensor

    @classmethod
    def of(cls, model: Model, prompts: Sequence[str], layouts: Sequence[Layout]) -> FreePlaces:
        """The prompts, each with its layout. UserError: one is longer than the encoder reads."""
        encoder = model.texts[0]
        tokens = encoder.framed([layout.tokens for layout in layouts])
        row = [number for number, layout in enumerate(layouts) for _ in layout.free]
        column = [len(encoder.start) + place for layout in layouts for place in layout.free]
        return cls(tuple(prompts), tokens, encoder.embeddings(tokens.ids),
                   *(torch.tensor(places, dtype=torch.int64, device=tokens.ids.device) for places in (row, column)))

    def at(self, rows: Sequence[int]) -> FreePlaces:
        """The prompts at `rows`, in this order."""
        at, columns = list(rows), [self.column[self.row == row] for row in rows]
        row = [torch.full_like(column, number) for number, column in enumerate(columns)]
        return FreePlaces(tuple(self.prompts[row] for row in at), self.tokens.at(at), self.embeddings[at],
                          torch.cat(row), torch.cat(columns))

    @property
    def own(self) -> Tensor:
        """(M, D): the embeddings of the tokens that stand in the free places."""
        return self.embeddings[self.row, self.column]

    def told(self, model: Model, values: Tensor) -> Conditioning:
        """What the denoiser is told with `values` (M, D) in the free places; differentiable in them."""
        embeddings = self.embeddings.index_put((self.row, self.column), values)
        return model.encode_embedded(self.prompts, self.tokens, embeddings)

    def as_they_are(self, model: Model) -> Conditioning:
        """What the denoiser is told of the tokens themselves."""
        return model.encode_embedded(self.prompts, self.tokens, self.embeddings)
