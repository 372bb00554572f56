"""One objective for continual learning; its methods are settings of it.

    L(theta) = L_new(theta) + sum_a alpha_a D_Phi_a(z, h_theta(x)) + sum_b beta_b D_Psi_b(theta, theta_old)

with any number of output terms, each on the current batch or on a draw of its own from memory, towards a target z (the
label, the output that was stored with the sample, the old model's output, or the uniform distribution), and any number
of weight terms, each towards an anchor (the weights at the end of the last task, or those that the whole sequence began
with) under a metric.

Source: Wang et al. 2024 (refresh learning, ICLR), table 1. Differs: any number of terms, where the paper has one of
each, so that DER++ and combinations are settings too; target first (`bregman.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor
from typing_extensions import Self

from expunge.config import Settings, knob
from expunge.continual.bregman import (
    AnyOutputDivergence,
    AnyWeightDivergence,
    Gaussians,
    NegativeEntropy,
    Quadratic,
)
from expunge.errors import ExpungeError
from expunge.train import Losses

Anchor = Literal["previous", "initial"]
Metric = Literal["identity", "fisher", "sensitivity"]
TaskLoss = Callable[[Tensor, Tensor], Tensor]
"""Loss of the new task: outputs (B, ...) and labels to a scalar."""


@dataclass(frozen=True)
class Samples:
    """Samples of a task or from memory.

    Attributes:
        inputs: (B, ...); labels: (B,) int64; outputs: (B, ...), what the model gave when a sample entered memory, None
            for samples that are new.
    """

    inputs: Tensor
    labels: Tensor
    outputs: Tensor | None = None

    def to(self, device: torch.device) -> Samples:
        """The same elsewhere."""
        outputs = None if self.outputs is None else self.outputs.to(device)
        return Samples(self.inputs.to(device), self.labels.to(device), outputs)


class OutputTerm(Settings):
    """alpha D(z, h(x)), averaged over samples."""

    name: str = knob("", "What the loss is called; empty: by target and place")
    weight: float = knob(1.0, "Factor (alpha)", ge=0.0)
    divergence: AnyOutputDivergence = knob(NegativeEntropy(), "Distance from the target")
    on: Literal["memory", "current"] = knob("memory", "Samples: a draw from memory, or those of the new task")
    target: Literal["label", "stored", "old", "uniform"] = knob(
        "label", "label: one-hot; stored: the output of when the sample entered memory; old: the output of the model "
        "as it was at the end of the last task; uniform: no class more than another")
    columns: Literal["all", "old"] = knob("all", "All outputs, or only those of classes of earlier tasks")

    @property
    def title(self) -> str:
        """Its name among the losses."""
        return self.name or f"{self.target} on {self.on}"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.target in {"label", "uniform"} and self.divergence.space != "probabilities":
            raise ValueError(f"target {self.target} is a distribution; {self.divergence.kind} compares outputs as they "
                             "are (set divergence.space probabilities, or name negative entropy)")
        if self.target == "label" and getattr(self.divergence, "first", "target") == "output":
            raise ValueError("KL(output || label) is infinite where the output is not 0 (set divergence.first target)")
        if self.target == "label" and self.columns == "old":
            raise ValueError("labels of new classes have no place among the columns of old ones (set columns all)")
        if self.target == "stored" and self.on == "current":
            raise ValueError("samples of the new task have no stored output (set on memory, or target old)")
        return self


class WeightTerm(Settings):
    """beta D(theta, anchor), summed over weights."""

    name: str = knob("", "What the loss is called; empty: by anchor and metric")
    weight: float = knob(1.0, "Factor (beta)", ge=0.0)
    divergence: AnyWeightDivergence = knob(Quadratic(), "Distance from the anchor")
    anchor: Anchor = knob("previous", "The weights at the end of the last task, or those before the first")
    metric: Metric = knob("identity", "Factor for each weight: 1; the Fisher information of earlier tasks; or how much "
                          "the outputs hang on it (MAS)")

    @property
    def title(self) -> str:
        """Its name among the losses."""
        return self.name or f"weights to {self.anchor}"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.divergence, Gaussians) and self.metric != "identity":
            raise ValueError("normals have their own metric, their spread (set metric identity)")
        return self


@dataclass(frozen=True)
class Moment:
    """What an objective looks at in one step.

    Attributes:
        model: inputs to outputs; batch: samples of the new task.
        draw: a draw from memory for the output term of that index, the same one whenever it is asked for; None while
            memory is empty.
        old: the model at the end of the last task; None in the first.
        weights: the trained weights, by name.
        anchors: where they were; without an anchor yet, its terms count nothing. metrics: factors, by name.
        old_columns: how many outputs belong to earlier tasks.
    """

    model: Callable[[Tensor], Tensor]
    batch: Samples
    draw: Callable[[int], Samples | None] = lambda term: None
    old: Callable[[Tensor], Tensor] | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    anchors: Mapping[Anchor, Mapping[str, Tensor]] = field(default_factory=dict)
    metrics: Mapping[Metric, Mapping[str, Tensor]] = field(default_factory=dict)
    old_columns: int = 0


@dataclass(frozen=True)
class Value:
    """An objective at a moment.

    Attributes:
        total: a scalar with gradient; outputs: (B, ...), of the new samples, with gradient.
        parts: the total's parts by name, weights included.
    """

    total: Tensor
    outputs: Tensor
    parts: Losses


class Objective(Settings):
    """The new task's loss, output terms, weight terms. Without terms it is naive fine-tuning."""

    outputs: tuple[OutputTerm, ...] = knob((), "Terms on outputs")
    weights: tuple[WeightTerm, ...] = knob((), "Terms on weights")

    @model_validator(mode="after")
    def _named_apart(self) -> Self:
        titles = ["new", *(term.title for term in self.outputs), *(term.title for term in self.weights)]
        if twice := sorted({title for title in titles if titles.count(title) > 1}):
            raise ValueError(f"two terms are called {twice[0]!r} (give each a name of its own)")
        return self

    def with_term(self, term: OutputTerm | WeightTerm) -> Objective:
        """This objective and one more term."""
        if isinstance(term, OutputTerm):
            return Objective(outputs=(*self.outputs, term), weights=self.weights)
        return Objective(outputs=self.outputs, weights=(*self.weights, term))

    def __call__(self, moment: Moment, loss: TaskLoss = F.cross_entropy) -> Value:
        """All of it at `moment`.

        Raises:
            ExpungeError: a term needs what the moment lacks.
        """
        outputs = moment.model(moment.batch.inputs)
        parts = {"new": loss(outputs, moment.batch.labels)}
        for index, term in enumerate(self.outputs):
            value = _of_output(term, index, moment, outputs)
            if value is not None:
                parts[term.title] = term.weight * value
        for anchored in self.weights:
            if anchored.anchor in moment.anchors:
                parts[anchored.title] = anchored.weight * _of_weights(anchored, moment)
        return Value(torch.stack(list(parts.values())).sum(), outputs,
                     {name: float(part.detach()) for name, part in parts.items()})


