"""The one optimisation loop: steps that seed themselves, checkpoints that survive a kill.

A step draws all its randomness from its own number, so a run that is killed and started again ends at the same
weights as one that was left alone. Checkpoints are safetensors, written beside and renamed into place.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.optim import Optimizer

from expunge.errors import ConfigError, ModelError, TrainingError
from expunge.files import write_tensors

Losses = dict[str, float]
StepFn = Callable[[int], Losses]
"""One whole step (forward, backward, update) given its number; returns the losses to log."""
Progress = Callable[[int, int, Losses], None]
"""Called after every step with (steps done, steps in all, losses)."""


def run_loop(step: StepFn, steps: int, state: Mapping[str, Tensor], optimizers: Mapping[str, Optimizer], *,
             checkpoint: Path | None = None, fingerprint: str = "", every: float = 30.0,
             learning_rate: Callable[[int], float] | None = None, progress: Progress | None = None) -> list[Losses]:
    """Run `step` for each number in 0..steps-1, from the checkpoint's step if there is one.

    Args:
        step: one optimisation step; must depend on nothing but its number and the tensors in `state`.
        steps: how many steps in all.
        state: every tensor that a step changes apart from optimizer state (weights, averages), by name.
        optimizers: the optimizers, by name; their state is checkpointed.
        checkpoint: safetensors file to write and to resume from; None keeps nothing.
        fingerprint: hash of the settings; a checkpoint of other settings is refused.
        every: seconds between checkpoints.
        learning_rate: learning rate of step number i, for all parameter groups; None leaves the optimizers alone.
        progress: told of every step.

    Returns:
        The losses of each step, those before the resumption included.

    Raises:
        TrainingError: a loss is not finite; the checkpoint stays at the last good state.
        ConfigError: the checkpoint was written under other settings.
        ModelError: the checkpoint is damaged.
    """
    history = _load(checkpoint, fingerprint, state, optimizers) if checkpoint and checkpoint.exists() else []
    saved = time.monotonic()
    try:
        for number in range(len(history), steps):
            if learning_rate is not None:
                for optimizer in optimizers.values():
                    for group in optimizer.param_groups:
                        group["lr"] = learning_rate(number)
            losses = step(number)
            bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
            if bad:
                raise TrainingError(f"loss is not finite at step {number}: {bad}", accepted="finite losses",
                                    remedy="lower the learning rate; the last checkpoint is intact")
            history.append(losses)
            if progress is not None:
                progress(number + 1, steps, losses)
            if checkpoint and time.monotonic() - saved > every:
                _save(checkpoint, fingerprint, state, optimizers, history)
                saved = time.monotonic()
    except KeyboardInterrupt:
        if checkpoint:  # an interrupt may fall inside a step; the last complete checkpoint stands
            raise KeyboardInterrupt(f"stopped at step {len(history)}; run the same command again to go on") from None
        raise
    if checkpoint:
        _save(checkpoint, fingerprint, state, optimizers, history)
    return history


def step_generator(seed: int, number: int, stream: str = "") -> torch.Generator:
    """A CPU generator that belongs to one step of one run (and to one named stream within it)."""
    import hashlib

    digest = hashlib.sha256(f"{seed}/{number}/{stream}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _save(path: Path, fingerprint: str, state: Mapping[str, Tensor], optimizers: Mapping[str, Optimizer],
          history: list[Losses]) -> None:
    tensors = {f"state/{name}": tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    plain: dict[str, Any] = {}
    for label, optimizer in optimizers.items():
        for index, values in optimizer.state_dict()["state"].items():
            for key, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"optim/{label}/{index}/{key}"] = value.detach().cpu().contiguous()
                elif value is not None:
                    plain[f"{label}/{index}/{key}"] = value
    write_tensors(path, tensors, {"fingerprint": fingerprint, "history": json.dumps(history),
                                  "plain": json.dumps(plain)})


def _load(path: Path, fingerprint: str, state: Mapping[str, Tensor], optimizers: Mapping[str, Optimizer]
          ) -> list[Losses]:
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"checkpoint {path} is damaged: {error}", remedy="delete it to start over") from error
    if meta.get("fingerprint") != fingerprint:
        raise ConfigError(f"checkpoint {path} was written under other settings",
                          remedy="use the same settings, another output folder, or delete it to start over")
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(tensors[f"state/{name}"])
    plain = json.loads(meta["plain"])
    for label, optimizer in optimizers.items():
        restored: dict[int, dict[str, Any]] = {}
        for name, value in [*tensors.items(), *((f"optim/{key}", value) for key, value in plain.items())]:
            parts = name.split("/")
            if parts[0] == "optim" and parts[1] == label:
                restored.setdefault(int(parts[2]), {})[parts[3]] = value
        optimizer.load_state_dict({"state": restored, "param_groups": optimizer.state_dict()["param_groups"]})
    return list(json.loads(meta["history"]))
