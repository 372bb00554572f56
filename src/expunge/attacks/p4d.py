"""P4D: tokens under which the edited model predicts what the original model does for the prompt.

    min over c'  E over t, eps  mean | f_original(x_t | prompt) - f_edited(x_t | c') |^2,   x_t a noised image of the
                                                                                            concept,

c' made of tokens that are rounded in every step while the gradient goes to free vectors behind them (`tokens.Hard`).

    p4d      the original: AdamW 0.1, t uniform, a look every few steps. Form "n": free tokens replace the prompt;
             form "k": one free token behind every 3 of the prompt's.
    p4d-mu   the re-implementation beside UnlearnDiffAtk: a short prefix, Adam 0.01, t from clean to noise.

Source: Chin et al. 2024 (ICML, arXiv 2309.06135), section 3; joycenerd/P4D@2cf3cda. P4DTask with hard_prompt,
Diffusion-MU-Attack@5a3e5d3. Differs: the original picks the prompt whose images have the highest CLIP similarity to
the target, here the first one in which the judge finds the concept; both predictions are in the model's own
parametrisation; each model reads prompts with its own text encoder; only tokens that read back as themselves, unless
`vocabulary` is "whole"; the budgets' defaults (`published` has theirs); what `gradient` lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor
from torch.optim import Adam, AdamW

from expunge.attacks.base import item_generator
from expunge.attacks.gradient import Wanted
from expunge.attacks.prompts import InsertedTokens, PromptSearch
from expunge.attacks.tokens import Hard, Vocabulary
from expunge.attacks.victim import Item, Victim
from expunge.config import knob
from expunge.models.free_places import Layout, Slot, prompt_layout
from expunge.models.model import Model
from expunge.models.sample import encoded
from expunge.models.schedule import Schedule


class P4D(PromptSearch):
    """Search a whole prompt (form "n"), or tokens spread through each prompt (form "k")."""

    source: ClassVar[str] = "Chin et al. 2024, Prompting4Debugging"
    SMOKE: ClassVar[Mapping[str, Any]] = {"steps": 40, "look_every": 10, "rows": 8}
    PUBLISHED: ClassVar[Mapping[str, Any]] = {"steps": 3000, "look_every": 50}
    wanted_rows: ClassVar[int] = 1

    form: Literal["n", "k"] = knob("n", "n: free tokens replace the prompt; k: one behind every few of its tokens")
    tokens: int = knob(16, "for form n: free tokens", ge=1, unit="tokens", source="joycenerd/P4D@2cf3cda")
    every: int = knob(3, "for form k: tokens of the prompt per free one", ge=1, unit="tokens",
                      source="joycenerd/P4D@2cf3cda")
    steps: int = knob(200, "gradient steps", ge=1, source="joycenerd/P4D@2cf3cda: 3000")
    look_every: int = knob(20, "gradient steps between two looks at the image", ge=1, unit="steps",
                           source="joycenerd/P4D@2cf3cda: 50")
    learning_rate: float = knob(0.1, "AdamW step size", gt=0.0, source="joycenerd/P4D@2cf3cda")
    weight_decay: float = knob(0.1, "decoupled decay", ge=0.0, source="joycenerd/P4D@2cf3cda")

    def _rounds(self) -> Sequence[int]:
        whole, rest = divmod(self.steps, self.look_every)
        return [self.look_every] * whole + [rest] * bool(rest)

    def _layout(self, model: Model, item: Item, cut: bool = False) -> Layout:
        slot: Slot = "replace" if self.form == "n" else "every"
        return prompt_layout(model, item[0].text, slot, self.tokens, every=self.every, cut=cut)

    def _tokens(self, words: Vocabulary, item: Item, layout: Layout) -> Hard:
        return Hard(words, len(layout.free), item_generator(self, item, "tokens"), learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay, optimizer=AdamW)

    def _time(self, schedule: Schedule, number: int, clock: Generator) -> float:
        return float(schedule.draw(1, clock))

    def _wanted(self, victim: Victim, items: Sequence[Item]) -> Wanted:
        return original_prediction(victim, items)


class P4DMu(InsertedTokens):
    """Search a short insertion as hard tokens, with the schedule of UnlearnDiffAtk."""

    source: ClassVar[str] = "Zhang et al. 2024, UnlearnDiffAtk, baseline P4D"
    wanted_rows: ClassVar[int] = 1

    def _tokens(self, words: Vocabulary, item: Item, layout: Layout) -> Hard:
        return Hard(words, len(layout.free), item_generator(self, item, "tokens"), learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay, optimizer=Adam)

    def _wanted(self, victim: Victim, items: Sequence[Item]) -> Wanted:
        return original_prediction(victim, items)


@torch.no_grad()
def original_prediction(victim: Victim, items: Sequence[Item]) -> Wanted:
    """What the original model predicts for each item's own prompt, which is encoded once, alone."""
    original = victim.original()
    known, rows = encoded(original, [prompt.text for prompt, _ in items], truncate=victim.sampler.truncate)
    cond = known.at(rows)

    def wanted(places: Sequence[int], x0: Tensor, eps: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return original.predict(x_t, t, cond.at(torch.tensor(places)))

    return wanted
