"""LoRAs in every dialect: what they carry, how closely, and what they cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from exported import REQUEST, Case, edited, low_rank, matrices, shaken
from safetensors import safe_open
from safetensors.torch import load_file

import expunge
from expunge.errors import UserError
from expunge.models.lora import read_lora
from expunge.models.patch import Patch
from expunge.models.store import load

DIALECTS = ("diffusers", "kohya", "comfy")


def written(case: Case, patch: Patch, dialect: str, root: Path, **how: Any) -> tuple[Path, Any]:
    out = root / f"{dialect}.safetensors"
    return out, expunge.export(patch, out, f"lora-{dialect}", model=case.folder, **how)


def carried(case: Case) -> list[str]:
    """Layers of the network, convolutions included, and of the text encoders that every dialect carries."""
    names = [name for name in matrices(case.model, "all") if not name.startswith("text_encoder_3")]
    names = [name for name in names if not (case.name == "flux-dev" and name.startswith("text_encoder_2"))]
    return [name for name in names if "embed" not in name]


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 0.37])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ["sd", "sdxl", "flux-dev", pytest.param("sd3", marks=pytest.mark.slow)])
def test_a_patch_that_is_a_lora_is_carried_and_merged_as_the_patch_acts(case_of: Callable[[str], Case], tmp_path: Path,
                                                                       name: str, dialect: str, scale: float) -> None:
    """Scale 0.37 is alpha that is not the rank."""
    case = case_of(name)
    patch = low_rank(case.model, carried(case), scale=scale)
    out, record = written(case, patch, dialect, tmp_path)
    assert record.error < 1e-6
    wanted, merged = edited(case, patch), load(case.folder, device="cpu", lora=str(out))
    for full, value in merged.editable().items():
        torch.testing.assert_close(value, wanted[full], rtol=0, atol=1e-6)
    assert {entry.rank for entry in record.tensors} == {2}


@pytest.mark.parametrize("dialect", ["diffusers", "kohya"])
def test_a_lora_of_scale_1_has_the_very_numbers_of_the_patch(case_of: Callable[[str], Case], tmp_path: Path,
                                                             dialect: str) -> None:
    case = case_of("sd")
    patch = low_rank(case.model, [*matrices(case.model, "xattn")])
    out, record = written(case, patch, dialect, tmp_path)
    held = load_file(out)
    assert record.error < 1e-5  # of the sum with the weights, which float32 rounds
    for value in patch.tensors.values():
        assert any(value.shape == other.shape and torch.equal(value, other) for other in held.values())


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_reported_error_is_the_measured_one(case_of: Callable[[str], Case], tmp_path: Path, dialect: str,
                                                rank: int | None) -> None:
    case = case_of("sdxl")
    patch = shaken(case.model, matrices(case.model, "xattn.kv"))
    out, record = written(case, patch, dialect, tmp_path, energy=0.9, rank=rank)
    read = read_lora(out, case.model).deltas(case.model.editable())
    before, squares, missed = case.model.editable(), 0.0, 0.0
    for entry in record.tensors:
        wanted = patch.tensors[entry.name].double() - before[entry.name].double()
        gone = float((wanted - read[entry.name].double()).pow(2).sum())
        assert entry.error == pytest.approx((gone / float(wanted.pow(2).sum())) ** 0.5, rel=1e-4)
        assert entry.kept == pytest.approx(1 - entry.error**2, abs=1e-5)
        assert rank is None or entry.rank == rank
        squares, missed = squares + float(wanted.pow(2).sum()), missed + gone
    assert record.error == pytest.approx((missed / squares) ** 0.5, rel=1e-4)
    assert record.energy == 0.9
    assert any("keep less than 0.9" in note for note in record.notes) == (rank is not None)


def test_a_closed_forms_edit_comes_out_whole(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    """UCE's change has the rank of the vectors that it edits: a smaller energy takes nothing from it."""
    case = case_of("sdxl")
    patch = expunge.erase(case.model, "church", "uce", settings={"retain": {"things": ("dog", "apple")}},
                          own_look=False)
    out, record = written(case, patch, "kohya", tmp_path, energy=0.5)
    assert record.error < 1e-3
    assert {entry.kept for entry in record.tensors} == {1.0}
    assert (record.energy, record.most_rank) == (None, None)
    with safe_open(out, "pt") as opened:
        assert opened.metadata()["expunge.spectrum"] == "exact"
    assert all(entry.rank is not None and entry.rank < 32 for entry in record.tensors)


