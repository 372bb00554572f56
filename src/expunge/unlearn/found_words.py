"""New words for a concept, found one after the other before the erasure that has to stand against all of them.

A round takes the concept out as it is called so far and then looks for a word that brings it back: with theta the
weights, w_0 the concept's own name, and v_j the embedding that stands for w_j,

    theta_(j+1):  mean |eps_theta(x_t | w_j) - eps_o(x_t | "")|^2  descended from theta_j,
    v_(j+1):      mean |eps_theta_(j+1)(x_t | v) - eps|^2          descended from v_j, x_t noised images of the concept.

Afterwards the weights are as they were, and the erasure tells the student the prompt itself and the prompt with each
word in the concept's place in turn, each as often as any other. Of a model with several text encoders the first one
reads the word; the others read the prompt as it is.

Source: STEREO (Srivatsan et al. 2025, CVPR, arXiv 2408.16807), stage 1, read in its code
(koushiksrivats/robust-concept-erasing@86f124f). Differs: the frozen original says what takes the concept's place in
every round, where the code asks the round before; points come from the recipe's source; a step of the search looks at
several noised images; a word begins at the last one, where the code begins at "person", "art" or "object".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.optim import Adam, Optimizer

from expunge.config import Settings, knob
from expunge.errors import ExpungeError
from expunge.models.conditioning import Conditioning
from expunge.models.free_places import FreePlaces, Layout
from expunge.models.model import Model
from expunge.records import Request
from expunge.train import Losses
from expunge.unlearn.ablation import noise_target
from expunge.unlearn.adversary import Attacker, SoftAdversary
from expunge.unlearn.context import NoisyBatch, Stream, TrainContext
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.soft_prompt import layouts


class FoundWords(Settings):
    """Words that bring the concept back, each against an erasure of those before it.

    A run that was stopped in a step goes on with those that it had found; one that was stopped before looks anew.
    """

    kind: Literal["words"] = "words"
    count: int = knob(2, "Words to find for each concept", ge=1, source="STEREO: 4; 2 in its README")
    erase_steps: int = knob(200, "Steps of each erasure on the way", ge=1, source="STEREO: 200 of batch 1")
    erase_rate: float = knob(5e-6, "Adam's step size there; a LoRA's is larger by the recipe's lora_rate", gt=0.0,
                             source="STEREO: 5e-6")
    search_steps: int = knob(800, "Steps of each search", ge=1, source="STEREO: 3000 of one image")
    search_rate: float = knob(5e-3, "Adam's step size there", unit="embedding units", gt=0.0, source="STEREO: 5e-3")
    rows: int = knob(4, "Noised images in each step of a search", ge=1, source="STEREO: 1")
    source: NoisedPictures = knob(NoisedPictures(pictures=24, grid=50, guidance=7.5),
                                  "Images of the concept that words are learned from")

    @property
    def copies(self) -> int:
        """The weights as they were, beside those that an erasure on the way moves."""
        return 1

    def rows_at_once(self, batch: int) -> int:
        """A search has rows of its own."""
        return max(batch, self.rows)

    def check(self, model: Model, request: Request) -> None:
        """UserError: a prompt has no room for a word, or a model without access to word embeddings."""
        layouts(_PLACE, model, request)

    def prepare(self, context: TrainContext, stream: Stream, batch: int) -> Attacker:
        """All rounds; afterwards the student's weights are as they were."""
        words = Words(context, self.count)
        if (kept := context.resumed.get("adversary/words")) is not None:
            words.found.copy_(kept)
            return words
        pictures = self.source.open(context, context.request.all_prompts, self.rows, "words")
        before = {name: p.detach().clone() for name, p in context.params.items()}
        try:
            for turn in range(self.count):
                self._erase(context, stream, words, turn)
                self._search(context, pictures, words, turn)
        finally:
            with torch.no_grad():
                for name, p in context.params.items():
                    p.copy_(before[name])
        return words

    def _erase(self, context: TrainContext, stream: Stream, words: Words, turn: int) -> None:
        """The last word's predictions towards the original's for the empty prompt."""
        params = [*context.params.values()]
        optimizer = Adam(params, lr=self.erase_rate * context.times_rate)
        for step in context.stages.each(range(self.erase_steps)):
            points = stream.draw(turn * self.erase_steps + step)
            wanted = context.told_nothing(points)
            told = words.conditioning(context.student, points, [turn] * len(points.t))
            _descend(optimizer, params, mse_loss(context.student.predict(points.x_t, points.t, told), wanted))

    def _search(self, context: TrainContext, pictures: Stream, words: Words, turn: int) -> None:
        """A word for each concept that the student denoises images of it with."""
        v = words.at(turn).clone().requires_grad_(True)
        optimizer = Adam([v], lr=self.search_rate)
        for step in context.stages.each(range(self.search_steps)):
            points = pictures.draw(turn * self.search_steps + step)
            told = words.conditioning(context.student, points, [turn + 1] * len(points.t), v)
            out = context.student.predict(points.x_t, points.t, told)
            _descend(optimizer, [v], mse_loss(out, noise_target(context, points)))
        words.found[:, turn] = v.detach()


