"""Names that settings once had: read in files and overrides, never written, and work begun under them goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.attacks.ddim import DdimInversion
from expunge.attacks.settings import AttackSettings
from expunge.attacks.suite import planned
from expunge.attacks.unlearndiff import UnlearnDiff
from expunge.config import Below, Settings, below, merged
from expunge.errors import ConfigError
from expunge.finetune import FineTune
from expunge.guard.released import Released
from expunge.resume import Inputs
from expunge.unlearn.adversary import SoftAdversary
from expunge.unlearn.bilevel import Bilevel
from expunge.unlearn.dual import Dual
from expunge.unlearn.presets.esd import ESD_FAST
from expunge.unlearn.surgery import Surgery
from expunge.unlearn.update import Plain

FORMER: list[tuple[type[Settings], str, str]] = [
    (FineTune, "rate", "learning_rate"), (FineTune, "clip", "max_grad_norm"), (SoftAdversary, "rate", "step_size"),
    (Dual, "rate", "multiplier_rate"), (Plain, "clip", "max_grad_norm"), (Surgery, "clip", "max_grad_norm"),
    (Bilevel, "clip", "max_grad_norm"), (DdimInversion, "rate", "learning_rate"),
    (UnlearnDiff, "clip", "max_grad_value"), (Released, "rate", "mask_learning_rate"),
    (Released, "user_rate", "user_learning_rate")]


@pytest.mark.parametrize(("schema", "former", "name"), FORMER)
def test_a_former_name_is_read_and_the_present_one_is_written(schema: type[Settings], former: str, name: str) -> None:
    made = schema.build({former: 0.125})
    assert made == schema.build({name: 0.125}) != schema()
    assert (name in made.model_dump(mode="json"), former in made.model_dump()) == (True, False)


def test_a_former_name_overrides_a_part_of_a_recipe() -> None:
    assert ESD_FAST.override({"update.clip": 0.5}) == ESD_FAST.override({"update.max_grad_norm": 0.5})


def test_work_that_was_begun_under_former_names_goes_on_and_what_differs_is_still_refused(tmp_path: Path) -> None:
    def under(rate: float) -> Inputs:
        settings = FineTune(learning_rate=rate)
        return Inputs({"settings": settings.model_dump(mode="json"), "seed": 0},
                      former={"settings": settings.model_dump(mode="json", by_alias=True)})

    older = {"settings": FineTune(learning_rate=0.5).model_dump(mode="json", by_alias=True), "seed": 0}
    assert "rate" in older["settings"]
    for record in ({"inputs": older}, Inputs(older).record):
        under(0.5).check(tmp_path, record)
        with pytest.raises(ConfigError, match=r"settings\.rate 0\.5, now 0\.25"):
            under(0.25).check(tmp_path, record)
    with pytest.raises(ConfigError, match=r"settings\.learning_rate 0\.5, now 0\.25"):
        under(0.25).check(tmp_path, under(0.5).record)


@pytest.mark.parametrize(("schema", "former", "name"), FORMER)
def test_one_setting_by_both_names_is_refused_with_both(schema: type[Settings], former: str, name: str) -> None:
    for values in ({former: 0.125, name: 0.25}, {name: 0.25, former: 0.125}):
        with pytest.raises(ConfigError, match=f"one setting by two names: '{name}' and '{former}', its former name"):
            schema.build(values)


def test_both_names_are_refused_in_overrides_and_either_goes_over_what_lies_below() -> None:
    for settings in ({"update.clip": 0.5, "update.max_grad_norm": 0.25},
                     {"update": {"clip": 0.5, "max_grad_norm": 0.25}}):
        with pytest.raises(ConfigError, match="'max_grad_norm' and 'clip', its former name"):
            ESD_FAST.override(settings)
    assert ESD_FAST.override({"update.max_grad_norm": 0.25}).override({"update.clip": 0.5}) == \
        ESD_FAST.override({"update.clip": 0.5})
    planned_twice = AttackSettings(attacks=("unlearndiff",), options={"unlearndiff": {"clip": 1, "max_grad_value": 2}})
    with pytest.raises(ConfigError, match="'max_grad_value' and 'clip'"):
        planned(planned_twice)
    assert isinstance(planned(AttackSettings(attacks=("unlearndiff",), tier="paper",
                                             options={"unlearndiff": {"clip": 1}}))[0], UnlearnDiff)


def test_a_layer_keeps_its_word_about_what_lies_below_it() -> None:
    laid = merged(below({"tune": {"rate": 1, "steps": 2}}), {"tune.rate": 3})
    assert laid == {"tune": {"rate": 3, "steps": 2}}
    assert {key: isinstance(key, Below) for key in laid["tune"]} == {"rate": False, "steps": True}
