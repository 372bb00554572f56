"""Edits that others published: recognised by their keys, compared with the base, or refused by name."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from exported import REQUEST, Case, edited, matrices, shaken
from safetensors.torch import load_file, save_file

import expunge
from expunge.errors import ModelError, UserError
from expunge.exports.incoming import import_edit
from expunge.files import file_digest
from expunge.models.patch import Patch
from expunge.models.store import load
from original_files import state_of, written
from pipelines_of_families import built

Stored = Mapping[str, Any]


def state(case: Case, component: str, patch: Patch) -> dict[str, Any]:
    """A component's state dict with the edit in it, as transformers and diffusers spell it."""
    model = load(case.folder, device="cpu")
    model.apply(patch)
    return {name: value.detach().clone().contiguous() for name, value in state_of(model.components[component]).items()}


def saved(tensors: Stored, path: Path) -> Path:
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return path


def check(found: Patch, patch: Patch, case: Case) -> None:
    """The same edit."""
    assert set(found.weights) == set(patch.weights)
    before = case.model.editable()
    for name in found.weights:
        torch.testing.assert_close(found.value(name, before[name]), patch.value(name, before[name]), rtol=0, atol=0)


def bare(tensors: Stored) -> dict[str, Any]:
    return {name.removeprefix("text_model."): value for name, value in tensors.items()}


SPELT: Mapping[str, Callable[[Stored], dict[str, Any]]] = {
    "text_model.": lambda held: {f"text_model.{name}": value for name, value in bare(held).items()},
    "no text_model.": bare,
    "text_encoder. (AdvUnlearn)": lambda held: {f"text_encoder.text_model.{name}": v for name, v in bare(held).items()},
    "transformer.": lambda held: {f"transformer.text_model.{name}": value for name, value in bare(held).items()},
    "cond_stage_model.": lambda held: {f"cond_stage_model.transformer.text_model.{name}": value
                                       for name, value in bare(held).items()}}


