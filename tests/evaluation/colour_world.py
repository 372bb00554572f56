"""A world whose judge sees colours, for a very small pipeline with random weights; and an edit of that pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from expunge.evaluation import EvaluateSettings
from expunge.metrics.base import Judge, Moments, PromptCounts, Stratum
from expunge.metrics.prompts import Prompts
from expunge.metrics.worlds import World
from expunge.models.patch import Patch
from expunge.records import Detection, Prompt, Request, Target, asked

CHANNELS = ("red", "green", "blue")
LABELS = {"red": "church", "green": "house", "blue": "dog"}


class ColourJudge:
    """Names the strongest colour channel of an image; abstains where two are within `margin`."""

    def __init__(self, margin: float = 0.0) -> None:
        self.name, self.margin, self.calls = f"colour-judge-{margin}@abcd", margin, 0
        self.questions = {"object": tuple(LABELS.values())}

    def __call__(self, pictures: Tensor) -> list[Detection]:
        self.calls += 1
        out = []
        for mean in pictures.mean((2, 3)):
            (first, second), (best, _) = mean.topk(2)
            labels = {"object": LABELS[CHANNELS[int(best)]]} if first - second > self.margin else {}
            out.append(Detection(answers=labels, confidence={"object": float(first)}))
        return out


class Coarse:
    """Features: the image in 2 x 2 patches. Distance: mean squared difference."""

    width = 12

    def __init__(self) -> None:
        self.name = "coarse@1234"

    def __call__(self, a: Tensor, b: Tensor | None = None) -> Tensor:
        if b is not None:
            return (a - b).square().flatten(1).mean(1)
        return torch.nn.functional.adaptive_avg_pool2d(a, 2).flatten(1)


class Reddish:
    """A "CLIP" that finds every text as true as the image is red."""

    name = "reddish@5678"

    def __call__(self, pictures: Tensor, texts: Sequence[str]) -> Tensor:
        return pictures[:, 0].flatten(1).mean(1)


class ColourPrompts:
    """A few prompts within the test tokenizer's sixteen tokens."""

    name = "colours"
    strata: Mapping[str, Stratum] = {}

    def request(self, concept: str | Sequence[str], anchor: str | Sequence[str] = "", keep: Sequence[str] = ()
                ) -> Request:
        first, *also = (Target(concept=name, prompts=(f"a {name}",), anchor=instead)
                        for name, instead in asked(concept, anchor, keep))
        return Request(concept=first.concept, prompts=first.prompts, anchor=first.anchor, keep=tuple(keep),
                       also=tuple(also))

    def of(self, request: Request, counts: PromptCounts, strata: Sequence[str] = ()) -> list[Prompt]:
        asks = {"direct": ("a {}", "{}"), "held_out": ("a picture of a {}", "a {} on a hill")}
        out = [Prompt(text=text.format(name), role=role, labels={"object": name})  # type: ignore[arg-type]
               for role, pool in asks.items() for name in request.concepts for text in pool[:getattr(counts, role)]]
        keeps = {"near": ("house", ("a house", "a house by the sea")), "far": ("dog", ("a dog", "a picture of a dog"))}
        out += [Prompt(text=text, role=role, labels={"object": name})  # type: ignore[arg-type]
                for role, (name, pool) in keeps.items() if name not in request.concepts
                for text in pool[:getattr(counts, role)]]
        return [*out, *([Prompt(text="", role="empty")] * counts.empty)]

    def question(self, concept: str) -> str:
        return "object"


class Named:
    """Judges that are given, whatever is asked."""

    there = True

    def __init__(self, judge: Judge, second: Judge | None = None) -> None:
        self.first, self._second = judge, second

    def judge(self, request: Request, asks: Prompts) -> Judge:
        return self.first

    def second(self, request: Request, asks: Prompts) -> Judge | None:
        return self._second


def colour_world(margin: float = 0.0, clip: bool = True) -> World:
    """Colours as features, "CLIP" and judge; nothing is known to be unknown."""
    return World("colours", ColourPrompts(), Named(ColourJudge(margin)), None, Coarse, Coarse,
                 lambda: Reddish() if clip else None, random_patches)


def random_patches() -> Moments:
    x = torch.rand(50, 12, generator=torch.Generator().manual_seed(0))
    return Moments("coarse@1234", x.mean(0).double(), x.double().T.cov(), 50, x, "random patches")


SMALL = EvaluateSettings(seeds=2, steps=2, guidance=1.0, batch=4, floor_items=3, draws=100, fid_draws=20, strips=1)


def edit(model: Any, size: float) -> Patch:
    """Every cross-attention weight shifted by noise of `size`."""
    draw = torch.Generator().manual_seed(1)
    tensors = {name: value.detach() + size * torch.randn(value.shape, generator=draw)
               for name, value in model.parameters_in("xattn").items()}
    request = ColourPrompts().request("church")
    return Patch.of(tensors, model=model, request=request, method="noise", settings={}, seed=1)


class SideJudge(ColourJudge):
    """"church" where the right half is brighter than the left, which depends mostly on the seed; else "house"."""

    def __call__(self, pictures: Tensor) -> list[Detection]:
        left, right = pictures.chunk(2, dim=3)
        return [Detection(answers={"object": "church" if value > 0 else "house"}, confidence={"object": 1.0})
                for value in (right - left).mean((1, 2, 3))]


def attacked_world() -> World:
    """A world of sides, with a second detector and without a null control."""
    return colour_world().but(judges=Named(SideJudge(), ColourJudge()))
