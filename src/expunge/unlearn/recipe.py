"""A method as a list of parts: source of x_t, objective, scope, keep, adversary, update.

A recipe is settings, all of it: it goes into the patch's card as JSON and comes back from there. Running one
trains the model in place on the scope's parameters, takes the changed tensors as a patch, and leaves the
model as it was, bit for bit, also after an error or an interrupt.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import InstanceOf
from torch import Tensor
from torch.nn import Parameter

from expunge.config import Settings, knob, merged
from expunge.errors import ExpungeError, UserError
from expunge.files import text_digest
from expunge.models.base import Denoiser
from expunge.models.patch import Patch
from expunge.records import Request
from expunge.train import Losses, Progress, StepFn, Trained, check_checkpoint, run_loop
from expunge.unlearn.adversary import Adversary
from expunge.unlearn.keep import AnyKeep
from expunge.unlearn.objective import AnyObjective, Steer, Term, anchored
from expunge.unlearn.source import AnySource, Bench, FrozenTrajectory
from expunge.unlearn.update import AnyUpdate, Plain, Stepper

SERIES = 200
"""Most points of a loss that a card keeps."""
_SLOTS = ("source", "objective", "keep", "update")
"""Settings that are parts, at any depth; a text there names the part's kind."""


class Method(Protocol):
    """Anything that takes a concept out of a model: a recipe, a closed form, a plug-in."""

    def __call__(self, model: Denoiser, request: Request, *, seed: int = 0, checkpoint: Path | None = None,
                 progress: Progress | None = None) -> Patch:
        """The edit as a patch; the model itself is unchanged when this returns or raises."""
        ...


@dataclass(frozen=True)
class Cost:
    """UNet samples: `frozen` without gradient, `trained` forward and backward; `pooled` points are kept."""

    frozen: int
    trained: int
    pooled: int


