"""DoCo: a discriminator that learns once per step, apart from the student, and a student that learns to pass it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from expunge.errors import ConfigError, UserError
from expunge.records import Request, Target
from expunge.unlearn.context import NoisyBatch, TrainContext
from expunge.unlearn.discriminator import Discriminator
from expunge.unlearn.domain import AlignDomains, Game, damping
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.presets.doco import DOCO, DOCO_FAST, DOCO_V_A, DOCO_V_B
from expunge.unlearn.source import FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church on a hill", "a picture of a church"), anchor="house",
                  keep=("a picture of a dog",),
                  also=(Target(concept="castle", prompts=("a castle and a hospital",), anchor="apple"),))
PICTURES = NoisedPictures(of="anchor", pictures=3, grid=2)
TINY = Discriminator(width=8, learning_rate=1e-3)
SMALL: dict[str, Any] = {"source": {"pictures": 3, "grid": 2}, "batch": 2, "steps": 5, "learning_rate": 1e-3,
                         "objective.warm_up": 3, "objective.discriminator.width": 8, "keep.batch": 2,
                         "retain": None, "keep.source.grid": 2, "checkpoint_every": 0.0}


@pytest.fixture(params=["epsilon", "v"])
def either(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("model" if request.param == "epsilon" else "v_model")


def game(model: Any, batch: int = 4, source: Any = PICTURES, **settings: Any) -> Game:
    context = TrainContext(model, model.frozen_copy(), REQUEST, 0)
    settings = {"discriminator": TINY, "warm_up": 0, **settings}
    return Game(AlignDomains(**settings), context, source.open(context, REQUEST.all_prompts, batch, "erase"))


def weights(of: Game) -> list[Tensor]:
    return [tensor.clone() for tensor in of.state.values()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def points_of(model: Any) -> NoisyBatch:
    with torch.no_grad():
        return PICTURES.open(TrainContext(model, model.frozen_copy(), REQUEST, 0), REQUEST.all_prompts, 4, "e").draw(0)


def test_discriminator_has_the_published_shape_at_the_published_size() -> None:
    published = Discriminator(norm="batch").new((4, 64, 64), 0, torch.device("cpu"))
    assert sum(p.numel() for p in published.parameters()) == 2_767_553
    x = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    assert published(x, x, torch.zeros(2)).shape == (2, 1, 3, 3)
    for side in (8, 16, 32, 96):
        small = Discriminator(width=8, time=True, input=True).new((4, side, side), 0, torch.device("cpu"))
        out = small(*[torch.ones(1, 4, side, side)] * 2, torch.zeros(1))
        assert out.shape == (1, 1, 2, 2) if side == 96 else (1, 1, 3, 3)


def test_discriminator_belongs_to_its_seed_and_disturbs_no_other_draw() -> None:
    before = torch.random.get_rng_state()
    a, b, c = (torch.cat([p.flatten() for p in TINY.new((4, 8, 8), seed, torch.device("cpu")).parameters()])
               for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_what_it_is_told_of_time_and_input_changes_its_verdict(model: Any) -> None:
    points = points_of(model)
    for told, sees_time, sees_input in (({}, False, False), ({"time": True}, True, False),
                                        ({"input": True}, False, True)):
        net = Discriminator(width=8, **told).new((4, 8, 8), 0, torch.device("cpu"))
        at = net(points.x_t, points.x_t, torch.zeros(4))
        assert torch.equal(net(points.x_t, points.x_t, torch.ones(4)), at) is not sees_time
        assert torch.equal(net(points.x_t, 2 * points.x_t, torch.zeros(4)), at) is not sees_input


@torch.no_grad()
def test_forms_of_a_prediction(either: Any) -> None:
    points = points_of(either)
    abar = either.process.schedule.levels(points.t)[0].square().view(-1, 1, 1, 1)
    out = either.predict(points.x_t, points.t, points.cond)
    if either.process.prediction == "epsilon":
        x0, eps = (points.x_t - (1 - abar).sqrt() * out) / abar.sqrt(), out
        weight = (abar / (1 - abar)).sqrt().clamp(max=1).flatten()
    else:
        x0, eps = abar.sqrt() * points.x_t - (1 - abar).sqrt() * out, abar.sqrt() * out + (1 - abar).sqrt() * points.x_t
        weight = torch.ones(4)
    for form, seen in (("native", out), ("eps", eps), ("x0", x0)):
        playing = game(either, form=form)
        wanted = playing.discriminator(seen, points.x_t, torch.zeros(4))
        torch.testing.assert_close(playing.logits(points, out), wanted, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(damping(either, form, points), weight if form == "x0" else torch.ones(4))  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [PICTURES, FrozenTrajectory(grid=3, trajectories=2)], ids=["pictures", "pool"])
def test_losses_are_those_of_the_game(model: Any, source: Any) -> None:
    playing = game(model, source=source)
    points = playing._stream.draw(4)
    context = playing._context
    anchors = [{"church": "house", "castle": "apple"}[REQUEST.target_of(prompt).concept] for prompt in points.prompts]
    told = [prompt.replace("a castle", "an apple").replace("church", "house") for prompt in points.prompts]
    assert all(anchor in text for anchor, text in zip(anchors, told, strict=True))
    with torch.no_grad():
        real = context.teacher.predict(points.x_t, points.t, model.encode(told))
        fake = model.predict(points.x_t, points.t, points.cond)
        of_real, of_fake = (playing.logits(points, out) for out in (real, fake))
        wanted = bce(of_real, torch.ones_like(of_real)) + bce(of_fake, torch.zeros_like(of_fake))
    assert playing.learn(points, fake) == pytest.approx(float(wanted), rel=1e-4)
    with torch.no_grad():
        again = playing.logits(points, fake)
    assert float(playing.loss(4).detach()) == pytest.approx(float(bce(again, torch.ones_like(again))), rel=1e-4)


def test_the_students_loss_leaves_no_gradient_in_the_discriminator(model: Any) -> None:
    playing = game(model)
    params = list(model.parameters_in("xattn").values())
    for p in params:
        p.requires_grad_(True)
    loss = playing.loss(0)
    before = weights(playing)
    loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in playing.discriminator.parameters())
    assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in params)
    assert same(weights(playing), before)


def test_a_loss_asked_for_twice_is_the_same_and_the_discriminator_learns_once(model: Any) -> None:
    playing = game(model, warm_up=2)
    start = weights(playing)
    playing.begin(7)
    first = float(playing.loss(7))
    after = weights(playing)
    assert not same(start, after)
    assert float(playing.loss(7)) == first
    assert same(weights(playing), after)
    playing.begin(8)
    playing.loss(8)
    assert not same(weights(playing), after)


@pytest.mark.slow
def test_leak_pushes_the_discriminator_with_the_students_loss(model: Any) -> None:
    clean, leaky = game(model), game(model, leak_release=True)
    points = clean._stream.draw(0)
    with torch.no_grad():
        fake = model.predict(points.x_t, points.t, points.cond)
        logits = leaky.logits(points, fake)
    apart, both = clean.learn(points, fake), leaky.learn(points, fake, leak=True)
    assert both - apart == pytest.approx(float(bce(logits, torch.ones_like(logits))), rel=1e-4)
    assert not same(weights(clean), weights(leaky))
    warm = [game(model, warm_up=3, leak_release=leak) for leak in (False, True)]
    for playing in warm:
        playing.warm_up()
    assert same(*(weights(playing) for playing in warm))  # in warm-up there is no student's loss to leak


def test_warm_up_tells_domains_apart_and_moves_nothing_else(either: Any) -> None:
    """A toy pair: the student adds a constant to its output, which no anchor's prediction has."""
    before = {name: p.detach().clone() for name, p in either.parameters_in("all").items()}
    playing = game(either, batch=6, warm_up=25)
    with torch.no_grad():
        either.network.conv_out.bias.add_(0.5)
    playing.warm_up()
    right = []
    for number in range(2):
        points = playing._stream.draw(number)
        with torch.no_grad():
            fake = either.predict(points.x_t, points.t, points.cond)
            right += [(playing.logits(points, playing._anchor(points)) > 0).float().mean(),
                      (playing.logits(points, fake) < 0).float().mean()]
    assert float(torch.stack(right).mean()) > 0.6
    with torch.no_grad():
        either.network.conv_out.bias.sub_(0.5)
    for name, p in either.parameters_in("all").items():
        torch.testing.assert_close(p.detach(), before[name], rtol=0, atol=1e-6)


