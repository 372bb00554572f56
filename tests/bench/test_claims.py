"""The verdicts on published claims: what the intervals of their differences allow to be said."""

from __future__ import annotations

import importlib.util
import re
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest

from expunge.records import Difference

FILE = Path(__file__).parents[2] / "benchmarks" / "claims.py"


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    spec = importlib.util.spec_from_file_location("claims", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gap(value: float | None, low: float | None, high: float | None, prompts: int = 8) -> Difference:
    return Difference(score="found/all", title="found", method="a", other="b", value=value, low=low, high=high, n=24,
                      prompts=prompts)


@pytest.mark.parametrize(("difference", "wanted", "verdict"), [
    (gap(-0.2, -0.3, -0.1), -1, "**yes**"), (gap(-0.2, -0.3, -0.1), 1, "**no**"), (gap(0.2, 0.1, 0.3), -1, "**no**"),
    (gap(-0.2, -0.4, 0.0), -1, "cannot be told"), (gap(0.0, 0.0, 0.0), 1, "cannot be told"),
    (gap(-0.2, -0.3, -0.1, prompts=5), -1, "cannot be told"), (gap(-0.2, None, None), -1, "cannot be told"),
    (gap(None, None, None), -1, "cannot be told")])
def test_a_verdict_is_that_of_the_interval(claims: ModuleType, difference: Difference, wanted: int, verdict: str
                                           ) -> None:
    assert claims._told(difference, wanted).startswith(verdict)


SMALL, WIDE, WORSE = gap(0.0, -0.05, 0.05), gap(0.0, -0.3, 0.3), gap(0.2, 0.1, 0.3)
AHEAD, BEHIND, ALIKE = gap(0.2, 0.1, 0.3), gap(-0.2, -0.3, -0.1), gap(0.1, -0.1, 0.3)


@pytest.mark.parametrize(("integrity", "one", "two"), [*product((AHEAD, BEHIND, ALIKE), (SMALL, WIDE, WORSE),
                                                                (SMALL, WIDE, WORSE))])
def test_ahead_at_equal_erasure_needs_erasure_that_is_shown_to_be_equal(
        claims: ModuleType, integrity: Difference, one: Difference, two: Difference) -> None:
    said = claims.ahead(integrity, [one, two])
    if integrity is not AHEAD:
        assert said.startswith("**no**" if integrity is BEHIND else "cannot be told")
    elif WORSE in (one, two):
        assert said.startswith("ahead, but erasure is not equal")
    else:
        assert said.startswith("**yes**" if one is two is SMALL else "ahead; whether erasure is equal cannot be told")


@pytest.mark.slow
def test_what_fid_does_not_see_stands_beside_what_integrity_does_not_see(claims: ModuleType) -> None:
    bench = claims.Bench(FILE.parent / "records" / "methods.json.xz")
    told = dict(claims.integrity(bench))["FID and CLIP score hardly see what integrity sees"]
    assert re.match(r"in \d+ of \d+ pairs of methods: .* the other way round in \d+\. Of \d+ pairs", told)
    assert "yes" not in told
