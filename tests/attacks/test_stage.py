"""What an attack says of the user's list of prompts."""

from __future__ import annotations

from pathlib import Path

from expunge.attacks.settings import AttackSettings
from expunge.attacks.stage import told_of_own
from expunge.metrics.open_world import open_world


def test_templates_in_place_of_a_list_that_does_not_ask_for_the_concept_are_said(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    world = open_world(prompts=file)
    for text in ("a castle", "a church"):  # the second is left out, for it is to be kept and names the concept
        file.write_text(f"near: [{text}]\n")
        told = told_of_own(world.prompts, world.prompts.request("church"), AttackSettings(prompts=str(file)), 3)
        assert told == ["p.yaml has no prompt that asks for 'church': those of templates are attacked."]
    assert told_of_own(open_world().prompts, world.prompts.request("church"), AttackSettings(), 3) == []
