"""Every slot of a recipe is a union told apart by kind, with errors that a person can act on."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, Literal

import pytest
import torch
from stepping import NO_MODEL, stepped
from torch import Tensor
from torch.nn import Parameter

from expunge.config import Settings, knob
from expunge.errors import ConfigError
from expunge.records import Request
from expunge.registry import OBJECTIVES, PARTS
from expunge.unlearn.lookahead import Lookahead
from expunge.unlearn.objective import Steer, Term
from expunge.unlearn.projected import Projected
from expunge.unlearn.recipe import Recipe

MEMBERS = [(slot, known.get(name)) for slot, known in PARTS.items() for name in known.names()]
FIRST = {"source": "frozen", "objective": "steer", "keep": "match", "update": "plain", "adversary": "soft"}
"""The kind of settings that name none."""


def built(values: dict[str, Any]) -> Recipe:
    return Recipe.build(values)


@pytest.mark.parametrize(("slot", "member"), MEMBERS, ids=lambda value: getattr(value, "__name__", value))
def test_each_kind_is_reached_by_its_name_and_comes_back_from_json(slot: str, member: type[Settings]) -> None:
    kind = member.model_fields["kind"].default
    recipe = Recipe().override({slot: kind})
    assert type(getattr(recipe, slot)) is member
    assert Recipe.build(recipe.model_dump(mode="json")) == recipe
    with pytest.raises(ConfigError, match=rf"unknown setting '{slot}\.zzz' \(known in {slot}: [a-z, ]*kind"):
        Recipe().override({slot: kind, f"{slot}.zzz": 1})


@pytest.mark.parametrize("slot", PARTS)
def test_an_unknown_kind_is_told_with_the_known_ones(slot: str) -> None:
    kinds = ", ".join(member.model_fields["kind"].default for name, member in MEMBERS if name == slot)
    for wrong in ("nothing", {"kind": "nothing"}, 3):
        with pytest.raises(ConfigError) as caught:
            built({slot: wrong})
        assert f"known kinds of {slot}: {kinds}" in str(caught.value)


@pytest.mark.parametrize("slot", PARTS)
def test_settings_without_a_kind_mean_the_first_member(slot: str) -> None:
    assert getattr(built({slot: {}}), slot).kind == FIRST[slot]


@pytest.mark.parametrize(("slot", "member"), MEMBERS, ids=lambda value: getattr(value, "__name__", value))
def test_a_part_is_registered_under_its_kind(slot: str, member: type[Settings]) -> None:
    assert PARTS[slot].get(member.model_fields["kind"].default) is member


class Away(Steer):
    """An objective of somebody else's."""

    kind: Literal["away"] = "away"  # type: ignore[assignment]
    far: float = knob(2.0, "How far", gt=0.0)


def test_a_part_may_be_an_object_of_a_class_that_nobody_registered(model: Any) -> None:
    request = Request(concept="church", prompts=("a church",))
    small = {"steps": 1, "source.trajectories": 2, "source.grid": 2, "batch": 1, "learning_rate": 1e-3}
    patch = Recipe(name="mine", objective=Away(far=3.0)).override(small)(model, request)
    assert patch.card.settings["objective"]["kind"] == "away"
    assert patch.card.settings["objective"]["far"] == 3.0


def test_a_part_of_another_package_is_known_by_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("somebody_elses")
    module.Away = Away  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebody_elses", module)
    monkeypatch.setattr(OBJECTIVES, "_entries", dict(OBJECTIVES._entries))
    OBJECTIVES.register("away", "somebody_elses:Away", "away from it")
    assert Recipe().override({"objective": "away", "objective.far": 4.0}).objective == Away(far=4.0)
    with pytest.raises(ConfigError, match=r"objective\.far: got -1.0, input should be greater than 0"):
        Recipe().override({"objective": "away", "objective.far": -1.0})


def test_what_is_no_part_is_refused() -> None:
    class Bare(Settings):
        kind: Literal["bare"] = "bare"

    with pytest.raises(ConfigError, match="of objective: ablate, compose, contrast, domain, halfspace"):
        Recipe.build({"objective": Bare()})


@pytest.mark.parametrize(("outer", "inner"), [("masked", "masked"), ("masked", "dual"), ("dual", "bilevel"),
                                              ("dual", "refresh"), ("refresh", "refresh"), ("lookahead", "refresh"),
                                              ("refresh", "lookahead")])
def test_an_update_stands_only_where_it_can(outer: str, inner: str) -> None:
    with pytest.raises(ConfigError, match=rf"{inner} cannot stand inside {outer}; known kinds"):
        Recipe().override({"update": outer, "update.update": inner})


def test_parts_within_parts_are_named_by_kind_too() -> None:
    recipe = Recipe().override({"update": "dual", "update.update": "masked", "update.update.update": "surgery",
                                "objective.loss": "chi2"})
    assert recipe.model_dump(mode="json")["update"]["update"]["update"]["kind"] == "surgery"
    with pytest.raises(ConfigError, match=r"'update\.update\.shar' \(did you mean 'update\.update\.share'"):
        recipe.override({"update.update.shar": 0.1})


@pytest.mark.parametrize("member", [member for slot, member in MEMBERS if slot == "update" and
                                    member not in (Projected, Lookahead)],
                         ids=lambda m: m.__name__)
def test_what_is_held_on_to_is_added_as_it_is_whatever_the_update(member: type[Any]) -> None:
    """Outside surgery, bounds and bargains: the step moves by the hold's own gradient more (a projected one does not;
    one that looks ahead needs a model, and has this test where its others are)."""
    pull = torch.tensor([0.5, -2.0])

    def moved(held: bool) -> tuple[Tensor, dict[str, float]]:
        w = Parameter(torch.tensor([3.0, -4.0]))
        params, optimizer = {"w": w}, torch.optim.SGD([w], lr=0.1)
        erase, keep = lambda: w.square().sum() / 2, lambda: (w * torch.tensor([-1.0, -3.0])).sum()
        settings = member(share=1.0, draws=1) if member.__name__ == "Masked" else member()
        stepper = settings.prepare(params, Term(lambda number: erase()), NO_MODEL)
        hold = (lambda: (pull * w).sum()) if held else None
        return w, stepped(stepper, erase, keep, params, optimizer, hold)

    (without, before), (with_it, after) = moved(False), moved(True)
    torch.testing.assert_close(with_it.detach(), without.detach() - 0.1 * pull)
    assert "hold" in after
    assert {name: value for name, value in after.items() if name != "hold"} == before
