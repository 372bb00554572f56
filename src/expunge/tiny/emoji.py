"""The embedded world as a `World`: what can be asked of emoji-64, and what measures it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from expunge.errors import ModelError, UserError
from expunge.metrics.base import Distance, Features, Judge, Moments, PromptCounts
from expunge.metrics.clip import ClipJudge, LocalClip
from expunge.metrics.judge import EmojiJudge
from expunge.records import Prompt, Request, Role
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

    def request(self, concept: str, anchor: str = "", keep: Sequence[str] = ()) -> Request:
        """A full request for a thing or a style of the world.

        Raises:
            UserError: unknown concept, anchor or keep; the concept among the things to keep or its own anchor.
        """
        for what, names in (("concept", (concept,)), ("anchor", (anchor,) if anchor else ()), ("keep", keep)):
            for name in names:
                if name not in THINGS and name not in STYLES:
                    raise _unknown(what, name)
        if concept in keep:
            raise UserError(f"'{concept}' is to be unlearned and to be kept", accepted="one of the two",
                            remedy="take it out of the things to keep")
        if concept == anchor:
            raise UserError(f"'{concept}' is its own anchor", accepted="another thing, or no anchor")
        kept = tuple(_plain(name) for name in (keep or near(concept)))
        return Request(concept=concept, prompts=tuple(_training(concept)), anchor=anchor, keep=kept)

    def prompts(self, request: Request, counts: PromptCounts) -> list[Prompt]:
        """The evaluation's prompts for `request`, role by role, no text twice.

        A thing that was never seen has no neighbours that an edit could hurt, so its list has none. A style has no
        words but its names, so nothing elicits it without them; its neighbours are the other styles.
        """
        concept = request.concept
        if concept not in THINGS and concept not in STYLES:
            raise _unknown("concept", concept)
        style, neighbours = concept in STYLES, near(concept)
        sources: list[tuple[int, Iterator[Prompt]]] = [
            (counts.direct, _ask(concept, "direct", _forget(concept, "name"), _STYLED_TEMPLATES)),
            (counts.held_out, _ask(concept, "held_out", _forget(concept, "name"), HELD_OUT_TEMPLATES)),
            (counts.paraphrase, _ask(concept, "paraphrase", _forget(concept, "synonym"), _STYLED_TEMPLATES)),
            (0 if style else counts.implicit,
             _ask(concept, "implicit", _forget(concept, "hint"), _STYLED_TEMPLATES)),
            (counts.near if neighbours else 0, _ask(concept, "near", _keep(concept, neighbours), HELD_OUT_TEMPLATES)),
            (counts.far, _ask(concept, "far", _keep(concept, far(concept) or SEEN), HELD_OUT_TEMPLATES)),
            (0 if style else counts.style, _ask(concept, "style", _keep(concept, tuple(STYLES)), HELD_OUT_TEMPLATES)),
            (counts.never_seen, _ask(concept, "never_seen", _keep(concept, NEVER_SEEN), _STYLED_TEMPLATES)),
        ]
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

    def second(self, request: Request) -> Judge | None:
        """CLIP zero-shot among the labels of the concept's question: another network, trained on captions."""
        labels = (*THINGS,) if self.question(request.concept) == "object" else (*STYLES,)
        return ClipJudge(self.clip(), {self.question(request.concept): {label: [_plain(label)] for label in labels}})

    def control(self, request: Request) -> Request | None:
        """The first thing that the model never saw."""
        return self.request(NEVER_SEEN[0]) if request.concept not in NEVER_SEEN else None

    def features(self) -> Features:
        return _JudgeFeatures(self._judge)

    def distance(self, name: str = "default") -> Distance:
        if name not in {"default", "judge"}:
            raise UserError(f"unknown distance {name!r}", accepted="judge (the default)")
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


def _training(concept: str) -> Iterator[str]:
    """Prompts that ask for the concept by its name, in training templates: what an edit may train on."""
    rng = random.Random(f"training/{concept}")
    templates = [t for t in TRAIN_TEMPLATES if concept not in STYLES or "style}" in t]
    texts = (fill(template, scene) for scene, template in _pairs(_scenes(concept), templates, rng, 24))
    yield from dict.fromkeys(texts)


def _pairs(scenes: Sequence[Scene], templates: Sequence[str], rng: random.Random, count: int
           ) -> Iterator[tuple[Scene, str]]:
    """`count` seeded pairs of a scene and a template, every template in turn."""
    order = list(templates)
    rng.shuffle(order)
    for index in range(count):
        yield rng.choice(scenes), order[index % len(order)]


def _scenes(concept: str) -> list[Scene]:
    pairs = cells()
    wanted = [(o, s) for o, s in pairs if concept in (o, s)] or [(concept, s) for s in STYLES]
    return [Scene(o, s, b) for o, s in wanted for b in BACKGROUNDS]


def _forget(concept: str, names: str) -> _Draw:
    """Scenes that show the concept, called by its "name", a "synonym" or a "hint" (a style has none)."""
    scenes, style = _scenes(concept), concept in STYLES
    words = {"name": (concept,), "synonym": STYLES[concept][1:] if style else THINGS[concept].synonyms,
             "hint": () if style else THINGS[concept].hints}[names]

    def draw(rng: random.Random) -> tuple[Scene, str, str]:
        scene = rng.choice(scenes)
        word = rng.choice(words)
        return (scene, scene.object, word) if style else (scene, word, scene.style)

    return draw


def _keep(concept: str, names: Sequence[str]) -> _Draw:
    """Scenes of the named things (or styles), drawn evenly by name, that do not show the concept."""
    pairs = [(o, s) for o, s in cells((*SEEN, *NEVER_SEEN))
             if concept not in (o, s) and (o in names or (s in names and o in SEEN))]
    grounds = list(BACKGROUNDS)

    def draw(rng: random.Random) -> tuple[Scene, str, str]:
        name = rng.choice([name for name in names if name != concept])
        object_, style = rng.choice([pair for pair in pairs if name in pair])
        return Scene(object_, style, rng.choice(grounds)), object_, style

    return draw


def _ask(concept: str, role: Role, draw: _Draw, templates: Sequence[str]) -> Iterator[Prompt]:
    """Seeded prompts of one role; stops after many draws without end in sight (the stream is finite in texts)."""
    rng = random.Random(f"{role}/{concept}")
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
    return UserError(f"unknown {what} {name!r}" + (f" (did you mean {close[0]!r}?)" if close else ""),
                     accepted=", ".join(known), remedy="see `expunge ls concepts`")
