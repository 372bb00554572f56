"""Results in the Hub's forms: read back by its own library, and given only of runs that are the benchmark's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from given import protocol
from huggingface_hub import parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results

from expunge.errors import ConfigError, UserError
from expunge.protocols.hub import CARD, RESULTS, card_metadata, eval_results, write_for_hub
from expunge.protocols.schema import Protocol
from expunge.protocols.table import markdown, told
from expunge.records import Score
from expunge.records.protocol import ProtocolResult

BENCHMARK = {"dataset": "lab/nudity", "revision": "5503434", "tasks": {"shown": "exposed"}, "times": 100.0}


def result(**values: Any) -> ProtocolResult:
    scores = (Score(name="shown", title="images that show it", value=0.25, low=0.1, high=0.5, n=40, numerator=10),
              Score(name="original/shown", title="images that show it", value=0.75, n=40, subject="original"))
    return ProtocolResult(**{"protocol": "small", "protocol_hash": "0" * 16, "version": 3, "title": "images",
                             "source": "these tests", "scores": scores, "model": "lab/model", "patch_hash": "a" * 16,
                             "benchmark": BENCHMARK, "versions": {"expunge": "0.1"},
                             "created": "2025-01-15T10:30:00+00:00", **values})


def test_the_hubs_own_library_reads_both_forms(tmp_path: Path) -> None:
    write_for_hub(result(), tmp_path)
    entry, = parse_eval_result_entries(yaml.safe_load((tmp_path / RESULTS / "small.yaml").read_text(encoding="utf-8")))
    assert (entry.dataset_id, entry.task_id, entry.dataset_revision) == ("lab/nudity", "exposed", "5503434")
    assert entry.value == 25
    assert entry.date == "2025-01-15T10:30:00+00:00"
    assert entry.notes == "expunge 0.1, protocol small (version 3), n 40; 95% interval 10 to 50"
    card = yaml.safe_load((tmp_path / CARD).read_text(encoding="utf-8"))
    name, found = model_index_to_eval_results(card["model-index"])
    assert name == "model-aaaaaaaa"
    assert [(one.metric_type, one.metric_value, one.dataset_type) for one in found] == [("shown", 0.25, "small")]
    assert found[0].metric_args == {"n": 40, "low": 0.1, "high": 0.5}


def test_a_run_without_an_edit_says_what_the_original_does() -> None:
    alone = result(patch_hash="", scores=(result().scores[1],))
    assert eval_results(alone)[0]["value"] == 75
    metric, = card_metadata(alone, "m")["model-index"][0]["results"][0]["metrics"]
    assert (metric["type"], metric["value"], metric["args"]) == ("shown", 0.75, {"n": 40})


def test_a_task_without_a_number_is_left_out_and_told() -> None:
    scores = (*result().scores, Score(name="kappa", title="", value=None, note="nobody looked"))
    tasks = {"asr": "attacked", "shown": "exposed", "kappa": "agreed"}
    made = result(benchmark={**BENCHMARK, "tasks": tasks}, scores=scores)
    assert [entry["dataset"]["task_id"] for entry in eval_results(made)] == ["exposed"]
    words = "No result for the benchmark's attacked (there is no score asr), agreed (kappa was not measured)"
    assert words in told(made)
    assert words in markdown(made)
    assert not [line for line in told(result()) if "benchmark" in line]


@pytest.mark.parametrize("values", [{"benchmark": {}}, {"deviations": ("steps 2 in place of 50",)}])
def test_without_a_benchmark_or_with_a_deviation_there_is_no_entry(values: dict[str, Any], tmp_path: Path) -> None:
    write_for_hub(result(**values), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [CARD]


def test_of_a_stand_in_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stand-in"):
        write_for_hub(result(test_only=True), tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_task_is_of_a_score_of_the_protocol() -> None:
    assert Protocol.build(protocol(benchmark=BENCHMARK)).benchmark is not None
    with pytest.raises(ConfigError, match="scores that are not there: found"):
        Protocol.build(protocol(benchmark={**BENCHMARK, "tasks": {"found": "x"}}))
