"""Records on disk: one way to find and read them, whatever their kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from expunge.errors import UserError
from expunge.records import EVALUATIONS, SUITE_RESULTS, Evaluation, PatchCard, Request, Sampler, SuiteResult

REQUEST = Request(concept="church", prompts=("a church",))
CARD = PatchCard(request=REQUEST, base="b", base_hash="h", method="esd", settings={}, tensors=(), tensors_hash="t",
                 seed=0)
KEPT = [(EVALUATIONS, Evaluation(card=CARD, model="m", model_hash="h", sampler=Sampler())),
        (SUITE_RESULTS, SuiteResult(request=REQUEST, model="m", model_hash="h", sampler=Sampler(), judge="j", before=(),
                                    runs=()))]
KINDS = pytest.mark.parametrize(("stored", "record"), KEPT, ids=lambda item: getattr(item, "verb", ""))


@KINDS
def test_a_record_is_read_from_its_folder_or_file(stored: Any, record: Any, tmp_path: Path) -> None:
    (tmp_path / stored.name).write_text(record.model_dump_json())
    assert stored.at(tmp_path) == stored.at(tmp_path / stored.name) == tmp_path / stored.name
    assert stored.read(tmp_path) == record == stored.read(tmp_path / stored.name)


@KINDS
def test_what_is_missing_or_damaged_is_the_users_to_mend(stored: Any, record: Any, tmp_path: Path) -> None:
    assert stored.at(tmp_path) is None
    with pytest.raises(UserError, match=f"expunge {stored.verb} PATCH"):
        stored.read(tmp_path)
    (tmp_path / stored.verb_folder).mkdir()
    (tmp_path / stored.verb_folder / stored.name).write_text('{"format": 2}')
    with pytest.raises(UserError, match=f"there is one at .*{stored.verb_folder}"):
        stored.read(tmp_path)
    with pytest.raises(UserError, match=rf"cannot be read: .*format: Input should be 1.*{stored.verb} again"):
        stored.read(tmp_path / stored.verb_folder)


def test_one_kind_is_not_found_where_another_lies(tmp_path: Path) -> None:
    (tmp_path / EVALUATIONS.name).write_text(KEPT[0][1].model_dump_json())
    assert SUITE_RESULTS.at(tmp_path) is None
    assert SUITE_RESULTS.at(tmp_path / EVALUATIONS.name) is None
