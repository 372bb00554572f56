"""Edits of the text encoders by losses of text states alone.

With tau the states that the denoiser is told, (T, D) of each prompt, c a prompt of the concept, c_a its anchor prompt
and "" the empty one, an edited encoder says for c

    anchor    what the original says for c_a
    empty     what the original says for ""
    random    a fixed random direction, as long as the original's state is at that token
    judged    what a discriminator of single tokens cannot tell from the original's anchor prompts
    opposite  the opposite direction from what the original says for "": loss mean (1 + cos) of both ways from there

or, of the first three, `shift` lengths of k beyond it, k = tau_o(c) - tau_o("") the concept's own direction. The keep
holds it to the original on other prompts. Distances are over all tokens of a prompt as the denoiser reads them, padding
included. Neither asks the denoiser, so that an edit takes seconds. An adversary does: the encoder is then told what it
finds in the place of c.

Source: HiRM (arXiv 2602.19631, random; its code was not read), TEA (arXiv 2608.15341, judged), DES (NeurIPS 2025, the
shift), S-GRACE (ECCV 2026, Qhong-522/S-GRACE@0b5cc75, opposite). Differs: prompts are framed as at inference and read
without a mask; k is centred, so that what all prompts share stays; a squared distance beside the cosine; S-GRACE turns
the end token's projected feature, uncentred; here it is the way of all states from the empty prompt's, for the feature
is not part of every pipeline and most of it is what all prompts share.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity
from typing_extensions import Self

from expunge.config import Settings, knob
from expunge.train import step_generator
from expunge.unlearn.adversary import Attacker
from expunge.unlearn.anchor import anchor_prompts
from expunge.unlearn.context import AnySource, NoisyBatch, Stream, TrainContext
from expunge.unlearn.needs import Need
from expunge.unlearn.objective import Term
from expunge.unlearn.texts import Texts

Measure = Literal["squared", "cosine"]


def distance(measure: Measure, a: Tensor, b: Tensor) -> Tensor:
    """Mean distance of states, (B, T, D) each: the squared gap, or 1 minus the cosine of whole prompts."""
    if measure == "squared":
        return (a - b).square().mean()
    return (1.0 - cosine_similarity(a.flatten(1), b.flatten(1))).mean()


class States(Settings):
    """Where the concept's text states go."""

    kind: Literal["states"] = "states"
    towards: Literal["anchor", "empty", "random", "judged", "opposite"] = knob(
        "anchor", "What is said for the concept: the anchor's states, the empty prompt's, a fixed random direction, "
        "what a discriminator takes for the anchor's, or the opposite of what was said",
        source="random: HiRM; judged: TEA; opposite: S-GRACE")
    measure: Measure = knob("squared", "Distance of states", source="DES: cosine")
    shift: float = knob(0.0, "How far beyond, away from the concept, in lengths of its own direction", ge=0.0,
                        source="DES: 200, not centred, in another unit")
    width: int = knob(256, "Hidden units of the discriminator", ge=1)
    judge_rate: float = knob(1e-3, "Adam's step size of the discriminator", gt=0.0, source="TEA: 1e-3")

    @model_validator(mode="after")
    def _read(self) -> Self:
        fields = type(self).model_fields
        idle = [name for name in ("shift", "measure") if getattr(self, name) != fields[name].default]
        if self.towards in ("opposite", "judged") and idle:
            raise ValueError(f"{', '.join(idle)} with towards={self.towards}, which makes no use of it (leave it out)")
        return self

    @property
    def needs(self) -> tuple[Need, ...]:
        """A text encoder that trains; an anchor, where the states go to one."""
        return ("text encoders", "anchor") if self.towards in ("anchor", "judged") else ("text encoders",)

    def prepare(self, context: TrainContext, stream: Stream, attacker: Attacker | None) -> Term:
        """The loss on the stream's prompts; their latents are for an adversary alone."""
        if self.towards == "judged":
            game = _Game(self, context, stream, attacker)
            return Term(game.loss, game.begin, game.state, {"states": game.optimizer}, game.plain)
        with torch.no_grad():
            empty = context.teacher.encode([""]).states
        target = self._target(context, empty)

        def loss(told: Attacker | None, number: int) -> Tensor:
            points = stream.draw(number)
            said = _said(context, told, number, points)
            if self.towards == "opposite":
                now, before = ((states - empty).flatten(1) for states in (said, points.cond.states))
                return (1.0 + cosine_similarity(now, before)).mean()
            return distance(self.measure, said, target(points))

        return Term(partial(loss, attacker), saliency=partial(loss, None))

    def _target(self, context: TrainContext, empty: Tensor) -> Callable[[NoisyBatch], Tensor]:
        """What is said for points' prompts, (B, T, D); `empty`: (1, T, D), the original's states of ""."""
        teacher = context.teacher

        @torch.no_grad()
        def target(points: NoisyBatch) -> Tensor:
            own = points.cond.states
            if self.towards == "anchor":
                base = teacher.encode(anchor_prompts(points.prompts, context.request)).states
            elif self.towards == "empty":
                base = empty.expand_as(own)
            else:
                generator = step_generator(context.seed, 0, "states/direction")
                way = torch.randn(own.shape[1:], generator=generator).to(own.device)
                base = way / way.norm(dim=-1, keepdim=True) * own.norm(dim=-1, keepdim=True)
            return base - self.shift * (own - empty)

        return target


