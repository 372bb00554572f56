"""What takes a concept's place where nobody says: found by the text encoder, told, and never forced on a method."""

from __future__ import annotations

from typing import Any

import pytest

import expunge
from expunge.models.model import Model
from expunge.records import Request, mentions
from expunge.registry import METHODS
from expunge.tiny.emoji import emoji_world
from expunge.tiny.world import SEEN, STYLES, THINGS
from expunge.unlearn.erase import resolve_method, with_surrogates
from expunge.unlearn.surrogate import LEAST, MOST, surrogates


@pytest.fixture(scope="module")
def embedded() -> Model:
    return expunge.load("embedded", device="cpu")


def anchor(model: Any, concept: Any, named: Any, method: str) -> tuple[str, ...]:
    request, _ = with_surrogates(model, concept, named, (), resolve_method(method))
    return tuple(target.anchor for target in request.targets)


def test_the_closest_thing_of_the_kind_takes_the_place(embedded: Model) -> None:
    assert anchor(embedded, "church", None, "esd-fast") == ("house",)
    assert anchor(embedded, "apple", None, "esd-fast") == ("strawberry",)
    for found in surrogates(embedded, SEEN[:2]):
        assert THINGS[found.anchor].kind == THINGS[found.concept].kind
    (style,) = surrogates(embedded, ["3d"])
    assert style.anchor in STYLES
    (alone,) = surrogates(embedded, ["moon"])  # nothing else of its kind: whatever is close to the encoder
    assert alone.anchor in SEEN
    assert LEAST <= alone.closeness < MOST


def test_an_empty_anchor_means_none_and_a_named_one_stays(embedded: Model) -> None:
    assert anchor(embedded, "church", "", "esd-fast") == ("",)
    assert anchor(embedded, "church", "castle", "esd-fast") == ("castle",)
    assert anchor(embedded, ["church", "bomb"], ["house", ""], "esd-fast") == ("house", "")
    whole = emoji_world().prompts.request("church")
    assert with_surrogates(embedded, whole, None, (), resolve_method("esd-fast")) == (whole, ())


def test_of_several_concepts_none_takes_the_place_of_another(embedded: Model) -> None:
    concepts = ["church", "house", "castle"]
    assert anchor(embedded, concepts, None, "esd-fast") == ("hospital",) * 3
    gone = [name for name in SEEN if THINGS[name].kind == "building"]
    for name in anchor(embedded, gone, None, "esd-fast"):
        assert name not in gone


def test_published_methods_get_one_only_where_they_cannot_do_without(embedded: Model) -> None:
    for name in METHODS.names():
        found = anchor(embedded, "church", None, name) == ("house",)
        needed = name in {"ablation", "chi2", "hellinger", "doco", "doco-v-a", "doco-v-b", "integrity-overwrite",
                          "counterfactual", "adversarial-ablation", "tea", "trce", "stereo", "eraseflow"}
        own = name.endswith("-fast") and name != "erasediff-fast"  # its target is noise: nothing takes the place
        assert found == (needed or own), name


def test_a_world_without_kinds_takes_only_what_is_close_and_no_other_name(model: Any,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    import expunge.unlearn.surrogate as module

    for value, fits in ((LEAST - 0.01, False), (LEAST, True), (MOST, False)):
        monkeypatch.setattr(module, "closest", lambda model, things, concepts, value=value: [
            ("church", value if thing == "bench" else -1.0) for thing in things])
        (found,) = surrogates(model, ["church"])
        assert (found.anchor, found.closeness) == ("bench" if fits else "", value)
        assert ("nothing in particular" in found.words) != fits
    monkeypatch.setattr(module, "closest", lambda model, things, concepts: [("x", 0.5) for _ in things])
    (found,) = surrogates(model, ["dog"])
    assert not mentions(found.anchor, "dog"), "a hot dog is no place to put a dog"


def test_what_was_found_is_in_the_card(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import expunge.unlearn.surrogate as module

    monkeypatch.setattr(module, "closest", lambda model, things, concepts: [("x", 0.5) for _ in things])
    made = {"retain.things": ["cat"], "surrogate": "found"}
    patch = expunge.erase(model, "church", "uce", settings=made)
    assert patch.card.chosen == {"church": 0.5}
    assert patch.card.request.anchor
    given = expunge.erase(model, "church", "uce", anchor="house", settings=made)
    assert (given.card.chosen, given.card.request.anchor) == ({}, "house")
    request = Request(concept="church", prompts=("a church",))
    assert expunge.erase(model, request, "uce", settings=made).card.request == request
