"""The slot for an inner adversary, which looks for what still brings the concept back while it is being erased.

    theta* = min_theta L_erase(theta, c*),   c* = argmin_c' L_attack(theta, c')

and the settings of the one that ships: free vectors among the embeddings of the prompt's words (the search itself is
in soft_prompt.py). With c the point's prompt and c' the prompt with the vectors in it,

    L_attack(theta, c') = mean |eps_theta(x_t | c') - eps_o(x_t | c)|^2:

find what makes the student do with c' what the original did with c.

Source: Zhang et al. 2024 (AdvUnlearn), the bilevel problem; AdvUnlearn attack_util.py@9d23124.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Protocol

from pydantic import model_validator
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import Self

from expunge.config import Settings, Slot, knob
from expunge.errors import UserError
from expunge.models.conditioning import Conditioning
from expunge.models.model import Model
from expunge.records import Request
from expunge.registry import ADVERSARIES
from expunge.train import Losses
from expunge.unlearn.context import NoisyBatch, Stream, TrainContext

Place = Literal["prefix", "suffix", "insert", "replace", "add"]
"""Where the vectors go, counted in tokens: before the prompt, behind it, at equal distances within it, in the place of
the concept's tokens, or added to these (both: of the whole prompt where it does not name the concept)."""


class Attacker(Protocol):
    """An adversary at work. What it changes over the steps, in `state` and `optimizers`, is checkpointed."""

    @property
    def state(self) -> Mapping[str, Tensor]: ...

    @property
    def optimizers(self) -> Mapping[str, Optimizer]: ...

    @property
    def losses(self) -> Losses:
        """What there is to log of the last step; nothing where it did not attack."""
        ...

    def begin(self, number: int) -> None:
        """Told once at the beginning of every step, before `condition` is asked for."""
        ...

    def condition(self, number: int, points: NoisyBatch) -> Conditioning:
        """What the student is told at step `number` in place of the points' prompts; (B, T, D).

        It may be asked for more than once in a step and must give the same answer within it.
        """
        ...

    def saw(self, number: int, points: NoisyBatch, out: Tensor) -> None:
        """Told what the student predicts, (B, c, h, w), where it was told that; before the weights' backward pass."""
        ...


class Adversary(Protocol):
    """Settings of an adversary."""

    def check(self, model: Model, request: Request) -> None:
        """Raise UserError for what would go wrong later."""
        ...

    def prepare(self, context: TrainContext, stream: Stream, batch: int) -> Attacker:
        """An attacker on `stream`'s points, `batch` of them in every step."""
        ...


AnyAdversary = Annotated[Adversary, Slot(ADVERSARIES, "soft")]
"""Any registered adversary, by its kind, or an object."""


class SoftAdversary(Settings):
    """Free vectors in the space of word embeddings, found by gradient before the student's step.

    Every point of the step is attacked, all at once. Between attacks the student is told the prompts with the vectors
    of the last one in them.

    Source: AdvUnlearn.py and attack_util.py@9d23124. Differs: places are counted in tokens, so that a concept of
        several tokens stays whole; gradients are not summed over the steps; the last step counts; the vectors can be
        held in a ball; "fast" is one signed step (Wong et al. 2020), not as many as `steps`; random tokens are such as
        stand for text; whole prompts are attacked, not the concept's name alone.
    """

    kind: Literal["soft"] = "soft"
    place: Place = knob("prefix", "Where the vectors go; insert: evenly; replace, add: the concept's tokens",
                        source="AdvUnlearn attack_type")
    tokens: int = knob(1, "Vectors; add has as many as the concept has tokens", unit="tokens", ge=1,
                       source="AdvUnlearn adv_prompt_num")
    vectors: Literal["own", "shared"] = knob(
        "own", "own: each point of a step has its own; shared: all points of one concept have the same")
    method: Literal["pgd", "sign", "fast"] = knob(
        "pgd", "pgd: Adam on the gradient, as published; sign: signed steps; fast: one signed step from a random start",
        source="AdvUnlearn attack_method")
    steps: int = knob(30, "Steps of one attack; fast has 1", unit="steps", ge=1, source="AdvUnlearn attack_step")
    step_size: float = knob(1e-3, "Size of a step (pgd: Adam's learning rate)", unit="embedding units", gt=0.0,
                            source="AdvUnlearn attack_lr", former="rate")
    radius: float | None = knob(None, "How far a vector may get from its token (add: from 0); none: any distance",
                                unit="embedding units", gt=0.0)
    norm: Literal["l2", "linf"] = knob("l2", "Norm of that distance, for each vector")
    init: Literal["random", "latest"] = knob("random", "Start of an attack: random tokens, or where the last one ended",
                                             source="AdvUnlearn attack_init")
    every: int = knob(1, "Steps from one attack to the next", unit="steps", ge=1,
                      source="AdvUnlearn adv_prompt_update_step")
    warmup: int = knob(200, "Steps before the first attack; until then the student is told the prompt itself",
                       unit="steps", ge=0, source="AdvUnlearn warmup_iter")
    points: Literal["new", "same"] = knob(
        "new", "Where attack steps look: new points under the same prompts in each, or those that are trained on next")
    answer: Literal["last", "best"] = knob(
        "last", "Which vectors count: after the last step, or those of the smallest loss (points same)")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.method == "fast" and (self.steps != 1 or self.init != "random"):
            raise ValueError(f"method fast is one step from a random start; got steps {self.steps}, init {self.init} "
                             "(set steps 1 and init random, or method sign)")
        if self.place == "add" and self.method == "fast" and self.radius is None:
            raise ValueError("method fast with place add needs a radius: its random start lies in the ball")
        if self.answer == "best" and self.points != "same":
            raise ValueError("answer best compares losses, which needs points same: at new points they differ by t")
        return self

    def check(self, model: Model, request: Request) -> None:
        """Whether every prompt has room for the vectors.

        Raises:
            UserError: no room, a model without access to word embeddings, or vectors of points that would have to
                pass from one concept to another between attacks.
        """
        from expunge.unlearn.soft_prompt import layouts

        if self.vectors == "own" and self.every > 1 and len(request.targets) > 1:
            raise UserError(f"vectors of the points' own, {len(request.targets)} concepts, kept for {self.every} steps",
                            accepted="an attack in every step, or vectors shared by all points of a concept",
                            remedy="set adversary.every 1 or adversary.vectors shared")
        layouts(self, model, request)

    def prepare(self, context: TrainContext, stream: Stream, batch: int) -> Attacker:
        """Over a pool, the teacher's predictions are tabulated here."""
        from expunge.unlearn.soft_prompt import SoftAttacker

        return SoftAttacker(self, context, stream, batch)
