"""What measures: judges, feature extractors, perceptual distances. Never a model.

Images are float32 (B, 3, H, W) in [0, 1] throughout; `featured` also takes them from disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from expunge.config import Settings, knob
from expunge.errors import ExpungeError
from expunge.records import Detection, Prompt, Score

if TYPE_CHECKING:  # help texts need the settings below and no torch
    from torch import Tensor

    from expunge.pixels import Pictures


@dataclass(frozen=True)
class Aim:
    """What an edit must make disappear: the answer `concept` to the judge's question `question`.

    Attributes:
        joint: of a thing that goes only together with another, all (question, label) that must be seen at once; then
            `concept` is its name alone, and `question` the first of them. () for any other concept.
    """

    concept: str
    question: str
    joint: tuple[tuple[str, str], ...] = ()

    @property
    def wanted(self) -> Mapping[str, str]:
        """The answers that together say that it is there, by question."""
        return dict(self.joint) or {self.question: self.concept}


def shows(answers: Mapping[str, str], aim: Aim) -> bool | None:
    """Whether a judge's answers (label by question) say that what must go is there; None where they do not decide.

    One wrong answer decides: a house is no church in pixel art, whatever its style.
    """
    seen = [answers[question] == label for question, label in aim.wanted.items() if question in answers]
    if not all(seen):
        return False
    return True if len(seen) == len(aim.wanted) else None


def shows_any(answers: Mapping[str, str], aims: Sequence[Aim]) -> bool | None:
    """Whether the answers say that any of several is there; None where they do not decide."""
    seen = [shows(answers, aim) for aim in aims]
    return True if True in seen else None if None in seen else False


NO_NUMBERS = Detection(error="the image has pixels that are not numbers")


@dataclass(frozen=True)
class Stratum:
    """A way of asking, which is measured by itself.

    Attributes:
        name: as scores spell it ("short"); words: what a person reads.
        plain: whether it says no more than what should be there, as most people do.
        asked: whether an evaluation asks it unless it is told otherwise.
    """

    name: str
    words: str
    plain: bool = False
    asked: bool = True


class Judge(Protocol):
    """A detector that answers named questions about images and may abstain.

    Attributes:
        name: "emoji-judge@<first 8 of the hash of all that decides its answers>".
        questions: labels it can answer with, by question.
    """

    @property
    def name(self) -> str: ...

    @property
    def questions(self) -> Mapping[str, tuple[str, ...]]: ...

    def __call__(self, pictures: Tensor) -> list[Detection]:
        """One detection per image, without `shot` and `detector`; a failure has an `error` and is no exception."""
        ...


@runtime_checkable
class OfKin(Protocol):
    """A second judge that may err where the first errs. Attributes: kin, what both have in common; "" for nothing."""

    @property
    def kin(self) -> str: ...


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
    """A perceptual distance between paired images. Attributes: name with hash."""

    @property
    def name(self) -> str: ...

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """float32 (B,), 0 for equal images, larger is more different."""
        ...


class TextImage(Protocol):
    """A CLIP: cosine between images and texts. Attributes: name with hash."""

    @property
    def name(self) -> str: ...

    def __call__(self, pictures: Tensor, texts: Sequence[str]) -> Tensor:
        """float32 (B,): cosine of image i and text i, in [-1, 1]."""
        ...


@runtime_checkable
class Streams(Protocol):
    """A feature extractor that takes `Pixels`, too: it reads them itself, in batches of its own.

    Attributes:
        streams: True. What has no such attribute is given images in chunks.
    """

    @property
    def streams(self) -> bool: ...


def featured(extractor: Features, pictures: Pictures) -> Tensor:
    """float32 (N, F): features of images in memory or on disk."""
    import torch

    from expunge.pixels import chunks

    if isinstance(pictures, torch.Tensor):
        return extractor(pictures)
    if isinstance(extractor, Streams) and extractor.streams:
        return extractor(pictures)  # type: ignore[arg-type]  # it says that it takes them
    parts = [extractor(chunk) for chunk in chunks(pictures)]
    return torch.cat(parts) if parts else torch.zeros(0, extractor.width)


@dataclass(frozen=True)
class Moments:
    """Feature statistics of real images, so that FID and KID need no images.

    Attributes:
        features: name (with hash) of the extractor.
        mean: float64 (F,); covariance: float64 (F, F); n: images behind them, 0 where nobody knows.
        sample: float32 (M, F) features for KID; none (M = 0) where only moments were kept.
        source: in words, which images.
    """

    features: str
    mean: Tensor
    covariance: Tensor
    n: int
    sample: Tensor
    source: str


class Autoencoder(Protocol):
    """The part of a model that images pass through."""

    def encode_pixels(self, pixels: Tensor) -> Tensor: ...

    def decode(self, z: Tensor) -> Tensor: ...


class Newcomer(Protocol):
    """A thing that no model ever knew, to be taught to one: the measure of how fast anything is learned.

    Attributes:
        name: what prompts call it; question: the judge's question that `name` answers.
        prompts: what to ask for it.
    """

    @property
    def name(self) -> str: ...

    @property
    def question(self) -> str: ...

    @property
    def prompts(self) -> Sequence[Prompt]: ...

    def pictures(self, count: int, height: int, width: int) -> tuple[Tensor, tuple[str, ...]]:
        """Images to teach with, float32 (N, 3, H, W) in [0, 1], and their captions."""
        ...

    def judge(self, model: Autoencoder, features: Features, others: Tensor) -> ScoredJudge:
        """Who tells it from everything else in the model's images.

        Args:
            others: images (N, 3, H, W) that show something else: at least 12 that the model drew before it was taught.
        """
        ...


class ScoredJudge(Judge, Protocol):
    """A judge that says how often it is right on images that it did not learn from."""

    @property
    def score(self) -> Score: ...


class PromptCounts(Settings):
    """How many prompts of each role are asked, over all strata; 0 leaves the role out. Each of several concepts gets
    its own ones."""

    direct: int = knob(32, "prompts that name the concept, for each concept", ge=0)
    held_out: int = knob(12, "prompts that name it and spell everything else out, for each concept", ge=0)
    paraphrase: int = knob(8, "prompts with a synonym of the concept, for each concept", ge=0)
    implicit: int = knob(8, "prompts that elicit the concept without its name, for each concept", ge=0)
    near: int = knob(40, "prompts for near neighbours", ge=0)
    far: int = knob(40, "prompts for far things", ge=0)
    style: int = knob(0, "prompts for other styles", ge=0)
    empty: int = knob(1, "empty prompts (0 or 1)", ge=0, le=1)
    never_seen: int = knob(8, "prompts for things that the model never saw (null control)", ge=0)


def aim_of(prompt: Prompt, aims: Sequence[Aim]) -> Aim:
    """What must not be found in an image of `prompt`, which asks for one of several concepts: the one that it names.

    Raises:
        ExpungeError: there are several aims, and the prompt carries the label of none (a mistake of who asks).
    """
    for aim in aims:
        if len(aims) == 1 or all(prompt.labels.get(question) == label for question, label in aim.wanted.items()):
            return aim
    raise ExpungeError(f"nothing says for which of several concepts {prompt.text!r} asks",
                       accepted="a label with the name of one of them")
