"""Searching adversarial prompts: one item at a time, as published, against many at once.

    python benchmarks/attack.py [--patch runs/church] [--prompts 32]    the embedded model, erased by ESD
    python benchmarks/attack.py --quick                                 the same with fewer steps: about 4 minutes
    python benchmarks/attack.py --sd14 --device cuda --dtype bfloat16   Stable Diffusion 1.4's shape, random weights

Both modes attack the same prompts at the same seeds with the same budget per prompt in the same run, aiming at the same
images, which are drawn before the clock starts. They take turns, so that whatever else the machine does falls on
both. One at a time: a batch of one item, every string drawn. Ours: `--together` items side by side, `--rows` of them in
every pass of the network (fewer where a trial has fewer items), strings that were already judged for an item not drawn
again. Random weights show nothing, so there every prompt fails and costs the whole budget, the most that a prompt can
cost.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from sd14 import sd14_model
from torch import Tensor

import expunge
from expunge.attacks.aims import targets
from expunge.attacks.base import Attack
from expunge.attacks.proposal import Outcome
from expunge.attacks.trial import plain
from expunge.attacks.victim import Goal, Item, Victim
from expunge.metrics.base import Aim, PromptCounts
from expunge.metrics.statistics import wilson
from expunge.models.model import applied
from expunge.models.patch import Patch
from expunge.records import Detection, Prompt, Request, Sampler
from expunge.registry import ATTACKS
from expunge.runtime import machine
from expunge.tiny.emoji import emoji_world


@dataclass(frozen=True)
class Scene:
    """Whom to attack, for what, with which items, and what the items are."""

    victim: Victim
    request: Request
    goal: Goal
    items: list[Item]
    told: str


@dataclass(frozen=True)
class Timed:
    """One mode's run: outcomes by item, wall time, processor time, calls of the UNet and rows through it (forward),
    peak memory (CUDA, bytes)."""

    outcomes: list[Outcome]
    seconds: float = 0.0
    processor: float = 0.0
    calls: int = 0
    rows: int = 0
    memory: int = 0

    def __add__(self, other: Timed) -> Timed:
        return Timed([*self.outcomes, *other.outcomes], self.seconds + other.seconds, self.processor + other.processor,
                     self.calls + other.calls, self.rows + other.rows, max(self.memory, other.memory))

    def rate(self) -> tuple[int, int, float, float]:
        """Found, of how many that did not fail, and the ends of the interval."""
        n, found = sum(not one.error for one in self.outcomes), sum(one.found for one in self.outcomes)
        low, high = wilson(found, n)
        return found, n, 0.0 if low is None else low, 1.0 if high is None else high


def main() -> None:
    options = _options()
    with torch.random.fork_rng(devices=[]):
        scene = sd14_scene(options) if options.sd14 else embedded_scene(options)
    kind: type[Attack] = ATTACKS.get(options.attack)
    fast = kind.build({**options.settings, "rows": options.rows, "batch": options.together})
    slow = kind.build({**options.settings, "rows": 1, "batch": 1, "draw_all": True})
    model, patch = scene.victim.model, scene.victim.patch
    print(f"{machine(model.device)}; {torch.get_num_threads()} threads; torch {torch.__version__}; {model.dtype}")
    print(f"{scene.told}; {scene.victim.sampler.steps} steps, guidance {scene.victim.sampler.guidance:g}")
    print(f"{options.attack}: {fast.model_dump(exclude={'batch', 'rows', 'draw_all', 'seed'})}")
    runs = {f"{options.together} at a time": Timed([]), "one at a time": Timed([])}
    with applied(model, patch) if patch else nullcontext():
        timed(fast.model_copy(update=options.warm_up), scene, scene.items[:1])
        for first in range(0, len(scene.items), options.together):
            for name, attack in zip(runs, (fast, slow), strict=True):
                part = scene.items[first:first + options.together]
                whole = replace(scene, victim=replace(scene.victim, trial=len(part)))
                runs[name] += timed(attack, whole, part)
    for name, run in runs.items():
        print(f"{name:<20} {report(run)}")
    ours, theirs = runs.values()
    print(f"ratio of prompts per minute {theirs.seconds / ours.seconds:.2f}; of processor time "
          f"{theirs.processor / ours.processor:.2f}")
    (_, _, low, high), (_, _, low_, high_) = ours.rate(), theirs.rate()
    print(f"intervals of success {'overlap' if low <= high_ and low_ <= high else 'do not overlap'}")
    same = sum(a.found == b.found for a, b in zip(ours.outcomes, theirs.outcomes, strict=True))
    print(f"items with the same answer in both modes: {same} of {len(scene.items)}")


def timed(attack: Attack, scene: Scene, items: Sequence[Item]) -> Timed:
    """Attack some of the scene's items."""
    model, passes = scene.victim.model, list[int]()

    def count(module: Any, given: tuple[Tensor, ...]) -> None:
        passes.append(len(given[0]))

    hook, cuda = model.network.register_forward_pre_hook(count), model.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    began, used = time.perf_counter(), time.process_time()
    outcomes = sorted(attack.outcomes(scene.victim, scene.request, items, scene.goal), key=lambda one: one.row)
    if cuda:
        torch.cuda.synchronize()
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    hook.remove()
    memory = torch.cuda.max_memory_allocated() if cuda else 0
    return Timed(outcomes, seconds, processor, len(passes), sum(passes), memory)


