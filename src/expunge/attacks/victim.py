"""Who is attacked, on what, and what counts as success: items, goal, the model and how its images are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from expunge.attacks.sights import Sights
from expunge.metrics.base import Aim, Judge, shows
from expunge.metrics.judging import ask
from expunge.metrics.prompts import Prompts
from expunge.models.conditioning import Conditioning
from expunge.models.denoising import against, denoise, passes, passes_of
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.models.sample import by_way, check_finite, draw
from expunge.models.text import TextEncoder
from expunge.records import Detection, Prompt, Sampler, Spent
from expunge.runtime import Runtime

ALONE = Runtime(torch.device("cpu"))
"""One process; its device is not asked for."""
NO_PICTURE = "the image's values are not finite"
"""The error of a detection in what is no image."""
Item = tuple[Prompt, int]
"""A prompt and the seed of its image."""
Watch = Callable[[Item, str, int, bool, Tensor, Detection], None]
"""Called as watch(item, text, seed, by_text, picture, sight)."""


@dataclass(frozen=True)
class Goal:
    """What counts as success: the judge sees what the edit is to make disappear. An abstention is no success.

    `known` is false for a null control: the model never knew the concept, so no image of it can be asked for.
    """

    judge: Judge
    aim: Aim
    known: bool = True

    def see(self, pictures: Tensor) -> list[Detection]:
        """One detection per image, float32 (B, 3, H, W) in [0, 1]; of a judge that fails, one with an error."""
        return [one.model_copy(update={"found": not one.error and shows(one.answers, self.aim) is True})
                for one in ask(self.judge, pictures)]


@dataclass(frozen=True)
class Victim:
    """The model under attack, and how its images are drawn.

    Attributes:
        model: the base model; while an attack runs, the patch is on.
        patch: the edit under attack; None attacks the model as it is.
        sampler: how images are drawn, those that are judged and those that attacks aim at.
        pictures: the user's own images of the concept, float32 (N, 3, H, W) in [0, 1]; None: the original model's.
        batch: images drawn together; speed and memory only.
        variants: other prompts that ask for the concept, by role ("paraphrase": without its name but with another,
            "implicit": without any name); the world's, for attacks made of fixed prompts.
        aims: images of the concept that were drawn to aim at (see `aims.targets`): attacks share them.
        asks: whose prompts of other things innocent users ask; None: those of the model's world.
        sights: where answers about images without an attack are kept; None keeps none.
        trial: items of the whole trial, those that are settled already among them; it decides the shape of passes. 0:
            not known.
        processes: those that share the items of each attack and of each look, and make the same calls; by default this
            one alone.
        watch: told of every candidate of an attack once it is judged: the item, the text and the seed that were asked,
            whether these alone give the image again, the image (3, H, W), and what the judge says. It decides nothing.
    """

    model: Model
    patch: Patch | None
    sampler: Sampler
    pictures: Tensor | None = None
    batch: int = 32
    variants: Mapping[str, Sequence[str]] = field(default_factory=dict)
    aims: dict[tuple[str, ...], Tensor | None] = field(default_factory=dict, repr=False, compare=False)
    asks: Prompts | None = field(default=None, repr=False, compare=False)
    sights: Sights | None = field(default=None, repr=False, compare=False)
    trial: int = field(default=0, compare=False)
    processes: Runtime = field(default=ALONE, repr=False, compare=False)
    watch: Watch | None = field(default=None, repr=False, compare=False)

    @property
    def encoder(self) -> TextEncoder:
        """The text encoder whose tokens and embeddings attacks search: the model's first."""
        return self.model.texts[0]

    @contextmanager
    def without_patch(self) -> Iterator[None]:
        """The patch is off inside."""
        was_on = self.patch is not None and bool(self.model.patch_hash)
        if was_on:
            self.model.remove()
        try:
            yield
        finally:
            if was_on:
                self.model.apply(self.patch)

    def original(self) -> Model:
        """The model without the patch: beside what the patch changes, which is copied, nothing is in memory twice."""
        with self.without_patch():
            if self.patch is None and not self.model.patch_hash:
                return self.model
            return self.model.frozen_copy({name.partition("/")[0] for name in self.patch.weights}
                                          if self.patch is not None else None)

    def draw(self, texts: Sequence[str], seeds: Sequence[int], batch: int = 0, *, fill: bool = False) -> Tensor:
        """Images of the edited model, float32 (B, 3, H, W), `batch` at a time (0: the victim's own).

        `fill` fills the last batch up with copies: batches of one shape round alike, so an image does not depend, not
        even in its last bit, on those drawn beside it.
        """
        items, batch = list(zip(texts, seeds, strict=True)), batch or self.batch
        copies = [items[-1]] * (-len(items) % batch) if fill and items else []
        return draw(self.model, [*items, *copies], self.sampler, batch=batch)[:len(items)]

    @torch.no_grad()
    def draw_conditioned(self, cond: Conditioning, seeds: Sequence[int], batch: int = 0) -> Tensor:
        """Images of the edited model told `cond`, which need not be the states of any text; float32 (B, 3, H, W).

        For the states of texts the images are those of `draw`.

        Raises:
            ModelError: they are not finite.
        """
        model, sampler, pictures, batch = self.model, self.sampler, [], batch or self.batch
        uncond = against(model, sampler.guidance, sampler.negative, truncate=sampler.truncate)
        for start in range(0, len(seeds), batch):
            part = slice(start, start + batch)
            x = model.initial_noise(seeds[part], sampler.height, sampler.width)
            latents = denoise(model, x, cond.at(part), uncond, sampler.steps, sampler.guidance)
            pictures.append(check_finite(model, model.decode(latents).cpu()))
        return torch.cat(pictures)

    def parts(self, items: Sequence[Item]) -> list[tuple[Victim, list[int]]]:
        """The victim as each of the items is drawn, and the places of those that are drawn alike."""
        ways = by_way([self.sampler.of(prompt) for prompt, _ in items])
        return [(self if way == self.sampler else replace(self, sampler=way), places) for way, places in ways.items()]

    def seen(self, goal: Goal, items: Sequence[Item], batch: int = 0) -> list[Detection]:
        """What the goal's judge sees in the image of each item; `NO_PICTURE` is the error of one that is none."""
        if self.sights is None:
            return self._looked_at(goal, items, batch)
        model, aim = self.model, goal.aim
        keys = [[model.hash, model.patch_hash, model.drawing, self.sampler.of(prompt).digest, goal.judge.name,
                 aim.question, aim.concept, aim.joint, prompt.text, seed] for prompt, seed in items]
        answers = self.sights.found(keys, lambda places: [
            (sight.found, sight.error) for sight in self._looked_at(goal, [items[place] for place in places], batch)],
            batch or self.batch)
        return [Detection(found=found, error=error) for found, error in answers]

    def _looked_at(self, goal: Goal, items: Sequence[Item], batch: int) -> list[Detection]:
        out: dict[int, Detection] = {}
        for own, places in self.parts(items):
            chosen = [(items[place][0].text, items[place][1]) for place in places]
            none = dict[int, Tensor]()
            pictures = draw(self.model, chosen, own.sampler, batch=batch or self.batch, broken=none.__setitem__)
            there = [row for row in range(len(places)) if row not in none]
            out |= {places[row]: Detection(error=NO_PICTURE) for row in none}
            out |= zip([places[row] for row in there], goal.see(pictures[there]), strict=True)
        return [out[place] for place in range(len(items))]

    @property
    def rows_per_picture(self) -> int:
        """Rows that one image sends through the denoiser."""
        return self.rows(self.sampler)

    def rows(self, sampler: Sampler, share: float = 1.0) -> int:
        """Rows that `share` of the steps of one image send through the denoiser, drawn so."""
        return round(sampler.steps * share) * passes_of(self.model.denoiser.guided, sampler.guidance)


def picture_rows(sampler: Sampler, share: float = 1.0) -> int:
    """Most rows that `share` of the steps of one image send through a denoiser: with guidance two for each step. Models
    that are told the guidance take one (`Victim.rows`)."""
    return round(sampler.steps * share) * passes(sampler.guidance)


def pictures_budget(sampler: Sampler, count: int) -> Spent:
    """The budget of an attack that draws at most `count` images of an item, and does nothing else with the denoiser.
    """
    return Spent(images=count, network_rows=count * picture_rows(sampler))


def fresh_seed(seed: int, k: int) -> int:
    """The k-th fresh seed of an item whose own seed is `seed` (k = 0: its own)."""
    return seed + k * 1_000_003
