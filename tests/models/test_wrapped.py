"""A patch acts on a pipeline in use, whatever was put around its networks, or is refused and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import nn

from expunge.errors import ModelError
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.models.pipeline import load_into_pipeline
from expunge.models.sd import StableDiffusion
from expunge.records import Request


@pytest.fixture
def pipe(pipeline_folder: Path) -> Any:
    return _opened(pipeline_folder)


def _opened(folder: Path) -> Any:
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make(model: Any, scope: str = "all") -> Patch:
    tensors = {name: parameter * 1.5 + 0.01 for name, parameter in model.parameters_in(scope).items()}
    return Patch.of(tensors, model=model, request=Request(concept="church", prompts=("a church",)), method="esd",
                    settings={}, seed=1)


def drawn(pipe: Any) -> torch.Tensor:
    picture: torch.Tensor = pipe("a church", num_inference_steps=3, guidance_scale=2.0, output_type="pt",
                                 generator=torch.Generator().manual_seed(1)).images
    return picture


@pytest.mark.parametrize("kind", ["replace", "add"])
def test_a_pipeline_takes_one_patch(pipe: Any, model: Model, kind: str) -> None:
    first = make(model, "xattn")
    other = Patch.of({name: 0.5 * value for name, value in first.tensors.items()}, model=model,
                     request=first.card.request, method="m", settings={}, seed=0, kind=kind)  # type: ignore[arg-type]
    load_into_pipeline(pipe, other)
    before = drawn(pipe)
    for again in (other, first):
        with pytest.raises(ModelError, match="already"):
            load_into_pipeline(pipe, again)
    assert torch.equal(drawn(pipe), before)


def test_no_second_patch_goes_on_another_component_and_weights_that_were_put_back_take_one(pipe: Any, model: Model
                                                                                           ) -> None:
    of_unet, of_text = make(model, "unet"), make(model, "text")
    before = {name: value.clone() for name, value in pipe.unet.state_dict().items()}
    load_into_pipeline(pipe, of_unet)
    with pytest.raises(ModelError, match="already"):
        load_into_pipeline(pipe, of_text)
    pipe.unet.load_state_dict(before)
    assert load_into_pipeline(pipe, of_text)["text_encoder"] > 0


class Whole(nn.Module):
    """A wrapper that nobody has heard of."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inside = network
        self.config, self.dtype, self.device = network.config, network.dtype, network.device
        self.add_embedding = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inside(*args, **kwargs)


def fused(pipe: Any) -> None:
    pipe.unet.fuse_qkv_projections()


def adapter(pipe: Any) -> None:
    from peft import LoraConfig

    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_k", "to_v"]))
    pipe.text_encoder.add_adapter(LoraConfig(r=2, target_modules=["q_proj"]))


def peft_model(pipe: Any) -> None:
    from peft import LoraConfig, get_peft_model

    pipe.text_encoder = get_peft_model(pipe.text_encoder, LoraConfig(r=2, target_modules=["q_proj", "fc1"]))


def adapter_on_fused(pipe: Any) -> None:
    fused(pipe)
    from peft import LoraConfig

    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_kv", "to_q"]))


def compiled(pipe: Any) -> None:
    pipe.unet = torch.compile(pipe.unet, backend="eager")
    pipe.text_encoder = torch.compile(pipe.text_encoder, backend="eager")


def compiled_inside(pipe: Any) -> None:
    pipe.unet.mid_block = torch.compile(pipe.unet.mid_block, backend="eager")
    pipe.unet.compile(backend="eager")


def offloaded(pipe: Any) -> None:
    from accelerate import cpu_offload

    for part in (pipe.unet, pipe.text_encoder, pipe.vae):
        cpu_offload(part, torch.device("cpu"))
    assert next(pipe.unet.parameters()).is_meta


def fused_and_offloaded(pipe: Any) -> None:
    fused(pipe)
    offloaded(pipe)


def wrapped(pipe: Any) -> None:
    pipe.unet = Whole(pipe.unet)


WAYS: list[Callable[[Any], None]] = [fused, adapter, peft_model, adapter_on_fused, compiled, compiled_inside, offloaded,
                                     fused_and_offloaded, wrapped]


@pytest.mark.parametrize("way", [
    pytest.param(way, marks=pytest.mark.slow) if way in (compiled, compiled_inside) else way for way in WAYS],
                         ids=lambda way: way.__name__)
def test_patch_does_there_what_it_does_on_a_plain_pipeline(model: Any, pipe: Any, pipeline_folder: Path,
                                                          way: Callable[[Any], None]) -> None:
    patch, before = make(model), drawn(pipe)
    plain = _opened(pipeline_folder)
    load_into_pipeline(plain, patch)
    expected = drawn(plain)
    assert float((expected - before).abs().mean()) > 1e-3
    way(pipe)
    assert torch.allclose(drawn(pipe), before, atol=1e-4)
    changes = load_into_pipeline(pipe, patch)
    assert set(changes) == {"unet", "text_encoder"}
    assert min(changes.values()) > 1e-3
    torch.testing.assert_close(drawn(pipe), expected, atol=1e-4, rtol=0)


def weights_of(pipe: Any) -> dict[str, torch.Tensor]:
    return {f"{part}.{name}": value.clone() for part in ("unet", "text_encoder")
            for name, value in getattr(pipe, part).state_dict().items()}


