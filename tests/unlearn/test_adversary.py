"""The soft-prompt adversary: where its vectors stand, what its steps do, and that it resumes as the same run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from expunge.errors import ConfigError, UserError
from expunge.models.store import load
from expunge.records import Request, Target
from expunge.unlearn.adversary import SoftAdversary
from expunge.unlearn.context import TrainContext
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.soft_prompt import SoftAttacker, layouts, span
from expunge.unlearn.source import EditedTrajectory, FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church on a hill", "a picture of a church"))
TWO = REQUEST.model_copy(update={"also": (Target(concept="dog", prompts=("a picture of a dog",)),)})
GRID = 4
POOL = FrozenTrajectory(grid=GRID, trajectories=4)
SMALL = Recipe(source=POOL, scope="text", steps=5, batch=2, learning_rate=1e-3,
               adversary=SoftAdversary(steps=2, step_size=1e-2, warmup=1))


@pytest.fixture(scope="module")
def loaded(pipeline_folder: Path) -> Any:
    return load(pipeline_folder, device="cpu")


@pytest.fixture
def model(loaded: Any) -> Iterator[Any]:
    """The one model of this file, as it was loaded."""
    before = {name: p.detach().clone() for name, p in loaded.parameters_in("all").items()}
    yield loaded
    with torch.no_grad():
        for name, p in loaded.parameters_in("all").items():
            p.requires_grad_(False).copy_(before[name])
            p.grad = None


def attacker(model: Any, request: Request = REQUEST, source: Any = POOL, batch: int = 3, move: float = 0.3,
             **settings: Any) -> tuple[SoftAttacker, Any]:
    """An adversary on a student whose text encoder has already moved away from the teacher's, and its stream."""
    context = TrainContext(model, model.frozen_copy(), request, 0, text_trains=True)
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in model.parameters_in("text").values():
            p.add_(move * p.std().nan_to_num(0.0) * torch.randn(p.shape, generator=draw))
    stream = source.open(context, request.all_prompts, batch, "erase")
    return SoftAdversary(warmup=0, **settings).prepare(context, stream, batch), stream  # type: ignore[return-value]


def attack_loss(model: Any, found: SoftAttacker, points: Any, vectors: Tensor | None = None) -> float:
    """The published loss at `points`, computed by hand for one vector before each prompt."""
    V = found.state["adversary/vectors"] if vectors is None else vectors
    tokens = model.texts[0].framed([[0, *model.texts[0].tokens(prompt)] for prompt in points.prompts])
    embeddings = model.texts[0].table[tokens.ids].clone()
    embeddings[:, 1] = V[:, 0]
    with torch.no_grad():
        out = model.predict(points.x_t, points.t, model.encode_embedded(points.prompts, tokens, embeddings))
        wanted = found._context.teacher.predict(points.x_t, points.t, points.cond)
    return float((out - wanted).square().mean())


@pytest.mark.parametrize(("place", "shown"), [
    ("prefix", "* * a church on"), ("suffix", "a church on * *"), ("insert", "a * church * on"),
    ("replace", "a * * on"), ("add", "a church on"),
])
def test_vectors_stand_where_they_are_asked_to(model: Any, place: Any, shown: str) -> None:
    request = Request(concept="church", prompts=("a church on",))
    layout = layouts(SoftAdversary(place=place, tokens=2), model, request)["a church on"]
    words = shown.split()
    assert layout.tokens == tuple(0 if word == "*" else model.texts[0].tokens(word)[0] for word in words)
    assert layout.free == ((1,) if place == "add" else tuple(n for n, word in enumerate(words) if word == "*"))


@pytest.mark.parametrize("place", ["prefix", "suffix", "replace", "add", "insert"])
def test_concept_of_several_tokens_stays_whole(model: Any, place: Any) -> None:
    own = model.texts[0].tokens("tench")
    assert len(own) > 1
    request = Request(concept="tench", prompts=("a picture of a tench on a hill",))
    layout = layouts(SoftAdversary(place=place, tokens=1), model, request)[request.prompts[0]]
    whole = model.texts[0].tokens(request.prompts[0])
    first, last = span(whole, own)
    assert whole[first:last] == own
    if place == "replace":
        assert layout.tokens == (*whole[:first], 0, *whole[last:])
    elif place == "add":
        assert layout.free == tuple(range(first, last))
    else:
        assert [token for n, token in enumerate(layout.tokens) if n not in layout.free] == whole


