"""Soft prompts: k free embeddings before the item's prompt, learned in the edited model, never made into words.

The loss is that of `embedding`, each item with its own embeddings P (k, D) and its own image. It is the objective of
UnlearnDiffAtk without its projection to tokens, so what it finds no user can type: an upper bound on what any prefix of
k words can do, for services that take embeddings and for everyone who has the weights. All items of a batch are learned
at once, each alone in its loss, and leave it as the judge sees the concept.

Source: objective of Zhang et al. 2024, UnlearnDiffAtk, eq. 6; embeddings left free as in AdvUnlearn's inner attack
(AdvUnlearn@9d23124). Differs: t over the whole grid in every step, not 50 values in turn; judged every few steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from expunge.attacks.aims import aimed
from expunge.attacks.base import item_generator
from expunge.attacks.embedding import LearnedEmbedding, spread_times
from expunge.attacks.proposal import Batch, Candidate, Rounds
from expunge.attacks.search import room_for
from expunge.attacks.victim import Item, Victim
from expunge.config import knob
from expunge.errors import UserError
from expunge.finetune import diffusion_loss
from expunge.models.free_places import FreePlaces, prompt_layout
from expunge.models.model import Model
from expunge.records import Request


class SoftPrompt(LearnedEmbedding):
    """Learn free embeddings before each prompt."""

    source: ClassVar[str] = "Zhang et al. 2024, UnlearnDiffAtk, eq. 6, without projection"
    SMOKE: ClassVar[Mapping[str, Any]] = {"steps": 40, "looks": 2}

    tokens: int = knob(3, "embeddings before the prompt", ge=1, unit="tokens",
                       source="UnlearnDiffAtk: 5 for nudity, violence and illegal, 3 for the others")
    learning_rate: float = knob(1e-2, "Adam step size", gt=0.0, source="UnlearnDiffAtk: 1e-2 on the simplex")

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """Raise UserError where no prompt leaves room, or for images of no use."""
        super().check(victim, request, items)
        self.some_room(victim, request, items)

    def no_room(self, victim: Victim, request: Request, item: Item) -> UserError | None:
        """For a prompt before which the embeddings do not fit."""
        return room_for(victim, item, self.tokens)

    def propose(self, batch: Batch) -> Rounds:
        """Learn all items' embeddings side by side, and ask with those of the items that still stand."""
        model, items = batch.victim.model, batch.items
        aims = aimed(batch, f"no image of {batch.goal.aim.concept!r} to aim at")
        if not aims:
            return
        x0 = _latents(model, [aims.get(row) for row in range(len(items))])
        prefix, P = self._start(model, items)
        optimizer = torch.optim.Adam([P], lr=self.learning_rate)
        generators = [item_generator(self, item, "noise") for item in items]
        looks = self.look_steps()
        for step in range(1, self.steps + 1):
            self._learn(model, optimizer, x0, prefix, P, generators, batch.standing)
            batch.spend(batch.standing, gradient_steps=1, network_rows=3 * self.rows)
            if step in looks:
                now = P.detach().clone()
                batch.fail([row for row in batch.standing if not now[row].isfinite().all()],
                           "the embeddings are no longer numbers")
                draw = partial(self._drawn, batch.victim, prefix, now)
                yield [Candidate(row, draw=draw, tensors=partial(dict, prefix=now[row].cpu()))
                       for row in batch.standing]

    def _start(self, model: Model, items: Sequence[Item]) -> tuple[FreePlaces, Tensor]:
        """The items' prompts with room before them, and the embeddings P (B, k, D), at first those of random words."""
        encoder = model.texts[0]
        words = encoder.plain
        drawn = torch.stack([words[torch.randint(len(words), (self.tokens,), generator=item_generator(self, item))]
                             for item in items])  # (B, k)
        texts, table = [prompt.text for prompt, _ in items], encoder.table
        layouts = [prompt_layout(model, text, "prefix", self.tokens, cut=True) for text in texts]
        return FreePlaces.of(model, texts, layouts), table[drawn.to(table.device)].clone().requires_grad_()

    def _learn(self, model: Model, optimizer: torch.optim.Optimizer, x0: Tensor, prefix: FreePlaces, P: Tensor,
               generators: Sequence[Generator], active: Sequence[int]) -> None:
        """One step for the active rows; the loss is a sum over items, so that none feels the others."""
        R, shape = self.rows, x0.shape[1:]
        t = torch.cat([spread_times(model, R, generators[row]) for row in active]).to(model.device)  # (A*R,)
        eps = torch.cat([torch.randn(R, *shape, generator=generators[row]) for row in active]).to(model.device)
        x = x0[list(active)].repeat_interleave(R, 0)  # (A*R, c, h, w)
        optimizer.zero_grad()
        with torch.enable_grad():
            cond = prefix.at(active).told(model, P[list(active)].flatten(0, 1)).repeat(R)
            (diffusion_loss(model, x, eps, t, cond).sum() / R).backward()
        optimizer.step()

    @torch.no_grad()
    def _drawn(self, victim: Victim, prefix: FreePlaces, P: Tensor, rows: Sequence[int], seeds: Sequence[int]
               ) -> Tensor:
        known = {row: place for place, row in enumerate(dict.fromkeys(rows))}
        told = prefix.at([*known]).told(victim.model, P[[*known]].flatten(0, 1))
        cond = told.at(torch.tensor([known[row] for row in rows]))
        return victim.draw_conditioned(cond, seeds, self.batch)


@torch.no_grad()
def _latents(model: Model, aims: Sequence[Tensor | None]) -> Tensor:
    """(B, c, h, w); zeros where there is nothing to aim at. Each image is encoded alone."""
    zeros = torch.zeros(model.latent_shape, device=model.device)
    return torch.stack([zeros if aim is None else model.encode_pixels(aim[None])[0] for aim in aims])
