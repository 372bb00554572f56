"""Cases that are asked again: every answer is kept, and whom a case was found with is told where it is not the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from colour_world import ColourJudge, Named, SideJudge, attacked_world, edit

from expunge.attacks.cases import recheck
from expunge.errors import UserError
from expunge.models.patch import Patch
from expunge.records import Sampler
from expunge.records.case import Case
from expunge.records.stored import CASES


@pytest.fixture
def patch(model: Any) -> Patch:
    return edit(model, 0.01)


@pytest.fixture
def case(model: Any, patch: Patch) -> Case:
    return Case(concept="church", text="a church on a hill", seed=3, sampler=Sampler(steps=2, guidance=1.0),
                model=model.name, model_hash=model.hash, patch_hash=patch.hash, judge=SideJudge().name)


def test_a_folder_keeps_what_every_case_came_to(model: Any, patch: Patch, case: Case, tmp_path: Path) -> None:
    other = case.model_copy(update={"seed": 4})
    first, = recheck(model, patch, [case], attacked_world(), fresh=1, out=tmp_path)
    second, = recheck(model, patch, [other], attacked_world(), fresh=1, out=tmp_path)
    assert CASES.read(tmp_path).cases == (first, second)
    weaker = edit(model, 0.02)
    third, = recheck(model, weaker, [case], attacked_world(), fresh=1, out=tmp_path)
    assert (third.patch_hash, third.differs) == (weaker.hash, ())  # a case may be asked of the next edit
    again, = recheck(model, patch, [case], attacked_world(), fresh=1, out=tmp_path)
    assert CASES.read(tmp_path).cases == (again, second, third)
    assert again.attempt == first.attempt


def test_another_judge_or_model_than_the_cases_is_told(model: Any, patch: Patch, case: Case, tmp_path: Path) -> None:
    world = attacked_world().but(judges=Named(ColourJudge(0.5), SideJudge()))
    moved = case.model_copy(update={"model": "another", "model_hash": "f" * 16})
    made, = recheck(model, patch, [moved], world, out=tmp_path)
    assert (made.judge, made.second) == (ColourJudge(0.5).name, SideJudge().name)
    assert made.differs == (f"Found in the model another (ffffffff), asked of {model.name} ({model.hash[:8]}).",
                            f"Seen by {SideJudge().name}, judged now by {ColourJudge(0.5).name}.")
    assert CASES.read(tmp_path).cases == (made,)
    bare = case.model_copy(update={"model": "", "model_hash": "", "judge": ""})
    assert recheck(model, patch, [bare], world)[0].differs == ()


def test_a_record_that_cannot_be_read_is_left_as_it_is(model: Any, patch: Patch, case: Case, tmp_path: Path) -> None:
    (tmp_path / CASES.name).write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match=r"cases\.json cannot be read.*move that file away"):
        recheck(model, patch, [case], attacked_world(), out=tmp_path)
    assert (tmp_path / CASES.name).read_text(encoding="utf-8") == "[]"
