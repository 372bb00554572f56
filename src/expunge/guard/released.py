"""FreezeAsGuard as it was released, with its settings and its rule.

    1. theta_ft: AdamW on forbidden and innocent images together, from theta_pre
    2. state theta~ = theta_ft + m D, D = theta_pre - theta_ft; batches from one mixed and shuffled loader
       every `interval`-th step of an epoch, the releaser:
           L = 1/2 (-sum(l f) / (sum f + 1e-5) + sum(l (1-f)) / (sum(1-f) + 1e-5)),   f = 1 on forbidden rows
           x by the released rule (`rules`);   theta~ += D (m_new - m_old)
       else the user, by plain gradient descent on the mean loss:
           d = -lr (1-m) g;   theta~ += (1-m) d;   D -= d
       until `user_steps` steps of users
    3. frozen = round(m), whatever ratio that gives

It is here to reproduce what was published. Its upper loss has no bound, its start and its penalty decide much of the
mask (with these settings one step of the penalty saturates most entries, which then never move again), and the ratio is
not met exactly: see `projected` for the default.

Source: Huang et al. 2024 (FreezeAsGuard, 2405.17472), mask_learner.py@12856a8:1060-1175, mixed_full_trainer.py and the
repository's script. Differs: float32 throughout (in bfloat16 D stops following theta_ft, for its steps are below the
resolution); stage 1 in batches of 4 instead of 1 accumulated 4 times; latents are the autoencoder's means; a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from expunge.config import knob
from expunge.finetune import FineTune, TrainingImages, diffusion_loss, fine_tuning
from expunge.guard.domains import SIDES, PublisherImages, together
from expunge.guard.projected import MaskLearner, MaskScores
from expunge.guard.ratio import Groups
from expunge.guard.rules import ReleasedRule
from expunge.models.model import Model
from expunge.models.sample import encoded
from expunge.records.freezing import Granularity, Measure
from expunge.resume import Inputs
from expunge.train import Losses, Progress, in_turn, run_loop, step_generator

STAGE_1, STAGE_2 = "stage1.safetensors", "stage2.safetensors"


class Released(MaskLearner):
    """The published settings: those of the repository's script."""

    kind: Literal["released"] = "released"
    ratio: float = knob(0.2, "share of the tensors that the penalty pulls towards", ge=0.0, le=1.0, source="script")
    by: Measure = knob("count", "what the share is counted in", source="mask_learner.py")
    granularity: Granularity = knob("tensor", "what is frozen together", source="mask_learner.py")
    first: FineTune = knob(FineTune(learning_rate=1e-5, steps=2000, batch=4, drop=0.0),
                           "stage 1: the user whom the mask meets", source="mixed_full_trainer.py")
    temperature: float = knob(0.2, "of the relaxed mask", gt=0.0, source="script")
    mask_learning_rate: float = knob(10.0, "mask learning rate", gt=0.0, source="script --mask_lr 1e1", former="rate")
    sparsity: float = knob(5e3, "c, weight of (ratio - mean m)^2", ge=0.0, source="script --c_sparsity 5e3")
    user_learning_rate: float = knob(1e-5, "of the user's plain gradient descent", gt=0.0, source="script",
                                     former="user_rate")
    interval: int = knob(5, "every so many steps of an epoch are the releaser's, the first among them", ge=2,
                         source="script --user_interval 5")
    user_steps: int = knob(2000, "steps of the user in stage 2", ge=1, source="script")
    batch: int = knob(16, "images per step of stage 2", ge=1, source="script")

    def schedule(self, pictures: int) -> list[bool]:
        """Whether each step is the releaser's, until the user has had its steps; epochs are of `pictures`."""
        epoch = -(-pictures // self.batch)
        if epoch == 1:  # step 0 of every epoch: the user would never have a turn
            epoch = self.interval
        out: list[bool] = []
        for number in count():
            out.append(number % epoch % self.interval == 0)
            if len(out) - sum(out) == self.user_steps:
                return out
        raise AssertionError("count ends")

    def work(self, publisher: PublisherImages) -> tuple[int, int]:
        """Steps of users, and mask steps."""
        turns = self.schedule(sum(len(one.captions) for side in SIDES for one in publisher.of(side)))
        return self.first.steps + self.user_steps, sum(turns)


def released(settings: Released, groups: Groups, model: Model, publisher: PublisherImages, *, seed: int,
             folder: Path | None = None, under: Inputs | None = None, progress: Progress | None = None) -> MaskScores:
    """Learn a mask as published; the model comes back bit for bit.

    Args:
        folder: for the checkpoints of both stages.

    Raises:
        TrainingError: a loss is not finite.
    """
    mixed = together([*publisher.forbidden, *publisher.innocent])
    forbidden = torch.arange(len(mixed.captions)) < sum(len(one.captions) for one in publisher.forbidden)
    turns = settings.schedule(len(mixed.captions))
    whole = settings.first.steps + len(turns)
    one, two = (folder / STAGE_1, folder / STAGE_2) if folder else (None, None)

    def reporting(before: int) -> Progress:
        return lambda done, total, losses: progress(before + done, whole, losses) if progress else None

    with fine_tuning(model, mixed, settings.first, seed=seed) as tuner:
        published = {name: p.detach().clone() for name, p in tuner.params.items()}
        if two is None or not two.exists():
            list(tuner.train(checkpoint=one, progress=reporting(0)))
        state = _Stage2(settings, groups, model, mixed, forbidden, published, seed)
        trained = run_loop(lambda number: state.step(number, turns[number]), len(turns), state.tensors(), {},
                           checkpoint=two, under=under, progress=reporting(settings.first.steps))
    if one is not None:
        one.unlink(missing_ok=True)
    return MaskScores(state.rule.x, trained)


class _Stage2:
    """theta~ (the model's own tensors), D and x."""

    def __init__(self, settings: Released, groups: Groups, model: Model, mixed: TrainingImages, forbidden: Tensor,
                 published: dict[str, Tensor], seed: int) -> None:
        self._s, self._groups, self._model, self._mixed, self._seed = settings, groups, model, mixed, seed
        self._forbidden = forbidden
        named = dict(model.network.named_parameters())
        self._params = {name: named[name.partition("/")[2]] for name in groups.names}
        x = torch.rand(len(groups.labels), generator=step_generator(seed, 0, "mask"), dtype=torch.float64)
        self.rule = ReleasedRule(x, settings.ratio, settings.temperature, settings.mask_learning_rate,
                                 settings.sparsity)
        self._texts = {text: row for row, text in enumerate(dict.fromkeys(mixed.captions))}
        with torch.no_grad():
            self._known, _ = encoded(model, [*self._texts])
            self._D = {name: published[name] - p for name, p in self._params.items()}
            for name, m in self._masks():
                self._params[name].add_(self._D[name], alpha=m)

    def tensors(self) -> dict[str, Tensor]:
        """All that steps change."""
        return {"x": self.rule.x, **self._params, **{f"D/{name}": value for name, value in self._D.items()}}

    def step(self, number: int, releaser: bool) -> Losses:
        """One step of either; on the same batches."""
        losses, flags = self._losses(number)
        if not releaser:
            loss = losses.mean()
            grads = torch.autograd.grad(loss, list(self._params.values()))
            self._user(grads)
            return {"user": float(loss.detach())}
        out = 1 - flags
        loss = 0.5 * (-(losses * flags).sum() / (flags.sum() + 1e-5) + (losses * out).sum() / (out.sum() + 1e-5))
        grads = torch.autograd.grad(loss, list(self._params.values()))
        self._release(grads)
        return {"releaser": float(loss.detach()), "mean": float(self.rule.m.mean())}

    @torch.no_grad()
    def _user(self, grads: tuple[Tensor, ...]) -> None:
        for (name, m), g in zip(self._masks(), grads, strict=True):
            d = -self._s.user_learning_rate * (1 - m) * g
            self._params[name].add_(d, alpha=1 - m)
            self._D[name].sub_(d)

    @torch.no_grad()
    def _release(self, grads: tuple[Tensor, ...]) -> None:
        before = dict(self._masks())
        dots = torch.tensor([float((D * g).sum()) for D, g in zip(self._D.values(), grads, strict=True)])
        self.rule.step(self._groups.summed(dots))
        for name, m in self._masks():
            self._params[name].add_(self._D[name], alpha=m - before[name])

    def _masks(self) -> Iterator[tuple[str, float]]:
        return zip(self._groups.names, self._groups.spread(self.rule.m).tolist(), strict=True)

    def _losses(self, number: int) -> tuple[Tensor, Tensor]:
        """(B,) of a step's rows, with gradient, and float32 (B,): 1 for forbidden ones."""
        picked = in_turn(len(self._mixed.captions), self._s.batch, number, self._seed, "stage2")
        generator = step_generator(self._seed, number, "stage2")
        t = self._model.process.schedule.draw(len(picked), generator)
        x0 = self._mixed.latents[picked.to(self._mixed.latents.device)]
        eps = torch.randn(x0.shape, generator=generator).to(x0)
        rows = torch.tensor([self._texts[self._mixed.captions[k]] for k in picked.tolist()])
        with torch.enable_grad():
            each = diffusion_loss(self._model, x0, eps, t.to(x0.device), self._known.at(rows.to(x0.device)))
        return each, self._forbidden[picked].to(each)
