"""The one optimisation loop: steps that seed themselves, checkpoints that survive a kill.

A step draws all its randomness from its own number, so a run that is killed and started again ends at the same
weights as one that was left alone: to the last bit on the same kind of machine with as many threads and processes, for
kernels round by how they split their work. Checkpoints are safetensors, written beside and renamed into place.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from expunge import untrusted
from expunge.errors import ConfigError, ExpungeError, ModelError, TrainingError
from expunge.interrupts import noted_between_steps
from expunge.resume import Inputs, damaged
from expunge.runtime import Runtime, memory_for
from expunge.sealed import read_sealed_tensors, write_sealed_tensors

Losses = dict[str, float]
StepFn = Callable[[int], Losses]
"""One whole step (forward, backward, update) given its number; returns the losses to log."""
Progress = Callable[[int, int, Losses], None]
"""Called after every step with (steps done, steps in all, losses)."""
SMALLER = ("lower the method's batch (--batch; of the frozen teacher --frozen-batch) or train fewer weights (--scope)")
"""What to do where memory does not suffice."""
SERIES = 200
"""Most points of a loss that a card keeps."""


@dataclass(frozen=True)
class Trained:
    """What a finished run has to tell.

    Attributes:
        losses: of each step, those before a resumption included.
        seconds: wall time of all sessions; of a killed one, up to its last checkpoint.
    """

    losses: list[Losses]
    seconds: float


def run_loop(step: StepFn, steps: int, state: Mapping[str, Tensor], optimizers: Mapping[str, Optimizer], *,
             checkpoint: Path | None = None, under: Inputs | None = None, every: float = 30.0,
             learning_rate: Mapping[str, Callable[[int], float]] | None = None, progress: Progress | None = None,
             began: float | None = None, processes: Runtime | None = None) -> Trained:
    """Run `step` for each number in 0..steps-1, from the checkpoint's step if there is one.

    Args:
        step: one optimisation step; must depend on nothing but its number and the tensors in `state`.
        steps: how many steps in all.
        state: every tensor that a step changes apart from optimizer state (weights, averages), by name.
        optimizers: the optimizers, by name; their state is checkpointed.
        checkpoint: safetensors file to write and to resume from; None keeps nothing.
        under: all that decides the results; a checkpoint that was begun under other inputs is refused.
        every: seconds between checkpoints.
        learning_rate: by optimizer name, the learning rate of step number i for all its parameter groups; optimizers
            that are not named keep their own.
        progress: told of every step. A KeyboardInterrupt that it raises stops the run as Ctrl-C does: the step that it
            was told of is whole, and the checkpoint holds it.
        began: `time.monotonic()` when this session's work began, if that was before the call.
        processes: those that take every step together: one of them writes the checkpoint, from which all go on, and
            all stop where one is asked to. None: this one alone.

    Raises:
        ExpungeError: a learning rate for an optimizer that is not there.
        TrainingError: a loss is not finite; the checkpoint stays at the last good state.
        ConfigError: the checkpoint was begun under other settings.
        ModelError: the checkpoint is damaged, or holds other tensors.
    """
    rates, under = dict(learning_rate or {}), under or Inputs({})
    if unknown := sorted(rates.keys() - optimizers.keys()):
        raise ExpungeError(f"learning rates for {', '.join(map(repr, unknown))}", accepted=", ".join(optimizers))
    saved, writes = time.monotonic(), processes is None or processes.main
    start = saved if began is None else began
    history: list[Losses] = []
    if checkpoint and checkpoint.exists():
        history, earlier = _load(checkpoint, under, state, optimizers)
        start -= earlier
    kept = len(history)
    if processes is not None:
        _begin_alike(processes, under, kept)
    try:
        with noted_between_steps(wait=checkpoint is not None) as interrupted:
            for number in range(kept, steps):
                for name, rate in rates.items():
                    for group in optimizers[name].param_groups:
                        group["lr"] = rate(number)
                with memory_for(f"training step {number + 1} of {steps}", SMALLER):
                    losses = step(number)
                bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
                if bad:
                    raise TrainingError(f"loss is not finite at step {number + 1} of {steps}: {bad}",
                                        accepted="finite losses",
                                        remedy="lower the learning rate (with refresh: update.gamma)"
                                        + (f"; the checkpoint holds step {kept}" if kept else ""))
                history.append(losses)
                stopped = progress is not None and _stops(progress, number + 1, steps, losses)
                stopped, due = stopped or interrupted() is not None, time.monotonic() - saved > every
                if processes is not None:  # clocks and signals are each one's own
                    stopped, due = processes.any_of(stopped, due)
                if checkpoint and (stopped or due):
                    if writes:
                        _save(checkpoint, under, state, optimizers, history, time.monotonic() - start)
                    saved, kept = time.monotonic(), number + 1
                if stopped:
                    raise interrupted() or KeyboardInterrupt
    except KeyboardInterrupt as stop:  # the second one, or one that nobody noted, may fall inside a step
        if checkpoint:
            raise type(stop)(f"stopped at step {kept}; run the same command again to go on" if kept else
                             "stopped; nothing was kept yet") from None
        raise
    if checkpoint and writes:
        _save(checkpoint, under, state, optimizers, history, time.monotonic() - start)
    return Trained(history, time.monotonic() - start)


def _begin_alike(processes: Runtime, under: Inputs, kept: int) -> None:
    """ConfigError in every process: they were started otherwise, or see different checkpoints."""
    starts = processes.gather({processes.rank: [under.digest, kept]})
    if any(start != starts[0] for start in starts):
        same = all(digest == starts[0][0] for digest, _ in starts)
        raise ConfigError(f"the processes of one launch begin at steps {', '.join(str(step) for _, step in starts)}"
                          if same else "the processes of one launch train under different settings",
                          accepted="the same command, and one folder that all of them see")


def _stops(progress: Progress, done: int, steps: int, losses: Losses) -> bool:
    """Tell of a step; whether whoever was told wants the run to stop."""
    try:
        progress(done, steps, losses)
    except KeyboardInterrupt:
        return True
    return False


def step_generator(seed: int, number: int, stream: str = "") -> torch.Generator:
    """A CPU generator that belongs to one step of one run (and to one named stream within it)."""
    digest = hashlib.sha256(f"{seed}/{number}/{stream}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def check_checkpoint(path: Path, under: Inputs) -> dict[str, str]:
    """Whether a run of these inputs may go on from the file, told before costly preparations; its metadata.

    Raises:
        ConfigError: the checkpoint was begun under other settings.
        ModelError: the checkpoint is damaged.
    """
    try:
        with untrusted.tensors(path) as file:
            meta: dict[str, str] = {"fingerprint": "", "inputs": "{}", **(file.metadata() or {})}
        inputs = untrusted.json_in(meta["inputs"])
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    under.check(path, {"fingerprint": meta["fingerprint"], "inputs": inputs})
    return meta


def kept_state(path: Path, prefix: str) -> dict[str, Tensor]:
    """What a checkpoint that was looked at (`check_checkpoint`) holds of a run's state under names that begin so."""
    with untrusted.tensors(path) as file:
        names = [name for name in file.keys() if name.startswith(f"state/{prefix}")]  # noqa: SIM118  # no dictionary
        return {name.removeprefix("state/"): file.get_tensor(name) for name in names}


