"""A hundred concepts at once in closed form, on the shape of Stable Diffusion 1.4 with random weights.

    python benchmarks/closed_form.py [--concepts 100] [--methods uce,rece,speed,oce]

As published for celebrities: 100 names go, each towards "person", 100 other names stay. The time in the text encoder is
told apart, because it is nearly the same for every method. Random weights do not change how long anything takes;
whether something is erased is not asked here.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from sd14 import sd14_model
from torch import nn

from expunge.records import Request, Target
from expunge.runtime import machine
from expunge.unlearn.closed_form.method import ClosedForm
from expunge.unlearn.erase import resolve_method

SYLLABLES = ("ka", "lo", "mi", "ren", "sto", "tu", "vel", "wo", "zan", "bri", "dor", "fe")


@dataclass
class Clock:
    """Wall and processor time in seconds, and what went through in that time."""

    wall: float = 0.0
    processor: float = 0.0
    rows: int = 0


@contextmanager
def clocked(module: nn.Module) -> Iterator[Clock]:
    """Inside, the time that the module takes is added up."""
    clock, began = Clock(), [0.0, 0.0]

    def enter(*_: object) -> None:
        began[:] = [time.perf_counter(), time.process_time()]

    def leave(inner: nn.Module, args: tuple[torch.Tensor, ...], *_: object) -> None:
        clock.wall += time.perf_counter() - began[0]
        clock.processor += time.process_time() - began[1]
        clock.rows += len(args[0])

    hooks = [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield clock
    finally:
        for hook in hooks:
            hook.remove()


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
        model = sd14_model()
    asked = request(chosen.concepts)
    print(f"{machine(torch.device('cpu'))}; {torch.get_num_threads()} threads; torch {torch.__version__}")
    print(f"{chosen.concepts} concepts, {len(asked.keep)} names to keep, {model.name}")
    for name in chosen.methods.split(","):
        method = resolve_method(name, {"retain": None})
        assert isinstance(method, ClosedForm)
        began, used = time.perf_counter(), time.process_time()
        with clocked(model.component("text_encoder")) as texts:
            patch = method(model, asked)
        seconds, spent = time.perf_counter() - began, time.process_time() - used
        print(f"{name:<6} {seconds:.1f} s ({spent:.1f} s of processor time), of which {texts.wall:.1f} s "
              f"({texts.processor:.1f} s) in the text encoder for {texts.rows} texts; {patch.card.steps} solution(s); "
              f"left of the concepts' outputs {patch.card.losses['erase'][-1]:.4f}, moved of what stays "
              f"{patch.card.losses['keep'][-1]:.2g}", flush=True)


if __name__ == "__main__":
    main()
