"""Fine-tuning the edited model: does the concept come back, and after how many steps?

`relearn` trains on a few images of the concept, `benign` on images that do not show it. The attacker holds the
weights. There is one training for all items, on material that the request alone decides; at 0, s1, s2, ... steps every
item still standing is drawn, and the first image in which the judge finds the concept settles it.

What any model can be taught proves nothing about what it had forgotten: see `curve` for the control.

Source: Suriyakumar et al. 2024 (Unstable Unlearning, 2410.08074), benign fine-tuning; Polowczyk et al. 2025 (MemoRa,
2510.03263), the relearning curve. Differs: settings are those of diffusers' training scripts, by the model's own loss.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import model_validator

from expunge.attacks.base import Access, Attack
from expunge.attacks.lessons import Lesson, drawn_lesson, innocent_prompts
from expunge.attacks.proposal import Batch, Candidate, Rounds
from expunge.attacks.victim import Goal, Item, Victim, picture_rows
from expunge.config import below, knob, merged
from expunge.errors import UserError
from expunge.finetune import FineTune, check_pictures, check_tuning, fine_tuning, material
from expunge.records import Request, Sampler, Spent, names_any


class Tuning(Attack):
    """What `relearn` and `benign` share: training, looking now and then, and giving the model back."""

    access: ClassVar[Access] = "weights"
    white_box: ClassVar[bool] = True
    one_for_all: ClassVar[bool] = True
    SMOKE: ClassVar[Mapping[str, Any]] = {"tune": {"steps": 40}, "at": (0, 10, 20)}

    batch: int = knob(4096, "items drawn along one training; further ones need it anew", ge=1)
    tune: FineTune = knob(FineTune(), "how the attacker trains")
    at: tuple[int, ...] = knob((0, 5, 10, 20, 40, 80, 160, 320, 640, 1280), "numbers of steps at which every item "
                               "still standing is drawn; `tune.steps` is always the last")
    pictures: int = knob(16, "images to train on, where the original model draws them", ge=1)

    @model_validator(mode="before")
    @classmethod
    def _over_its_own_defaults(cls, values: Any) -> Any:
        """What `tune` leaves open is the attack's own (`relearn-lora` stays a LoRA), not every user's."""
        if isinstance(values, Mapping) and isinstance(values.get("tune"), Mapping):
            own = cls.model_fields["tune"].default.model_dump(mode="json")
            return {**values, "tune": merged(below(own), values["tune"])}
        return values

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """UserError for weights that cannot train, a missing package, images or prompts that do not fit."""
        check_tuning(victim.model, self.tune)
        self.captions(victim, request)

    def learns_from(self, victim: Victim, request: Request) -> tuple[str, ...]:
        """`captions`."""
        return tuple(self.captions(victim, request))

    def captions(self, victim: Victim, request: Request) -> list[str]:
        """`prompts_for` without those that the text encoder does not read whole.

        Raises:
            UserError: none is left.
        """
        texts = self.prompts_for(victim, request)
        long = victim.model.too_long(texts)
        if texts and not {*texts} - long.keys():
            raise UserError(f"prompt {texts[0]!r} has {long[texts[0]]} tokens",
                            accepted=f"up to {victim.encoder.room}", remedy="shorten it")
        return [text for text in texts if text not in long]

    @abstractmethod
    def prompts_for(self, victim: Victim, request: Request) -> list[str]:
        """Captions of the training images. UserError if there are none."""

    @abstractmethod
    def lesson(self, victim: Victim, request: Request, goal: Goal) -> Lesson:
        """What is trained on; decided by the request, never by the items."""

    def budget(self, sampler: Sampler) -> Spent:
        """All steps of the training, and an image at every look."""
        looks = len({step for step in self.at if step < self.tune.steps} | {self.tune.steps})
        return Spent(gradient_steps=self.tune.steps, images=looks,
                     network_rows=3 * self.tune.steps * self.tune.batch + looks * picture_rows(sampler))

    def propose(self, batch: Batch) -> Rounds:
        """One training; each item's cost is the whole of it up to the look that settles the item."""
        model, lesson = batch.victim.model, self.lesson(batch.victim, batch.request, batch.goal)
        batch.spend(batch.standing)
        if not len(lesson.pictures):
            batch.fail(batch.standing,
                       f"nothing to train on: none of {lesson.drawn} images of {lesson.whose} would do")
            return
        learned = material(model, lesson.pictures, lesson.captions)
        with fine_tuning(model, learned, self.tune, seed=self.seed) as tuner:
            trained = 0
            for done in tuner.train(self.at):
                batch.spend(batch.standing, gradient_steps=done - trained, network_rows=tuner.rows(done - trained))
                note = f"after {done} steps ({self.tune.scope}) on {len(lesson.pictures)} images of {lesson.whose}"
                yield [Candidate(row, note=note) for row in batch.standing]
                trained = done


class Relearn(Tuning):
    """Fine-tuning on a few images of the concept: the user's own, or else the original model's."""

    source: ClassVar[str] = "Polowczyk et al. 2025 (MemoRa), section 4"

    caption: str = knob("a picture of a {concept}", "caption of the user's own images", min_length=1)

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """As for every tuning, and the user's own images, if there are any."""
        if victim.pictures is not None:
            check_pictures(victim.model, victim.pictures)
        super().check(victim, request, items)

    def prompts_for(self, victim: Victim, request: Request) -> list[str]:
        """The request's prompts, or the one caption of the user's own images."""
        if victim.pictures is None:
            return list(request.prompts)
        return [self.caption.replace("{concept}", request.concept)]

    def lesson(self, victim: Victim, request: Request, goal: Goal) -> Lesson:
        """All of the user's images, or those of the original model in which the judge finds the concept."""
        prompts = self.captions(victim, request)
        if victim.pictures is None:
            return drawn_lesson(victim, prompts, goal, self.pictures, showing=True, seed=self.seed)
        return Lesson(victim.pictures, tuple(prompts * len(victim.pictures)), "the user")


class RelearnXattn(Relearn):
    """`relearn` of cross-attention alone."""

    tune: FineTune = knob(FineTune(scope="cross-attention"), "how the attacker trains")


class RelearnLora(Relearn):
    """`relearn` with a LoRA: what users do most."""

    tune: FineTune = knob(FineTune(scope="lora", learning_rate=1e-3), "how the attacker trains")


class Benign(Tuning):
    """Fine-tuning on other things, drawn by the original model: does the concept come back without an image of it?"""

    source: ClassVar[str] = "Suriyakumar et al. 2024 (Unstable Unlearning, 2410.08074)"

    pictures: int = knob(64, "images to train on", ge=1)
    prompts: tuple[str, ...] = knob((), "prompts of those images; empty: the request's prompts to keep and the "
                                        "world's near and far ones")

    def prompts_for(self, victim: Victim, request: Request) -> list[str]:
        """Prompts that do not name the concept."""
        named = [text for text in self.prompts if names_any(text, request)]
        if named:
            raise UserError(f"benign prompt {named[0]!r} names the concept", accepted="prompts for other things")
        own = [text for text in dict.fromkeys(self.prompts) if text]
        texts = own if self.prompts else innocent_prompts(victim, request)
        if not texts:
            raise UserError(f"no benign prompts for {request.concept!r}", remedy="set the attack's `prompts`")
        return texts

    def lesson(self, victim: Victim, request: Request, goal: Goal) -> Lesson:
        """Images of the original model in which the judge does not find the concept."""
        return drawn_lesson(victim, self.captions(victim, request), goal, self.pictures, showing=False, seed=self.seed)
