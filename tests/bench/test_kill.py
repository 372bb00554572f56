"""The lines at which a branch of counterfactual self-distillation is dropped, from numbers on either side of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from expunge.records import BenchResult, Pooled, Summary

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def kill() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(FOLDER), *sys.path])
        spec = importlib.util.spec_from_file_location("kill", FOLDER / "kill.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def bench(rows: dict[tuple[str, str], dict[str, float]]) -> BenchResult:
    """Summaries by method and concept; a share is of 16 items."""
    summaries = tuple(Summary(method=method, preset="p", concept=concept, edits=1, scores=tuple(
        Pooled(name=name, title=name, value=value, n=16, numerator=round(16 * value)) for name, value in its.items()))
        for (method, concept), its in rows.items())
    methods, concepts = (tuple(dict.fromkeys(key[place] for key in rows)) for place in (0, 1))
    return BenchResult.model_construct(methods=methods, concepts=concepts, summaries=summaries, edits=())


@pytest.mark.parametrize(("soft", "near", "goes_on"), [(0.25, 0.95, True), (0.5, 0.95, False), (0.25, 0.85, False)])
def test_the_half_space_needs_few_soft_prompts_at_high_integrity(kill: ModuleType, soft: float, near: float,
                                                                 goes_on: bool) -> None:
    line, = kill.first(bench({("a", "flat"): {"attack/soft-prompt": soft, "integrity/near": near}}))
    assert ("goes on with a" in line) == goes_on


@pytest.mark.parametrize(("far", "found", "stays"), [(0.9, 0.5, True), (0.72, 0.2, True), (0.72, 0.45, False)])
def test_a_start_stays_for_either_reason(kill: ModuleType, far: float, found: float, stays: bool) -> None:
    plain = {"integrity/far": 0.7, "found/all": 0.5}
    rows = {(f"{start}, {loss}", "flat"): plain if start == "no start" else {"integrity/far": far, "found/all": found}
            for loss in ("half-space", "regression") for start in ("start", "no start")}
    assert [line.endswith("stays") for line in kill.second(bench(rows))] == [stays, stays]


def test_the_bank_is_dropped_where_gradient_steps_do_better(kill: ModuleType) -> None:
    rows = {(name, "flat"): {"attack/soft-prompt": share} for name, share in
            (("bank", 0.5), ("steps", 0.25), ("none", 0.75))}
    better, worse = kill.third(bench(rows))
    assert better.endswith("the bank is dropped")
    assert "dropped" not in worse


def test_a_part_of_the_keep_stays_if_it_adds_enough(kill: ModuleType) -> None:
    near = {"whole": 0.9, "neither": 0.88, "constant rate": 0.86}
    lines = kill.fourth(bench({(name, "flat"): {"integrity/near": value} for name, value in near.items()}))
    assert [("dropped" in line, "stays" in line) for line in lines] == [(True, False), (False, True)]


def test_what_is_elicited_from_images_is_less_its_control(kill: ModuleType) -> None:
    made = lambda hits, control: {**{f"attack/{name}": hits for name in kill.IMAGES},
                                  **{f"attack/{name}/control": control for name in kill.IMAGES},
                                  "integrity/empty": 0.9, "integrity/far": 0.9}
    with_it, without = kill.fifth(bench({("empty 1", "flat"): made(0.5, 0.25), ("empty 0", "flat"): made(0.75, 0.25)}))
    assert "elicited 25% over the control (+25 points less" in with_it
    assert "elicited 50% over the control (+0 points less" in without
