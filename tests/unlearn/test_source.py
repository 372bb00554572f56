"""Points of training lie on the teacher's own trajectories, at exactly the times they claim."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from expunge.errors import ConfigError, UserError
from expunge.models.denoising import denoise
from expunge.records import Request, Target
from expunge.train import step_generator
from expunge.unlearn.anchor import anchor_predictor
from expunge.unlearn.context import TrainContext, spread
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import EditedTrajectory, FreshDraws, FrozenTrajectory, PoolDraws
from expunge.unlearn.union import Union

REQUEST = Request(concept="church", prompts=("a church on a hill", "a picture of a church"))
GRID = 5


def context(model: Any, seed: int = 0, chunk: int = 4) -> TrainContext:
    return TrainContext(model, model.frozen_copy(), REQUEST, seed, chunk=chunk)


def half_way(model: Any, prompt: str, noise_seed: int, k: int, guidance: float = 3.0) -> torch.Tensor:
    """An independent half-way sample: the model's own sampler, one trajectory alone, stopped at k."""
    with torch.no_grad():
        cond, null = model.encode([prompt]), model.encode([""])
    return denoise(model, model.initial_noise([noise_seed]), cond, null, GRID, guidance, stop=k)


def noise_seed(seed: int, name: str, number: int, item: int) -> int:
    return step_generator(seed, number, f"{name}/noise/{item}").initial_seed()


