"""Memory of training runs: what a dry run says against what is measured, and sums for published sizes.

    python benchmarks/memory.py

Measured: runs of two steps on the embedded model, each in a process of its own; what the process holds at most beside
what it held with the model loaded (its resident memory on Linux, with glibc told to give back what is freed; an
accelerator's own count on a GPU), over what `footprint` says. Each run is the second of its kind: kernels keep what
they made for a shape at its first use (of bfloat16 some 15 MiB, whatever the size of a model). Sums: networks of
published sizes on the meta device, so nothing of them is in memory: weights in bfloat16, what trains, and what a
forward of 512 px at batch 1 keeps for its backward; and the phases of whole runs.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
from typing import Any

import torch
from torch import nn

CASES: dict[str, dict[str, Any]] = {
    "whole weights, float32": {"batch": 64},
    "whole weights, bfloat16": {"batch": 64, "dtype": "bfloat16"},
    "LoRA of rank 8, float32": {"batch": 64, "lora_rank": 8},
    "whole UNet, float32": {"batch": 32, "scope": "unet"},
    "LoRA of rank 8, bfloat16": {"batch": 64, "dtype": "bfloat16", "lora_rank": 8},
    "LoRA of rank 8 over 8-bit blocks, float32": {"batch": 64, "eight_bit": True, "lora_rank": 8},
    "LoRA of rank 8, float32, text encoder unloaded": {"batch": 64, "lora_rank": 8, "unload_text": True},
}
GIB, RANK = 2**30, 16


def main() -> int:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    case = parser.parse_args().case
    if case:
        print(json.dumps(measured(**CASES[case])))
        return 0
    print("| run on the embedded model | measured MiB | said MiB | measured / said |\n| --- | --- | --- | --- |")
    for name in CASES:
        ran = subprocess.run([sys.executable, __file__, "--case", name], capture_output=True, text=True, check=True,
                             env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"})
        real, said = json.loads(ran.stdout.splitlines()[-1])
        print(f"| {name} | {real / 2**20:.0f} | {said / 2**20:.0f} | {real / said:.2f} |", flush=True)
    print(f"\n| run, 512 px, batch 1, checkpointed, one kind of network in memory | text encoders GiB | training GiB | "
          f"drawing GiB | at most GB |\n| --- | --- | --- | --- | --- |\n{phases()}")
    print(f"\n| model, 512 px, batch 1, bfloat16 | weights GiB | trains GiB | kept for backward GiB | in all |\n"
          f"| --- | --- | --- | --- | --- |\n{published()}")
    return 0


def measured(batch: int, dtype: str = "float32", eight_bit: bool = False, **settings: Any) -> tuple[int, int]:
    """Bytes beside the loaded model: at most held in a run, and said beforehand."""
    import expunge
    from expunge.bench.memory import PeakMemory
    from expunge.unlearn.erase import resolve_method, resolve_request
    from expunge.unlearn.recipe import Recipe

    model = expunge.load("embedded", device="cpu", dtype=dtype, eight_bit=eight_bit)
    request = resolve_request(model, "church", "house")
    asked = {"steps": 2, "batch": batch, "source.trajectories": 2, "source.grid": 3, "frozen_batch": 2, **settings}
    recipe: Any = resolve_method("esd", asked)
    assert isinstance(recipe, Recipe)
    said = recipe.footprint(model, recipe.check(model, request)).beyond
    recipe(model, request)  # what libraries take at their first use, of each shape, is no run's
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # pages that the first run left would be taken for room
    with PeakMemory(model.device) as nothing:
        pass
    with PeakMemory(model.device) as peak:
        recipe(model, request)
    assert peak.bytes is not None
    assert nothing.bytes is not None
    return peak.bytes - nothing.bytes, said


def published() -> str:
    """A row for each published size."""
    rows = []
    network: Any
    for name, network, inputs, ends, rank in networks():
        weights = [f"net/{path}.weight" for path, module in network.named_modules()
                   if isinstance(module, nn.Linear) and ends(path)]
        rows.append(row(name, network, inputs, weights, rank))
        network.enable_gradient_checkpointing()
        rows.append(row(f"{name}, checkpointed", network, inputs, weights, rank))
        network.disable_gradient_checkpointing()
    return "\n".join(rows)


def phases() -> str:
    """A row for each published size: weights of text encoders, a run in training, weights for drawing, and the most."""
    from expunge.models.eight_bit import put_in

    rows, texts = [], encoders()
    for name, network, inputs, ends, rank in networks():
        for bits, what in ((16, name), *([(8, f"{name}, 8-bit blocks")] if name.startswith("FLUX") else [])):
            if bits == 8:
                put_in(network)
            weights = [f"net/{path}.weight" for path, module in network.named_modules()
                       if isinstance(module, nn.Linear) and ends(path)]
            network.enable_gradient_checkpointing()
            held, trains, kept = sizes_of(network, inputs, weights, rank)
            network.disable_gradient_checkpointing()
            each = sum(texts[name.split(",")[0]]), held + trains + kept, held
            rows.append(f"| {what} | {' | '.join(f'{size / GIB:.2f}' for size in each)} | {max(each) / 1e9:.1f} |")
    return "\n".join([*rows, advunlearn()])


def advunlearn() -> str:
    """The row of AdvUnlearn as published: the whole text encoder trains, through the checkpointed UNet.

    One row of the erased concept and the five to keep have one backward together.
    """
    from expunge.unlearn.footprint import kept_by

    _, unet, inputs, _, _ = next(iter(networks()))
    with torch.device("meta"):
        text = clip_text().bfloat16().requires_grad_(False)
        tokens, x = torch.zeros(6, 77, dtype=torch.long), torch.zeros(6, 4, 64, 64, dtype=torch.bfloat16)
    unet.enable_gradient_checkpointing()
    trained = {f"text/{path}": p for path, p in text.named_parameters()}
    kept = kept_by(lambda: unet(x, inputs["timestep"], text(tokens)[0], return_dict=False)[0],
                   {"unet": unet, "text": text}, [*trained], None)
    held = sum(p.nbytes for network in (unet, text) for p in network.parameters())
    most = held + 18 * sum(p.numel() for p in trained.values()) + kept
    return (f"| SD 1.x, AdvUnlearn, whole text encoder, 6 rows | {sum(p.nbytes for p in trained.values()) / GIB:.2f} | "
            f"{most / GIB:.2f} | {held / GIB:.2f} | {most / 1e9:.1f} |")


def clip_text() -> nn.Module:
    """The text encoder of Stable Diffusion 1.x."""
    from transformers import CLIPTextConfig, CLIPTextModel

    encoder: nn.Module = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12))
    return encoder


def encoders() -> dict[str, list[int]]:
    """Bytes of each published text encoder in bfloat16, by model."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

    with torch.device("meta"):
        small = clip_text()
        large = CLIPTextModelWithProjection(CLIPTextConfig(
            hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20,
            projection_dim=1280))
        t5 = T5EncoderModel(T5Config(d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
                                     feed_forward_proj="gated-gelu"))
    clip, big, xxl = (2 * sum(p.numel() for p in network.parameters()) for network in (small, large, t5))
    return {"SD 1.x": [clip], "SDXL": [clip, big], "FLUX.1": [clip, xxl]}