class Stop(Exception):
    """What a test throws in the middle of a run."""


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [
    DOCO_FAST.override({**SMALL, "keep.source.trajectories": 3}),
    DOCO_V_B.override({**SMALL, "keep.source.pictures": 3}),
], ids=["corrected", "published"])
def test_stopped_run_ends_at_the_same_bits(model: Any, tmp_path: Path, recipe: Any) -> None:
    whole = recipe(model, REQUEST, seed=2)

    def stop(done: int, total: int, losses: dict[str, float]) -> None:
        if losses and done == 3:
            raise Stop

    file = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stop):
        recipe(model, REQUEST, seed=2, checkpoint=file, progress=stop)
    told: list[int] = []
    resumed = recipe(model, REQUEST, seed=2, checkpoint=file,
                     progress=lambda done, total, losses: told.append(done) if losses else None)
    assert told[0] >= 3
    assert whole.tensors.keys() == resumed.tensors.keys()
    assert all(torch.equal(whole.tensors[name], resumed.tensors[name]) for name in whole.tensors)
    assert whole.card.losses == resumed.card.losses


def test_several_concepts_and_both_predictions_train(either: Any) -> None:
    patch = DOCO_FAST.override({**SMALL, "steps": 2, "keep.source.trajectories": 3})(either, REQUEST)
    assert patch.tensors
    assert set(patch.card.losses) == {"erase", "keep"}


def test_needs_are_told_before_anything_is_computed(model: Any) -> None:
    with pytest.raises(UserError, match="anchor"):
        DOCO_FAST.check(model, REQUEST.model_copy(update={"anchor": ""}))
    for changes in ({"keep": None}, {"keep.cadence": "between"}):
        with pytest.raises(ConfigError, match="surgery"):
            DOCO_FAST.override(changes).check(model, REQUEST)


def test_published_forms_differ_as_described() -> None:
    a, b, ours = DOCO_V_A, DOCO_V_B, DOCO
    assert (a.objective.form, b.objective.form, ours.objective.form) == ("eps", "x0", "native")
    assert (a.update.rule, b.update.rule, ours.update.rule) == ("projection", "cosine", "projection")
    assert (a.update.clip_each, b.update.clip_each, ours.update.clip_each) == (None, 1.0, None)
    assert (a.update.add_keep, b.update.add_keep, ours.update.add_keep) == (False, False, True)
    assert (a.objective.leak_release, b.objective.leak_release, ours.objective.leak_release) == (True, True, False)
    assert (a.learning_rate, b.learning_rate) == (8 * 2e-6, 8 * 6e-6)
    assert [recipe.objective.warm_up + recipe.steps for recipe in (a, b)] == [1000, 2000]
    assert (a.keep.kind, b.keep.on, ours.keep.kind) == ("denoise", "anchor", "match")
