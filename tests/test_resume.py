"""Every verb that keeps what it did refuses other settings by name, and ends the same under its own when stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from colour_world import SMALL, attacked_world, edit
from safetensors import safe_open

from expunge.errors import ConfigError
from expunge.evaluation import evaluate
from expunge.files import text_digest
from expunge.models.store import load
from expunge.records import Request
from expunge.resume import Inputs
from expunge.unlearn.erase import CHECKPOINT, erase
from expunge.unlearn.recipe import Recipe
from kept_files import raw, told
from small_verbs import VERBS, Tell, checkpoint_at_every_step, erased


@pytest.fixture(autouse=True)
def _checkpoint_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint_at_every_step(monkeypatch)


def begun(start: Callable[[Path, Path, Tell, bool], None], folder: Path, out: Path, last: int) -> None:
    """Started, and stopped when it tells `last`."""
    def tell(done: int) -> None:
        if done == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(folder, out, tell, False)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_half_done_it_refuses_other_settings_by_name_and_ends_the_same_under_its_own(
        verb: str, pipeline_folder: Path, tmp_path: Path) -> None:
    start, last, odd = VERBS[verb]
    start(pipeline_folder, tmp_path / "whole", lambda done: None, False)
    begun(start, pipeline_folder, tmp_path / "cut", last)
    half = raw(tmp_path / "cut")
    with pytest.raises(ConfigError, match=f"begun under other settings .*{odd}.*accepted: .*another output folder"):
        start(pipeline_folder, tmp_path / "cut", lambda done: None, True)
    assert raw(tmp_path / "cut") == half, "something was written before it was refused"
    start(pipeline_folder, tmp_path / "cut", lambda done: None, False)
    assert told(tmp_path / "cut") == told(tmp_path / "whole")
    done = raw(tmp_path / "cut")
    with pytest.raises(ConfigError, match=f"begun under other settings .*{odd}"):
        start(pipeline_folder, tmp_path / "cut", lambda done: None, True)
    assert raw(tmp_path / "cut") == done, "what was finished was touched"


def test_an_evaluation_mixes_nothing_because_what_it_keeps_says_of_which_pixels_it_is(model: Any, tmp_path: Path
                                                                                     ) -> None:
    def measured(out: Path, seeds: int, tell: Tell = lambda *told: None) -> None:
        evaluate(model, edit(model, 0.02), settings=SMALL.model_copy(update={"seeds": seeds}), out=out,
                 world=attacked_world(), progress=tell)

    def stop(done: int, total: int, words: str) -> None:
        if words == "judging":
            raise KeyboardInterrupt

    measured(tmp_path / "whole", 1)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "cut", 2, stop)
    measured(tmp_path / "cut", 1)
    assert told(tmp_path / "cut") == told(tmp_path / "whole")


def test_a_closed_form_leaves_the_half_of_another_method_alone(pipeline_folder: Path, tmp_path: Path) -> None:
    begun(erased, pipeline_folder, tmp_path, 3)
    half = raw(tmp_path)
    with pytest.raises(ConfigError, match=r'begun under other settings \(settings.name "esd", now "uce"'):
        erase(load(pipeline_folder, device="cpu"), Request(concept="church", prompts=("a church",)), "uce",
              out=tmp_path)
    assert raw(tmp_path) == half


def test_a_half_learned_mask_is_left_alone_by_another_preset(pipeline_folder: Path, tmp_path: Path) -> None:
    begun(VERBS["guard learn, released"][0], pipeline_folder, tmp_path, 2)
    half = raw(tmp_path)
    with pytest.raises(ConfigError, match="begun under other settings"):
        VERBS["guard learn"][0](pipeline_folder, tmp_path, lambda done: None, False)
    assert raw(tmp_path) == half


def test_what_an_earlier_version_kept_goes_on_or_is_refused_without_names(tmp_path: Path) -> None:
    """They told a digest alone, some of settings in the order in which they stand, some cut to sixteen letters."""
    under = Inputs({"settings": {"steps": 4, "batch": 2}, "drawing": "2-ab", "seed": 0}, former={"drawing": "ab"})
    unsorted, other = '[{"steps": 4, "batch": 2}, "2-ab", 0]', '[{"steps": 4, "batch": 2}, "2-ab", 1]'
    for digest in (text_digest(unsorted), text_digest('[{"batch": 2, "steps": 4}, "ab", 0]')[:16], under.digest):
        under.check(tmp_path, {"fingerprint": digest})
    for digest in (text_digest(other), under.digest[:8], ""):
        with pytest.raises(ConfigError, match="in one of settings, drawing, seed: an earlier version did not write"):
            under.check(tmp_path, {"fingerprint": digest})


def test_a_setting_that_is_new_and_at_its_default_is_no_other() -> None:
    now = Inputs({"settings": {"steps": 4, "new": 1}}, defaults={"settings": {"new": 1}})
    assert now.compared({"settings": {"steps": 4}}) == ([], ["settings.new 1"])
    assert now.compared({"settings": {"steps": 5}}) == (["settings.steps 5, now 4"], ["settings.new 1"])
    assert Inputs({"settings": {"steps": 4, "new": 2}}, defaults=now.defaults).compared(
        {"settings": {"steps": 4}})[0] == ["settings.new null, now 2"]


def test_long_values_are_told_from_where_they_differ() -> None:
    prompts = [f"an image of a church number {k}" for k in range(4)]
    (odd,) = Inputs({"prompts": [*prompts, "a dog"]}).compared({"prompts": [*prompts, "a cat"]})[0]
    assert '"a cat"]' in odd
    assert '"a dog"]' in odd
    assert Inputs({"model": "0" * 64}).compared({"model": "1" * 64})[0] == [f'model "{"1" * 12}", now "{"0" * 12}"']


def test_a_checkpoint_goes_by_settings_and_not_by_how_often_it_is_kept(pipeline_folder: Path, tmp_path: Path) -> None:
    begun(erased, pipeline_folder, tmp_path, 3)
    with safe_open(tmp_path / CHECKPOINT, "pt") as file:
        inputs = json.loads(file.metadata()["inputs"])
    assert inputs["settings"]["steps"] == 4
    assert "checkpoint_every" not in inputs["settings"]
    model = load(pipeline_folder, device="cpu")
    recipe = Recipe.model_validate({**inputs["settings"], "checkpoint_every": 9.0})
    request = Request(concept="church", prompts=("a church",))
    assert recipe.inputs(model, recipe.keeping(model, request).request, 0).record["inputs"] == inputs


def test_a_value_that_earlier_versions_did_not_write_refuses_nothing_that_they_left() -> None:
    before, now = Inputs({"steps": 1}), Inputs({"steps": 1, "captions": ["a"]}, added=frozenset({"captions"}))
    now.check("place", before.record)
    now.check("place", {"fingerprint": before.digest})
    with pytest.raises(ConfigError, match="steps"):
        now.check("place", Inputs({"steps": 2}).record)
    with pytest.raises(ConfigError, match="captions"):
        now.check("place", Inputs({"steps": 1, "captions": ["b"]}).record)
