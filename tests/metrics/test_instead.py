"""What is drawn instead is told of each concept, beyond what the original draws, and as missing where it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.metrics.base import Aim
from expunge.metrics.instead import FEWEST, Side, instead_scores
from expunge.metrics.integrity import ImageSet
from expunge.metrics.realism import Reference, ordinary_pictures, saturated, smeared
from expunge.records import Detection, ImageRecord, Prompt, Role, Sampler, Score

AIMS = (Aim("church", "object"), Aim("bomb", "object"))
Change = Callable[[Tensor], Tensor]


class Coarse:
    """Features: the image in 4 x 4 patches."""

    name, width = "coarse@1", 48

    def __call__(self, pictures: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(pictures, 4).flatten(1)


def drawn(count: int, size: int = 64, cells: int = 16, seed: int = 0) -> Tensor:
    """Images of coloured cells; the fewer, the softer."""
    draw = torch.Generator().manual_seed(seed)
    return F.interpolate(0.1 + 0.8 * torch.rand(count, 3, cells, cells, generator=draw), (size, size), mode="bilinear")


def side(pictures: Tensor, keep: int, answer: str) -> Side:
    """`keep` pictures of a house, the others of church and bomb in turn, of which the judge says `answer`."""
    roles: list[tuple[Role, str]] = [("near", "house")] * keep
    roles += [("direct", ("church", "bomb")[i % 2]) for i in range(len(pictures) - keep)]
    shots = [ImageRecord(prompt=Prompt(text=f"{thing} {i}", role=role, labels={"object": thing}), seed=0,
                         sampler=Sampler(), model="m", pixels=f"{answer}{i}") for i, (role, thing) in enumerate(roles)]
    said = [Detection(shot=shot.key, detector="d", answers={"object": thing if shot.prompt.role == "near" else
                                                           answer or thing})
            for shot, (_, thing) in zip(shots, roles, strict=True)]
    return Side(ImageSet(shots, pictures), [said])


def told(change: Change, keep: int = 30, forget: int = 40, answer: str = "something else", **how: int
         ) -> dict[str, Score]:
    """Scores of a model that makes `change` of the original's images."""
    before = drawn(keep + forget, **how)
    scores = instead_scores(side(before, keep, ""), side(change(before.clone()), keep, answer), AIMS, {}, Coarse())
    assert len({score.name for score in scores}) == len(scores)
    return {score.name: score for score in scores}


def same(pictures: Tensor) -> Tensor:
    return pictures


def test_each_concept_has_its_own_shares_and_none_hides_in_the_pool() -> None:
    def darker_bombs(pictures: Tensor) -> Tensor:
        pictures[30::2] = drawn(20, cells=7, seed=1)  # churches: other images
        pictures[31::2] *= 0.7  # bombs: the same edges
        return pictures

    scores = told(darker_bombs)
    assert (scores["instead/shape/bomb"].numerator, scores["instead/shape/bomb"].n) == (20, 20)
    assert scores["instead/shape/church"].numerator == 0
    assert scores["instead/shape"].value == 0.5
    assert (scores["something_else/all/church"].numerator, scores["something_else/all/church"].n) == (20, 20)
    assert "(bomb)" in scores["instead/shape/bomb"].title


def test_the_bombs_without_a_picture_in_their_place_are_told_as_theirs() -> None:
    def black_bombs(pictures: Tensor) -> Tensor:
        pictures[31::2] = 0
        return pictures

    scores = told(black_bombs)
    assert scores["instead/nothing/bomb"].value == 1.0
    assert scores["change/instead/nothing/bomb"].value == pytest.approx(1.0)
    assert scores["change/instead/nothing/church"].value == 0.0


def test_an_untouched_model_of_soft_pictures_draws_pictures() -> None:
    assert smeared(drawn(10, size=256, cells=3)).all()
    scores = told(same, size=256, cells=3)
    assert scores["damaged/keep"].value == scores["original/damaged/keep"].value
    assert (scores["change/damaged/keep"].value, scores["change/damaged/keep"].n) == (0.0, 30)
    assert (scores["damaged/keep"].value or 0) < 0.1


def test_soft_pictures_that_were_smeared_further_are_smears() -> None:
    soft, half = drawn(30, cells=4), Coarse()
    smear = F.interpolate(F.avg_pool2d(soft, 32), scale_factor=32, mode="bilinear")
    everywhere = Reference.of(half(torch.cat([soft, smear])), k=1, quantile=1.0)
    assert ordinary_pictures(everywhere, soft, half(soft), soft).all()
    assert not ordinary_pictures(everywhere, smear, half(smear), soft)[smeared(smear)].any()


def test_posters_of_full_colour_are_no_fault_where_the_original_draws_them() -> None:
    posters = (drawn(30, cells=4) > 0.5).float()
    posters = posters[saturated(posters)]
    assert len(posters) > 5
    everywhere = Reference.of(Coarse()(posters), k=1, quantile=1.0)
    assert ordinary_pictures(everywhere, posters, Coarse()(posters), posters).all()
    assert not ordinary_pictures(everywhere, posters, Coarse()(posters), drawn(len(posters))).any()


def test_ruined_pictures_of_other_things_are_damage_beyond_the_originals() -> None:
    def black(pictures: Tensor) -> Tensor:
        return torch.zeros_like(pictures)

    scores = told(black)
    assert scores["damaged/keep"].value == 1.0
    assert (scores["change/damaged/keep"].low or 0) > 0.5


def test_pictures_on_which_the_judge_failed_are_left_out_of_every_share() -> None:
    before = drawn(70)
    original, edited = side(before, 30, ""), side(before.flip(2), 30, "something else")
    said = [one.model_copy(update={"answers": {}, "error": "no room"}) if 30 <= i < 38 else one
            for i, one in enumerate(edited.said[0])]
    scores = {score.name: score for score in
              instead_scores(original, Side(edited.drawn, [said]), AIMS, {}, Coarse())}
    shares = [score for name, score in scores.items() if name.startswith("instead/") and name.count("/") == 1]
    assert {(score.n, score.left_out.get("detector failed")) for score in shares} == {(32, 8)}
    assert sum(score.numerator or 0 for score in shares) == 32
    assert (scores["something_else/all"].n, scores["something_else/all"].left_out) == (32, {"detector failed": 8})
    assert scores["change/instead/nothing"].left_out == {"detector failed on one side": 8}
    assert (scores["damaged/keep"].n, scores["damaged/keep"].left_out) == (30, {})
    blind = [one.model_copy(update={"answers": {}, "error": "no room"}) for one in edited.said[0]]
    none = {score.name: score for score in instead_scores(original, Side(edited.drawn, [blind]), AIMS, {}, Coarse())}
    assert (none["instead/ordinary"].value, none["instead/ordinary"].n) == (None, 0)
    assert none["instead/ordinary"].note == "not measured: no image could be judged"
    assert none["change/instead/nothing"].note == "not measured: no pair of images could be judged"


def test_what_needs_no_features_is_told_with_few_pictures_of_other_things() -> None:
    scores = told(same, keep=FEWEST - 1)
    assert (scores["something_else/all"].value, scores["something_else/all/bomb"].n) == (1.0, 20)
    for name in ("instead/nothing", "instead/shape/church", "damaged/keep"):
        assert scores[name].value is None
        assert f"{FEWEST} are needed" in scores[name].note
