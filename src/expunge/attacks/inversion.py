"""Textual inversion of the concept in the edited model: one embedding for a new word in the place of the concept's.

The loss is that of `embedding`: told a request's prompt whose concept word is replaced by the new word, the edited
model should denoise the image that the original model draws for that prompt. The embedding v (D,) is learned once,
from the request's own prompts, never from the items, and asked in every item's prompt at the item's seed; so it must
carry over to other scenes and other noise. On the way it is kept at every look, and each item is asked them in turn. An
item whose prompt does not name the concept gets the new word in front.

Source: Pham et al. 2024, Circumventing Concept Erasure (CCE), section 3; esd/train.sh@3b750f1; Gal et al. 2023,
textual inversion, eq. 2. Differs: images come with the prompts that they were drawn for, not with templates; the new
word starts from the concept's own embedding ("art" there); several embeddings on the way are asked, not the last alone;
Adam without weight decay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import PrivateAttr
from torch import Tensor

from expunge.attacks.aims import targets
from expunge.attacks.base import item_generator
from expunge.attacks.embedding import LearnedEmbedding, spread_times
from expunge.attacks.naming import named_at
from expunge.attacks.proposal import Batch, Candidate, Rounds
from expunge.attacks.victim import Goal, Item, Victim
from expunge.config import knob
from expunge.errors import TrainingError, UserError
from expunge.files import text_digest
from expunge.finetune import diffusion_loss
from expunge.models.conditioning import Conditioning
from expunge.models.free_places import FreePlaces, Layout
from expunge.models.hashing import tensors_hash
from expunge.models.model import Model
from expunge.records import Prompt, Request


class TextualInversion(LearnedEmbedding):
    """Learn a new word for the concept in the edited model, and ask for it."""

    source: ClassVar[str] = "Pham et al. 2024, Circumventing Concept Erasure, section 3"
    SMOKE: ClassVar[Mapping[str, Any]] = {"steps": 60, "looks": 2}

    pictures: int = knob(6, "images of the concept to learn from (your own, if given, are all used)", ge=1,
                         source="CCE: 25 for styles")
    steps: int = knob(200, "optimisation steps", ge=1, source="CCE: 5000 for styles")
    rows: int = knob(4, "noised images per step", ge=1, source="CCE: 4, accumulated 4 times")
    learning_rate: float = knob(5e-3, "Adam step size", gt=0.0, source="CCE: 5e-3, times the batch")
    looks: int = knob(4, "embeddings kept on the way, evenly spaced, the last one included, and asked in turn", ge=1,
                      unit="images", source="CCE: 1")

    _learned: dict[str, list[tuple[int, Tensor]]] = PrivateAttr(default_factory=dict)

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """Raise UserError where no prompt has room for the word, the request never names it, or for bad images."""
        super().check(victim, request, items)
        _naming(victim.model, request)
        self.some_room(victim, request, items)

    def no_room(self, victim: Victim, request: Request, item: Item) -> UserError | None:
        """For a prompt that is too long with the word in it."""
        return _too_long(victim.model, item[0].text, request, victim.sampler.truncate)

    def propose(self, batch: Batch) -> Rounds:
        """Learn the word, unless it is known from an earlier batch; then ask for it in every item's prompt."""
        victim, before = batch.victim, 0
        learned = self._learn_once(victim, batch.request, batch.goal)
        batch.spend(batch.standing)
        if not learned:
            batch.fail(batch.standing, f"no image of {batch.goal.aim.concept!r} to learn from")
            return
        slotted = _slotted(victim.model, [prompt.text for prompt, _ in batch.items], batch.request,
                           victim.sampler.truncate)
        for step, v in learned:
            steps, before = step - before, step
            batch.spend(batch.standing, gradient_steps=steps, network_rows=3 * self.rows * steps)
            note = f"one word for all prompts, learned for {step} steps; every item bears its whole cost"
            draw = partial(self._drawn, victim, slotted, v)
            yield [Candidate(row, note=note, draw=draw, tensors=partial(dict, embedding=v.cpu()))
                   for row in batch.standing]

    @torch.no_grad()
    def _drawn(self, victim: Victim, slotted: FreePlaces, v: Tensor, rows: Sequence[int], seeds: Sequence[int]
               ) -> Tensor:
        return victim.draw_conditioned(_told(victim.model, slotted, v, rows), seeds, self.batch)

    def _learn_once(self, victim: Victim, request: Request, goal: Goal) -> list[tuple[int, Tensor]]:
        """Embeddings (D,) by step number; empty without images. Known ones are not learned again."""
        model, given = victim.model, victim.pictures
        inputs = [model.hash, model.drawing, model.patch_hash, request.digest, victim.sampler.digest, goal.judge.name,
                  goal.aim.question, goal.aim.concept, "" if given is None else tensors_hash({"pictures": given})]
        name = text_digest(repr(inputs))
        if name not in self._learned:
            self._learned[name] = self._learn(victim, request, goal)
        return self._learned[name]

    def _learn(self, victim: Victim, request: Request, goal: Goal) -> list[tuple[int, Tensor]]:
        model = victim.model
        texts, pictures = self._lessons(victim, request, goal)
        if not texts:
            return []
        slotted = _slotted(model, texts, request)
        with torch.no_grad():
            x0 = torch.cat([model.encode_pixels(picture[None]) for picture in pictures])  # (N, c, h, w)
        v = _own_embedding(model, request.concept).requires_grad_()
        optimizer = torch.optim.Adam([v], lr=self.learning_rate)
        generator = item_generator(self, (Prompt(text=request.concept, role="direct"), 0), "noise")
        kept, learned = self.look_steps(), []
        for step in range(1, self.steps + 1):
            optimizer.zero_grad()
            with torch.enable_grad():
                loss = self._loss(model, slotted, x0, v, generator)
                loss.backward()
            if not torch.isfinite(loss):
                raise TrainingError(f"the loss of {self.name} is {loss.item()} at step {step}",
                                    remedy="lower the learning rate")
            optimizer.step()
            if step in kept:
                learned.append((step, v.detach().clone()))
        return learned

    def _lessons(self, victim: Victim, request: Request, goal: Goal) -> tuple[list[str], list[Tensor]]:
        """Prompts that name the concept, each with an image (3, H, W) of it."""
        texts = _naming(victim.model, request)
        if victim.pictures is not None:
            return [texts[k % len(texts)] for k in range(len(victim.pictures))], list(victim.pictures)
        items = []
        for k in range(self.pictures):
            prompt = Prompt(text=texts[k % len(texts)], role="direct")
            seed = torch.randint(2 ** 48, (), generator=item_generator(self, (prompt, k), "picture"))
            items.append((prompt, int(seed)))
        found = targets(victim, items, goal)
        pairs = [(item[0].text, picture) for item, picture in zip(items, found, strict=True) if picture is not None]
        return [text for text, _ in pairs], [picture for _, picture in pairs]

    def _loss(self, model: Model, slotted: FreePlaces, x0: Tensor, v: Tensor, generator: torch.Generator
              ) -> Tensor:
        """L(v) on `rows` images at times spread over the whole grid."""
        rows = torch.randint(len(x0), (self.rows,), generator=generator)
        t = spread_times(model, self.rows, generator).to(model.device)
        eps = torch.randn(self.rows, *x0.shape[1:], generator=generator).to(model.device)
        told = _told(model, slotted, v, rows.tolist())
        return diffusion_loss(model, x0[rows.to(x0.device)], eps, t, told).mean()