def row(name: str, network: nn.Module, inputs: dict[str, Any], weights: list[str], rank: int | None) -> str:
    """Weights, what trains with its optimizer, activations, and their sum."""
    held, trains, kept = sizes_of(network, inputs, weights, rank)
    return f"| {name} | {held / GIB:.2f} | {trains / GIB:.2f} | {kept / GIB:.2f} | {(held + trains + kept) / GIB:.2f} |"


def sizes_of(network: nn.Module, inputs: dict[str, Any], weights: list[str], rank: int | None) -> tuple[int, int, int]:
    """Bytes of the weights, of what trains with its optimizer, and of activations."""
    from expunge.unlearn.footprint import kept_by

    sizes = {f"net/{path}": p for path, p in network.named_parameters()}
    held = sum(tensor.nbytes for tensor in (*sizes.values(), *network.buffers()))
    count = sum(rank * sum(sizes[one].shape) if rank else sizes[one].numel() for one in weights)
    trains = (16 if rank else 18) * count  # float32 with gradient and two moments; whole weights are cast, too
    kept = kept_by(lambda: network(**inputs, return_dict=False)[0], {"net": network}, weights, rank)
    return held, trains, kept


def networks() -> Any:
    """(name, network, inputs, which layers train by their paths, rank) of each, on the meta device."""
    from diffusers import FluxTransformer2DModel, UNet2DConditionModel

    def shape(*sides: int) -> torch.Tensor:
        return torch.empty(sides, device="meta", dtype=torch.bfloat16)

    def attended(path: str) -> bool:
        return path.endswith(("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj",
                              "to_add_out"))

    t = torch.ones(1, device="meta")
    with torch.device("meta"):
        sd1 = UNet2DConditionModel(cross_attention_dim=768).bfloat16().requires_grad_(False)
        xl = UNet2DConditionModel(
            cross_attention_dim=2048, block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10), use_linear_projection=True, addition_embed_type="text_time",
            addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816).bfloat16().requires_grad_(False)
        flux = FluxTransformer2DModel(guidance_embeds=True).bfloat16().requires_grad_(False)
    of_sd1 = {"sample": shape(1, 4, 64, 64), "timestep": t, "encoder_hidden_states": shape(1, 77, 768)}
    yield "SD 1.x, ESD-x, whole weights", sd1, of_sd1, lambda path: "attn2" in path, None
    yield f"SD 1.x, ESD, LoRA of rank {RANK}", sd1, of_sd1, attended, RANK
    yield f"SDXL, ESD, LoRA of rank {RANK}", xl, {
        "sample": shape(1, 4, 64, 64), "timestep": t, "encoder_hidden_states": shape(1, 77, 2048),
        "added_cond_kwargs": {"text_embeds": shape(1, 1280), "time_ids": shape(1, 6)}}, attended, RANK
    yield f"FLUX.1, ESD, LoRA of rank {RANK}", flux, {
        "hidden_states": shape(1, 1024, 64), "timestep": t.bfloat16(), "guidance": t, "txt_ids": shape(512, 3),
        "img_ids": shape(1024, 3), "encoder_hidden_states": shape(1, 512, 4096),
        "pooled_projections": shape(1, 768)}, attended, RANK


if __name__ == "__main__":
    sys.exit(main())
