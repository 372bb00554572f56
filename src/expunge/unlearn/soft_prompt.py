"""The soft-prompt adversary at work: where its vectors stand, the steps of one attack, the ball that holds them.

G groups of vectors (the points of a step, or the concepts), K vectors in each, D text width, B points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.optim import Optimizer

from expunge.attacks.gradient import prompt_gradient
from expunge.errors import UserError
from expunge.models.conditioning import Conditioning
from expunge.models.free_places import FreePlaces, Layout, Slot, laid_out
from expunge.models.model import Model
from expunge.records import Request
from expunge.train import Losses, step_generator
from expunge.unlearn.adversary import Place, SoftAdversary
from expunge.unlearn.context import NoisyBatch, Stream, TrainContext
from expunge.unlearn.objective import tabulated

_SLOTS: Mapping[Place, Slot] = {"prefix": "prefix", "suffix": "suffix", "insert": "spread"}


def layouts(settings: SoftAdversary, model: Model, request: Request) -> dict[str, Layout]:
    """Every prompt of the request with the vectors' places in it.

    Raises:
        UserError: a prompt has no room.
    """
    return {prompt: _layout(settings, model, prompt, request.target_of(prompt).word)
            for prompt in request.all_prompts}


def _layout(settings: SoftAdversary, model: Model, prompt: str, concept: str) -> Layout:
    own, place, k = model.texts[0].tokens(prompt), settings.place, settings.tokens
    first, last = span(own, model.texts[0].tokens(concept))
    if place == "add":
        layout = Layout(tuple(own), tuple(range(first, last)))
    elif place == "replace":
        layout = Layout((*own[:first], *[0] * k, *own[last:]), tuple(range(first, first + k)))
    else:
        layout = laid_out(own, _SLOTS[place], k)
    if len(layout.tokens) > model.texts[0].room:
        raise UserError(f"prompt {prompt!r} has {len(own)} tokens, with the adversary's {len(layout.tokens)}",
                        accepted=f"up to {model.texts[0].room} in all",
                        remedy="shorten the prompt or set fewer adversary.tokens")
    return layout


def span(tokens: Sequence[int], part: Sequence[int]) -> tuple[int, int]:
    """First and one beyond last place of `part`'s first appearance within `tokens`; all of these if it has none."""
    n = len(part)
    return next(((i, i + n) for i in range(len(tokens) - n + 1) if n and tuple(tokens[i:i + n]) == tuple(part)),
                (0, len(tokens)))


@dataclass(frozen=True)
class _Rows:
    """The points of a step as the attack sees them.

    Attributes:
        places: B prompts with M free places.
        group, slot: int64 (M,), for each free place in order: whose vector, and which.
        groups: int64 (B,), the group of each row.
    """

    places: FreePlaces
    group: Tensor
    slot: Tensor
    groups: Tensor


