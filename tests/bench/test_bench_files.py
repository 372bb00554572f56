"""The benches that come with the repository can be run as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

import expunge
from expunge.attacks.suite import planned
from expunge.bench.cells import planned_cells
from expunge.bench.settings import BenchSettings, read_bench
from expunge.metrics.worlds import world_of

FOLDER = Path(__file__).parents[2] / "benchmarks"


OTHER = {"sequence.yaml"}
"""Files in the folder that are no benches."""


@pytest.mark.parametrize("name", sorted({file.name for file in FOLDER.glob("*.yaml")} - OTHER))
def test_every_file_fits_the_schema_and_names_what_the_world_has(name: str) -> None:
    bench = read_bench(FOLDER / name)
    world = world_of("emoji", "embedded")
    for concept in bench.concepts:
        request = world.prompts.request(concept.concept, concept.anchor or "", concept.keep)
        attack = bench.attack_on(concept)
        assert attack is not None
        if world.prompts.question(request.concept) == "style":
            assert "implicit" not in [one.name for one in planned(attack)]


def test_the_table_of_methods_has_its_claims_in_it() -> None:
    bench = read_bench(FOLDER / "methods.yaml")
    assert len(bench.methods) >= 10
    assert {"church", "bomb", "pixel art"} < {concept.concept for concept in bench.concepts}  # the older bench's
    assert len(bench.concepts) == 10
    assert bench.attack is not None
    assert bench.attack.each
    pairs = {frozenset(pair) for pair in bench.pairs}
    for claim in (("advunlearn-fast", "esd-fast"), ("doco-fast", "ablation-fast"), ("integrity-fast", "esd-fast")):
        assert frozenset(claim) in pairs


def test_where_no_anchor_is_named_each_method_has_its_own_way(tmp_path: Path) -> None:
    model, world = expunge.load("embedded"), world_of("emoji", "embedded")
    told: dict[str, object] = {"methods": [{"method": "esd-fast"}, {"method": "uce"}],
                               "concepts": [{"concept": "church"}, {"concept": "bomb", "anchor": ""}], "seeds": [0]}
    cells = planned_cells(BenchSettings.model_validate(told), model, world.prompts, world.prompts, tmp_path)
    assert {(cell.method.title, cell.concept): cell.request.targets[0].anchor for cell in cells} == \
        {("esd-fast", "church"): "house", ("uce", "church"): "", ("esd-fast", "bomb"): "", ("uce", "bomb"): ""}