def test_prompt_without_the_concepts_name_is_replaced_whole() -> None:
    assert span([5, 6, 7, 6, 7], [6, 7]) == (1, 3)
    assert span([5, 6], [8]) == (0, 2)
    assert span([5], [5, 6]) == (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pgd", "sign"])
def test_attack_loss_falls_over_its_steps(model: Any, method: Any) -> None:
    found, stream = attacker(model, method=method, steps=15, step_size=0.03 if method == "pgd" else 0.01, points="same")
    points = stream.draw(0)
    start = found._start(0)[0]
    found.begin(0)
    found.condition(0, points)
    assert len(found.trace) == 15
    assert found.trace[0] == pytest.approx(attack_loss(model, found, points, start), rel=1e-4)
    assert attack_loss(model, found, points) < 0.85 * found.trace[0]
    assert found.losses == {"attack": found.trace[-1]}


def test_last_step_counts_and_the_first_of_adam_is_as_long_as_its_rate(model: Any) -> None:
    found, stream = attacker(model, steps=1, step_size=0.01)
    start = found._start(0)[0]
    found.begin(0)
    found.condition(0, stream.draw(0))
    moved = (found.state["adversary/vectors"] - start).abs()
    torch.testing.assert_close(moved.median(), torch.tensor(0.01), rtol=1e-3, atol=0.0)


def test_gradients_are_not_summed_over_the_steps(model: Any) -> None:
    found, stream = attacker(model, steps=3, step_size=0.01, points="same", batch=2)
    points, (V, _) = stream.draw(0), found._start(0)
    optimizer = torch.optim.Adam([V], lr=0.01)
    tokens = model.texts[0].framed([[0, *model.texts[0].tokens(prompt)] for prompt in points.prompts])
    for _ in range(3):  # the published loop with a fresh gradient in each step, written out
        free = V[:, 0].detach().requires_grad_()
        embeddings = model.texts[0].table[tokens.ids].index_put((torch.arange(2), torch.tensor([1, 1])), free)
        out = model.predict(points.x_t, points.t, model.encode_embedded(points.prompts, tokens, embeddings))
        with torch.no_grad():
            wanted = found._context.teacher.predict(points.x_t, points.t, points.cond)
        loss = (out - wanted).square().flatten(1).mean(1).sum()
        V.grad = torch.autograd.grad(loss, free)[0][:, None]
        optimizer.step()
    found.begin(0)
    found.condition(0, points)
    torch.testing.assert_close(found.state["adversary/vectors"], V, rtol=1e-3, atol=1e-5)


def test_fast_is_one_signed_step_from_a_random_start(model: Any) -> None:
    found, stream = attacker(model, method="fast", steps=1, step_size=0.02, radius=0.05, norm="linf")
    (start, center), points = found._start(0), stream.draw(0)
    words = model.texts[0].table[model.texts[0].plain]
    assert all((words == vector).all(1).any() for vector in center.flatten(0, 1))
    assert not torch.equal(start, center)
    found.begin(0)
    found.condition(0, points)
    step = found.state["adversary/vectors"] - start
    inside = (start + 0.02 * step.sign() - center).abs() < 0.05  # where the ball did not cut it
    torch.testing.assert_close(step[inside].abs(), torch.full_like(step[inside], 0.02), rtol=1e-3, atol=1e-6)
    assert len(found.trace) == 1


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("place", ["prefix", "add"])
def test_vectors_stay_in_their_ball(model: Any, norm: Any, place: Any) -> None:
    radius = 0.03
    found, stream = attacker(model, place=place, tokens=2, steps=8, step_size=0.05, radius=radius, norm=norm,
                             init="latest")
    for number in range(3):
        found.begin(number)
        found.condition(number, stream.draw(number))
        gap = found.state["adversary/vectors"] - found.state["adversary/start"]
        size = gap.norm(dim=-1) if norm == "l2" else gap.abs().amax(-1)
        assert float(size.max()) == pytest.approx(radius, rel=1e-3)  # the steps are long enough to reach the wall
    if place == "add":
        assert not found.state["adversary/start"].any()


def test_latest_goes_on_where_the_last_attack_ended_and_random_does_not(model: Any) -> None:
    found, stream = attacker(model, steps=2, step_size=0.01, init="latest")
    found.begin(0)
    found.condition(0, stream.draw(0))
    assert torch.equal(found._start(1)[0], found.state["adversary/vectors"])
    fresh, stream = attacker(model, steps=2, step_size=0.01, init="random", move=0.0)
    fresh.begin(0)
    fresh.condition(0, stream.draw(0))
    assert not torch.isclose(fresh._start(1)[0], fresh.state["adversary/vectors"]).any(-1).all()


def test_best_is_the_vectors_of_the_smallest_loss(model: Any) -> None:
    found, stream = attacker(model, steps=6, step_size=0.5, points="same", answer="best", vectors="shared")
    points = stream.draw(0)
    found.begin(0)
    found.condition(0, points)
    assert len(found.trace) == 7  # the last step's vectors are looked at too
    vectors = found.state["adversary/vectors"].expand(len(points.t), -1, -1)
    assert attack_loss(model, found, points, vectors) == pytest.approx(min(found.trace), rel=1e-4)
    assert min(found.trace) < found.trace[-1]  # steps this long overshoot


def test_between_attacks_the_vectors_stay_and_before_them_the_prompt_is_clean(model: Any) -> None:
    found, stream = attacker(model, steps=1, step_size=0.01, every=3)
    found.settings = found.settings.model_copy(update={"warmup": 2})
    points = stream.draw(1)
    found.begin(1)
    torch.testing.assert_close(found.condition(1, points).states, model.encode(points.prompts).states)
    assert found.losses == {}
    seen = []
    for number in range(2, 9):
        found.begin(number)
        found.condition(number, stream.draw(number))
        seen.append((found.state["adversary/vectors"].clone(), bool(found.losses)))
    assert [attacked for _, attacked in seen] == [True, False, False, True, False, False, True]
    assert torch.equal(seen[0][0], seen[2][0])
    assert not torch.equal(seen[2][0], seen[3][0])


def test_same_step_asked_twice_gives_one_answer(model: Any) -> None:
    found, stream = attacker(model, steps=2, step_size=0.01)
    points = stream.draw(4)
    found.begin(4)
    first, again = found.condition(4, points), found.condition(4, points)
    assert torch.equal(first.states, again.states)
    assert first.states.requires_grad is False  # nothing trains here; see below for where it does


def test_gradient_reaches_the_text_encoder_and_never_the_unet_or_the_vectors(model: Any) -> None:
    for p in model.parameters_in("text").values():
        p.requires_grad_(True)
    found, stream = attacker(model, steps=2, step_size=0.01, move=0.0)
    points = stream.draw(0)
    found.begin(0)
    model.predict(points.x_t, points.t, found.condition(0, points)).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for name, p in model.parameters_in("text").items()
               if name.endswith("weight"))
    assert not any(p.requires_grad or p.grad is not None for p in model.network.parameters())
    assert not found.state["adversary/vectors"].requires_grad


