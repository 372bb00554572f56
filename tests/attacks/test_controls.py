"""Null controls run wherever their attacks run; an attack without one is marked as uncontrolled everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from colour_world import Named, SideJudge, attacked_world, edit

from expunge.attacks.settings import AttackSettings
from expunge.attacks.suite import attack
from expunge.metrics.worlds import World
from expunge.records import AttackRun, SuiteResult
from expunge.registry import ATTACKS
from expunge.report.attacks import attack_rows, attack_sentence

OPTIONS: dict[str, dict[str, Any]] = {
    "seed-search": {"tries": 2}, "random-prompt": {"tries": 2, "tokens": 1}, "noising": {}, "inpainting": {},
    "ddim-inversion": {"steps": 3, "refine": 1, "fresh": [0.35]}, "quantise": {"bits": [4]}, "misspelt": {"prompts": 2}}


def alone() -> World:
    """No second detector, and nothing that the model never knew: as any real model."""
    return attacked_world().but(judges=Named(SideJudge()))


@pytest.fixture(scope="module")
def made(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SuiteResult:
    from expunge.models.store import load

    model = load(pipeline_folder, device="cpu")
    settings = AttackSettings(attacks=tuple(OPTIONS), options=OPTIONS, count=4, seeds=2, control_items=2, fresh=0,
                              steps=8, guidance=1.0, each=True, force=True)
    return attack(model, edit(model, 0.1), settings=settings, out=tmp_path_factory.mktemp("attack"), world=alone())


def run_of(made: SuiteResult, name: str) -> AttackRun:
    return next(run for run in made.runs if run.attack == name)


@pytest.mark.parametrize("name", ["noising", "inpainting", "ddim-inversion"])
def test_random_weights_need_no_unknown_thing(made: SuiteResult, name: str) -> None:
    run = run_of(made, name)
    assert len(run.control) == 2
    assert run.control_of == "the same images, a denoiser of random weights"
    assert not run.uncontrolled
    assert made.score(f"attack/{name}/control").n == 2


@pytest.mark.parametrize("name", ["seed-search", "random-prompt", "quantise"])
def test_attacks_that_work_towards_nothing_are_made_on_prompts_of_other_things(made: SuiteResult, name: str) -> None:
    run = run_of(made, name)
    assert run.control_of == "prompts of other things, which do not ask for it"
    assert run.control
    assert not any("church" in item.prompt.text for item in run.control)
    assert not run.uncontrolled


def test_an_attack_without_a_control_is_marked_in_record_table_warnings_and_sentence(made: SuiteResult) -> None:
    run, why = run_of(made, "misspelt"), "cannot be made where the concept is not asked for"
    assert run.control_of.startswith("uncontrolled: nothing is known that the model never knew")
    assert why in run.uncontrolled
    row = next(row for row in attack_rows(made) if row.name == "misspelt")
    assert row.control.startswith("uncontrolled: ")
    assert any(line.startswith("no null control: misspelt is uncontrolled") and why in line for line in made.warnings)
    assert "Uncontrolled, without a null control: misspelt" in attack_sentence(made)
    assert not any("noising is uncontrolled" in line for line in made.warnings)


def test_controls_that_nobody_wanted_are_told_too(made: SuiteResult, model: Any, tmp_path: Path) -> None:
    settings = AttackSettings(attacks=("noising",), count=4, seeds=2, control_items=0, fresh=0, steps=8, guidance=1.0,
                              force=True)
    found = attack(model, None, concept="church", settings=settings, out=tmp_path, world=alone())
    assert found.runs[0].uncontrolled == "no items were to be spent on null controls"


def test_what_an_attack_says_of_its_control_is_true_of_each() -> None:
    """Attacks that work towards the concept elicit it from any prompt: on other prompts they are no control."""
    for name in ATTACKS.names():
        kind = ATTACKS.get(name)
        if kind.null_elsewhere:
            assert not kind.white_box, name
            assert kind.null == "never known", name
    elsewhere = {name for name in ATTACKS.names() if ATTACKS.get(name).null_elsewhere}
    assert elsewhere == {"paraphrase", "implicit", "random-prompt", "seed-search", "noisy-sampler", "quantise"}
