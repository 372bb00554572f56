"""The verb refuses what makes no sense, writes the patch, goes on after a kill, and tells its cost beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.errors import ConfigError, UserError
from expunge.locks import LOCK
from expunge.metrics.worlds import World
from expunge.models.patch import Patch
from expunge.records import Origin, Request
from expunge.registry import WORLDS
from expunge.unlearn.erase import CHECKPOINT, erase, plan, resolve_request
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church on a hill", "a church"))
SETTINGS = {"source": {"grid": 4, "trajectories": 3}, "steps": 3, "batch": 2, "learning_rate": 1e-3}


class OneSentence:
    """Prompts of a world of one sentence."""

    name = "village"

    def request(self, concept: str, anchor: str = "", keep: Any = ()) -> Request:
        return Request(concept=concept, prompts=(f"a {concept} on a hill",), anchor=anchor, keep=tuple(keep))


def village_world() -> World:
    return World("village", OneSentence())  # type: ignore[arg-type]  # it can be asked for nothing else


@pytest.fixture
def village(model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model, in a world registered for this test only."""
    monkeypatch.setattr(WORLDS, "_entries", dict(WORLDS._entries))
    WORLDS.register("village", f"{__name__}:village_world")
    monkeypatch.setattr(model, "world", "village")
    return model


def test_name_becomes_the_worlds_request(village: Any) -> None:
    patch = erase(village, " church ", anchor="house", keep=["a dog"], settings=SETTINGS)
    assert patch.card.request == Request(concept="church", prompts=("a church on a hill",), anchor="house",
                                         keep=("a dog",))
    assert patch.card.method == "esd"
    assert patch.card.settings["steps"] == 3


def test_patch_lies_in_the_folder_and_the_checkpoint_is_gone(model: Any, tmp_path: Path) -> None:
    patch = erase(model, REQUEST, settings=SETTINGS, out=tmp_path / "run")
    read = Patch.load(tmp_path / "run")
    assert read.hash == patch.hash
    assert read.card == patch.card
    assert not (tmp_path / "run" / CHECKPOINT).exists()


@pytest.mark.slow
def test_a_folder_with_another_edit_is_left_alone(model: Any, tmp_path: Path) -> None:
    first = erase(model, REQUEST, settings=SETTINGS, out=tmp_path)
    other = Request(concept="dog", prompts=("a picture of a dog",))
    for request, changes, seed, odd in ((other, {}, 0, 'request.concept "church", now "dog"'),
                                        (REQUEST, {"steps": 4}, 0, "settings.steps 3, now 4"),
                                        (REQUEST, {}, 1, "seed 0, now 1")):
        with pytest.raises(UserError, match=rf"patch.safetensors was begun under other settings \(.*{odd}"):
            erase(model, request, settings={**SETTINGS, **changes}, seed=seed, out=tmp_path)
    assert Patch.load(tmp_path).hash == first.hash


def test_an_edit_that_is_there_is_not_made_again_and_its_card_is_completed(model: Any, tmp_path: Path, caplog: Any
                                                                           ) -> None:
    first = erase(model, REQUEST, settings=SETTINGS, out=tmp_path, own_look=False)
    for settings, origin in (({**SETTINGS, "checkpoint_every": 7.0}, None), (SETTINGS, Origin(who="a parish")),
                             (SETTINGS, Origin(who="a parish")), (SETTINGS, None)):
        caplog.clear()
        again = erase(model, REQUEST, settings=settings, out=tmp_path, own_look=False, origin=origin,
                      progress=lambda *told: pytest.fail("it trains"))
        assert "is this edit already" in caplog.text
        assert again.hash == first.hash
        assert again.card.created == first.card.created
    assert Patch.load(tmp_path).card.origin == Origin(who="a parish")
    with pytest.raises(UserError, match=r'origin\.who "a parish", now "a publisher"'):
        erase(model, REQUEST, settings=SETTINGS, out=tmp_path, own_look=False, origin=Origin(who="a publisher"))
    looked = erase(model, REQUEST, settings=SETTINGS, out=tmp_path)
    assert Patch.load(tmp_path).card == looked.card
    there = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.name != LOCK}
    (tmp_path / CHECKPOINT).write_text("of a run that was killed as it wrote the patch")
    (tmp_path / "patch.json").unlink()
    erase(model, REQUEST, settings=SETTINGS, out=tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.name != LOCK} == there


@pytest.mark.parametrize("seed", [-1, "x", 1.5, True])
def test_a_seed_that_is_none_is_refused(model: Any, seed: Any) -> None:
    with pytest.raises(UserError, match="seed"):
        erase(model, REQUEST, settings=SETTINGS, seed=seed)