@pytest.mark.parametrize(("name", "starts"), [
    ("sd", {"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", "lora_unet_mid_block"}),
    ("sdxl", {"lora_unet_input_blocks_3_1_transformer_blocks_0_attn2_to_k", "lora_unet_middle_block_1"}),
    ("flux-dev", {"lora_unet_double_blocks_0_txt_attn_qkv"}),
    ("sd3", {"lora_unet_joint_blocks_0_context_block_attn_qkv"})])
def test_kohyas_names_are_those_of_the_family(case_of: Callable[[str], Case], tmp_path: Path, name: str,
                                              starts: set[str]) -> None:
    case = case_of(name)
    out, _ = written(case, low_rank(case.model, [*matrices(case.model, "xattn.kv")]), "kohya", tmp_path)
    held = load_file(out)
    assert all(any(key.startswith(start) for key in held) for start in starts)
    assert all(value.dim() == 0 for key, value in held.items() if key.endswith(".alpha"))
    mixed = {key for key in held if key.startswith(("lora_unet_input", "lora_unet_middle"))}, {
        key for key in held if key.startswith(("lora_unet_down", "lora_unet_mid_"))}
    assert not all(mixed)


@pytest.mark.parametrize(("name", "text"), [
    ("sd", {"lora_te_text_model_encoder_layers_0_self_attn_q_proj"}),
    ("sdxl", {"lora_te1_text_model_encoder_layers_0_mlp_fc1", "lora_te2_text_model_encoder_layers_0_mlp_fc1"}),
    ("flux-dev", {"lora_te1_text_model_encoder_layers_0_mlp_fc1", "lora_te3_encoder_block_0_layer_0_SelfAttention_q"})])
def test_kohyas_names_of_text_encoders(case_of: Callable[[str], Case], tmp_path: Path, name: str, text: set[str]
                                       ) -> None:
    case = case_of(name)
    out, _ = written(case, low_rank(case.model, [*matrices(case.model, "text")]), "kohya", tmp_path)
    assert text <= {key.partition(".")[0] for key in load_file(out)}


def test_keys_of_a_fused_layer_lie_in_their_rows_with_zeros_elsewhere(case_of: Callable[[str], Case], tmp_path: Path
                                                                      ) -> None:
    case = case_of("flux-dev")
    names = [name for name in matrices(case.model, "xattn") if "single_transformer" in name and "to_k.weight" in name]
    patch = low_rank(case.model, names)
    out, _ = written(case, patch, "kohya", tmp_path)
    up = load_file(out)["lora_unet_single_blocks_0_linear1.lora_up.weight"]
    rows = len(case.model.editable()[names[0]])
    assert torch.equal(up[rows:2 * rows], patch.tensors[names[0].replace(".weight", ".lora_B.weight")])
    assert not up[:rows].any()
    assert not up[2 * rows:].any()
    assert len(up) > 3 * rows


