"""One trainer for a sequence of tasks: any objective, with or without refresh.

Every step draws its randomness from its own number, so that with and without refresh a run sees the same batches and
the same samples from memory.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn
from typing_extensions import Self

from expunge.config import Settings, knob
from expunge.continual.fisher import Fisher, FisherSettings, Kind, evaluating, of_module
from expunge.continual.memory import Reservoir
from expunge.continual.objective import Anchor, Metric, Moment, Objective, Samples, TaskLoss
from expunge.continual.refresh import Ascent, Refresh, Refresher
from expunge.continual.remembered import Remembered
from expunge.continual.scores import AccuracyMatrix
from expunge.continual.variational import MeanField
from expunge.errors import ExpungeError, TrainingError
from expunge.records import Record
from expunge.train import step_generator


@dataclass(frozen=True)
class Task:
    """Samples to learn and samples to look at.

    Attributes:
        train, test: labels are columns of the model's outputs.
        classes: the labels that occur; what task-incremental evaluation chooses among.
    """

    train: Samples
    test: Samples
    classes: tuple[int, ...]


class Learner(Settings):
    """How a sequence is learned."""

    objective: Objective = knob(Objective(), "What is minimised")
    refresh: Refresh | None = knob(None, "Unlearn before steps; none: the objective alone")
    ascend: Literal["full", "new"] = knob("full", "What refresh climbs: the whole objective, or the new task's loss",
                                          source="Wang et al. 2024: full; the released code: new")
    fisher: FisherSettings = knob(FisherSettings(), "How the objective's metrics are measured, where it has some")
    refresh_fisher: FisherSettings = knob(FisherSettings(), "How the metric of refresh is measured")
    optimizer: Literal["sgd", "adam"] = knob("sgd", "What makes steps of gradients")
    learning_rate: float = knob(0.03, "Its step size", gt=0.0)
    momentum: float = knob(0.0, "Of SGD", ge=0.0, lt=1.0)
    weight_decay: float = knob(0.0, "Of the optimizer", ge=0.0)
    epochs: int = knob(1, "Passes over each task's samples", ge=1)
    batch: int = knob(32, "New samples per step", ge=1)
    memory: int = knob(200, "Samples that memory holds; 0: none", ge=0)
    memory_batch: int = knob(32, "Samples of a draw from memory", ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.memory == 0 and any(term.on == "memory" for term in self.objective.outputs):
            raise ValueError("the objective has terms on memory, and memory is 0 (set memory above 0)")
        if self.optimizer == "adam" and self.momentum:
            raise ValueError("Adam has momentum of its own (set momentum 0)")
        return self


class LearnedSequence(Record):
    """A sequence, learned and measured.

    Attributes:
        settings: the `Learner`'s; seed; tasks: the classes of each.
        class_incremental: accuracy among all classes of the model; task_incremental: among the task's own.
        seconds: wall time of training, evaluation left out; steps: in all.
        relative: mean relative length of the ascents; halvings: in all of them, of `refreshes`.
    """

    settings: dict[str, Any]
    seed: int
    tasks: tuple[tuple[int, ...], ...]
    class_incremental: AccuracyMatrix
    task_incremental: AccuracyMatrix
    steps: int
    seconds: float
    refreshes: int = 0
    relative: float = 0.0
    halvings: int = 0


def learn(model: nn.Module, tasks: Sequence[Task], settings: Learner, *, seed: int = 0,
          loss: TaskLoss = F.cross_entropy) -> LearnedSequence:
    """Train `model` in place on one task after another, looking at all tasks so far after each.

    Args:
        model: gives logits (B, K) for all classes of all tasks. What it draws itself (dropout) comes from torch's
            global generator; a `MeanField` gets draws of the step's own.
        seed: decides batches, memory and noise.
        loss: of the new task.

    Raises:
        ExpungeError: no task, or a model, objective and tasks that do not go together.
        UserError: refresh on half-precision weights.
        TrainingError: a loss or gradient is not finite.
    """
    run = _Run(model, tasks, settings, seed, loss)
    both: tuple[list[tuple[float, ...]], list[tuple[float, ...]]] = ([], [])
    seconds = 0.0
    for k in range(len(tasks)):
        began = time.perf_counter()
        run.task(k)
        seconds += time.perf_counter() - began
        for rows, incremental in zip(both, (False, True), strict=True):
            rows.append(tuple(accuracy(model, task, incremental) for task in tasks[:k + 1]))
    ascents, per_class, per_task = run.ascents, AccuracyMatrix(rows=tuple(both[0])), AccuracyMatrix(rows=tuple(both[1]))
    return LearnedSequence(settings=settings.model_dump(mode="json"), seed=seed,
                           tasks=tuple(task.classes for task in tasks), class_incremental=per_class,
                           task_incremental=per_task, steps=run.number, seconds=round(seconds, 3),
                           refreshes=len(ascents), relative=sum(one.relative for one in ascents) / max(1, len(ascents)),
                           halvings=sum(one.halvings for one in ascents))


@torch.no_grad()
def accuracy(model: nn.Module, task: Task, task_incremental: bool) -> float:
    """Share of the task's test samples whose label has the largest output, among all or among the task's classes."""
    if isinstance(model, MeanField):
        model.resample(None)
    with evaluating(model):
        logits: Tensor = model(task.test.inputs)
    if task_incremental:
        outside = torch.ones(logits.shape[-1], dtype=torch.bool)
        outside[list(task.classes)] = False
        logits = logits.masked_fill(outside.to(logits.device), -torch.inf)
    return float((logits.argmax(-1) == task.test.labels).double().mean())


class _Run:
    """A sequence at work.

    Attributes:
        number: steps done; told: what ascents did.
    """

    def __init__(self, model: nn.Module, tasks: Sequence[Task], settings: Learner, seed: int, loss: TaskLoss) -> None:
        self.model, self.tasks, self.settings, self.seed, self.loss = model, tasks, settings, seed, loss
        width = _checked_width(model, tasks, settings.objective)
        self.params = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(
            self.params.values(), lr=settings.learning_rate, momentum=settings.momentum,
            weight_decay=settings.weight_decay) if settings.optimizer == "sgd" else torch.optim.Adam(
            self.params.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        example = tasks[0].train.inputs
        self.memory = Reservoir(settings.memory, example.shape[1:], width, dtype=example.dtype, seed=seed) if any(
            term.on == "memory" for term in settings.objective.outputs) else None
        self.refresher = Refresher(settings.refresh or Refresh(steps=0), self.params, seed=seed,
                                   buffers=dict(model.named_buffers()))
        self.anchors: dict[Anchor, dict[str, Tensor]] = {}
        if any(term.anchor == "initial" for term in settings.objective.weights):
            self.anchors["initial"] = self._weights()
        self.measured = _measured(settings)
        self.information: dict[str, Fisher] = {}
        self.old: nn.Module | None = None
        self.old_columns = self.number = 0
        self.ascents: list[Ascent] = []

    def task(self, k: int) -> None:
        """Learn task `k` and keep what later ones need of it."""
        train, settings = self.tasks[k].train, self.settings
        self.model.train()
        for epoch in range(settings.epochs):
            order = torch.randperm(len(train.inputs), generator=step_generator(self.seed, epoch, f"task/{k}/order"))
            for rows in order.split(settings.batch):
                self._step(Samples(train.inputs[rows], train.labels[rows]))
                self.number += 1
        self._consolidate(k)

    def _step(self, batch: Samples) -> None:
        settings, model = self.settings, self.model
        draws = _Draws(self.memory, settings.memory_batch, self.seed, self.number, batch.inputs.device)
        moment = Moment(model, batch, draws, self.old, self.params, self.anchors, self._metrics(), self.old_columns)
        if isinstance(model, MeanField):
            model.resample(step_generator(self.seed, self.number, "weights"))

        everything = Remembered(lambda: settings.objective(moment, self.loss))

        def climbed() -> Tensor:
            if settings.ascend == "new":
                return self.loss(model(batch.inputs), batch.labels)
            return everything.look().total

        refreshed = self.refresher.ascend(self.number, climbed, shared=settings.ascend == "full")
        everything.settle(refreshed is not None and refreshed.current)
        if refreshed is not None:
            self.ascents.append(refreshed)
        self.optimizer.zero_grad(set_to_none=True)
        value = everything()
        value.total.backward()
        self.optimizer.step()
        if not math.isfinite(sum(value.parts.values())):
            raise TrainingError(f"loss is not finite at step {self.number + 1}: {value.parts}",
                                accepted="finite losses",
                                remedy="lower the learning rate, a weight, or refresh's gamma")
        if self.memory is not None:
            self.memory.add(Samples(batch.inputs, batch.labels, value.outputs.detach()))

    def _consolidate(self, k: int) -> None:
        settings, task = self.settings, self.tasks[k]
        terms = settings.objective
        if any(term.anchor == "previous" for term in terms.weights):
            self.anchors["previous"] = self._weights()
        if isinstance(self.model, MeanField):
            self.model.resample(None)
        new: dict[tuple[Kind, int | None], Fisher] = {}
        for use, how in self.measured.items():
            key = (how.kind, how.samples)
            if key not in new:
                new[key] = self._fisher(k, how)
            older = self.information.get(use)
            self.information[use] = new[key] if older is None else older.updated(new[key], how.decay)
        self.refresher.follow(self.information.get("refresh"))
        if any(term.target == "old" for term in terms.outputs):
            self.old = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.old_columns = max(self.old_columns, 1 + max(task.classes))

    def _weights(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.params.items()}

    def _fisher(self, k: int, how: FisherSettings) -> Fisher:
        """Of task `k` alone."""
        train = self.tasks[k].train
        rows = torch.randperm(len(train.inputs), generator=step_generator(self.seed, k, "fisher/samples"))[:how.samples]
        return of_module(self.model, train.inputs[rows], how.kind, labels=train.labels[rows],
                         generator=step_generator(self.seed, k, f"fisher/{how.kind}"))

    def _metrics(self) -> dict[Metric, Mapping[str, Tensor]]:
        names: tuple[Metric, ...] = ("fisher", "sensitivity")
        return {name: self.information[name].values for name in names if name in self.information}


class _Draws:
    """Draws from memory of one step, one for each term, made when first asked for, where the new samples are."""

    def __init__(self, memory: Reservoir | None, count: int, seed: int, number: int, device: torch.device) -> None:
        self._memory, self._count, self._seed, self._number, self._device = memory, count, seed, number, device
        self._made: dict[int, Samples | None] = {}

    def __call__(self, term: int) -> Samples | None:
        if term not in self._made:
            draw = step_generator(self._seed, self._number, f"memory/{term}")
            drawn = None if self._memory is None else self._memory.draw(self._count, draw)
            self._made[term] = None if drawn is None else drawn.to(self._device)
        return self._made[term]


def _measured(settings: Learner) -> dict[str, FisherSettings]:
    """What is measured after each task, by what it is for: a metric of the objective, or "refresh"."""
    measured: dict[str, FisherSettings] = {}
    if any(term.metric == "fisher" for term in settings.objective.weights):
        measured["fisher"] = settings.fisher
    if any(term.metric == "sensitivity" for term in settings.objective.weights):
        measured["sensitivity"] = settings.fisher.model_copy(update={"kind": "sensitivity"})
    if settings.refresh is not None and settings.refresh.on:
        measured["refresh"] = settings.refresh_fisher
    return measured


def _checked_width(model: nn.Module, tasks: Sequence[Task], objective: Objective) -> int:
    """How many outputs the model has.

    Raises:
        ExpungeError: it has too few, there is no task, or old columns that are not the first ones.
    """
    if not tasks:
        raise ExpungeError("a sequence without a task", accepted="one at least")
    with torch.no_grad(), evaluating(model):
        width = int(model(tasks[0].train.inputs[:1]).shape[-1])
    seen: set[int] = set()
    for number, task in enumerate(tasks):
        labels = {int(label) for label in torch.cat([task.train.labels, task.test.labels]).unique()}
        if not labels <= set(task.classes) or max(task.classes) >= width:
            raise ExpungeError(f"task {number} of classes {sorted(task.classes)} with labels {sorted(labels)}, and a "
                               f"model of {width} outputs",
                               accepted="labels among the task's classes, an output for each")
        seen |= set(task.classes)
        if any(term.columns == "old" for term in objective.outputs) and seen != set(range(len(seen))):
            raise ExpungeError(f"classes {sorted(seen)} after task {number}, and a term on the columns of earlier ones",
                               accepted="tasks whose classes go on where the last one's ended")
    return width
