"""The border holds: every method, attack and verb runs on families of which nothing is known but the protocol.

One shares nothing with Stable Diffusion (`families.TwoTexts`); the others are diffusers' own, very small. That all runs
on Stable Diffusion behind the same border is in the tests of each, whose models hide all else (`conftest.model`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from brightness import ITEMS, Brightness, church_above
from colour_world import SMALL, ColourJudge, Named, attacked_world, colour_world
from guard_examples import ONE_SHOT, publisher
from test_attack_contracts import REQUEST as ATTACKED
from test_attack_contracts import WORDINGS, small
from test_presets import REQUEST, everything, method_of, same

import expunge
from expunge.attacks.settings import RelearnSettings
from expunge.attacks.victim import Victim
from expunge.models.model import Model, applied
from expunge.models.patch import Patch
from expunge.models.pipeline import acting
from expunge.models.sample import draw
from expunge.records import Sampler
from expunge.registry import ATTACKS, METHODS
from expunge.report.attacks import attacker_words
from expunge.sequence import run as sequences
from expunge.unlearn.erase import resolve_method
from expunge.unlearn.presets.by_family import suited
from families import MEMBERS, two_texts
from pipelines_of_families import BUILDERS, built, taken


def made(name: str) -> Model:
    if name == "two-texts":
        return two_texts()
    # A sixteenth of T5's tokens, so that attacks over all of them take seconds.
    model: Model = taken(built(name), **({} if name.startswith("sdxl") else {"length": 24}))
    return model


def guidance(model: Model) -> float:
    return 1.0 if model.denoiser.guided == "none" else 2.0


def fitted(method: Any, name: str, model: Model) -> Any:
    """The method where it can work on this family; its small numbers stay."""
    own = suited(method, name, {"steps": 1, "learning_rate": 1, "source": {"grid": 1}}, model)
    return method.override(own) if own else method


NAMES = ["two-texts", *(pytest.param(name, marks=pytest.mark.slow) for name in BUILDERS)]


@pytest.fixture(scope="module", params=NAMES)
def one(request: pytest.FixtureRequest) -> Model:
    """One model for all methods: each must leave it as it was."""
    return made(request.param)


@pytest.fixture(params=NAMES)
def other(request: pytest.FixtureRequest) -> Model:
    return made(request.param)


def test_a_family_has_few_members() -> None:
    assert {"family", "process", "components", "roles", "texts", "scopes", "latent_shape", "factor", "null",
            "guided", "entry", "places", "multiple", "condition", "predict", "decode", "encode_pixels",
            "with_components"} == MEMBERS


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_edits_it(one: Model, name: str, tmp_path: Path) -> None:
    before, method = everything(one), fitted(method_of(name), name, one)
    patch = method(one, REQUEST, seed=3)
    pooled = getattr(method, "pooled", False)
    inside = one.parameters_in(method.scope) | (one.parameters_in("pooled") if pooled else {})
    assert patch.tensors
    assert set(patch.weights) <= set(inside)
    assert any(not torch.equal(patch.value(name, inside[name]), inside[name]) for name in patch.weights)
    assert same(everything(one), before)
    again = Patch.load(patch.save(tmp_path / "patch"))
    assert all(share > 0 for share in acting(one, again).values())
    assert same(everything(one), before)


@pytest.mark.parametrize("name", ATTACKS.names())
def test_every_attack_runs_on_it(other: Model, name: str, tmp_path: Path) -> None:
    attack, variants = small(name, other, tmp_path), {"paraphrase": WORDINGS, "implicit": WORDINGS}
    victim = Victim(other, None, Sampler(steps=4, guidance=guidance(other)), variants=variants)
    attack.check(victim, ATTACKED, ITEMS[:2])
    outcomes = list(attack.outcomes(victim, ATTACKED, ITEMS[:2], church_above(2.0, known=False)))
    assert [outcome.error for outcome in outcomes] == [""] * 2


@pytest.fixture
def patch(other: Model) -> Patch:
    edited: Patch = resolve_method("uce", {"retain": {"things": ("dog", "apple")}}, other)(other, ATTACKED)
    return edited


def test_a_patch_goes_on_changes_pictures_and_comes_off(other: Model, patch: Patch) -> None:
    items, sampler = [("a church on a hill", 0), ("a dog", 1)], Sampler(steps=4, guidance=guidance(other))
    before = draw(other, items, sampler)
    with applied(other, patch):
        assert not torch.equal(draw(other, items, sampler), before)
    assert torch.equal(draw(other, items, sampler), before)


def test_it_is_evaluated(other: Model, patch: Patch, tmp_path: Path) -> None:
    found = expunge.evaluate(other, patch, settings=SMALL, out=tmp_path, world=colour_world())
    assert found.score("found/all").n + sum(found.score("found/all").left_out.values()) == 8
    assert found.score("perceptual/far").value is not None


def test_a_suite_of_attacks_names_the_text_encoder_it_searched_and_those_that_read_the_prompt(
        other: Model, patch: Patch, tmp_path: Path) -> None:
    settings = expunge.AttackSettings(
        attacks=("seed-search", "random-prompt", "soft-prompt"), count=2, seeds=2, control_items=0, fresh=0, steps=3,
        guidance=1.0, force=True, options={"seed-search": {"tries": 1}, "random-prompt": {"tries": 1},
                                           "soft-prompt": small("soft-prompt", other, tmp_path).model_dump()})
    world = attacked_world().but(judges=Named(Brightness(-1.0), ColourJudge()))  # which sees a church in every image
    made = expunge.attack(other, patch, settings=settings, out=tmp_path / "attack", world=world)
    first, *rest = every = tuple(encoder.name for encoder in other.texts)
    assert [(run.searches, run.encoder, run.readers) for run in made.runs] == [
        ("", "", ()), ("tokens", first, every), ("embeddings", first, every)]
    assert attacker_words(made) == [
        f"Searched tokens of {first}: random-prompt; the prompt that was found is read anew by {', '.join(every)}.",
        f"Searched embeddings of {first}: soft-prompt; by {', '.join(rest)} the prompt is read as it is."]


def test_it_is_relearned(other: Model, patch: Patch, tmp_path: Path) -> None:
    settings = RelearnSettings(at=(0, 2), lesson=2, count=2, tune={"batch": 1}, steps=3, guidance=1.0)
    world = attacked_world().but(judges=Named(Brightness(-1.0), ColourJudge()))  # which sees a church in every image
    curves = expunge.relearn(other, patch, settings=settings, out=tmp_path, world=world)
    assert curves.curves


def test_a_mask_is_learned_for_it_and_holds(other: Model, request: pytest.FixtureRequest) -> None:
    mask = expunge.learn_mask(other, publisher(other), "saliency", settings=ONE_SHOT)
    assert mask.frozen
    trained = made(request.node.callspec.params["other"])
    params = trained.parameters_of("denoiser")
    trained.network.requires_grad_(True)
    with expunge.guarded(trained, mask):
        free = [p for p in params.values() if p.requires_grad]
        assert len(free) == len(mask.trainable)
    with torch.no_grad():
        params[mask.trainable[0]].add_(1.0)
    assert not expunge.verify(other, trained.network, mask).broken
    with torch.no_grad():
        params[mask.frozen[0]].add_(1.0)
    assert expunge.verify(other, trained.network, mask).broken


def test_requests_follow_each_other_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sequence_runs import hashes, run

    monkeypatch.setattr(sequences, "load", lambda *args, **options: two_texts())
    steps: dict[str, Any] = {"source": {"trajectories": 2, "grid": 3}, "batch": 2, "steps": 2, "learning_rate": 0.01}
    settings: dict[str, Any] = {
        "model": "two texts", "device": "cpu", "method": "esd", "settings": steps, "strategy": "replay",
        "holding": {"every": 1, "replay": {"trajectories": 2, "grid": 3, "batch": 2},
                    "others": {"trajectories": 3, "grid": 3,
                               "prompts": {"things": ["knife", "hospital"], "similar": 1.0}}},
        "requests": [{"concept": "church"}, {"concept": "dog"}], "evaluation": None}
    result = run(settings, tmp_path)
    assert len({*hashes(result)}) == 2
