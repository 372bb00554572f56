"""No text that an evaluation asks is among those that an edit trains on or holds on to."""

from __future__ import annotations

import pytest

import expunge
from expunge.metrics.base import PromptCounts
from expunge.models.model import Model
from expunge.registry import METHODS
from expunge.tiny.emoji import emoji_world
from expunge.unlearn.closed_form.method import ClosedForm
from expunge.unlearn.erase import resolve_method, with_surrogates
from expunge.unlearn.method import Configured

WORLD = emoji_world()
MANY = PromptCounts(direct=900, held_out=300, paraphrase=300, implicit=300, near=900, far=900, style=300,
                    never_seen=300)
REQUESTS = (["church"], ["pixel art"], ["moon"], ["bus", "fish", "3d"])


@pytest.fixture(scope="module")
def model() -> Model:
    return expunge.load("embedded", device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("concepts", REQUESTS, ids="+".join)
def test_no_text_of_the_evaluation_is_among_those_of_any_method(model: Model, concepts: list[str]) -> None:
    asked = {prompt.text for prompt in WORLD.prompts.of(WORLD.prompts.request(concepts), MANY, ("all",)) if prompt.text}
    assert len(asked) > 1000
    for name in METHODS.names():
        method = resolve_method(name)
        assert isinstance(method, Configured)
        request, _ = with_surrogates(model, concepts, None, (), method)
        used = method.used_texts(model, request)
        assert used["erase"]
        bare = set()
        # A closed form, alone or as a start, reads what a concept is called, as published, and no sentence.
        if isinstance(method, ClosedForm) or getattr(method, "start", None) is not None:
            bare = {name for target in request.targets for name in (target.concept, target.anchor)}
        both = asked & {text for mine in used.values() for text in mine} - bare
        assert not both, f"{name}: {sorted(both)[:5]}"


def test_a_patch_has_the_texts_that_its_method_names(model: Model) -> None:
    method = resolve_method("uce")
    patch = expunge.erase(model, "church", method, anchor="house", own_look=False)
    assert patch.texts == method.used_texts(model, patch.card.request)  # type: ignore[attr-defined]
    assert patch.texts["erase"] == ("church",)
    assert patch.texts["instead"] == ("house",)
