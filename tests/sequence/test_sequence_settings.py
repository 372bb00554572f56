"""The file of a sequence: contradictions between requests are told before a model is opened."""

from __future__ import annotations

from typing import Any

import pytest

from expunge.config import merged
from expunge.errors import ConfigError, UserError
from expunge.sequence.settings import SequenceSettings
from expunge.sequence.strategy import PRESETS, resolve_strategy

TWO: list[dict[str, Any]] = [{"concept": "church", "anchor": "house"}, {"concept": "bomb"}]


def build(requests: list[dict[str, Any]], **more: Any) -> SequenceSettings:
    return SequenceSettings.build({"requests": requests, **more})


def test_a_name_alone_is_a_request() -> None:
    named = SequenceSettings.build({"requests": ["church", "bomb"]})
    assert named == build([{"concept": "church"}, {"concept": "bomb"}])


@pytest.mark.parametrize(("third", "says"), [
    ({"concept": "church"}, r"request 3 \(church\) against request 1 \(church\): 'church' is to be unlearned twice"),
    ({"concept": "Bomb"}, r"against request 2 \(bomb\)"),
    ({"concept": "house"}, r"'church' is to give way to 'house', but 'house' is to be unlearned"),
    ({"concept": "skull", "anchor": "a bomb"}, r"'skull' is to give way to 'a bomb', but 'bomb' is to be unlearned"),
    ({"concept": "skull", "keep": ["church"]}, r"'church' is to be unlearned and to be kept"),
    ({"concept": "skull", "anchor": "skull"}, "its own anchor"),
    ({"concept": ["skull", "car"], "anchor": ["apple"]}, "1 anchor for 2 concepts"),
    ({"concept": "skull", "keep": ["churches"]}, r"'church' is to be unlearned and to be kept"),
    ({"concept": " church "}, r"'church' is to be unlearned twice"),
    ({"concept": "skull", "method": "esdd"}, "unknown method 'esdd'"),
    ({"concept": "skull", "settings": {"objective.etta": 2}}, "objective.etta"),
    ({"concept": "skull", "when": "yesterday"}, "when"),
    ({"concept": "skull", "reason": "x"}, "unknown setting"),
])
def test_a_request_that_cannot_be_met_is_told_with_what_it_contradicts(third: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build([*TWO, third])


def test_what_must_stay_whatever_is_asked_cannot_be_asked() -> None:
    with pytest.raises(ConfigError, match="'bomb' is to be unlearned and to be kept"):
        build(TWO, keep=["bomb"])


def test_a_withdrawn_request_contradicts_nothing() -> None:
    back = {**TWO[0], "withdrawn": {"who": "the rights holder", "when": "2026-11-20"}}
    settings = build([back, TWO[1], {"concept": "church"}, {"concept": "house"}])
    assert [(number, item.title) for number, item in settings.active] == [(2, "bomb"), (3, "church"), (4, "house")]


def test_all_contradictions_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"request 3 .*unlearned twice.*request 4 .*its own anchor.*unknown strategy"):
        build([*TWO, {"concept": "church"}, {"concept": "skull", "anchor": "skull"}], strategy="hope")


def test_no_anchor_is_none_for_each() -> None:
    settings = build([{"concept": ["church", "bomb"], "anchor": ""}, {"concept": "skull", "anchor": "apple"}])
    assert [item.anchors for item in settings.requests] == [("", ""), ("apple",)]


def test_joint_holds_on_to_nothing() -> None:
    with pytest.raises(ConfigError, match="joint goes on from the original"):
        build(TWO, strategy="joint", holding={"replay.weight": 2})


def test_overrides_of_the_sequence_are_for_its_own_method() -> None:
    settings = build([{"concept": "church"}, {"concept": "bomb", "method": "uce"},
                      {"concept": "skull", "settings": {"steps": 7}}], method="esd", settings={"steps": 9})
    assert [settings.method_of(item) for item in settings.requests] == [
        ("esd", {"steps": 9}), ("uce", {}), ("esd", {"steps": 7})]


def test_strategies_are_presets_of_one_objective() -> None:
    assert {name: resolve_strategy(name).bare for name in PRESETS} == {
        name: name in ("naive", "joint") for name in PRESETS}
    assert [anchor.to for anchor in resolve_strategy("ewc").anchors] == ["original", "last"]
    assert resolve_strategy("replay", {"replay.weight": 3}).replay.weight == 3  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"unknown strategy 'refreshh'.*naive, l2-sp"):
        resolve_strategy("refreshh")
    with pytest.raises(ConfigError, match=r"replay\.wait"):
        resolve_strategy("replay", {"replay.wait": 3})


def test_mistakes_are_told_together() -> None:
    with pytest.raises(ConfigError, match=r"seed.*metod|metod.*seed"):
        SequenceSettings.build(merged({"requests": TWO}, {"seed": -1, "metod": "esd"}))


def test_a_short_list_is_no_mistake_of_its_own_where_what_it_holds_is_mistaken() -> None:
    with pytest.raises(ConfigError) as caught:
        SequenceSettings.build({"requests": [{"concept": "church", "when": "yesterday"}]})
    assert "at least 1 item" not in str(caught.value)
    with pytest.raises(ConfigError, match="at least 1 item"):
        SequenceSettings.build({"requests": []})
    with pytest.raises(ConfigError) as caught:
        SequenceSettings.build({"requests": [{"concept": "church"}], "holding": {"teacher": "last"}})
    assert "value error" not in str(caught.value).lower()
