"""Where a single edit's request comes from: told to `erase`, kept in the card, shown, and left out of copies."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import pytest
import yaml
from cli_settings import QUICK

sys.path.insert(0, str(Path(__file__).parent.parent / "report"))

from report_examples import make_card, make_evaluation

from expunge.cli import run
from expunge.models.patch import Patch
from expunge.records import Entry, Origin, PatchCard, read_card
from expunge.report.card import model_card
from expunge.report.sensitive import redacted
from expunge.report.tables import patch_facts

TOLD = ["--requested-by", "A. Person", "--legal-basis", "GDPR Art. 17", "--requested-on", "2026-05-01",
        "--due-on", "2026-06-01"]
ORIGIN = Origin(who="A. Person", evidence="GDPR Art. 17", when=date(2026, 5, 1), due=date(2026, 6, 1))


def test_erase_keeps_who_asked_on_what_ground_and_by_when_in_the_card(pipeline_folder: Path, tmp_path: Path,
                                                                      capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "church"
    asked = ["erase", "church", "--model", str(pipeline_folder), *QUICK, "--no-own-look", *TOLD]
    assert run([*asked, "--out", str(out)]) == 0
    assert Patch.load(out).card.origin == read_card(out / "patch.safetensors").origin == ORIGIN
    capsys.readouterr()
    assert run(["show", str(out)]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["origin"]["who"] == "A. Person"
    assert run([*asked, "--dry-run"]) == 0
    told = yaml.safe_load(capsys.readouterr().out)
    assert (told["requested_by"], told["due_on"]) == ("A. Person", "2026-06-01")


def test_a_day_that_is_none_is_told_before_anything_is_opened(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["erase", "church", "--due-on", "soon", "--model", "no/such-model"]) == 2
    assert "due_on" in capsys.readouterr().err


def test_a_card_without_an_origin_is_written_and_digested_as_before() -> None:
    card = make_card()
    assert "origin" not in card.model_dump_json()
    assert card.digest == make_card(origin=None).digest != make_card(origin=ORIGIN).digest
    assert PatchCard.read(make_card(origin=ORIGIN).model_dump_json()).origin == ORIGIN


def test_the_report_says_it_and_a_redacted_copy_does_not() -> None:
    whole = make_evaluation(card=make_card(origin=ORIGIN))
    assert patch_facts(whole.card)["Due on"] == "2026-06-01"
    assert "A. Person" not in model_card(whole)  # which is made to be published
    assert redacted(whole).card.origin is None
    assert "A. Person" not in redacted(whole).model_dump_json()


def test_a_sequences_entry_gives_the_same_record() -> None:
    entry = Entry(number=1, concept=("church",), who="A. Person", when=date(2026, 5, 1), evidence="GDPR Art. 17",
                  asked="0")
    assert entry.origin == ORIGIN.model_copy(update={"due": None})


def test_what_is_due_before_it_was_asked_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["erase", "church", "--requested-on", "2026-05-01", "--due-on", "2026-04-01", "--dry-run"]) == 2
    assert "due on 2026-04-01, before it was requested on 2026-05-01" in capsys.readouterr().err
