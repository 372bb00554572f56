"""An adversary that learns from the student's own forward: a bank of soft prompts, a few of which take part in a step.

The gradient of the attack's loss at the vectors and that of the erase loss at the weights come from one forward:

    L_attack = mean |eps_theta(x_t | c + delta_m) - eps_o(x_t | c)|^2   over the attacked rows, Adam on delta_m,

which is 4 forward equivalents for an attacked row in place of 3 + 2k for k steps of an attack of its own. The vectors
persist over steps, so that they are as diverse as their number; each begins anew after a life of so many turns.

Source: free adversarial training (Shafahi et al. 2019, arXiv 1904.12843), on AdvUnlearn's vectors (Zhang et al. 2024).
Differs: the bank, and the prompt in the place of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from expunge.config import Settings, knob
from expunge.errors import UserError
from expunge.models.conditioning import Conditioning
from expunge.models.free_places import FreePlaces
from expunge.models.model import Model
from expunge.records import Request
from expunge.train import Losses, step_generator
from expunge.unlearn.adversary import Attacker, SoftAdversary
from expunge.unlearn.context import NoisyBatch, Stream, TrainContext
from expunge.unlearn.needs import Need
from expunge.unlearn.objective import tabulated
from expunge.unlearn.soft_prompt import layouts

_BETAS, _EPS = (0.9, 0.999), 1e-8
"""Adam's."""


class BankAdversary(Settings):
    """Free vectors before the prompt, many of them, which learn from the steps in which they are used."""

    kind: Literal["bank"] = "bank"
    size: int = knob(24, "Soft prompts in the bank", ge=1)
    tokens: int = knob(3, "Vectors of each", unit="tokens", ge=1)
    rows: int = knob(6, "Points of a step that are attacked; the others are told their prompts", ge=1)
    step_size: float = knob(1e-2, "Adam's learning rate of the vectors", unit="embedding units", gt=0.0)
    life: int = knob(24, "Turns after which a soft prompt begins anew, at random tokens; a step in which it is used is "
                     "one", ge=1)
    warmup: int = knob(0, "Steps before the first attack; until then the student is told the prompt itself", ge=0)

    @property
    def needs(self) -> tuple[Need, ...]:
        """What the denoiser predicts in the erase step."""
        return ("predictions",)

    def check(self, model: Model, request: Request) -> None:
        """UserError: a prompt has no room for the vectors, or a concept has fewer soft prompts than rows are attacked.
        """
        count = len(request.targets)
        if self.rows > self.size // count:
            raise UserError(f"{self.rows} attacked points and a bank of {self.size}" + (
                f" for {count} concepts" if count > 1 else ""), accepted="a soft prompt of each concept for each point",
                remedy="raise adversary.size, or lower adversary.rows")
        layouts(self._placed, model, request)

    @property
    def _placed(self) -> SoftAdversary:
        """Where the vectors stand, as the other adversary says it."""
        return SoftAdversary(place="prefix", tokens=self.tokens)

    def prepare(self, context: TrainContext, stream: Stream, batch: int) -> Attacker:
        """Over a pool, the teacher's predictions are tabulated here."""
        return Bank(self, context, stream)


