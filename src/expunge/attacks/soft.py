"""Soft prompts: k free embeddings before the item's prompt, learned in the edited model, never made into words.

The loss is that of `embedding`, each item with its own embeddings P (k, D) and its own picture. It is the objective of
UnlearnDiffAtk without its projection to tokens, so what it finds no user can type: an upper bound on what any prefix of
k words can do, for services that take embeddings and for everyone who has the weights. All items of a batch are learned
at once, each alone in its loss, and leave it as the judge sees the concept.

Source: objective of Zhang et al. 2024, UnlearnDiffAtk, eq. 6; embeddings left free as in AdvUnlearn's inner attack
(AdvUnlearn@9d23124). Differs: t over the whole grid in every step, not 50 values in turn; judged every few steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from expunge.attacks.aims import targets
from expunge.attacks.base import Goal, Item, Meter, Outcome, Victim, item_generator
from expunge.attacks.embedding import LearnedEmbedding, spread_times
from expunge.attacks.search import room_for
from expunge.config import knob
from expunge.errors import UserError
from expunge.finetune import diffusion_loss
from expunge.models.base import Conditioning
from expunge.models.sd import StableDiffusion
from expunge.models.text import encode_embedded, framed, plain_tokens, table, tokens_of
from expunge.records import Request


class SoftPrompt(LearnedEmbedding):
    """Learn free embeddings before each prompt."""

    name: ClassVar[str] = "soft-prompt"
    help: ClassVar[str] = "free embeddings before the prompt, learned per item"
    source: ClassVar[str] = "Zhang et al. 2024, UnlearnDiffAtk, eq. 6, without projection"
    SMOKE: ClassVar[Mapping[str, Any]] = {"steps": 40, "looks": 2}

    tokens: int = knob(3, "embeddings before the prompt", ge=1, unit="tokens",
                       source="UnlearnDiffAtk: 5 for nudity, violence and illegal, 3 for the others")
    learning_rate: float = knob(1e-2, "Adam step size", gt=0.0, source="UnlearnDiffAtk: 1e-2 on the simplex")

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """Raise UserError where no prompt leaves room, or for pictures of no use."""
        super().check(victim, request, items)
        self.some_room(victim, request, items)

    def no_room(self, victim: Victim, request: Request, item: Item) -> UserError | None:
        """For a prompt before which the embeddings do not fit."""
        return room_for(victim, item, self.tokens)

    def run(self, victim: Victim, request: Request, items: Sequence[Item], goal: Goal) -> Iterator[Outcome]:
        """Learn all items' embeddings side by side, looking at the pictures of those that still stand."""
        model, meter = victim.model, Meter(len(items))
        aims = targets(victim, items, goal)
        active = [row for row, aim in enumerate(aims) if aim is not None]
        yield from (Outcome(row, False, meter[row], error=f"no picture of {goal.concept!r} to aim at")
                    for row, aim in enumerate(aims) if aim is None)
        if not active:
            return
        x0 = _latents(model, aims)
        ids, fixed, P = self._start(model, items)
        optimizer = torch.optim.Adam([P], lr=self.learning_rate)
        generators = [item_generator(self, item, "noise") for item in items]
        looks = self.look_steps()
        for step in range(1, self.steps + 1):
            self._learn(model, optimizer, x0, ids, fixed, P, generators, active)
            meter.add(active, gradient_steps=1, network_rows=3 * self.rows)
            if step not in looks:
                continue
            cond = _states(model, ids, fixed, P.detach(), active)
            pictures = victim.draw_conditioned(cond, [items[row][1] for row in active], self.batch)
            sights, standing, settled = goal.see(pictures), [], []
            meter.add(active, images=1, network_rows=victim.rows_per_picture)
            for row, picture, sight in zip(active, pictures, sights, strict=True):
                learned = P[row].detach().clone()
                error = sight.error or ("" if learned.isfinite().all() else "the embeddings are no longer numbers")
                if not (sight.found or error or step == self.steps):
                    standing.append(row)
                    continue
                again = partial(self._again, victim, ids[row:row + 1], fixed[row:row + 1], learned[None])
                settled.append(Outcome(row, sight.found and not error, meter[row], picture=picture, error=error,
                                       tensors={"prefix": learned.cpu()}, again=again))
            active = standing
            yield from settled
            meter.add([])  # what is done with outcomes meanwhile is not the attack's time
            if not active:
                return

    def _start(self, model: StableDiffusion, items: Sequence[Item]) -> tuple[Tensor, Tensor, Tensor]:
        """Ids (B, T), embeddings of the prompts (B, T, D), and free ones (B, k, D), at first those of random words."""
        words, vectors = plain_tokens(model), table(model)
        drawn = torch.stack([words[torch.randint(len(words), (self.tokens,), generator=item_generator(self, item))]
                             for item in items])  # (B, k)
        ids = framed(model, [[*first, *tokens_of(model, prompt.text)][:model.length - 2]
                             for first, (prompt, _) in zip(drawn.tolist(), items, strict=True)])
        return ids, vectors[ids], vectors[drawn.to(vectors.device)].clone().requires_grad_()

    def _learn(self, model: StableDiffusion, optimizer: torch.optim.Optimizer, x0: Tensor, ids: Tensor, fixed: Tensor,
               P: Tensor, generators: Sequence[Generator], active: Sequence[int]) -> None:
        """One step for the active rows; the loss is a sum over items, so that none feels the others."""
        R, shape = self.rows, x0.shape[1:]
        t = torch.cat([spread_times(model, R, generators[row]) for row in active]).to(model.device)  # (A*R,)
        eps = torch.cat([torch.randn(R, *shape, generator=generators[row]) for row in active]).to(model.device)
        x = x0[list(active)].repeat_interleave(R, 0)  # (A*R, c, h, w)
        optimizer.zero_grad()
        with torch.enable_grad():
            cond = _states(model, ids, fixed, P, active).repeat(R)
            (diffusion_loss(model, x, eps, t, cond).sum() / R).backward()
        optimizer.step()

    def _again(self, victim: Victim, ids: Tensor, fixed: Tensor, P: Tensor, seeds: Sequence[int]) -> Tensor:
        cond = _states(victim.model, ids, fixed, P, [0])
        return victim.draw_conditioned(cond.repeat(len(seeds)), seeds, self.batch)


def _states(model: StableDiffusion, ids: Tensor, fixed: Tensor, P: Tensor, rows: Sequence[int]) -> Conditioning:
    """Text states of the rows with P right behind the start token; differentiable in P."""
    at, k = list(rows), P.shape[1]
    embeddings = torch.cat([fixed[at, :1], P[at], fixed[at, 1 + k:]], 1)  # (A, T, D)
    return encode_embedded(model, ids[at], embeddings)


@torch.no_grad()
def _latents(model: StableDiffusion, aims: Sequence[Tensor | None]) -> Tensor:
    """(B, c, h, w); zeros where there is nothing to aim at. Each picture is encoded alone."""
    zeros = torch.zeros(model.latent_shape, device=model.device)
    return torch.stack([zeros if aim is None else model.encode_pixels(aim[None])[0] for aim in aims])
