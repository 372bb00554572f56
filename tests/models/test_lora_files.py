"""LoRAs of every dialect on top of every family: merged into the weights as diffusers does, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from expunge.errors import ModelError, UserError
from expunge.models import original
from expunge.models.lora_names import names_of
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.models.store import load, merge
from expunge.records import Request
from original_files import single_file, tensors_of
from pipelines import pipeline
from pipelines_of_families import built

FAMILIES = ("sd", "sdxl", "sd3", "flux-dev")
RANK, ALPHA = 2, 3.0
KOHYA = {"text_encoder": "te1", "text_encoder_2": "te2", "text_encoder_3": "te3"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = {}
    for name in FAMILIES:
        out[name] = tmp_path_factory.mktemp(name) / "folder"
        made = pipeline({"steps_offset": 1, "set_alpha_to_one": False}) if name == "sd" else built(name)
        made.save_pretrained(out[name])
    return out


def layers(model: Model) -> dict[str, Any]:
    """Some layers of every part, by component and path: of the network attention, and a convolution where it has one.
    """
    ends = ("to_q", "to_k", "to_v", "add_k_proj", "proj_mlp", "to_out.0", "proj_in", "conv1", "q_proj", "fc1", "wi",
            "norm_out.linear", "norm1_context.linear", "SelfAttention.q")
    return {f"{component}.{path}": layer for component, module in model.components.items() if component != "vae"
            for path, layer in module.named_modules() if path.endswith(ends) and hasattr(layer, "weight")}


def factors(model: Model) -> dict[str, tuple[Any, Any]]:
    """By layer random (r, in, ...) and (out, r, ...)."""
    draw, out = torch.Generator().manual_seed(0), {}
    for name, layer in layers(model).items():
        rows, columns, *sides = layer.weight.shape
        out[name] = (torch.randn(RANK, columns, *sides, generator=draw) * 0.1,
                     torch.randn(rows, RANK, *(1 for _ in sides), generator=draw) * 0.1)
    return out


def expected(model: Model, made: Mapping[str, tuple[Any, Any]], scale: float) -> dict[str, Any]:
    """The merged weights by layer."""
    return {name: layer.weight + scale * (made[name][1].flatten(1) @ made[name][0].flatten(1)).reshape(
        layer.weight.shape) for name, layer in layers(model).items()}


def check(folder: Path, file: str, wanted: Mapping[str, Any]) -> Model:
    merged, plain = load(folder, device="cpu", lora=file), load(folder, device="cpu")
    for name, value in wanted.items():
        component, _, path = name.partition(".")
        torch.testing.assert_close(merged.components[component].get_submodule(path).weight, value, rtol=1e-5, atol=1e-6)
    touched = {f"{name}.weight" for name in wanted}
    for component, module in plain.components.items():
        for path, value in module.named_parameters():
            if f"{component}.{path}" not in touched:
                assert torch.equal(merged.components[component].get_parameter(path), value), path
    assert merged.hash != plain.hash
    return merged


def in_kohya(model: Model, made: Mapping[str, tuple[Any, Any]], of: Callable[[str], str]) -> dict[str, Any]:
    tensors = {}
    for name, (down, up) in made.items():
        component, _, path = name.partition(".")
        if component in KOHYA:
            spelt = path if path.startswith(("text_model.", "encoder.block")) else f"text_model.{path}"
            start = f"lora_{'te3' if 'encoder.block' in path else KOHYA[component]}_{spelt.replace('.', '_')}"
        else:
            start = f"lora_unet_{of(path).replace('.', '_')}"
        tensors |= {f"{start}.lora_down.weight": down, f"{start}.lora_up.weight": up,
                    f"{start}.alpha": torch.tensor(ALPHA)}
    return tensors


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("weight", [1.0, 0.7])
def test_kohyas_names_of_every_part_are_merged(folders: dict[str, Path], tmp_path: Path, name: str, weight: float
                                               ) -> None:
    model = load(folders[name], device="cpu")
    made, file = factors(model), tmp_path / "style.safetensors"
    tensors = in_kohya(model, made, lambda path: path)
    if name == "sd":  # which has one text encoder, and no number in its name
        tensors = {key.replace("lora_te1_", "lora_te_"): value for key, value in tensors.items()}
    save_file(tensors, file)
    merged = check(folders[name], f"{file}:{weight:g}", expected(model, made, weight * ALPHA / RANK))
    assert merged.name.startswith(f"{folders[name]} with LoRA style.safetensors@")
    assert merged.name.endswith(f" at {weight:g}")


@pytest.mark.parametrize("name", FAMILIES)
def test_diffusers_names_and_its_metadata_are_merged(folders: dict[str, Path], tmp_path: Path, name: str) -> None:
    model = load(folders[name], device="cpu")
    made, file = factors(model), tmp_path / "style.safetensors"
    about = {f"{component}.{key}": value for component in model.components
             for key, value in (("r", RANK), ("lora_alpha", ALPHA))}
    save_file({f"{layer}.{end}.weight": value for layer, pair in made.items()
               for end, value in zip(("lora_A", "lora_B"), pair, strict=True)}, file,
              {"lora_adapter_metadata": json.dumps(about)})
    check(folders[name], str(file), expected(model, made, ALPHA / RANK))


def original_names(name: str, model: Model) -> Callable[[str], Any]:
    config: Any = model.network.config
    return {"sdxl": original.ldm_unet, "sd": original.ldm_unet, "sd3": original.sd3,
            "flux-dev": lambda _: original.flux}[name](config)


@pytest.mark.slow
@pytest.mark.parametrize("style", ["kohya", "comfy"])
@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux-dev"])
def test_original_names_reach_every_layer_that_is_stacked_there(folders: dict[str, Path], tmp_path: Path, name: str,
                                                                style: str) -> None:
    """A LoRA of the stacked layer: one factor on the side of its inputs, all rows on the other."""
    model, place = load(folders[name], device="cpu"), original_names(name, load(folders[name], device="cpu"))
    stacks: dict[str, dict[int, str]] = {}
    for layer in layers(model):
        component, _, path = layer.partition(".")
        if component == model.network_name:
            where = place(f"{path}.weight")
            stacks.setdefault(where.key.removesuffix(".weight"), {})[
                99 if where.nth == -1 else where.nth or 0] = layer
    every, tensors, wanted = layers(model), dict[str, Any](), dict[str, Any]()
    draw = torch.Generator().manual_seed(1)
    whole = {key: parts for key, parts in stacks.items()
             if len(parts) >= 3 or not ("qkv" in key or "linear1" in key)}
    assert name == "sdxl" or any(len(parts) > 2 for parts in whole.values())
    for key, parts in whole.items():
        mine = [every[parts[nth]].weight for nth in sorted(parts)]
        rows, sides = sum(map(len, mine)), mine[0].shape[2:]
        down = torch.randn(RANK, *mine[0].shape[1:], generator=draw)
        up = torch.randn(rows, RANK, *(1 for _ in sides), generator=draw)
        start = f"lora_unet_{key.replace('.', '_')}" if style == "kohya" else f"diffusion_model.{key}"
        ends = ("lora_down", "lora_up") if style == "kohya" else ("lora_A", "lora_B")
        tensors |= {f"{start}.{end}.weight": value for end, value in zip(ends, (down, up), strict=True)}
        first = 0
        for nth, weight in zip(sorted(parts), mine, strict=True):
            part = up[first:first + len(weight)]
            if place(f"{parts[nth].partition('.')[2]}.weight").swapped:
                part = part.roll(len(part) // 2, 0)
            wanted[parts[nth]] = weight + (part.flatten(1) @ down.flatten(1)).reshape(weight.shape)
            first += len(weight)
    save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / "x.safetensors")
    check(folders[name], str(tmp_path / "x.safetensors"), wanted)


@pytest.mark.parametrize("name", ["sdxl", "flux-dev", "sd3"])
def test_diffusers_merges_the_same(folders: dict[str, Path], tmp_path: Path, name: str) -> None:
    pytest.importorskip("peft")
    import diffusers

    model, file = load(folders[name], device="cpu"), tmp_path / "style.safetensors"
    made = {layer: pair for layer, pair in factors(model).items()
            if layer.startswith(("unet.", "transformer.")) and ".attn" in layer and "norm" not in layer}
    save_file({f"{layer}.{end}.weight": value for layer, pair in made.items()
               for end, value in zip(("lora_A", "lora_B"), pair, strict=True)}, file)
    pipe = diffusers.DiffusionPipeline.from_pretrained(folders[name])
    pipe.load_lora_weights(str(file))
    pipe.fuse_lora(lora_scale=0.5)
    pipe.unload_lora_weights()
    mine = load(folders[name], device="cpu", lora=f"{file}:0.5")
    theirs = getattr(pipe, mine.network_name).state_dict()
    for key, value in mine.network.named_parameters():
        torch.testing.assert_close(theirs[key], value, rtol=1e-5, atol=1e-6)


def test_a_file_and_a_folder_in_half_precision_become_the_same_model(folders: dict[str, Path], tmp_path: Path) -> None:
    pipe = built("sdxl").to(torch.float16)
    pipe.save_pretrained(tmp_path / "half")
    single = single_file(tmp_path / "half.safetensors", tensors_of(pipe))
    model, lora = load(tmp_path / "half", device="cpu"), tmp_path / "style.safetensors"
    save_file(in_kohya(model, factors(model), lambda path: path), lora)
    folder = load(tmp_path / "half", device="cpu", lora=str(lora))
    assert load(single, device="cpu", parts=tmp_path / "half", lora=str(lora)).hash == folder.hash != model.hash


def test_several_are_merged_in_turn_and_all_are_named(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load(folders["sd"], device="cpu")
    made = factors(model)
    save_file(in_kohya(model, made, lambda path: path), tmp_path / "a.safetensors")
    twice = load(folders["sd"], device="cpu", lora=[str(tmp_path / "a.safetensors"), f"{tmp_path}/a.safetensors:0.5"])
    wanted = expected(model, made, 1.5 * ALPHA / RANK)
    for name, value in wanted.items():
        component, _, path = name.partition(".")
        torch.testing.assert_close(twice.components[component].get_submodule(path).weight, value, rtol=1e-5, atol=1e-6)
    assert twice.name.count("LoRA a.safetensors@") == 2


def patch_of(model: Model) -> Patch:
    tensors = {name: value + 0.1 for name, value in model.parameters_in("xattn.kv").items()}
    return Patch.of(tensors, model=model, request=Request(concept="church", prompts=("a church",)), method="esd",
                    settings={}, seed=0)


@pytest.mark.slow
def test_a_patch_of_the_model_with_a_lora_refuses_the_model_alone_by_naming_it(folders: dict[str, Path],
                                                                               tmp_path: Path) -> None:
    plain, file = load(folders["sdxl"], device="cpu"), tmp_path / "style.safetensors"
    save_file(in_kohya(plain, factors(plain), lambda path: path), file)
    model = load(folders["sdxl"], device="cpu", lora=f"{file}:0.8")
    patch = patch_of(model)
    assert patch.card.base == model.name
    with pytest.raises(ModelError, match=r"a patch for .* with LoRA style\.safetensors@[0-9a-f]{8} at 0\.8 \(.*; "
                                         r"accepted: patches for the loaded model, "):
        plain.apply(patch)
    with pytest.raises(ModelError, match=r"accepted: patches for the loaded model, .* with LoRA style\.safetensors@"):
        model.apply(patch_of(plain))
    load(folders["sdxl"], device="cpu", lora=f"{file}:0.8").apply(patch)
    out = merge(folders["sdxl"], patch, tmp_path / "merged", "float32", lora=f"{file}:0.8")
    model.apply(patch)
    again = load(out, device="cpu")
    for name, value in model.editable().items():
        assert torch.equal(again.editable()[name], value), name


@pytest.mark.parametrize(("theirs", "mine", "seems"), [
    ("flux-dev", "sdxl", r"it seems to be a LoRA for FLUX\.1; accepted: .*, Stable Diffusion XL"),
    ("sd3", "flux-dev", r"it seems to be a LoRA for Stable Diffusion 3; accepted: .*, FLUX\.1"),
    ("sdxl", "sd3", r"which this model does not have \(\d+ of its \d+ layers\).*accepted: .*, Stable Diffusion 3")])
def test_a_lora_for_another_family_is_refused_by_name(folders: dict[str, Path], tmp_path: Path, theirs: str, mine: str,
                                                      seems: str) -> None:
    model, file = load(folders[theirs], device="cpu"), tmp_path / "x.safetensors"
    save_file({f"{layer}.{end}.weight": value for layer, pair in factors(model).items()
               for end, value in zip(("lora_A", "lora_B"), pair, strict=True)
               if not layer.startswith("text_encoder")}, file)
    with pytest.raises(ModelError, match=seems):
        load(folders[mine], device="cpu", lora=str(file))


def test_a_lora_of_other_widths_names_the_family_that_has_them(folders: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "sd2.safetensors"
    model = load(folders["sd"], device="cpu")
    layer = next(name for name in layers(model) if name.endswith("attn2.to_k"))
    save_file({f"{layer}.lora_A.weight": torch.ones(2, 1024), f"{layer}.lora_B.weight": torch.ones(64, 2)}, file)
    with pytest.raises(ModelError, match=r"a LoRA for Stable Diffusion 2\.x, it seems\).*\(2, 1024\) and \(64, 2\); "
                                         r"accepted: factors of a \(64, 32\)"):
        load(folders["sd"], device="cpu", lora=str(file))


def test_what_cannot_be_merged_is_never_left_out_in_silence(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load(folders["sd"], device="cpu")
    good, file = in_kohya(model, factors(model), lambda path: path), tmp_path / "x.safetensors"

    def refused(tensors: dict[str, Any], words: str, kind: type[Exception] = ModelError) -> None:
        save_file(tensors, file)
        with pytest.raises(kind, match=words):
            load(folders["sd"], device="cpu", lora=str(file))

    refused({**good, "lora_unet_nowhere.lora_down.weight": torch.ones(2, 2),
             "lora_unet_nowhere.lora_up.weight": torch.ones(2, 2)}, r"'lora_unet_nowhere'.*\(1 of its \d+ layers\)")
    first = next(key for key in good if key.endswith(".lora_up.weight")).removesuffix(".lora_up.weight")
    refused({**good, f"{first}.dora_scale": torch.ones(2)}, r"no part of a plain LoRA.*no DoRA")
    half = {key: value for key, value in good.items() if key != f"{first}.lora_up.weight"}
    refused(half, "holds only alpha and down")
    refused({key: value * 0 if "up" in key else value for key, value in good.items()}, "changes nothing", UserError)
    for bad, words in ((float("nan"), r"x\.safetensors at 1 makes '.*' not finite \(1 of \d+ layers\)"),
                       (float("inf"), "not finite")):
        refused({**good, f"{first}.lora_up.weight": good[f"{first}.lora_up.weight"] * bad}, words)
    refused({**good, f"{first}.alpha": torch.ones(2)}, r"x\.safetensors is no LoRA that can be read")
    refused({**good, f"{first}.lora_up.weight": torch.tensor(1.0)}, r"x\.safetensors is no LoRA that can be read")
    layer = next(name for name in layers(model) if name.endswith("attn2.to_k"))
    both = {f"{start}.{end}.weight": value for start in (layer, f"lora_unet_{layer[5:].replace('.', '_')}")
            for end, value in (("lora_down", torch.ones(2, 32)), ("lora_up", torch.ones(64, 2)))}
    refused({key.replace("lora_down", "lora_A").replace("lora_up", "lora_B") if key.startswith("unet.") else key: value
             for key, value in both.items()}, r"changes '.*attn2\.to_k\.weight' twice, under two names")


def test_pickled_and_missing_loras_and_bad_weights_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    torch.save({}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=r"x\.pt is no safetensors file: a pickle file runs code"):
        load(folders["sd"], device="cpu", lora=str(tmp_path / "x.pt"))
    with pytest.raises(ModelError, match=r"no LoRA at .*nowhere\.safetensors"):
        load(folders["sd"], device="cpu", lora=str(tmp_path / "nowhere.safetensors"))
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    for weight in ("0", "nan", "inf", "abc", "0,8"):
        with pytest.raises(UserError, match=f"a LoRA with weight '?{weight}"):
            load(folders["sd"], device="cpu", lora=f"{tmp_path}/x.safetensors:{weight}")


@pytest.mark.parametrize("name", FAMILIES)
def test_no_name_leads_to_two_layers_that_are_not_stacked(folders: dict[str, Path], name: str) -> None:
    for spelt, targets in names_of(load(folders[name], device="cpu").denoiser).items():
        assert len(targets) == 1 or len({target.place.nth for target in targets}) == len(targets), spelt


@pytest.mark.parametrize(("layer", "width", "seems"), [
    ("transformer.transformer_blocks.0.attn.to_q", 1536, "Stable Diffusion 3"),
    ("lora_unet_transformer_blocks_0_attn_to_q", 2432, "Stable Diffusion 3"),
    ("transformer.transformer_blocks.0.attn.add_k_proj", 3072, r"FLUX\.1"),
    ("transformer.transformer_blocks.0.attn.to_q", 64, r"Stable Diffusion 3 or FLUX\.1")])
def test_a_lora_for_joint_attention_is_named_on_a_model_without(folders: dict[str, Path], tmp_path: Path, layer: str,
                                                               width: int, seems: str) -> None:
    down, up = ("lora_down", "lora_up") if layer.startswith("lora_") else ("lora_A", "lora_B")
    save_file({f"{layer}.{down}.weight": torch.ones(2, width), f"{layer}.{up}.weight": torch.ones(width, 2)},
              tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=f"it seems to be a LoRA for {seems}; accepted: .*, Stable Diffusion XL"):
        load(folders["sdxl"], device="cpu", lora=str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize("alpha", [None, 1.0])
def test_a_layer_of_rank_0_is_refused(folders: dict[str, Path], tmp_path: Path, alpha: float | None) -> None:
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    more = {} if alpha is None else {f"{layer}.alpha": torch.tensor(alpha)}
    save_file({f"{layer}.lora_A.weight": torch.ones(0, 64), f"{layer}.lora_B.weight": torch.ones(64, 0), **more},
              tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match="by factors of rank 0, which is no change"):
        load(folders["sd"], device="cpu", lora=str(tmp_path / "none.safetensors"))
