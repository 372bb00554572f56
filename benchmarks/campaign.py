"""What a whole comparison costs at Stable Diffusion 1's size: I2P, COCO-30k and 142 adaptive attacks for each method.

    python benchmarks/campaign.py [--methods 30] [--tflops 100]

Nothing is drawn. Samples through the denoiser are counted from the shipped protocols (prompts, steps, guidance) and
from UnlearnDiffAtk's published budget, all attacks failing, which is the most they can take. The operations of a sample
are counted on the meta device, layer by layer; hours are those operations at `--tflops` sustained, which is an
assumption. A backward pass counts as two forward ones. Detectors, features and text encoders are left out: they look at
each image or prompt once.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import torch
from sd14 import sd14_pipeline
from torch.utils.flop_counter import FlopCounterMode

from expunge.attacks.unlearndiff import UnlearnDiff
from expunge.attacks.victim import picture_rows
from expunge.protocols.schema import read_protocol
from expunge.records import Sampler

ATTACKED = "unlearndiffatk-nudity"
DRAWN = ("i2p-parts", "coco-fid-clean-30k")


class Part(NamedTuple):
    """A piece of the work for one model: samples through the denoiser, and images that are decoded."""

    name: str
    rows: int
    images: int


class Cost(NamedTuple):
    """Operations of one sample through the denoiser, and of one decoded image."""

    row: float
    image: float

    def of(self, part: Part) -> float:
        """Operations of a part."""
        return part.rows * self.row + part.images * self.image


def main() -> None:
    """Count, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=int, default=30)
    parser.add_argument("--tflops", type=float, default=100.0, help="sustained, in 10^12 operations a second")
    options = parser.parse_args()
    cost = counted()
    drawn = [drawing(name) for name in DRAWN]
    plain, attack = drawing(ATTACKED), attacking()
    hours = {part: cost.of(part) / options.tflops / 1e12 / 3600 for part in (*drawn, plain, attack)}
    print(f"one sample through the denoiser {cost.row / 1e12:.2f} TFLOP, one decoded image {cost.image / 1e12:.2f} "
          f"TFLOP; hours at {options.tflops:g} TFLOP/s\n")
    print("| part, for one model | samples | images | hours |\n| --- | --- | --- | --- |")
    for part, taken in hours.items():
        print(f"| {part.name} | {part.rows:,} | {part.images:,} | {taken:.1f} |")
    images = sum(hours[part] for part in (*drawn, plain))
    edited, original = images + hours[attack], images
    alone, cached = options.methods * (edited + original), options.methods * edited + original
    print(f"\n{options.methods} methods, the original drawn for each: {alone:,.0f} hours; once for all, as the cache "
          f"does: {cached:,.0f} hours ({1 - cached / alone:.0%} less)")
    shares = [f"{part.name} {options.methods * taken / cached:.0%}" for part, taken in hours.items()]
    print(f"of these: {'; '.join(shares)}; the original {original / cached:.0%}")


def drawing(name: str) -> Part:
    """Every prompt of a shipped protocol once."""
    protocol = read_protocol(name)
    rows = protocol.prompts.rows
    assert rows is not None, f"{name} does not say how many prompts it has"
    return Part(f"{name}: {rows:,} images", rows * picture_rows(sampler(name)), rows)


def attacking() -> Part:
    """UnlearnDiffAtk on every prompt, at its published budget, without a success."""
    rows = read_protocol(ATTACKED).prompts.rows
    assert rows is not None
    spent = UnlearnDiff.published().budget(sampler(ATTACKED))
    return Part(f"UnlearnDiffAtk on {rows}, at most {spent.gradient_steps:,} steps and {spent.images} images each",
                rows * spent.network_rows, rows * spent.images)


def sampler(name: str) -> Sampler:
    """How a protocol draws."""
    asked = read_protocol(name).sampler
    return Sampler(steps=asked.steps, guidance=asked.guidance)


def counted() -> Cost:
    """Operations at 512 pixels, on the meta device."""
    with torch.device("meta"):
        pipe = sd14_pipeline()
        x, t, states = torch.empty(1, 4, 64, 64), torch.ones(1), torch.empty(1, 77, 768)
    with FlopCounterMode(display=False) as row, torch.no_grad():
        pipe.unet(x, t, states)
    with FlopCounterMode(display=False) as image, torch.no_grad():
        pipe.vae.decode(x)
    return Cost(row.get_total_flops(), image.get_total_flops())


if __name__ == "__main__":
    main()
