"""Evaluations of a patch that took out several concepts: each has its own rates, strips and sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from colour_world import SMALL, ColourPrompts, attacked_world, colour_world, edit

from expunge.attacks.settings import AttackSettings
from expunge.attacks.suite import attack
from expunge.errors import ExpungeError, UserError
from expunge.evaluation import evaluate, planned_prompts
from expunge.metrics.base import PromptCounts
from expunge.models.patch import Patch
from expunge.models.store import load
from expunge.records import EVALUATIONS, Evaluation, Prompt, Request
from expunge.report import write_report
from expunge.report.verdict import verdict


def edit_of_two(model: Any, size: float) -> Patch:
    """The noise of `edit`, as if it had taken out a church and a house."""
    one = edit(model, size)
    request = ColourPrompts().request(["church", "house"], ["dog", ""])
    return Patch(one.tensors, one.card.model_copy(update={"request": request}))


@pytest.fixture(scope="module")
def done(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Path]:
    model, out = load(pipeline_folder, device="cpu"), tmp_path_factory.mktemp("two")
    found = evaluate(model, edit_of_two(model, 0.5), settings=SMALL.model_copy(update={"strips": 2}), out=out,
                     world=colour_world(), cache=out / "cache")
    return found, out


def test_every_concept_has_its_own_rates_and_together_they_are_the_whole(done: tuple[Evaluation, Path]) -> None:
    found, out = done
    assert EVALUATIONS.read(out) == found
    for prefix in ("", "original/"):
        whole = found.score(f"{prefix}found/all")
        parts = [found.score(f"{prefix}found/all/{name}") for name in ("church", "house")]
        assert whole.n == sum(part.n for part in parts) == 16
        assert whole.numerator == sum(part.numerator or 0 for part in parts)
        assert whole.per_item == {**parts[0].per_item, **parts[1].per_item}
    for name in ("found/direct/house", "abstained/held_out/church", "change/found/all/house"):
        assert found.score(name).n
    assert "for house" in found.score("found/all/house").denominator
    names = [score.name for score in found.scores]
    assert len(names) == len(set(names))


def test_nothing_that_goes_is_among_what_stays(done: tuple[Evaluation, Path]) -> None:
    found, _ = done
    assert "retained/near" not in {score.name for score in found.scores}  # the only neighbour goes too
    assert found.score("retained/far").n == 4
    assert found.score("integrity/forget").n == 16


def test_strips_show_each_concept_and_limits_name_them(done: tuple[Evaluation, Path]) -> None:
    found, _ = done
    assert [(strip.role, strip.prompt) for strip in found.strips if strip.role == "direct"] == [
        ("direct", "a church"), ("direct", "a house")]
    assert any("church, house" in line for line in found.not_tested)
    assert any("“house”" in line for line in found.warnings)


def test_verdict_and_report_name_each(done: tuple[Evaluation, Path], tmp_path: Path) -> None:
    found, out = done
    said = verdict(found)
    assert "Asked for “church” in 8 images" in said.sentence
    assert "Asked for “house” in 8 images" in said.sentence
    assert said.sentence.endswith("No attack was run.")
    page = write_report(found, out, tmp_path).read_text(encoding="utf-8")
    for words in ("<b>church</b> → <b>dog</b>, <b>house</b>, by", "“church”, “house”", "found/all/house",
                  "Prompts that ask for house", "Most of them: "):
        assert words in page


def test_a_concept_that_nothing_asks_for_is_refused(model: Any) -> None:
    class Forgetful(ColourPrompts):
        def of(self, request: Request, counts: PromptCounts, strata: Sequence[str] = ()) -> list[Prompt]:
            return [prompt for prompt in super().of(request, counts) if prompt.labels.get("object") != "house"]

    class Silent(ColourPrompts):
        def of(self, request: Request, counts: PromptCounts, strata: Sequence[str] = ()) -> list[Prompt]:
            return [prompt.model_copy(update={"labels": {}}) for prompt in super().of(request, counts)]

    request = ColourPrompts().request(["church", "house"])
    with pytest.raises(UserError, match="no prompt asks for 'house'"):
        planned_prompts(Forgetful(), request, SMALL)
    with pytest.raises(ExpungeError, match="for which of several concepts"):
        planned_prompts(Silent(), request, SMALL)
    unknown = ColourPrompts().request(["church", "unicorn"])
    patch = edit(model, 0.1)
    with pytest.raises(UserError, match="unicorn"):
        evaluate(model, Patch(patch.tensors, patch.card.model_copy(update={"request": unknown})), settings=SMALL,
                 world=colour_world())


def test_attacks_on_one_of_several_speak_for_that_one_alone(model: Any, tmp_path: Path) -> None:
    patch, world = edit_of_two(model, 0.5), attacked_world()
    settings = AttackSettings(attacks=("seed-search",), options={"seed-search": {"tries": 2}}, count=2, seeds=3,
                              steps=2, guidance=1.0, fresh=1)
    with pytest.raises(UserError, match="the patch took out church, house"):
        attack(model, patch, settings=settings, out=tmp_path / "attack", world=world)
    suite = attack(model, patch, concept="church", settings=settings, out=tmp_path / "attack", world=world)
    assert suite.request == patch.card.request.alone()[0]
    found = evaluate(model, patch, settings=SMALL, world=world, suite=suite)
    assert any("The attacks sought church alone" in line and "house" in line for line in found.not_tested)
    assert verdict(found).sentence.endswith("Not attacked: “house”.")
    other = suite.model_copy(update={"request": ColourPrompts().request("dog")})
    with pytest.raises(UserError, match="sought 'dog', not 'church' or 'house'"):
        evaluate(model, patch, settings=SMALL, world=world, suite=other)