def _said(context: TrainContext, attacker: Attacker | None, number: int, points: NoisyBatch) -> Tensor:
    """The student's states (B, T, D) of the points' prompts, or of what an adversary has found in their place."""
    if attacker is None:
        return context.student.encode(points.prompts).states
    return attacker.condition(number, points).states


class HoldStates(Settings):
    """The encoders say of prompts to keep what the original says."""

    kind: Literal["states"] = "states"
    weight: float = knob(1.0, "Factor of the loss", gt=0.0)
    batch: int = knob(16, "Prompts per step", ge=1)
    cadence: Literal["same", "between"] = knob(
        "same", "same: in the erase step; between: in optimizer steps of its own")
    steps: int = knob(1, "Keep steps after every erase step, when between", ge=1)
    measure: Measure = knob("squared", "Distance of states", source="TEA, DES: cosine")
    source: AnySource = knob(Texts(), "Where prompts come from; latents are not looked at")

    @property
    def needs(self) -> tuple[Need, ...]:
        """A text encoder that trains."""
        return ("text encoders",)

    def prepare(self, context: TrainContext) -> Term:
        """The distance to the teacher's states, times `weight`."""
        prompts = ("", *(prompt for prompt in context.request.keep if prompt))
        stream = self.source.open(context, prompts, self.batch, "keep")

        def loss(number: int) -> Tensor:
            points = stream.draw(number)
            return self.weight * distance(self.measure, context.student.encode(points.prompts).states,
                                          points.cond.states)

        return Term(loss)


class _Game:
    """The encoder against a discriminator of tokens, which says 1 of the concept's and 0 of the anchor's.

    It learns once a step, from the first loss that is asked for.
    """

    def __init__(self, settings: States, context: TrainContext, stream: Stream, attacker: Attacker | None) -> None:
        self._settings, self._context, self._stream, self._due = settings, context, stream, False
        self._attacker = attacker
        with torch.no_grad():
            width, device = context.teacher.encode([""]).states.shape[-1], context.student.device
        with torch.random.fork_rng():  # torch starts layers from the global generator
            torch.manual_seed(step_generator(context.seed, 0, "states/judge").initial_seed())
            self.judge = nn.Sequential(nn.Linear(width, settings.width), nn.ReLU(), nn.Linear(settings.width, 1))
        self.judge.requires_grad_(False).to(device)
        self.optimizer = torch.optim.Adam(self.judge.parameters(), lr=settings.judge_rate)

    @property
    def state(self) -> dict[str, Tensor]:
        """What is checkpointed."""
        return {f"states/judge/{name}": p for name, p in self.judge.named_parameters()}

    def begin(self, number: int) -> None:
        """The discriminator learns once more."""
        self._due = True

    def loss(self, number: int) -> Tensor:
        """How well the concept's tokens are told from the anchor's, for the encoder to lower."""
        points = self._stream.draw(number)
        own = _said(self._context, self._attacker, number, points)
        if self._due:
            self._due = False
            self._learn(own.detach(), points)
        return self._says(own, concept=False)

    def plain(self, number: int) -> Tensor:
        """The same without a lesson."""
        return self._says(_said(self._context, None, number, self._stream.draw(number)), concept=False)

    def _learn(self, own: Tensor, points: NoisyBatch) -> None:
        with torch.no_grad():
            anchors = self._context.teacher.encode(anchor_prompts(points.prompts, self._context.request)).states
        self.judge.requires_grad_(True)
        self.optimizer.zero_grad()
        (self._says(own, concept=True) + self._says(anchors, concept=False)).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.judge.requires_grad_(False)

    def _says(self, states: Tensor, concept: bool) -> Tensor:
        logits = self.judge(states)
        return binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(concept)))
