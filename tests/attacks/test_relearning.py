"""Relearning curves from end to end: a hidden word of the embedded model; and small ones, interrupted and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from brightness import Brightness
from colour_world import Named
from renamed_church import renamed_church
from torch import Tensor

import expunge
from expunge.attacks import relearning
from expunge.attacks.relearning import relearn, relearning_warnings, training_attack
from expunge.attacks.settings import RelearnSettings
from expunge.errors import ConfigError, ModelError, UserError
from expunge.metrics.base import Autoencoder, Features, Newcomer, PromptCounts, ScoredJudge
from expunge.metrics.characters import CHARACTERS
from expunge.metrics.open_world import open_world
from expunge.metrics.statistics import wilson
from expunge.metrics.worlds import World
from expunge.models.fitting import TOO_LONG
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.records import RELEARNINGS, Look, Prompt, RelearningCurve, Request, Score

SETTINGS = RelearnSettings(at=(0, 2, 4), lesson=2, count=3, steps=3, tune={"batch": 2, "learning_rate": 3e-3})
NONE = Score(name="", title="", value=None)


class Small:
    """What is asked of the small pipeline."""

    name = "small"

    def request(self, concept: str) -> Request:
        return Request(concept=concept, prompts=(f"a {concept}", f"a {concept} on a hill"), keep=("a dog",))

    def of(self, request: Request, counts: PromptCounts) -> list[Prompt]:
        roles = [(role, count) for role, count in counts.model_dump().items() for count in range(count)]
        return [Prompt(text=f"{'a ' * (k % 9)}{request.concept if role == 'direct' else 'house'}", role=role)
                for k, (role, _) in enumerate(roles)]

    def question(self, concept: str) -> str:
        return "object"


class Scored(Brightness):
    """One that says nothing of itself."""

    score = NONE


class Blorp:
    """White images."""

    name, question, prompts = "blorp", "object", (Prompt(text="a blorp", role="direct"),)

    def pictures(self, count: int, height: int, width: int) -> tuple[Tensor, tuple[str, ...]]:
        return torch.ones(count, 3, height, width), ("a blorp",) * count

    def judge(self, model: Autoencoder, features: Features, others: Tensor) -> ScoredJudge:
        return Scored(2.0)


class White:
    """What is white is new to it."""

    def control(self, request: Request) -> Request | None:
        return None

    def newcomer(self, name: str = "") -> Newcomer:
        return Blorp()


def small(strange: bool = True) -> Any:
    """Every image is a church; something is unknown, or nothing."""
    return World("small", Small(), Named(Brightness(-1.0)), White() if strange else None)  # type: ignore[arg-type]


@pytest.fixture
def patch(model: Model) -> Patch:
    name = next(name for name in model.parameters_in("xattn") if name.endswith("to_v.weight"))
    changed = {name: model.parameters_in("xattn")[name].detach() * -2}
    return Patch.of(changed, model=model, request=Small().request("church"), method="test", settings={}, seed=0)


@pytest.mark.slow
def test_a_hidden_word_comes_back_beside_an_invented_thing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relearning, "KNOWN", 16)
    victim, _, _ = renamed_church()
    settings = RelearnSettings(at=(0, 10), lesson=3, count=3, steps=6, tune={"batch": 3, "learning_rate": 3e-4})
    made = expunge.relearn(victim.model, victim.patch, settings=settings, out=tmp_path)
    edited, unknown, original = made.curves
    assert [curve.subject for curve in made.curves] == ["church", "blorp", "church"]
    assert edited.looks[0].found.numerator == 0  # the word is read as another one
    assert unknown.looks[0].found.numerator == 0
    assert (original.looks[0].found.numerator or 0) >= 1
    assert unknown.detector is not None
    assert unknown.detector.value is not None


class Listed(Small):
    """The same with a list of the user's, one of whose prompts no encoder reads whole."""

    def own(self, request: Request) -> list[Prompt]:
        return [Prompt(text=text, role="direct") for text in ("a church", "a church " * 60, "the church")]

    def given(self, request: Request, counts: PromptCounts) -> list[str]:
        return []


