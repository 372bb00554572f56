"""The embedded world as a `World`: what can be asked of emoji-64, and what measures it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from expunge.errors import ModelError, UserError
from expunge.metrics.base import Autoencoder, Distance, Features, Judge, Moments, PromptCounts, Stranger
from expunge.metrics.clip import ClipJudge, LocalClip
from expunge.metrics.imagenet import second_missing
from expunge.metrics.imagenet_judge import ImageNetJudge
from expunge.metrics.judge import EmojiJudge
from expunge.metrics.stlpips import StLpips
from expunge.records import Prompt, Request, Role, Target, asked
from expunge.tiny.characters import CHARACTERS
from expunge.tiny.newcomer import character
from expunge.tiny.world import (
    BACKGROUNDS,
    HELD_OUT_TEMPLATES,
    NEVER_SEEN,
    SEEN,
    STYLES,
    THINGS,
    TRAIN_TEMPLATES,
    Scene,
    cells,
    far,
    fill,
    near,
)

WEIGHTS = Path(__file__).parent / "weights"
_STYLED_TEMPLATES = tuple(t for t in TRAIN_TEMPLATES if "style}" in t and "{background}" not in t)
_Draw = Callable[[random.Random], tuple[Scene, str, str]]
"""A drawing of scenes: the scene, the word for its object and the word for its style."""


@dataclass(frozen=True)
class _JudgeFeatures:
    """The judge as a feature extractor."""

    judge: EmojiJudge

    @property
    def name(self) -> str:
        return self.judge.name

    @property
    def width(self) -> int:
        return self.judge.width

    def __call__(self, pictures: Tensor) -> Tensor:
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


class EmojiWorld:
    """Prompts, judge, CLIP and real-picture statistics of emoji-64.

    Every prompt list is a fixed function of the concept: a longer one begins with the shorter one.
    """

    name = "emoji"

    def __init__(self, folder: Path = WEIGHTS) -> None:
        self._folder = folder

    def request(self, concept: str | Sequence[str], anchor: str | Sequence[str] = "", keep: Sequence[str] = ()
                ) -> Request:
        """A full request for things or styles of the world. Prompts for one of several name none of the others.

        Raises:
            UserError: unknown concept, anchor or keep; a contradiction (`records.asked`); a thing with all styles.
        """
        named = asked(concept, anchor, keep)
        gone = tuple(name for name, _ in named)
        for what, names in (("concept", gone), ("anchor", [name for _, name in named if name]), ("keep", keep)):
            for name in names:
                if name not in THINGS and name not in STYLES:
                    raise _unknown(what, name)
        first, *also = (Target(concept=name, prompts=tuple(_training(name, gone)), anchor=instead)
                        for name, instead in named)
        kept = tuple(_plain(name) for name in (keep or _near(gone)))
        return Request(concept=first.concept, prompts=first.prompts, anchor=first.anchor, keep=kept, also=tuple(also))

    def vocabulary(self, things: Sequence[str] = ()) -> Mapping[str, tuple[str, ...]]:
        """Training prompts for things or styles; without any named, for all things that the model has seen.

        Raises:
            UserError: an unknown thing.
        """
        for name in things:
            if name not in THINGS and name not in STYLES:
                raise _unknown("thing", name)
        return {name: tuple(_training(name, ())) for name in things or SEEN}

    def prompts(self, request: Request, counts: PromptCounts) -> list[Prompt]:
        """The evaluation's prompts for `request`, role by role, no text twice.

        A thing that was never seen has no neighbours that an edit could hurt, so its list has none. A style has no
        words but its names, so nothing elicits it without them; its neighbours are the other styles. Prompts to keep
        show none of several concepts, and far ones are far from all of them.
        """
        gone = request.concepts
        for name in gone:
            if name not in THINGS and name not in STYLES:
                raise _unknown("concept", name)
        asks: tuple[tuple[Role, int, str, Sequence[str]], ...] = (
            ("direct", counts.direct, "name", _STYLED_TEMPLATES),
            ("held_out", counts.held_out, "name", HELD_OUT_TEMPLATES),
            ("paraphrase", counts.paraphrase, "synonym", _STYLED_TEMPLATES),
            ("implicit", counts.implicit, "hint", _STYLED_TEMPLATES))
        sources = [(0 if words == "hint" and name in STYLES else count,
                    _ask(name, role, _forget(name, words, gone), templates))
                   for role, count, words, templates in asks for name in gone]
        styles = () if any(name in STYLES for name in gone) else tuple(STYLES)
        keeps: tuple[tuple[Role, int, Sequence[str], Sequence[str]], ...] = (
            ("near", counts.near, _near(gone), HELD_OUT_TEMPLATES), ("far", counts.far, _far(gone), HELD_OUT_TEMPLATES),
            ("style", counts.style, styles, HELD_OUT_TEMPLATES),
            ("never_seen", counts.never_seen, NEVER_SEEN, _STYLED_TEMPLATES))
        for role, count, names, templates in keeps:
            draw = _keep(gone, names)
            sources.append((count, _ask("+".join(gone), role, draw, templates) if draw else iter(())))
        out: list[Prompt] = []
        texts: set[str] = set()
        for count, stream in sources:
            taken = 0
            while taken < count and (prompt := next(stream, None)) is not None:
                if prompt.text not in texts:
                    texts.add(prompt.text)
                    out.append(prompt)
                    taken += 1
        if counts.empty:
            out.append(Prompt(text="", role="empty"))
        return out

    def question(self, concept: str) -> str:
        """"style" for a style, "object" for anything else."""
        return "style" if concept in STYLES else "object"

    @cached_property
    def _judge(self) -> EmojiJudge:
        return EmojiJudge(self._folder)

    def judge(self, request: Request) -> Judge:
        """One judge for every request: it knows all things and styles of the world."""
        return self._judge

    @cached_property
    def _second(self) -> ImageNetJudge:
        return ImageNetJudge(self._folder)

    def second(self, request: Request) -> Judge | None:
        """Linear heads on the features of a network that nobody here trained, where the extra `second` is installed.

        Elsewhere CLIP zero-shot among the labels of the concept's question: another network, trained on captions of the
        same drawings. The judge's name tells which; `metrics.imagenet.second_missing` says why, and what to install.
        """
        if not second_missing():
            return self._second
        labels = (*THINGS,) if self.question(request.concept) == "object" else (*STYLES,)
        return ClipJudge(self.clip(), {self.question(request.concept): {label: [_plain(label)] for label in labels}})

    def control(self, request: Request) -> Request | None:
        """The first thing that the model never saw."""
        return self.request(NEVER_SEEN[0]) if request.concept not in NEVER_SEEN else None

    def stranger(self, model: Autoencoder, known: Tensor, count: int) -> Stranger:
        """The first invented character."""
        return character(next(iter(CHARACTERS)), model, self.features(), known, count)

    def features(self) -> Features:
        return _JudgeFeatures(self._judge)

    def distance(self, name: str = "default") -> Distance:
        """ "default" and "judge": the judge's own features; "st-lpips": a published distance (the extra `second`)."""
        if name == "st-lpips":
            return StLpips()
        if name not in {"default", "judge"}:
            raise UserError(f"unknown distance {name!r}", accepted="judge (the default), st-lpips")
        return _JudgeDistance(self._judge)

    def clip(self) -> LocalClip:
        return LocalClip(self._folder / "clip")

    def real(self) -> Moments:
        """Statistics of the drawings that the model learned from, augmented.

        Raises:
            ModelError: the file is missing, damaged, or was made with another judge.
        """
        file = self._folder / "real.safetensors"
        try:
            with safe_open(file, "pt") as opened:
                meta = opened.metadata()
                mean, covariance, sample = (opened.get_tensor(key) for key in ("mean", "covariance", "sample"))
        except Exception as error:
            raise ModelError(f"statistics of real pictures in {file} cannot be read: {error}") from error
        if meta["features"] != self._judge.name:
            raise ModelError(f"{file} was made with {meta['features']}", accepted=self._judge.name,
                             remedy="bake the model again")
        return Moments(meta["features"], mean, covariance, int(meta["n"]), sample, meta["source"])


