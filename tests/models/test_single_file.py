"""Single files of every family, as other tools write them: the model of the folder that they came from, or refused."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.errors import ModelError, UserError
from expunge.models.denoising import against, denoise
from expunge.models.patch import Patch
from expunge.models.store import load, merge
from expunge.records import Request
from original_files import bare_parts, single_file, tensors_of
from pipelines import pipeline
from pipelines_of_families import built

FAMILIES = ("sd", "sdxl", "sd3", "sd3-no-t5", "flux-dev", "flux-schnell")


def made(name: str) -> Any:
    pipe = pipeline({"steps_offset": 1, "set_alpha_to_one": False}) if name == "sd" else built(name)
    if name.startswith("sd3"):  # whose pooled state of the first encoder is not projected
        pipe.text_encoder.text_projection.weight.data = torch.eye(32)
    return pipe


class Case:
    """A pipeline as a folder, as a folder of small files alone, and as one file."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.pipe, self.whole = name, made(name), root / "whole"
        self.pipe.save_pretrained(self.whole)
        self.parts = bare_parts(self.pipe, root / "parts")
        self.tensors = tensors_of(self.pipe)
        self.file = single_file(root / "model.safetensors", self.tensors)

    def written(self, path: Path, without: str = "", **more: Any) -> Path:
        return single_file(path, {**{key: value for key, value in self.tensors.items()
                                     if not without or not key.startswith(without)}, **more})


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    return {name: Case(name, tmp_path_factory.mktemp(name)) for name in FAMILIES}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks the network for anything fails the test."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("asked the network"))


