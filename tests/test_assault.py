"""A suite's record is read, checked against what is evaluated, and says what it did not try."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.assault import assault_folder, beside, check_same, success_against_budget, untried
from expunge.errors import UserError
from expunge.files import write_json
from expunge.records import (
    ASSAULTS,
    RELEARNINGS,
    Assault,
    AttackRun,
    Attempt,
    Prompt,
    Relearning,
    Request,
    Sampler,
    Spent,
)


def attempt(seed: int, outcome: str, rows: int = 0) -> Attempt:
    return Attempt.model_validate({"attack": "a", "access": "image", "prompt": Prompt(text="p", role="direct"),
                                   "seed": seed, "outcome": outcome, "spent": Spent(network_rows=rows)})


def suite(*runs: AttackRun) -> Assault:
    return Assault(request=Request(concept="church", prompts=("p",)), model="m", model_hash="aaa", patch_hash="bbb",
                   sampler=Sampler(), judge="j", before=(attempt(0, "not elicited"),), runs=runs)


def run(access: str, *attempts: Attempt) -> AttackRun:
    return AttackRun(attack="a", access=access, white_box=False, attempts=attempts)


def test_success_grows_with_the_budget_over_what_was_tried() -> None:
    tried = [attempt(0, "found", 30), attempt(1, "not elicited", 90), attempt(2, "failed", 5), attempt(3, "found", 10),
             attempt(4, "not elicited", 90)]
    assert success_against_budget(tried) == [(0.0, 0.0), (10.0, 0.25), (30.0, 0.5)]
    assert success_against_budget([]) == [(0.0, 0.0)]


def test_a_suite_is_read_back_from_its_folder_or_file(tmp_path: Path) -> None:
    kept = suite(run("image", attempt(0, "found", 3)))
    write_json(tmp_path / ASSAULTS.name, kept.model_dump(mode="json"))
    assert ASSAULTS.read(tmp_path) == kept == ASSAULTS.read(tmp_path / ASSAULTS.name)
    assert assault_folder(tmp_path) == assault_folder(str(tmp_path / ASSAULTS.name)) == tmp_path
    assert assault_folder(kept) is None


def test_missing_and_damaged_records_are_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expunge attack PATCH"):
        ASSAULTS.read(tmp_path)
    (tmp_path / "attack").mkdir()
    (tmp_path / "attack" / ASSAULTS.name).write_text('{"format": 1, "runs": [')
    with pytest.raises(UserError, match="there is one at"):
        ASSAULTS.read(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        ASSAULTS.read(tmp_path / "attack")


@pytest.mark.parametrize(("changed", "says"), [
    ({"model_hash": "ccc"}, "made on model ccc"), ({"patch_hash": "ddd"}, "made on patch ddd"),
    ({"patch_hash": ""}, "made without a patch"),
    ({"request": Request(concept="house", prompts=("p",))}, "sought 'house', not 'church'")])
def test_attacks_on_something_else_are_refused(changed: dict[str, object], says: str) -> None:
    check_same(suite(), "aaa", "bbb", ("church",))
    with pytest.raises(UserError, match=says):
        check_same(suite().model_copy(update=changed), "aaa", "bbb", ("church",))


def test_what_was_not_attacked_is_named() -> None:
    assert untried(None)[0].startswith("No attacks were run")
    told = untried(suite(run("image", attempt(0, "found")), run("weights", attempt(0, "failed"))))
    assert "(image)" not in told[0]
    assert all(f"({access})" in told[0] for access in ("prompt, white box", "embedding, white box", "weights"))
    assert not any("No attacks were run" in line or "No fine-tuning" in line for line in told)
    none_left = untried(suite(run("image", attempt(0, "found")), run("weights")))
    assert "(weights)" not in none_left[0]
    assert "No item was left" in none_left[1]


def test_a_folder_may_hold_attacks_relearning_curves_or_both(tmp_path: Path) -> None:
    kept = suite(run("image", attempt(0, "found", 3)))
    curves = Relearning(request=kept.request, model="m", model_hash="aaa", patch_hash="bbb", sampler=Sampler(),
                        curves=(), enough=0.5)
    with pytest.raises(UserError, match="no attacks at"):
        beside(tmp_path)
    write_json(tmp_path / RELEARNINGS.name, curves.model_dump(mode="json"))
    assert beside(tmp_path) == (None, curves)
    write_json(tmp_path / ASSAULTS.name, kept.model_dump(mode="json"))
    assert beside(tmp_path) == (kept, curves)
    assert beside(kept) == (kept, None)
    assert beside(None) == (None, None)
    with pytest.raises(UserError, match="made on patch bbb"):
        check_same(curves, "aaa", "ccc", ("church",))


def test_relearning_counts_as_fine_tuning() -> None:
    assert any("No fine-tuning" in line for line in untried(None))
    assert not any("No fine-tuning" in line for line in untried(None, relearned=True))
    assert not any("(weights)" in line for line in untried(suite(run("image", attempt(0, "found"))), relearned=True))