def _near(gone: Sequence[str]) -> tuple[str, ...]:
    """The neighbours of any of the concepts, without those that go themselves."""
    return tuple(dict.fromkeys(other for name in gone for other in near(name) if other not in gone))


def _far(gone: Sequence[str]) -> tuple[str, ...]:
    """What is far from every thing among the concepts; every thing, where only styles go."""
    things = [name for name in gone if name in THINGS]
    return tuple(other for other in SEEN if all(other in far(name) for name in things) and other not in gone)


def _training(concept: str, gone: Sequence[str]) -> Iterator[str]:
    """Prompts that ask for the concept by its name, in training templates: what an edit may train on."""
    rng = random.Random(f"training/{concept}")
    templates = [t for t in TRAIN_TEMPLATES if concept not in STYLES or "style}" in t]
    texts = (fill(template, scene) for scene, template in _pairs(_scenes(concept, gone), templates, rng, 24))
    yield from dict.fromkeys(texts)


def _pairs(scenes: Sequence[Scene], templates: Sequence[str], rng: random.Random, count: int
           ) -> Iterator[tuple[Scene, str]]:
    """`count` seeded pairs of a scene and a template, every template in turn."""
    order = list(templates)
    rng.shuffle(order)
    for index in range(count):
        yield rng.choice(scenes), order[index % len(order)]


