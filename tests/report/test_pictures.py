"""Images come in as they are, nothing outside the folder is read, and nothing is hidden without a word."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image
from report_examples import make_evaluation, strip

from expunge.report import pictures
from expunge.report.pictures import embed, picture_groups


def opened(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1])))


def test_small_pictures_keep_every_pixel(tmp_path, draw):
    embedded = embed(tmp_path, draw("a.png"))
    assert embedded.source.startswith("data:image/png;base64,")
    assert opened(embedded.source).tobytes() == Image.open(tmp_path / "a.png").tobytes()
    assert embedded.pixelated


def test_large_pictures_are_reduced_and_not_pixelated(tmp_path, draw):
    embedded = embed(tmp_path, draw("a.png", side=512))
    assert opened(embedded.source).size == (256, 256)
    assert not embedded.pixelated


@pytest.mark.parametrize(("name", "problem"), [
    ("missing.png", "file is missing"), ("../outside.png", "file lies outside the evaluation's folder"),
    ("link.png", "file lies outside the evaluation's folder"), ("broken.png", "file cannot be read"),
    ("text.png", "file cannot be read"), ("", "no file named")])
def test_pictures_that_cannot_be_shown_say_why(tmp_path, draw, name, problem):
    folder = tmp_path / "evaluation"
    folder.mkdir()
    draw("outside.png")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "broken.png").write_bytes((tmp_path / "outside.png").read_bytes()[:100])
    (folder / "text.png").write_text("secret")
    embedded = embed(folder, name)
    assert (embedded.source, embedded.problem) == ("", problem)


def test_strips_are_grouped_and_cut_into_blocks(tmp_path, draw):
    name = draw("a.png")
    strips = (strip("far", "a cat", (0,), (name,), (name,)),
              strip("implicit", "a steeple", tuple(range(6)), (name,) * 6, (name,) * 5),
              strip("never_seen", "a bell", (0,), (name,), (name,)), strip("empty", "", (), (), ()))
    groups = picture_groups(make_evaluation(strips=strips), tmp_path)
    assert [(group.name, len(group.rows)) for group in groups] == [("target", 1), ("far", 1), ("control", 2)]
    assert [len(block) for block in groups[0].rows[0].blocks] == [4, 2]
    assert groups[0].rows[0].blocks[1][1].edited.problem == "not in the record"


def test_over_budget_the_first_strip_of_each_group_is_shown_before_a_second(tmp_path, draw, monkeypatch):
    name = draw("a.png")
    strips = tuple(strip(role, f"{role} {i}", (0,), (name,), (name,)) for role in ("direct", "far") for i in range(2))
    size = len(embed(tmp_path, name).source)
    monkeypatch.setattr(pictures, "BUDGET", 5 * size)
    groups = picture_groups(make_evaluation(strips=strips), tmp_path)
    assert [[row.shown for row in group.rows] for group in groups] == [[True, False], [True, False]]
