"""`expunge show`, `expunge report` and `expunge evaluate`: records on disk, and where they should be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from expunge.cli import run


def test_show_prints_the_card(patch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(patch)]) == 0
    card = yaml.safe_load(capsys.readouterr().out)
    assert card["concept"] == "church"
    assert card["settings"]["steps"] == 2
    assert run(["show", str(patch), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["request"]["concept"] == "church"


def test_show_prints_attacks_from_their_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from expunge.records import Attempt, Prompt, Request, Sampler, Score, SuiteResult

    item = {"access": "image", "prompt": Prompt(text="a church", role="direct"), "outcome": "not elicited"}
    before = Attempt.model_validate({**item, "attack": "none", "seed": 0})
    run_ = {"attack": "noising", "access": "image", "white_box": False,
            "attempts": [Attempt.model_validate({**item, "attack": "noising", "seed": 0})]}
    scores = [Score(name=name, title=name, value=0.0, low=0.0, high=0.793, n=1, of="items", numerator=0)
              for name in ("attack/worst", "attack/noising")]
    made = SuiteResult.model_validate({
        "request": Request(concept="church", prompts=("a church",)), "model": "m", "model_hash": "h", "judge": "j",
        "sampler": Sampler(), "before": [before], "runs": [run_], "scores": scores, "warnings": ["too few items: 1"]})
    (tmp_path / "attack.json").write_text(made.model_dump_json())
    assert run(["show", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Not elicited in 1 attempt on 1 item by this 1 attacker (noising) at this budget")
    assert "warning: too few items: 1" in told
    assert run(["show", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == made.model_dump(mode="json")


def test_report_of_a_patch_folder_says_where_its_evaluation_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                                                 ) -> None:
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "evaluation.json").write_text('{"format": 2}')
    assert run(["report", str(tmp_path)]) == 2
    assert f"there is one at {tmp_path / 'evaluation'}" in capsys.readouterr().err
    assert run(["report", str(tmp_path / "evaluation")]) == 2
    message = capsys.readouterr().err
    assert "format: Input should be 1" in message
    assert "pydantic" not in message


def test_evaluate_refuses_attacks_that_are_not_there(patch: Path, pipeline_folder: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(patch), "--model", str(pipeline_folder), "--attack", "nowhere"]) == 2
    told = capsys.readouterr().err
    assert "no attacks at nowhere" in told
    assert "expunge attack PATCH" in told


def test_show_lists_every_concept_with_its_anchor(patch_of_two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(patch_of_two)]) == 0
    card = yaml.safe_load(capsys.readouterr().out)
    assert [(item["concept"], item["anchor"]) for item in card["concepts"]] == [
        ("church", "house"), ("dog", "(nothing in particular)")]
    assert card["concepts"][1]["prompts"][-1] == "... 12 in all"
    assert "concept" not in card


def test_attacking_a_patch_of_several_concepts_asks_which(patch_of_two: Path, pipeline_folder: Path,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["attack", str(patch_of_two), "--model", str(pipeline_folder)]) == 2
    told = capsys.readouterr().err
    assert "the patch took out church, dog" in told
    assert "--concept" in told


def test_show_prints_the_rate_of_every_concept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from expunge.records import Evaluation, PatchCard, Request, Sampler, Score, Target

    request = Request(concept="church", prompts=("a church",), also=(Target(concept="bomb", prompts=("a bomb",)),))
    card = PatchCard(request=request, base="b", base_hash="h", method="esd", settings={}, tensors=(), tensors_hash="t",
                     seed=0)
    scores = [Score(name=name, title=name, value=hits / 9, n=9, numerator=hits, subject=subject)
              for name, hits, subject in (("found/all", 4, "edited"), ("found/all/church", 0, "edited"),
                                          ("found/all/bomb", 4, "edited"), ("original/found/all/bomb", 9, "original"))]
    made = Evaluation(card=card, model="m", model_hash="h", sampler=Sampler(), scores=tuple(scores))
    (tmp_path / "evaluation.json").write_text(made.model_dump_json())
    assert run(["show", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    rows = [line.split()[:4] for line in told.splitlines() if line.startswith("found/")]
    assert [row[0] for row in rows] == ["found/all", "found/all/church", "found/all/bomb"]
    assert re.search(r"found/all/bomb +44\.4% .*100%", told)


def test_a_folder_without_a_record_is_told_what_would_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evaluation").mkdir()
    assert run(["show", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    for told in ("no record in", "patch.safetensors", "evaluation.json", "attack.json", "relearning.json", "bench.json",
                 "sequence.json"):
        assert told in said
    (tmp_path / "evaluation" / "evaluation.json").write_text("{}")
    assert run(["show", str(tmp_path)]) == 2
    assert f"there is one in {tmp_path / 'evaluation'}" in capsys.readouterr().err.replace("\n", "")


def test_a_bench_is_shown_from_its_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from expunge.records import BenchResult

    result = BenchResult(model="embedded", model_hash="ab", methods=("uce",), concepts=("church",))
    (tmp_path / "bench.json").write_text(result.model_dump_json(), encoding="utf-8")
    assert run(["show", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["methods"] == ["uce"]
    assert run(["show", str(tmp_path)]) == 0


def test_an_evaluation_that_is_planned_tells_which_pictures_it_would_draw() -> None:
    from expunge.cli.evaluate import planned_words
    from expunge.evaluation.plan import EvaluateSettings
    from expunge.records import Prompt

    prompts = [Prompt(text="a church", role="direct"), Prompt(text="a dog", role="far")]
    assert planned_words(prompts, EvaluateSettings()) == [
        "2 prompts at 2 seeds: 10 images, if none is in the cache",
        "  4 with each of the two models, 2 of the original's once more in other batches"]
    own = [prompts[0].model_copy(update={"seed": 7}), prompts[1]]
    assert "at other seeds" in planned_words(own, EvaluateSettings())[1]
