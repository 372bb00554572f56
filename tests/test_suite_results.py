"""A suite's record is read, checked against what is evaluated, and says what it did not try."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from expunge.errors import UserError
from expunge.files import write_json
from expunge.records import (
    RELEARNINGS,
    SUITE_RESULTS,
    AttackRun,
    Attempt,
    Prompt,
    Relearning,
    RelearningCurve,
    Request,
    Sampler,
    Spent,
    SuiteResult,
)
from expunge.suite_results import (
    Under,
    apart,
    beside,
    check_judge,
    check_same,
    success_against_budget,
    suite_folder,
    untried,
)

UNDER = Under("aaa", "bbb", Sampler())


def attempt(seed: int, outcome: str, rows: int = 0) -> Attempt:
    return Attempt.model_validate({"attack": "a", "access": "image", "prompt": Prompt(text="p", role="direct"),
                                   "seed": seed, "outcome": outcome, "spent": Spent(network_rows=rows)})


def suite_of(*runs: AttackRun) -> SuiteResult:
    return SuiteResult(request=Request(concept="church", prompts=("p",)), model="m", model_hash="aaa", patch_hash="bbb",
                       sampler=Sampler(), judge="j", before=(attempt(0, "not elicited"),), runs=runs)


def run(access: str, *attempts: Attempt) -> AttackRun:
    return AttackRun(attack="a", access=access, white_box=False, attempts=attempts)


def curves() -> Relearning:
    return Relearning(request=suite_of().request, model="m", model_hash="aaa", patch_hash="bbb", sampler=Sampler(),
                      curves=(), enough=0.5)


def test_success_grows_with_the_budget_over_what_was_tried() -> None:
    tried = [attempt(0, "found", 30), attempt(1, "not elicited", 90), attempt(2, "failed", 5), attempt(3, "found", 10),
             attempt(4, "not elicited", 90)]
    assert success_against_budget(tried) == [(0.0, 0.0), (10.0, 0.25), (30.0, 0.5)]
    assert success_against_budget([]) == [(0.0, 0.0)]


def test_a_suite_is_read_back_from_its_folder_or_file(tmp_path: Path) -> None:
    kept = suite_of(run("image", attempt(0, "found", 3)))
    write_json(tmp_path / SUITE_RESULTS.name, kept.model_dump(mode="json"))
    assert SUITE_RESULTS.read(tmp_path) == kept == SUITE_RESULTS.read(tmp_path / SUITE_RESULTS.name)
    assert suite_folder(tmp_path) == suite_folder(str(tmp_path / SUITE_RESULTS.name)) == tmp_path
    assert suite_folder(kept) is None


def test_missing_and_damaged_records_are_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expunge attack PATCH"):
        SUITE_RESULTS.read(tmp_path)
    (tmp_path / "attack").mkdir()
    (tmp_path / "attack" / SUITE_RESULTS.name).write_text('{"format": 1, "runs": [')
    with pytest.raises(UserError, match="there is one at"):
        SUITE_RESULTS.read(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        SUITE_RESULTS.read(tmp_path / "attack")


@pytest.mark.parametrize(("changed", "says"), [
    ({"model_hash": "ccc"}, "made on model ccc"), ({"patch_hash": "ddd"}, "made on patch ddd"),
    ({"patch_hash": ""}, "made without a patch"),
    ({"request": Request(concept="house", prompts=("p",))}, "sought 'house', not 'church'")])
def test_attacks_on_something_else_are_refused(changed: dict[str, object], says: str) -> None:
    check_same(suite_of(), UNDER, ("church",))
    with pytest.raises(UserError, match=says):
        check_same(suite_of().model_copy(update=changed), UNDER, ("church",))


@pytest.mark.parametrize(("changed", "theirs", "ours", "flags"), [
    ({"steps": 4, "guidance": 12.0}, "steps 4, guidance 12", "steps 20, guidance 2", "--steps 4 --guidance 12"),
    ({"height": 64}, "height 64", "height the model's own", "--height 64"),
    ({"width": 64}, "width 64", "width the model's own", "--width 64"),
    ({"negative": "a dog"}, "negative 'a dog'", "negative ''", "--negative 'a dog'"),
    ({"truncate": True}, "truncate yes", "truncate no", "--truncate"),
    ({"scheduler": "ddim"}, "scheduler 'ddim'", "scheduler ''", "--scheduler 'ddim'")])
def test_attacks_and_curves_drawn_otherwise_are_refused_with_the_difference(
        changed: dict[str, object], theirs: str, ours: str, flags: str) -> None:
    for made in (suite_of(), curves()):
        with pytest.raises(UserError) as told:
            check_same(made.model_copy(update={"sampler": Sampler(**changed)}), UNDER, ("church",))  # type: ignore[arg-type]
        assert f"drawn at {theirs}, the evaluation at {ours}" in told.value.got
        assert f"evaluate with {flags}" in (told.value.remedy or "")


def test_an_evaluation_that_cuts_prompts_takes_in_no_attacks_that_did_not() -> None:
    under = replace(UNDER, sampler=UNDER.sampler.model_copy(update={"truncate": True}))
    with pytest.raises(UserError, match="truncate no, the evaluation at truncate yes") as told:
        check_same(suite_of(), under, ("church",))
    assert "no --truncate" in (told.value.remedy or "")


@pytest.mark.parametrize("what", ["process", "number type", "schedule and parts"])
def test_attacks_in_a_model_that_draws_otherwise_are_refused(what: str) -> None:
    drawn = {"process": "v", "number type": "float32", "device": "cpu", "schedule and parts": "12"}
    under = replace(UNDER, drawn=drawn)
    check_same(suite_of(), under, ("church",))  # an older record does not tell, and is not refused
    check_same(suite_of().model_copy(update={"drawn": drawn}), under, ("church",))
    with pytest.raises(UserError, match=f"another {what}"):
        check_same(suite_of().model_copy(update={"drawn": {**drawn, what: "x"}}), under, ("church",))
    elsewhere = {**drawn, "device": "cuda", "schedule and parts": "34"}  # the device is in that digest
    check_same(suite_of().model_copy(update={"drawn": elsewhere}), under, ("church",))


def test_records_from_before_digests_had_a_scheme_are_still_joined() -> None:
    drawn = {"device": "cpu", "schedule and parts": "2-0123456789abcdef"}
    old = suite_of().model_copy(update={"drawn": {**drawn, "schedule and parts": "e31428a94203a250"}})
    check_same(old, replace(UNDER, drawn=drawn), ("church",))
    with pytest.raises(UserError, match="another schedule and parts"):
        check_same(suite_of().model_copy(update={"drawn": {**drawn, "schedule and parts": "2-fedc"}}),
                   replace(UNDER, drawn=drawn), ("church",))


def test_attacks_and_curves_by_another_judge_are_refused() -> None:
    looked = curves().model_copy(update={"curves": (
        RelearningCurve(of="original", subject="church", pictures=1, whose="", judge="j"),
        RelearningCurve(of="unknown", subject="blorp", pictures=1, whose="", judge="learned on the spot"))})
    for made in (suite_of(), looked):
        check_judge(made, "j")
        with pytest.raises(UserError, match="were judged by j, the evaluation by j2"):
            check_judge(made, "j2")


def test_other_versions_and_machines_are_told_with_both() -> None:
    made = suite_of().model_copy(update={"versions": {"expunge": "0.1", "torch": "2.1"}, "machine": "a"})
    assert apart(made, {"expunge": "0.1", "torch": "2.1"}, "a") == []
    version, machine = apart(made, {"expunge": "0.2", "torch": "2.1"}, "b")
    assert "expunge 0.1 (the evaluation: 0.2)" in version
    assert "torch" not in version
    assert "another machine (a; the evaluation: b)" in machine
    assert apart(suite_of(), {"expunge": "0.2"}, "b") == []


def test_what_was_not_attacked_is_named() -> None:
    assert untried(None)[0].startswith("No attacks were run")
    told = untried(suite_of(run("image", attempt(0, "found")), run("weights", attempt(0, "failed"))))
    assert "(image)" not in told[0]
    assert all(f"({access})" in told[0] for access in ("prompt, white box", "embedding, white box"))
    assert told[1] == "Every attempt broke off: weights. What these would bring back is not known."
    assert not any("No attacks were run" in line or "No fine-tuning" in line for line in told)
    none_left = untried(suite_of(run("image", attempt(0, "found")), run("weights")))
    assert "(weights)" not in none_left[0]
    assert "No item was left" in none_left[1]


def test_a_folder_may_hold_attacks_relearning_curves_or_both(tmp_path: Path) -> None:
    kept = suite_of(run("image", attempt(0, "found", 3)))
    with pytest.raises(UserError, match="no attacks at"):
        beside(tmp_path)
    write_json(tmp_path / RELEARNINGS.name, curves().model_dump(mode="json"))
    assert beside(tmp_path) == (None, curves())
    write_json(tmp_path / SUITE_RESULTS.name, kept.model_dump(mode="json"))
    assert beside(tmp_path) == (kept, curves())
    assert beside(kept) == (kept, None)
    assert beside(None) == (None, None)
    with pytest.raises(UserError, match="made on patch bbb"):
        check_same(curves(), replace(UNDER, patch="ccc"), ("church",))


def test_relearning_counts_as_fine_tuning() -> None:
    assert any("No fine-tuning" in line for line in untried(None))
    assert not any("No fine-tuning" in line for line in untried(None, relearned=True))
    assert not any("(weights)" in line for line in untried(suite_of(run("image", attempt(0, "found"))), relearned=True))
