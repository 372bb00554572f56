"""The text encoder seen token by token: what attacks on prompts and embeddings need beside `Denoiser.encode`.

T is the encoder's length, V the size of its vocabulary, D its width. Ids are int64 (B, T) with start token, tokens, end
token and padding, as the tokenizer itself lays them out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from expunge.errors import UserError
from expunge.models.base import Conditioning
from expunge.models.reading import token_ids
from expunge.models.sd import StableDiffusion
from expunge.records.naming import Reader, read


def tokens_of(model: StableDiffusion, text: str) -> list[int]:
    """The text's token ids, without start, end and padding, however many there are."""
    return token_ids(model.tokenizer, text)


def reader_of(model: object) -> Reader:
    """What the model's text encoder reads, for `records.names`; what CLIP's reads, for a model without a tokenizer."""
    tokenizer = getattr(model, "tokenizer", None)
    return read if tokenizer is None else _reader(tokenizer)


@lru_cache(maxsize=8)
def _reader(tokenizer: Any) -> Reader:
    unknown = getattr(tokenizer, "unk_token_id", None)

    def reading(text: str) -> tuple[str, ...]:
        ids = token_ids(tokenizer, text)
        # Words that the encoder does not know look alike to it; that makes no name of one the other's.
        return read(text) if not ids or unknown in ids else tuple(map(str, ids))

    return reading


def text_of(model: StableDiffusion, ids: Sequence[int]) -> str:
    """The string that the ids spell. Tokenized again it may give other ids: what counts is the string.

    Nothing is left out: a token with a meaning of its own (the end token, or a "!" that also pads) stands there as it
    is written.
    """
    special = {*model.tokenizer.all_special_ids}
    parts: list[str] = []
    for own, run in groupby(ids, lambda token: token in special):
        row = list(run)
        parts += [_decoded(model, part) for part in ([[token] for token in row] if own else [row])]
    return " ".join(filter(None, parts))


def _decoded(model: StableDiffusion, ids: Sequence[int]) -> str:
    text: str = model.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text.strip()


def with_tokens(model: StableDiffusion, text: str, tokens: Sequence[int], free: Collection[int]) -> str:
    """The string of a text with other tokens in it; the text's own parts stay as they were written.

    Args:
        tokens: the whole row, without start and end. free: the places of the tokens that are not the text's; what is
            left are the text's first tokens in their order.
    """
    if not getattr(model.tokenizer, "is_fast", False):
        return text_of(model, tokens)
    told = model.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False,
                           return_offsets_mapping=True)
    spans, own, out = told.offset_mapping, 0, ""
    for mine, run in groupby(range(len(tokens)), lambda place: place not in free):
        places = list(run)
        ids = [tokens[place] for place in places]
        if mine:
            part, own = text[spans[own][0]:spans[own + len(ids) - 1][1]], own + len(ids)
        else:
            part = text_of(model, ids)
        out += part + (" " if _ends_word(model, ids[-1]) else "")
    return out.strip()


def _ends_word(model: StableDiffusion, token: int) -> bool:
    """Whether a blank stands behind a token: only a piece of a word goes on without."""
    piece = str(model.tokenizer.convert_ids_to_tokens(token))
    return piece.endswith("</w>") or token in model.tokenizer.all_special_ids


def plain_tokens(model: StableDiffusion) -> Tensor:
    """(P,) int64: ids that stand for text (neither start, end nor padding) and survive decoding and encoding alone."""
    return torch.tensor(_plain(model.tokenizer))


@lru_cache(maxsize=4)
def _plain(tokenizer: Any) -> tuple[int, ...]:
    special, out = set(tokenizer.all_special_ids), []
    for token in (i for i in range(len(tokenizer)) if i not in special):
        text = tokenizer.decode([token], clean_up_tokenization_spaces=False).strip()
        if text and tokenizer(text, add_special_tokens=False).input_ids == [token]:
            out.append(token)
    return tuple(out)


def table(model: StableDiffusion) -> Tensor:
    """Token embeddings, float32 (V, D), without gradient."""
    weight: Tensor = model.text_encoder.get_input_embeddings().weight
    return weight.detach().float()


def framed(model: StableDiffusion, rows: Sequence[Sequence[int]]) -> Tensor:
    """Ids (B, T) of token rows, framed by start and end and padded.

    Raises:
        UserError: a row is longer than the encoder reads.
    """
    tokenizer, out = model.tokenizer, []
    for row in rows:
        if len(row) > model.length - 2:
            raise UserError(f"{len(row)} tokens", accepted=f"up to {model.length - 2}", remedy="shorten the prompt")
        padding = [tokenizer.pad_token_id] * (model.length - 2 - len(row))
        out.append([tokenizer.bos_token_id, *row, tokenizer.eos_token_id, *padding])
    return torch.tensor(out, dtype=torch.int64, device=model.device).reshape(len(out), model.length)


def encode_embedded(model: StableDiffusion, ids: Tensor, embeddings: Tensor) -> Conditioning:
    """Text states of token embeddings that need not stand for any token; differentiable in `embeddings`.

    Args:
        ids: (B, T), as `framed` gives them; they say where the end token is.
        embeddings: (B, T, D), before positions are added.
    """
    inside = model.text_encoder.get_input_embeddings()
    hook = inside.register_forward_hook(lambda module, given, out: embeddings.to(out.dtype))
    try:
        states: Tensor = model.text_encoder(ids, attention_mask=model.attention_mask(ids))[0]
    finally:
        hook.remove()
    return Conditioning(states.float(), ids)  # (B, T, D), (B, T)
