"""The diagonal of the Fisher information: which weights decide what a model gives.

    true          E_x E_{y ~ p(.|x)} (d log p(y|x) / d theta)^2   the label is drawn from the model itself
    empirical     E_{x,y} (d log p(y|x) / d theta)^2              the label is the data's
    weighted      E_{x,y} p(y|x) (d log p(y|x) / d theta)^2       the released refresh code's, after mammoth's EWC
    hutchinson    E_x E_xi (d (xi . h(x)) / d theta)^2            xi ~ N(0, I): the true one of N(h, I), diag(J^T J)
    sensitivity   E_x |d |h(x)|^2 / d theta|                      no Fisher: MAS's importance, by the same means

All squares are of single samples' gradients: the square of a batch's mean gradient is something else. Values are
float32, by name of parameter, and know what they rest on.

Source: Kirkpatrick et al. 2017 (EWC); Kunstner et al. 2019 on true and empirical; Aljundi et al. 2018 (MAS). Differs
from the released refresh code: in evaluation mode (it normalises batches of one), no p(y|x) except where "weighted"
asks for it, many samples at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from expunge import untrusted
from expunge.config import Settings, knob
from expunge.errors import ExpungeError, ModelError, TrainingError
from expunge.files import write_tensors

Kind = Literal["true", "empirical", "weighted", "hutchinson", "sensitivity"]
FORMAT = "expunge-fisher/1"


class FisherSettings(Settings):
    """How a Fisher information is measured and kept over tasks."""

    kind: Kind = knob("true", "Whose labels, and how squares are weighted")
    samples: int | None = knob(None, "Samples of a task that are looked at; none: all", ge=1)
    decay: float = knob(1.0, "What is left of the older at every task: F <- decay F + new", ge=0.0, le=1.0,
                        source="online EWC gamma; the released refresh code: 1e-5, which forgets all but the last task")


@dataclass(frozen=True)
class Fisher:
    """A diagonal, measured.

    Attributes:
        kind: how; samples: on how many samples it rests, those that faded included.
        values: float32, >= 0, by name of parameter.
    """

    kind: Kind
    samples: int
    values: Mapping[str, Tensor]

    def updated(self, new: Fisher, decay: float = 1.0) -> Fisher:
        """decay * this + new.

        Raises:
            ExpungeError: another kind, or other parameters.
        """
        if new.kind != self.kind or new.values.keys() != self.values.keys():
            raise ExpungeError(f"a Fisher information of kind {self.kind!r} and one of kind {new.kind!r}"
                               if new.kind != self.kind else "two Fisher informations of different parameters",
                               accepted="two of one kind, of the same parameters")
        return Fisher(self.kind, self.samples + new.samples,
                      {name: decay * mine + new.values[name] for name, mine in self.values.items()})

    def normalised(self) -> Fisher:
        """Divided by its mean over all weights, so that a damping of 1 is of its size.

        Raises:
            TrainingError: all of it is 0.
        """
        mean = self.statistics()["mean"]
        if mean <= 0.0:
            raise TrainingError("a Fisher information that is 0 everywhere",
                                accepted="outputs that hang on the weights")
        return Fisher(self.kind, self.samples, {name: value / mean for name, value in self.values.items()})

    def statistics(self) -> dict[str, float]:
        """mean, median, largest value, and share of zeros."""
        flat = torch.cat([value.flatten() for value in self.values.values()])
        return {"mean": float(flat.double().mean()), "median": float(flat.median()), "largest": float(flat.max()),
                "zeros": float((flat == 0).double().mean())}

    def save(self, path: Path) -> None:
        """Write safetensors, atomically."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.values.items()}
        write_tensors(path, tensors, {"format": FORMAT, "kind": self.kind, "samples": str(self.samples),
                                      "names": json.dumps(sorted(tensors))})

    @classmethod
    def read(cls, path: Path) -> Fisher:
        """What `save` wrote.

        Raises:
            ModelError: there is no such file, or it is damaged, or something else.
        """
        remedy = "measure it again"
        try:
            with untrusted.tensors(path) as file:
                meta: dict[str, str] = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except OSError as error:
            raise ModelError(f"Fisher information in {path} cannot be read: {error}", remedy=remedy) from error
        if meta.get("format") != FORMAT:
            raise ModelError(f"{path} holds {meta.get('format', 'tensors without a format')}", accepted=FORMAT,
                             remedy=remedy)
        kinds: tuple[Kind, ...] = get_args(Kind)
        whole = meta.get("names") == json.dumps(sorted(tensors)) and meta.get("samples", "").isdigit()
        if not whole or meta.get("kind") not in kinds or not all(_is_diagonal(value) for value in tensors.values()):
            raise ModelError(f"Fisher information in {path} is damaged",
                             accepted=f"finite float32 values >= 0 of the named parameters; kinds: {', '.join(kinds)}",
                             remedy=remedy)
        return cls(meta["kind"], int(meta["samples"]), tensors)  # type: ignore[arg-type]


