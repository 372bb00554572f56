"""Items taken apart from evaluations and attacks add up to the scores that those have."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from colour_world import SMALL, colour_world, edit

from expunge.attacks.scores import suite_scores
from expunge.bench.items import attack_items, evaluation_items
from expunge.evaluation import evaluate
from expunge.records import AttackRun, Attempt, Prompt, Request, Sampler, SuiteResult
from expunge.records.bench import Items


def mean(items: Items) -> float:
    return float(np.mean([value for inner in items.values() for value in inner.values()]))


def count(items: Items) -> int:
    return sum(map(len, items.values()))


@pytest.mark.parametrize("margin", [0.0, 0.02])
def test_items_of_an_evaluation_add_up_to_its_scores(model: Any, margin: float) -> None:
    world, patch = colour_world(margin), edit(model, 0.5)
    found = evaluate(model, patch, settings=SMALL, world=world)
    items = evaluation_items(found, patch, world.prompts, SMALL)
    assert {"found/direct", "found/held_out", "retained/near", "integrity/near", "clip/keep"} <= items.keys()
    for name, values in items.items():
        score = found.score(name)
        assert score.value == pytest.approx(mean(values), abs=1e-6)
        assert score.n == count(values)
    abstained = sum(found.score("found/direct").left_out.values())
    assert count(items["found/direct"]) == 4 - abstained
    assert set(items["found/direct"]) <= {"a church", "church"}


def attempt(attack: str, text: str, outcome: str, fresh: int = 0) -> Attempt:
    return Attempt.model_validate({"attack": attack, "access": "image", "prompt": Prompt(text=text, role="direct"),
                                   "seed": 0, "outcome": outcome, "fresh": 2, "fresh_found": fresh})


def test_items_of_attacks_add_up_to_their_scores_and_failed_ones_count_neither_way() -> None:
    before = [attempt("none", text, outcome) for text, outcome in
              (("a", "found before"), ("b", "not elicited"), ("c", "not elicited"), ("d", "failed"),
               ("e", "not elicited"))]
    runs = [AttackRun(attack=name, access="image", white_box=False, attempts=tuple(attempt(name, *rest)
                                                                                  for rest in tries))
            for name, tries in (("one", [("b", "found", 1), ("c", "not elicited"), ("e", "failed")]),
                                ("two", [("c", "found", 0), ("e", "not elicited")]))]
    suite = SuiteResult(request=Request(concept="x", prompts=("x",)), model="m", model_hash="h", sampler=Sampler(),
                        judge="j", before=tuple(before), runs=tuple(runs))
    assert "attack/worst/second" not in attack_items([suite])
    assert "attack/worst/second" in attack_items([suite.model_copy(update={"second": "s"})])
    items, scores = attack_items([suite]), {score.name: score for score in suite_scores(before, runs)}
    for name in ("attack/worst", "attack/worst/fresh", "attack/before", "attack/one", "attack/two"):
        assert mean(items[name]) == pytest.approx(scores[name].value)
        assert count(items[name]) == scores[name].n
    assert items["attack/one/total"] == {"a": {"0": 1.0}, "b": {"0": 1.0}, "c": {"0": 0.0}}  # e failed, so did d
    assert items["attack/two/total"] == {"a": {"0": 1.0}, "c": {"0": 1.0}, "e": {"0": 0.0}}  # b was not given to it


def test_attacks_on_several_concepts_are_counted_together() -> None:
    def suite_of(concept: str, outcome: str) -> SuiteResult:
        item = attempt("none", f"a {concept}", outcome)
        return SuiteResult(request=Request(concept=concept, prompts=("x",)), model="m", model_hash="h",
                           sampler=Sampler(), judge="j", before=(item,), runs=())

    items = attack_items([suite_of("church", "found before"), suite_of("bomb", "not elicited")])
    assert items["attack/worst"] == {"a church": {"0": 1.0}, "a bomb": {"0": 0.0}}


PEAKS = """
import numpy as np
import torch
from expunge.bench.memory import PeakMemory
for count in (1000, 50_000_000, 1000):
    with PeakMemory(torch.device("cpu")) as peak:
        np.ones(count)
    print(peak.bytes)
"""


@pytest.mark.slow
def test_peak_memory_is_that_of_the_work_inside() -> None:
    """In a process of its own: another has freed memory that is still resident, and the work inside takes that."""
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    if "None" in done.stdout:
        pytest.skip("this system keeps no high-water mark that can be set back")
    small, large, after = map(int, done.stdout.split())
    assert large - small > 3.5e8
    assert large - after > 3.5e8
