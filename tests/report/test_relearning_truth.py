"""What is said of relearning curves, over every state that they can be in: no sentence says more than they do."""

from __future__ import annotations

import math
import re
from itertools import product

import pytest
from attack_examples import make_curve, make_relearning
from report_examples import rate

from expunge.attacks.relearning import relearning_warnings
from expunge.records import Look, Relearning, RelearningCurve, Score
from expunge.report.relearning import relearning_chart, relearning_rows, relearning_sentence

SHAPES: dict[str, tuple[int, ...] | None] = {
    "never": (0, 0, 0, 0), "at once": (16, 16, 16, 16), "early": (0, 15, 16, 16), "late": (0, 0, 0, 16),
    "a little": (0, 3, 5, 7), "just": (0, 8, 9, 9), "up and down": (0, 16, 2, 0), "none": None}
FORBIDDEN = re.compile(r"\b(removed|gone|forgotten|nan|None|anything new)\b|0 of 0")


def unjudged(of: str, subject: str) -> RelearningCurve:
    """A curve of which no image could be judged."""
    nothing = Score(name="relearn", title="r", value=None, n=0, numerator=0, left_out={"detector failed": 16})
    return make_curve(of, subject, (0, 0)).model_copy(update={"looks": tuple(Look(steps=k, found=nothing)
                                                                             for k in (0, 10))})


def curves(edited: str, unknown: str, original: str, detector: int | None = 40) -> Relearning:
    made = []
    for of, subject, shape in (("edited", "church", edited), ("unknown", "blorp", unknown),
                               ("original", "church", original)):
        if shape == "unjudged":
            made.append(unjudged(of, subject))
        elif SHAPES[shape] is not None:
            more = {"detector": rate("detector/blorp", detector, 40)} if of == "unknown" and detector else {}
            made.append(make_curve(of, subject, SHAPES[shape] or (), **more))
    return make_relearning(curves=tuple(made))


EVERYTHING = list(product((*SHAPES, "unjudged"), (*SHAPES, "unjudged"),
                          ("at once", "never", "just", "none", "unjudged"), (40, 20)))


@pytest.mark.parametrize(("edited", "unknown", "original", "detector"), EVERYTHING)
def test_no_sentence_says_more_than_its_curves(edited: str, unknown: str, original: str, detector: int) -> None:
    made = curves(edited, unknown, original, detector)
    said = relearning_sentence(made)
    assert not FORBIDDEN.search(said), said
    known = original == "at once"
    assert not (" again" in said and not known), said  # "again" says that it was drawn before
    mine, new = made.curve("edited"), made.curve("unknown")
    allowed = known and mine is not None and new is not None and detector == 40
    surely = mine.steps_to(0.5, "low") if mine else None
    at_best = new.steps_to(0.5, "high") if new else None
    faster = allowed and surely is not None and unknown not in ("none", "unjudged") and (
        at_best is None or surely < at_best)
    assert ("the concept was still there" in said) == faster, said
    early, late = (mine.steps_to(0.5, "high") if mine else None), (new.steps_to(0.5, "low") if new else None)
    looks = [look.steps for look in mine.looks] if mine else []
    earliest = None if early is None else max([step for step in looks if step < early], default=0)
    slower = allowed and edited != "unjudged" and late is not None and (earliest is None or earliest >= late)
    if "is no faster than" in said:
        assert slower, said
    if edited == "unjudged" and "Nothing was measured" not in said:
        assert "How often the edited model draws “church” was not measured" in said
    if unknown == "unjudged" and "Nothing was measured" not in said:
        assert "was not measured: no image could be judged" in said
    assert all(isinstance(text, str) for row in relearning_rows(made) for text in row.found)


@pytest.mark.parametrize(("edited", "unknown", "original", "detector", "ends"), [
    ("early", "never", "at once", 40, "That is faster than “blorp” is learned: the concept was still there, unless "
                                      "it is "
                                      "that much easier to learn."),
    ("early", "never", "never", 40, "It is not sure that the original model draws it, so nothing is said of what was "
                                    "kept."),
    ("early", "never", "at once", 20, "The judge of “blorp” sees it in 20 of 40 images of it only, so the two "
                                      "paces cannot be compared."),
    ("never", "early", "at once", 40, "That is no faster than “blorp” is learned: this fine-tuning shows nothing "
                                      "that was "
                                      "kept."),
    ("late", "late", "at once", 40, "Whether that is faster cannot be told, for the intervals allow both: more "
                                    "images, or looks closer together, would tell."),
    ("just", "just", "at once", 40, "Whether that is faster cannot be told, for the intervals allow both: more "
                                    "images, or looks closer together, would tell."),
    ("never", "never", "at once", 40, "Neither is learned within this training, so it says nothing of what was kept: a "
                                      "longer one would."),
    ("unjudged", "early", "at once", 40, "So the two paces cannot be compared."),
    ("early", "none", "at once", 40, "how much of this pace is due to what the model kept is not known."),
])
def test_sentences_word_by_word(edited: str, unknown: str, original: str, detector: int, ends: str) -> None:
    assert relearning_sentence(curves(edited, unknown, original, detector)).endswith(ends)


def test_an_empty_record_says_that_nothing_was_measured() -> None:
    for made in (make_relearning(curves=()), curves("unjudged", "unjudged", "unjudged")):
        assert relearning_sentence(made) == ("Nothing was measured: there is no look at any image that could be "
                                             "judged.")
        assert relearning_chart(made) == ""


def test_a_first_look_after_training_does_not_say_that_it_took_so_long() -> None:
    made = curves("early", "never", "at once")
    mine = made.curves[0].model_copy(update={"looks": made.curves[0].looks[1:]})
    assert "after the first look, 10 steps of fine-tuning" in relearning_sentence(made.model_copy(
        update={"curves": (mine, *made.curves[1:])}))


def test_what_is_not_a_number_is_no_rate() -> None:
    look = Look(steps=10, found=rate("relearn", 1, 2).model_copy(update={"value": math.nan, "low": math.nan,
                                                                         "high": math.nan}))
    curve = make_curve("edited", "church", (0,)).model_copy(update={"looks": (look,)})
    assert curve.steps_to(0.5) is None
    assert "was not measured" in relearning_sentence(make_relearning(curves=(curve, make_curve("original", "church",
                                                                                               (16, 16)))))


def test_an_original_that_could_not_be_judged_is_no_rare_detector_of_none() -> None:
    assert relearning_warnings([unjudged("original", "church")]) == [
        "rare detector: no image of the original model before any training could be judged"]