def test_each_concept_of_a_request_has_its_own_vectors(model: Any) -> None:
    found, stream = attacker(model, TWO, vectors="shared", steps=2, step_size=0.01, batch=2)
    number = next(n for n in range(50) if {TWO.target_of(p).concept for p in stream.draw(n).prompts} == {"dog"})
    found.begin(number)
    found.condition(number, stream.draw(number))
    assert found.state["adversary/found"].tolist() == [False, True]
    points = next(p for p in map(stream.draw, range(50)) if len({TWO.target_of(t).concept for t in p.prompts}) == 2)
    states, clean = found.condition(number, points).states, model.encode(points.prompts).states
    for row, prompt in enumerate(points.prompts):
        assert torch.allclose(states[row], clean[row], atol=1e-5) == (TWO.target_of(prompt).concept == "church")


def test_shared_vectors_take_the_mean_gradient_of_their_points(model: Any) -> None:
    found, stream = attacker(model, vectors="shared", steps=1, method="sign", step_size=0.01, points="same", batch=4)
    points, (start, _) = stream.draw(0), found._start(0)
    found.begin(0)
    found.condition(0, points)
    V, direction = found.state["adversary/vectors"], torch.zeros_like(start)
    for place in range(0, start.shape[-1], 5):  # a few coordinates, by differences
        bump = torch.zeros_like(start)
        bump[..., place] = 0.05
        up, down = (attack_loss(model, found, points, (start + s * bump).expand(4, -1, -1)) for s in (1, -1))
        direction[..., place] = up - down
    known = direction.abs() > direction.abs().max() * 0.2
    assert known.any()
    assert torch.equal((start - V)[known].sign(), direction[known].sign())


