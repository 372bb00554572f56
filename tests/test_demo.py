"""The demo on the embedded model, as short as it can be: every part works with the next one."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from expunge.cli.demo import command
from expunge.demo import CONCEPT, SMOKE_STEPS, Demo, demo
from expunge.errors import UserError
from expunge.models.patch import Patch

LOOKS: list[tuple[str, tuple[int, int]]] = []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_CACHE", str(out / "pictures"))
        return demo("church", out, smoke=True,
                    look=lambda title, picture: LOOKS.append((title, Image.open(picture).size)))


def test_the_first_images_are_there_before_and_right_after_the_edit(made: Demo) -> None:
    (first, (wide, low)), (second, (same, high)) = LOOKS
    assert ("original" in first, "edited" in second) == (True, True)
    assert (wide, 2 * (low - 4)) == (same, high - 4)  # two rows with a margin around them


def test_the_command_erases_what_the_function_does() -> None:
    assert next(option.default for option in command.params if option.name == "concept") == CONCEPT


def test_demo_leaves_patch_evaluation_and_report(made: Demo) -> None:
    patch = Patch.load(made.patch)
    assert patch.card.request.concept == "church"
    assert patch.card.base == "embedded"
    assert patch.card.settings["steps"] == SMOKE_STEPS
    assert made.report.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")
    assert (made.patch / "evaluation" / "evaluation.json").is_file()
    assert (made.patch / "attack" / "attack.json").is_file()


def test_demo_attacks_the_patch_and_the_report_tells(made: Demo) -> None:
    assert made.suite.patch_hash == Patch.load(made.patch).hash
    assert [run.attack for run in made.suite.runs] == ["seed-search"]
    assert made.evaluation.suite == made.suite
    assert '<section id="attacks"' in made.report.read_text(encoding="utf-8")
    assert set(made.seconds) == {"load", "erase", "attack", "evaluate", "report"}


def test_demo_scores_every_part_with_its_count(made: Demo) -> None:
    names = {score.name for score in made.evaluation.scores if score.n > 0}
    assert {"found/all", "retained/near", "retained/far", "integrity/near", "integrity/far", "clip/keep"} <= names


def test_second_demo_trains_and_draws_nothing(made: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_CACHE", str(made.patch / "pictures"))
    files = {file: file.stat().st_mtime_ns for file in [*made.patch.glob("pictures/**/*.png"),
                                                        made.patch / "patch.safetensors"]}
    told: list[tuple[int, ...]] = []

    class Stage:
        def __init__(self, title: str) -> None:
            self.title = title

        def __enter__(self) -> object:
            return lambda done, total, *more, **words: (
                told.append((done, total)) if self.title.startswith(("erasing", "attacking")) else None)

        def __exit__(self, *error: object) -> None:
            pass

    again = demo("church", made.patch, smoke=True, stage=Stage)  # type: ignore[arg-type]
    assert told == []
    assert {file: file.stat().st_mtime_ns for file in files} == files
    assert set(made.patch.glob("pictures/**/*.png")) == {file for file in files if file.suffix == ".png"}
    assert again.evaluation.score("found/all").numerator == made.evaluation.score("found/all").numerator


def test_unknown_concept_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'church'"):
        demo("chruch", tmp_path)
