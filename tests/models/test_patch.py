"""A patch changes its tensors and nothing else, comes off bit for bit, and is refused where it does not belong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from expunge.errors import ModelError, TrainingError, UserError
from expunge.models.hashing import tensors_hash
from expunge.models.model import Model, applied
from expunge.models.patch import Patch
from expunge.models.pipeline import load_into_pipeline
from expunge.models.sample import draw
from expunge.models.scope import full_names
from expunge.models.sd import StableDiffusion
from expunge.records import Request, Sampler
from pipelines_of_families import built, taken

REQUEST = Request(concept="church", prompts=("a church",))


def make(model: Any, scope: str = "xattn.kv", by: float = 1.5) -> Patch:
    tensors = {name: parameter * by + 0.01 for name, parameter in model.parameters_in(scope).items()}
    return Patch.of(tensors, model=model, request=REQUEST, method="esd", settings={"steps": 3}, seed=1,
                    losses={"erase": [1.0, 0.5]}, steps=3)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for part in ("unet", "text_encoder")
            for name, parameter in full_names(part, model.components[part]).items()}


@pytest.mark.parametrize("scope", ["xattn.kv", "text", "all"])
def test_goes_on_and_comes_off_bit_for_bit(model: Any, scope: str) -> None:
    patch, before = make(model, scope), weights(model)
    model.apply(patch)
    assert model.patch_hash == patch.hash
    changed = {name for name, value in weights(model).items() if not value.equal(before[name])}
    assert changed == set(patch.tensors) == set(patch.card.tensors)
    assert all(weights(model)[name].equal(value) for name, value in patch.tensors.items())
    model.remove()
    assert model.patch_hash == ""
    assert all(value.equal(before[name]) for name, value in weights(model).items())


def test_pictures_change_inside_the_with_only(model: Any) -> None:
    items, sampler = [("a church", 0)], Sampler(steps=3)
    before, patch = draw(model, items, sampler), make(model, by=3.0)
    with applied(model, patch) as edited:
        assert edited is model
        assert float((draw(model, items, sampler) - before).abs().max()) > 1e-4
    assert draw(model, items, sampler).equal(before)
    with pytest.raises(ZeroDivisionError), applied(model, patch):
        raise ZeroDivisionError
    assert model.patch_hash == ""


def test_hash_of_the_base_does_not_move_with_a_patch(model: Any) -> None:
    base = model.hash
    with applied(model, make(model)):
        assert model.hash == base
        assert make(model).card.base_hash == base


def test_round_trip_on_disk(model: Any, tmp_path: Path) -> None:
    patch = make(model)
    file = patch.save(tmp_path / "church")
    assert file == tmp_path / "church" / "patch.safetensors"
    for path in (tmp_path / "church", file, file.with_suffix(".json")):
        again = Patch.load(path)
        assert again.card == patch.card
        assert again.hash == patch.hash
        assert all(value.equal(patch.tensors[name]) for name, value in again.tensors.items())
    named = patch.save(tmp_path / "mine.safetensors")
    assert json.loads((tmp_path / "mine.json").read_text())["request"]["concept"] == "church"
    (tmp_path / "mine.json").unlink()
    assert Patch.load(named).card == patch.card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["church", "mine.safetensors"]


def test_hash_sees_names_shapes_and_values() -> None:
    zeros = torch.zeros(2, 3)
    hashes = {tensors_hash(tensors) for tensors in (
        {"a": zeros}, {"b": zeros}, {"a": zeros.T}, {"a": zeros + 1e-30}, {"a": zeros.double()},
        {"a": zeros, "b": zeros}, {})}
    assert len(hashes) == 7
    assert tensors_hash({"a": zeros, "b": zeros + 1}) == tensors_hash({"b": zeros + 1, "a": zeros})
    assert tensors_hash({"a": torch.arange(6.0).view(2, 3).T}) == tensors_hash({"a": torch.tensor(
        [[0.0, 3], [1, 4], [2, 5]])})


def test_one_flipped_bit_is_noticed(model: Any, tmp_path: Path) -> None:
    file = make(model).save(tmp_path)
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelError, match=r"damaged: its tensors hash to .*accepted: .* as its card says"):
        Patch.load(tmp_path)


@pytest.mark.parametrize("harm", ["cut", "empty", "card", "gone"])
def test_damaged_files_are_refused(model: Any, tmp_path: Path, harm: str) -> None:
    file = make(model).save(tmp_path)
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:200])
    elif harm == "empty":
        file.write_bytes(b"")
    elif harm == "card":
        file.with_suffix(".json").write_text('{"format": 1, ')
    else:
        file.unlink()
    with pytest.raises(ModelError, match="no patch at" if harm == "gone" else "cannot be read"):
        Patch.load(tmp_path)


def _rewritten(file: Path, tensors: dict[str, torch.Tensor], /, **changes: Any) -> None:
    """Write another patch over `file`: tensors and card fit each other, whatever else is odd about them."""
    card = json.loads(file.with_suffix(".json").read_text()) | {
        "tensors": sorted(tensors), "tensors_hash": tensors_hash(tensors)} | changes
    file.with_suffix(".json").write_text(json.dumps(card))
    save_file(tensors, file, {"card": json.dumps(card)})


@pytest.mark.parametrize(("harm", "message"), [
    ("half", "is float16, not float32"), ("nan", "not finite"), ("format", "format: Input should be 1"),
    ("names", "not those that its card names"), ("other card", "patch.json beside it is not the card"),
    ("no card", "has no card")])
def test_patches_that_are_whole_but_odd_are_refused_in_one_line(model: Any, tmp_path: Path, harm: str, message: str
                                                                ) -> None:
    file = make(model).save(tmp_path)
    tensors = load_file(file)
    name = next(iter(tensors))
    if harm == "half":
        _rewritten(file, {key: value.half() for key, value in tensors.items()})
    elif harm == "nan":
        _rewritten(file, {**tensors, name: torch.full_like(tensors[name], float("nan"))})
    elif harm == "format":
        _rewritten(file, tensors, format=2)
    elif harm == "names":
        _rewritten(file, tensors, tensors=["unet/conv_in.bias"])
    elif harm == "other card":
        card = file.with_suffix(".json")
        card.write_text(card.read_text().replace('"church"', '"bomb"'))
    else:
        save_file(tensors, file)
        file.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match=message) as caught:
        Patch.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_edit_that_is_not_finite_is_no_patch(model: Any) -> None:
    with pytest.raises(TrainingError, match=r"not finite, 'unet/.*lower the learning rate"):
        make(model, by=float("inf"))


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux-dev"])
def test_patch_of_another_family_is_refused_with_both_families(model: Any, family: str) -> None:
    other = taken(built(family))
    with pytest.raises(ModelError, match=rf"a patch for .*, Stable Diffusion\).*loaded model, tiny .*{other.family}"):
        other.apply(make(model))
    with pytest.raises(ModelError, match=rf"a patch for tiny .*, {other.family}\).*, Stable Diffusion\)"):
        model.apply(make(other, "xattn.kv" if family == "sdxl" else "entry"))


def test_patch_of_another_base_is_refused_with_both_names(model: Any, v_model: Any) -> None:
    with torch.no_grad():
        v_model.components["vae"].decoder.conv_out.bias.add_(1)
    other = Model(StableDiffusion(_pipe_of(v_model, steps_offset=1)), "the other model")
    before = weights(model)
    with pytest.raises(ModelError, match=rf"a patch for the other model \({other.hash[:12]}\).*{model.hash[:12]}"):
        model.apply(make(other))
    assert model.patch_hash == ""
    assert all(value.equal(before[name]) for name, value in weights(model).items())


def _pipe_of(model: Any, **schedule: Any) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        **model.components, tokenizer=model.texts[0].tokenizer, safety_checker=None, feature_extractor=None,
        scheduler=DDIMScheduler.from_config(model.process.schedule._scheduler.config, **schedule),
        requires_safety_checker=False)


OWN_BETAS = {"trained_betas": [0.001 * i for i in range(1, 11)], "num_train_timesteps": 10}


@pytest.mark.parametrize("schedule", [
    {"prediction_type": "v_prediction"}, {"beta_schedule": "linear"}, {"beta_start": 0.0001}, {"beta_end": 0.02},
    {"num_train_timesteps": 500}, {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, OWN_BETAS,
], ids=lambda schedule: ",".join(schedule))
def test_patch_for_equal_weights_of_another_process_is_refused(model: Any, schedule: dict[str, Any]) -> None:
    patch, other = make(model), Model(StableDiffusion(_pipe_of(model, **schedule)), "other")
    assert other.hash == model.hash
    with pytest.raises(ModelError, match=r"a patch for .* with epsilon, scaled_linear betas 0.00085 to 0.012, 1000"):
        other.apply(patch)
    assert other.patch_hash == ""
    other.apply(make(other))


@pytest.mark.parametrize("grid", [{"timestep_spacing": "trailing"}, {"set_alpha_to_one": True}])
def test_how_the_sampler_walks_does_not_matter_to_a_patch(model: Any, grid: dict[str, Any]) -> None:
    other = Model(StableDiffusion(_pipe_of(model, **grid)), "other")
    assert other.drawing != model.drawing
    other.apply(make(model))


def test_card_that_names_no_process_goes_by_the_weights(model: Any) -> None:
    patch = make(model)
    assert patch.card.base_process == model.process.description
    model.apply(Patch(patch.tensors, patch.card.model_copy(update={"base_process": ""})))


def test_foreign_tensors_and_shapes_are_refused_and_change_nothing(model: Any) -> None:
    before, name = weights(model), "unet/conv_in.bias"
    good = {name: model.parameters_in("noxattn")[name] + 1}
    for bad, message in (({**good, "unet/conv_in.nothing": torch.zeros(1)}, "does not have"),
                         ({**good, "unet/conv_out.bias": torch.zeros(3)}, r"is \(3,\); accepted: \(4,\)")):
        patch = Patch.of(bad, model=model, request=REQUEST, method="esd", settings={}, seed=0)
        with pytest.raises(ModelError, match=message):
            model.apply(patch)
        assert all(value.equal(before[key]) for key, value in weights(model).items())


def test_one_patch_at_a_time_and_only_patches(model: Any) -> None:
    with pytest.raises(UserError, match="no patch on this model"):
        model.remove()
    with pytest.raises(UserError, match="dict is no patch"):
        model.apply({})
    model.apply(make(model))
    with pytest.raises(UserError, match="already on; remove it first"):
        model.apply(make(model))


def test_teacher_of_a_patched_model_keeps_the_patch(model: Any) -> None:
    patch, before = make(model), weights(model)
    model.apply(patch)
    teacher = model.frozen_copy()
    model.remove()
    assert teacher.patch_hash == patch.hash
    assert all(weights(teacher)[name].equal(value) for name, value in patch.tensors.items())
    teacher.remove()
    assert all(value.equal(before[name]) for name, value in weights(teacher).items())


def test_plain_diffusers_loads_a_patch(model: Any, pipeline_folder: Path, tmp_path: Path) -> None:
    """The lines of the module's docstring, and the function that does the same with checks."""
    patch = make(model, "all")
    file = patch.save(tmp_path)
    plain, ours = (StableDiffusionPipeline.from_pretrained(pipeline_folder, safety_checker=None) for _ in range(2))
    prefix = "text_model." if hasattr(plain.text_encoder, "text_model") else ""
    for part in ("unet", "text_encoder"):
        new = {k.removeprefix(part + "/"): v for k, v in load_file(file).items() if k.startswith(part + "/")}
        if part == "text_encoder":
            new = {prefix + k: v for k, v in new.items()}
        getattr(plain, part).load_state_dict(new, strict=False)
    load_into_pipeline(ours, patch)
    model.apply(patch)
    for part in ("unet", "text_encoder"):
        for pipe in (plain, ours):
            theirs, mine = getattr(pipe, part).state_dict(), model.components[part].state_dict()
            assert all(value.equal(theirs[name]) for name, value in mine.items())