@pytest.mark.slow
@pytest.mark.parametrize("changes", [
    {"adversary.init": "latest", "adversary.every": 2, "adversary.vectors": "shared"},
    {"scope": "xattn", "source": "edited", "source.grid": 3},
], ids=["latest, every second", "unet"])
def test_stopped_run_ends_at_the_same_bits(model: Any, tmp_path: Path, changes: dict[str, Any]) -> None:
    recipe, checkpoint = SMALL.override({"checkpoint_every": 0.0, **changes}), tmp_path / "run.safetensors"
    whole = recipe(model, REQUEST, seed=1)

    def stop(done: int, total: int, losses: dict[str, float]) -> None:
        if losses and done == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        recipe(model, REQUEST, seed=1, checkpoint=checkpoint, progress=stop)
    resumed = recipe(model, REQUEST, seed=1, checkpoint=checkpoint)
    assert resumed.hash == whole.hash
    assert resumed.card.losses == whole.card.losses


@pytest.mark.slow
def test_pool_and_fresh_draws_have_one_distribution(model: Any) -> None:
    sources = {fresh: FrozenTrajectory(grid=GRID, trajectories=4, guidance=1.0, fresh=fresh) for fresh in (False, True)}
    streams = [attacker(model, source=sources[fresh], move=0.0)[1]
               for fresh in (False, True)]
    counts = []
    for stream in streams:
        seen: dict[tuple[str, int], int] = {}
        for number in range(30):
            for points in (stream.draw(number), stream.draw_extra(number, 1, (*REQUEST.prompts, REQUEST.prompts[0]))):
                for prompt, t in zip(points.prompts, points.t.tolist(), strict=True):
                    seen[prompt, t] = seen.get((prompt, t), 0) + 1
        counts.append(seen)
    assert counts[0].keys() == counts[1].keys()
    assert len(counts[0]) == 2 * GRID
    rows = [[seen[key] for key in sorted(counts[0])] for seen in counts]
    assert stats.chi2_contingency(rows).pvalue > 1e-3


@pytest.mark.parametrize("source", [POOL, FrozenTrajectory(grid=GRID, fresh=True), EditedTrajectory(grid=GRID),
                                    NoisedPictures(grid=3, pictures=4)], ids=["pool", "fresh", "edited", "noised"])
def test_points_beside_a_step_are_new_and_under_the_same_prompts(model: Any, source: Any) -> None:
    _, stream = attacker(model, source=source)
    points = stream.draw(0)
    first, again, other = (stream.draw_extra(0, turn, points.prompts) for turn in (1, 1, 2))
    assert first.prompts == points.prompts
    assert torch.equal(first.x_t, again.x_t)
    assert not torch.equal(first.x_t, other.x_t)
    torch.testing.assert_close(first.cond.states, points.cond.states)


@pytest.mark.parametrize(("settings", "told"), [
    ({"method": "fast"}, "one step"), ({"method": "fast", "steps": 1, "init": "latest"}, "one step"),
    ({"method": "fast", "steps": 1, "place": "add"}, "radius"), ({"answer": "best"}, "points same"),
    ({"place": "middle"}, "prefix"), ({"tokens": 0}, "tokens"), ({"attack_step": 3}, "unknown setting"),
])
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        SoftAdversary.build(settings)
    with pytest.raises(ConfigError, match=told):
        Recipe().override({"adversary": {"kind": "soft", **settings}})


def test_what_does_not_fit_is_told_before_anything_is_computed(model: Any) -> None:
    calls: list[int] = []
    for changes, request, told in (({"adversary.tokens": 12}, REQUEST, "up to 14"),
                                   ({"adversary.every": 2}, TWO, "shared")):
        with pytest.raises(UserError, match=told):
            SMALL.override(changes)(model, request, progress=lambda *_: calls.append(1))
    assert not calls


def test_adversary_comes_back_from_json_and_can_be_left_out() -> None:
    recipe = Recipe().override({"adversary": "soft", "adversary.place": "suffix"})
    assert Recipe.build(recipe.model_dump(mode="json")) == recipe
    assert recipe.override({"adversary": None}).adversary is None
    with pytest.raises(ConfigError, match="known kinds of adversary: bank, soft"):
        Recipe().override({"adversary": "hard"})
