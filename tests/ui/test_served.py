"""What the page may touch, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sides_world import sides_world

from expunge.errors import ConfigError, ExpungeError, UserError
from expunge.metrics.worlds import World
from expunge.ui.asked import Comparison, Edit, Trial
from expunge.ui.served import Served
from expunge.ui.server import Page

TRICKS = ("../secret", "church/../../secret", "/etc", "", ".", "church/", "./church", "church\0", "..\\secret",
          "CHURCH")


@pytest.mark.parametrize("name", TRICKS)
def test_only_names_that_were_found_are_patches(served: Served, name: str) -> None:
    secret = served.root.parent / "secret"
    secret.mkdir(exist_ok=True)
    for file in (served.root / "church").iterdir():
        if file.is_file():
            (secret / file.name).write_bytes(file.read_bytes())
    assert list(served.patches()) == ["church"]
    with pytest.raises(UserError, match="the patch"):
        served.patch_folder(name)
    with pytest.raises(UserError, match="the run"):
        served.run(name)


def test_a_link_out_of_the_folder_is_not_followed(served: Served, tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "stolen"
    outside.mkdir(parents=True)
    (outside / "patch.safetensors").write_bytes(b"")
    (served.root / "link").symlink_to(tmp_path / "outside", target_is_directory=True)
    assert list(served.patches()) == ["church"]


def test_the_model_is_opened_once_and_its_world_is_made_once(sides: Served, sides_model: Any,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    made, loaded = list[str](), list[str]()

    def counted() -> World:
        made.append("world")
        return sides_world()

    def load() -> Any:
        loaded.append("model")
        return sides_model

    monkeypatch.setattr("sides_world.sides_world", counted)
    page = Page(Served(sides.root, "sides", load))
    assert not loaded
    page.state()
    page.kin("church")
    page.wordings("church")
    assert (made, loaded) == (["world"], ["model"])


def test_a_world_that_is_none_is_told_when_the_model_is_opened(sides: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sides_world.sides_world", lambda: "prompts")
    with pytest.raises(ExpungeError, match="gives a str, and no World"):
        sides.open()


def test_no_other_model_can_be_asked_for() -> None:
    for settings, asked in ((Comparison, {"patch": "church", "prompt": "a church"}), (Edit, {"concept": "church"}),
                            (Trial, {"patch": "church"})):
        settings.build(asked)
        with pytest.raises(ConfigError, match="model"):
            settings.build({**asked, "model": "some/other-model"})


def test_a_damaged_patch_is_listed_and_says_so_when_it_is_asked_for(served: Served) -> None:
    broken = served.root / "broken"
    broken.mkdir()
    (broken / "patch.safetensors").write_bytes(b"nothing")
    listed = {one["name"]: one for one in served.about()["patches"]}
    assert "cannot be read" in listed["broken"]["words"]
    assert listed["church"]["concepts"] == ["church"]
    with pytest.raises(UserError):
        served.patch("broken")


def test_a_new_edit_goes_into_the_folder_whatever_it_is_called(served: Served) -> None:
    folder = served.new_folder("../../etc/passwd", "../uce", "settings")
    assert folder.parent == served.root
    assert folder == served.new_folder("../../etc/passwd", "../uce", "settings")
    assert folder != served.new_folder("../../etc/passwd", "../uce", "others")
