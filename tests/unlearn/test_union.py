"""Points of several sources: their shares, their order, and their places in the joined pool."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from expunge.errors import ConfigError
from expunge.records import Request
from expunge.unlearn.context import Kept, TrainContext
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.source import EditedTrajectory, FrozenTrajectory
from expunge.unlearn.union import Union, split

REQUEST = Request(concept="church", prompts=("a church on a hill", "a picture of a church"), anchor="house")
KEPT = Union(sources=(FrozenTrajectory(grid=3, trajectories=4), FrozenTrajectory(grid=3, trajectories=2, of="anchor"),
                      NoisedPictures(pictures=2, grid=2, points=4)), shares=(2.0, 1.0, 1.0))


def test_what_is_kept_is_what_is_told_to_be_kept(model: Any) -> None:
    """Tensors of the pools, and a target for each point; the images themselves are counted though they go here."""
    latent, row = 4 * model.initial_noise([0]).numel(), sum(t.nbytes for t in model.encode([""]).rows.values())
    found = Kept()
    for source in KEPT.sources:
        pool = opened(model, source).pool
        points = getattr(pool, "points", pool)
        held = [points.x_t, getattr(points, "said", None), getattr(points, "x0", None), getattr(points, "eps", None)]
        latents = sum(tensor.nbytes for tensor in held if tensor is not None) // latent + len(pool)
        found += Kept(latents, sum(tensor.nbytes for tensor in points.cond.rows.values()) // row)
    images, told_anchors = Kept(2, 2), Kept(0, 2)
    assert KEPT.kept == found + images + told_anchors


def opened(model: Any, source: Any, batch: int = 8) -> Any:
    return source.open(TrainContext(model, model, REQUEST, 0), REQUEST.prompts, batch, "erase")


@pytest.mark.parametrize(("batch", "shares", "counts"), [
    (8, (2.0, 1.0, 1.0), [4, 2, 2]), (10, (2.0, 1.0, 1.0), [5, 3, 2]), (1, (1.0, 1.0), [1, 0]), (7, (1.0,), [7])])
def test_a_batch_is_split_by_shares_and_adds_up(batch: int, shares: tuple[float, ...], counts: list[int]) -> None:
    assert split(batch, shares) == counts


def test_every_entry_of_the_joined_pool_is_the_point_that_was_drawn(model: Any) -> None:
    stream = opened(model, KEPT)
    assert len(stream.pool) == 12 + 6 + 8
    for points in (stream.draw(3), stream.draw_extra(3, 1, ("a picture of a church", "a church on a hill") * 3)):
        again = stream.pool.take(points.rows)
        assert torch.equal(again.x_t, points.x_t)
        assert torch.equal(again.t, points.t)
        assert again.prompts == points.prompts
    assert stream.draw_extra(3, 1, ("a picture of a church",) * 5).prompts == ("a picture of a church",) * 5


def test_rows_in_any_order_give_the_entries_in_that_order(model: Any) -> None:
    pool = opened(model, KEPT).pool
    rows = torch.tensor([25, 0, 13, 12, 3, 19])
    points = pool.take(rows)
    for place, row in enumerate(rows):
        alone = pool.take(row[None])
        assert torch.equal(points.x_t[place], alone.x_t[0])
        assert points.prompts[place] == alone.prompts[0]


def test_the_student_is_told_the_concept_at_the_anchors_trajectory(model: Any) -> None:
    stream = opened(model, FrozenTrajectory(grid=3, trajectories=2, of="anchor"))
    points = stream.draw(0)
    assert set(points.prompts) <= set(REQUEST.prompts)
    assert all("house" in shown for shown in points.shown)
    asked = opened(model, FrozenTrajectory(grid=3, trajectories=2))
    assert torch.equal(stream.pool.x_t[:, 0], asked.pool.x_t[:, 0])  # the same noise
    assert not torch.equal(stream.pool.x_t[:, 2], asked.pool.x_t[:, 2])


def test_without_a_pool_in_one_source_there_is_none(model: Any) -> None:
    mixed = Union(sources=(FrozenTrajectory(grid=3, trajectories=2), EditedTrajectory(grid=3)))
    stream = opened(model, mixed, 4)
    assert stream.pool is None
    points = stream.draw(0)
    assert points.rows is None
    assert len(points.t) == len(points.prompts) == 4


def test_draws_belong_to_their_step(model: Any) -> None:
    stream = opened(model, KEPT)
    assert torch.equal(stream.draw(5).x_t, stream.draw(5).x_t)
    assert not torch.equal(stream.draw(5).x_t, stream.draw(6).x_t)


def test_shares_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 shares for 1 sources"):
        Union.build({"sources": [{"kind": "frozen"}], "shares": [1, 2]})


def test_a_prompt_is_drawn_by_a_source_that_has_it(model: Any) -> None:
    """A source with fewer places than prompts does not have all of them."""
    few = Union(sources=(FrozenTrajectory(grid=3, trajectories=2), FrozenTrajectory(grid=3, trajectories=1)))
    prompts = REQUEST.prompts * 4
    assert opened(model, few).draw_extra(0, 0, prompts).prompts == prompts
