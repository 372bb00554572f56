"""Before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.errors import ConfigError, UserError
from expunge.models.model import applied
from expunge.ui.asked import Comparison
from expunge.ui.comparing import compare, weakened
from expunge.ui.jobs import Job
from expunge.ui.served import Served
from expunge.ui.shown import Shown, difference, png

ASKED = {"patch": "church", "prompt": "a church", "count": 2, "steps": 2}


def test_every_seed_is_drawn_by_both_models_and_judged(served: Served, job: Job) -> None:
    shown = Shown()
    made = compare(served, shown, Comparison.build(ASKED), job)
    assert [row["seed"] for row in made["rows"]] == [0, 1]
    for row in made["rows"]:
        for side in ("original", "edited"):
            assert shown.get(row[side]["picture"])
            assert [one["by"] for one in row[side]["seen"]] == ["detector", "second detector"]
            assert all(one["there"] in (True, False, None) for one in row[side]["seen"])
        assert shown.get(row["difference"]["picture"])
        assert row["difference"]["change"] > 0
    assert [(one["side"], one["seed"]) for one in job.told] == [
        ("original", 0), ("original", 1), ("edited", 0), ("edited", 1)]
    assert not served.model.patch_hash  # off again


def test_at_no_strength_the_edited_model_draws_the_originals_pictures(served: Served, job: Job) -> None:
    made = compare(served, Shown(), Comparison.build({**ASKED, "strength": 0.0}), job)
    for row in made["rows"]:
        assert row["original"]["picture"] == row["edited"]["picture"]
        assert row["difference"]["change"] == 0


@pytest.mark.slow
def test_where_nobody_can_judge_pictures_are_drawn_all_the_same_and_it_is_said(pipeline_folder: Path, tmp_path: Path,
                                                                              job: Job) -> None:
    from expunge.models.store import load
    from expunge.ui.asked import Edit, Trial
    from expunge.ui.attacking import attacking
    from expunge.ui.erasing import erasing

    model = load(pipeline_folder, device="cpu")  # in the open world, without a CLIP
    served = Served(tmp_path, "open", lambda: model)
    made = erasing(served, Shown(), Edit(concept="dog", anchor="cat", method="uce"), Job(2, "erase", "erasing"))
    drawn = compare(served, Shown(), Comparison(patch=made["patch"], prompt="a dog", count=1, steps=1), job)
    assert "no CLIP" in drawn["missing"]
    assert drawn["rows"][0]["edited"]["seen"] == []
    with pytest.raises(UserError, match="no CLIP"):
        attacking(served, Shown(), Trial(patch=made["patch"], prompt="a dog", attack="own"), job)
    assert [one["veiled"] for one in served.about()["patches"]] == [False]
    told = Job(3, "erase", "erasing")
    erasing(served, Shown(), Edit(concept="nudity", anchor="cat", method="uce"), told)
    assert sorted(one["veiled"] for one in served.about()["patches"]) == [False, True]
    assert {one["veiled"] for one in told.told if one["kind"] == "preview"} == {True}


def test_half_of_a_patch_goes_half_of_the_way(served: Served) -> None:
    model, patch = served.model, served.patch("church")
    assert weakened(model, patch, 1.0) is patch
    name = patch.weights[0]
    before = model.editable()[name].detach().clone()
    with applied(model, patch):
        whole = model.editable()[name].detach().clone()
    with applied(model, weakened(model, patch, 0.5)):
        half = model.editable()[name].detach().clone()
    assert torch.allclose(half - before, (whole - before) / 2, atol=1e-6)
    assert not torch.equal(half, before)


@pytest.mark.parametrize("wrong", [{"count": 9}, {"count": 0}, {"steps": 0}, {"strength": 2.1}, {"prompt": ""},
                                   {"prompt": "x" * 501}, {"guidance": 0.5}, {"seed": -1}, {"path": "/etc"}])
def test_what_is_out_of_bounds_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Comparison.build({**ASKED, **wrong})


def test_a_prompt_that_the_model_does_not_read_is_refused_before_anything_is_drawn(served: Served, job: Job) -> None:
    with pytest.raises(UserError):
        compare(served, Shown(), Comparison.build({**ASKED, "prompt": "a church " * 40}), job)
    assert not job.told


def test_a_difference_is_white_where_nothing_changed() -> None:
    picture, other = torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)
    other[:, 0, 0] = 1.0
    shown, change = difference(picture, other)
    assert bool((shown[:, 1:, 1:] == 1).all())
    assert bool((shown[:, 0, 0] < 1).any())
    assert change == pytest.approx(1 / 16)


def test_pictures_past_the_bound_go_the_oldest_first() -> None:
    one, other = torch.zeros(3, 8, 8), torch.ones(3, 8, 8)
    shown = Shown(most=len(png(one)) + len(png(other)) // 2)
    first, second = shown.add(one), shown.add(other)
    assert shown.get(first) is None
    assert shown.get(second) == png(other)
    assert shown.get("../secret") is None
