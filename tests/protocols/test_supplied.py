"""Images that others drew get the numbers that a run of the same images gets, and odd files are counted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from given import classifier, protocol, small_patch, table
from PIL import Image

from expunge.errors import UserError
from expunge.protocols.answers import Answers
from expunge.protocols.look import IMAGES
from expunge.protocols.run import run_protocol
from expunge.protocols.schema import Protocol
from expunge.protocols.settings import RunSettings
from expunge.protocols.supplied import AGAIN, NO_IMAGE, SAME, STRANGER, score_folder
from expunge.protocols.table import markdown
from pipelines import pipeline
from tiny_clip import tiny_clip

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


def pictures(folder: Path, listed: list[tuple[str, str, int]], colours: list[int]) -> Path:
    """A folder of images of one colour each, and the list of their files, prompts and seeds beside it."""
    folder.mkdir()
    for (name, _, _), colour in zip(listed, colours, strict=True):
        Image.new("RGB", (16, 16), (colour, 255 - colour, 90)).save(folder / name)
    return table(folder.parent / f"{folder.name}.csv",
                 [{"file": name, "prompt": text, "seed": seed} for name, text, seed in listed])


def test_other_images_of_one_text_and_seed_are_scored_and_the_same_image_again_is_not(
        files: dict[str, Path], tmp_path: Path) -> None:
    pipeline({"steps_offset": 1}).save_pretrained(tmp_path / "p", safe_serialization=True)
    values = protocol()
    values["scores"].append({"name": "clip", "formula": "clip-score",
                             "artefacts": {"clip": {"role": "clip", "what": "a CLIP"}}})
    files = {**files, "clip": tiny_clip(tmp_path / "p", tmp_path / "clip")}
    first = "a church, number 0"
    listing = pictures(tmp_path / "theirs", [("a.png", first, 0), ("b.png", first, 0), ("c.png", first, 0),
                                             ("d.png", first, 0), ("e.png", "a church, number 1", 1)],
                       [0, 100, 0, 200, 50])
    result = score_folder(tmp_path / "theirs", Protocol.build(values), listing=listing, files=files,
                          settings=RunSettings(batch=2, store="pictures"), out=tmp_path / "out")
    shown = result.score("shown")
    assert (shown.n, shown.prompts) == (4, 2)  # three images of the first prompt, one of the second
    assert (result.score("clip").n, result.score("clip").prompts, result.score("clip").seeds) == (4, 2, (0, 1))
    assert result.left_out[SAME] == 1
    assert result.left_out[NO_IMAGE] == 3
    assert sorted(file.name for file in (tmp_path / "out" / IMAGES).rglob("*.png")) == [
        "1-0-1.png", "1-0-2.png", "1-0.png", "2-1.png"]
    again = score_folder(tmp_path / "theirs", Protocol.build(values), listing=listing, files=files,
                         settings=RunSettings(batch=2, store="pictures"), out=tmp_path / "out")
    assert again.scores == result.scores


@pytest.mark.parametrize(("names", "n", "without"), [(["a.png"], 3, 0), (["a.png", "b.png"], 2, 1),
                                                     (["a.png", "b.png", "c.png", "d.png"], 4, 0)])
def test_rows_that_repeat_a_text_and_seed_share_one_image_or_have_one_each(
        names: list[str], n: int, without: int, files: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"prompt": "a church", "s": 42}] * 3
    files = {**files, "prompts": table(tmp_path / "repeated.csv", rows)}
    listing = pictures(tmp_path / "theirs", [(name, "a church", 42) for name in names],
                       [60 * place for place in range(len(names))])
    result = score_folder(tmp_path / "theirs", ASKED, listing=listing, files=files, out=tmp_path / "out")
    assert (result.score("shown").n, result.score("shown").prompts) == (n, 1)
    assert result.left_out.get(NO_IMAGE, 0) == without


def test_a_list_without_seeds_is_matched_by_its_texts(files: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"prompt": "a church", "s": 5}, {"prompt": "a church", "s": 6}, {"prompt": "a house", "s": 7},
            {"prompt": "a house", "s": 7}]
    files = {**files, "prompts": table(tmp_path / "other.csv", rows)}
    pictures(tmp_path / "theirs", [(name, "", 0) for name in ("a.png", "b.png", "c.png", "d.png", "e.png")],
             [0, 50, 100, 150, 200])
    listing = table(tmp_path / "bare.csv", [
        {"file": "a.png", "prompt": "a church"}, {"file": "b.png", "prompt": "a church"},
        {"file": "c.png", "prompt": "a church"}, {"file": "d.png", "prompt": "a house"},
        {"file": "e.png", "prompt": "a dog"}])
    result = score_folder(tmp_path / "theirs", ASKED, listing=listing, files=files, out=tmp_path / "out")
    seen = {(one.row, one.seed, one.again) for one in Answers(tmp_path / "out")}
    assert seen == {(1, 5, 0), (2, 6, 0), (1, 5, 1), (3, 7, 0), (4, 7, 0)}
    assert result.left_out == {STRANGER: 1}


def test_no_file_of_scored_images_holds_a_text_of_a_sensitive_list(files: dict[str, Path], tmp_path: Path) -> None:
    listing = pictures(tmp_path / "theirs", [("church number 3.png", "a church, number 3", 3)], [0])
    score_folder(tmp_path / "theirs", Protocol.build(protocol(sensitive=True)), listing=listing, files=files,
                 out=tmp_path / "out")
    for file in (tmp_path / "out").rglob("*"):
        assert not file.is_file() or b"number 3" not in file.read_bytes(), file