def test_layers_of_different_rank_share_one_alpha(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    """With several, diffusers takes the most frequent one for layers whose names it had to translate."""
    case = case_of("sdxl")
    out, record = written(case, shaken(case.model, matrices(case.model, "xattn.kv")), "kohya", tmp_path, energy=0.9)
    held = load_file(out)
    assert len({entry.rank for entry in record.tensors}) > 1
    assert len({float(value) for key, value in held.items() if key.endswith(".alpha")}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_a_lora_cannot_carry_is_refused_by_name_or_left_out_by_name(case_of: Callable[[str], Case], tmp_path: Path,
                                                                        dialect: str) -> None:
    case = case_of("sd")
    patch = shaken(case.model, "all")
    with pytest.raises(UserError, match=r"weights of the patch that this format cannot carry: '.*' first, (a bias|of a)"
                       ) as caught:
        written(case, patch, dialect, tmp_path)
    assert "--drop" in str(caught.value)
    assert not [*tmp_path.iterdir()]
    out, record = written(case, patch, dialect, tmp_path, drop=True)
    norms = {name for name, why in record.left_out.items() if why == "of a LayerNorm"}
    assert {name for name in record.left_out if name.endswith(".bias")} | norms == {*record.left_out}
    assert set(record.left_out) | {entry.name for entry in record.tensors} == set(patch.tensors)
    before = case.model.editable()
    size = lambda names: sum(float((patch.tensors[n].double() - before[n].double()).pow(2).sum()) for n in names)
    assert record.lost == pytest.approx((size(record.left_out) / size(patch.tensors)) ** 0.5)
    assert read_lora(out, case.model).factors.keys() == {entry.name for entry in record.tensors}


def test_a_component_that_the_program_loads_no_lora_for_is_refused(case_of: Callable[[str], Case], tmp_path: Path
                                                                   ) -> None:
    case = case_of("flux-dev")
    patch = low_rank(case.model, [*matrices(case.model, "text2")])
    with pytest.raises(UserError, match="of the text_encoder_2, for which this program loads no LoRA"):
        written(case, patch, "diffusers", tmp_path)
    written(case, patch, "kohya", tmp_path)


def test_strength_0_is_the_base_bit_for_bit(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case = case_of("sd")
    patch = shaken(case.model, matrices(case.model, "xattn.kv"))
    out, _ = written(case, patch, "kohya", tmp_path)
    before = case.model.editable()
    for name, delta in read_lora(out, case.model).deltas(before).items():
        assert torch.equal(before[name] + 0.0 * delta, before[name])
        assert delta.any()


@pytest.mark.parametrize("strength", [0.5, 1.5])
def test_a_strength_moves_the_weights_in_proportion(case_of: Callable[[str], Case], tmp_path: Path, strength: float
                                                    ) -> None:
    case = case_of("sd")
    patch = shaken(case.model, matrices(case.model, "xattn.kv"))
    out, _ = written(case, patch, "comfy", tmp_path, energy=1.0)
    merged, before = load(case.folder, device="cpu", lora=f"{out}:{strength:g}"), case.model.editable()
    for name, value in patch.tensors.items():
        wanted = before[name] + strength * (value - before[name])
        torch.testing.assert_close(merged.editable()[name], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("number", ["float16", "bfloat16"])
def test_factors_in_half_precision_are_measured_as_they_are_written(case_of: Callable[[str], Case], tmp_path: Path,
                                                                    number: str) -> None:
    case = case_of("sdxl")
    patch = shaken(case.model, matrices(case.model, "xattn.kv"))
    out, record = written(case, patch, "kohya", tmp_path, energy=1.0, dtype=number)
    assert {value.dtype for key, value in load_file(out).items() if not key.endswith("alpha")} == {
        getattr(torch, number)}
    assert 1e-5 < record.error < 0.01


def test_flux_names_are_those_that_diffusers_converts_at_the_published_width() -> None:
    """Its converter knows width 3072 alone: one block of fused queries, keys and values, as kohya's names have them."""
    from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers

    from expunge.exports.lora import _Part, _stacked
    from expunge.exports.low_rank import Factors
    from expunge.models.original import flux

    draw = torch.Generator().manual_seed(0)
    paths = [f"transformer_blocks.0.attn.{leaf}" for leaf in ("to_q", "to_k", "to_v", "add_k_proj")]
    made, parts = {}, dict[str, list[Any]]()
    for path in paths:
        place = flux(f"{path}.weight")
        factors = Factors(torch.randn(2, 3072, generator=draw), torch.randn(3072, 2, generator=draw))
        made[path] = factors.product()
        key = f"lora_unet_{place.key.removesuffix('.weight').replace('.', '_')}"
        parts.setdefault(key, []).append(_Part(path, place, 3072, factors))
    tensors, _, _ = _stacked(parts, dict.fromkeys(parts, 9216), torch.float32, with_alpha=True)
    theirs = _convert_kohya_flux_lora_to_diffusers(dict(tensors))
    for path, product in made.items():
        down, up = (theirs[f"transformer.{path}.lora_{end}.weight"].double() for end in "AB")
        torch.testing.assert_close(up @ down, product, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_lora_from_diffusers_names_to_kohyas_is_the_same_model(case_of: Callable[[str], Case], tmp_path: Path
                                                                 ) -> None:
    """peft's dialect in, as a patch, and kohya's out."""
    case = case_of("sdxl")
    patch = low_rank(case.model, carried(case), scale=0.5)
    first, _ = written(case, patch, "diffusers", tmp_path)
    again = expunge.import_edit(first, REQUEST, model=case.folder)
    assert again.card.kind == "lora"
    second, record = written(case, again, "kohya", tmp_path)
    assert record.readers[1].note == ""
    one, two = (load(case.folder, device="cpu", lora=str(file)).editable() for file in (first, second))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-6)


def test_keys_say_how_the_spectrum_was_cut(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case = case_of("sd")
    out, _ = written(case, shaken(case.model, matrices(case.model, "xattn.kv")), "kohya", tmp_path, energy=0.9)
    with safe_open(out, "pt") as opened:
        assert opened.metadata()["expunge.spectrum"].startswith("kept energy 0.9, rank ")
