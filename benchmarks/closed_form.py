"""A hundred concepts at once in closed form, on the shape of Stable Diffusion 1.4 with random weights.

    python benchmarks/closed_form.py [--concepts 100] [--methods uce,rece,speed,oce]

What is built is what a closed form looks at: a text encoder of CLIP-L's shape and the 32 key and value projections, not
the rest of the UNet. As published for celebrities: 100 names go, each towards "person", 100 other names stay. Texts are
encoded once, and the time is told apart, because it is the same for every method. Random weights do not change how long
anything takes; whether something is erased is not asked here.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Parameter
from transformers import CLIPTextConfig, CLIPTextModel

import expunge
from expunge.models.conditioning import Conditioning
from expunge.models.model import Model
from expunge.records import Request, Target
from expunge.runtime import machine
from expunge.unlearn.closed_form.method import ClosedForm
from expunge.unlearn.erase import resolve_method

WIDTHS = (320,) * 5 + (640,) * 5 + (1280,) * 6
"""Outputs of the 16 cross-attention layers."""
SYLLABLES = ("ka", "lo", "mi", "ren", "sto", "tu", "vel", "wo", "zan", "bri", "dor", "fe")


@dataclass
class Shape:
    """As much of a `Model` as a closed form asks for. `seconds`, `cpu`: spent in the text encoder."""

    encoder: Any
    tokenizer: Any
    projections: dict[str, Parameter]
    name: str = "sd14-shape"
    hash: str = "random"
    encoder_hash: str = "random"
    process: str = "random"
    world: str = "open"
    patch_hash: str = ""
    seconds: float = 0.0
    cpu: float = 0.0
    known: dict[str, Conditioning] = field(default_factory=dict)

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Text states, from memory where a text was encoded before."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.known]
        if new:
            began, used = time.perf_counter(), time.process_time()
            ids = self.tokenizer(new, padding="max_length", max_length=77, return_tensors="pt").input_ids
            states: Tensor = self.encoder(ids)[0]
            self.seconds += time.perf_counter() - began
            self.cpu += time.process_time() - used
            self.known |= {text: Conditioning(states[i:i + 1], ids[i:i + 1]) for i, text in enumerate(new)}
        rows = [self.known[prompt] for prompt in prompts]
        return Conditioning(torch.cat([row.states for row in rows]), torch.cat([row.ids for row in rows]))

    def parameters_in(self, scope: str) -> dict[str, Parameter]:
        """The projections of xattn.kv, xattn.k or xattn.v."""
        ends = {"xattn.kv": ("k.weight", "v.weight"), "xattn.k": ("k.weight",), "xattn.v": ("v.weight",)}[scope]
        return {name: p for name, p in self.projections.items() if name.endswith(ends)}


def shape() -> Shape:
    """CLIP-L and 32 projections, random; the embedded model's tokenizer."""
    embedded = expunge.load("embedded", device="cpu")
    assert isinstance(embedded, Model)
    ids = {key: getattr(embedded.texts[0].tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    encoder = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                                           num_attention_heads=12, vocab_size=49408, **ids)).eval()
    made = {f"unet/{i}.attn2.to_{kind}.weight": Parameter(0.03 * torch.randn(rows, 768), requires_grad=False)
            for i, rows in enumerate(WIDTHS) for kind in "kv"}
    return Shape(encoder.requires_grad_(False), embedded.texts[0].tokenizer, made)


def request(count: int) -> Request:
    """`count` names to go, as many others to stay."""
    names = [" ".join(map("".join, (parts[:2], parts[2:]))) for parts in itertools.permutations(SYLLABLES, 4)]
    step = len(names) // (2 * count)
    gone, kept = names[::step][:count], names[step // 2::step][:count]
    first, *also = (Target(concept=name, prompts=(name,), anchor="person") for name in gone)
    return Request(concept=first.concept, prompts=first.prompts, anchor=first.anchor, keep=tuple(kept),
                   also=tuple(also))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--concepts", type=int, default=100)
    options.add_argument("--methods", default="uce,rece,speed,oce")
    chosen = options.parse_args()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = shape()
    asked = request(chosen.concepts)
    print(f"{machine(torch.device('cpu'))}; {torch.get_num_threads()} threads; torch {torch.__version__}")
    print(f"{chosen.concepts} concepts, {len(asked.keep)} names to keep, {len(model.projections)} projections of "
          f"{sum(p.numel() for p in model.projections.values()):,} weights")
    for name in chosen.methods.split(","):
        method = resolve_method(name, {"retain": None})
        assert isinstance(method, ClosedForm)
        began, used, encoded, cpu = time.perf_counter(), time.process_time(), model.seconds, model.cpu
        patch = method(cast(Model, model), asked)
        seconds, spent = time.perf_counter() - began, time.process_time() - used
        if model.seconds > encoded:
            print(f"encoding {len(model.known)} texts: {model.seconds:.1f} s ({model.cpu:.1f} s of processor time)")
        solving, alone = seconds - (model.seconds - encoded), spent - (model.cpu - cpu)
        print(f"{name:<6} statistics and {patch.card.steps} solution(s): {solving:.1f} s ({alone:.1f} s of processor "
              f"time); with encoding {solving + model.seconds:.1f} s ({alone + model.cpu:.1f} s); "
              f"left of the concepts' outputs {patch.card.losses['erase'][-1]:.4f}, moved of what stays "
              f"{patch.card.losses['keep'][-1]:.2g}")


if __name__ == "__main__":
    main()
