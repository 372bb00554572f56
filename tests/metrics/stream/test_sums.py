"""Moments of features that are seen once: equal to those of all at once, in any cut, merged and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from expunge.errors import ExpungeError
from expunge.metrics.base import Moments
from expunge.metrics.distance import frechet_distance, gaussian
from expunge.metrics.stream.base import read_states, write_states
from expunge.metrics.stream.sums import FeatureSums


def features(seed: int, n: int = 300, width: int = 12) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=draw) @ torch.randn(width, width, generator=draw) + 100


def sums(rows: torch.Tensor, cut: int) -> FeatureSums:
    out = FeatureSums("f@0", rows.shape[1])
    for part in rows.split(cut):
        out.add(part)
    return out


@pytest.mark.parametrize("cut", [1, 7, 299, 300])
def test_moments_are_those_of_all_rows_at_once_in_any_cut(cut: int) -> None:
    x = features(0)
    got = sums(x, cut)
    assert got.n == 300
    torch.testing.assert_close(got.mean, x.double().mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(got.covariance, x.double().T.cov(), rtol=1e-11, atol=1e-10)


def test_fid_of_sums_is_fid_of_the_rows() -> None:
    x, y = features(0), features(1)
    whole = frechet_distance(gaussian(x), gaussian(y))
    assert frechet_distance(sums(x, 64).gaussian(), sums(y, 11).gaussian()) == pytest.approx(whole, rel=1e-10)


def test_shares_of_two_processes_are_merged_and_a_killed_run_goes_on(tmp_path: Path) -> None:
    x = features(0)
    first, second = sums(x[:100], 30), sums(x[100:], 30)
    write_states(tmp_path / "state.safetensors", {"mine": first.state})
    again = FeatureSums.from_state(read_states(tmp_path / "state.safetensors")["mine"])
    again.merge(second)
    torch.testing.assert_close(again.covariance, x.double().T.cov(), rtol=1e-11, atol=1e-10)
    with pytest.raises(ExpungeError, match="other@1"):
        again.merge(FeatureSums("other@1", 12))


def test_a_score_of_sums_is_fid_without_an_interval_and_says_why() -> None:
    x, y = features(0), features(1)
    real = Moments("f@0", y.double().mean(0), y.double().T.cov(), 300, y[:0], "drawings")
    score = sums(x, 40).score(real, subject="original")
    assert score.value == pytest.approx(frechet_distance(gaussian(x), gaussian(y)), rel=1e-10)
    assert (score.name, score.low, score.n) == ("original/fid/real", None, 300)
    assert "features were not kept" in score.note
    assert FeatureSums("f@0", 12).score(real).value is None
    with pytest.raises(ExpungeError, match="g@1"):
        FeatureSums("g@1", 12).score(real)


def test_rows_that_are_not_finite_are_counted_and_not_summed() -> None:
    x = features(0)
    x[3, 2] = torch.nan
    got = sums(x, 50)
    assert (got.n, got.left_out) == (299, {"not finite": 1})
    assert got.covariance.isfinite().all()
