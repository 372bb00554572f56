"""Other languages are strata of their own: asked when named, with the concept called as the user says it is called."""

from __future__ import annotations

import pytest

from expunge.errors import UserError
from expunge.metrics.base import PromptCounts
from expunge.metrics.open_languages import LANGUAGES, far_names, templates_in
from expunge.metrics.open_prompts import FAR_THINGS, OpenPrompts, bare
from expunge.records import Prompt

MANY = PromptCounts(direct=100, held_out=100, near=100, far=200)


def asked(asks: OpenPrompts, name: str, *strata: str) -> list[Prompt]:
    return asks.of(asks.request(name), MANY, strata)


def test_a_language_is_asked_where_it_is_named_and_nowhere_else() -> None:
    asks = OpenPrompts()
    assert not {prompt.stratum for prompt in asked(asks, "church")} & LANGUAGES.keys()
    german = [prompt for prompt in asked(asks, "church", "german") if prompt.role == "direct"]
    assert {prompt.stratum for prompt in german} == {"german"}
    assert "ein Bild mit church" in {prompt.text for prompt in german}
    everything = {prompt.stratum for prompt in asked(asks, "church", "all") if prompt.role == "direct"}
    assert everything >= LANGUAGES.keys()


def test_the_concept_is_called_by_its_name_in_that_language_and_judged_by_its_own() -> None:
    asks = OpenPrompts(name_in=["german=Kirche", "japanese = 教会"])
    direct = [prompt for prompt in asked(asks, "church", "german", "japanese", "short") if prompt.role == "direct"]
    said = {stratum: {prompt.text for prompt in direct if prompt.stratum == stratum} for stratum in
            ("german", "japanese", "short")}
    assert all("Kirche" in text and "church" not in text for text in said["german"])
    assert all("教会" in text for text in said["japanese"])
    assert "a photo of church" not in said["short"]
    assert "a photo of a church" in said["short"]
    assert {prompt.labels["object"] for prompt in direct} == {"church"}


def test_kept_things_have_their_names_and_those_of_the_concept_are_not_kept() -> None:
    assert all(len(far_names(bare(thing))) == len(LANGUAGES) for thing in FAR_THINGS)
    far = [prompt for prompt in asked(OpenPrompts(), "dog", "german") if prompt.role == "far"]
    assert any("Fahrrad" in prompt.text and prompt.labels["object"] == "bicycle" for prompt in far)
    assert not any("Hund" in prompt.text for prompt in far)


@pytest.mark.parametrize("kind", ["object", "style", "person", "explicit"])
def test_templates_of_all_languages_are_different_texts_with_a_place_for_the_name(kind: str) -> None:
    tables = templates_in(kind)  # type: ignore[arg-type]
    assert tables.keys() == LANGUAGES.keys()
    texts = [text for its in tables.values() for text in its]
    assert len({*texts}) == len(texts)
    assert all("{c}" in text for text in texts)


@pytest.mark.parametrize("word", ["Kirche", "german=", "klingon=qo'", "german=Kirche german=Dom"])
def test_a_name_in_an_unknown_language_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="german, french, spanish, japanese"):
        OpenPrompts(name_in=word.split())


def test_a_name_in_a_language_is_of_one_concept() -> None:
    asks = OpenPrompts(name_in=["german=Kirche"])
    with pytest.raises(UserError, match="where one concept is taken out"):
        asks.of(asks.request(["church", "bomb"]), MANY, ["german"])