def test_a_prompt_too_long_for_relearning_is_told_as_that_and_nothing_is_called_attacked(
        model: Model, patch: Patch, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"count": 2, "prompts": "list.txt"})
    made = relearn(model, patch, settings=settings, out=tmp_path, world=small().but(prompts=Listed()))
    assert made.given[0] == (f"list.txt: 3 prompts for 'church' given, 1 asked at every look; left out 1: count is 2, "
                             f"1: {TOO_LONG}.")
    assert not any("attacked" in line for line in made.given)


def test_three_curves_are_made_with_the_same_training(model: Model, patch: Patch, tmp_path: Path) -> None:
    made = relearn(model, patch, settings=SETTINGS, out=tmp_path, world=small())
    assert [(curve.of, curve.subject) for curve in made.curves] == [("edited", "church"), ("unknown", "blorp"),
                                                                    ("original", "church")]
    for curve in made.curves:
        assert [look.steps for look in curve.looks] == [0, 2, 4]
        assert all(look.found.n == 3 for look in curve.looks)
        assert curve.pictures == 2
        assert "all, learning rate 0.003, batch 2, on 2 images" in curve.looks[0].found.note
    assert [look.found.numerator for look in made.curves[0].looks] == [3, 3, 3]
    assert [look.found.numerator for look in made.curves[1].looks] == [0, 0, 0]
    assert made.no_unknown == ""
    assert RELEARNINGS.read(tmp_path) == made
    told: list[tuple[int, int, str]] = []
    again = relearn(model, patch, settings=SETTINGS, out=tmp_path, world=small(),
                    progress=lambda done, total, words: told.append((done, total, words)))
    assert [curve.looks for curve in again.curves] == [curve.looks for curve in made.curves]
    assert told == [(0, 12, "teaching church to the edited model"), (4, 12, "teaching blorp to the edited model"),
                    (8, 12, "teaching church to the original model")]  # nothing was trained
    assert not model.patch_hash


@pytest.mark.slow
def test_an_interrupted_run_goes_on(model: Model, patch: Patch, tmp_path: Path) -> None:
    world = small()
    whole = relearn(model, patch, settings=SETTINGS, out=tmp_path / "whole", world=world)
    before = len(world.judges.first.seen)

    def stop(done: int, total: int, words: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        relearn(model, patch, settings=SETTINGS, out=tmp_path / "cut", world=world, progress=stop)
    assert not model.patch_hash
    kept = json.loads((tmp_path / "cut" / "relearning" / "edited.json").read_text())
    assert [look["steps"] for look in kept["looks"]] == [0, 2]
    assert len(world.judges.first.seen) == before + 3  # the lesson and two looks
    finished = relearn(model, patch, settings=SETTINGS, out=tmp_path / "cut", world=world)
    assert len(world.judges.first.seen) == before + 3 + 1 + 1 + 3  # the lesson, the missing look, those of the original
    assert [curve.looks for curve in finished.curves] == [curve.looks for curve in whole.curves]


@pytest.mark.slow
def test_where_nothing_is_unknown_the_record_says_so(model: Model, patch: Patch, tmp_path: Path) -> None:
    world = small(strange=False)
    made = relearn(model, patch, settings=SETTINGS, out=tmp_path, world=world)
    assert [curve.of for curve in made.curves] == ["edited", "original"]
    assert made.no_unknown == f"nothing is known that {model.name} never saw"
    other = SETTINGS.model_copy(update={"tune": {"batch": 1}})
    with pytest.raises(ConfigError, match="other settings"):
        relearn(model, patch, settings=other, out=tmp_path, world=world)
    (tmp_path / "relearning" / "edited.json").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        relearn(model, patch, settings=SETTINGS, out=tmp_path, world=world)
    assert not model.patch_hash
    alone = relearn(model, None, concept="church", settings=SETTINGS, out=tmp_path / "alone", world=world)
    assert [curve.of for curve in alone.curves] == ["original"]


@pytest.mark.slow
def test_any_model_has_the_curve_of_an_invented_thing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relearning, "KNOWN", 16)
    world = open_world().but(judges=Named(Brightness(-1.0)), chosen=True)  # no CLIP: features of the installed package
    settings = SETTINGS.model_copy(update={"steps": 12})
    made = relearn(expunge.load("embedded"), None, concept="church", settings=settings, out=tmp_path, world=world)
    unknown = made.curve("unknown")
    assert unknown is not None, made.no_unknown
    assert unknown.subject in CHARACTERS
    assert unknown.looks[0].found.numerator == 0
    assert unknown.detector is not None
    assert unknown.detector.n == 30
    assert "features of efficientnet-lite0@" in unknown.detector.note
    assert not made.no_unknown
    told = f"is seen in {unknown.detector.numerator} of 30 drawings of it held out, by features of efficientnet-lite0@"
    assert any(told in line for line in made.given)