class Recipe(Settings):
    """A method made of parts, trained by the one loop.

    Adam is AdamW without weight decay. Training is in float32.
    """

    name: str = knob("recipe", "What the card calls the method", min_length=1)
    source: AnySource = knob(FrozenTrajectory(), "Where x_t comes from")
    objective: AnyObjective = knob(Steer(), "What is trained towards")
    scope: str = knob("xattn", "Which parameters train: a scope's name", min_length=1)
    keep: AnyKeep | None = knob(None, "What must stay; none leaves everything else to chance")
    adversary: InstanceOf[Adversary] | None = knob(None, "What looks for the concept while it is erased")
    update: AnyUpdate = knob(Plain(), "How gradients become a step")
    steps: int = knob(1000, "Optimisation steps", ge=1)
    batch: int = knob(1, "Points of the erase loss per step", ge=1)
    learning_rate: float = knob(1e-5, "Adam's step size", gt=0.0)
    warmup: int = knob(0, "Steps over which the learning rate rises from 0", unit="steps", ge=0)
    weight_decay: float = knob(0.0, "Decoupled weight decay", ge=0.0)
    frozen_batch: int = knob(16, "Samples per call of the frozen teacher: speed against memory", ge=1)
    checkpoint_every: float = knob(30.0, "Time between checkpoints", unit="seconds", ge=0.0)

    def override(self, settings: Mapping[str, Any]) -> Recipe:
        """This recipe with some settings changed.

        Keys may be dotted ("objective.eta") and a part may be named by its kind alone ("source": "edited");
        naming another kind than the recipe's drops the old part's settings.

        Raises:
            ConfigError: every mistake at once.
        """
        named = [{key: {"kind": value} if isinstance(value, str) and key.rpartition(".")[2] in _SLOTS else value}
                 for key, value in settings.items()]
        values = _laid(self.model_dump(mode="json", exclude={"adversary"}), merged(*named))
        return Recipe.build({"adversary": self.adversary, **values}, origin=self.name)

    def check(self, model: Denoiser, request: Request) -> dict[str, Parameter]:
        """The parameters to train, after looking for everything that would go wrong later.

        Raises:
            UserError: a patch is on, unknown scope, a prompt that the text encoder truncates, weights not in
                float32.
        """
        if model.patch_hash:
            raise UserError("the model has a patch on", accepted="the model as loaded",
                            remedy="remove the patch first")
        params = model.parameters_in(self.scope)
        kinds = sorted({str(p.dtype) for p in params.values()} - {"torch.float32"})
        if kinds:
            raise UserError(f"the model's weights are {', '.join(kinds)}", accepted="torch.float32",
                            remedy="load the model with dtype float32 to train it")
        anchors = [anchored(prompt, request) for prompt in request.prompts] if request.anchor else []
        with torch.no_grad():
            for text in dict.fromkeys((*request.prompts, *anchors, *request.keep)):
                model.encode([text])
        return params

    def cost(self, request: Request) -> Cost:
        """How many UNet samples a run takes."""
        draws = self.steps * self.batch
        targets = self.objective.teacher_calls(request) * (self.source.entries or draws)
        frozen = self.source.calls(draws) + targets
        trained, pooled = draws, self.source.entries or 0
        if self.keep is not None:
            mine = self.steps * self.keep.batch * (self.keep.steps if self.keep.cadence == "between" else 1)
            frozen += self.keep.source.calls(mine) + (self.keep.source.entries or mine)
            trained, pooled = trained + mine, pooled + (self.keep.source.entries or 0)
        return Cost(round(frozen), trained, pooled)

    def __call__(self, model: Denoiser, request: Request, *, seed: int = 0, checkpoint: Path | None = None,
                 progress: Progress | None = None) -> Patch:
        """Train, and return what changed.

        Args:
            model: unchanged afterwards.
            request: what to unlearn.
            seed: decides every random draw of the run.
            checkpoint: file to write every `checkpoint_every` seconds and to go on from; a run that was
                killed and is started again ends at the same weights (pools are drawn again: bit by bit the same
                with as many threads).
            progress: called with (done, total, losses); first without losses while the pools are drawn, then
                once per step.

        Raises:
            UserError: before any computing, if something does not fit (`check`).
            TrainingError: a loss is not finite.
            ConfigError, ModelError: the checkpoint belongs to another run or is damaged.
        """
        params = self.check(model, request)
        began = time.monotonic()
        if checkpoint is not None and checkpoint.exists():
            check_checkpoint(checkpoint, self.fingerprint(model, request, seed))
        bench = Bench(model, model.frozen_copy(), request, seed, text_trains(params), self.frozen_batch, progress)
        with training(params) as original:
            trained = self._train(bench, params, checkpoint, progress, began)
            changed = {name: p.detach().clone() for name, p in params.items()
                       if not torch.equal(p.detach(), original[name])}
        return Patch.of(changed, model=model, request=request, method=self.name,
                        settings=self.model_dump(mode="json"), seed=seed, losses=thinned(trained.losses),
                        seconds=round(trained.seconds, 2), steps=len(trained.losses))

    def fingerprint(self, model: Denoiser, request: Request, seed: int) -> str:
        """Hash of everything that decides the trained weights."""
        settings = self.model_dump(mode="json", exclude={"checkpoint_every"})
        told = [settings, request.model_dump(mode="json"), model.hash, model.process, seed]
        return text_digest(json.dumps(told, sort_keys=True))

    def _train(self, bench: Bench, params: Mapping[str, Parameter], checkpoint: Path | None,
               progress: Progress | None, began: float) -> Trained:
        stream = self.source.open(bench, bench.request.prompts, self.batch, "erase")
        attacker = self.adversary.prepare(bench, stream) if self.adversary is not None else None
        erase = self.objective.prepare(bench, stream, attacker)
        keep = self.keep.prepare(bench) if self.keep is not None else None
        stepper = self.update.prepare(params, erase)
        optimizer = torch.optim.AdamW(params.values(), lr=self.learning_rate, weight_decay=self.weight_decay)
        learners = [part for part in (erase, keep, attacker) if part is not None]
        state: dict[str, Tensor] = {**params, **stepper.state}
        optimizers: dict[str, torch.optim.Optimizer] = {"adam": optimizer}
        for learner in learners:
            clash = sorted((state.keys() & learner.state.keys()) | (optimizers.keys() & learner.optimizers.keys()))
            if clash:
                raise ExpungeError(f"two parts of {self.name} keep something under the name {clash[0]!r}",
                                   accepted="a name of its own for everything that a part keeps")
            state.update(learner.state)
            optimizers.update(learner.optimizers)
        step = self._step(params, stepper, optimizer, erase, keep)
        return run_loop(step, self.steps, state, optimizers, checkpoint=checkpoint,
                        fingerprint=self.fingerprint(bench.student, bench.request, bench.seed),
                        every=self.checkpoint_every, learning_rate={"adam": self._rate}, progress=progress, began=began)

    def _rate(self, number: int) -> float:
        return self.learning_rate * min(1.0, (number + 1) / max(1, self.warmup))

    def _step(self, params: Mapping[str, Parameter], stepper: Stepper, optimizer: torch.optim.Optimizer,
              erase: Term, keep: Term | None) -> StepFn:
        between = self.keep.steps if self.keep is not None and self.keep.cadence == "between" else 0

        def step(number: int) -> Losses:
            beside = partial(keep.loss, number) if keep is not None and not between else None
            losses = stepper.step(partial(erase.loss, number), beside, params, optimizer)
            if keep is not None:
                for turn in range(number * between, (number + 1) * between):
                    alone = stepper.step(partial(keep.loss, turn), None, params, optimizer)
                    losses["keep"] = alone["erase"]
            return losses

        return step


def _laid(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`new` over `old`, deeply; a part of another kind replaces the old one whole."""
    out = dict(old)
    for key, value in new.items():
        below = out.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping) and (
                value.get("kind", below.get("kind")) == below.get("kind")):
            value = _laid(below, value)
        out[key] = value
    return out


def text_trains(params: Mapping[str, Parameter]) -> bool:
    """Whether part of the text encoder is among `params`."""
    return any(name.startswith("text_encoder/") for name in params)


def thinned(history: Sequence[Losses], most: int = SERIES) -> dict[str, list[float]]:
    """Each loss's series, first and last kept, evenly thinned to `most` points."""
    n = len(history)
    kept = range(n) if n <= most else [round(i * (n - 1) / (most - 1)) for i in range(most)]
    names = dict.fromkeys(name for losses in history for name in losses)
    return {name: [history[i][name] for i in kept if name in history[i]] for name in names}


@contextmanager
def training(params: Mapping[str, Parameter]) -> Iterator[dict[str, Tensor]]:
    """Inside, `params` take gradients; afterwards values and flags are as before. Yields the values."""
    original = {name: p.detach().clone() for name, p in params.items()}
    flags = {name: p.requires_grad for name, p in params.items()}
    try:
        for p in params.values():
            p.requires_grad_(True)
        yield original
    finally:
        with torch.no_grad():
            for name, p in params.items():
                p.requires_grad_(flags[name])
                p.copy_(original[name])
                p.grad = None