@pytest.mark.parametrize("kind", ["epsilon", "v"])
def test_pool_entry_is_the_teachers_sample_at_exactly_its_time(kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue("model" if kind == "epsilon" else "v_model")
    stream = FrozenTrajectory(grid=GRID, trajectories=3).open(context(model), REQUEST.prompts, 2, "erase")
    assert isinstance(stream, PoolDraws)
    grid = model.process.schedule.grid(GRID)
    everything = stream.pool.take(torch.arange(len(stream.pool)))
    assert len(stream.pool) == 3 * GRID
    for i in range(3):
        for k in range(GRID):
            row = i * GRID + k
            assert int(everything.t[row]) == int(grid[k])
            assert everything.prompts[row] == REQUEST.prompts[i * 2 // 3]
            wanted = half_way(model, everything.prompts[row], noise_seed(0, "erase", 0, i), k)
            torch.testing.assert_close(everything.x_t[row:row + 1], wanted, rtol=1e-4, atol=1e-4)


def test_of_a_part_of_the_grid_the_first_points_are_drawn(model: Any) -> None:
    whole, part = (FrozenTrajectory(grid=GRID, trajectories=3, part=share).open(context(model), REQUEST.prompts, 2, "e")
                   for share in (1.0, 0.5))
    points = round(0.5 * GRID)
    assert part.pool.x_t.shape[1] == points == FrozenTrajectory(grid=GRID, part=0.5).points < GRID
    assert torch.equal(part.pool.x_t, whole.pool.x_t[:, :points])
    assert torch.equal(part.pool.t, whole.pool.t[:points])


def test_a_noisy_samplers_points_by_the_papers_formula(model: Any) -> None:
    """DDIM's eq. 12 and 16 with eta 1, from point to point, in alpha bars."""
    source = FrozenTrajectory(grid=GRID, trajectories=2, guidance=3.0, eta=1.0)
    pool = source.open(context(model), REQUEST.prompts, 2, "erase").pool
    s, _ = model.process.schedule.grid_levels(GRID)
    with torch.no_grad():
        for k in range(GRID - 1):
            now, then, x = s[k] ** 2, s[k + 1] ** 2, pool.x_t[:, k]
            nothing, told = (model.predict(x, pool.t[k].expand(2), model.encode(texts))
                             for texts in (["", ""], pool.prompts))
            eps = nothing + 3.0 * (told - nothing)
            z = torch.cat([model.initial_noise([noise_seed(0, "erase/eta", k, i)]) for i in range(2)])
            sigma = ((1 - then) / (1 - now) * (1 - now / then)).sqrt()
            clean = (x - (1 - now).sqrt() * eps) / now.sqrt()
            wanted = then.sqrt() * clean + (1 - then - sigma ** 2).sqrt() * eps + sigma * z
            torch.testing.assert_close(pool.x_t[:, k + 1], wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("settings", [{"part": 0.5}, {"eta": 1.0}, {"of": "anchor"}])
def test_what_only_a_pool_has_is_refused_of_fresh_trajectories(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="leave fresh out"):
        FrozenTrajectory.build({"fresh": True, **settings})


@pytest.mark.parametrize("settings", [{}, {"part": 0.6}, {"eta": 1.0}, {"of": "anchor"}, {"guidance": 1.0}])
def test_what_the_teacher_said_on_the_way_is_kept(model: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
                                                  ) -> None:
    """It is what it says when it is asked again; nobody asks it again."""
    request = REQUEST.model_copy(update={"anchor": "house"})
    at = TrainContext(model, model.frozen_copy(), request, 0, chunk=4)
    source = FrozenTrajectory.build({"grid": GRID, "trajectories": 3, **settings})
    points = source.open(at, REQUEST.prompts, 6, "erase").draw(0)
    under = points.shown or points.prompts
    with torch.no_grad():
        again = model.predict(points.x_t, points.t, model.encode(under))
    torch.testing.assert_close(points.said, again, rtol=1e-4, atol=1e-4)
    anchored = anchor_predictor(at, "frozen")
    monkeypatch.setattr(type(at.teacher), "predict", lambda *given: pytest.fail("the teacher was asked"))
    assert torch.equal(anchored(points) if points.shown else at.told(points), points.said)


def test_pool_does_not_depend_on_the_chunk_beyond_rounding(model: Any) -> None:
    source = FrozenTrajectory(grid=GRID, trajectories=4)
    small, large = (source.open(context(model, chunk=chunk), REQUEST.prompts, 2, "e") for chunk in (1, 16))
    torch.testing.assert_close(small.pool.x_t, large.pool.x_t, rtol=1e-4, atol=1e-4)


def test_draws_belong_to_their_number_and_seed(model: Any) -> None:
    at = context(model)
    stream = FrozenTrajectory(grid=GRID, trajectories=3).open(at, REQUEST.prompts, 6, "erase")
    assert torch.equal(stream.draw(7).rows, stream.draw(7).rows)
    assert not torch.equal(stream.draw(7).rows, stream.draw(8).rows)
    other = FrozenTrajectory(grid=GRID, trajectories=3).open(at, REQUEST.prompts, 6, "keep")
    assert not torch.equal(stream.pool.x_t, other.pool.x_t)


def test_draws_cover_the_whole_pool(model: Any) -> None:
    stream = FrozenTrajectory(grid=GRID, trajectories=2).open(context(model), REQUEST.prompts, 8, "erase")
    seen = torch.cat([stream.draw(number).rows for number in range(30)]).unique()
    assert len(seen) == len(stream.pool)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_fresh_points_are_the_teachers_samples_too(model: Any, guidance: float) -> None:
    source = FrozenTrajectory(grid=GRID, fresh=True, guidance=guidance)
    stream = source.open(context(model), REQUEST.prompts, 6, "erase")
    assert isinstance(stream, FreshDraws)
    points = stream.draw(3)
    grid = model.process.schedule.grid(GRID).tolist()
    stops = [grid.index(int(t)) for t in points.t]
    assert len(set(stops)) > 1
    for i, k in enumerate(stops):
        wanted = half_way(model, points.prompts[i], noise_seed(0, "erase", 3, i), k, guidance)
        torch.testing.assert_close(points.x_t[i:i + 1], wanted, rtol=1e-4, atol=1e-4)


def test_edited_points_follow_the_edit_and_frozen_points_do_not(model: Any) -> None:
    at = context(model)
    edited = EditedTrajectory(grid=GRID).open(at, REQUEST.prompts, 6, "erase")
    frozen = FrozenTrajectory(grid=GRID, fresh=True).open(at, REQUEST.prompts, 6, "erase")
    torch.testing.assert_close(edited.draw(0).x_t, frozen.draw(0).x_t)
    with torch.no_grad():
        for parameter in model.parameters_in("unet").values():
            parameter.mul_(1.1)
    assert not torch.allclose(edited.draw(0).x_t, frozen.draw(0).x_t, atol=1e-3)


def test_a_pool_is_drawn_once_and_fresh_points_in_every_step(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at, samples = context(model), []
    predict = at.teacher.predict
    monkeypatch.setattr(at.teacher, "predict", lambda x, t, c: samples.append(len(x)) or predict(x, t, c))
    pooled = FrozenTrajectory(grid=GRID, trajectories=3)
    pooled.open(at, REQUEST.prompts, 2, "erase")
    assert sum(samples) == 3 * (2 * (GRID - 1) + 1)  # guided, but at the last point
    samples.clear()
    fresh = FrozenTrajectory(grid=GRID, fresh=True)
    stream = fresh.open(at, REQUEST.prompts, 8, "erase")
    for number in range(12):
        stream.draw(number)
    assert sum(samples) == pytest.approx(2 * 96 * (GRID - 1) / 2, rel=0.25)


def test_spread_is_even_and_leaves_no_target_out() -> None:
    assert spread(("a", "b"), 5) == ("a", "a", "a", "b", "b")
    assert spread([str(i) for i in range(10)], 4) == ("0", "2", "5", "7")
    for count in (2, 3, 4):
        targets = [Target(concept=f"c{i}", prompts=tuple(f"{i}/{k}" for k in range(24))) for i in range(count)]
        request = Request(concept="c0", prompts=targets[0].prompts, also=tuple(targets[1:]))
        for places in (count, 24, 25, 48):
            drawn = Counter(prompt[0] for prompt in spread(request.all_prompts, places))
            assert len(drawn) == count
            assert max(drawn.values()) - min(drawn.values()) <= 1


def test_a_pool_with_fewer_places_than_concepts_or_prompts_to_keep_is_refused(model: Any) -> None:
    also = tuple(Target(concept=name, prompts=(f"a {name}",)) for name in ("dog", "house"))
    recipe = Recipe(source=FrozenTrajectory(grid=GRID, trajectories=2), steps=1)
    with pytest.raises(UserError, match=r"a pool of 2 for 3 concepts.*source.trajectories"):
        recipe.check(model, REQUEST.model_copy(update={"also": also, "keep": ()}))
    both = Union(sources=(FrozenTrajectory(grid=GRID, trajectories=2), FrozenTrajectory(grid=GRID, trajectories=9)))
    with pytest.raises(UserError, match=r"a pool of 2 for 3 concepts.*raise source.sources"):
        recipe.model_copy(update={"source": both}).check(model, REQUEST.model_copy(update={"also": also, "keep": ()}))
    keep = REQUEST.model_copy(update={"keep": ("a castle", "the knife", "a red apple")})
    small = Recipe(keep=MatchTeacher(source=FrozenTrajectory(grid=GRID, trajectories=3)), steps=1)
    with pytest.raises(UserError, match=r"a pool of 3 for 3 prompts to keep.*4 places at least"):
        small.check(model, keep)
