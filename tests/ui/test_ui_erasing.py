"""Erase from the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from expunge.errors import UserError
from expunge.models.patch import Patch
from expunge.registry import METHODS
from expunge.ui import erasing as under_test
from expunge.ui.asked import Edit
from expunge.ui.erasing import erasing, estimate, methods
from expunge.ui.jobs import Job
from expunge.ui.served import CHECKPOINT, Served
from expunge.ui.shown import Shown
from expunge.unlearn.erase import erase

ASKED = {"concept": "church", "anchor": "house", "method": "esd", "steps": 4}


QUICK = {"source.trajectories": 2, "source.grid": 3}
"""Settings of an edit that takes no time."""


@pytest.fixture(autouse=True)
def _quick_and_looked_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    how = under_test._how
    monkeypatch.setattr(under_test, "PREVIEW_EVERY", 0.0)
    monkeypatch.setattr(under_test, "RARELY", 0.0)
    monkeypatch.setattr(under_test, "_how", lambda asked: {**how(asked), "settings": {**how(asked)["settings"], **(
        QUICK if asked.method == "esd" else {})}})


@pytest.mark.slow
def test_an_edit_that_is_watched_is_the_edit_of_the_command_line(served: Served, job: Job, tmp_path: Path) -> None:
    made = erasing(served, Shown(), Edit.build(ASKED), job)
    plain = erase(served.model, "church", "esd", anchor="house", settings={"steps": 4, **QUICK},
                  out=tmp_path / "plain")
    assert Patch.load(made["folder"]).hash == plain.hash
    assert made["patch"] in served.patches()
    assert made["anchors"] == ["house"]
    kinds = [one["kind"] for one in job.told]
    assert kinds.count("loss") == 4
    assert kinds.count("preview") == 5
    assert {picture["keep"] for one in job.told if one["kind"] == "preview" for picture in one["pictures"]} == {
        False, True}


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"lora_rank": 2}, {"steps": 2, "learning_rate": 0.01}])
def test_a_look_shows_the_model_as_it_is_at_that_step(served: Served, job: Job, more: dict[str, Any],
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    if "lora_rank" in more:
        pytest.importorskip("peft")
    how = under_test._how
    monkeypatch.setattr(under_test, "_how", lambda asked: {
        **how(asked), "settings": {**how(asked)["settings"], **more}})
    steps = {**ASKED, **more}["steps"]

    class Late(Job):
        """The last step is looked at, too, as if there were another one."""

        def tell(self, done: int, total: int, note: str = "") -> None:
            if note == "training" and done == total:
                looks[-1](done)
            super().tell(done, total, note)

    looks: list[Any] = []
    made = under_test._previews

    def kept(*given: Any) -> Any:
        looks.append(made(*given))
        return looks[-1]

    monkeypatch.setattr(under_test, "_previews", kept)
    late = Late(1, "erase", "erasing")
    erasing(served, Shown(), Edit.build(ASKED), late)
    seen = {one["step"]: [each["picture"] for each in one["pictures"]] for one in late.told if one["kind"] == "preview"}
    assert seen[steps] == seen[None]  # of a training at its last step, and with the finished patch on
    assert seen[0] != seen[None]


def test_an_edit_that_does_not_train_is_looked_at_before_and_after(served: Served, job: Job) -> None:
    erasing(served, Shown(), Edit(concept="church", anchor="house", method="uce"), job)
    before, after = [one for one in job.told if one["kind"] == "preview"]
    assert (before["step"], after["step"]) == (0, None)
    assert before["pictures"] != after["pictures"]


@pytest.mark.slow
def test_a_stopped_edit_is_kept_and_goes_on_to_the_same_patch(served: Served, monkeypatch: pytest.MonkeyPatch
                                                                 ) -> None:
    monkeypatch.setattr(under_test, "FIRST", 2)
    monkeypatch.setattr(under_test, "POINTS", 1)
    asked = Edit.build({**ASKED, "steps": 6})

    class Stopping(Job):
        def say(self, kind: str, **what: object) -> None:
            super().say(kind, **what)
            if kind == "loss" and what["step"] == 2:
                self._stop.set()

        def tell(self, done: int, total: int, note: str = "") -> None:
            super().tell(done, total, note)

    before = served.model.hash, {name: p.detach().clone() for name, p in served.model.editable().items()}
    stopped = Stopping(1, "erase", "erasing")
    with pytest.raises(KeyboardInterrupt, match="start the same edit again to go on"):
        erasing(served, Shown(), asked, stopped)
    assert all(p.equal(before[1][name]) for name, p in served.model.editable().items())
    folder, = (place for place in served.root.iterdir() if place.name.startswith("church-esd-"))
    assert (folder / CHECKPOINT).is_file()
    assert list(served.patches()) == ["church"]

    going_on = Job(2, "erase", "erasing")
    made = erasing(served, Shown(), asked, going_on)
    assert going_on.told[0] == {"kind": "note", "text": "Going on where this edit was stopped."}
    steps = [one["step"] for one in going_on.told if one["kind"] == "loss"]
    assert 2 < steps[0] < 6  # the first of this run, which is no first step of the edit
    assert steps[-1] == 6
    assert made["folder"] == str(folder)
    whole = erase(served.model, "church", "esd", anchor="house", settings={"steps": 6, **QUICK})
    assert Patch.load(folder).hash == whole.hash
    assert not (folder / CHECKPOINT).exists()


def test_an_estimate_says_what_it_takes_and_changes_nothing(served: Served, job: Job) -> None:
    before = {name: p.detach().clone() for name, p in served.model.editable().items()}
    said = estimate(served, Edit.build(ASKED), job)
    assert said["seconds"] >= 0
    assert said["steps"] == 4
    assert said["changes"] > 0
    assert all(p.equal(before[name]) for name, p in served.model.editable().items())
    assert list(served.patches()) == ["church"]


def test_an_estimate_that_is_stopped_leaves_the_model_as_it_was(served: Served, job: Job) -> None:
    before = {name: p.detach().clone() for name, p in served.model.editable().items()}
    calls: list[int] = []

    def stop(*_: object) -> None:
        calls.append(1)
        if len(calls) == 4:
            job._stop.set()

    hook = served.model.network.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        estimate(served, Edit.build(ASKED), job)
    hook.remove()
    assert len(calls) == 4
    assert all(p.equal(before[name]) for name, p in served.model.editable().items())
    assert not any(p.requires_grad for p in served.model.editable().values())


@pytest.mark.parametrize("wrong", [{"concept": "a castle in the air"}, {"method": "../../etc"}, {"anchor": "church"},
                                   {"method": "uce", "steps": 4}])
def test_what_cannot_be_done_is_said(served: Served, job: Job, wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        erasing(served, Shown(), Edit.build({**ASKED, **wrong}), job)
    assert list(served.patches()) == ["church"]


def test_all_usable_methods_are_listed_with_what_was_measured_of_them() -> None:
    rows = methods()
    assert sorted(row["name"] for row in rows) == METHODS.usable()
    measured = [row["measured"] for row in rows if row["measured"]]
    assert len(measured) > 5
    for one in measured:
        for rate in (one["attacked"], one["kept"]):
            assert 0 <= rate["low"] <= rate["rate"] <= rate["high"] <= 1
            assert rate["n"] > 0
