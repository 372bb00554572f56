"""What measures: judges, feature extractors, perceptual distances, and the world that supplies them. Never a model.

Pictures are float32 (B, 3, H, W) in [0, 1] throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from expunge.config import Settings, knob
from expunge.records import Prompt, Request

if TYPE_CHECKING:  # help texts need the settings below and no torch
    from torch import Tensor


@dataclass(frozen=True)
class Answer:
    """A judge's answer on one picture.

    Attributes:
        labels: label by question; a question it abstained from is missing.
        confidence: calibrated probability of the top label, by question.
        error: why it failed; "" when it worked.
    """

    labels: Mapping[str, str]
    confidence: Mapping[str, float]
    error: str = ""


class Judge(Protocol):
    """A detector that answers named questions about pictures and may abstain.

    Attributes:
        name: "emoji-judge@<first 8 of the weights' hash>".
        questions: labels it can answer with, by question.
    """

    @property
    def name(self) -> str: ...

    @property
    def questions(self) -> Mapping[str, tuple[str, ...]]: ...

    def __call__(self, pictures: Tensor) -> list[Answer]:
        """One answer per picture; a failure is an Answer with `error`, not an exception."""
        ...


class Features(Protocol):
    """A pinned feature extractor for FID and KID. Attributes: name with hash, width of a feature."""

    @property
    def name(self) -> str: ...

    @property
    def width(self) -> int: ...

    def __call__(self, pictures: Tensor) -> Tensor:
        """float32 (B, width)."""
        ...


class Distance(Protocol):
    """A perceptual distance between paired pictures. Attributes: name with hash."""

    @property
    def name(self) -> str: ...

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """float32 (B,), 0 for equal pictures, larger is more different."""
        ...


class TextImage(Protocol):
    """A CLIP: cosine between pictures and texts. Attributes: name with hash."""

    @property
    def name(self) -> str: ...

    def __call__(self, pictures: Tensor, texts: Sequence[str]) -> Tensor:
        """float32 (B,): cosine of picture i and text i, in [-1, 1]."""
        ...


@dataclass(frozen=True)
class Moments:
    """Feature statistics of real pictures, so that FID and KID need no pictures.

    Attributes:
        features: name (with hash) of the extractor.
        mean: float64 (F,); covariance: float64 (F, F); n: pictures behind them.
        sample: float32 (M, F) features for KID.
        source: in words, which pictures.
    """

    features: str
    mean: Tensor
    covariance: Tensor
    n: int
    sample: Tensor
    source: str


class PromptCounts(Settings):
    """How many prompts of each role are asked; 0 leaves the role out."""

    direct: int = knob(8, "prompts like those of training", ge=0)
    held_out: int = knob(8, "prompts from templates that training does not use", ge=0)
    paraphrase: int = knob(8, "prompts with a synonym of the concept", ge=0)
    implicit: int = knob(8, "prompts that elicit the concept without its name", ge=0)
    near: int = knob(12, "prompts for near neighbours", ge=0)
    far: int = knob(12, "prompts for far things", ge=0)
    style: int = knob(0, "prompts for other styles", ge=0)
    empty: int = knob(1, "empty prompts (0 or 1)", ge=0, le=1)
    never_seen: int = knob(4, "prompts for things that the model never saw (null control)", ge=0)


class World(Protocol):
    """What a model can be asked about and measured with: prompts, judge, features, CLIP."""

    @property
    def name(self) -> str: ...

    def request(self, concept: str, anchor: str = "", keep: Sequence[str] = ()) -> Request:
        """A full request: prompts that ask for the concept, prompts to keep.

        Raises:
            UserError: an unknown or empty concept, or one that is among the things to keep.
        """
        ...

    def prompts(self, request: Request, counts: PromptCounts) -> list[Prompt]:
        """The evaluation's prompts, a fixed order, no two alike."""
        ...

    def question(self, concept: str) -> str:
        """Which of the judge's questions decides whether the concept is there ("object", "style", ...)."""
        ...

    def judge(self, request: Request) -> Judge:
        """A judge that can tell the request's concept from what `prompts` asks for beside it."""
        ...

    def second(self, request: Request) -> Judge | None:
        """A detector of another make than `judge`, which confirms what an attack found; None where there is none."""
        ...

    def control(self, request: Request) -> Request | None:
        """A request for something that the model never knew, for null controls of attacks; None where none is known."""
        ...

    def features(self) -> Features: ...

    def distance(self, name: str = "default") -> Distance:
        """The perceptual distance for integrity ("default" or one of the world's names). UserError if unknown."""
        ...

    def clip(self) -> TextImage | None:
        """The CLIP for scores, or None where there is none (then CLIP score is reported as not measured)."""
        ...

    def real(self) -> Moments | None:
        """Statistics of real pictures, or None (then FID against real pictures is reported as not measured)."""
        ...