def hutchinson(outputs: Iterable[Callable[[], Tensor]], params: Mapping[str, Tensor], generator: torch.Generator
               ) -> Fisher:
    """Fisher information of N(output, I), one backward per output: the mean over rows of diag(J^T J), estimated.

    Args:
        outputs: each gives (B, ...) with gradient, B rows that count one sample each. Rows of one output share a
            backward: unbiased all the same, for xi has mean 0, with more variance than a row at a time.
        params: what the outputs hang on, by name; they must take gradients.
        generator: CPU; draws xi.

    Raises:
        TrainingError: no output, or a gradient that is not finite.
    """
    names, leaves = list(params), list(params.values())
    total, count = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in params.items()}, 0
    for output in outputs:
        h = output()
        xi = torch.randn(h.shape, generator=generator).to(h)
        grads = torch.autograd.grad((xi * h).sum(), leaves, allow_unused=True)
        for name, slope in zip(names, grads, strict=True):
            if slope is not None:
                total[name] += slope.detach().float().square()
        count += h.shape[0] if h.ndim else 1
    return _finished("hutchinson", total, count)


def of_module(model: nn.Module, inputs: Tensor, kind: Kind = "true", *, labels: Tensor | None = None,
              generator: torch.Generator, chunk: int = 64) -> Fisher:
    """The diagonal for a module's trained parameters on `inputs` (N, ...), in evaluation mode.

    Args:
        model: gives logits (N, K), or any outputs where the kind is "hutchinson" or "sensitivity"; unchanged.
        labels: (N,) int64, for kinds that need the data's.
        generator: CPU; draws labels or xi.
        chunk: samples whose gradients are in memory at a time.

    Raises:
        ExpungeError: no labels where they are needed.
        TrainingError: no input, or a gradient that is not finite.
    """
    if kind in {"empirical", "weighted"} and labels is None:
        raise ExpungeError(f"a Fisher information of kind {kind!r} without labels", accepted="the samples' labels")
    params = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in params.items()}
    square = torch.abs if kind == "sensitivity" else torch.square

    def scalar(weights: dict[str, Tensor], x: Tensor, about: Tensor) -> tuple[Tensor, Tensor]:
        h = functional_call(model, weights, (x[None],))[0]
        if kind == "hutchinson":
            return (about * h).sum(), torch.ones(())
        if kind == "sensitivity":
            return h.square().sum(), torch.ones(())
        log_p = h.log_softmax(-1).gather(-1, about[None])[0]
        return log_p, (log_p.detach().exp() if kind == "weighted" else torch.ones(()))

    per_sample = vmap(grad(scalar, has_aux=True), (None, 0, 0))
    with evaluating(model):
        for at in torch.arange(len(inputs)).split(chunk):
            x = inputs[at]
            slopes, weight = per_sample(params, x, _about(model, x, kind, None if labels is None else labels[at],
                                                          generator))
            for name, slope in slopes.items():
                factor = weight.to(slope).reshape(-1, *[1] * (slope.ndim - 1))
                total[name] += (factor * square(slope)).sum(0).float()
    return _finished(kind, total, len(inputs))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, every part of the model is in evaluation mode; afterwards each is in the mode it was in."""
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        yield
    finally:
        model.train(modes[model])  # a model may pass its mode on to what is no part of it
        for part, mode in modes.items():
            part.training = mode


@torch.no_grad()
def _about(model: nn.Module, x: Tensor, kind: Kind, labels: Tensor | None, generator: torch.Generator) -> Tensor:
    """What each sample's scalar is about: its label, or its xi."""
    if kind in {"empirical", "weighted"}:
        assert labels is not None
        return labels
    if kind == "sensitivity":
        return torch.zeros(len(x), dtype=torch.int64)
    h: Tensor = model(x)
    if kind == "hutchinson":
        return torch.randn(h.shape, generator=generator).to(h)
    return torch.multinomial(h.softmax(-1).float().cpu(), 1, generator=generator)[:, 0].to(x.device)


def _finished(kind: Kind, total: dict[str, Tensor], count: int) -> Fisher:
    if count == 0:
        raise TrainingError("a Fisher information of no samples", accepted="one at least")
    if bad := [name for name, value in total.items() if not bool(value.isfinite().all())]:
        raise TrainingError(f"the gradient of {bad[0]!r} is not finite", accepted="finite gradients")
    return Fisher(kind, count, {name: value / count for name, value in total.items()})


def _is_diagonal(value: Tensor) -> bool:
    return value.dtype == torch.float32 and bool(value.isfinite().all()) and bool((value >= 0).all())
