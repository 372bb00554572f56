"""The registry: lazy, strict, and helpful about names it does not know."""

from __future__ import annotations

import sys

import pytest

from expunge.errors import UserError
from expunge.registry import METHODS, WORLDS, Registry


@pytest.fixture
def registry() -> Registry:
    registry = Registry("colour", "expunge ls colours")
    registry.register("red", "colorsys:rgb_to_hsv", "warm")
    return registry


def test_entry_is_imported_on_use_only(registry: Registry) -> None:
    registry.register("late", "this.module:is_missing")
    assert registry.names() == ["late", "red"]
    sys.modules.pop("colorsys", None)
    registry.help("red")
    assert "colorsys" not in sys.modules
    assert registry.get("red")(1, 0, 0) == (0.0, 1.0, 1)


@pytest.mark.parametrize("name", ["", "Red", "red hot", "rot/blau", "red"])
def test_bad_or_taken_name_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(ValueError, match=r"name|already"):
        registry.register(name, "a:b")


@pytest.mark.parametrize("target", ["colorsys", "a:b:c"])
def test_bad_target_is_refused(registry: Registry, target: str) -> None:
    with pytest.raises(ValueError, match="module:object"):
        registry.register("blue", target)


def test_unknown_name_lists_known_ones_and_the_closest(registry: Registry) -> None:
    with pytest.raises(UserError) as caught:
        registry.get("redd")
    assert "unknown colour 'redd'" in caught.value.got
    assert "red" in caught.value.accepted
    assert "did you mean 'red'" in caught.value.remedy
    assert "expunge ls colours" in caught.value.remedy


def test_origin_says_where_an_entry_lives(registry: Registry) -> None:
    assert registry.origin("red") == "colorsys:rgb_to_hsv"


def test_source_is_told_where_there_is_one(registry: Registry) -> None:
    registry.register("mauve", "a:b", "Perkin's", "Perkin 1856, https://example.org")
    assert registry.source("mauve") == "Perkin 1856, https://example.org"
    assert registry.source("red") == ""


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in (METHODS, WORLDS) for name in kind.names()],
                         ids=lambda value: value if isinstance(value, str) else value.kind)
def test_every_registered_entry_exists_and_has_a_help_line(kind: Registry, name: str) -> None:
    assert kind.get(name) is not None
    assert kind.help(name)