def _of_output(term: OutputTerm, index: int, moment: Moment, outputs: Tensor) -> Tensor | None:
    """Mean over the term's samples; None where there are none yet, or nothing to hold on to."""
    if (term.target == "old" and moment.old is None) or (term.columns == "old" and moment.old_columns == 0):
        return None
    samples = moment.batch if term.on == "current" else moment.draw(index)
    if samples is None:
        return None
    own = outputs if term.on == "current" else moment.model(samples.inputs)
    rows = slice(None, moment.old_columns if term.columns == "old" else None)
    seen = own[..., rows]
    if term.target == "label":
        target = F.one_hot(samples.labels, own.shape[-1]).to(own.dtype)
    elif term.target == "uniform":
        target = torch.full_like(seen, 1 / seen.shape[-1])
    elif term.target == "old":
        assert moment.old is not None
        with torch.no_grad():
            target = term.divergence.target(moment.old(samples.inputs)[..., rows])
    elif samples.outputs is None:
        raise ExpungeError(f"the term {term.title!r} wants stored outputs; this memory has none",
                           accepted="a memory that stores outputs")
    else:
        target = term.divergence.target(samples.outputs[..., rows])
    return term.divergence.between(target, seen).mean()


def _of_weights(term: WeightTerm, moment: Moment) -> Tensor:
    if term.metric != "identity" and term.metric not in moment.metrics:
        raise ExpungeError(f"the term {term.title!r} has an anchor and no {term.metric}",
                           accepted="a metric by name of weight, measured when the anchor was set")
    metric = None if term.metric == "identity" else moment.metrics[term.metric]
    return term.divergence.between(moment.weights, moment.anchors[term.anchor], metric)
