"""A method in closed form: read text states, solve, done. Seconds, without an image and without a UNet call.

Edits cross-attention's key and value projections, which see prompts as text states and nothing else. Every concept of
a request is in the one solution, and the request's prompts to keep, the empty prompt and prompts for other things of
the model's world weigh against them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import Parameter

from expunge.config import Settings, knob
from expunge.errors import ConfigError, UserError
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.records import Request
from expunge.resume import Inputs
from expunge.runtime import peak_memory
from expunge.train import Losses, Progress, check_checkpoint, thinned
from expunge.unlearn.closed_form.pooled import PooledLayer, read_pooled
from expunge.unlearn.closed_form.reading import (
    KeepTokens,
    Plan,
    Reading,
    Texts,
    Tokens,
    computable,
    read,
)
from expunge.unlearn.closed_form.refine import gram
from expunge.unlearn.closed_form.rounds import Rounds, Solution
from expunge.unlearn.closed_form.solvers import AnySolver, Layers, Ridge
from expunge.unlearn.method import SURROGACY, Surrogacy, overridden
from expunge.unlearn.retain import Retain, Retained
from expunge.unlearn.subspace import second_moment
from expunge.unlearn.weights import SOLVED, checked_weights

_SLOTS = ("solver",)
"""Settings that are parts; a text there names the part's kind."""


class ClosedForm(Settings):
    """A method that solves for the edited projections. Only the copies in `solver.refine` depend on the seed."""

    name: str = knob("closed-form", "What the card calls the method", min_length=1)
    solver: AnySolver = knob(Ridge(), "Which changes are allowed, and what is minimised")
    scope: str = knob("xattn.kv", "Which projections change: xattn.kv, xattn.k or xattn.v", min_length=1)
    texts: Texts = knob("both", "What names the concept: its name alone, the request's prompts, or both")
    tokens: Tokens = knob("span", "Which positions of these texts change: span, last, words or all",
                          source="UCE, original script")
    keep_tokens: KeepTokens = knob("all", "Which positions of texts to keep must stay: all, words or last",
                                   source="UCE, original script")
    retain: Retain | None = knob(Retain(each=2), "Prompts for other things that must stay, beside the request's own")
    retain_tokens: KeepTokens = knob("all", "Which positions of those prompts must stay: all, words or last")
    pooled: bool = knob(False, "Solve for the layer that the pooled text state enters by, too, where a family has one",
                        added=True, source="UCE@28c81ed, FLUX")
    rounds: Rounds | None = knob(None, "Rounds of attack and repair; none does without")
    surrogate: Surrogacy = SURROGACY
    batch: int = knob(32, "Texts per call of the text encoder: speed against memory", ge=1)

    def override(self, settings: Mapping[str, Any]) -> ClosedForm:
        """This method with some settings changed; keys may be dotted, a solver may be named by its kind alone.

        Raises:
            ConfigError: every mistake at once.
        """
        if settings.get("size") is not None:
            raise ConfigError(f"size for {self.name}, which solves for weights and sees no image",
                              accepted="a method that trains, such as esd-fast", remedy="leave size out")
        if settings.get("lora_rank") is not None:
            raise ConfigError(f"lora_rank for {self.name}, which solves for whole weights and trains nothing",
                              accepted="a method that trains, such as esd-fast", remedy="leave lora_rank out")
        return ClosedForm.build(overridden(self.model_dump(mode="json"), settings, _SLOTS), origin=self.name)

    def check(self, model: Model, request: Request) -> dict[str, Parameter]:
        """The projections to change, after looking for everything that would go wrong later.

        Raises:
            UserError: a patch is on, a scope with other things than keys and values of text states, a concept that is
                its own anchor, nothing left to retain.
        """
        params, _ = self._projections(model), self._planned(model, request)
        layer = self._pooled_layer(model)
        return params if layer is None else {**params, layer.name: layer.weight}

    def used_texts(self, model: Model, request: Request) -> dict[str, tuple[str, ...]]:
        """Every text that is read, by use, as a patch records them (`Patch.texts`). UserError: as `check`."""
        return self._planned(model, request)[0].uses

    def estimate(self, model: Model, request: Request) -> dict[str, Any]:
        """Texts to encode, time and memory of a run, measured: all texts are read and the first solution is made."""
        began, params, (plan, _) = time.monotonic(), self._projections(model), self._planned(model, request)
        reading = read(model, plan, self.tokens, self.keep_tokens, self.retain_tokens, self.batch, None)
        original = {name: computable(p).double() for name, p in params.items()}
        parts = self._parts(model, plan, reading, original)
        before, total = time.monotonic(), 1 + (self.rounds.count if self.rounds is not None else 0)
        for states, layers in parts:
            Solution.of(self.solver.solve(states, layers, 0), layers)
        solving = time.monotonic() - before
        return {"encoded_texts": len(plan.texts), "seconds": round(before - began + total * solving, 1),
                "memory_bytes": peak_memory(model.device),
                "measured": f"1 of {total:,} solutions, made and undone"}

    def __call__(self, model: Model, request: Request, *, seed: int = 0, checkpoint: Path | None = None,
                 progress: Progress | None = None) -> Patch:
        """Read, solve, and return what changed; the model is not touched.

        Args:
            seed: decides the copies of a refined prior, and nothing else.
            checkpoint: none is written, for a run of seconds starts over; one that is there is another run's.
            progress: called with (done, total, {}) as texts are read, then with (solutions so far, all, losses).

        Raises:
            UserError: before any solving, if something does not fit (`check`, `reading.read`).
            ConfigError: another method was begun in the checkpoint's place.
            TrainingError: an edit that cannot be solved for.
        """
        began = time.monotonic()
        if checkpoint is not None and checkpoint.exists():
            check_checkpoint(checkpoint, Inputs({"settings": self.model_dump(mode="json")}))
        params, (plan, retained) = self._projections(model), self._planned(model, request)
        history: list[Losses] = []
        reading = read(model, plan, self.tokens, self.keep_tokens, self.retain_tokens, self.batch, progress)
        original = {name: computable(p).double() for name, p in params.items()}
        parts, layer = self._parts(model, plan, reading, original), self._pooled_layer(model)
        gauges, changed = [ResidualGauge.of(*part) for part in parts], dict[str, Tensor]()
        total = 1 + (self.rounds.count if self.rounds is not None else 0)
        for first, *more in zip(*(self._solutions(*part, seed) for part in parts), strict=True):
            history.append(gauges[0].left(first))
            changed = {name: W.to(params[name].dtype) for name, W in first.layers.items()}
            for solution, gauge in zip(more, gauges[1:], strict=True):
                history[-1] |= {f"pooled {name}": value for name, value in gauge.left(solution).items()}
                assert layer is not None  # there are two parts
                changed[layer.name] = layer.whole(solution.layers[layer.name]).to(layer.weight.dtype)
            if progress is not None:
                progress(len(history), total, history[-1])
        return Patch.of(changed, model=model, request=request, method=self.name, settings=self.model_dump(mode="json"),
                        seed=seed, losses=thinned(history), seconds=round(time.monotonic() - began, 2), steps=total,
                        texts=plan.uses, left_out=retained.left_out)

    def _solutions(self, reading: Reading, original: Layers, seed: int) -> Iterator[Solution]:
        """The first solution, and that of every round."""
        first = Solution.of(self.solver.solve(reading, original, seed), original)
        yield first
        if self.rounds is not None:
            yield from self.rounds.against(first, original, reading, self.solver, seed)

    def _pooled_layer(self, model: Model) -> PooledLayer | None:
        return PooledLayer.of(model) if self.pooled else None

    def _parts(self, model: Model, plan: Plan, reading: Reading, original: Layers) -> list[tuple[Reading, Layers]]:
        """What is solved for, each from states of its own: the projections, and the pooled state's layer."""
        layer = self._pooled_layer(model)
        pooled = [] if layer is None else [(read_pooled(model, plan, self.batch), {layer.name: layer.columns})]
        return [(reading, original), *pooled]

    def _projections(self, model: Model) -> dict[str, Parameter]:
        params, known = checked_weights(model, self.scope, SOLVED), model.reading_text()
        # A bias is the same before and after: what is solved for are the products.
        products = {name: parameter for name, parameter in params.items() if not name.endswith(".bias")}
        other = [name for name in products if name not in known]
        if other:
            fitting = [scope for scope in model.denoiser.scopes if {*model.parameters_in(scope)} <= {*known}]
            raise UserError(f"scope {self.scope!r} has {other[0]!r}, which does not read text states as they are: in "
                            f"{model.family} a closed form cannot say what it would do",
                            accepted=", ".join(fitting), remedy="or train it, as esd does")
        return products

    def _planned(self, model: Model, request: Request) -> tuple[Plan, Retained]:
        retained = self.retain.retained(model, request) if self.retain is not None else Retained(request)
        return Plan.of(request, self.texts, retained.prompts), retained