@pytest.mark.parametrize("concept", ["church", REQUEST])
@pytest.mark.parametrize(("prompts", "said"), [([], "no prompt of your own"), ("a church", "the single text"),
                                               ({"church": "a church"}, "the single text"), ([" "], "is blank")])
def test_prompts_that_are_no_list_of_texts_are_refused_before_any_work(village: Any, concept: Any, prompts: Any,
                                                                        said: str) -> None:
    for verb in (erase, plan):
        with pytest.raises(UserError, match=said):
            verb(village, concept, settings=SETTINGS, prompts=prompts)
    assert resolve_request(village, concept, prompts=["a chapel"]).prompts == ("a chapel",)


def test_a_name_in_the_place_of_a_model_is_refused() -> None:
    with pytest.raises(UserError, match=r"'embedded' as the model; accepted: what expunge.load returns"):
        erase("embedded", REQUEST)  # type: ignore[arg-type]


@pytest.mark.slow
def test_killed_erase_goes_on_in_its_folder(model: Any, tmp_path: Path) -> None:
    settings = {**SETTINGS, "checkpoint_every": 0}

    def kill(done: int, total: int, losses: dict[str, float]) -> None:
        if losses and done == 3:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        erase(model, REQUEST, settings=settings, out=tmp_path, progress=kill)
    assert (tmp_path / CHECKPOINT).exists()
    steps: list[int] = []
    patch = erase(model, REQUEST, settings=settings, out=tmp_path,
                  progress=lambda done, total, losses: steps.append(done) if losses else None)
    assert steps == [3]
    assert patch.hash == erase(model, REQUEST, settings=settings).hash


@pytest.mark.parametrize(("concept", "anchor", "keep", "said"), [
    ("", "", (), "empty concept"),
    ("  ", "", (), "empty concept"),
    ("church", "", ("house", "church"), "to be kept"),
    ("church", "", ("a Church on a hill",), "to be kept"),
    ("church", "Church", (), "own anchor"),
    ("church", "", "house", "a list"),
    (REQUEST, "house", (), "anchor or keep"),
    (REQUEST.model_copy(update={"keep": ("a church",)}), "", (), "to be kept"),
    (REQUEST.model_copy(update={"prompts": ("a church", " ")}), "", (), "empty prompts"),
])
def test_contradictory_requests_are_refused(village: Any, concept: Any, anchor: str, keep: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        erase(village, concept, anchor=anchor, keep=keep)


def test_keeping_a_longer_word_is_no_contradiction(village: Any) -> None:
    assert resolve_request(village, "rose", keep=["a rosebud"]).keep == ("a rosebud",)


def test_truncated_concept_is_refused(village: Any) -> None:
    with pytest.raises(UserError, match="tokens"):
        erase(village, "church " * 20, settings=SETTINGS)


def test_unknown_method_and_settings_are_told(model: Any) -> None:
    with pytest.raises(UserError, match="esd"):
        erase(model, REQUEST, "esdd")
    with pytest.raises(ConfigError, match="stepz"):
        erase(model, REQUEST, settings={"stepz": 1})


def test_any_callable_is_a_method(model: Any) -> None:
    def nothing(model: Any, request: Request, *, seed: int = 0, checkpoint: Any = None, progress: Any = None) -> Patch:
        return Patch.of({}, model=model, request=request, method="nothing", settings={}, seed=seed)

    assert erase(model, REQUEST, nothing, seed=5).card.seed == 5
    with pytest.raises(ConfigError, match="that has none"):
        erase(model, REQUEST, nothing, settings={"steps": 1})


def test_plan_tells_settings_and_cost_and_changes_nothing(model: Any) -> None:
    before = {name: p.clone() for name, p in model.parameters_in("all").items()}
    recipe = Recipe(source=FrozenTrajectory(grid=4, trajectories=3), steps=10, batch=2)
    told = plan(model, REQUEST, recipe, settings={"steps": 20}, seed=1)
    assert json.loads(json.dumps(told)) == told
    assert told["settings"]["steps"] == 20
    assert told["measured"] == "4 of 20 steps, run and undone, and the beginning of what comes before them"
    assert told["trained"]["parameters"] == sum(p.numel() for p in model.parameters_in("xattn").values())
    assert told["seconds"] > 0
    assert told["memory_bytes"] is None or told["memory_bytes"] > 0
    after = model.parameters_in("all")
    assert all(torch.equal(before[name], p) and p.grad is None and not p.requires_grad for name, p in after.items())


def test_plan_refuses_what_erase_refuses(village: Any) -> None:
    with pytest.raises(UserError, match="to be kept"):
        plan(village, "church", keep=["church"])
    with pytest.raises(UserError, match="scope"):
        plan(village, "church", settings={"scope": "everything"})
