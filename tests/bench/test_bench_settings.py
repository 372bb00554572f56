"""The file of a bench: one schema, every mistake at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from expunge.bench.settings import BenchSettings, read_bench
from expunge.errors import ConfigError

GOOD: dict[str, Any] = {"methods": [{"method": "esd-fast"}, {"method": "esd-fast", "label": "longer",
                                                            "settings": {"steps": 200}}],
                        "concepts": [{"concept": "church", "anchor": "house"},
                                     {"concept": ["bomb", "knife"], "anchor": ["apple", ""]}]}


def test_labels_and_pairs_follow_from_the_file() -> None:
    bench = BenchSettings.build(GOOD)
    assert [row.title for row in bench.methods] == ["esd-fast", "longer"]
    assert [column.title for column in bench.concepts] == ["church", "bomb, knife"]
    assert bench.seeds == (0, 1, 2)
    assert bench.pairs == (("longer", "esd-fast"),)
    assert BenchSettings.build({**GOOD, "compare": [["esd-fast", "longer"]]}).pairs == (("esd-fast", "longer"),)


def test_a_name_alone_is_a_row() -> None:
    bench = BenchSettings.build({"methods": ["esd-fast", {"method": "uce"}], "concepts": ["church"]})
    assert bench == BenchSettings.build({"methods": [{"method": "esd-fast"}, {"method": "uce"}],
                                         "concepts": [{"concept": "church"}]})
    with pytest.raises(ConfigError, match="unknown method 'esdd'"):
        BenchSettings.build({"methods": ["esdd"], "concepts": ["church"]})


def test_a_concept_can_go_without_an_attack() -> None:
    bench = BenchSettings.build({**GOOD, "concepts": [{"concept": "church"},
                                                      {"concept": "pixel art", "without": ["implicit"]}],
                                 "attack": {"options": {"implicit": {"prompts": 4}, "seed-search": {"tries": 2}}}})
    whole, part = (bench.attack_on(column) for column in bench.concepts)
    assert whole == bench.attack
    assert part is not None
    assert part.attacks == ("paraphrase", "seed-search", "noising", "unlearndiff")
    assert part.options == {"seed-search": {"tries": 2}}


def test_a_file_says_the_same_in_yaml_and_toml(tmp_path: Path) -> None:
    (tmp_path / "bench.yaml").write_text(yaml.safe_dump(GOOD))
    (tmp_path / "bench.toml").write_text(
        '[[methods]]\nmethod = "esd-fast"\n'
        '[[methods]]\nmethod = "esd-fast"\nlabel = "longer"\nsettings = {steps = 200}\n'
        '[[concepts]]\nconcept = "church"\nanchor = "house"\n'
        '[[concepts]]\nconcept = ["bomb", "knife"]\nanchor = ["apple", ""]\n')
    assert read_bench(tmp_path / "bench.yaml") == read_bench(tmp_path / "bench.toml") == BenchSettings.build(GOOD)
    assert read_bench(tmp_path / "bench.yaml", {"draws": 500}).draws == 500


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        BenchSettings.build({
            "methods": [{"method": "esd-fast", "settings": {"stps": 2, "learning_rate": -1}}, {"method": "esdd"},
                        {"label": "nameless"}],
            "concepts": [{"concept": "church", "anchor": "church"}, {"concept": "bomb", "anker": "apple"}],
            "seeds": [0, -1], "attack": {"options": {"p4d": {}}}, "evaluation": {"counts": {"directt": 3}}})
    told = str(caught.value)
    for words in ("did you mean 'steps'", "learning_rate: got -1", "unknown method 'esdd'",
                  "methods.2.method: not given", "'church' is its own anchor", "'concepts.1.anker'", "seeds.1: got -1",
                  "which will not be made", "did you mean 'evaluation.counts.direct'"):
        assert words in told


@pytest.mark.parametrize(("change", "match"), [
    ({"methods": []}, "at least one"), ({"concepts": []}, "at least one"), ({"seeds": []}, "at least one"),
    ({"seeds": [1, 1]}, "same seed twice: 1"),
    ({"methods": [{"method": "esd-fast"}, {"method": "esd", "label": "esd-fast"}]}, "two rows are called esd-fast"),
    ({"compare": [["esd-fast", "shorter"]]}, "compare names 'shorter'"),
    ({"concepts": [{"concept": ["church", "bomb"], "anchor": ["house"]}]}, "1 anchor for 2 concepts"),
    ({"concepts": [{"concept": "pixel art", "without": ["p4d"]}]}, "go without p4d"),
    ({"attack": {"attacks": ["implicit"]}, "concepts": [{"concept": "pixel art", "without": ["implicit"]}]}, "not all"),
    ({"draws": 3}, "draws: got 3"), ({"modell": "x"}, "did you mean 'model'"),
])
def test_what_does_not_fit_is_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        BenchSettings.build({**GOOD, **change})
