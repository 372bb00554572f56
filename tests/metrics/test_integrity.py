"""Integrity: 1 for equal images, 0 for another seed; pairs go by (prompt, seed)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from expunge.errors import ExpungeError, UserError
from expunge.metrics.integrity import (
    Bounds,
    ImageSet,
    bound_scores,
    distances,
    integrity_scores,
    seed_distances,
    similarity_score,
)
from expunge.metrics.perceptual import Lpips, Ssim
from expunge.records import ImageRecord, Prompt, Role, Sampler


class Plain:
    """Mean squared difference."""

    name = "mse@0"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().flatten(1).mean(1)


def drawn(prompts: int, seeds: int, noise: int, role: Role = "far", model: str = "m", patch: str = "") -> ImageSet:
    shots = [ImageRecord(prompt=Prompt(text=f"p{i}", role=role), seed=s, sampler=Sampler(), model=model, patch=patch)
             for i in range(prompts) for s in range(seeds)]
    return ImageSet(shots, torch.rand(len(shots), 3, 16, 16, generator=torch.Generator().manual_seed(noise)))


def test_equal_pictures_have_integrity_one() -> None:
    a = drawn(8, 3, 0)
    bounds = Bounds(0.0, 4, seed_distances(a, Plain()))
    raw, top, j, _ = integrity_scores(a, a, Plain(), bounds, "far")
    assert (raw.value, j.value, j.low, j.high) == (0.0, 1.0, 1.0, 1.0)
    assert top.value == pytest.approx(1 / 6, rel=0.05)  # two uniform variables
    assert (raw.n, top.n, j.n) == (24, 24, 24)
    assert similarity_score(a, a, Ssim(), "far").value == pytest.approx(1.0, abs=1e-6)


def test_pictures_as_different_as_a_new_seed_have_integrity_nought() -> None:
    a, b = drawn(12, 3, 0), drawn(12, 3, 1, patch="x")
    _, _, j, _ = integrity_scores(b, a, Plain(), Bounds(0.0, 0, seed_distances(a, Plain())), "near")
    assert j.value == pytest.approx(0, abs=0.05)
    assert j.low is not None
    assert j.high is not None
    assert j.low < 0 < j.high
    assert (j.name, j.higher_is_better) == ("integrity/near", True)


def test_the_formula_with_a_floor() -> None:
    a, b = drawn(4, 2, 0), drawn(4, 2, 1)
    mixed = ImageSet(a.shots, 0.9 * a.pictures + 0.1 * b.pictures)
    ceiling = seed_distances(a, Plain())
    raw, top, j, _ = integrity_scores(mixed, a, Plain(), Bounds(0.001, 4, ceiling), "far")
    assert raw.value is not None
    assert top.value is not None
    assert j.value == pytest.approx(1 - (raw.value - 0.001) / (top.value - 0.001))


def test_order_does_not_matter_and_a_missing_partner_is_an_error() -> None:
    a, b = drawn(3, 2, 0), drawn(3, 2, 1)
    turned = ImageSet(list(reversed(b.shots)), b.pictures.flip(0))
    assert distances(a, b, Plain()) == distances(a, turned, Plain())
    with pytest.raises(ExpungeError, match="no partner"):
        distances(a, ImageSet(b.shots[1:], b.pictures[1:]), Plain())


def test_the_ceiling_never_leaves_a_prompt() -> None:
    a = drawn(3, 2, 0)
    one = seed_distances(a, Plain())
    assert {key: len(values) for key, values in one.items()} == {"p0": 1, "p1": 1, "p2": 1}
    assert one["p1"][0] == pytest.approx(float(Plain()(a.pictures[2:3], a.pictures[3:4])))
    assert seed_distances(drawn(3, 1, 0), Plain()) == {}


def test_without_a_ceiling_there_is_no_integrity() -> None:
    a = drawn(3, 1, 0)
    raw, top, j, _ = integrity_scores(a, a, Plain(), Bounds(0.0, 0, {}), "far")
    assert (raw.value, top.value, j.value) == (0.0, None, None)
    assert "two seeds" in j.note
    b = drawn(3, 2, 0)
    stuck = Bounds(0.5, 4, seed_distances(b, Plain()))
    assert "numerical noise" in integrity_scores(b, b, Plain(), stuck, "far")[2].note
    assert [score.value for score in bound_scores(Bounds(0.0, 0, {}), Plain())] == [None, None]


def test_ssim_is_torchmetrics_and_refuses_tiny_pictures() -> None:
    a, b = drawn(3, 1, 0).pictures, drawn(3, 1, 1).pictures
    one_by_one = [1 - float(structural_similarity_index_measure(a[i:i + 1], b[i:i + 1], data_range=1.0))
                  for i in range(3)]
    assert Ssim()(a, b).tolist() == pytest.approx(one_by_one, abs=1e-5)
    assert Ssim()(a[:1], b[:1]).shape == (1,)
    with pytest.raises(UserError, match="11x11"):
        Ssim()(a[..., :8, :8], b[..., :8, :8])


def test_lpips_without_torchvision_says_what_to_do() -> None:
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        with pytest.raises(UserError, match=r"pip install 'expunge\[lpips\]'"):
            Lpips()
    else:
        pytest.skip("torchvision is installed")


def test_integrity_counts_the_prompts_that_it_rests_on() -> None:
    """Forty prompts of one seed are ruined; the one with three is whole. J can speak of that one alone, and says so."""
    a, three = drawn(40, 1, 0), drawn(1, 3, 2)
    shots = [*a.shots, *(shot.model_copy(update={"prompt": Prompt(text="whole", role="far")}) for shot in three.shots)]
    before = ImageSet(shots, torch.cat([a.pictures, three.pictures]))
    after = ImageSet(shots, torch.cat([drawn(40, 1, 1).pictures, three.pictures]))
    raw, top, *rest = integrity_scores(after, before, Plain(), Bounds(0.0, 4, seed_distances(before, Plain())), "far")
    assert (raw.n, raw.prompts, top.n, top.prompts) == (43, 41, 3, 1)
    for score in rest:
        assert (score.value, score.n, score.prompts) == (1.0, 3, 1)
        assert score.note == ("one prompt: no interval over prompts; 40 of 41 prompts left out: one seed, "
                              "so no ceiling")


def test_without_an_interval_integrity_says_why_and_the_middle_prompt_says_what_it_rests_on() -> None:
    """Another seed changes six of eight prompts no more than the floor: some draws hold no ceiling at all."""
    before, after = drawn(8, 2, 0), drawn(8, 2, 1)
    ceiling = {f"p{i}": [0.1 if i else 0.3] for i in range(8)}
    _, _, j, middle = integrity_scores(after, before, Plain(), Bounds(0.1, 4, ceiling), "far")
    assert j.value is not None
    assert (j.low, j.high) == (None, None)
    assert j.note == "no interval: another seed changes many prompts no more than numerical noise does"
    assert (middle.n, middle.prompts) == (2, 1)
    assert middle.left_out == {"another seed changes them no more than noise": 14}


def test_intervals_of_strata_hold_at_once_and_never_exceed_one() -> None:
    before, after = drawn(12, 2, 0), drawn(12, 2, 1)
    mixed = ImageSet(after.shots, 0.9 * before.pictures + 0.1 * after.pictures)
    bounds = Bounds(0.0, 4, seed_distances(before, Plain()))
    one, five = (integrity_scores(mixed, before, Plain(), bounds, "far@short", strata=strata)[2] for strata in (1, 5))
    assert one.value == five.value
    assert five.low < one.low < one.value < one.high < five.high <= 1.0  # type: ignore[operator]
    assert five.interval.endswith("for all 5 strata at once")
    assert "at once" not in one.interval
