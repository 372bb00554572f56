"""Text and tokens: what the user wrote is neither dropped nor changed."""

from __future__ import annotations

from typing import Any

import pytest

from expunge.errors import UserError


@pytest.fixture
def padded_with_a_sign(model: Any) -> Any:
    """A tokenizer that pads with "!", as that of Stable Diffusion 2 does."""
    model.texts[0].tokenizer.add_special_tokens({"pad_token": "!"})
    return model


@pytest.mark.parametrize("text", ["a church ! wow !", "! ! !", "a church", "church <|endoftext|> dog"])
def test_signs_that_also_pad_and_special_tokens_are_spelt(padded_with_a_sign: Any, text: str) -> None:
    ids = padded_with_a_sign.texts[0].tokens(text)
    assert padded_with_a_sign.texts[0].text_of(ids) == text
    assert padded_with_a_sign.texts[0].tokens(padded_with_a_sign.texts[0].text_of(ids)) == ids


def test_the_users_words_stay_as_written_between_other_tokens(padded_with_a_sign: Any) -> None:
    encoder, text = padded_with_a_sign.texts[0], "A CHURCH's hill, wow! <|endoftext|> dog"
    own, (free,) = encoder.tokens(text), encoder.tokens("house")
    count = len(own)
    assert encoder.with_tokens(text, [free, *own], {0}) == f"house {text}"
    assert encoder.with_tokens(text, [*own, free], {count}) == f"{text} house"
    mixed = encoder.with_tokens(text, [*own[:2], free, *own[2:]], {2})
    assert mixed == "A CHURCH house 's hill, wow! <|endoftext|> dog"
    assert encoder.with_tokens(text, [free, free], {0, 1}) == "house house"


def test_what_would_be_cut_is_told_as_it_was_written(padded_with_a_sign: Any) -> None:
    text = " ".join(["church"] * 14) + " A DOG!"
    with pytest.raises(UserError, match=r"what would be cut: 'A DOG!'"):
        padded_with_a_sign.encode([text])
