"""Free places in prompts: where they stand, and what a model is told with embeddings in them."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch

from expunge.errors import UserError
from expunge.models.free_places import FreePlaces, Layout, Slot, laid_out, prompt_layout

OWN = (11, 12, 13, 14, 15, 16, 17)


@pytest.mark.parametrize(("slot", "written"), [
    ("prefix", "?? ?? 11 12 13 14 15 16 17"), ("suffix", "11 12 13 14 15 16 17 ?? ??"),
    ("mid", "11 12 13 ?? ?? 14 15 16 17"), ("at", "11 ?? ?? 12 13 14 15 16 17"),
    ("spread", "11 12 ?? 13 14 15 ?? 16 17"), ("every", "11 12 13 ?? 14 15 16 ?? 17"), ("replace", "?? ??")])
def test_free_tokens_stand_where_the_slot_says(slot: Slot, written: str) -> None:
    layout = laid_out(OWN, slot, 2, at=1, every=3)
    told = ["??" if place in layout.free else str(token) for place, token in enumerate(layout.tokens)]
    assert " ".join(told) == written
    filled = [str(token) for token in layout.filled((1, 2))]
    assert filled == written.replace("??", "1", 1).replace("??", "2", 1).split()


@pytest.mark.parametrize("slot", get_args(Slot))
def test_an_empty_prompt_has_room_too(slot: Slot) -> None:
    layout = laid_out((), slot, 2)
    assert layout == Layout((0,) * len(layout.free), tuple(range(len(layout.free))))
    assert layout.free


def test_a_place_outside_the_prompt_is_refused() -> None:
    assert laid_out(OWN, "at", 1, at=7).free == (7,)
    with pytest.raises(UserError, match=r"token 8 of a prompt of 7 tokens; accepted: 0 to 7"):
        laid_out(OWN, "at", 1, at=8)


def test_length_is_counted_in_tokens_not_in_words(model: Any) -> None:
    text = "kniferous church"  # two words, many tokens
    own = model.texts[0].tokens(text)
    assert len(own) > 2
    room = model.texts[0].room - len(own)
    assert prompt_layout(model, text, "prefix", room).tokens[room:] == tuple(own)
    with pytest.raises(UserError, match="shorten the prompt or insert fewer tokens"):
        prompt_layout(model, text, "prefix", room + 1)
    assert len(prompt_layout(model, text, "replace", model.texts[0].room).free) == model.texts[0].room


def places(model: Any) -> FreePlaces:
    """Two prompts of different lengths, with two places and one."""
    texts = ["a dog", "a church on a hill"]
    return FreePlaces.of(model, texts, [prompt_layout(model, texts[0], "prefix", 2),
                                        prompt_layout(model, texts[1], "mid", 1)])


def test_a_free_place_holds_what_is_put_there_and_every_other_token_its_own_embedding(model: Any) -> None:
    encoder, told = model.texts[0], places(model)
    start = len(encoder.start)
    assert list(zip(told.row.tolist(), told.column.tolist(), strict=True)) == [
        (0, start), (0, start + 1), (1, start + len(encoder.tokens("a church on a hill")) // 2)]
    values = encoder.table[encoder.tokens("red blue green")[:3]]
    written = told.tokens.ids.clone()
    written[told.row, told.column] = torch.tensor(encoder.tokens("red blue green")[:3])
    with torch.no_grad():
        wanted = encoder.read(type(told.tokens)(written, told.tokens.mask))["states"]
        torch.testing.assert_close(told.told(model, values).states, wanted, atol=1e-6, rtol=0)


def test_as_they_are_is_the_prompt_itself_where_nothing_is_free(model: Any) -> None:
    texts = ["a dog", "a church on a hill"]
    closed = [Layout(tuple(model.texts[0].tokens(text)), ()) for text in texts]
    with torch.no_grad():
        told = FreePlaces.of(model, texts, closed).as_they_are(model).states
        torch.testing.assert_close(told, model.encode(texts).states, atol=1e-6, rtol=0)


def test_rows_may_be_taken_in_any_order(model: Any) -> None:
    both = places(model)
    turned, again = both.at([1, 0]), both.at([1])
    assert turned.prompts == both.prompts[::-1]
    assert (turned.row.tolist(), turned.column.tolist()) == ([0, 1, 1], both.column[[2, 0, 1]].tolist())
    assert torch.equal(again.own, both.own[2:])
    assert torch.equal(turned.at([1, 0]).embeddings, both.embeddings)


def test_what_is_told_is_differentiable_in_each_places_own_embedding(model: Any) -> None:
    both = places(model)
    values = both.own.clone().requires_grad_()
    both.told(model, values).states[0].sum().backward()
    assert (values.grad[:2].norm(dim=1) > 0).all()  # type: ignore[index]
    assert not values.grad[2].any()  # type: ignore[index]


def test_a_prompt_that_is_longer_than_the_encoder_reads_is_refused(model: Any) -> None:
    with pytest.raises(UserError, match="shorten the prompt"):
        FreePlaces.of(model, [""], [Layout((5,) * (model.texts[0].room + 1), ())])
