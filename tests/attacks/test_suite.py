"""The suite on the embedded model, with a real edit that hides one word and nothing else; and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from renamed_church import renamed_church

import expunge
from expunge.attacks.settings import AttackSettings
from expunge.attacks.suite import TIERS, planned
from expunge.errors import ConfigError, UserError
from expunge.records import SUITE_RESULTS, Sampler, SuiteResult
from expunge.registry import ATTACKS

SETTINGS = AttackSettings(count=3, steps=8, attacks=("seed-search", "paraphrase"), control_items=1, fresh=1,
                          options={"seed-search": {"tries": 2}, "paraphrase": {"prompts": 4}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("suite")


@pytest.fixture(scope="module")
def suite(folder: Path) -> SuiteResult:
    victim, _, _ = renamed_church()
    return expunge.attack(victim.model, victim.patch, settings=SETTINGS, out=folder)


def test_the_suite_finds_more_than_no_attack_and_its_null_control_nothing(suite: SuiteResult) -> None:
    assert suite.score("attack/before").numerator == 0
    assert suite.score("attack/paraphrase").numerator == len(suite.before)  # only the word was hidden
    assert suite.score("attack/worst").numerator == len(suite.before)
    assert suite.score("attack/seed-search").numerator == 0
    assert {suite.score(f"attack/{run.attack}/control").numerator for run in suite.runs} == {0}
    assert suite.score("attack/paraphrase/fresh").numerator


@pytest.mark.slow
def test_each_attack_gets_only_what_still_stands_unless_all_get_everything(suite: SuiteResult, tmp_path: Path) -> None:
    victim, _, _ = renamed_church()
    turned = SETTINGS.model_copy(update={"attacks": ("paraphrase", "seed-search"), "control_items": 0, "fresh": 0})
    made = expunge.attack(victim.model, victim.patch, settings=turned, out=tmp_path / "survivors")
    assert [len(run.attempts) for run in made.runs] == [len(suite.before), 0]
    every = turned.model_copy(update={"each": True})
    made = expunge.attack(victim.model, victim.patch, settings=every, out=tmp_path / "each")
    assert [len(run.attempts) for run in made.runs] == [len(suite.before)] * 2
    assert made.score("attack/worst/prompt, black box").numerator == len(suite.before)
    assert any(line.startswith("no null control") for line in made.warnings)


def test_a_second_run_draws_nothing_again_and_the_record_is_read_back(
        suite: SuiteResult, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int, str]] = []
    victim, _, _ = renamed_church()

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("drawn again")

    monkeypatch.setattr(victim.model, "predict", never)
    again = expunge.attack(victim.model, victim.patch, settings=SETTINGS, out=folder,
                           progress=lambda done, total, name: told.append((done, total, name)))
    assert again.runs == suite.runs  # seconds included: these are the very same records
    assert all(done == total for done, total, _ in told)
    assert SUITE_RESULTS.read(folder) == again
    assert not victim.model.patch_hash


def test_on_the_unedited_model_attacks_are_made_where_they_are_forced(tmp_path: Path) -> None:
    model = expunge.load("embedded", device="cpu")
    told = SETTINGS.model_copy(update={"attacks": ("seed-search",), "options": {"seed-search": {"tries": 1}},
                                       "count": 2, "control_items": 0, "fresh": 0, "each": True})
    idle = expunge.attack(model, None, concept="church", settings=told, out=tmp_path / "idle")
    assert idle.score("attack/before").value == 1.0
    assert idle.runs[0].attempts == ()
    made = expunge.attack(model, None, concept="church", settings=told.model_copy(update={"force": True}),
                          out=tmp_path / "forced")
    assert made.forced
    assert len(made.runs[0].attempts) == len(made.before) >= 1
    assert made.score("attack/seed-search").n == len(made.before)
    assert made.score("attack/worst").n == len(made.before)


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_can_be_planned(tier: Any) -> None:
    attacks = planned(AttackSettings(tier=tier))
    assert [attack.name for attack in attacks] == list(TIERS[tier].attacks)
    assert all(attack.budget(Sampler()).images for attack in attacks)
    own = {"smoke": lambda kind: kind.SMOKE, "standard": lambda kind: {}, "paper": lambda kind: kind.PUBLISHED}[tier]
    assert all(attack == type(attack).build(own(type(attack))) for attack in attacks)


@pytest.mark.parametrize("name", ATTACKS.names())
def test_every_attack_says_what_it_is(name: str) -> None:
    kind = ATTACKS.get(name)
    assert kind.name == name
    assert kind.help
    assert kind.access in {"prompt, black box", "prompt, white box", "embedding, white box", "image", "weights"}
    assert kind.null in {"never known", "random weights"}


@pytest.mark.parametrize(("settings", "match"), [
    ({"attacks": ("unlearndif",)}, "did you mean 'unlearndiff'"), ({"attacks": ("noising", "noising")}, "twice"),
    ({"options": {"p4d": {}}}, "will not be made"),
])
def test_a_plan_that_cannot_be_is_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match):
        planned(AttackSettings(**settings))


def test_bad_options_are_a_mistake_of_the_settings() -> None:
    with pytest.raises(ConfigError, match="itterations"):
        planned(AttackSettings(attacks=("unlearndiff",), options={"unlearndiff": {"itterations": 3}}))


def test_what_the_original_never_shows_cannot_be_attacked(tmp_path: Path) -> None:
    model = expunge.load("embedded")
    with pytest.raises(UserError, match="finds no 'elephant'"):
        expunge.attack(model, None, concept="elephant", settings=AttackSettings(count=1, steps=2), out=tmp_path)
    with pytest.raises(UserError, match="nothing to look for"):
        expunge.attack(model, None, out=tmp_path)


def test_a_patch_for_another_model_is_refused_first(v_model: Any, tmp_path: Path) -> None:
    victim, _, _ = renamed_church()
    with pytest.raises(expunge.ExpungeError, match="a patch for embedded"):
        expunge.attack(v_model, victim.patch, out=tmp_path)


def test_an_empty_folder_of_pictures_is_refused(tmp_path: Path) -> None:
    victim, _, _ = renamed_church()
    with pytest.raises(UserError, match="no images in"):
        expunge.attack(victim.model, victim.patch, settings=AttackSettings(pictures=str(tmp_path)), out=tmp_path)