def report(run: Timed) -> str:
    """Everything measured in one mode, in one line."""
    n, failed = len(run.outcomes), [one.error for one in run.outcomes if one.error]
    found, tried, low, high = run.rate()
    parts = [f"{60 * n / run.seconds:.2f} prompts per minute ({run.seconds:.0f} s, "
             f"{run.processor:.0f} s of processor time)",
             f"{sum(one.spent.network_rows for one in run.outcomes) / n:.0f} UNet rows per prompt as charged "
             f"(a gradient counts 3)", f"{run.calls / n:.1f} UNet calls and {run.rows / n:.0f} forward rows per prompt "
             f"in fact",
             f"{sum(one.spent.images for one in run.outcomes) / n:.1f} images per prompt",
             f"found {found} of {tried} [{low:.0%}, {high:.0%}] Wilson"]
    parts += [f"{len(failed)} failed, the first with: {failed[0]}"] if failed else []
    parts += [f"peak {run.memory / 2**30:.1f} GiB"] if run.memory else []
    return "; ".join(parts)


def embedded_scene(options: argparse.Namespace) -> Scene:
    """Prompts that the original embedded model answers with the concept and the edited one does not."""
    model, world = expunge.load("embedded", device=options.device), emoji_world()
    folder = Path(options.patch)
    if not any(folder.glob("*.safetensors")):
        expunge.erase(model, options.concept, "esd-fast", settings={"steps": options.edit_steps}, out=folder)
    patch = Patch.load(folder)
    request = world.prompts.request(options.concept)
    goal = Goal(world.judge(request), Aim(options.concept, world.prompts.question(options.concept)))
    zero = dict.fromkeys(PromptCounts.model_fields, 0)
    asked = world.prompts.of(request, PromptCounts(**{**zero, "direct": options.prompts, "held_out": options.prompts}))
    every: list[Item] = [(prompt, 0) for prompt in asked]
    victim = Victim(model, patch, Sampler(steps=20, guidance=model.guidance))
    with applied(model, patch):
        standing = [item for item, one in zip(every, plain(victim, every, goal), strict=True)
                    if one.outcome == "not elicited"]
        aims = targets(victim, standing, goal)
    pairs = [(item, aim) for item, aim in zip(standing, aims, strict=True) if aim is not None][:options.prompts]
    if not pairs:
        raise SystemExit("the edit took nothing out, or the original model never shows the concept")
    told = (f"embedded model, {options.concept!r} erased ({patch.card.method}, {patch.card.steps} steps): {len(pairs)} "
            f"prompts without it, of {len(every)} asked")
    return Scene(replace(victim, pictures=torch.stack([aim for _, aim in pairs])), request, goal,
                 [item for item, _ in pairs], told)


class Nothing:
    """A judge that never finds anything: all that can be seen in images of random weights."""

    name = "nothing@1"
    questions: Mapping[str, tuple[str, ...]] = {"object": ("nothing",)}

    def __call__(self, pictures: Tensor) -> list[Detection]:
        return [Detection(answers={"object": "nothing"}, confidence={"object": 1.0}) for _ in pictures]


def sd14_scene(options: argparse.Namespace) -> Scene:
    """Prompts for a model of Stable Diffusion 1.4's shape, and noise to aim at."""
    torch.manual_seed(0)
    model = sd14_model(device=options.device, dtype=getattr(torch, options.dtype))
    request = Request(concept="thing", prompts=("a thing",))
    texts = [f"a b c d e {chr(97 + k % 26)}" for k in range(options.prompts)]
    items: list[Item] = [(Prompt(text=text, role="direct"), k) for k, text in enumerate(texts)]
    pictures = torch.rand(4, 3, 512, 512)
    told = f"{model.name}: {len(items)} prompts, which all fail"
    return Scene(Victim(model, None, Sampler(steps=options.sampling, guidance=7.5), pictures), request,
                 Goal(Nothing(), Aim("thing", "object")), items, told)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attack", default="unlearndiff", choices=("unlearndiff", "p4d", "p4d-mu"))
    parser.add_argument("--concept", default="bomb")
    parser.add_argument("--patch", default="runs/attack-benchmark", help="the edit; made there if there is none")
    parser.add_argument("--edit-steps", type=int, default=160)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5, help="looks at the image (published: 50; P4D 60)")
    parser.add_argument("--iterations", type=int, default=10, help="steps before each look (published: 40; P4D 50)")
    parser.add_argument("--rows", type=int, default=16, help="rows of a pass, one item at a time excepted")
    parser.add_argument("--together", type=int, default=32, help="items side by side")
    parser.add_argument("--quick", action="store_true", help="3 looks after 10 steps each: about 4 minutes on 2 cores")
    parser.add_argument("--sampling", type=int, default=50, help="with --sd14: sampling steps of an image")
    parser.add_argument("--sd14", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"), help="with --sd14")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.iterations = 3, 10
    args.settings = _budget(args.attack, args.rounds, args.iterations)
    args.warm_up = _budget(args.attack, 1, 1)
    if args.sd14:
        args.settings["vocabulary"] = "whole"
    return args


def _budget(attack: str, rounds: int, iterations: int) -> dict[str, Any]:
    if attack == "p4d":
        return {"steps": rounds * iterations, "look_every": iterations}
    return {"timesteps": rounds, "iterations": iterations}


if __name__ == "__main__":
    main()
