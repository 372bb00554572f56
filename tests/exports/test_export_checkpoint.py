"""The user's own single file, patched in place: only edited rows change, and the model is the patched folder's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from exported import FAMILIES, REQUEST, Case, edited, low_rank, matrices, same, shaken, weights
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import expunge
from expunge.errors import ModelError, UserError
from expunge.exports.tensor_file import read_header
from expunge.files import file_digest
from expunge.models import original
from expunge.models.denoising import against, denoise
from expunge.models.patch import Patch
from expunge.models.source import Source
from expunge.models.store import load


def patched(case: Case, patch: Patch, root: Path, **how: Any) -> tuple[Path, Any]:
    out = root / "patched.safetensors"
    record = expunge.export(patch, out, "checkpoint", model=case.folder, original=how.pop("original", case.file), **how)
    return out, record


def header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return read_header(file)[0]


SCOPES = {"sd": "all", "sd2": "all", "sdxl": "all", "sd3": "all", "flux-dev": "all"}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_folder_to_file_to_folder_keeps_every_tensor_bit_for_bit(case_of: Callable[[str], Case], tmp_path: Path,
                                                                 name: str) -> None:
    """An edit of every layer of the network and of all text encoders, which are of different widths."""
    case = case_of(name)
    patch = shaken(case.model, SCOPES[name])
    out, record = patched(case, patch, tmp_path)
    assert record.error == 0
    assert record.survived == 1
    again = load(out, device="cpu", parts=case.folder)
    same(edited(case, patch), weights(again))
    whole = expunge.export(patch, tmp_path / "folder", "folder", model=case.folder, dtype="float32")
    assert whole.error == 0
    same(weights(load(tmp_path / "folder", device="cpu")), weights(again))


@pytest.mark.parametrize("name", FAMILIES)
def test_all_else_in_the_file_stays_its_keys_bytes_order_and_metadata(case_of: Callable[[str], Case], tmp_path: Path,
                                                                      name: str) -> None:
    case = case_of(name)
    mine = tmp_path / "mine.safetensors"
    save_file({key: value.clone() for key, value in case.tensors.items()}, mine,
              {"format": "pt", "ss_note": "kept", "modelspec.title": "old", "modelspec.hash_sha256": "0xold"})
    patch = shaken(case.model, matrices(case.model, "xattn.kv"))
    out, record = patched(case, patch, tmp_path, original=mine)
    before, after = header(mine), header(out)
    assert [key for key in after if key != "__metadata__"] == [key for key in before if key != "__metadata__"]
    assert {key: value for key, value in after.items() if key != "__metadata__"} == {
        key: value for key, value in before.items() if key != "__metadata__"}
    assert after["__metadata__"]["ss_note"] == "kept"
    assert after["__metadata__"]["modelspec.title"] == "patched"
    touched = {entry.key for entry in record.tensors}
    old, new = load_file(mine), load_file(out)
    for key, value in old.items():
        assert torch.equal(new[key], value) == (key not in touched), key
    assert load_file(mine).keys() == case.tensors.keys()


def test_an_edit_of_keys_alone_leaves_queries_and_values_of_a_fused_tensor_equal_in_their_bytes(
        case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case = case_of("flux-dev")
    names = {name: p for name, p in case.model.parameters_in("xattn").items() if name.endswith(".to_k.weight")}
    patch = shaken(case.model, names)
    out, record = patched(case, patch, tmp_path)
    assert {entry.key.rpartition(".")[0].rpartition(".")[2] for entry in record.tensors} == {"qkv", "linear1"}
    old, new = load_file(case.file), load_file(out)
    for entry in record.tensors:
        rows = len(names[entry.name])
        assert not torch.equal(new[entry.key][rows:2 * rows], old[entry.key][rows:2 * rows])
        assert torch.equal(new[entry.key][:rows], old[entry.key][:rows])
        assert torch.equal(new[entry.key][2 * rows:], old[entry.key][2 * rows:])


@pytest.mark.parametrize("name", ["sd3", "flux-dev"])
def test_halves_that_stand_the_other_way_round_draw_as_the_patched_folder_does(case_of: Callable[[str], Case],
                                                                               tmp_path: Path, name: str) -> None:
    case = case_of(name)
    layers = {full: p for full, p in case.model.parameters_in("unet").items() if "norm_out.linear" in full
              or "norm1_context.linear" in full}
    assert len(layers) >= 4
    patch = shaken(case.model, layers, 0.3)
    out, _ = patched(case, patch, tmp_path)
    folder, file = load(case.folder, device="cpu"), load(out, device="cpu", parts=case.folder)
    plain = latents(folder)
    folder.apply(patch)
    torch.testing.assert_close(latents(file), latents(folder), rtol=0, atol=1e-4)
    assert not torch.allclose(latents(file), plain, rtol=0, atol=1e-2)


def latents(model: Any) -> Any:
    cond = model.encode(["a church on a hill"])
    return denoise(model, model.initial_noise([0]), cond, against(model, model.guidance), 2, model.guidance)


def test_a_projection_lies_transposed_and_is_edited_so(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case = case_of("sdxl")
    name = "text_encoder_2/text_projection.weight"
    value = case.model.editable()[name].detach()
    assert not torch.equal(value, value.T)
    patch = Patch.of({name: value + torch.randn(value.shape)}, model=case.model, request=REQUEST, method="shaken",
                     settings={}, seed=0)
    out, _ = patched(case, patch, tmp_path)
    assert torch.equal(load_file(out)["conditioner.embedders.1.model.text_projection"], patch.tensors[name].T)
    model, again = load(case.folder, device="cpu"), load(out, device="cpu", parts=case.folder)
    model.apply(patch)
    torch.testing.assert_close(again.encode(["a church"]).rows["pooled"], model.encode(["a church"]).rows["pooled"])


def test_stable_diffusion_2_keeps_what_no_folder_holds_and_averages_are_told(case_of: Callable[[str], Case],
                                                                            tmp_path: Path) -> None:
    case = case_of("sd2")
    out, record = patched(case, shaken(case.model, "text"), tmp_path)
    start = "cond_stage_model.model."
    kept = [key for key in case.tensors if "resblocks.2." in key or key.startswith("model_ema.")]
    kept += [f"{start}text_projection", f"{start}logit_scale"]
    new = load_file(out)
    assert len(kept) > 12
    assert all(torch.equal(new[key], case.tensors[key]) for key in kept)
    assert any("averaged weights" in note for note in record.notes)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_a_file_in_half_precision_stays_so_and_takes_a_patch_of_the_wide_base(case_of: Callable[[str], Case],
                                                                             tmp_path: Path, kind: torch.dtype) -> None:
    case = case_of("sd")
    mine = tmp_path / "half.safetensors"
    save_file({key: value.to(kind).contiguous() for key, value in case.tensors.items()}, mine)
    patch = shaken(case.model, matrices(case.model, "xattn.kv"))
    if kind == torch.float8_e4m3fn:  # too coarse to be the base: an edit of the file itself
        patch = shaken(load(mine, device="cpu", parts=case.folder), matrices(case.model, "xattn.kv"))
    out, record = patched(case, patch, tmp_path, original=mine)
    new = load_file(out)
    assert {value.dtype for key, value in new.items()} == {kind}
    assert 0.5 < record.survived <= 1
    place = original.ldm_unet(case.model.network.config)
    for name, value in patch.tensors.items():
        key = f"model.diffusion_model.{place(name.partition('/')[2]).key}"
        assert torch.equal(new[key].float(), value.to(kind).float())


def test_the_network_alone_is_patched_and_what_it_lacks_is_refused_by_name(case_of: Callable[[str], Case],
                                                                          tmp_path: Path) -> None:
    case = case_of("flux-dev")
    prefix = "model.diffusion_model."
    mine = tmp_path / "flux1-dev.safetensors"
    save_file({key.removeprefix(prefix): value for key, value in case.tensors.items() if key.startswith(prefix)}, mine)
    patch = shaken(case.model, matrices(case.model, "xattn.kv"))
    out, record = patched(case, patch, tmp_path, original=mine)
    assert len(record.tensors) == len(patch.tensors)
    assert not any(key.startswith(prefix) for key in load_file(out))
    both = shaken(case.model, "all")
    with pytest.raises(UserError, match=r"cannot carry: 'text_encoder/.*in no tensor of the file"):
        patched(case, both, tmp_path / "b", original=mine)
    assert not (tmp_path / "b").exists() or not [*(tmp_path / "b").iterdir()]
    _, record = patched(case, both, tmp_path / "b", original=mine, drop=True)
    assert {name.partition("/")[0] for name in record.left_out} == {"text_encoder", "text_encoder_2"}
    assert 0 < record.lost < 1


def test_another_models_file_is_refused_by_its_hash(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case = case_of("sd")
    other = tmp_path / "other.safetensors"
    save_file({key: value + 1 if key.endswith("out.2.weight") else value for key, value in case.tensors.items()}, other)
    with pytest.raises(ModelError, match="a patch for"):
        patched(case, shaken(case.model, "xattn"), tmp_path, original=other)
    assert not (tmp_path / "patched.safetensors").exists()


def test_quantised_files_folders_and_loras_on_top_are_no_originals(case_of: Callable[[str], Case], tmp_path: Path
                                                                   ) -> None:
    case, patch = case_of("sd"), shaken(case_of("sd").model, "xattn")
    scaled = tmp_path / "scaled.safetensors"
    save_file({**case.tensors, "model.diffusion_model.out.2.scale_weight": torch.ones(())}, scaled)
    with pytest.raises(ModelError, match="quantised"):
        patched(case, patch, tmp_path, original=scaled)
    with pytest.raises(UserError, match="in place of a single file"):
        expunge.export(patch, tmp_path / "x.safetensors", "checkpoint", model=case.folder)
    pickled = tmp_path / "model.ckpt"
    pickled.write_bytes(b"\x80\x02")
    with pytest.raises(ModelError, match="pickle"):
        patched(case, patch, tmp_path, original=pickled)
    with pytest.raises(UserError, match="--dtype with --to checkpoint"):
        patched(case, patch, tmp_path, dtype="float16")
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(("x.", "patched", "."))]


def test_a_value_that_the_files_type_cannot_hold_is_refused_and_nothing_is_left(case_of: Callable[[str], Case],
                                                                               tmp_path: Path) -> None:
    case = case_of("sd")
    mine = tmp_path / "half.safetensors"
    save_file({key: value.half() for key, value in case.tensors.items()}, mine)
    names = matrices(case.model, "xattn.kv")
    patch = Patch.of({name: p.detach() + 1e6 for name, p in names.items()}, model=case.model, request=REQUEST,
                     method="shaken", settings={}, seed=0)
    with pytest.raises(ModelError, match="is not finite in float16"):
        patched(case, patch, tmp_path, original=mine)
    assert [file.name for file in tmp_path.iterdir()] == ["half.safetensors"]


def test_a_patch_that_adds_is_summed_in_float32_and_rounded_once(case_of: Callable[[str], Case], tmp_path: Path
                                                                 ) -> None:
    case = case_of("sdxl")
    patch = low_rank(case.model, [*matrices(case.model, "xattn.kv")])
    out, _ = patched(case, patch, tmp_path)
    same(edited(case, patch), weights(load(out, device="cpu", parts=case.folder)))


def test_the_model_may_be_the_file_itself(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case = case_of("sd")
    patch = shaken(case.model, "xattn")
    expunge.export(patch, tmp_path / "a.safetensors", "checkpoint", model=case.file, parts=case.folder)
    out, _ = patched(case, patch, tmp_path)
    with safe_open(tmp_path / "a.safetensors", "pt") as first, safe_open(out, "pt") as second:
        assert all(torch.equal(first.get_tensor(key), second.get_tensor(key)) for key in first.keys())  # noqa: SIM118


def test_a_file_with_loras_on_top_is_no_original(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case, lora = case_of("sd"), tmp_path / "l.safetensors"
    expunge.export(low_rank(case.model, [*matrices(case.model, "xattn.kv")]), lora, "lora-kohya", model=case.folder)
    patch = shaken(load(case.folder, device="cpu", lora=str(lora)), "xattn")
    with pytest.raises(UserError, match="LoRAs merged"):
        expunge.export(patch, tmp_path / "b.safetensors", "checkpoint",
                       model=Source(str(case.file), str(case.folder), (str(lora),)))


def test_record_and_headers_tell_hashes(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case = case_of("sdxl")
    patch = shaken(case.model, "xattn")
    out, record = patched(case, patch, tmp_path, title="mine")
    about = header(out)["__metadata__"]
    card = patch.save(tmp_path / "patch").with_suffix(".json")
    assert about["expunge.patch_sha256"] == patch.hash == record.patch_hash
    assert about["expunge.base_sha256"] == case.model.hash == record.base_hash
    assert about["expunge.record_sha256"] == record.card_sha256 == file_digest(card)
    assert about["modelspec.title"] == "mine"
    assert json.dumps(about)
