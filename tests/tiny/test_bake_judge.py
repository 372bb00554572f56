"""The judge's lessons: seeded changes that teach no answer they leave open, and thresholds chosen on new images."""

from __future__ import annotations

import pytest
import torch

from expunge.metrics.judge import Looking
from expunge.tiny.bake.changes import CHANGES, IGNORE, changed
from expunge.tiny.bake.judge import LABELS
from expunge.tiny.bake.scoring import FALSE_ALARMS, NOTHING, JudgeAnswers, calibration, handicapped, report_accuracy
from expunge.tiny.bake.tolerance import partly_changed, shapeless
from expunge.tiny.bake.unseen import UNSEEN
from expunge.tiny.pictures import Drawings
from expunge.tiny.world import THINGS


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_changes_depend_on_the_generator_alone_and_leave_the_input_as_it_was() -> None:
    x, labels = torch.rand(40, 3, 64, 64, generator=generator()), torch.zeros(40, 3, dtype=torch.long)
    before = x.clone()
    first, again = changed(x, labels, generator(1)), changed(x, labels, generator(1))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert torch.equal(x, before)
    assert labels.max() == 0
    assert first[0].min() >= 0
    assert first[0].max() <= 1
    same = (first[0] == x).flatten(1).all(1)
    assert 0 < same.sum() < 40, "some stay as they are"


def test_a_share_of_a_batch_is_kept_from_every_change_with_all_its_answers() -> None:
    x, labels = torch.rand(60, 3, 64, 64, generator=generator()), torch.zeros(60, 3, dtype=torch.long)
    out, told = partly_changed(x, labels, 0.5, generator(4))
    same = (out == x).flatten(1).all(1)
    assert 30 <= same.sum() < 60
    assert (told[same] == 0).all()
    assert torch.equal(out, partly_changed(x, labels, 0.5, generator(4))[0])
    assert torch.equal(partly_changed(x, labels, 1.0, generator(4))[0], x)


def test_changes_never_touch_what_the_picture_shows() -> None:
    labels = torch.zeros(60, 3, dtype=torch.long)
    _, told = changed(torch.rand(60, 3, 64, 64, generator=generator()), labels, generator(2))
    assert (told[:, 0] == 0).all()
    assert (told[:, 2] == IGNORE).any(), "a change of tone leaves the background's name open"
    assert (told[:, 2] == 0).any()


def test_a_picture_without_its_colours_is_no_lesson_in_style() -> None:
    x = torch.rand(64, 3, 16, 16, generator=generator())
    saturated = next(change for change in CHANGES if change.apply.__name__ == "_saturated")
    out, style_open = saturated.apply(x, generator(3))
    spread = lambda y: (y.amax(1) - y.amin(1)).mean((1, 2))
    faint = spread(out) < 0.55 * spread(x)
    assert faint.any()
    assert style_open[faint].all()


@pytest.mark.parametrize("name", UNSEEN)
def test_unseen_changes_change_a_picture_the_same_way_in_any_batch(name: str) -> None:
    x = torch.rand(5, 3, 64, 64, generator=generator())
    out = UNSEEN[name](x)
    assert out.shape == x.shape
    assert not torch.allclose(out, x)
    assert torch.allclose(out[2:3], UNSEEN[name](x[2:3]), atol=1e-6)


def test_shapeless_pictures_show_nothing_and_teach_nothing_else() -> None:
    drawings = Drawings(torch.zeros(3, 4, 128, 128, dtype=torch.uint8), torch.arange(3), torch.zeros(3).long(),
                        torch.zeros(3).long(), "")
    pictures, labels = shapeless(drawings, 30, 5, generator())
    assert pictures.shape == (30, 3, 64, 64)
    assert labels.tolist() == [[len(THINGS), IGNORE, IGNORE]] * 30


def asked(seed: int, views: int, nothing: float) -> JudgeAnswers:
    """Random logits; "something else" gets `nothing` on top."""
    logits = {q: torch.randn(views if q == "object" else 1, 400, len(names), generator=generator(seed))
              for q, names in LABELS.items()}
    logits["object"][..., NOTHING] += nothing
    return JudgeAnswers(logits, torch.tensor([NOTHING, 0, 0]).repeat(400, 1))


def test_the_handicap_is_the_least_that_keeps_the_views_from_seeing_things() -> None:
    looking = Looking(dict.fromkeys(LABELS, 1.0), [[("gamma", 0.5)]] * 3, 0.0)
    blank = asked(0, 4, 3.0)
    alarms = lambda given, first: float((given.probabilities(
        {q: v[:first] for q, v in blank.logits.items()}, NOTHING)["object"].argmax(1) != NOTHING).float().mean())
    chosen = handicapped(looking, [blank])
    bound = alarms(looking, 1) + FALSE_ALARMS
    assert chosen.handicap > 0
    assert alarms(chosen, 4) <= bound
    assert alarms(Looking(looking.temperature, looking.views, chosen.handicap - 0.5), 4) > bound


def test_calibration_finds_the_temperature_that_logits_were_made_with() -> None:
    truth = asked(1, 1, 0.0)
    labels = torch.stack([torch.distributions.Categorical(logits=v[0]).sample() for v in truth.logits.values()], 1)
    sharp = JudgeAnswers({q: v * 4 for q, v in truth.logits.items()}, labels)
    assert all(2.5 < T < 6.5 for T in calibration(sharp).values())
    both = calibration(sharp, JudgeAnswers(truth.logits, labels))
    assert all(1 < both[q] < T for q, T in calibration(sharp).items()), "all that is asked counts"


def test_report_counts_abstentions_and_asks_only_what_was_asked() -> None:
    looking = Looking(dict.fromkeys(LABELS, 1.0), (), 0.0)
    told = report_accuracy(asked(2, 1, 30.0), looking, ("object",))
    assert set(told) == {"object"}
    assert told["object"]["accuracy"] == 1.0
    assert told["object"]["abstained"] == 0
    assert told["object"]["n"] == 400