class SoftAttacker:
    """`Attacker` with free vectors. Its state is the vectors, what they started from, and whether they were found."""

    def __init__(self, settings: SoftAdversary, context: TrainContext, stream: Stream, batch: int) -> None:
        """Tabulate the teacher's predictions, if the stream has a pool."""
        self.settings, self._context, self._stream = settings, context, stream
        self._layouts = layouts(settings, context.student, context.request)
        self._model = context.student
        self._concepts = {target.concept: number for number, target in enumerate(context.request.targets)}
        groups = batch if settings.vectors == "own" else len(self._concepts)
        most = max(len(layout.free) for layout in self._layouts.values())
        shape, device = (groups, most, self._model.texts[0].table.shape[1]), self._model.device
        self.state: dict[str, Tensor] = {
            "adversary/vectors": torch.zeros(shape, device=device),
            "adversary/start": torch.zeros(shape, device=device),
            "adversary/found": torch.zeros(groups, dtype=torch.bool)}
        self.optimizers: dict[str, Optimizer] = {}
        self.trace: list[float] = []
        self._due = False
        self._table = tabulated(context, stream.pool, self._wanted) if stream.pool is not None else None

    @property
    def losses(self) -> Losses:
        """The last attack's loss where it looked last, if that was in the last step."""
        return {"attack": self.trace[-1]} if self.trace else {}

    def begin(self, number: int) -> None:
        """Whether an attack is due; it is made when the step's points are known."""
        since = number - self.settings.warmup
        self.trace, self._due = [], since >= 0 and since % self.settings.every == 0

    def condition(self, number: int, points: NoisyBatch) -> Conditioning:
        """Text states of the points' prompts with the vectors in them, those of this step's attack where one is due."""
        if self._due:
            self._due = False
            self.trace = self._attack(number, points)
        found = self.state["adversary/found"]
        if not found.any():
            return self._context.condition(points)
        rows = self._rows(points.prompts, found)
        return rows.places.told(self._model, self._values(rows, self.state["adversary/vectors"]))

    def saw(self, number: int, points: NoisyBatch, out: Tensor) -> None:
        """Nothing: an attack has its own forward passes."""

    def _attack(self, number: int, points: NoisyBatch) -> list[float]:
        """Find vectors for the points' groups; the mean loss at each look."""
        settings, rows = self.settings, self._rows(points.prompts)
        mine = rows.groups.unique()
        V, center = self._start(number)
        optimizer = torch.optim.Adam([V], lr=settings.step_size)
        best, lowest, trace = V.clone(), torch.full((len(V),), torch.inf, device=V.device), []
        for step in range(settings.steps):
            at = points if settings.points == "same" else self._stream.draw_extra(number, step, points.prompts)
            values = self._values(rows, V)
            losses, gradient = prompt_gradient(self._model, rows.places, values, at.x_t, at.t, self._target(at))
            trace.append(float(losses.mean()))
            _keep_best(best, lowest, V, _per_group(losses, rows.groups, len(V)))
            V.grad = self._gathered(rows, gradient, V)
            _step(settings, optimizer, V)
            _project(settings, V, center)
        if settings.answer == "best":
            with torch.no_grad():
                told = rows.places.told(self._model, self._values(rows, V))
                out = self._model.predict(points.x_t, points.t, told)
            losses = (out - self._target(points)).square().flatten(1).mean(1)
            trace.append(float(losses.mean()))
            _keep_best(best, lowest, V, _per_group(losses, rows.groups, len(V)))
            V = best
        self.state["adversary/vectors"][mine] = V.detach()[mine]
        self.state["adversary/start"][mine] = center[mine]
        self.state["adversary/found"][mine.cpu()] = True
        return trace

    def _start(self, number: int) -> tuple[Tensor, Tensor]:
        """Vectors (G, K, D) to begin with, and the centres of their balls."""
        settings, old = self.settings, self.state["adversary/vectors"]
        generator = step_generator(self._context.seed, number, "adversary/start")
        words, vectors = self._model.texts[0].plain, self._model.texts[0].table
        drawn = words[torch.randint(len(words), old.shape[:2], generator=generator)]  # (G, K)
        center = torch.zeros_like(old) if settings.place == "add" else vectors[drawn.to(vectors.device)]
        start = center + _in_ball(settings, old.shape, generator).to(old.device)
        if settings.init == "latest":
            again = self.state["adversary/found"].to(old.device)[:, None, None]
            start, center = torch.where(again, old, start), torch.where(again, self.state["adversary/start"], center)
        return start.clone(), center

    def _rows(self, prompts: Sequence[str], found: Tensor | None = None) -> _Rows:
        """The prompts with free places; those of groups that are not `found` with none."""
        target_of = self._context.request.target_of
        groups = [place if self.settings.vectors == "own" else self._concepts[target_of(prompt).concept]
                  for place, prompt in enumerate(prompts)]
        plan = [self._layouts[prompt] if found is None or found[group] else
                Layout(tuple(self._model.texts[0].tokens(prompt)), ())
                for prompt, group in zip(prompts, groups, strict=True)]
        whose = [group for group, layout in zip(groups, plan, strict=True) for _ in layout.free]
        slots = [slot for layout in plan for slot in range(len(layout.free))]
        device = self._model.device
        return _Rows(FreePlaces.of(self._model, prompts, plan),
                     *(torch.tensor(values, dtype=torch.int64, device=device) for values in (whose, slots, groups)))

    def _values(self, rows: _Rows, V: Tensor) -> Tensor:
        """(M, D): embeddings at all free places."""
        values = V.detach()[rows.group, rows.slot]
        if self.settings.place == "add":
            values = values + rows.places.own
        return values

    def _gathered(self, rows: _Rows, gradient: Tensor, V: Tensor) -> Tensor:
        """Gradient (M, D) at the free places as that of each group's mean loss at its vectors, (G, K, D)."""
        count = torch.bincount(rows.groups, minlength=len(V)).clamp(min=1)
        out = torch.zeros_like(V).index_put((rows.group, rows.slot), gradient, accumulate=True)
        return out / count[:, None, None]

    def _target(self, points: NoisyBatch) -> Tensor:
        return self._table[points.rows] if self._table is not None else self._wanted(points)

    @torch.no_grad()
    def _wanted(self, points: NoisyBatch) -> Tensor:
        """What the original does with the prompt itself, (B, c, h, w)."""
        return self._context.told(points)


def _step(settings: SoftAdversary, optimizer: Optimizer, V: Tensor) -> None:
    if settings.method == "pgd":
        optimizer.step()
    elif V.grad is not None:
        V.sub_(settings.step_size * V.grad.sign())


def _in_ball(settings: SoftAdversary, shape: torch.Size, generator: Generator) -> Tensor:
    """Uniform in the ball around 0, each vector by itself; 0 where there is no ball."""
    if settings.radius is None:
        return torch.zeros(shape)
    if settings.norm == "linf":
        return settings.radius * (2 * torch.rand(shape, generator=generator) - 1)
    direction = torch.nn.functional.normalize(torch.randn(shape, generator=generator), dim=-1)
    length = torch.rand(*shape[:-1], 1, generator=generator) ** (1 / shape[-1])
    return settings.radius * length * direction


def _project(settings: SoftAdversary, V: Tensor, center: Tensor) -> None:
    """Move each vector, in place, to the nearest point of its ball."""
    if settings.radius is None:
        return
    gap = V.detach() - center
    if settings.norm == "linf":
        V.copy_(center + gap.clamp(-settings.radius, settings.radius))
    else:
        length = gap.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        V.copy_(center + gap * (settings.radius / length).clamp(max=1.0))


def _per_group(losses: Tensor, groups: Tensor, count: int) -> Tensor:
    """(G,): mean loss of each group's rows; not a number where it has none."""
    total = torch.zeros(count, device=losses.device).index_add(0, groups, losses)
    return total / torch.bincount(groups, minlength=count)


def _keep_best(best: Tensor, lowest: Tensor, V: Tensor, losses: Tensor) -> None:
    """Take over, in place, the vectors of groups whose loss is lower than their lowest so far."""
    better = losses < lowest
    best[better], lowest[better] = V.detach()[better], losses[better]
