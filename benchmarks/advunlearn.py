"""AdvUnlearn with latents drawn once, against the published way, which samples them anew for every attack step.

    python benchmarks/advunlearn.py                          the embedded model, shortened: some ten minutes on 2 cores
    python benchmarks/advunlearn.py --steps 6 --items 0      cost alone, in a minute or two
    python benchmarks/advunlearn.py --sd14 --device cuda     Stable Diffusion 1.4's shape, random weights, cost alone

Both train the text encoder with the same settings, seed and number of steps; the second has `source.fresh` and
`keep.source.fresh` set. Rows are samples that go through the UNet, a call takes any number of them. Drawing the pool is
part of the first way's time, and is shown apart, for it weighs more in a shortened run: the last lines project both to
the published 1000 steps, 800 of them with an attack, from the measured seconds of a step. Results: how often the judge
finds the concept, and how often UnlearnDiffAtk brings it back, with 95% intervals.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sd14 import sd14_model
from torch import Tensor

import expunge
from expunge.metrics.base import PromptCounts
from expunge.metrics.statistics import wilson
from expunge.models.model import Model, applied
from expunge.models.patch import Patch
from expunge.records import Request, Sampler
from expunge.runtime import machine
from expunge.tiny.emoji import emoji_world
from expunge.train import Losses
from expunge.unlearn.presets.advunlearn import ADVUNLEARN
from expunge.unlearn.recipe import Recipe

PUBLISHED = {"steps": 1000, "warmup": 200}


@dataclass
class Run:
    """One way's run: calls of the UNet and rows through it, seconds up to the first step's end, and of each other step.
    """

    calls: int = 0
    rows: int = 0
    before: float = 0.0
    steps: list[float] = field(default_factory=list)
    memory: int = 0
    patch: Patch | None = None

    @property
    def seconds(self) -> float:
        return self.before + sum(self.steps)

    def projected(self, warmup: int) -> float:
        """Seconds of the published budget, from the mean step without and with an attack."""
        calm, attacked = self.steps[:warmup - 1], self.steps[warmup - 1:]
        means = [sum(part) / len(part) for part in (calm, attacked)]
        return self.before + PUBLISHED["warmup"] * means[0] + (PUBLISHED["steps"] - PUBLISHED["warmup"]) * means[1]


def main() -> None:
    options = _options()
    torch.manual_seed(0)
    model, request = sd14(options) if options.sd14 else embedded(options)
    ours = recipe(options)
    theirs = ours.override({"source.fresh": True, "keep.source.fresh": True})
    print(f"{machine(model.device)}; {torch.get_num_threads()} threads; torch {torch.__version__}; {model.name}")
    print(f"{options.concept}: {ours.steps} steps of {ours.batch}, {options.attack_steps} attack steps after "
          f"{options.warmup}, grid {options.grid}, {ours.keep.batch if ours.keep else 0} prompts to keep")
    runs = {"latents drawn once": timed(ours, model, request), "as published": timed(theirs, model, request)}
    for name, run in runs.items():
        print(f"{name:<20} {run.calls} calls, {run.rows} rows, {run.seconds:.1f} s ({run.before:.1f} s before the "
              f"first step, {run.steps[-1]:.2f} s for the last)"
              + (f", {run.memory / 2**30:.1f} GiB" if run.memory else ""))
    fast, slow = runs.values()
    print(f"ratio: {slow.calls / fast.calls:.1f} of calls, {slow.rows / fast.rows:.1f} of rows, "
          f"{slow.seconds / fast.seconds:.1f} of time")
    seconds = [run.projected(options.warmup) for run in (fast, slow)]
    print(f"projected to {PUBLISHED['steps']} steps: "
          f"{seconds[0]:.0f} against {seconds[1]:.0f} s (ratio {seconds[1] / seconds[0]:.1f})")
    if options.items and not options.sd14:
        results(model, request, runs, options.items)


def recipe(options: argparse.Namespace) -> Recipe:
    """The published settings, shortened. The learning rate makes a short run show something."""
    few = {"source.trajectories": options.trajectories, "keep.source.trajectories": options.trajectories,
           "source.grid": options.grid, "keep.source.grid": options.grid}
    return ADVUNLEARN.override({"steps": options.steps, "batch": options.batch, "learning_rate": options.learning_rate,
                         "warmup": 5, "adversary.steps": options.attack_steps, "adversary.warmup": options.warmup,
                         "adversary.step_size": options.rate, "keep.weight": 1.0, "update.max_grad_norm": 1.0,
                         "checkpoint_every": 1e9, "frozen_batch": options.frozen_batch, **few})


def timed(method: Recipe, model: Model, request: Request) -> Run:
    """Train once, with everything that the UNet sees counted."""
    run, cuda = Run(), model.device.type == "cuda"
    clock = [time.perf_counter()]

    def count(module: Any, given: tuple[Tensor, ...]) -> None:
        run.calls, run.rows = run.calls + 1, run.rows + len(given[0])

    def tell(done: int, total: int, losses: Losses) -> None:
        if not losses:
            return
        if cuda:
            torch.cuda.synchronize()
        now = time.perf_counter()
        if done == 1:  # the first step's own time is not known apart from what came before it
            run.before = now - clock[0]
        else:
            run.steps.append(now - clock[-1])
        clock.append(now)
        print(f"\r{done}/{total}", end="", file=sys.stderr, flush=True)

    if cuda:
        torch.cuda.reset_peak_memory_stats()
    hook = model.network.register_forward_pre_hook(count)
    run.patch = method(model, request, seed=0, progress=tell)
    hook.remove()
    run.memory = torch.cuda.max_memory_allocated() if cuda else 0
    print("\r", end="", file=sys.stderr)
    return run


def results(model: Model, request: Request, runs: dict[str, Run], items: int) -> None:
    """What the two patches do."""
    world, told = emoji_world(), []
    counts = PromptCounts(**{**dict.fromkeys(PromptCounts.model_fields, 0), "direct": items, "held_out": items,
                             "paraphrase": items, "implicit": items})
    asked = [(prompt, 0) for prompt in world.prompts.of(request, counts)]
    for name, run in runs.items():
        assert run.patch is not None
        with applied(model, run.patch):
            drawn = expunge.sample(model, asked, Sampler())
        question = world.prompts.question(request.concept)
        found = sum(answer.answers.get(question) == request.concept for answer in world.judge(request)(drawn))
        settings = expunge.AttackSettings(attacks=("unlearndiff",), count=items, control_items=0, fresh=0)
        with tempfile.TemporaryDirectory() as folder:
            score = expunge.attack(model, run.patch, settings=settings, out=Path(folder)).score("attack/worst")
        told.append(((found, len(asked)), (score.numerator or 0, score.n)))
        print(f"{name:<20} found without an attack {rate(*told[-1][0])}; with UnlearnDiffAtk {rate(*told[-1][1])}")
    for what, pair in zip(("without an attack", "with UnlearnDiffAtk"), zip(*told, strict=True), strict=True):
        (low, high), (low_, high_) = (wilson(*one) for one in pair)
        known = None not in (low, high, low_, high_)
        overlap = known and low <= high_ and low_ <= high  # type: ignore[operator]
        print(f"intervals {what} {'overlap' if overlap else 'do not overlap'}")


def rate(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"{hits} of {n} ({low or 0:.0%} to {high if high is not None else 1:.0%})"


def embedded(options: argparse.Namespace) -> tuple[Model, Request]:
    """emoji-64 and the concept."""
    return expunge.load("embedded", device=options.device), emoji_world().prompts.request(options.concept)


def sd14(options: argparse.Namespace) -> tuple[Model, Request]:
    """The shape of Stable Diffusion 1.4 with random weights, frozen parts in bfloat16, and a request in its tokens."""
    model = sd14_model(device=options.device, dtype=torch.bfloat16, text_dtype=torch.float32)
    return model, Request(concept="ab", prompts=("a ab",), keep=("a bc", "a cd", "a de"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concept", default="church")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=2, help="published: 1")
    parser.add_argument("--attack-steps", type=int, default=30, help="published: 30")
    parser.add_argument("--warmup", type=int, default=5, help="steps before the first attack; published: 200")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="published: 1e-5")
    parser.add_argument("--rate", type=float, default=1e-3, help="of the attack; published: 1e-3")
    parser.add_argument("--grid", type=int, default=50, help="sampler steps of a trajectory; published: 50")
    parser.add_argument("--trajectories", type=int, default=8, help="in each of the two pools")
    parser.add_argument("--frozen-batch", type=int, default=16)
    parser.add_argument("--items", type=int, default=8, help="prompts of each kind to compare results with; 0: none")
    parser.add_argument("--sd14", action="store_true")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if not 2 <= args.warmup < args.steps - 1:
        parser.error("--warmup must be at least 2, and leave two steps for attacks")
    return args


if __name__ == "__main__":
    main()