class Bank:
    """`Attacker` by a bank. Its state is the vectors, Adam's two moments of each, and how many turns each has had.

    Vectors belong to a concept where there are several: of M the first M/G (whole numbers) to the first one, and so
    on.
    """

    def __init__(self, settings: BankAdversary, context: TrainContext, stream: Stream) -> None:
        self.settings, self._context = settings, context
        self._layouts = layouts(settings._placed, context.student, context.request)
        self._concepts = {target.concept: number for number, target in enumerate(context.request.targets)}
        model = context.student
        shape = (settings.size, settings.tokens, model.texts[0].table.shape[1])
        zeros = lambda: torch.zeros(shape, device=model.device)
        self.state: dict[str, Tensor] = {
            "adversary/vectors": torch.stack([self._random(m, 0) for m in range(settings.size)]).to(model.device),
            "adversary/mean": zeros(), "adversary/square": zeros(),
            "adversary/turns": torch.zeros(settings.size, dtype=torch.int64),
            "adversary/lives": torch.zeros(settings.size, dtype=torch.int64)}
        self.optimizers: dict[str, Optimizer] = {}
        self.losses: Losses = {}
        self._taken = torch.empty(0, dtype=torch.int64)
        self._leaf: Tensor | None = None
        self._learned = False
        self._table = tabulated(context, stream.pool, self._wanted) if stream.pool is not None else None

    def begin(self, number: int) -> None:
        """Soft prompts that have had their turns begin anew."""
        self.losses, self._leaf, self._learned = {}, None, False
        for m in (self.state["adversary/turns"] >= self.settings.life).nonzero().flatten().tolist():
            self.state["adversary/lives"][m] += 1
            self.state["adversary/vectors"][m] = self._random(m, int(self.state["adversary/lives"][m])).to(
                self.state["adversary/vectors"].device)
            for name in ("mean", "square"):
                self.state[f"adversary/{name}"][m].zero_()
            self.state["adversary/turns"][m] = 0

    def condition(self, number: int, points: NoisyBatch) -> Conditioning:
        """Text states of the points' prompts, the first `rows` of them behind soft prompts of the bank."""
        if number < self.settings.warmup:
            return self._context.condition(points)
        count = min(self.settings.rows, len(points.prompts))
        if self._leaf is None:
            self._taken = self._chosen(number, points.prompts[:count])
            self._leaf = self.state["adversary/vectors"][self._taken].clone()
        with_prompts = self._encoded(points.prompts[:count], self._leaf.requires_grad_(not self._learned))
        if count == len(points.prompts):
            return with_prompts
        plain = self._context.conditioning(points.prompts[count:], points.cond.at(slice(count, None)))
        return Conditioning.cat([with_prompts, plain])

    def saw(self, number: int, points: NoisyBatch, out: Tensor) -> None:
        """One step of Adam on the vectors that were used, once in each step of the weights."""
        if self._leaf is None or self._learned:
            return
        self._learned, count = True, len(self._taken)
        wanted = self._table[points.rows] if self._table is not None else self._wanted(points)
        losses = (out[:count] - wanted[:count]).square().flatten(1).mean(1)
        (gradient,) = torch.autograd.grad(losses.sum(), self._leaf, retain_graph=True)
        self.losses = {"attack": float(losses.detach().mean())}
        taken, state = self._taken.to(self._leaf.device), self.state
        state["adversary/turns"][self._taken] += 1
        turns = state["adversary/turns"][self._taken].to(gradient.device)[:, None, None]
        mean = state["adversary/mean"][taken].lerp(gradient, 1 - _BETAS[0])
        square = state["adversary/square"][taken].lerp(gradient.square(), 1 - _BETAS[1])
        state["adversary/mean"][taken], state["adversary/square"][taken] = mean, square
        step = (mean / (1 - _BETAS[0] ** turns)) / ((square / (1 - _BETAS[1] ** turns)).sqrt() + _EPS)
        state["adversary/vectors"][taken] -= self.settings.step_size * step
        self._leaf = self._leaf.detach()  # what this step's losses are told stays what it was

    def _chosen(self, number: int, prompts: Sequence[str]) -> Tensor:
        """int64: a soft prompt for each of the prompts, of its concept's own, none twice."""
        generator = step_generator(self._context.seed, number, "adversary/rows")
        order = torch.randperm(self.settings.size, generator=generator).tolist()
        share, target_of = self.settings.size // len(self._concepts), self._context.request.target_of
        taken: list[int] = []
        for prompt in prompts:
            concept = self._concepts[target_of(prompt).concept]
            taken.append(next(m for m in order if m // share == concept and m not in taken))
        return torch.tensor(taken, dtype=torch.int64)

    def _random(self, m: int, life: int) -> Tensor:
        """(K, D): embeddings of random tokens, of soft prompt `m` in one of its lives."""
        encoder = self._context.student.texts[0]
        generator = step_generator(self._context.seed, life, f"adversary/bank/{m}")
        drawn = encoder.plain[torch.randint(len(encoder.plain), (self.settings.tokens,), generator=generator)]
        return encoder.table[drawn.to(encoder.table.device)].detach().clone()

    def _encoded(self, prompts: Sequence[str], V: Tensor) -> Conditioning:
        """Rows of the prompts with vectors (B, K, D) before them."""
        student = self._context.student
        places = FreePlaces.of(student, prompts, [self._layouts[prompt] for prompt in prompts])
        return places.told(student, V.flatten(0, 1))

    @torch.no_grad()
    def _wanted(self, points: NoisyBatch) -> Tensor:
        """What the original does with the prompt itself, (B, c, h, w)."""
        return self._context.told(points)
