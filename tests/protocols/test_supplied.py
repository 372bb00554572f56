"""Images that others drew get the numbers that a run of the same images gets, and odd files are counted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from given import classifier, protocol, small_patch, table
from PIL import Image

from expunge.errors import UserError
from expunge.protocols.run import IMAGES, run_protocol
from expunge.protocols.schema import Protocol
from expunge.protocols.settings import RunSettings
from expunge.protocols.supplied import AGAIN, NO_IMAGE, STRANGER, score_folder
from expunge.protocols.table import markdown

ASKED = Protocol.build(protocol())


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    rows = [{"prompt": f"a church, number {number}", "s": number} for number in range(5)]
    return {"prompts": table(tmp_path / "list.csv", rows),
            "classifier": classifier(tmp_path / "network", ("church", "house", "tench"))}


@pytest.fixture
def drawn(model: Any, files: dict[str, Path], tmp_path: Path) -> Path:
    result = run_protocol(model, ASKED, small_patch(model), files=files,
                          settings=RunSettings(batch=2, store="pictures"), out=tmp_path / "run")
    assert result.score("shown").n == 5
    return tmp_path / "run"


def test_the_same_images_give_the_same_numbers(drawn: Path, files: dict[str, Path], tmp_path: Path) -> None:
    from expunge.records import PROTOCOLS

    before = PROTOCOLS.read(drawn).score("shown")
    again = score_folder(drawn / IMAGES / "edited", ASKED, files=files, out=tmp_path / "score").score("shown")
    assert (again.value, again.low, again.high, again.n) == (before.value, before.low, before.high, before.n)


def test_a_list_names_the_files(drawn: Path, files: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    rows = []
    for number in range(5):
        shutil.copy(drawn / IMAGES / "edited" / f"{number + 1}-{number}.png", folder / f"image {number}.png")
        rows.append({"file": f"image {number}.png", "prompt": f"a church, number {number}", "seed": number})
    listing = table(tmp_path / "files.csv", rows)
    by_name = score_folder(drawn / IMAGES / "edited", ASKED, files=files, out=tmp_path / "a").score("shown")
    by_list = score_folder(folder, ASKED, listing=listing, files=files, out=tmp_path / "b").score("shown")
    assert by_list.value == by_name.value


def test_odd_files_and_rows_without_images_are_counted(drawn: Path, files: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    shutil.copytree(drawn / IMAGES / "edited", folder)
    (folder / "2-1.png").write_bytes(b"no image")
    (folder / "3-2.png").unlink()
    (folder / "notes.md").write_text("x", encoding="utf-8")
    Image.new("L", (16, 16), 128).save(folder / "9-9.png")
    Image.new("CMYK", (16, 16)).save(folder / "1.jpg")
    result = score_folder(folder, ASKED, files=files, out=tmp_path / "score")
    assert result.score("shown").n == 3
    assert result.left_out[NO_IMAGE] == 2
    assert result.left_out[STRANGER] == 1
    assert result.left_out[AGAIN] == 1
    assert len(result.left_out) == 5  # the broken file and the text beside it
    assert any("converted" in line for line in result.given)


def test_images_of_other_sizes_are_judged_as_they_are(drawn: Path, files: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    shutil.copytree(drawn / IMAGES / "edited", folder)
    Image.open(folder / "1-0.png").resize((40, 24)).save(folder / "1-0.png")
    assert score_folder(folder, ASKED, files=files, out=tmp_path / "score").score("shown").n == 5


def test_a_folder_of_other_images_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    Image.new("RGB", (16, 16)).save(folder / "cat.png")
    with pytest.raises(UserError, match="that the protocol asks for"):
        score_folder(folder, ASKED, files=files, out=tmp_path / "score")


def test_the_agreement_of_two_detectors_is_a_score_of_supplied_images(drawn: Path, files: dict[str, Path],
                                                                      tmp_path: Path) -> None:
    values = protocol()
    other = {"name": "other", "detector": "image-classification",
             "artefacts": {"folder": {"role": "other", "what": "another classifier"}},
             "rule": {"labels": ["church"], "rule": "top", "k": 2}}
    values["detectors"].append(other)
    values["scores"].append({"name": "agree", "formula": "agreement", "options": {"detectors": ["object", "other"]}})
    files = {**files, "other": classifier(tmp_path / "second", ("house", "church", "tench", "pump"))}
    result = score_folder(drawn / IMAGES / "edited", Protocol.build(values), files=files, out=tmp_path / "score")
    assert result.score("agree").n == result.score("agree/kappa").n == 5
    assert "object alone says yes of" in markdown(result)
