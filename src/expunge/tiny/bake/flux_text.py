"""What the small FLUX reads: a T5 encoder with a unigram tokenizer, both made here, and CLIP's pooled state.

Padding is attended to, as in FLUX: T5 learns with it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from expunge.tiny.bake.readings import Readings, ids_of

LENGTH = 24
"""Tokens that T5 is given, with the end. The longest caption of the world has 20."""
WIDTH = 96
PARTS, WORDS = 700, 1300
"""Pieces of words, and whole words, that the tokenizer knows at most."""
_SPECIAL = ("<pad>", "</s>", "<unk>")
_END = 1


def train_unigram(texts: Iterable[str], folder: Path, parts: int = PARTS, words: int = WORDS, length: int = LENGTH
                  ) -> T5Tokenizer:
    """A T5 tokenizer with a vocabulary of our own, saved to `folder`: parts of words, and the most frequent ones whole.

    Source: Kudo 2018. Differs: the library's trainer counts each distinct word once, so that frequent words come in
    parts; they are added whole, by their share of all words.
    """
    lines = [line.lower() for line in texts]
    trained = Tokenizer(models.Unigram())
    trained.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    alphabet = [chr(code) for code in range(33, 127)]
    trained.train_from_iterator(lines, trainers.UnigramTrainer(
        vocab_size=parts, special_tokens=list(_SPECIAL), unk_token="<unk>", initial_alphabet=alphabet,
        show_progress=False))
    scores = dict(json.loads(trained.to_str())["model"]["vocab"])
    counts = Counter(f"\u2581{word}" for line in lines for word in line.split())
    total = sum(counts.values())
    common = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:words]
    scores |= {word: math.log(count / total) for word, count in common}
    pieces = [(piece, scores[piece]) for piece in (*_SPECIAL, *sorted(scores.keys() - set(_SPECIAL)))]
    T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=length).save_pretrained(folder)
    return T5Tokenizer.from_pretrained(folder)


def t5_config(vocabulary: int) -> T5Config:
    """An encoder of four layers with gated units, as in T5 1.1."""
    return T5Config(vocab_size=vocabulary, n_positions=LENGTH, d_model=WIDTH, d_kv=24, num_heads=4, d_ff=256,
                    num_layers=4, feed_forward_proj="gated-gelu", dropout_rate=0.0, tie_word_embeddings=False)


def told_at_end(encoder: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """T5's state at the end of each text, (B, D), twice: it has no projected one beside it."""
    states = encoder(input_ids=ids).last_hidden_state
    told = states[torch.arange(len(ids)), (ids == _END).int().argmax(1)]
    return told, told


@torch.no_grad()
def read(encoders: Sequence[tuple[Any, Any]], texts: Sequence[str]) -> Readings:
    """Readings fp16 of `texts`, as `FluxPipeline` makes them: T5's states, CLIP's pooled state.

    Args:
        encoders: CLIP's tokenizer and text tower, then T5's.
        texts: the prompts.
    """
    (tokenizer, clip), (tokenizer_2, t5) = encoders
    pooled = [clip(input_ids=part).pooler_output for part in ids_of(tokenizer, texts).split(256)]
    states = [t5(input_ids=part).last_hidden_state for part in ids_of(tokenizer_2, texts).split(256)]
    return Readings(torch.cat(states).half(), torch.cat(pooled).half())


def new_t5(vocabulary: int) -> T5EncoderModel:
    """A fresh encoder."""
    return T5EncoderModel(t5_config(vocabulary))
