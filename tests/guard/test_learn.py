"""Learning: a toy whose best mask is known, and every preset on the small pipeline: repeatable, resumable, undone."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from guard_examples import ONE_SHOT, QUICK, RELEASED, pictures, publisher, same, weights
from torch import Tensor
from torch.nn import Parameter

from expunge.errors import ConfigError, TrainingError, UserError
from expunge.finetune import TrainingImages, fine_tuning, material
from expunge.guard import PRESETS, PublisherImages, check_learning, estimate, learn_mask, load_mask, resolve
from expunge.guard.domains import LossGauge, Subject, Upper, halves
from expunge.guard.projected import ProjectedMask, Turn, projected
from expunge.guard.ratio import Groups, hardened
from expunge.guard.relaxed import WholeUser
from expunge.guard.saliency import Saliency, saliency
from expunge.locks import LOCK
from expunge.models.model import Model

SETTINGS: dict[str, dict[str, Any]] = {"projected": QUICK, "saliency": ONE_SHOT, "released": RELEASED}
KINDS = ("forbidden", "innocent")


class TwoDomains:
    """Outputs of two domains, each made of ten tensors of its own, and of ten that serve both.

    A user who learns the forbidden one needs the first ten, an innocent one the second: those to freeze are known.
    """

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.parts = {f"{kind}/{k}": Parameter(torch.zeros(8)) for kind in (*KINDS, "both") for k in range(10)}
        self.goal = {kind: torch.randn(20, 8, generator=generator) for kind in KINDS}

    def loss(self, kind: str, seed: int) -> Tensor:
        """(rows,) on a few of the tensors at a time, so that gradients are noisy."""
        rows = torch.randperm(20, generator=torch.Generator().manual_seed(seed))[:8]
        own = torch.stack([self.parts[f"{kind}/{k}"] for k in range(10)] + [self.parts[f"both/{k}"] for k in range(10)])
        return (own[rows] - self.goal[kind][rows]).square().mean(1)


class Taught:
    """A `Training` of one domain."""

    def __init__(self, world: TwoDomains, kind: str) -> None:
        self.params, self._world, self._kind = world.parts, world, kind
        self.optimizer: Any = torch.optim.AdamW(self.params.values(), lr=0.05, weight_decay=0.0)

    def loss(self, number: int) -> Tensor:
        return self._world.loss(self._kind, 7919 * number + 1).mean()


class Seen:
    """A `Domain`."""

    def __init__(self, world: TwoDomains, kind: str) -> None:
        self._world, self._kind = world, kind
        self._first = {seed: world.loss(kind, seed).detach() for seed in range(40)}

    def rows(self, number: int) -> tuple[Tensor, Tensor]:
        return self._world.loss(self._kind, number % 40), self._first[number % 40]

    def gain(self) -> float:
        return float(torch.stack([self._first[s] - self._world.loss(self._kind, s).detach() for s in range(40)]).mean())


@pytest.mark.parametrize("upper", ["gain", "hinge"])
@pytest.mark.parametrize("learner", [ProjectedMask(steps=12, passes=6, ratio=1 / 3), Saliency(steps=12, ratio=1 / 3)],
                         ids=lambda one: one.kind)
def test_learner_freezes_what_only_the_forbidden_domain_needs(learner: Any, upper: Any) -> None:
    world = TwoDomains()
    groups = Groups.by(dict.fromkeys(world.parts, 8), "tensor")

    @contextmanager
    def opened(number: int, turn: Turn) -> Iterator[WholeUser]:
        with torch.no_grad():
            for p in world.parts.values():
                p.zero_()
        published = {name: torch.zeros(8) for name in world.parts}
        yield WholeUser(Taught(world, turn.subjects[0][0]), published, groups.names, 1e9)

    seen: Any = {(side, 0): Seen(world, side) for side in KINDS}
    turns = [Turn(0, (subject,)) for subject in seen]
    run: Any = projected if isinstance(learner, ProjectedMask) else saliency
    scores = run(learner, turns, groups, opened, Upper(seen, upper, 1.0, 0.1)).scores
    frozen = hardened(scores, learner.ratio, groups.weights("numel"))
    right = [name.startswith("forbidden/") for name, held in zip(groups.names, frozen.tolist(), strict=True) if held]
    assert len(right) == 10
    assert sum(right) >= (9 if learner.kind == "projected" else 7)  # of 10, where chance gives 3


@pytest.mark.parametrize("preset", list(PRESETS))
def test_mask_is_repeatable_and_the_model_comes_back(model: Model, preset: str) -> None:
    before, state = weights(model), torch.get_rng_state()
    settings = {**SETTINGS[preset], "ratio": 0.5}
    first = learn_mask(model, publisher(model), preset, settings=settings, seed=3)
    assert same(weights(model), before)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    again = learn_mask(model, publisher(model), preset, settings=settings, seed=3)
    other = learn_mask(model, publisher(model), preset, settings=settings, seed=4)
    assert again.tensors == first.tensors
    assert other.tensors != first.tensors
    assert first.losses
    assert first.method == preset
    if preset != "released":
        assert first.share("numel") == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_killed_learning_goes_on_to_the_same_mask(model: Model, preset: str, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("projected", "saliency", "released"):  # a checkpoint at every step, not every half a minute
        module = importlib.import_module(f"expunge.guard.{name}")
        monkeypatch.setattr(module, "run_loop", partial(module.run_loop, every=-1.0))
    whole = learn_mask(model, publisher(model), preset, settings=SETTINGS[preset], seed=1)
    last = {"projected": 3, "saliency": 2, "released": 4}[preset]

    def kill(done: int, total: int, losses: Any) -> None:
        if done == last - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_mask(model, publisher(model), preset, settings=SETTINGS[preset], seed=1, out=tmp_path, progress=kill)
    seen: list[int] = []
    mask = learn_mask(model, publisher(model), preset, settings=SETTINGS[preset], seed=1, out=tmp_path,
                      progress=lambda done, total, losses: seen.append(done))
    assert seen
    assert seen[0] == last, "it began from the start"
    assert mask.tensors == whole.tensors
    assert sorted(file.name for file in tmp_path.iterdir()) == [LOCK, "mask.json"]
    assert load_mask(tmp_path) == mask
    seen.clear()
    assert learn_mask(model, publisher(model), preset, settings=SETTINGS[preset], seed=1, out=tmp_path) == mask
    assert not seen
    with pytest.raises(UserError, match=r"begun under other settings \(seed 1, now 2\)"):
        learn_mask(model, publisher(model), preset, settings=SETTINGS[preset], seed=2, out=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("users", [
    {"kinds": ["lora"], "lora": {"learning_rate": 2e-2, "batch": 2}},
    {"kinds": ["sgd"], "sgd": {"learning_rate": 0.3, "batch": 2}},
    {"kinds": ["dreambooth", "adamw"], "dreambooth": {"learning_rate": 4e-3}, "adamw": {"learning_rate": 4e-3}}],
    ids=lambda users: users["kinds"][0])
def test_every_kind_of_user_can_be_simulated(model: Model, users: dict[str, Any]) -> None:
    before = weights(model)
    mask = learn_mask(model, publisher(model, prior=True), settings={**QUICK, "steps": 4, "users": users})
    scored = {name for name, tensor in mask.tensors.items() if tensor.score}
    assert scored
    assert users["kinds"] != ["lora"] or all(".attn" in name for name in scored)
    assert same(weights(model), before)


def test_one_user_may_train_on_both_sides_as_published(model: Model) -> None:
    mask = learn_mask(model, publisher(model), settings={**QUICK, "shown": "both"})
    assert {"gain forbidden", "gain innocent"} <= mask.losses.keys()


def test_every_thing_has_its_users_and_both_sides_as_many(model: Model) -> None:
    one, other = publisher(model), publisher(model)
    made = PublisherImages((*one.forbidden, *other.innocent, *other.forbidden), one.innocent)
    told = [turn.subjects for turn in resolve("saliency").turns(made)]  # type: ignore[union-attr]
    assert told == [(("forbidden", k // 2),) if k % 2 == 0 else (("innocent", 0),) for k in range(6)]
    mask = learn_mask(model, made, "saliency", settings=ONE_SHOT)
    assert len(mask.losses["unheld forbidden"]) == 3
    side = resolve("projected", {"shown": "side", "users": {"kinds": ["adamw", "lora"]}})
    assert len(side.turns(made)) == 4  # type: ignore[union-attr]


def test_what_cannot_be_done_is_refused_before_any_computing(model: Model, monkeypatch: pytest.MonkeyPatch
                                                            ) -> None:
    made = publisher(model)
    monkeypatch.setattr(model, "predict", lambda *given: pytest.fail("something was computed"))
    for settings, says in (({"ratio": 1.5}, "ratio"), ({"ratio": -0.1}, "ratio"),
                           ({"users": {"kinds": ["dreambooth"]}}, "prior images"),
                           ({"users": {"adamw": {"text_encoder": True}}}, "text encoder"),
                           ({"steps": 1}, "none is followed by a mask step"),
                           ({"userz": 1}, "unknown setting 'userz'")):
        with pytest.raises((UserError, ConfigError), match=says):
            learn_mask(model, made, settings=settings)
    with pytest.raises(UserError, match="released rule by numel"):
        learn_mask(model, made, "released", settings={"by": "numel"})
    with pytest.raises(UserError, match="unknown preset 'projectd'"):
        learn_mask(model, made, "projectd")
    with pytest.raises(UserError, match="seed -1"):
        learn_mask(model, made, seed=-1)
    with pytest.raises(UserError, match="1 image of one thing"):
        learn_mask(model, PublisherImages(made.forbidden, (halves(halves(made.innocent[0])[0])[0],)))
    with pytest.raises(UserError, match="no innocent images"):
        learn_mask(model, PublisherImages(made.forbidden, ()))
    wide = TrainingImages(torch.zeros(2, 4, 8, 16), ("a dog", "a dog"))
    with pytest.raises(UserError, match="different sizes"):
        learn_mask(model, PublisherImages(made.forbidden, (wide,)))


def test_users_who_learn_nothing_are_told(model: Model) -> None:
    still = {**QUICK, "users": {"adamw": {"learning_rate": 1e-30, "batch": 2}}}
    with pytest.raises(TrainingError, match="learned nothing of the forbidden images"):
        learn_mask(model, publisher(model), settings=still)


def test_simulated_users_and_the_upper_level_share_no_picture(model: Model) -> None:
    whole = publisher(model).forbidden[0]
    theirs, ours = halves(whole)
    rows = [row.sum().item() for row in (*theirs.latents, *ours.latents)]
    assert sorted(rows) == sorted(row.sum().item() for row in whole.latents)
    assert len(set(rows)) == 4


def test_gain_is_zero_as_published_one_for_a_free_user_and_bounded(model: Model) -> None:
    pictured = material(model, pictures(4, 0.0), ["a church"] * 4)
    gauge = LossGauge(model, pictured, rows=16, batch=4, seed=0, name="forbidden")
    dark: Subject = ("forbidden", 0)
    upper = Upper({dark: gauge}, "gain", 1.0, 0.1)
    assert gauge.gain() == 0
    assert float(upper.loss(dark, 0, 1.0)) == 0
    with pytest.raises(TrainingError):
        upper.unheld(dark, "adamw", 0)
    settings = resolve(settings={"users": QUICK["users"]}).users.adamw.model_copy(  # type: ignore[union-attr]
        update={"steps": 25, "batch": 4})
    with fine_tuning(model, pictured, settings) as tuner:
        list(tuner.train())
        free = upper.unheld(dark, "adamw", 25)
        shares = [float(upper.loss(dark, number, free).detach()) for number in range(4)]
    assert sum(shares) / 4 == pytest.approx(1, abs=0.15)
    with torch.no_grad():
        for p in model.network.parameters():
            p.mul_(3)
    assert float(upper.loss(dark, 0, free)) == 0, "breaking the model was rewarded"
    hinge = Upper({dark: gauge}, "hinge", 1.0, 0.1)
    least = -1.1 * float(gauge.rows(0)[1].mean())
    assert float(hinge.loss(dark, 0, free)) == pytest.approx(least, rel=1e-5)


def test_estimate_counts_what_is_done(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, made = resolve("projected", QUICK), publisher(model)
    counted = {"user_steps": 0, "mask_steps": 0}
    for name, what in (("step", "user_steps"), ("gradient", "mask_steps")):
        plain = getattr(WholeUser, name)
        monkeypatch.setattr(WholeUser, name, lambda self, given, plain=plain, what=what: (
            counted.__setitem__(what, counted[what] + 1), plain(self, given))[1])
    check_learning(model, made, learner)
    learn_mask(model, made, settings=QUICK)
    told = estimate(model, made, learner)
    size = 4 * sum(p.numel() for p in model.network.parameters())
    assert {name: told[name] for name in counted} == counted
    assert told["memory_bytes"] == 6 * size


def test_released_has_the_published_numbers() -> None:
    told = resolve("released").model_dump()
    assert {name: told[name] for name in ("ratio", "temperature", "mask_learning_rate", "sparsity",
                                          "user_learning_rate", "interval", "user_steps", "batch", "by")} == {
        "ratio": 0.2, "temperature": 0.2, "mask_learning_rate": 10.0, "sparsity": 5e3,
        "user_learning_rate": 1e-5, "interval": 5,
        "user_steps": 2000, "batch": 16, "by": "count"}
    turns = PRESETS["released"].schedule(200)  # type: ignore[union-attr]
    assert turns[:14] == [number % 5 == 0 for number in range(13)] + [True]
    assert len(turns) - sum(turns) == 2000


def test_released_keeps_its_state_consistent(model: Model) -> None:
    """theta~ - m D stays theta_ft: after any step theta~ + (1 - m) D is the published model."""
    from expunge.guard.released import Released, _Stage2

    made = publisher(model)
    settings = Released.build({**RELEASED, "user_learning_rate": 1e-2})
    mixed = material(model, torch.cat([pictures(4, 0.0), pictures(4, 0.7)]), ["a church"] * 4 + ["a red apple"] * 4)
    groups = check_learning(model, made, settings)
    with fine_tuning(model, mixed, settings.first) as tuner:
        published = {name: p.detach().clone() for name, p in tuner.params.items()}
        list(tuner.train())
        stage = _Stage2(settings, groups, model, mixed, torch.arange(8) < 4, published, 0)
        for number in range(6):
            stage.step(number, number % 2 == 0)
        for name, m in stage._masks():
            back = stage._params[name].detach() + (1 - m) * stage._D[name]
            assert torch.allclose(back, published[name], atol=1e-5)