def _scenes(concept: str, gone: Sequence[str]) -> list[Scene]:
    """Scenes that show the concept and none of the others that go."""
    wanted = [pair for pair in cells() if concept in pair] or [(concept, style) for style in STYLES]
    scenes = [Scene(o, s, b) for o, s in wanted for b in BACKGROUNDS if not {o, s} & {*gone} - {concept}]
    if not scenes:
        raise UserError(f"nothing is left in which to show {concept!r}: every style goes, or every thing",
                        accepted="concepts that leave one", remedy="take fewer at once")
    return scenes


def _forget(concept: str, names: str, gone: Sequence[str]) -> _Draw:
    """Scenes that show the concept, called by its "name", a "synonym" or a "hint" (a style has none)."""
    scenes, style = _scenes(concept, gone), concept in STYLES
    words = {"name": (concept,), "synonym": STYLES[concept][1:] if style else THINGS[concept].synonyms,
             "hint": () if style else THINGS[concept].hints}[names]

    def draw(rng: random.Random) -> tuple[Scene, str, str]:
        scene = rng.choice(scenes)
        word = rng.choice(words)
        return (scene, scene.object, word) if style else (scene, word, scene.style)

    return draw


def _keep(gone: Sequence[str], names: Sequence[str]) -> _Draw | None:
    """Scenes of the named things (or styles), drawn evenly by name, that show none of the concepts; None without any.
    """
    pairs = [(o, s) for o, s in cells((*SEEN, *NEVER_SEEN))
             if not {o, s} & {*gone} and (o in names or (s in names and o in SEEN))]
    grounds, kept = list(BACKGROUNDS), [name for name in names if any(name in pair for pair in pairs)]
    if not kept:
        return None

    def draw(rng: random.Random) -> tuple[Scene, str, str]:
        name = rng.choice(kept)
        object_, style = rng.choice([pair for pair in pairs if name in pair])
        return Scene(object_, style, rng.choice(grounds)), object_, style

    return draw


def _ask(about: str, role: Role, draw: _Draw, templates: Sequence[str]) -> Iterator[Prompt]:
    """Seeded prompts of one role; stops after many draws without end in sight (the stream is finite in texts)."""
    rng = random.Random(f"{role}/{about}")
    for index in range(2000):
        scene, word, style_word = draw(rng)
        template = templates[index % len(templates)]
        labels = {"object": scene.object, "style": scene.style,
                  "background": scene.background if "background}" in template else "white"}
        yield Prompt(text=fill(template, scene, word, style_word), role=role, labels=labels)


def _plain(name: str) -> str:
    if name in STYLES:
        return f"an emoji in {name} style"
    return fill("an emoji of {a_object}", Scene(name, "flat"))  # the template names no style


def _unknown(what: str, name: str) -> UserError:
    import difflib

    known = [*THINGS, *STYLES]
    close = difflib.get_close_matches(name, known, n=1)
    told = name if len(name) <= 60 else f"{name[:57]}..."
    return UserError(f"unknown {what} {told!r}" + (f" (did you mean {close[0]!r}?)" if close else ""),
                     accepted=", ".join(known), remedy="see `expunge ls concepts`")
