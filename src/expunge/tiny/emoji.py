"""The embedded world: what can be asked of emoji-64, who judges its images, and what measures them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from expunge import untrusted
from expunge.errors import ModelError
from expunge.metrics.base import Distance, Features, Judge, Moments, Newcomer
from expunge.metrics.characters import CHARACTERS, Scene
from expunge.metrics.clip import ClipJudge, LocalClip
from expunge.metrics.imagenet import second_missing
from expunge.metrics.imagenet_judge import ImageNetJudge
from expunge.metrics.invented import InventedCharacter
from expunge.metrics.judge import EmojiJudge
from expunge.metrics.prompts import Prompts, aims_of
from expunge.metrics.worlds import World
from expunge.pixels import Pictures
from expunge.records import Request
from expunge.tiny.prompts import EmojiPrompts, plainly
from expunge.tiny.world import BACKGROUNDS, NEVER_SEEN, STYLES, THINGS

WEIGHTS = Path(__file__).parent / "weights"
KIN = "it learned from captions of the drawings that the first judge learned from, so both may err alike"
SCENE = Scene("a flat emoji of a {name} on {ground} background", BACKGROUNDS)
"""Where invented characters stand, in the words of the drawings' captions."""


def emoji_world(folder: Path = WEIGHTS) -> World:
    """Prompts, judges, CLIP and real-image statistics of emoji-64."""
    judges = EmojiJudges(folder)
    return World("emoji", EmojiPrompts(), judges, NeverSeen(), judges.features, judges.distance,
                 partial(LocalClip, folder / "clip"), partial(drawings, folder))


def judge_features() -> Features:
    """The embedded judge as a feature extractor."""
    return EmojiJudges().features()


def judge_distance() -> Distance:
    """The embedded judge as a perceptual distance."""
    return EmojiJudges().distance()


def drawings(folder: Path = WEIGHTS) -> Moments:
    """Statistics of the drawings that emoji-64 learned from, augmented, in the embedded judge's features.

    Raises:
        ModelError: the file is missing, damaged, or was made with another judge.
    """
    file, judge = folder / "real.safetensors", EmojiJudge(folder).name
    try:
        with untrusted.tensors(file) as opened:
            meta = opened.metadata()
            mean, covariance, sample = (opened.get_tensor(key) for key in ("mean", "covariance", "sample"))
    except Exception as error:
        raise ModelError(f"statistics of real images in {file} cannot be read: {error}") from error
    if meta["features"] != judge:
        raise ModelError(f"{file} was made with {meta['features']}", accepted=judge, remedy="bake the model again")
    return Moments(meta["features"], mean, covariance, int(meta["n"]), sample, meta["source"])


class EmojiJudges:
    """`Judges`: the network that was trained on the drawings, and another that confirms."""

    there = True

    def __init__(self, folder: Path = WEIGHTS) -> None:
        self._folder = folder

    @cached_property
    def _judge(self) -> EmojiJudge:
        return EmojiJudge(self._folder)

    @cached_property
    def _second(self) -> ImageNetJudge:
        return ImageNetJudge(self._folder)

    def judge(self, request: Request, asks: Prompts) -> Judge:
        """One judge for every request: it knows all things and styles of the world."""
        return self._judge

    def second(self, request: Request, asks: Prompts) -> Judge | None:
        """Linear heads on the features of a network that nobody here trained, where the extra `second` is installed.

        Elsewhere CLIP zero-shot among the labels of the concepts' questions: another network, trained on captions of
        the same drawings, so it is kin to the first judge and says so. The judge's name tells which;
        `metrics.imagenet.second_missing` says why, and what to install.
        """
        if not second_missing():
            return self._second
        asked = dict.fromkeys(question for aim in aims_of(asks, request) for question in aim.wanted)
        labels = {"object": (*THINGS,), "style": (*STYLES,)}
        return ClipJudge(LocalClip(self._folder / "clip"), {
            question: {label: [plainly(label)] for label in labels[question]} for question in asked}, kin=KIN)

    def features(self) -> Features:
        """The first judge's features."""
        return _JudgeFeatures(self._judge)

    def distance(self) -> Distance:
        """The distance of the first judge's features."""
        return _JudgeDistance(self._judge)


class NeverSeen:
    """`Unknown` to emoji-64: things that it was not taught, and invented characters."""

    def control(self, request: Request) -> Request | None:
        """The first thing that the model never saw."""
        return EmojiPrompts().request(NEVER_SEEN[0]) if request.concept not in NEVER_SEEN else None

    def newcomer(self, name: str = "") -> Newcomer:
        """The invented character of that name, or the first one. UserError: no such character."""
        return InventedCharacter(name or next(iter(CHARACTERS)), SCENE)


@dataclass(frozen=True)
class _JudgeFeatures:
    """The judge as a feature extractor."""

    judge: EmojiJudge
    streams: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return self.judge.name

    @property
    def width(self) -> int:
        return self.judge.width

    def __call__(self, pictures: Pictures) -> Tensor:
        return self.judge.features(pictures)


@dataclass(frozen=True)
class _JudgeDistance:
    """The judge as a perceptual distance."""

    judge: EmojiJudge

    @property
    def name(self) -> str:
        return f"{self.judge.name}/distance"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return self.judge.distance(a, b)