def _naming(model: Model, request: Request) -> list[str]:
    """Prompts of the request that name the concept and have room for the word."""
    named = [text for text in request.prompts if named_at(text, request.word)]
    errors = {text: _too_long(model, text, request, cut=False) for text in named}
    texts = [text for text in named if errors[text] is None]
    if named and not texts:
        raise next(error for error in errors.values() if error is not None)
    if not texts:
        raise UserError(f"none of the request's prompts names {request.concept!r}",
                        accepted="at least one prompt that does, for the new word to stand in",
                        remedy="add one to the request, or leave the attack out")
    return texts


def _too_long(model: Model, text: str, request: Request, cut: bool) -> UserError | None:
    """Why the new word does not fit into a text; None if it does."""
    try:
        _slotted(model, [text], request, cut)
    except UserError as error:
        return error
    return None


@torch.no_grad()
def _slotted(model: Model, texts: Sequence[str], request: Request, cut: bool = False) -> FreePlaces:
    """The texts with one free place for the new word, the concept's or in front; what stands behind it may be `cut`.

    Raises:
        UserError: one is too long with it.
    """
    encoder = model.texts[0]
    stand_in = encoder.tokens(request.concept)[0]  # any id does: its embedding is replaced
    layouts = []
    for text in texts:
        start, end = named_at(text, request.word) or (0, 0)
        before = encoder.tokens(text[:start])
        row = [*before, stand_in, *encoder.tokens(text[end:])]
        if cut:
            row = row[:max(len(before) + 1, encoder.room)]
        layouts.append(Layout(tuple(row), (len(before),)))
    return FreePlaces.of(model, texts, layouts)


def _told(model: Model, slotted: FreePlaces, v: Tensor, rows: Sequence[int]) -> Conditioning:
    """What is told of the prompts at `rows` with the word `v` (D,) in each; differentiable in v."""
    return slotted.at(rows).told(model, v.expand(len(rows), -1))


@torch.no_grad()
def _own_embedding(model: Model, concept: str) -> Tensor:
    """(D,) the mean of the embeddings of the concept's tokens."""
    return model.texts[0].table[model.texts[0].tokens(concept)].mean(0)
