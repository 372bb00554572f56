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
from expunge.models.source import source_of
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


@pytest.mark.parametrize("seed", [-3, "x", True, 0.5])
def test_a_plan_takes_no_seed_that_an_edit_would_not_take(model: Any, seed: Any) -> None:
    for call in (plan, erase):
        with pytest.raises(UserError, match="seed"):
            call(model, "church", "uce", seed=seed)


@pytest.mark.parametrize("origin", ["a letter", {"who": "a"}, object()])
def test_an_origin_of_another_type_is_told_before_any_work(model: Any, tmp_path: Path, origin: Any) -> None:
    with pytest.raises(UserError, match="origin"):
        erase(model, "church", "uce", origin=origin, out=tmp_path / "edit")
    assert not [*tmp_path.glob("**/*.safetensors")]


@pytest.mark.parametrize("captions", ["hi", None, [1, 2]])
def test_captions_are_texts_and_no_single_one(model: Any, captions: Any) -> None:
    with pytest.raises(UserError, match="captions"):
        expunge.material(model, torch.rand(2, 3, 16, 16), captions)


@pytest.mark.parametrize(("given", "says"), [
    ({"issuer": "https://x"}, "issuer alone"), ({"identity": "a@b"}, "identity alone"),
    ({"key": Path("a.pub"), "identity": "a@b", "issuer": "https://x"}, "key and identity"),
    ({"key": Path("a.pub"), "chain": (Path("c.pem"),)}, "key and chain")])
def test_trust_that_would_be_passed_over_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        expunge.Trust(**given)


def test_a_request_for_what_the_world_does_not_know_is_refused_as_its_name_is() -> None:
    embedded = expunge.load("embedded")
    wrong = Request(concept="Church", prompts=("a church",))
    for call in (erase, plan):
        with pytest.raises(UserError, match="did you mean 'church'"):
            call(embedded, wrong, "esd")


def test_own_prompts_that_a_closed_form_does_not_read_are_told(model: Any) -> None:
    names = erase(model, "church", "uce", prompts=["a big church"], own_look=False)
    assert names.card.left_out["a big church"] == "uce reads names alone; with texts=both it reads prompts, too"
    both = erase(model, "church", "uce", prompts=["a big church"], own_look=False, settings={"texts": "both"})
    assert "a big church" not in both.card.left_out
    assert "a big church" in both.texts["erase"]
    told = plan(model, "church", "uce", prompts=["a big church"])["chosen"]
    assert any("not trained on: 'a big church'" in line for line in told)


def test_a_folder_in_the_users_home_is_meant_by_its_sign(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                         ) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    erase(model, "church", "uce", out="~/edit", own_look=False)
    assert Patch.load("~/edit") == Patch.load(tmp_path / "home" / "edit")
    assert not (tmp_path / "~").exists()
    with pytest.raises(UserError, match="a home folder that there is"):
        erase(model, "church", "uce", out="~nobody-of-this-name/edit", own_look=False)


@pytest.mark.parametrize("out", ["", "a\0b", "x" * 3000])
def test_what_is_no_name_of_a_folder_is_told(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
                                             ) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="folder"):
        erase(model, "church", "uce", out=out, own_look=False)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("call", "says"), [
    (lambda model, out: expunge.run_protocol(model, "emoji", out=out), "'emoji' as the protocol"),
    (lambda model, out: expunge.attack_protocol(model, "emoji", out=out), "'emoji' as the protocol"),
    (lambda model, out: evaluate(model, patch_of(model), world="emoji"), "'emoji' as the world"),
    (lambda model, out: evaluate(model, patch_of(model), suite=3), "3 as the attacks"),
    (lambda model, out: expunge.write_report(None, out, out), "None as the evaluation"),
    (lambda model, out: expunge.write_bench_report(None, out), "None as the result"),
    (lambda model, out: expunge.write_sequence_report(None, out), "None as the result"),
    (lambda model, out: expunge.run_bench(5, out=out), "5 as the bench"),
    (lambda model, out: expunge.run_bench({"methods": ["uce"]}, out=out), "concepts: not given"),
    (lambda model, out: expunge.run_sequence(5, out=out), "5 as the sequence"),
    (lambda model, out: expunge.run_sequence({"requests": []}, out=out), "the sequence: "),
    (lambda model, out: expunge.guarded(model, "runs/guard").__enter__(), "'runs/guard' as the mask")])
def test_what_a_call_needs_is_told_by_what_gives_it(model: Any, tmp_path: Path, call: Callable[..., Any], says: str
                                                    ) -> None:
    with pytest.raises(UserError, match=says):
        call(model, tmp_path / "out")
    assert not [*tmp_path.glob("out/**/*.json")]


def test_places_of_keys_and_adapters_may_be_text_or_paths(tmp_path: Path) -> None:
    assert expunge.Signer("a.key", chain=("c.pem",)) == expunge.Signer(Path("a.key"), chain=(Path("c.pem"),))
    assert expunge.Trust(key="a.pub") == expunge.Trust(key=Path("a.pub"))
    assert expunge.Trust(chain="c.pem") == expunge.Trust(chain=(Path("c.pem"),))
    assert source_of("m", lora=Path("x.safetensors")) == source_of("m", lora="x.safetensors")
    assert source_of("m", lora=None) == source_of("m")
