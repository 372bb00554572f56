"""A closed form is a method like a recipe: overridden, checked, planned, run, and its patch says how it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.errors import ConfigError, UserError
from expunge.locks import LOCK
from expunge.models.patch import Patch
from expunge.records import Request, Target
from expunge.registry import METHODS
from expunge.unlearn.closed_form.method import ClosedForm
from expunge.unlearn.closed_form.rounds import Rounds
from expunge.unlearn.closed_form.solvers import NullSpace, Procrustes, Ridge
from expunge.unlearn.erase import erase, plan, resolve_method
from expunge.unlearn.presets.closed_form import RECE, SPEED, UCE

REQUEST = Request(concept="church", prompts=("a church on a hill",), anchor="house", keep=("a dog",))
PLAIN = ClosedForm(solver=Ridge(size=1e-6), texts="names", tokens="last", keep_tokens="last", retain=None)


def test_registered_methods_run_and_their_cards_hold_their_settings(model: Any) -> None:
    before = {name: p.clone() for name, p in model.parameters_in("all").items()}
    for name in ("uce", "rece", "speed", "oce", "oce-fast"):
        patch = erase(model, REQUEST, name, settings={"retain": None}, seed=3)
        again = ClosedForm.build(patch.card.settings)
        assert patch.card.method == again.name == name
        assert again == resolve_method(name, {"retain": None})
        assert patch.card.seed == 3
        wanted = model.parameters_in("xattn.v" if name not in ("uce", "rece") else "xattn.kv")
        assert set(patch.tensors) == set(wanted)
        assert METHODS.source(name)
    after = model.parameters_in("all")
    assert all(torch.equal(before[name], p) and not p.requires_grad for name, p in after.items())


def test_patched_model_answers_the_concept_as_its_anchor_and_what_must_stay_as_before(model: Any) -> None:
    patch = PLAIN.override({"keep_tokens": "words"})(model, REQUEST)
    with torch.no_grad():
        church, house, dog = (model.encode([text]).states[0] for text in ("church", "house", "a dog"))
    for name, W in model.parameters_in("xattn.kv").items():
        torch.testing.assert_close(patch.tensors[name] @ church[1], W @ house[1], rtol=0, atol=2e-3)
        torch.testing.assert_close(patch.tensors[name] @ dog[2], W @ dog[2], rtol=0, atol=2e-3)


def test_every_concept_of_a_request_is_edited(model: Any) -> None:
    request = REQUEST.model_copy(update={"also": (Target(concept="apple", prompts=("a red apple",)),)})
    patch = PLAIN(model, request)
    with torch.no_grad():
        church, house, apple, empty = (model.encode([text]).states[0] for text in ("church", "house", "apple", ""))
    for name, W in model.parameters_in("xattn.kv").items():
        torch.testing.assert_close(patch.tensors[name] @ church[1], W @ house[1], rtol=0, atol=2e-3)
        torch.testing.assert_close(patch.tensors[name] @ apple[1], W @ empty[0], rtol=0, atol=2e-3)


def test_losses_tell_what_is_left_after_every_solution(model: Any) -> None:
    steps: list[tuple[int, int, dict[str, float]]] = []
    patch = RECE.override({"retain": None})(
        model, REQUEST, progress=lambda done, total, losses: steps.append((done, total, losses)))
    losses = patch.card.losses
    assert patch.card.steps == len(losses["erase"]) == len(losses["keep"]) == 6
    assert 0 <= losses["erase"][0] < 0.5
    assert 0 <= losses["keep"][0] < 0.1
    assert [step for step in steps if step[2]] == [
        (i + 1, 6, {key: losses[key][i] for key in losses}) for i in range(6)]
    assert steps[0] == (4, 4, {})  # church, house, the prompt to keep and the empty one, before the first solution


def test_prompts_made_to_keep_are_among_the_patchs_texts(model: Any) -> None:
    patch = UCE.override({"retain": {"things": ["cat", "bus", "church"]}})(model, REQUEST)
    assert patch.texts["keep"][-2:] == ("a photo of a cat", "a photo of a bus")
    assert list(patch.card.left_out) == ["church"]


def test_seed_decides_the_copies_of_a_refined_prior_and_nothing_else(model: Any) -> None:
    solver = NullSpace(threshold=0.5, empty_share=0.5)
    settings = {"solver": solver.model_dump(), "retain": {"things": ["cat", "bus", "dog"]}}
    one, again, other = (erase(model, REQUEST, SPEED, settings=settings, seed=seed) for seed in (1, 1, 2))
    assert one.hash == again.hash != other.hash
    assert PLAIN(model, REQUEST, seed=1).hash == PLAIN(model, REQUEST, seed=2).hash


def test_prediction_does_not_matter(model: Any, v_model: Any) -> None:
    for name, value in PLAIN(model, REQUEST).tensors.items():
        torch.testing.assert_close(PLAIN(v_model, REQUEST).tensors[name], value)


def test_overrides_reach_parts_and_mistakes_are_told_at_once() -> None:
    assert UCE.override({"solver.size": 0.1}).solver == Ridge(size=0.1)
    assert UCE.override({"solver": "procrustes"}).solver == Procrustes()
    assert UCE.override({"rounds.count": 2}).rounds == Rounds(count=2)
    assert SPEED.override({"solver.refine": None}).solver == NullSpace(refine=None)
    with pytest.raises(ConfigError, match=r"(?s)solver.sizes.*tokenz") as error:
        UCE.override({"tokenz": "last", "solver.sizes": 1})
    assert "tokens" in str(error.value)
    with pytest.raises(ConfigError, match=r"Known kinds of solver|known kinds of solver"):
        UCE.override({"solver": "magic"})


def test_methods_given_as_objects_take_settings_too(model: Any) -> None:
    patch = erase(model, REQUEST, UCE, settings={"solver.size": 2.0, "retain": None})
    assert patch.card.settings["solver"]["size"] == 2.0


def test_plan_tells_texts_time_and_memory_and_changes_nothing(model: Any) -> None:
    before = {name: p.clone() for name, p in model.parameters_in("all").items()}
    told = plan(model, REQUEST, "rece", settings={"retain": None, "texts": "both"})
    assert json.loads(json.dumps(told)) == told
    assert told["encoded_texts"] == 6  # two names, a prompt and its anchor's, the one to keep, the empty one
    assert told["settings"]["rounds"]["count"] == 5
    kv = model.parameters_in("xattn.kv")
    assert told["trained"] == {"tensors": len(kv), "parameters": sum(p.numel() for p in kv.values())}
    assert told["seconds"] >= 0
    assert told["memory_bytes"] is None or told["memory_bytes"] > 0
    assert told["measured"] == "1 of 6 solutions, made and undone"
    assert all(torch.equal(before[name], p) for name, p in model.parameters_in("all").items())


@pytest.mark.parametrize(("settings", "said"), [
    ({"scope": "xattn"}, "does not read text states"), ({"scope": "text"}, "does not read text states"),
    ({"scope": "everything"}, "unknown scope"), ({"retain": {"things": ["church"]}}, "nothing is left to keep"),
])
def test_what_cannot_work_is_refused_before_computing(model: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        plan(model, REQUEST, "uce", settings=settings)
    with pytest.raises(UserError, match=said):
        erase(model, REQUEST, "uce", settings=settings)


def test_own_anchor_and_patched_model_are_refused(model: Any) -> None:
    with pytest.raises(UserError, match="own anchor"):
        PLAIN.check(model, Request(concept="church", prompts=("a church",), anchor="Church"))
    model.apply(PLAIN(model, REQUEST))
    with pytest.raises(UserError, match="has a patch on"):
        PLAIN(model, REQUEST)


def test_patch_is_written_and_no_checkpoint_is_left(model: Any, tmp_path: Path) -> None:
    patch = erase(model, REQUEST, "uce", settings={"retain": None}, out=tmp_path / "run")
    assert Patch.load(tmp_path / "run").hash == patch.hash
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        LOCK, "patch.json", "patch.safetensors", "prompts.json"]