def test_merged_lora_is_refused_with_what_to_do(model: Any, pipe: Any) -> None:
    adapter(pipe)
    for module in pipe.unet.modules():
        if hasattr(module, "merge") and hasattr(module, "base_layer"):
            module.merge()
    before = weights_of(pipe)
    with pytest.raises(ModelError, match=r"a LoRA is merged into 'unet/.*unfuse_lora\(\) first"):
        load_into_pipeline(pipe, make(model))
    assert all(value.equal(before[name]) for name, value in weights_of(pipe).items())


def test_weights_on_disk_are_refused_with_what_to_do(model: Any, pipe: Any, tmp_path: Path) -> None:
    from accelerate import disk_offload

    disk_offload(pipe.unet, str(tmp_path), torch.device("cpu"))
    with pytest.raises(ModelError, match=r"are offloaded to where they cannot be changed.*before the weights are"):
        load_into_pipeline(pipe, make(model))


def test_network_that_computes_with_other_weights_is_seen_and_left_as_it_was(model: Any, pipe: Any) -> None:
    """What no list of wrappers can know: here a copy answers in the network's place."""
    import copy

    pipe.unet.forward = copy.deepcopy(pipe.unet).forward
    before = weights_of(pipe)
    with pytest.raises(ModelError, match=r"the unet answers as before.*the pipeline is as it was"):
        load_into_pipeline(pipe, make(model))
    assert all(value.equal(before[name]) for name, value in weights_of(pipe).items())


def test_patch_that_is_on_already_or_rounded_away_is_refused(model: Any, pipe: Any) -> None:
    patch = make(model, "xattn")
    load_into_pipeline(pipe, patch)
    with pytest.raises(ModelError, match=r"has every value of the patch already.*nothing is to be done$"):
        load_into_pipeline(pipe, patch)
    half = pipe.to(torch.bfloat16)
    tensors = {name: parameter.bfloat16().float() * (1 + 1e-5) for name, parameter in patch.tensors.items()}
    tiny = Patch.of(tensors, model=model, request=patch.card.request, method="esd", settings={}, seed=1)
    with pytest.raises(ModelError, match="bfloat16 rounds all of it away: then load the pipeline in float32"):
        load_into_pipeline(half, tiny)


def test_a_folder_will_do_for_a_patch(model: Any, pipe: Any, tmp_path: Path) -> None:
    make(model, "xattn").save(tmp_path / "patch")
    assert load_into_pipeline(pipe, tmp_path / "patch")["unet"] > 0
    with pytest.raises(ModelError, match="no patch at nowhere"):
        load_into_pipeline(pipe, "nowhere")


def test_pipeline_without_the_part_and_foreign_names_and_shapes_are_refused(model: Any, pipe: Any) -> None:
    patch = make(model, "text")
    pipe.text_encoder = None
    with pytest.raises(ModelError, match="changes the text_encoder, which this pipeline does not have"):
        load_into_pipeline(pipe, patch)
    how: dict[str, Any] = {"request": patch.card.request, "method": "esd", "settings": {}, "seed": 0}
    for bad, message in (("unet/conv_in.nothing", "does not have"), ("unet/conv_out.bias", r"is \(3,\); accepted")):
        odd = Patch.of({bad: torch.zeros(3)}, model=model, **how)
        with pytest.raises(ModelError, match=message) as caught:
            load_into_pipeline(pipe, odd)
        assert caught.value.remedy.endswith(f"put it on {model.name}")
        assert "quantised" not in str(caught.value)
    bias, whole = pipe.unet.conv_out.bias, Patch.of({"unet/conv_out.bias": torch.zeros(3)}, model=model, **how)
    pipe.unet.conv_out.bias = torch.nn.Parameter(torch.zeros(len(bias) // 2, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ModelError, match="a quantised network keeps its weights in another shape"):
        load_into_pipeline(pipe, whole)


@pytest.mark.parametrize(("way", "message"), [
    (fused, r"a unet with fused projections.*unfuse_qkv_projections\(\)"),
    (adapter, r"a unet with an adapter on it.*unload_lora_weights\(\)"),
    (offloaded, "a unet whose weights are offloaded.*load it without")], ids=["fused", "adapter", "offloaded"])
def test_our_own_model_takes_no_pipeline_that_does_not_compute_with_its_weights(
        model: Any, pipe: Any, way: Callable[[Any], None], message: str) -> None:
    patch = make(model)
    taken = Model(StableDiffusion(pipe), "mine")
    way(pipe)
    with pytest.raises(ModelError, match=message):
        Model(StableDiffusion(pipe), "mine")
    with pytest.raises(ModelError, match=message):
        taken.apply(patch)
    assert taken.patch_hash == ""


@pytest.mark.slow
def test_our_own_model_takes_a_compiled_pipeline(model: Any, pipe: Any) -> None:
    compiled(pipe)
    mine = Model(StableDiffusion(pipe), "mine")
    assert (mine.hash, mine.parts) == (model.hash, model.parts)
    mine.apply(make(model))


def test_changes_that_the_number_type_rounds_away_are_no_edit(pipeline_folder: Path, model: Any) -> None:
    from expunge.models.store import load

    small = load(pipeline_folder, device="cpu", dtype="bf16")
    tensors = {name: parameter.bfloat16().float() * (1 + 1e-5)
               for name, parameter in model.parameters_in("xattn.kv").items()}
    patch = Patch.of(tensors, model=model, request=Request(concept="church", prompts=("a church",)), method="esd",
                     settings={}, seed=1)
    before = {name: value.clone() for name, value in small.network.state_dict().items()}
    with pytest.raises(ModelError, match=r"smaller than bfloat16 can tell apart.*dtype float32"):
        small.apply(patch)
    assert small.patch_hash == ""
    assert all(value.equal(before[name]) for name, value in small.network.state_dict().items())
    model.apply(patch)
