"""Whether a change of the code left every number as it was: write them before it, compare them after it.

    python benchmarks/unchanged.py --write before.json
    python benchmarks/unchanged.py --compare before.json

On the embedded model: images of a few prompts, the patch of every registered method after two steps, what every
registered attack found in one of these patches with a small budget, and every score of a small evaluation. Images and
tensors are compared by hash, so to the bit; attempts and scores by value. The two runs must be on one machine with one
number of threads, for kernels round by both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import expunge
from expunge.models.sample import draw
from expunge.records import Request, Sampler, Target
from expunge.registry import ATTACKS, METHODS
from expunge.unlearn.erase import resolve_method
from expunge.unlearn.recipe import Recipe

REQUEST = Request(concept="church", prompts=("a 3d emoji of a church", "a church"), anchor="house",
                  keep=("a flat emoji of a dog", "a pizza"),
                  also=(Target(concept="bomb", prompts=("a bomb",), anchor="apple"),))
SIZES = {"grid": 4, "trajectories": 3, "pictures": 3, "draws": 2, "each": 1, "batch": 2, "warm_up": 2}
"""Sizes, by name, that change how long a method takes and not what it is."""
TUNE = {"tune": {"steps": 3, "batch": 2, "learning_rate": 1e-3}, "at": (0, 2), "pictures": 2}
BUDGETS: dict[str, dict[str, Any]] = {
    "paraphrase": {"prompts": 2}, "implicit": {"prompts": 2}, "misspelt": {"prompts": 2}, "random-prompt": {"tries": 2},
    "seed-search": {"tries": 3}, "ring-a-bell": {"population": 8, "generations": 3, "draws": 2},
    "unlearndiff": {"timesteps": 3, "steps": 2, "rows": 4}, "p4d": {"steps": 5, "look_every": 2, "rows": 4},
    "p4d-mu": {"timesteps": 2, "steps": 2, "rows": 4},
    "textual-inversion": {"pictures": 2, "steps": 3, "rows": 2, "looks": 2},
    "soft-prompt": {"steps": 3, "rows": 2, "looks": 2}, "noising": {"strengths": (0.7, 0.4)},
    "ddim-inversion": {"steps": 4, "tune": 1}, "relearn": TUNE, "relearn-xattn": TUNE, "relearn-lora": TUNE,
    "benign": {**TUNE, "prompts": ("a dog", "a house")}}
NEEDS_A_FILE = ("adapter",)
"""Attacks that work on somebody's file and are left out."""


def main() -> int:
    """0 if all numbers are equal, or were written; 1 if some differ."""
    options = _options()
    numbers = {name: value for part in (_pictures, _methods, _attacks, _scores) for name, value in part().items()}
    if options.write:
        options.write.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
        print(f"{len(numbers)} numbers written to {options.write}")
        return 0
    before = json.loads(options.compare.read_text(encoding="utf-8"))
    other = [name for name in {**before, **numbers} if before.get(name) != numbers.get(name)]
    for name in other:
        print(f"{name}\n  before {before.get(name)}\n  now    {numbers.get(name)}")
    print(f"{len(numbers)} numbers, {len(other)} differ")
    return bool(other)


def _pictures() -> dict[str, Any]:
    model, items = expunge.load("embedded", device="cpu"), [("a house", 0), ("a 3d emoji of a church", 1), ("", 2)]
    told: dict[str, Any] = {"identity": [model.hash, model.encoder_hash, model.parts, model.drawing]}
    for steps, guidance in ((20, 2.0), (7, 1.0)):
        drawn = draw(model, items, Sampler(steps=steps, guidance=guidance))
        told |= {f"picture/{text or 'empty'}/{seed}/{steps}/{guidance}": _hash(picture)
                 for (text, seed), picture in zip(items, drawn, strict=True)}
    return told


def _methods() -> dict[str, Any]:
    told, model = {}, expunge.load("embedded", device="cpu")
    for name in METHODS.names():
        began = time.monotonic()
        method: Any = resolve_method(name)
        sizes = _small(method.model_dump(mode="json"))
        if isinstance(method, Recipe):
            if method.adversary is not None:
                sizes["adversary"] |= {"steps": min(2, sizes["adversary"]["steps"]), "warmup": 1}
            sizes |= {"steps": 2, "warmup": 0, "checkpoint_every": 0.0}
        patch = method.override(sizes)(model, REQUEST)
        told[f"patch/{name}"] = patch.hash
        print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
    return told


def _attacks() -> dict[str, Any]:
    told, model = {}, expunge.load("embedded", device="cpu")
    patch = expunge.erase(model, "church", "uce", anchor="house")
    for name in ATTACKS.names():
        if name in NEEDS_A_FILE:
            continue
        began = time.monotonic()
        settings = expunge.AttackSettings(attacks=(name,), count=2, control_items=1, fresh=1, steps=6,
                                          options={name: BUDGETS.get(name, {})})
        with tempfile.TemporaryDirectory() as out:
            report = expunge.attack(model, patch, settings=settings, out=out)
        for number, one in enumerate(a for run in report.runs for a in run.attempts):
            kept = one.model_dump(mode="json", exclude={"seconds"})
            kept["spent"]["seconds"] = 0.0
            told[f"attack/{name}/{number}"] = kept
        print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
    return told


def _scores() -> dict[str, Any]:
    model = expunge.load("embedded", device="cpu")
    patch = expunge.erase(model, "church", "uce", anchor="house")
    counts = {"direct": 4, "held_out": 4, "paraphrase": 2, "implicit": 2, "near": 4, "far": 4, "never_seen": 2}
    with tempfile.TemporaryDirectory() as out:
        told = expunge.evaluate(model, patch, settings=expunge.EvaluateSettings(seeds=2, steps=6, counts=counts),
                                out=out)
    return {f"score/{score.name}": [score.value, score.low, score.high, score.n] for score in told.scores}


def _small(settings: Any) -> Any:
    """Settings with every size of that name made small, at any depth."""
    if isinstance(settings, dict):
        return {key: min(value, SIZES[key]) if key in SIZES and isinstance(value, int) else _small(value)
                for key, value in settings.items()}
    return settings


def _hash(tensor: Any) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:16]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--write", type=Path, metavar="FILE")
    which.add_argument("--compare", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
