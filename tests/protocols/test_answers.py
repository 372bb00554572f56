"""Answers lie on disk: scores over them are those over answers in memory, and memory does not grow with images."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from given import protocol

from expunge.errors import ModelError
from expunge.protocols.answered import Answered
from expunge.protocols.answers import Answers, add_answers
from expunge.protocols.formulas import FORMULAS
from expunge.protocols.images import ImageMeasures
from expunge.protocols.plan import Plan, planned
from expunge.protocols.result import scores_of
from expunge.protocols.rows import Row
from expunge.protocols.schema import Measure, Protocol
from expunge.protocols.settings import RunSettings
from expunge.records.protocol import DetectorAnswer, ImageAnswer

LABELS = [f"label {number}" for number in range(8)]


def answer(number: int, subject: str = "original") -> ImageAnswer:
    """An answer as large as a detector's of many labels and boxes."""
    said = DetectorAnswer(
        shown=number % 3 == 0, value=number % 100 / 100, top=tuple(LABELS),
        scores={label: (number + place) % 100 / 100 for place, label in enumerate(LABELS)},
        boxes=dict.fromkeys(LABELS[:4], (0.25, 0.5, 0.75)), note="no face" if number % 50 == 7 else "")
    return ImageAnswer(row=number, seed=number % 2, subject=subject, answers={"object": said}, pixels="0" * 64)


def kept(folder: Path, count: int) -> Plan:
    """A run's folder with that many images, and its plan."""
    values = protocol(prompts={"template": "{what}", "lists": {"what": [f"thing {n}" for n in range(count)]}})
    values["scores"] = [{"name": "shown", "formula": "shown", "detector": "object"},
                        {"name": "boxes", "formula": "boxes", "detector": "object"}]
    values["prompts"]["seeds"] = [0, 1]
    (folder / "classifier").mkdir(parents=True)
    for first in range(1, count + 1, 50):
        add_answers(folder, 0, first, [answer(number) for number in range(first, min(first + 50, count + 1))])
    return planned(Protocol.build(values), {"classifier": folder / "classifier"}, RunSettings(), None)


def growth(folder: Path, few: int, many: int) -> float:
    """Bytes of peak memory that scoring takes for each image more."""
    peaks = []
    for count in (few, many):
        plan = kept(folder / str(count), count)
        measures = ImageMeasures((), {}, ("original",))
        tracemalloc.start()
        scores = scores_of(plan, Answers(folder / str(count)), measures, {}, ("original",))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert scores[0].n + sum(scores[0].left_out.values()) == count
    return (peaks[1] - peaks[0]) / (many - few)


@pytest.mark.slow
def test_scoring_holds_no_answer_in_memory_but_the_one_that_is_counted(tmp_path: Path) -> None:
    found = growth(tmp_path, 200, 2000)
    assert found < 1200, found  # an answer in memory takes 4,900


@pytest.mark.parametrize("formula", ["shown", "accuracy", "mean-probability", "boxes"])
def test_scores_over_answers_on_disk_are_those_over_answers_in_memory(formula: str, tmp_path: Path) -> None:
    rows = {number: Row(number, f"text {number % 30}", label=LABELS[number % 8]) for number in range(1, 101)}
    every = [answer(number) for number in rows]
    add_answers(tmp_path, 0, 0, every[50:])  # two processes, and not in the rows' order
    add_answers(tmp_path, 1, 1, [*every[:50], *(answer(number, "edited") for number in rows)])
    measure = Measure(name="m", formula=formula, detector="object", options={})
    erased = {number: number % 4 == 0 for number in rows}
    on_disk = Answers(tmp_path).of([(number, number % 2) for number in rows], "original")
    for chosen in (None, True, False):
        one, other = (FORMULAS[formula][0](Answered(rows, erased, images, "original").only(chosen), measure)
                      for images in (every, on_disk))
        assert one == other
        assert one[0].n > 0


def test_of_an_image_that_was_looked_at_twice_the_later_answer_counts(tmp_path: Path) -> None:
    first = answer(3)
    add_answers(tmp_path, 0, 0, [first, answer(4)])
    add_answers(tmp_path, 0, 0, [first.model_copy(update={"pixels": "1"})])
    assert [one.pixels[:1] for one in Answers(tmp_path)] == ["1", "0"]
    assert (3, 1, "original", 0) in Answers(tmp_path)
    assert (3, 1, "edited", 0) not in Answers(tmp_path)


def test_a_damaged_line_is_an_error_and_a_torn_one_is_not_there(tmp_path: Path) -> None:
    add_answers(tmp_path, 0, 0, [answer(1), answer(2)])
    file = tmp_path / "answers" / "0.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    assert len(Answers(tmp_path)) == 1
    file.write_bytes(b"{}\n" + whole)
    with pytest.raises(ModelError, match="damaged"):
        Answers(tmp_path)