@dataclass(frozen=True)
class ResidualGauge:
    """How much of the concepts' old outputs is left, and how much of what must stay has moved, over all layers.

        erase = sum a |W'c - W g|^2 / sum a |W c - W g|^2,   keep = sum |W'p - W p|^2 / sum |W p|^2,
        left = sum a (W'c - W g).(W c - W g) / sum a |W c - W g|^2: what is left of the way to the concept, whatever
        else the outputs do

    All are traces of D x D matrices, so they cost the same for any number of states.

    Attributes:
        inner: (D, D), sum of W^T W over the layers.
        cc, cg, gg: sums of a c c^T, a c g^T, a g g^T; pp: of p p^T.
    """

    inner: Tensor
    cc: Tensor
    cg: Tensor
    gg: Tensor
    pp: Tensor

    @classmethod
    def of(cls, reading: Reading, original: Layers) -> ResidualGauge:
        """Before the first solution."""
        pairs = reading.pairs
        kept = sum((second_moment(part) for part in (reading.keep, reading.retained)), second_moment(reading.empty))
        return cls(gram(original), second_moment(pairs.c, pairs.a), (pairs.a[:, None] * pairs.c).T @ pairs.g,
                   second_moment(pairs.g, pairs.a), kept)

    def left(self, edit: Solution) -> Losses:
        """After a solution."""
        def over(matrix: Tensor, states: Tensor) -> float:
            return float((matrix * states).sum())

        gap = over(self.inner, self.cc + self.gg - 2 * self.cg)
        erased = over(edit.inner, self.cc) - 2 * over(edit.cross, self.cg) + over(self.inner, self.gg)
        left = over(edit.cross, self.cc - self.cg) - over(self.inner, self.cg - self.gg)
        moved = over(edit.inner - 2 * edit.cross + self.inner, self.pp)
        return {"erase": max(0.0, erased / gap), "left": left / gap,
                "keep": max(0.0, moved / over(self.inner, self.pp))}
