"""Every slot of a recipe is a union told apart by kind, with errors that a person can act on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from expunge.config import Settings
from expunge.errors import ConfigError
from expunge.unlearn.objective import Term
from expunge.unlearn.parts import AnyKeep, AnyObjective, AnyUpdate
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import AnySource

UNIONS = {"source": AnySource, "objective": AnyObjective, "keep": AnyKeep, "update": AnyUpdate}
MEMBERS = [(slot, member) for slot, union in UNIONS.items() for member in union.__origin__.__args__]  # type: ignore[attr-defined]


def built(values: dict[str, Any]) -> Recipe:
    return Recipe.build(values)


@pytest.mark.parametrize(("slot", "member"), MEMBERS, ids=lambda value: getattr(value, "__name__", value))
def test_each_kind_is_reached_by_its_name_and_comes_back_from_json(slot: str, member: type[Settings]) -> None:
    kind = member.model_fields["kind"].default
    recipe = Recipe().override({slot: kind})
    assert type(getattr(recipe, slot)) is member
    assert Recipe.build(recipe.model_dump(mode="json")) == recipe
    with pytest.raises(ConfigError, match=rf"unknown setting '{slot}\.zzz' \(known in {slot}: kind"):
        Recipe().override({slot: kind, f"{slot}.zzz": 1})


@pytest.mark.parametrize("slot", UNIONS)
def test_an_unknown_kind_is_told_with_the_known_ones(slot: str) -> None:
    kinds = ", ".join(member.model_fields["kind"].default for name, member in MEMBERS if name == slot)
    for wrong in ("nothing", {"kind": "nothing"}, 3):
        with pytest.raises(ConfigError) as caught:
            built({slot: wrong})
        assert f"known kinds of {slot}: {kinds}" in str(caught.value)


@pytest.mark.parametrize("slot", UNIONS)
def test_settings_without_a_kind_mean_the_first_member(slot: str) -> None:
    first = next(member for name, member in MEMBERS if name == slot)
    assert type(getattr(built({slot: {}}), slot)) is first


def test_kinds_differ_within_a_slot() -> None:
    for slot in UNIONS:
        kinds = [member.model_fields["kind"].default for name, member in MEMBERS if name == slot]
        assert len(set(kinds)) == len(kinds) > 1


def test_parts_within_parts_are_named_by_kind_too() -> None:
    recipe = Recipe().override({"update": "dual", "update.update": "masked", "update.update.update": "surgery",
                                "objective.loss": "chi2"})
    assert recipe.model_dump(mode="json")["update"]["update"]["update"]["kind"] == "surgery"
    with pytest.raises(ConfigError, match=r"'update\.update\.shar' \(did you mean 'update\.update\.share'"):
        recipe.override({"update.update.shar": 0.1})


@pytest.mark.parametrize("member", [member for slot, member in MEMBERS if slot == "update"], ids=lambda m: m.__name__)
def test_what_is_held_on_to_is_added_as_it_is_whatever_the_update(member: type[Any]) -> None:
    """Outside surgery, bounds and bargains: the step moves by the hold's own gradient more."""
    pull = torch.tensor([0.5, -2.0])

    def stepped(held: bool) -> tuple[Tensor, dict[str, float]]:
        w = Parameter(torch.tensor([3.0, -4.0]))
        params, optimizer = {"w": w}, torch.optim.SGD([w], lr=0.1)
        erase, keep = lambda: w.square().sum() / 2, lambda: (w * torch.tensor([-1.0, -3.0])).sum()
        settings = member(share=1.0, draws=1) if member.__name__ == "Masked" else member()
        stepper = settings.prepare(params, Term(lambda number: erase()))
        hold = (lambda: (pull * w).sum()) if held else None
        return w, stepper.step(erase, keep, params, optimizer, hold)

    (without, before), (with_it, after) = stepped(False), stepped(True)
    torch.testing.assert_close(with_it.detach(), without.detach() - 0.1 * pull)
    assert "hold" in after
    assert {name: value for name, value in after.items() if name != "hold"} == before
