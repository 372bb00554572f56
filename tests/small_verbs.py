"""Every verb that keeps what it did, on a very small pipeline: `start(folder, out, tell, other)` begins it, or goes on.

`folder` holds the pipeline; `tell` is told how far it is, and may raise KeyboardInterrupt; `other`: other settings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from colour_world import attacked_world, edit
from guard_examples import ONE_SHOT, QUICK, RELEASED, pictures, publisher

import expunge.finetune
import expunge.guard.projected
import expunge.guard.released
import expunge.guard.saliency
from expunge.attacks.relearning import relearn
from expunge.attacks.settings import AttackSettings, RelearnSettings
from expunge.attacks.suite import attack
from expunge.bench.run import run_bench
from expunge.bench.settings import BenchSettings
from expunge.config import merged
from expunge.finetune import FineTune, fine_tuning, material
from expunge.guard import learn_mask
from expunge.models.store import load
from expunge.records import Request
from expunge.sequence.run import run_sequence
from expunge.sequence.settings import SequenceSettings
from expunge.unlearn.erase import erase

STEPS: dict[str, Any] = {"source": {"grid": 3, "trajectories": 2}, "steps": 4, "batch": 2, "learning_rate": 1e-2,
                         "checkpoint_every": 0}
MEASURE = {"counts": {"direct": 2, "held_out": 0, "near": 2, "far": 2, "empty": 0, "never_seen": 0}, "seeds": 2,
           "steps": 2, "guidance": 1.0, "batch": 4, "floor_items": 0, "draws": 100, "fid_draws": 20, "strips": 0}
Tell = Callable[..., None]


def checkpoint_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what trains keep each of its steps."""
    for module in (expunge.finetune, expunge.guard.projected, expunge.guard.released, expunge.guard.saliency):
        monkeypatch.setattr(module, "run_loop", partial(module.run_loop, every=-1.0))


def erased(folder: Path, out: Path, tell: Tell, other: bool) -> None:
    erase(load(folder, device="cpu"), Request(concept="church", prompts=("a church",)),
          settings={**STEPS, **({"batch": 1} if other else {})}, out=out, own_look=False,
          progress=lambda done, total, losses: tell(done) if losses else None)


def tuned(folder: Path, out: Path, tell: Tell, other: bool) -> None:
    model = load(folder, device="cpu")
    shown = material(model, pictures(3, 0.5), ["a church"] * 3)
    with fine_tuning(model, shown, FineTune(steps=4, batch=1 + other, learning_rate=1e-3), seed=1) as tuner:
        list(tuner.train(checkpoint=out / "user.safetensors", progress=lambda done, total, losses: tell(done)))


def attacked(folder: Path, out: Path, tell: Tell, other: bool) -> None:
    model = load(folder, device="cpu")
    settings = AttackSettings(attacks=("seed-search", "noising"), count=4, seeds=4, control_items=0, fresh=1, steps=4,
                              guidance=1.0, each=True, force=True, options={
                                  "seed-search": {"tries": 1}, "noising": {"strengths": (0.7,) if other else (0.5,)}})
    attack(model, edit(model, 0.02), settings=settings, out=out, world=attacked_world(),
           progress=lambda done, total, name: tell(done) if name == "noising" else None)


def relearned(folder: Path, out: Path, tell: Tell, other: bool) -> None:
    model = load(folder, device="cpu")
    settings = RelearnSettings(at=(0, 2, 4), lesson=2, count=2, seeds=4, steps=2,
                               tune={"batch": 2, "learning_rate": 1e-3 if other else 3e-3})
    relearn(model, edit(model, 0.02), settings=settings, out=out, world=attacked_world(),
            progress=lambda done, total, words: tell(done))


def benched(folder: Path, out: Path, tell: Tell, other: bool) -> None:
    settings = {"model": str(folder), "device": "cpu", "concepts": [{"concept": "church"}], "attack": None,
                "methods": [{"method": "esd", "settings": STEPS}], "seeds": [0], "evaluation": MEASURE}
    change = {"methods": [{"method": "esd", "settings": {**STEPS, "batch": 1}}]} if other else {}
    run_bench(BenchSettings.build({**settings, **change}), out=out, world=attacked_world(),
              progress=lambda done, total, words: tell(3 * words.endswith("erasing 3/4")))


def met(folder: Path, out: Path, tell: Tell, other: bool) -> None:
    settings = {"model": str(folder), "device": "cpu", "method": "esd", "settings": STEPS, "strategy": "naive",
                "requests": [{"concept": "church"}, {"concept": "dog"}], "evaluation": None}
    run_sequence(SequenceSettings.build(merged(settings, {"settings": {"batch": 1}} if other else {})), out=out,
                 world=attacked_world(),
                 progress=lambda met, total, words: tell(3 * met * words.endswith("erasing 3/4")))


def learned(preset: str, settings: dict[str, Any], folder: Path, out: Path, tell: Tell, other: bool) -> None:
    model = load(folder, device="cpu")
    learn_mask(model, publisher(model), preset, settings={**settings, "ratio": 0.4 if other else 0.5}, out=out,
               progress=lambda done, total, losses: tell(done))


VERBS: dict[str, tuple[Callable[[Path, Path, Tell, bool], None], int, str]] = {
    "erase": (erased, 3, "settings.batch 2, now 1"),
    "a user's training": (tuned, 3, "settings.batch 1, now 2"),
    "attack": (attacked, 1, r"settings.strengths \[0.5\], now \[0.7\]"),
    "relearn": (relearned, 4, "settings.tune.learning_rate 0.003, now 0.001"),
    "bench": (benched, 3, "settings.batch 2, now 1"),
    "sequence": (met, 3, "settings.batch 2, now 1"),
    "guard learn": (partial(learned, "projected", {**QUICK, "by": "count"}), 3, "settings.ratio 0.5, now 0.4"),
    "guard learn, one shot": (partial(learned, "saliency", {**ONE_SHOT, "by": "count"}), 2,
                              "settings.ratio 0.5, now 0.4"),
    "guard learn, released": (partial(learned, "released", RELEASED), 4, "settings.ratio 0.5, now 0.4"),
}
"""By name: what starts it, after what it was told it is stopped, and what differs under the other settings."""