def latents(model: Any) -> Any:
    cond = model.encode(["a church on a hill"])
    return denoise(model, model.initial_noise([0]), cond, against(model, model.guidance), 2, model.guidance)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_file_is_the_model_of_its_folder_and_draws_as_it_does(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    folder = load(case.whole, device="cpu")
    file = load(case.file, device="cpu", parts=case.parts)
    assert (file.hash, file.parts, file.drawing) == (folder.hash, folder.parts, folder.drawing)
    assert file.guidance == folder.guidance
    # Kernels round by where weights lie in memory, which is where they lie in their files.
    torch.testing.assert_close(latents(file), latents(folder), rtol=0, atol=2e-5)


def test_stable_diffusion_2_leaves_out_the_layer_that_its_folder_has_not(cases: dict[str, Case], tmp_path: Path
                                                                         ) -> None:
    case = cases["sd"]
    tensors = tensors_of(case.pipe, open_clip=True)
    last = {key.replace("resblocks.1.", "resblocks.2."): value for key, value in tensors.items()
            if "resblocks.1." in key}
    more = {"cond_stage_model.model.text_projection": torch.zeros(32, 32),
            "cond_stage_model.model.logit_scale": torch.zeros(())}
    file = single_file(tmp_path / "sd2.safetensors", {**tensors, **last, **more})
    assert load(file, device="cpu", parts=case.parts).hash == load(case.whole, device="cpu").hash
    further = {key.replace("resblocks.2.", "resblocks.3."): value for key, value in last.items()}
    file = single_file(tmp_path / "long.safetensors", {**tensors, **last, **further})
    with pytest.raises(ModelError, match=r"12 tensors that the text_encoder of .* has no place for"):
        load(file, device="cpu", parts=case.parts)


def test_a_text_encoder_without_its_usual_prefix_is_read(cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases["sd"]
    tensors = {key.replace("transformer.text_model.", "transformer."): value for key, value in case.tensors.items()}
    tensors["cond_stage_model.transformer.embeddings.position_ids"] = torch.arange(16)[None]
    file = single_file(tmp_path / "again.safetensors", tensors)
    assert load(file, device="cpu", parts=case.parts).hash == load(case.whole, device="cpu").hash


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_diffusers_reads_the_same_out_of_the_file(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    pipe = type(case.pipe).from_single_file(str(case.file), config=str(case.parts), local_files_only=True,
                                            safety_checker=None)
    mine = load(case.file, device="cpu", parts=case.parts)
    for part in mine.components:
        theirs = getattr(pipe, part).state_dict()
        assert all(torch.equal(theirs[key], value) for key, value in mine.components[part].state_dict().items()), part


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_a_file_in_fewer_bits_is_the_folder_rounded(cases: dict[str, Case], tmp_path: Path, kind: torch.dtype) -> None:
    case = cases["flux-dev"]
    file = single_file(tmp_path / "half.safetensors", {key: value.to(kind) for key, value in case.tensors.items()})
    model, whole = load(file, device="cpu", parts=case.parts), load(case.whole, device="cpu")
    for part, module in whole.components.items():
        held = dict(model.components[part].named_parameters())
        assert all(torch.equal(held[name], value.to(kind).float()) for name, value in module.named_parameters())


def test_a_file_of_the_network_alone_takes_the_rest_from_the_folder(cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases["flux-dev"]
    prefix = "model.diffusion_model."
    network = {key.removeprefix(prefix): value for key, value in case.tensors.items() if key.startswith(prefix)}
    file = single_file(tmp_path / "flux1-dev.safetensors", network)
    with pytest.raises(ModelError, match=r"single file of FLUX\.1: it holds weights \(transformer\).*accepted: --parts "
                                         r"FOLDER.*with the weights of vae and text_encoder and text_encoder_2"):
        load(file, device="cpu")
    with pytest.raises(ModelError, match=r"holds transformer, and neither it nor .* has weights for vae, text_encoder, "
                                         r"text_encoder_2;.*'vae/\*' 'text_encoder/\*'"):
        load(file, device="cpu", parts=case.parts)
    assert load(file, device="cpu", parts=case.whole).hash == load(case.whole, device="cpu").hash


def test_lent_weights_may_be_of_a_variant_and_may_not_be_pickled(cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases["sd"]
    file = case.written(tmp_path / "unet.safetensors", without="cond_stage_model.")
    half = tmp_path / "half"
    made("sd").to(torch.float16).save_pretrained(half, variant="fp16")
    model = load(file, device="cpu", parts=half)
    assert torch.equal(next(model.network.parameters()), next(case.pipe.unet.parameters()))
    assert model.texts[0].module.state_dict()["final_layer_norm.weight"].dtype == torch.float32
    pickled = Path(shutil.copytree(case.parts, tmp_path / "pickled"))
    torch.save(case.pipe.text_encoder.state_dict(), pickled / "text_encoder" / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"text_encoder holds its weights only as \.bin.*runs code"):
        load(file, device="cpu", parts=pickled)


def test_a_missing_third_encoder_is_told(cases: dict[str, Case], tmp_path: Path, caplog: Any) -> None:
    case = cases["sd3"]
    file = case.written(tmp_path / "clips.safetensors", without="text_encoders.t5xxl.")
    assert len(load(file, device="cpu", parts=case.parts).texts) == 2
    assert "drawn without its text_encoder_3" in caplog.text
    assert load(file, device="cpu", parts=case.whole).hash == load(case.whole, device="cpu").hash


def test_without_a_folder_the_flag_and_the_way_to_one_are_named(cases: dict[str, Case]) -> None:
    with pytest.raises(ModelError, match=r"of Stable Diffusion XL: it holds weights \(unet, vae, text_encoder, "
                                         r"text_encoder_2\), but no configs.*--parts FOLDER.*hf download stabilityai/"):
        load(cases["sdxl"].file, device="cpu")
    with pytest.raises(ModelError, match=r"no folder owner/name to lend .*not a Hub id"):
        load(cases["sdxl"].file, device="cpu", parts="owner/name")
    with pytest.raises(UserError, match=r"--parts .* for a single \.safetensors file alone"):
        load(cases["sdxl"].whole, device="cpu", parts=cases["sdxl"].parts)


def test_a_folder_of_another_family_is_refused_with_both_names(cases: dict[str, Case]) -> None:
    with pytest.raises(ModelError, match=r"a model of Stable Diffusion XL, and .* one of FLUX\.1 \(FluxPipeline\)"):
        load(cases["sdxl"].file, device="cpu", parts=cases["flux-dev"].parts)


def test_configs_of_another_size_are_refused_with_both_shapes(cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases["sd"]
    parts = Path(shutil.copytree(case.parts, tmp_path / "parts"))
    config = parts / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "cross_attention_dim": 48}))
    with pytest.raises(ModelError, match=r"attn2\.to_k\.weight.* is \(64, 32\), and the unet of .* has \(64, 48\)"):
        load(case.file, device="cpu", parts=parts)
    (parts / "vae" / "config.json").unlink()
    config.unlink()
    with pytest.raises(ModelError, match=r"unet does not describe the unet.*small files"):
        load(case.file, device="cpu", parts=parts)


@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux-dev"])
def test_lost_and_unplaced_tensors_are_named(cases: dict[str, Case], tmp_path: Path, name: str) -> None:
    case = cases[name]
    lost = next(key for key in case.tensors if key.endswith(("attn.proj.weight", "to_q.weight")))
    with pytest.raises(ModelError, match=r"has no '.*', which the (unet|transformer) of .*fetch the file again"):
        load(case.written(tmp_path / "lost.safetensors", without=lost), device="cpu", parts=case.parts)
    more = {"model.diffusion_model.further.weight": torch.zeros(2)}
    with pytest.raises(ModelError, match=r"holds 1 tensors that the .* has no place for, '.*further\.weight' first"):
        load(case.written(tmp_path / "more.safetensors", **more), device="cpu", parts=case.parts)


def test_tensors_of_no_part_are_told(cases: dict[str, Case], tmp_path: Path, caplog: Any) -> None:
    case = cases["sd"]
    load(case.file, device="cpu", parts=case.parts)
    assert "not read" not in caplog.text
    load(case.written(tmp_path / "c.safetensors", **{"control_model.x": torch.zeros(2)}), device="cpu",
         parts=case.parts)
    assert "1 tensors of no part of the model, 'control_model.x' first" in caplog.text


@pytest.mark.parametrize(("tensors", "words"), [
    ({"single_stream_modulation.lin.weight": (2, 2)}, r"a Flux2Pipeline: it needs a language model"),
    ({"layers.0.adaLN_modulation.0.weight": (2, 2)}, r"a ZImagePipeline: it needs"),
    ({"transformer_blocks.0.img_mod.1.weight": (2, 2)}, r"a QwenImagePipeline: it needs"),
    ({"double_blocks.0.img_attn.qkv.weight": (2, 2), "img_in.weight": (4, 384)}, r"a FluxFillPipeline: .*a mask"),
    ({"model.diffusion_model.input_blocks.0.0.weight": (4, 5, 3, 3)}, r"a StableDiffusionDepth2ImgPipeline: .*a depth"),
    ({"model.diffusion_model.input_blocks.0.0.weight": (4, 8, 3, 3)}, r"InstructPix2PixPipeline: it needs an image"),
    ({"model.diffusion_model.input_blocks.0.0.weight": (4, 4, 3, 3), "model.diffusion_model.label_emb.0.0.weight": (2,),
      "conditioner.embedders.0.model.ln_final.weight": (2,)}, r"XLImg2ImgPipeline: .*a refiner"),
    ({"lora_unet_mid.lora_down.weight": (2, 2)}, r"a LoRA, not a model; .*this file with --lora"),
    ({"down_blocks.0.resnets.0.conv1.weight": (2, 2)}, r"one component of a diffusers folder; .*the whole folder"),
    ({"encoder.down.0.block.0.conv1.weight": (2, 2)}, r"an autoencoder, and no network"),
    ({"text_model.final_layer_norm.weight": (2,)}, r"a text encoder, and no network"),
    ({"what.ever": (2,)}, r"no model that is known: 'what\.ever'")])
def test_what_is_no_model_of_a_known_family_is_told(tmp_path: Path, tensors: dict[str, tuple[int, ...]], words: str
                                                    ) -> None:
    file = single_file(tmp_path / "x.safetensors", {name: torch.zeros(shape) for name, shape in tensors.items()})
    with pytest.raises(ModelError, match=words):
        load(file, device="cpu")


def test_quantised_damaged_and_pickled_files_are_refused(cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases["flux-dev"]
    scaled = case.written(tmp_path / "s.safetensors", **{"x.scale_weight": torch.zeros(())})
    with pytest.raises(ModelError, match=r"quantised with scales of its own \('x\.scale_weight'\)"):
        load(scaled, device="cpu", parts=case.parts)
    eights = single_file(tmp_path / "i.safetensors", {key: value.to(torch.int8) for key, value in case.tensors.items()})
    with pytest.raises(ModelError, match=r"is in int8; accepted: weights in float32"):
        load(eights, device="cpu", parts=case.parts)
    damaged = tmp_path / "d.safetensors"
    damaged.write_bytes(case.file.read_bytes()[:5000])
    with pytest.raises(ModelError, match="cannot be read"):
        load(damaged, device="cpu", parts=case.parts)
    pickled = tmp_path / "p.ckpt"
    torch.save(case.tensors, pickled)
    with pytest.raises(ModelError, match=r"p\.ckpt is a single file in \.ckpt: a pickle file runs code"):
        load(pickled, device="cpu", parts=case.parts, allow_pickle=True)


def test_a_file_for_another_prediction_than_the_folders_is_refused(cases: dict[str, Case], tmp_path: Path) -> None:
    case = cases["sdxl"]
    file = case.written(tmp_path / "v.safetensors", v_pred=torch.zeros(0))
    with pytest.raises(ModelError, match=r"predicts v_prediction, and .* has a scheduler for epsilon"):
        load(file, device="cpu", parts=case.parts)


@pytest.mark.slow
def test_a_patch_of_the_folder_goes_on_the_file_and_is_merged_into_a_folder(cases: dict[str, Case], tmp_path: Path
                                                                            ) -> None:
    case = cases["sdxl"]
    whole = load(case.whole, device="cpu")
    patch = Patch.of({name: value + 0.1 for name, value in whole.parameters_in("xattn.kv").items()}, model=whole,
                     request=Request(concept="church", prompts=("a church",)), method="esd", settings={}, seed=0)
    load(case.file, device="cpu", parts=case.parts).apply(patch)
    out = merge(case.file, patch, tmp_path / "merged", "float32", parts=case.parts)
    whole.apply(patch)
    torch.testing.assert_close(latents(load(out, device="cpu")), latents(whole), rtol=0, atol=2e-5)
