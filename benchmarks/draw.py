"""Drawing many prompts: `expunge.sample` against the diffusers pipeline called prompt by prompt.

    python benchmarks/draw.py [--model embedded] [--prompts 32]

Both draw the same prompts with the same weights, steps and guidance in the same run, by turns, so that whatever else
the machine does falls on both. The pipeline is diffusers' own, with its own DDIM scheduler and no progress bar.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

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

    def ours() -> None:
        expunge.sample(model, [(prompt, 0) for prompt in prompts], sampler, batch=options.batch)

    def theirs() -> None:
        for prompt in prompts:
            pipe(prompt, num_inference_steps=options.steps, guidance_scale=options.guidance,
                 generator=torch.Generator().manual_seed(0), output_type="np")

    fast, slow = by_turns(ours, theirs, options.repeats)
    print(f"{machine(model.device)}; {torch.get_num_threads()} threads; torch {torch.__version__}")
    print(f"{len(prompts)} prompts, {options.steps} steps, guidance {options.guidance:g}, float32; "
          f"fastest of {options.repeats}")
    for name, seconds in (("expunge.sample", fast), ("diffusers, prompt by prompt", slow)):
        told = ", ".join(f"{len(prompts) / value:.2f}" for value in seconds)
        print(f"{name:<28} {len(prompts) / min(seconds):.2f} images per second (each repeat: {told})")
    print(f"ratio {min(slow) / min(fast):.2f}")


def by_turns(first: Any, second: Any, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of each repeat of the two, run by turns; one short warm-up each is not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        for work, into in zip((first, second), times, strict=True):
            began = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                into.append(time.perf_counter() - began)
    return times


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
