"""What came before a request, for a recipe: `unlearn.past.PriorEdits` of a strategy and of what requests left."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from expunge.continual.fisher import hutchinson
from expunge.files import text_digest
from expunge.models.model import Model
from expunge.sequence.memory import ReplayBuffer, encoded
from expunge.sequence.strategy import Strategy, WeightAnchor
from expunge.sequence.terms import ReplayBatch, anchored, recalled
from expunge.train import step_generator
from expunge.unlearn.context import TrainContext
from expunge.unlearn.objective import Term
from expunge.unlearn.projected import ProjectedStepper, kept_directions, keys_and_values
from expunge.unlearn.retain import Retained
from expunge.unlearn.update import Stepper

ROWS = 4
"""Points that share a backward of a Fisher information."""


@dataclass(frozen=True)
class EarlierRequests:
    """A `PriorEdits`.

    Attributes:
        strategy: what is held on to, and how.
        original: the model as published; last: hash of the model that the request found.
        gone: concepts that are gone already.
        memories: what earlier requests left behind, in their order; () where nothing needs them.
        elsewhere: the original's predictions on prompts to keep, none of which names what is gone or goes now; None
            where nothing needs them.
        kept_prompts: prompts to keep whose directions no step may touch; () where steps are not projected.
    """

    strategy: Strategy
    original: Model
    last: str
    gone: tuple[str, ...]
    memories: tuple[ReplayBuffer, ...] = ()
    elsewhere: ReplayBuffer | None = None
    kept_prompts: tuple[str, ...] = ()

    @property
    def teacher(self) -> Model | None:
        """The original; None for the model that the request found."""
        return self.original if self.strategy.teacher == "original" else None

    @property
    def digest(self) -> str:
        """Of strategy, models, memories."""
        payload = [self.strategy.model_dump(mode="json"), self.original.hash, self.last, self.gone,
                   [memory.hash for memory in self.memories], self.elsewhere.hash if self.elsewhere else "",
                   self.kept_prompts]
        return text_digest(json.dumps(payload, sort_keys=True))

    def terms(self, context: TrainContext, params: Mapping[str, Parameter]) -> Sequence[Term]:
        """One of what is remembered, and one for each anchor in weights; what is not there is left out."""
        strategy, parts = self.strategy, list[ReplayBatch]()
        if strategy.replay is not None and self.memories:
            parts.append(ReplayBatch(self.memories, strategy.replay.weight, strategy.replay.batch, "replay"))
        if strategy.retain is not None and self.elsewhere is not None:
            parts.append(ReplayBatch([self.elsewhere], strategy.retain.weight, strategy.retain.batch, "elsewhere"))
        out = [recalled(context, parts, strategy.every)] if parts else []
        for anchor in strategy.anchors:
            if anchor.metric != "erased" or self.memories:
                values, metric = self._values(anchor, params), self._metric(anchor, context, params)
                out.append(anchored(params, values, anchor, metric))
        return out

    def around(self, context: TrainContext, stepper: Stepper, params: Mapping[str, Parameter]) -> Stepper:
        """With projected steps, where the strategy asks for them: along what the student's own text encoder gives."""
        if self.strategy.projection is None:
            return stepper
        directions = kept_directions(context.student, ("", *self.kept_prompts), self.strategy.projection)
        return ProjectedStepper(stepper, directions, keys_and_values(self.original, params))

    def _values(self, anchor: WeightAnchor, params: Mapping[str, Parameter]) -> dict[str, Tensor]:
        if anchor.to == "last":
            return {name: p.detach().clone() for name, p in params.items()}
        mine = self.original.editable()
        return {name: mine[name].detach() for name in params}

    def _metric(self, anchor: WeightAnchor, context: TrainContext, params: Mapping[str, Parameter]
                ) -> Mapping[str, Tensor] | None:
        """Fisher information of the student's predictions as it begins, mean 1; None for the identity."""
        if anchor.metric == "identity":
            return None
        memories = self.memories if anchor.metric == "erased" else (self.elsewhere,) if self.elsewhere else ()
        generator = step_generator(context.seed, 0, f"fisher/{anchor.metric}")
        outputs = _predictions(context, memories, anchor.samples, generator)
        return hutchinson(outputs, params, generator).normalised().values


def kept_now(whole: ReplayBuffer, retained: Retained) -> ReplayBuffer:
    """Of the points elsewhere, those of things that are neither gone nor about to go; those of the empty prompt, and of
    what is kept by somebody's wish, all."""
    return whole.only(lambda prompt: whole.about.get(prompt, "") not in retained.left_out)


def _predictions(context: TrainContext, memories: Sequence[ReplayBuffer], samples: int, generator: torch.Generator
                 ) -> Iterator[Callable[[], Tensor]]:
    """The student's outputs at points of all the memories alike, a few rows each."""
    points = [(memory, i) for memory in memories for i in range(len(memory.prompts))]
    for first in range(0, samples, ROWS):
        picked = [points[int(torch.randint(len(points), (), generator=generator))]
                  for _ in range(min(ROWS, samples - first))]
        x_t, t = (torch.stack([getattr(memory, field)[i] for memory, i in picked]) for field in ("x_t", "t"))
        rows, cond = encoded(context.student, [memory.prompts[i] for memory, i in picked])
        known = cond.at(torch.tensor([rows[memory.prompts[i]] for memory, i in picked]))
        prompts = [memory.prompts[i] for memory, i in picked]
        yield lambda x_t=x_t, t=t, known=known, prompts=prompts: context.student.predict(  # type: ignore[misc]
            x_t, t, context.student.encode(prompts) if context.text_trains else known)