class Words:
    """`Attacker` with words that were found before the first step. Its state is them, (C, count, D) for C concepts."""

    def __init__(self, context: TrainContext, count: int) -> None:
        """None is found yet."""
        request = context.request
        self._context, encoder = context, context.student.texts[0]
        self._layouts = layouts(_PLACE, context.student, request)
        self._concepts = {target.concept: number for number, target in enumerate(request.targets)}
        self.names = torch.stack([encoder.table[encoder.tokens(target.word)].mean(0) for target in request.targets])
        self.found = self.names[:, None].repeat(1, count, 1)
        self.optimizers: dict[str, Optimizer] = {}
        self.losses: Losses = {}

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The words."""
        return {"adversary/words": self.found}

    def at(self, which: int) -> Tensor:
        """(C, D): embeddings of the words of that number; 0: of the concepts' own names."""
        return self.found[:, which - 1] if which else self.names

    def begin(self, number: int) -> None:
        """Nothing: they were found before."""

    def saw(self, number: int, points: NoisyBatch, out: Tensor) -> None:
        """Nothing: they stay what they are."""

    def condition(self, number: int, points: NoisyBatch) -> Conditioning:
        """The points' prompts as they are, and with each word in the concept's place, in turn."""
        count = len(points.prompts)
        turn = [(number * count + i) % (1 + self.found.shape[1]) for i in range(count)]
        return self.conditioning(self._context.student, points, turn)

    def wordings(self, points: NoisyBatch) -> list[Conditioning]:
        """What the original is told with each of them in turn, the prompts as they are first; no gradient."""
        with torch.no_grad():
            return [self.conditioning(self._context.teacher, points, [which] * len(points.prompts))
                    for which in range(1 + self.found.shape[1])]

    def conditioning(self, model: Model, points: NoisyBatch, which: Sequence[int], v: Tensor | None = None
                     ) -> Conditioning:
        """Text states of the points' prompts, each with the word of that number in it; 0: as they are.

        Args:
            v: (C, D) in the place of the words, with gradient.
        """
        if not any(which) and model is self._context.student:
            return self._context.condition(points)
        layouts: list[Layout] = []
        values: list[Tensor] = []
        for prompt, number in zip(points.prompts, which, strict=True):
            layout = self._layouts[prompt] if number else Layout(tuple(model.texts[0].tokens(prompt)), ())
            concept = self._concepts[self._context.request.target_of(prompt).concept]
            layouts.append(layout)
            values += [(self.at(number) if v is None else v)[concept]] * len(layout.free)
        places = FreePlaces.of(model, points.prompts, layouts)
        return places.told(model, torch.stack(values)) if values else places.as_they_are(model)


_PLACE = SoftAdversary(place="replace", tokens=1)
"""A word stands in the place of the concept's tokens; of the whole prompt where it does not name the concept."""


def _descend(optimizer: Optimizer, params: Sequence[Tensor], loss: Tensor) -> None:
    """One step; only those parameters get a gradient. ExpungeError: it does not reach them."""
    gradients = torch.autograd.grad(loss, [*params], allow_unused=True)
    if all(gradient is None for gradient in gradients):
        raise ExpungeError("a loss that does not reach what it should move", accepted="weights that the prompt asks")
    for p, gradient in zip(params, gradients, strict=True):
        p.grad = gradient
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
