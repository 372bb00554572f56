"""The model card is read by the Hub's own parser, and no text of a record becomes Markdown or HTML."""

from __future__ import annotations

import json
import math
import re

import pytest
import yaml
from attack_examples import make_suite
from report_examples import HOSTILE, make_card, make_evaluation, number, rate

from expunge.records import Evaluation
from expunge.report.card import LEADING, model_card, record, write_json


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_hub_parser_reads_every_leading_score_that_was_measured(evaluation):
    from huggingface_hub import ModelCard

    data = ModelCard(model_card(evaluation)).data
    assert (data.library_name, data.base_model, data.pipeline_tag) == ("diffusers", "someone/emoji-64", "text-to-image")
    assert {"expunge", "text-to-image", "esd"} <= set(data.tags)
    read = {result.metric_args["score"]: result for result in data.eval_results}
    measured = {score.name for score in evaluation.scores if score.value is not None}
    assert read.keys() == measured & {*LEADING}
    assert read["found/all"].metric_value == 3 / 126
    assert read["found/all"].metric_type == "concept_found_rate"
    assert read["found/all"].metric_args["n"] == 126
    assert read["fid/original"].metric_type == "fid"


def test_unmeasured_scores_are_in_the_tables_only(evaluation):
    card = model_card(evaluation)
    assert "fid/real" not in str(front_matter(card))
    assert "not measured: needs 256 images, got 112" in card
    assert "retained/style" in card


def test_tables_are_rectangular(hostile, evaluation):
    for case in (hostile, evaluation):
        for table in re.findall(r"(?:^\|.*\n?)+", model_card(case), flags=re.MULTILINE):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().splitlines()}
            assert len(widths) == 1


def test_versions_of_training_and_evaluation_stand_side_by_side(evaluation):
    card = evaluation.card.model_copy(update={"versions": {"torch": "2.12.0", "diffusers": "0.41.0"}})
    text = model_card(evaluation.model_copy(update={"card": card, "versions": {"torch": "2.13.0"}}))
    assert "| torch | 2.12.0 | 2.13.0 |" in text
    assert "| diffusers | 0.41.0 | not recorded |" in text


def test_hostile_text_stays_text(hostile):
    card = model_card(hostile)
    body = card.split("---\n", 2)[2]
    assert HOSTILE not in card
    assert "<" not in body
    assert "&lt;script&gt;" in body
    assert front_matter(card)["tags"][-1] == hostile.card.method


def test_a_folder_or_the_embedded_model_is_no_base_model_on_the_hub(hostile):
    assert "base_model" not in front_matter(model_card(hostile))
    assert "base_model" not in front_matter(model_card(make_evaluation(card=make_card(base="embedded"))))


def test_values_that_are_no_numbers_stay_out_of_the_front_matter():
    low = number("fid/original", 3.0).model_copy(update={"low": -math.inf})
    card = make_evaluation().model_copy(update={"scores": (low, number("kid/original", math.nan))})
    metrics = front_matter(model_card(card))["model-index"][0]["results"][0]["metrics"]
    assert [metric["type"] for metric in metrics] == ["fid"]
    assert "low" not in metrics[0]["args"]


def test_nothing_measured_means_no_model_index(bare):
    assert "model-index" not in front_matter(model_card(bare))


@pytest.mark.parametrize("untested", [(), ("No attack was run.",)])
def test_limits_always_mention_attacks_once(untested):
    limits = model_card(make_evaluation(not_tested=untested)).split("## Limits")[1]
    assert limits.count("No attack was run") == 1


def test_json_holds_the_record_and_the_verdict(evaluation, tmp_path):
    held = json.loads(write_json(evaluation, tmp_path / "report.json").read_text(encoding="utf-8"))
    assert Evaluation.model_validate(held["evaluation"]) == evaluation
    assert held["verdict"]["tone"] == "good"
    assert held["digest"] == evaluation.digest


def test_json_has_null_where_a_number_is_none():
    evaluation = make_evaluation([rate("found/all", 3, 126)], card=make_card(losses={"erase": [1.0, math.nan]}))
    text = json.dumps(record(evaluation), allow_nan=False)
    assert "null" in text


def test_attacks_are_on_the_card_and_in_the_json():
    evaluation = make_evaluation(suite=make_suite())
    text = model_card(evaluation)
    assert "## Attacks\n\nElicited in 7 of 24 items" in text
    assert "| unlearndiff | prompt, white box | 3 of 19 (1 attempt failed) |" in text
    assert "### Warnings about the attacks" in text
    names = {metric["args"]["score"]: metric["type"]
             for metric in front_matter(text)["model-index"][0]["results"][0]["metrics"]}
    assert names["attack/worst"] == "attack_success_rate"
    assert record(evaluation)["evaluation"]["suite"]["runs"][4]["attempts"][0]["text"].startswith("qué")


def test_an_evaluation_from_before_attacks_still_reads():
    told = json.loads(make_evaluation().model_dump_json())
    del told["suite"], told["finds"]
    assert Evaluation.read(json.dumps(told)) == make_evaluation()


def test_front_matter_names_the_leading_scores_alone():
    scores = [rate(name, 1, 40) for name in ("found/all", "found/direct", "found/all/church", "abstained/all",
                                             *(f"found/never_seen/{n}" for n in range(60)))]
    text = model_card(make_evaluation(scores))
    metrics = front_matter(text)["model-index"][0]["results"][0]["metrics"]
    assert [metric["args"]["score"] for metric in metrics] == ["found/all", "found/all/church"]
    assert len(text.split("---\n")[1].splitlines()) < 60
    assert text.count("found/never") + text.count("1 of 40") >= 60  # the tables still hold them all
