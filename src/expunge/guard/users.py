"""Simulated users by kind: how each fine-tunes, and how one is put at a mask.

Source: settings as in `expunge.finetune`, for emoji-64. On Stable Diffusion 1.x and 2.x the usual rates are 1e-5
(adamw, dreambooth: 5e-6) and 1e-4 (lora).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from expunge.config import Settings, knob
from expunge.errors import UserError
from expunge.files import text_digest
from expunge.finetune import FineTune, TrainingImages, check_tuning, fine_tuning
from expunge.guard.domains import PublisherImages
from expunge.guard.relaxed import LoraUser, Trial, WholeUser
from expunge.models.model import Model

UserKind = Literal["adamw", "sgd", "lora", "dreambooth"]


class Users(Settings):
    """Who fine-tunes the published model; steps are the learner's, not theirs."""

    kinds: tuple[UserKind, ...] = knob(("adamw",), "kinds of users, in turn", min_length=1)
    adamw: FineTune = knob(FineTune(), "fine-tuning of all of the UNet")
    sgd: FineTune = knob(FineTune(optimizer="sgd", learning_rate=0.1), "the same by plain gradient descent")
    lora: FineTune = knob(FineTune(scope="lora", learning_rate=1e-3), "a LoRA on attention")
    dreambooth: FineTune = knob(FineTune(batch=2), "all of the UNet, with images of what is to stay")

    def tuning(self, kind: UserKind) -> FineTune:
        """How that kind trains."""
        tuning: FineTune = getattr(self, kind)
        return tuning

    def check(self, model: Model, publisher: PublisherImages) -> None:
        """UserError: weights that cannot train, peft missing, text encoders that train, or DreamBooth without a
        prior."""
        for kind in self.kinds:
            check_tuning(model, self.tuning(kind))
            if self.tuning(kind).text_encoder:
                raise UserError(f"a simulated user ({kind}) whose text encoder trains",
                                accepted="users of the UNet alone: a mask is of the UNet")
            if kind == "dreambooth" and publisher.prior is None:
                raise UserError("a simulated user of DreamBooth without prior images",
                                accepted="prior images, or other kinds of users")


@contextmanager
def user_at_mask(model: Model, users: Users, kind: UserKind, pictures: TrainingImages, names: Sequence[str], *,
                 seed: int, prior: TrainingImages | None = None) -> Iterator[Trial]:
    """Lend the model, as published, to a simulated user; afterwards it is as before, bit for bit.

    Args:
        names: full names of the mask's tensors, in its order.
    """
    settings = users.tuning(kind)
    published = {name: p.detach().clone() for name, p in model.parameters_of("denoiser").items()
                 } if settings.scope != "lora" else {}
    with fine_tuning(model, pictures, settings, seed=seed, prior=prior if kind == "dreambooth" else None) as tuner:
        most = settings.max_grad_norm
        yield (LoraUser(tuner, model.network, names, most, model.network_name) if settings.scope == "lora" else
               WholeUser(tuner, published, names, most))


def user_seed(seed: int, number: int) -> int:
    """The seed of simulated user `number`."""
    return int(text_digest(f"guard/{seed}/{number}")[:8], 16)
