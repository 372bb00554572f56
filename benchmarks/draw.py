"""Drawing many prompts: `expunge.sample` against the diffusers pipeline, in batches of the same size and one by one.

    python benchmarks/draw.py [--model embedded] [--prompts 32] [--batch 32]
    python benchmarks/draw.py --faster channels-last bfloat16 compile      what changes last digits, beside it

All draw the same prompts at the same seeds with the same weights, steps and guidance in the same run, by turns, so that
whatever else the machine does falls on all. The pipeline is diffusers' own, with its own DDIM scheduler and no progress
bar. Beside each time stands the largest difference of a pixel to ours as it is without any option.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

import expunge
from expunge.runtime import machine

EMBEDDED = Path(expunge.__file__).parent / "tiny" / "weights" / "emoji-64"

THINGS = ("church", "house", "cat", "dog", "pizza", "rose", "car", "guitar")
STYLES = ("3d", "flat", "black and white", "pixel art")


def main() -> None:
    options = _options()
    prompts = [f"a {style} emoji of a {thing}" for thing in THINGS for style in STYLES][:options.prompts]
    sampler = expunge.Sampler(steps=options.steps, guidance=options.guidance)
    model = expunge.load(options.model, device=options.device)
    folder = EMBEDDED if options.model == "embedded" else options.model
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None,
                                                   requires_safety_checker=False).to(model.device)
    pipe.set_progress_bar_config(disable=True)

    items: list[tuple[str, int]] = [(prompt, 0) for prompt in prompts]

    def ours(model: Any = model) -> Tensor:
        return cast(Tensor, expunge.sample(model, items, sampler, batch=options.batch))

    def theirs(together: int) -> Tensor:
        parts = [pipe(prompts[first:first + together], num_inference_steps=options.steps,
                      guidance_scale=options.guidance, output_type="pt",
                      generator=[torch.Generator().manual_seed(0) for _ in prompts[first:first + together]]).images
                 for first in range(0, len(prompts), together)]
        return torch.cat(parts).float().cpu()

    ways: dict[str, Callable[[], Tensor]] = {
        "expunge.sample": ours, f"diffusers, {options.batch} at a time": partial(theirs, options.batch)}
    if not options.batches_only:
        ways["diffusers, prompt by prompt"] = partial(theirs, 1)
    ways |= {f"expunge.sample, {way}": partial(ours, _faster(way, options)) for way in options.faster}
    pictures, seconds = by_turns(ways, options.repeats)
    print(f"{machine(model.device)}; {torch.get_num_threads()} threads; torch {torch.__version__}")
    print(f"{len(prompts)} prompts, {options.steps} steps, guidance {options.guidance:g}, {options.batch} at a time; "
          f"fastest of {options.repeats}")
    fastest = min(seconds["expunge.sample"])
    for name, times in seconds.items():
        each = ", ".join(f"{len(prompts) / one:.2f}" for one in times)
        apart = float((pictures[name] - pictures["expunge.sample"]).abs().max()) * 255
        print(f"{name:<32} {len(prompts) / min(times):.2f} images per second (each repeat: {each}); "
              f"{fastest / min(times):.2f} times the first; pixels differ by at most {apart:.2g} of 255")


def _faster(way: str, options: argparse.Namespace) -> Any:
    """The model with an option that changes last digits."""
    if way == "bfloat16":
        return expunge.load(options.model, device=options.device, dtype="bfloat16")
    model = expunge.load(options.model, device=options.device)
    if way == "channels-last":
        model.network.to(memory_format=torch.channels_last)
    else:
        model.network.compile()
    return model


def by_turns(ways: Mapping[str, Callable[[], Tensor]], repeats: int
             ) -> tuple[dict[str, Tensor], dict[str, list[float]]]:
    """What each way draws, and the seconds of each repeat, run by turns; one warm-up each is not counted."""
    pictures: dict[str, Tensor] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, draw in ways.items():
            began = time.perf_counter()
            pictures[name] = draw()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return pictures, seconds


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batches-only", action="store_true", help="without diffusers prompt by prompt")
    parser.add_argument("--faster", nargs="*", default=(), choices=("channels-last", "bfloat16", "compile"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
