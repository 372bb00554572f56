"""A picture with values that are not finite counts as neither found nor erased, and the rest goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from colour_world import SMALL, colour_world, edit

from expunge.errors import ModelError
from expunge.evaluation import evaluate
from expunge.models.cache import ImageCache
from expunge.models.patch import Patch
from expunge.records import NOT_FINITE, Evaluation, Prompt, Sampler
from expunge.report import write_report
from expunge.report.verdict import verdict


def spoil(model: Any, table: torch.Tensor, *words: str) -> torch.Tensor:
    """The table of token vectors with one that no layer can add up, for each of the words: its images are NaN."""
    table = table.detach().clone()
    for word in words:
        (token,) = model.texts[0].tokenizer(word, add_special_tokens=False).input_ids
        table[token] = 3e38
    return table


def spoiling(model: Any, *words: str) -> Patch:
    """The edit of `edit`, which also spoils every prompt with one of the words."""
    name, table = next((name, value) for name, value in model.parameters_of("text").items()
                       if "token_embedding" in name)
    return Patch.of({**edit(model, 0.1).tensors, name: spoil(model, table, *words)}, model=model,
                    request=colour_world().prompts.request("church"), method="noise", settings={}, seed=1)


@pytest.fixture
def done(model: Any, tmp_path: Path) -> tuple[Evaluation, Path]:
    """Of the 8 images that ask for a church 2 are not finite, of the 2 x 2 far ones none: "a church on a hill"."""
    out = tmp_path / "out"
    return evaluate(model, spoiling(model, "hill"), settings=SMALL, out=out, world=colour_world()), out


def test_pictures_that_are_none_are_left_out_of_every_score_and_the_rest_is_measured(done: Any) -> None:
    found, _ = done
    for name in ("found/all", "found/held_out", "abstained/all", "change/found/all", "clip/forget",
                 "change/clip/forget", "perceptual/forget", "integrity/forget", "something_else/all"):
        assert found.score(name).left_out.get(NOT_FINITE) == 2, name
    assert found.score("found/all").n + found.score("found/all").left_out["abstained"] == 6
    for name in ("found/direct", "retained/far", "perceptual/far", "fid/original", "original/found/all"):
        assert NOT_FINITE not in found.score(name).left_out, name
    assert found.score("original/found/all").n == 8  # the original's own images are there
    assert found.score("perceptual/forget").n == 6
    assert found.score("not_finite/all").numerator == 2
    assert found.score("original/not_finite/all").numerator == 0
    assert any("2 of the 18 images of the edited model are none" in line for line in found.warnings)


def test_the_verdict_says_that_the_model_is_damaged_and_never_that_the_concept_is_gone(done: Any) -> None:
    found, out = done
    said = verdict(found)
    assert said.headline.startswith("The model is damaged")
    assert said.tone == "bad"
    whole = write_report(found, out, out / "report.html").read_text()
    assert "values that are not finite" in whole
    assert "2 not finite" in whole


def test_a_model_that_draws_nothing_finite_is_damaged_and_its_rates_are_not_measured(model: Any, tmp_path: Path
                                                                                     ) -> None:
    found = evaluate(model, spoiling(model, "a", "church", "house", "dog"), settings=SMALL, out=tmp_path,
                     world=colour_world())
    gone = found.score("found/all")
    assert gone.value is None
    assert gone.left_out[NOT_FINITE] == 8
    assert "no image with finite values" in gone.note
    assert found.score("integrity/far").value is None
    assert found.score("original/found/all").n == 8
    said = verdict(found)
    assert said.headline == "The model is damaged; whether the concept was erased cannot be told"
    assert "16 of the 18 images of the edited model are none" in said.sentence
    assert {strip.role for strip in found.strips} == {"empty"}


def test_an_original_that_draws_none_of_them_lets_nothing_be_said_of_the_edit(model: Any, tmp_path: Path) -> None:
    table = model.texts[0].module.get_input_embeddings().weight
    with torch.no_grad():
        table.copy_(spoil(model, table, "hill"))
    found = evaluate(model, edit(model, 0.1), settings=SMALL, out=tmp_path, world=colour_world())
    assert found.score("original/found/all").left_out[NOT_FINITE] == 2
    said = verdict(found)
    assert said.headline == "This evaluation cannot tell"
    assert said.tone == "unknown"
    assert "2 of the 18 images of the original model are none" in said.sentence
    assert "2 of the 18 images of the original model are none" in " ".join(found.warnings)


def test_a_spoilt_picture_is_not_kept_and_is_an_error_where_nobody_counts_it(model: Any, tmp_path: Path) -> None:
    table = model.texts[0].module.get_input_embeddings().weight
    with torch.no_grad():
        table.copy_(spoil(model, table, "hill"))
    items = [(Prompt(text=text, role="near"), 0) for text in ("a dog", "a church on a hill", "a house")]
    pictures = ImageCache(tmp_path / "cache")
    told: list[tuple[int, int]] = []
    shots, drawn = pictures.draw(model, items, Sampler(steps=2), go_on=True, progress=lambda *now: told.append(now))
    assert [bool(shot.file) for shot in shots] == [True, False, True]
    assert [bool(picture.isfinite().all()) for picture in drawn] == [True, False, True]
    assert bool(drawn[1].isnan().all())
    assert told[-1] == (3, 3)
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 2
    with pytest.raises(ModelError, match="not finite for 'a church on a hill'"):
        pictures.draw(model, items, Sampler(steps=2))
