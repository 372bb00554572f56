"""Plain misuse of the Python API is an error of expunge's own, that says what was got and what is accepted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

import expunge
from expunge.attacks.settings import AttackSettings
from expunge.attacks.suite import attack
from expunge.errors import ConfigError, ExpungeError, UserError
from expunge.evaluation import EvaluateSettings, evaluate
from expunge.models.patch import Patch
from expunge.models.pipeline import load_into_pipeline
from expunge.records import Request
from expunge.unlearn.erase import erase, plan


def patch_of(model: Any) -> Patch:
    name = next(name for name in model.parameters_in("xattn") if name.endswith("to_v.weight"))
    return Patch.of({name: model.parameters_in("xattn")[name].detach() * -2}, model=model, method="test", settings={},
                    request=Request(concept="church", prompts=("a church",)), seed=0)


@pytest.mark.parametrize("call", [erase, plan])
@pytest.mark.parametrize(("wrong", "says"), [
    ({"concept": None}, "concept is None"), ({"concept": 5}, "concept is 5"), ({"concept": b"church"}, "concept is b'"),
    ({"concept": ["church", 5]}, "concept holds 5"), ({"concept": {"church", "dog"}}, "concept is {"),
    ({"anchor": 5}, "anchor is 5"), ({"anchor": [None]}, "anchor holds None"), ({"only_with": 5}, "only_with is 5"),
    ({"kind": 5}, "kind is 5"), ({"keep": 5}, "keep is 5"), ({"keep": [5]}, "keep holds 5"),
    ({"keep": "a dog"}, "single text 'a dog'"), ({"prompts": Path("own.txt")}, "prompts is the path 'own.txt'"),
    ({"prompts": 5}, "prompts is 5"), ({"prompts": [5]}, "prompts holds 5"), ({"prompts": "a church"}, "single text"),
    ({"prompts": {"church": "a church"}}, "prompts holds the single text"), ({"method": None}, "None as the method"),
    ({"settings": [1]}, r"settings \[1\]"), ({"settings": "steps=1"}, "settings 'steps=1'")])
def test_a_request_of_the_wrong_type_is_told(model: Any, call: Callable[..., Any], wrong: dict[str, Any], says: str
                                             ) -> None:
    told = {"concept": "church", "method": "uce", **wrong}
    with pytest.raises(UserError, match=says) as caught:
        call(model, told.pop("concept"), told.pop("method"), **told)
    assert caught.value.accepted


def test_an_output_folder_of_the_wrong_type_is_told_and_made_nowhere(model: Any, tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (lambda: erase(model, "church", "uce", out=5),  # type: ignore[arg-type]
                 lambda: evaluate(model, patch_of(model), out=5),  # type: ignore[arg-type]
                 lambda: attack(model, patch_of(model), out=5)):  # type: ignore[arg-type]
        with pytest.raises(UserError, match="output folder"):
            call()
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("call", "says"), [
    (lambda model: Patch.load(None), "None as the place of a patch"),  # type: ignore[arg-type]
    (lambda model: patch_of(model).save(None), "None as the place of a patch"),  # type: ignore[arg-type]
    (lambda model: load_into_pipeline(object(), None), "None as the patch"),  # type: ignore[arg-type]
    (lambda model: evaluate(model, None), "None as the patch"),  # type: ignore[arg-type]
    (lambda model: evaluate(None, patch_of(model)), "None as the model"),  # type: ignore[arg-type]
    (lambda model: evaluate(model, patch_of(model), settings={"seeds": 1}), "settings {'seeds': 1}"),  # type: ignore
    (lambda model: expunge.attack(model, 5, out="x"), "5 as the patch"),
    (lambda model: expunge.relearn("embedded", None, out="x"), "'embedded' as the model")])
def test_what_is_no_patch_model_or_settings_is_told(model: Any, call: Callable[[Any], Any], says: str, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says) as caught:
        call(model)
    assert caught.value.accepted


@pytest.mark.parametrize(("make", "says"), [
    (lambda: EvaluateSettings(seeds=-1), "EvaluateSettings: seeds: got -1"),
    (lambda: AttackSettings(tier="x"), "AttackSettings: tier: got 'x'"),  # type: ignore[arg-type]
    (lambda: EvaluateSettings(sedes=1, seeds=0), r"seeds: got 0.*unknown setting 'sedes' \(did you mean 'seeds'\?\)"),  # type: ignore
    (lambda: EvaluateSettings(counts={"direct": -1}), "counts.direct: got -1")])  # type: ignore[arg-type]
def test_settings_that_do_not_fit_are_an_error_of_expunge_and_a_value_error(make: Callable[[], Any], says: str) -> None:
    for kind in (ConfigError, ExpungeError, ValueError):
        with pytest.raises(kind, match=says):
            make()


def test_a_pipeline_of_inference_mode_takes_a_patch(model: Any, pipeline_folder: Path) -> None:
    patch = patch_of(model)
    with torch.inference_mode():
        pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder)
        opened = expunge.load(pipeline_folder)
    assert load_into_pipeline(pipe, patch)["unet"] > 0
    with pytest.raises(ExpungeError, match="already"):
        load_into_pipeline(pipe, patch)
    opened.apply(patch)
    assert opened.patch_hash == patch.hash