def test_without_any_features_nobody_tells_the_invented_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relearning, "outside_features", lambda: "not installed")
    assert relearning._features(open_world(clip="")) == (
        "no CLIP to judge the pictures with; accepted: a folder or Hub id as `clip`, or in the environment's "
        "EXPUNGE_CLIP; for example --clip laion/CLIP-ViT-B-32-laion2B-s34B-b79K; not installed")


@pytest.mark.parametrize(("settings", "match"), [
    ({"at": (0,)}, "looks at 0 steps"), ({"at": (-1, 5)}, "looks at -1, 5 steps"),
    ({"tune": {"steps": 5}}, r"tune\.steps"), ({"tune": {"learning_rat": 1}}, r"did you mean 'tune\.learning_rate'"),
])
def test_settings_that_make_no_curve_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(expunge.ExpungeError, match=match):
        training_attack(RelearnSettings(**settings))


def test_the_training_is_that_of_the_attack() -> None:
    attack = training_attack(RelearnSettings(training="relearn-lora", at=(50, 0, 10), lesson=3))
    assert (attack.name, attack.tune.scope, attack.tune.steps, attack.at, attack.pictures) == (
        "relearn-lora", "lora", 50, (0, 10, 50), 3)


def test_bad_input_is_refused_before_any_training(model: Model, patch: Patch, tmp_path: Path, v_model: Any
                                                  ) -> None:
    world = small()
    with pytest.raises(UserError, match="nothing to look for"):
        relearn(model, None, settings=SETTINGS, out=tmp_path, world=world)
    with pytest.raises(expunge.ExpungeError, match="a patch for"):
        relearn(v_model, patch, settings=SETTINGS, out=tmp_path, world=world)
    with pytest.raises(UserError, match="no images in"):
        relearn(model, patch, out=tmp_path, world=world,
                settings=SETTINGS.model_copy(update={"pictures": str(tmp_path)}))
    world.judges.first.threshold = 2.0
    with pytest.raises(UserError, match="none of 8 images of the original model shows 'church'"):
        relearn(model, patch, settings=SETTINGS, out=tmp_path, world=world)


def curve(of: str, hits: int, n: int, right: int = 40) -> RelearningCurve:
    low, high = wilson(hits, n)
    found = Score(name="", title="", value=hits / n, low=low, high=high, n=n, numerator=hits)
    detector = Score(name="", title="", value=right / 40, n=40, numerator=right)
    return RelearningCurve.model_validate({"of": of, "subject": of, "pictures": 4, "whose": "", "judge": "",
                                           "detector": detector, "looks": (Look(steps=0, found=found),)})


def test_warnings_are_raised() -> None:
    assert relearning_warnings([curve("original", 15, 16), curve("unknown", 0, 16)]) == []
    told = relearning_warnings([curve("original", 3, 16), curve("unknown", 4, 16, right=20)])
    assert [line.partition(":")[0] for line in told] == ["rare detector", "weak detector", "null control scores"]
