"""Presets take the settings that were published for a model's family; the user's own win."""

from __future__ import annotations

from typing import Any

import pytest

from expunge.errors import UserError
from expunge.registry import METHODS
from expunge.unlearn.erase import resolve_method
from families import two_texts
from pipelines_of_families import built, taken


@pytest.fixture(scope="module")
def dev() -> Any:
    return taken(built("flux-dev"))


@pytest.fixture(scope="module")
def schnell() -> Any:
    return taken(built("flux-schnell"))


def test_published_settings_of_a_family_are_taken_and_the_users_win(dev: Any) -> None:
    method: Any = resolve_method("esd", {"steps": 7, "source": {"grid": 9}}, dev)
    assert (method.steps, method.source.grid) == (7, 9)
    assert (method.source.guidance, method.learning_rate) == (3.5, 1e-4)


@pytest.mark.parametrize("name", METHODS.names())
def test_no_preset_changes_on_the_families_that_it_is_for(name: str) -> None:
    assert resolve_method(name, {}, two_texts()) == resolve_method(name, {})


def test_a_closed_form_goes_to_where_text_states_are_read_as_they_are(dev: Any) -> None:
    assert resolve_method("uce", {}, dev).scope == "entry"  # type: ignore[attr-defined]
    asked: Any = resolve_method("uce", {"scope": "text.kv"}, dev)
    with pytest.raises(UserError, match=r"does not read text states as they are.*entry"):
        asked.check(dev, None)


def test_where_no_layer_sees_the_image_alone_attention_trains(dev: Any) -> None:
    method: Any = resolve_method("trce", {}, dev)
    assert (method.scope, method.start.scope) == ("attn+entry", "entry")
    with pytest.raises(UserError, match="unknown scope 'visual'"):
        dev.parameters_in("visual+xattn.kv")


@pytest.mark.parametrize("name", METHODS.names())
def test_a_model_that_takes_no_guidance_is_asked_for_none(schnell: Any, name: str) -> None:
    method: Any = resolve_method(name, {}, schnell)

    def guidances(values: Any) -> list[float]:
        if not isinstance(values, dict):
            return []
        return [value for key, value in values.items() if key == "guidance"] + [
            found for value in values.values() for found in guidances(value)]

    assert {*guidances(method.model_dump(mode="json"))} <= {1.0}