def test_texts_lie_beside_the_patch_and_not_in_it(model: Any, tmp_path: Path) -> None:
    texts = {"erase": ("a church",), "keep": ("a dog that must stay", "überall ein Haus")}
    tensors = {name: parameter * 1.5 for name, parameter in model.parameters_in("xattn.kv").items()}
    patch = Patch.of(tensors, model=model, request=REQUEST, method="esd", settings={}, seed=1, texts=texts)
    file = patch.save(tmp_path / "church")
    named = patch.save(tmp_path / "mine.safetensors")
    for path, beside in ((file, file.with_name("prompts.json")), (named, tmp_path / "mine.prompts.json")):
        assert Patch.load(path).texts == texts
        assert json.loads(beside.read_text(encoding="utf-8")) == {use: list(mine) for use, mine in texts.items()}
        for whole in (path.read_bytes(), path.with_suffix(".json").read_bytes()):
            assert b"must stay" not in whole
        beside.write_text('{"erase": ["another"]}')
        with pytest.raises(ModelError, match="does not belong to the patch"):
            Patch.load(path)
        beside.write_text("[1")
        with pytest.raises(ModelError, match="cannot be read"):
            Patch.load(path)
        beside.unlink()
        assert Patch.load(path).texts == {}
        assert Patch.load(path).card == patch.card


def test_a_patch_that_is_older_than_the_file_of_texts_loads_with_its_own_list(model: Any, tmp_path: Path) -> None:
    file = make(model).save(tmp_path)
    card = json.loads(file.with_suffix(".json").read_text())
    for new in ("texts_hash", "chosen", "look"):
        del card[new]
    card["kept"] = ["a dog"]
    text = json.dumps(card)
    save_file(load_file(file), file, {"format": "pt", "card": text})
    file.with_suffix(".json").write_text(text)
    old = Patch.load(tmp_path)
    assert (old.card.kept, old.texts, old.card.look) == (("a dog",), {}, ())


def test_old_places_of_functions_still_work() -> None:
    from expunge.models import model, patch, pipeline

    assert patch.load_into_pipeline is pipeline.load_into_pipeline
    assert patch.applied is model.applied
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        patch.nothing  # noqa: B018