def _save(path: Path, under: Inputs, state: Mapping[str, Tensor], optimizers: Mapping[str, Optimizer],
          history: list[Losses], seconds: float) -> None:
    tensors = {f"state/{name}": tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    plain: dict[str, Any] = {}
    for label, optimizer in optimizers.items():
        for index, values in optimizer.state_dict()["state"].items():
            for key, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"optim/{label}/{index}/{key}"] = value.detach().cpu().contiguous()
                elif value is not None:
                    plain[f"{label}/{index}/{key}"] = value
    metadata = {name: value if isinstance(value, str) else json.dumps(value) for name, value in under.record.items()}
    write_sealed_tensors(path, tensors, {**metadata, "history": json.dumps(history),
                                         "plain": json.dumps(plain), "seconds": f"{seconds:.2f}"})


def _load(path: Path, under: Inputs, state: Mapping[str, Tensor], optimizers: Mapping[str, Optimizer]
          ) -> tuple[list[Losses], float]:
    """Fill `state` and `optimizers` from the file; its losses, and the seconds they took (0 where it does not say)."""
    meta = check_checkpoint(path, under)
    try:
        tensors, _ = read_sealed_tensors(path)
    except ValueError as error:
        raise damaged(path, error) from error
    odd = [name for name, tensor in state.items()
           if f"state/{name}" not in tensors or tensors[f"state/{name}"].shape != tensor.shape]
    if odd:
        raise ModelError(f"checkpoint {path} does not fit: {odd[0]!r} is missing or has another shape",
                         remedy="delete it to start over")
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(tensors[f"state/{name}"])
    plain = untrusted.json_in(meta["plain"])
    for label, optimizer in optimizers.items():
        restored: dict[int, dict[str, Any]] = {}
        for name, value in [*tensors.items(), *((f"optim/{key}", value) for key, value in plain.items())]:
            parts = name.split("/")
            if parts[0] == "optim" and parts[1] == label:
                restored.setdefault(int(parts[2]), {})[parts[3]] = value
        optimizer.load_state_dict({"state": restored, "param_groups": optimizer.state_dict()["param_groups"]})
    return list(untrusted.json_in(meta["history"])), float(meta.get("seconds", 0))


def in_turn(count: int, batch: int, number: int, seed: int, name: str) -> Tensor:
    """int64 (batch,): places 0 to count-1 in shuffled rounds, each once in a round, going on from step to step."""
    turns = [divmod(number * batch + row, count) for row in range(batch)]
    orders = {turn: torch.randperm(count, generator=step_generator(seed, turn, f"{name}/round")) for turn, _ in turns}
    return torch.tensor([int(orders[turn][place]) for turn, place in turns])


@contextmanager
def restored(params: Mapping[str, Parameter]) -> Iterator[dict[str, Tensor]]:
    """Afterwards the parameters' values and flags are as before, bit for bit, and they hold no gradients.

    Yields the values.
    """
    values = {name: p.detach().clone() for name, p in params.items()}
    flags = {name: p.requires_grad for name, p in params.items()}
    try:
        yield values
    finally:
        with torch.no_grad():
            for name, p in params.items():
                p.copy_(values[name])
                p.requires_grad_(flags[name])
                p.grad = None


def thinned(history: Sequence[Losses], most: int = SERIES) -> dict[str, list[float]]:
    """Each loss's series, first and last kept, evenly thinned to `most` points."""
    n = len(history)
    kept = range(n) if n <= most else [round(i * (n - 1) / (most - 1)) for i in range(most)]
    names = dict.fromkeys(name for losses in history for name in losses)
    return {name: [history[i][name] for i in kept if name in history[i]] for name in names}