@pytest.mark.parametrize("way", SPELT)
def test_an_edited_text_encoder_in_every_spelling(case_of: Callable[[str], Case], tmp_path: Path, way: str) -> None:
    case = case_of("sd")
    patch = shaken(case.model, "text")
    tensors = SPELT[way](state(case, "text_encoder", patch))
    tensors["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    found = import_edit(saved(tensors, tmp_path / "theirs.safetensors"), REQUEST, model=case.folder)
    check(found, patch, case)


def test_open_clips_names_are_read_and_its_stacks_taken_apart(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    from expunge.models.original import open_clip

    case = case_of("sdxl")
    patch = shaken(case.model, "text2")
    tensors = written(state(case, "text_encoder_2", patch), open_clip)
    check(import_edit(saved(tensors, tmp_path / "g.safetensors"), REQUEST, model=case.folder), patch, case)


@pytest.mark.parametrize("prefix", ["", "unet.", "module."])
def test_an_edited_unet_in_diffusers_names(case_of: Callable[[str], Case], tmp_path: Path, prefix: str) -> None:
    case = case_of("sd")
    patch = shaken(case.model, "xattn")
    tensors = {prefix + name: value for name, value in state(case, "unet", patch).items()}
    found = import_edit(saved(tensors, tmp_path / "unet.safetensors"), REQUEST, model=case.folder)
    check(found, patch, case)
    assert found.card.method == "imported"
    assert found.card.settings["files"] == {"unet.safetensors": file_digest(tmp_path / "unet.safetensors")}
    assert "unet in diffusers' names" in found.card.settings["form"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd", "sdxl", "flux-dev", "sd3"])
@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model.", ""])
def test_an_edited_network_in_the_original_names(case_of: Callable[[str], Case], tmp_path: Path, name: str, prefix: str
                                                 ) -> None:
    case = case_of(name)
    patch = shaken(case.model, matrices(case.model, "xattn"))
    out = tmp_path / "whole.safetensors"
    expunge.export(patch, out, "checkpoint", model=case.folder, original=case.file)
    start = "model.diffusion_model."
    tensors = {prefix + key.removeprefix(start): value for key, value in load_file(out).items()
               if key.startswith(start) and key != f"{start}pos_embed"}
    check(import_edit(saved(tensors, tmp_path / "x.safetensors"), REQUEST, model=case.folder), patch, case)


def test_a_file_of_what_changed_alone_is_taken_only_where_that_is_said(case_of: Callable[[str], Case], tmp_path: Path
                                                                       ) -> None:
    """ESD and UCE publish such files."""
    case = case_of("sd")
    patch = shaken(case.model, "xattn")
    file = saved({name.partition("/")[2]: value for name, value in patch.tensors.items()}, tmp_path / "esd.safetensors")
    with pytest.raises(ModelError, match=r"lacks \d+ of \d+ weights of the unet, 'unet/") as caught:
        import_edit(file, REQUEST, model=case.folder)
    assert "--partial" in str(caught.value)
    found = import_edit(file, REQUEST, model=case.folder, partial=True)
    check(found, patch, case)
    assert found.card.settings["weights_not_in_the_file"] > 100


def test_one_key_too_many_or_another_shape_is_refused_by_name(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case = case_of("sd")
    tensors = state(case, "unet", shaken(case.model, "xattn"))
    extra = saved({**tensors, "down_blocks.0.adapter.weight": torch.ones(3)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"1 tensors? that no part of .* has a place for, 'down_blocks.0.adapter"):
        import_edit(extra, REQUEST, model=case.folder)
    other = saved({**tensors, "conv_in.weight": torch.ones(7, 4, 3, 3)}, tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match=r"lacks 1 of|'conv_in\.weight' first"):
        import_edit(other, REQUEST, model=case.folder)


def test_a_copy_rounded_to_half_precision_changes_only_what_was_edited(case_of: Callable[[str], Case], tmp_path: Path
                                                                       ) -> None:
    case = case_of("sd")
    patch = shaken(case.model, matrices(case.model, "xattn.kv"))
    tensors = {name: value.half() for name, value in state(case, "unet", patch).items()}
    found = import_edit(saved(tensors, tmp_path / "half.safetensors"), REQUEST, model=case.folder)
    assert set(found.weights) == set(patch.weights)
    assert found.card.settings["of_these_after_rounding"] > 50
    for name, value in found.tensors.items():
        assert torch.equal(value, patch.tensors[name].half().float())


@pytest.mark.slow
def test_a_whole_folder_and_a_whole_file_are_compared_part_by_part(case_of: Callable[[str], Case], tmp_path: Path
                                                                   ) -> None:
    case = case_of("sdxl")
    patch = shaken(case.model, matrices(case.model, "all"))
    expunge.merge(case.folder, patch, tmp_path / "folder", "float32")
    check(import_edit(tmp_path / "folder", REQUEST, model=case.folder), patch, case)
    expunge.export(patch, tmp_path / "x.safetensors", "checkpoint", model=case.folder, original=case.file)
    check(import_edit(tmp_path / "x.safetensors", REQUEST, model=case.folder), patch, case)
    check(import_edit(tmp_path / "folder" / "unet", REQUEST, model=case.folder),
          Patch.of({name: v for name, v in patch.tensors.items() if name.startswith("unet/")}, model=case.model,
                   request=REQUEST, method="x", settings={}, seed=0), case)


def test_another_autoencoder_is_refused_unless_it_is_left_out_by_name(case_of: Callable[[str], Case], tmp_path: Path
                                                                      ) -> None:
    case = case_of("sd")
    patch = shaken(case.model, "xattn")
    expunge.export(patch, tmp_path / "a.safetensors", "checkpoint", model=case.folder, original=case.file)
    tensors = load_file(tmp_path / "a.safetensors")
    tensors["first_stage_model.decoder.conv_in.bias"] += 1
    file = saved(tensors, tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match=r"'vae/.*differs from .*--skip vae"):
        import_edit(file, REQUEST, model=case.folder)
    found = import_edit(file, REQUEST, model=case.folder, skip=("vae",))
    check(found, patch, case)
    assert found.card.settings["components_not_compared"] == ["vae"]


def test_another_familys_file_folder_or_lora_is_refused(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case, other = case_of("sd"), case_of("sdxl")
    with pytest.raises(ModelError, match="is a model of Stable Diffusion XL"):
        import_edit(other.file, REQUEST, model=case.folder)
    with pytest.raises(ModelError, match="StableDiffusionXLPipeline"):
        import_edit(other.folder, REQUEST, model=case.folder)
    lora = tmp_path / "l.safetensors"
    expunge.export(shaken(other.model, matrices(other.model, "xattn.kv")), lora, "lora-kohya", model=other.folder)
    with pytest.raises(ModelError, match="which this model does not have"):
        import_edit(lora, REQUEST, model=case.folder)


def test_a_pickle_is_read_only_with_leave_and_then_by_the_reader_of_weights(case_of: Callable[[str], Case],
                                                                           tmp_path: Path) -> None:
    case = case_of("sd")
    patch = shaken(case.model, "xattn")
    file = tmp_path / "uce.pt"
    torch.save({"state_dict": state(case, "unet", patch), "epoch": 3}, file)
    with pytest.raises(ModelError, match="is a pickle, which runs code"):
        import_edit(file, REQUEST, model=case.folder)
    check(import_edit(file, REQUEST, model=case.folder, allow_pickle=True), patch, case)


class Bomb:
    """What runs code when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.place, "ran")


@pytest.mark.parametrize("save", [torch.save, lambda held, file: file.write_bytes(pickle.dumps(held))])
def test_a_pickle_that_runs_code_is_refused_and_has_not_run(case_of: Callable[[str], Case], tmp_path: Path, save: Any
                                                            ) -> None:
    file, sign = tmp_path / "evil.pt", tmp_path / "ran"
    save({"state_dict": {"w": torch.ones(1)}, "more": Bomb(sign)}, file)
    with pytest.raises(ModelError, match="holds more than weights"):
        import_edit(file, REQUEST, model=case_of("sd").folder, allow_pickle=True)
    assert not sign.exists()


def test_quantised_damaged_and_unknown_files_are_refused(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case = case_of("sd")
    tensors = state(case, "unet", shaken(case.model, "xattn"))
    scaled = saved({**tensors, "conv_out.scale_weight": torch.ones(())}, tmp_path / "q.safetensors")
    with pytest.raises(ModelError, match="is quantised"):
        import_edit(scaled, REQUEST, model=case.folder)
    (tmp_path / "cut.safetensors").write_bytes(scaled.read_bytes()[:-9])
    with pytest.raises(ModelError, match="cannot be read"):
        import_edit(tmp_path / "cut.safetensors", REQUEST, model=case.folder)
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"a file in \.gguf"):
        import_edit(tmp_path / "x.gguf", REQUEST, model=case.folder)
    with pytest.raises(ModelError, match="nothing at"):
        import_edit(tmp_path / "none", REQUEST, model=case.folder)
    tensors["conv_in.bias"] = tensors["conv_in.bias"] * float("nan")
    with pytest.raises(ModelError, match="not finite"):
        import_edit(saved(tensors, tmp_path / "nan.safetensors"), REQUEST, model=case.folder)


def test_the_base_itself_is_no_edit(case_of: Callable[[str], Case]) -> None:
    case = case_of("sd")
    for place in (case.folder, case.file):
        with pytest.raises(UserError, match="an edit that changes nothing of"):
            import_edit(place, REQUEST, model=case.folder)


def test_encoders_of_one_shape_are_told_apart_by_the_caller(tmp_path: Path) -> None:
    pipe = built("sdxl")
    from transformers import CLIPTextModelWithProjection

    with torch.random.fork_rng():
        torch.manual_seed(9)
        config = pipe.text_encoder_2.config
        config.hidden_size = config.projection_dim = 32
        pipe.text_encoder_2 = CLIPTextModelWithProjection(config)
    import diffusers

    unet = {**pipe.unet.config, "cross_attention_dim": 64, "projection_class_embeddings_input_dim": 6 * 8 + 32}
    pipe.unet = diffusers.UNet2DConditionModel.from_config(unet)
    pipe.save_pretrained(tmp_path / "twins")
    tensors = {name: value + 0.1 for name, value in state_of(pipe.text_encoder).items()}
    file = saved(tensors, tmp_path / "which.safetensors")
    with pytest.raises(ModelError, match="could be of the text_encoder or the text_encoder_2"):
        import_edit(file, REQUEST, model=tmp_path / "twins")
    found = import_edit(file, REQUEST, model=tmp_path / "twins", component="text_encoder")
    assert all(name.startswith("text_encoder/") for name in found.weights)


def test_an_imported_edit_goes_on_and_is_saved_as_any_patch(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case = case_of("sd")
    patch = shaken(case.model, "xattn")
    expunge.export(patch, tmp_path / "d.safetensors", "diff-comfy", model=case.folder, dtype="float32")
    found = import_edit(tmp_path / "d.safetensors", "church", model=case.folder)
    assert found.card.kind == "add"
    again = Patch.load(found.save(tmp_path / "theirs"))
    assert again.card.request.concept == "church"
    wanted = edited(case, patch)
    for name, value in edited(case, again).items():
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("asked", [{"component": "vae"}, {"skip": ("vea",)}, {"skip": ("vae", "safety_checker")}])
def test_a_component_that_the_model_does_not_have_is_told_with_those_that_it_has(case_of: Callable[[str], Case],
                                                                                asked: dict[str, Any]) -> None:
    case, name = case_of("sd"), next(iter(asked))
    known = "unet, text_encoder" if name == "component" else "vae"
    with pytest.raises(UserError, match=f"--{name} (vae|vea|safety_checker) of .*; accepted: .*{known}"):
        import_edit(case.file, REQUEST, model=case.folder, **asked)


@pytest.mark.slow
@pytest.mark.parametrize(("to", "asked"), [
    ("checkpoint", {"partial": True}), ("checkpoint", {"component": "unet"}), ("folder", {"partial": True}),
    ("lora-kohya", {"skip": ("vae",)}), ("lora-kohya", {"component": "unet"}), ("diff-comfy", {"partial": True}),
    ("component", {"skip": ("vae",)})])
def test_a_setting_that_a_file_has_no_use_for_is_refused_by_name(case_of: Callable[[str], Case], tmp_path: Path,
                                                                 to: str, asked: dict[str, Any]) -> None:
    case = case_of("sd")
    out = tmp_path / ("x" if to in ("folder", "component") else "x.safetensors")
    expunge.export(shaken(case.model, matrices(case.model, "xattn.kv")), out, to, model=case.folder,
                   **({"original": case.file} if to == "checkpoint" else {}))
    with pytest.raises(UserError, match=f"--{next(iter(asked))} with {out}"):
        import_edit(out, REQUEST, model=case.folder, **asked)


@pytest.mark.parametrize("to", ["lora-kohya", "diff-comfy"])
def test_factors_and_differences_that_are_not_finite_are_the_files_fault(case_of: Callable[[str], Case], tmp_path: Path,
                                                                         to: str) -> None:
    case, file = case_of("sd"), tmp_path / "x.safetensors"
    expunge.export(shaken(case.model, matrices(case.model, "xattn.kv")), file, to, model=case.folder)
    tensors = load_file(file)
    tensors[max(tensors)].flatten()[0] = float("inf")
    with pytest.raises(ModelError, match="holds values that are not finite"):
        import_edit(saved(tensors, tmp_path / "broken.safetensors"), REQUEST, model=case.folder)


@pytest.mark.slow
def test_a_components_folder_with_two_sets_of_weights_is_not_guessed_at(case_of: Callable[[str], Case], tmp_path: Path
                                                                        ) -> None:
    case, folder = case_of("sd"), tmp_path / "unet"
    folder.mkdir()
    patch = shaken(case.model, "xattn")
    saved(state(case, "unet", patch), folder / "diffusion_pytorch_model.safetensors")
    check(import_edit(folder, REQUEST, model=case.folder), patch, case)
    saved(state(case, "unet", shaken(case.model, "noxattn")), folder / "diffusion_pytorch_model.ema.safetensors")
    with pytest.raises(ModelError, match="in more than one file"):
        import_edit(folder, REQUEST, model=case.folder)
    check(import_edit(folder / "diffusion_pytorch_model.safetensors", REQUEST, model=case.folder), patch, case)


def test_a_patch_of_ones_own_is_told_that_it_needs_no_import(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case = case_of("sd")
    file = shaken(case.model, "xattn").save(tmp_path / "church")
    for place in (file, file.parent):
        with pytest.raises(UserError, match="is a patch of expunge's own"):
            import_edit(place, REQUEST, model=case.folder)
