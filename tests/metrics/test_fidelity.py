"""FID and KID scores: two names that never mix, nought for equal images, honest about small sets."""

from __future__ import annotations

import pytest
import torch

from expunge.errors import ExpungeError
from expunge.metrics.base import Moments
from expunge.metrics.fidelity import scores_against_original, scores_against_real
from expunge.records import ImageRecord, Prompt, Sampler

SHOTS = [ImageRecord(prompt=Prompt(text=f"p{i}", role="far"), seed=s, sampler=Sampler(), model="m")
         for i in range(10) for s in range(4)]


def features(seed: int, n: int = 40, width: int = 8) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def real(seed: int, name: str = "f@0") -> Moments:
    x = features(seed, 500).double()
    return Moments(name, x.mean(0), x.T.cov(), 500, x[:100].float(), "drawings")


def test_equal_pictures_are_at_nought() -> None:
    x = features(0)
    fid, kid = scores_against_original(SHOTS, x, x, "f@0")
    assert (fid.name, kid.name) == ("fid/original", "kid/original")
    assert fid.value == pytest.approx(0, abs=1e-9)
    assert kid.value == 0.0
    assert fid.subject == "comparison"
    assert "f@0" in fid.denominator


def test_a_shift_is_found_and_lies_in_its_interval() -> None:
    x = features(0)
    for score in scores_against_original(SHOTS, x + 1.0, x, "f@0"):
        assert score.value is not None
        assert score.low is not None
        assert score.high is not None
        assert 0 < score.low <= score.value <= score.high
        assert score.n == 40
        assert score.seeds == (0, 1, 2, 3)


def test_real_and_original_are_different_names_and_extractors_must_match() -> None:
    x = features(0)
    names = [score.name for score in scores_against_real(SHOTS, x, real(1), "f@0")]
    assert names == ["fid/real", "kid/real"]
    names = [score.name for score in scores_against_real(SHOTS, x, real(1), "f@0", subject="original")]
    assert names == ["original/fid/real", "original/kid/real"]
    with pytest.raises(ExpungeError, match="other@1"):
        scores_against_real(SHOTS, x, real(1, "other@1"), "f@0")


def test_the_same_law_gives_a_small_kid_and_the_interval_holds_nought() -> None:
    _, kid = scores_against_real(SHOTS, features(0), real(1), "f@0", draws=200)
    assert kid.low is not None
    assert kid.high is not None
    assert kid.low < 0 < kid.high


def test_few_pictures_are_said_to_be_few() -> None:
    fid, _ = scores_against_original(SHOTS, features(0, width=64), features(1, width=64), "f@0", draws=10)
    assert "singular" in fid.note
    for score in scores_against_original(SHOTS[:1], features(0, 1), features(1, 1), "f@0"):
        assert score.value is None
        assert "fewer than two" in score.note
    one_prompt, _ = scores_against_original(SHOTS[:4], features(0, 4), features(1, 4), "f@0")
    assert one_prompt.value is not None
    assert one_prompt.low is None
