"""What a publisher learns a mask from: forbidden and innocent images, and how far a user has come with either.

The upper level must be bounded, or it is won by breaking the model. With l the loss of a row (an image, a noise, a
time) at theta(m), l_0 the published model's on the same row, and c what a user gains who is not held back:

    gain    mean max(0, l_0 - l) / c  of forbidden rows,  - w mean(l_0 - l) / c  of innocent ones
    hinge   -mean min(l, (1 + margin) l_0)  of forbidden rows,  + w mean l  of innocent ones

A gain is 0 for the published model and about 1 for a user without a mask, whatever is learned; that is why it is the
default. Users train on one half of the images, the upper level is measured on the other.

Source: Huang et al. 2024 (FreezeAsGuard, 2405.17472), eq. 2. Differs: bounded and relative; split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from expunge.errors import TrainingError, UserError
from expunge.finetune import TrainingImages, diffusion_loss
from expunge.models.hashing import tensors_hash
from expunge.models.model import Model
from expunge.models.sample import encoded
from expunge.records import counted
from expunge.train import in_turn, step_generator

Side = Literal["forbidden", "innocent"]
SIDES: tuple[Side, ...] = ("forbidden", "innocent")
Subject = tuple[Side, int]
"""A side, and the place of a thing on it."""


@dataclass(frozen=True)
class PublisherImages:
    """What a publisher has: images of things that no user may teach the model, and of things that any user may.

    Attributes:
        forbidden, innocent: images of each thing.
        prior: images of what is to stay as it is, for simulated users of DreamBooth.
    """

    forbidden: tuple[TrainingImages, ...]
    innocent: tuple[TrainingImages, ...]
    prior: TrainingImages | None = None

    def of(self, side: Side) -> tuple[TrainingImages, ...]:
        """The things of one side."""
        return self.forbidden if side == "forbidden" else self.innocent

    @property
    def digest(self) -> str:
        """Hash of all images and captions."""
        each = {f"{side}/{k}": one for side in SIDES for k, one in enumerate(self.of(side))}
        each |= {"prior": self.prior} if self.prior else {}
        texts = {f"{name}/{k}/{text}": torch.zeros(0) for name, one in each.items() for k, text in
                 enumerate(one.captions)}
        return tensors_hash({**{name: one.latents for name, one in each.items()}, **texts})


def together(things: Sequence[TrainingImages]) -> TrainingImages:
    """All of their images in one."""
    return TrainingImages(torch.cat([one.latents for one in things]),
                          tuple(text for one in things for text in one.captions))


def halves(whole: TrainingImages) -> tuple[TrainingImages, TrainingImages]:
    """The images that simulated users train on, and those that the upper level is measured on: every second one.

    Raises:
        UserError: fewer than two images.
    """
    count = len(whole.captions)
    if count < 2:
        raise UserError(f"{counted(count, 'images')} of one thing", accepted="two or more, half of which the "
                        "simulated users never see")
    rows = torch.arange(count)
    return (TrainingImages(whole.latents[rows[::2].to(whole.latents.device)], whole.captions[::2]),
            TrainingImages(whole.latents[rows[1::2].to(whole.latents.device)], whole.captions[1::2]))


class Domain(Protocol):
    """A thing (or all of a side) as the upper level sees it."""

    def rows(self, number: int) -> tuple[Tensor, Tensor]:
        """Losses (B,) of mask step `number`'s rows with their gradient, and the published model's on the same rows."""
        ...

    def gain(self) -> float:
        """Mean over all rows of the published model's loss minus the loss now; no gradient."""
        ...


class LossGauge:
    """Fixed rows of some images, with the published model's loss on each.

    The model must be as published when it is made. Times are spread evenly over the grid, so that few rows say much.
    """

    def __init__(self, model: Model, pictures: TrainingImages, *, rows: int, batch: int, seed: int, name: str
                 ) -> None:
        self._model, self._batch, self._seed, self._name = model, batch, seed, name
        generator = step_generator(seed, 0, f"gauge/{name}")
        places = torch.arange(rows) % len(pictures.captions)
        even = model.process.schedule.quantile((torch.arange(rows) + torch.rand(rows, generator=generator)) / rows)
        self._t = even[torch.randperm(rows, generator=generator)].to(model.device)
        self._x0 = pictures.latents[places.to(pictures.latents.device)]
        self._eps = torch.randn(self._x0.shape, generator=generator).to(self._x0)
        with torch.no_grad():
            known, texts = encoded(model, pictures.captions)
            self._cond = known.at(texts[places.to(texts.device)])
        self.published = self._all()

    def rows(self, number: int) -> tuple[Tensor, Tensor]:
        picked = in_turn(len(self._t), self._batch, number, self._seed, f"gauge/{self._name}")
        picked = picked.to(self._model.device)
        with torch.enable_grad():
            return self._losses(picked), self.published[picked]

    def gain(self) -> float:
        return float((self.published - self._all()).mean())

    @torch.no_grad()
    def _all(self) -> Tensor:
        """float32 (rows,)."""
        return torch.cat([self._losses(part) for part in
                          torch.arange(len(self._t), device=self._model.device).split(16)])

    def _losses(self, picked: Tensor) -> Tensor:
        return diffusion_loss(self._model, self._x0[picked], self._eps[picked], self._t[picked], self._cond.at(picked))


@dataclass(frozen=True)
class Upper:
    """The upper level's loss.

    Attributes:
        domains: by subject. kind: "gain" or "hinge", see above. innocent: w of the innocent side. margin: of the hinge,
            as a share of the published model's loss.
    """

    domains: Mapping[Subject, Domain]
    kind: Literal["gain", "hinge"]
    innocent: float
    margin: float

    def loss(self, subject: Subject, number: int, unheld: float) -> Tensor:
        """One subject's part, with its gradient, on the rows of mask step `number`; bounded below.

        Args:
            unheld: c, the gain of a user who is not held back.
        """
        side, (now, published) = subject[0], self.domains[subject].rows(number)
        if self.kind == "hinge":
            held = torch.minimum(now, published * (1 + self.margin)).mean()
            return -held if side == "forbidden" else self.innocent * now.mean()
        gained = published - now
        return (gained.clamp_min(0).mean() if side == "forbidden" else -self.innocent * gained.mean()) / unheld

    def unheld(self, subject: Subject, who: str, steps: int) -> float:
        """The gain of a user who was not held back.

        Raises:
            TrainingError: there is none, so that nothing can be told about holding it back.
        """
        gain = self.domains[subject].gain()
        if not gain > 0:
            raise TrainingError(f"a simulated user ({who}) learned nothing of the {subject[0]} images in {steps} "
                                f"steps (gain {gain:.2g})", accepted="users who learn where nothing is frozen",
                                remedy="give them more steps or another learning rate")
        return gain
