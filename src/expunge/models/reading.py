"""How a pipeline's tokenizer reads a prompt, exactly as diffusers asks it to.

A word that was learned by textual inversion may stand for several vectors: the tokenizer then has "<word>", "<word>_1",
"<word>_2" and so on, and the word in a prompt means all of them, one after the other.

Source: Gal et al. 2022 (textual inversion); diffusers, `TextualInversionLoaderMixin.maybe_convert_prompt`, which is
called. Differs: a tokenizer without learned words is not asked twice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

_PROBES = ("", "a photo of a cat", "A PHOTO of a Cat", "Caf\u00e9 na\u00efve \ufb01 \u212b \u00df",
           "two  spaces, a\ttab\nand a line", "!", "don't 12,345 #tag @x", "\u6559\u4f1a \U0001f600",
           " ".join(["a very long prompt"] * 60))
"""Texts whose ids show how a tokenizer treats capitals, accents, white space, marks, other scripts and what is too
long."""
_MUTABLE = ("truncation", "padding", "version")
"""What a call of the tokenizer leaves behind in it, and the version of its file: none of them says how it reads."""


def as_read(tokenizer: Any, prompt: str) -> str:
    """The prompt with every learned word of several vectors spelt out."""
    if not _learned(tokenizer):
        return prompt
    from diffusers.loaders import TextualInversionLoaderMixin  # here alone: settings and `--help` do without

    converted: str = TextualInversionLoaderMixin().maybe_convert_prompt(prompt, tokenizer)
    return converted


def laid_out(tokenizer: Any, prompts: Sequence[str], length: int) -> Any:
    """Ids and mask int64 (B, length) as the text encoder is given them: framed, cut to `length`, padded."""
    return tokenizer([as_read(tokenizer, prompt) for prompt in prompts], padding="max_length", max_length=length,
                     truncation=True, return_tensors="pt")


def token_ids(tokenizer: Any, prompt: str) -> list[int]:
    """All ids of the prompt, however many, without start and end."""
    ids: list[int] = tokenizer(as_read(tokenizer, prompt), add_special_tokens=False, truncation=False,
                               verbose=False).input_ids
    return ids


def unread(tokenizer: Any, prompt: str, room: int) -> str:
    """What of the prompt stands behind its first `room` tokens, as it was written; without a fast tokenizer as read."""
    if getattr(tokenizer, "is_fast", False):
        text = as_read(tokenizer, prompt)
        spans = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False,
                          return_offsets_mapping=True).offset_mapping
        return text[spans[room][0]:] if len(spans) > room else ""
    cut: str = tokenizer.decode(token_ids(tokenizer, prompt)[room:], clean_up_tokenization_spaces=False)
    return cut


def reading(tokenizer: Any, length: int) -> list[Any]:
    """JSON-able: all that decides which ids a prompt becomes. Equal where tokenizers read alike, wherever they lie.

    Rules and vocabulary (of a tokenizer that tells them), special and added words with their ids, and the ids of a few
    probes and of every added word as the model itself would ask for them.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend is not None else {"vocabulary": tokenizer.get_vocab()}
    for name in _MUTABLE:
        rules.pop(name, None)
    added = dict(sorted(tokenizer.added_tokens_encoder.items()))
    special = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id]
    probes = [*_PROBES, *(f"a photo of {word}" for word in added)]
    laid = laid_out(tokenizer, probes, length)
    return [rules, added, special, length, laid.input_ids.tolist(), laid.attention_mask.tolist()]


def _learned(tokenizer: Any) -> bool:
    """Whether the tokenizer has words beside its special ones that end in a number, as later vectors of a word do."""
    return any(word.rpartition("_")[2].isdigit() for word in tokenizer.added_tokens_encoder)
