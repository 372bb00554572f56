"""Text and tokens: what the user wrote is neither dropped nor changed."""

from __future__ import annotations

from typing import Any

import pytest

from expunge.errors import UserError
from expunge.models.text import text_of, tokens_of, with_tokens


@pytest.fixture
def padded_with_a_sign(model: Any) -> Any:
    """A tokenizer that pads with "!", as that of Stable Diffusion 2 does."""
    model.tokenizer.add_special_tokens({"pad_token": "!"})
    return model


@pytest.mark.parametrize("text", ["a church ! wow !", "! ! !", "a church", "church <|endoftext|> dog"])
def test_signs_that_also_pad_and_special_tokens_are_spelt(padded_with_a_sign: Any, text: str) -> None:
    ids = tokens_of(padded_with_a_sign, text)
    assert text_of(padded_with_a_sign, ids) == text
    assert tokens_of(padded_with_a_sign, text_of(padded_with_a_sign, ids)) == ids


def test_the_users_words_stay_as_written_between_other_tokens(padded_with_a_sign: Any) -> None:
    model, text = padded_with_a_sign, "A CHURCH's hill, wow! <|endoftext|> dog"
    own, (free,) = tokens_of(model, text), tokens_of(model, "house")
    count = len(own)
    assert with_tokens(model, text, [free, *own], {0}) == f"house {text}"
    assert with_tokens(model, text, [*own, free], {count}) == f"{text} house"
    assert with_tokens(model, text, [*own[:2], free, *own[2:]], {2}) == "A CHURCH house 's hill, wow! <|endoftext|> dog"
    assert with_tokens(model, text, [free, free], {0, 1}) == "house house"


def test_what_would_be_cut_is_told_as_it_was_written(padded_with_a_sign: Any) -> None:
    text = " ".join(["church"] * 14) + " A DOG!"
    with pytest.raises(UserError, match=r"what would be cut: 'A DOG!'"):
        padded_with_a_sign.encode([text])
