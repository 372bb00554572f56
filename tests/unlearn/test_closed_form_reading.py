"""Which states of which texts a closed form reads, position by position."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from expunge.errors import UserError
from expunge.records import Request, Target
from expunge.unlearn.closed_form.reading import KeepTokens, Plan, Reading, Texts, Tokens, read
from expunge.unlearn.subspace import second_moment

LENGTH = 16
REQUEST = Request(concept="church", prompts=("a church on a hill",), anchor="house", keep=("a dog",))


def reading(model: Any, request: Request = REQUEST, tokens: Tokens = "span", texts: Texts = "names",
            keep: KeepTokens = "all", retained: tuple[str, ...] = ()) -> Reading:
    return read(model, Plan.of(request, texts, retained), tokens, keep, "last")


def states(model: Any, text: str) -> Tensor:
    out: Tensor = model.encode([text]).states[0].detach()
    return out


def check(model: Any, given: Reading, places: list[tuple[int, int]], text: str, instead: str) -> None:
    c, g = states(model, text), states(model, instead)
    torch.testing.assert_close(given.pairs.c, c[[i for i, _ in places]].double())
    torch.testing.assert_close(given.pairs.g, g[[j for _, j in places]].double())


@pytest.mark.parametrize(("tokens", "places"), [
    ("last", [(1, 1)]), ("words", [(1, 1), (2, 2)]), ("span", [(i, i) for i in range(1, LENGTH)]),
    ("all", [(i, i) for i in range(1, LENGTH)])])
def test_name_of_one_token(model: Any, tokens: Tokens, places: list[tuple[int, int]]) -> None:
    check(model, reading(model, tokens=tokens), places, "church", "house")


@pytest.mark.parametrize(("tokens", "places"), [
    ("last", [(4, 1)]), ("words", [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2)]),
    ("span", [(4 + i, 1 + i) for i in range(LENGTH - 4)]), ("all", [(i, i) for i in range(1, LENGTH)])])
def test_spans_are_aligned_at_the_names_last_tokens(model: Any, tokens: Tokens, places: list[tuple[int, int]]) -> None:
    request = Request(concept="a castle and church", prompts=("x",), anchor="house")
    check(model, reading(model, request, tokens), places, "a castle and church", "house")


@pytest.mark.parametrize(("tokens", "places"), [
    ("last", [(2, 3)]), ("words", [(2, 3), (3, 4), (4, 5), (5, 6), (6, 7)]),
    ("span", [(2 + i, 3 + i) for i in range(LENGTH - 3)])])
def test_in_a_prompt_the_name_and_what_follows_it(model: Any, tokens: Tokens, places: list[tuple[int, int]]) -> None:
    request = Request(concept="church", prompts=("a church on a hill",), anchor="red house")
    check(model, reading(model, request, tokens, "prompts"), places, "a church on a hill", "a red house on a hill")


def test_without_an_anchor_the_empty_prompt_from_its_start_token_on(model: Any) -> None:
    request = Request(concept="church", prompts=("x",))
    check(model, reading(model, request), [(1 + i, i) for i in range(LENGTH - 1)], "church", "")
    check(model, reading(model, request, "words"), [(1, 0), (2, 1)], "church", "")


def test_prompt_that_does_not_name_the_concept_is_read_to_its_last_word(model: Any) -> None:
    request = Request(concept="church", prompts=("the knife of a chef",), anchor="house")
    check(model, reading(model, request, "last", "prompts"), [(5, 1)], "the knife of a chef", "house")


def test_concepts_count_alike_however_many_texts_they_have(model: Any) -> None:
    request = Request(concept="church", prompts=("a church", "a church on a hill", "a picture of a church"),
                      anchor="house", also=(Target(concept="dog", prompts=("a dog",), anchor="apple"),))
    given = reading(model, request, "last", "both")
    assert given.pairs.a.tolist() == pytest.approx([0.25] * 4 + [0.5] * 2)
    torch.testing.assert_close(given.pairs.c[4], states(model, "dog")[1].double())
    torch.testing.assert_close(given.pairs.g[4], states(model, "apple")[1].double())


def test_what_must_stay_is_read_at_the_positions_asked_for(model: Any) -> None:
    dog, knife = states(model, "a dog"), states(model, "the knife of a chef")
    for keep, rows in (("all", dog), ("words", dog[:4]), ("last", dog[2:3])):
        given = reading(model, keep=keep, retained=("the knife of a chef", "a dog"))  # type: ignore[arg-type]
        torch.testing.assert_close(given.keep, rows)
        torch.testing.assert_close(given.retained, knife[5:6])
        torch.testing.assert_close(given.empty, states(model, ""))
        assert given.texts == 3
    nothing = reading(model, REQUEST.model_copy(update={"keep": ()}))
    assert nothing.keep.shape == nothing.retained.shape == (0, 32)


def test_every_text_is_encoded_once_and_told(model: Any) -> None:
    plan = Plan.of(REQUEST, "both", ("a dog", "an emoji of a red apple"))
    assert sorted(plan.texts) == sorted({"", "church", "house", "a church on a hill", "a house on a hill", "a dog",
                                         "an emoji of a red apple"})
    told: list[tuple[int, int]] = []
    read(model, plan, "span", "all", "all", batch=3, progress=lambda done, total, losses: told.append((done, total)))
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_concept_that_is_its_own_anchor_is_refused(model: Any) -> None:
    also = (Target(concept="Dog", prompts=("a dog",), anchor=" dog "),)
    with pytest.raises(UserError, match="'Dog' is its own anchor"):
        Plan.of(REQUEST.model_copy(update={"also": also}), "names", ())


@pytest.mark.parametrize(("concept", "anchor", "said"), [
    ("red apple", "Red  apple", "alike"), (" \u200a", "house", "no token")])
def test_texts_that_the_encoder_cannot_tell_apart_or_read_are_refused(model: Any, concept: str, anchor: str,
                                                                      said: str) -> None:
    with pytest.raises(UserError, match=said):
        reading(model, Request(concept=concept, prompts=("x",), anchor=anchor))


def test_cut_off_text_is_refused(model: Any) -> None:
    with pytest.raises(UserError, match="tokens"):
        reading(model, REQUEST.model_copy(update={"prompts": ("a church " + "on a hill " * 8,)}), texts="prompts")


def test_second_moment_is_the_weighted_sum_of_outer_products() -> None:
    generator = torch.Generator().manual_seed(0)
    s, w = torch.randn((5000, 6), generator=generator), torch.rand(5000, generator=generator)
    torch.testing.assert_close(second_moment(s, w.double()), torch.einsum("n,ni,nj->ij", w, s, s).double(),
                               rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(second_moment(s), (s.double().T @ s.double()))
