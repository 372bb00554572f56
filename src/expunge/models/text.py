"""A text encoder with its tokenizer: what a text becomes on its way to the denoiser, and back.

T is the number of positions that the encoder reads, V the size of its vocabulary, D its width. A text's tokens stand
between a start (none for some encoders) and an end token; padding follows. A model may have several encoders, each with
a vocabulary of its own: whoever works on tokens names the encoder, and ends in one string that all of them read anew.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from expunge.errors import ModelError, UserError
from expunge.models.reading import as_read, laid_out, token_ids, unread
from expunge.records.naming import Reader, read


@dataclass(frozen=True)
class Tokens:
    """Texts as an encoder is given them.

    Attributes:
        ids: int64 (B, T), with start, end and padding.
        mask: int64 (B, T), 1 up to the end token and 0 on the padding behind it.
    """

    ids: Tensor
    mask: Tensor

    def at(self, rows: Tensor | slice | Sequence[int]) -> Tokens:
        """The rows at `rows`."""
        where = rows if isinstance(rows, Tensor | slice) else list(rows)
        return Tokens(self.ids[where], self.mask[where])

    def first(self, count: int) -> Tokens:
        """The first `count` positions."""
        return Tokens(self.ids[:, :count], self.mask[:, :count])


class TextEncoder(ABC):
    """A tokenizer and the network that reads its tokens; a kind of network adds `read`.

    Attributes:
        name: its component in the model ("text_encoder").
        module: the network; tokenizer: of transformers.
        length: T.
        start: ids before a text's first token; end: the id behind its last.
        causal: whether the state at a position depends on no later one.
        pooled: what `read` calls the state that stands for the whole text; "" if it gives none.
    """

    causal: bool = True
    pooled: str = ""

    def __init__(self, name: str, module: nn.Module, tokenizer: Any, length: int) -> None:
        """ModelError: a length in which no text has room, or that is no whole number; a tokenizer without an end."""
        self.name, self.module, self.tokenizer, self.length = name, module, tokenizer, length
        framed = tokenizer("").input_ids
        if not framed or not isinstance(length, int) or length <= len(framed):
            raise ModelError(f"a tokenizer that reads {length!r} tokens for the {name}, {len(framed)} of them around "
                             "each text", accepted="an end token, and room for a text before it")
        *start, end = framed
        self.start, self.end = tuple(int(token) for token in start), int(end)

    @abstractmethod
    def read(self, tokens: Tokens, embeddings: Tensor | None = None) -> Mapping[str, Tensor]:
        """What the denoiser is told of the tokens, float32 (B, ...): "states" (B, T, D), and more where there is more.

        Differentiable in the encoder's weights and in `embeddings` (B, T, D), which stand in the place of the tokens'
        own, before positions are added.
        """

    def with_module(self, module: nn.Module) -> Self:
        """The same with another network of the same kind."""
        twin = copy(self)
        twin.module = module
        return twin

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.module.parameters()).device

    @property
    def room(self) -> int:
        """How many tokens of a text it reads."""
        return self.length - len(self.start) - 1

    @property
    def table(self) -> Tensor:
        """Token embeddings, float32 (V, D), without gradient."""
        return self._weight.detach().float()

    def embeddings(self, ids: Tensor) -> Tensor:
        """Rows of `table` at ids (...), float32 (..., D), without gradient; no other row is made float32."""
        return self._weight.detach()[ids].float()

    @property
    def _weight(self) -> Tensor:
        weight: Tensor = self._inside.weight  # type: ignore[assignment]
        return weight

    @property
    def _inside(self) -> nn.Module:
        module: Any = self.module
        inside: nn.Module = module.get_input_embeddings()
        return inside

    @property
    def plain(self) -> Tensor:
        """(P,) int64: ids that stand for text (neither start, end nor padding) and are read back as they were."""
        return torch.tensor(_plain(self.tokenizer))

    @property
    def reader(self) -> Reader:
        """What it reads, for `records.naming`."""
        return _reader(self.tokenizer)

    def tokens(self, text: str) -> list[int]:
        """The text's token ids, without start, end and padding, however many there are."""
        return token_ids(self.tokenizer, text)

    def laid_out(self, texts: Sequence[str]) -> Tokens:
        """The texts as diffusers gives them to the encoder: framed, cut to its length, padded."""
        layout = laid_out(self.tokenizer, texts, self.length).to(self.device)
        return Tokens(layout.input_ids, layout.attention_mask)

    def framed(self, rows: Sequence[Sequence[int]]) -> Tokens:
        """Rows of token ids, framed and padded.

        Raises:
            UserError: a row is longer than the encoder reads.
        """
        out, mask, pad = [], [], self.tokenizer.pad_token_id
        for row in rows:
            if len(row) > self.room:
                raise UserError(f"{len(row)} tokens", accepted=f"up to {self.room}", remedy="shorten the prompt")
            empty = self.room - len(row)
            out.append([*self.start, *row, self.end, *[pad] * empty])
            mask.append([1] * (self.length - empty) + [0] * empty)
        ids, ones = (torch.tensor(values, dtype=torch.int64, device=self.device).reshape(len(out), self.length)
                     for values in (out, mask))
        return Tokens(ids, ones)

    def ends(self, tokens: Tokens) -> Tensor:
        """(B,) int64: the place of each row's end token, the first one behind its start."""
        behind = (tokens.ids == self.end) & (torch.arange(self.length, device=tokens.ids.device) >= len(self.start))
        return behind.int().argmax(1)

    def too_long(self, texts: Sequence[str]) -> dict[str, int]:
        """Those of the texts that it does not read to their end, with their numbers of tokens. Each once, in order."""
        distinct = list(dict.fromkeys(texts))
        rows = self.tokenizer([as_read(self.tokenizer, text) for text in distinct], truncation=False,
                              verbose=False).input_ids if distinct else []
        frame = len(self.start) + 1
        return {text: len(row) - frame for text, row in zip(distinct, rows, strict=True) if len(row) > self.length}

    def check_length(self, texts: Sequence[str]) -> None:
        """UserError: one of the texts is not read to its end."""
        for text, count in self.too_long(texts).items():
            raise UserError(f"prompt {text!r} has {count} tokens", accepted=f"up to {self.room}",
                            remedy=f"shorten it; what would be cut: {unread(self.tokenizer, text, self.room)!r}")

    def text_of(self, ids: Sequence[int]) -> str:
        """The string that the ids spell. Tokenized again it may give other ids: what counts is the string.

        Nothing is left out: a token with a meaning of its own (the end token, or a "!" that also pads) stands there as
        it is written.
        """
        special = {*self.tokenizer.all_special_ids}
        parts: list[str] = []
        for own, run in groupby(ids, lambda token: token in special):
            row = list(run)
            parts += [self._decoded(part) for part in ([[token] for token in row] if own else [row])]
        return " ".join(filter(None, parts))

    def with_tokens(self, text: str, tokens: Sequence[int], free: Collection[int]) -> str:
        """The string of a text with other tokens in it; the text's own parts stay as they were written.

        Args:
            tokens: the whole row, without start and end. free: the places of the tokens that are not the text's; what
                is left are the text's first tokens in their order.
        """
        if not getattr(self.tokenizer, "is_fast", False):
            return self.text_of(tokens)
        encoding = self.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False,
                                  return_offsets_mapping=True)
        spans, own, out = encoding.offset_mapping, 0, ""
        for mine, run in groupby(range(len(tokens)), lambda place: place not in free):
            places = list(run)
            ids = [tokens[place] for place in places]
            if mine:
                part, own = text[spans[own][0]:spans[own + len(ids) - 1][1]], own + len(ids)
            else:
                part = self.text_of(ids)
            out += part + (" " if self._apart(ids[-1], tokens[places[-1] + 1:]) else "")
        return out.strip()

    @contextmanager
    def embedding(self, embeddings: Tensor | None) -> Iterator[None]:
        """Inside, the network looks up `embeddings` (B, T, D), whatever its ids are; None changes nothing."""
        hook = None if embeddings is None else self._inside.register_forward_hook(
            lambda module, given, out: embeddings.to(out.dtype))
        try:
            yield
        finally:
            if hook is not None:
                hook.remove()

    def _decoded(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text.strip()

    def _apart(self, left: int, right: Sequence[int]) -> bool:
        """Whether a blank stands between a token and what follows: behind a piece of a word there is none."""
        piece = str(self.tokenizer.convert_ids_to_tokens(left))
        return piece.endswith("</w>") or left in self.tokenizer.all_special_ids


@lru_cache(maxsize=8)
def _reader(tokenizer: Any) -> Reader:
    unknown = getattr(tokenizer, "unk_token_id", None)

    def reading(text: str) -> tuple[str, ...]:
        ids = token_ids(tokenizer, text)
        # Words that the encoder does not know look alike to it; that makes no name of one the other's.
        return read(text) if not ids or unknown in ids else tuple(map(str, ids))

    return reading


@lru_cache(maxsize=4)
def _plain(tokenizer: Any) -> tuple[int, ...]:
    special, out = set(tokenizer.all_special_ids), []
    for token in (i for i in range(len(tokenizer)) if i not in special):
        text = tokenizer.decode([token], clean_up_tokenization_spaces=False).strip()
        if text and tokenizer(text, add_special_tokens=False).input_ids == [token]:
            out.append(token)
    return tuple(out)
