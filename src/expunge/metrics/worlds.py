"""What goes with a model where nobody names anything else: one of each part, in a bundle.

A part can be replaced by itself: `World.but(prompts=...)` here, an option with its registered name on the command line
(`detectors.choosing`). Nothing is loaded before it is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from expunge.errors import UserError
from expunge.metrics.base import Distance, Features, Judge, Moments, Newcomer, TextImage
from expunge.metrics.prompts import Prompts
from expunge.records import Request
from expunge.registry import WORLDS


class Judges(Protocol):
    """Who says what images show. A judge must tell a concept from what is asked beside it, so it is given the prompts.

    Attributes:
        there: whether `judge` gives one; some need a file that the user supplies.
    """

    @property
    def there(self) -> bool: ...

    def judge(self, request: Request, asks: Prompts) -> Judge:
        """A judge that can tell the request's concepts from what `asks` asks for beside them.

        Raises:
            UserError: there is none.
        """
        ...

    def second(self, request: Request, asks: Prompts) -> Judge | None:
        """A detector of another make than `judge`, which confirms what an attack found; None where there is none."""
        ...


class Unknown(Protocol):
    """What a model never knew: the measure of what is found, and of how fast anything is learned."""

    def control(self, request: Request) -> Request | None:
        """A request for something that the model never knew, for null controls of attacks; None where none is known."""
        ...

    def newcomer(self, name: str = "") -> Newcomer | None:
        """Something invented, to be taught; None where nothing is sure to be unknown.

        Args:
            name: which; "" means any. UserError for a name that is none.
        """
        ...


class NoJudges:
    """`Judges` of a world without any."""

    there = False

    def judge(self, request: Request, asks: Prompts) -> Judge:
        """UserError: there is none."""
        raise UserError("nobody to say what images show", accepted="a detector: --detector NAME",
                        remedy="see `expunge ls detectors`")

    def second(self, request: Request, asks: Prompts) -> Judge | None:
        """None."""
        return None


def no_features() -> Features:
    """UserError: a world has no features of its own."""
    raise UserError("no features to compare images by", accepted="--features NAME", remedy="see `expunge ls features`")


def _ssim() -> Distance:
    from expunge.metrics.perceptual import Ssim

    return Ssim()


def nothing() -> None:
    """None: a part that a world does not have."""


@dataclass(frozen=True)
class World:
    """What a model can be asked about and measured with: one of each part.

    Attributes:
        name: as a model's folder says it in `expunge.json`.
        prompts: who asks. judges: who answers. unknown: what the model never knew; None where nobody knows.
        features: gives the extractor of FID and KID. distance: gives the perceptual distance of integrity.
        clip: gives the CLIP for scores, or None (then they are reported as not measured).
        reference: gives statistics of real images in these features, or None (then FID against real images is
            reported as not measured).
        own: who completes requests to train on, where the user named other prompts to measure with; None: `prompts`.
        chosen: whether the parts that a user named are in it (`detectors.choosing`); they are put in once.
    """

    name: str
    prompts: Prompts
    judges: Judges = field(default_factory=NoJudges)
    unknown: Unknown | None = None
    features: Callable[[], Features] = no_features
    distance: Callable[[], Distance] = _ssim
    clip: Callable[[], TextImage | None] = nothing
    reference: Callable[[], Moments | None] = nothing
    own: Prompts | None = None
    chosen: bool = False

    @property
    def completes(self) -> Prompts:
        """Who completes requests to train on: the prompts of the model's world, whatever is measured with."""
        return self.own or self.prompts

    def but(self, **parts: Any) -> World:
        """The same with other parts, by the attributes' names."""
        own = {part.name: getattr(self, part.name) for part in fields(World)}
        return World(**{**own, **parts})

    def judge(self, request: Request) -> Judge:
        """Of `judges`, for these prompts. UserError: there is none."""
        return self.judges.judge(request, self.prompts)

    def second(self, request: Request) -> Judge | None:
        """Of `judges`, for these prompts."""
        return self.judges.second(request, self.prompts)


def world_of(kind: str, model: str, clip: str = "", prompts: str = "", add_templates: bool = False,
             margin: float | None = None, default_role: str = "", name_in: Sequence[str] = ()) -> World:
    """The world called `kind`, of the model called `model`.

    Args:
        clip: open world: folder or Hub id of the CLIP that judges; prompts: file of prompts by role;
            add_templates: ask templates beside those of the file; margin: least lead of the CLIP judge's answer, None
            means its own; default_role: of prompts in a file without roles; name_in: LANGUAGE=NAME of the concept.

    Raises:
        UserError: unknown world, one that a plug-in makes wrongly, or settings of the open world for a model with one
            of its own.
    """
    maker = WORLDS.get(kind)
    options: dict[str, Any] = {"clip": clip, "prompts": prompts, "add_templates": add_templates, "margin": margin,
                               "default_role": default_role, "name_in": tuple(name_in)}
    own = {name: value for name, value in options.items() if value or (name == "margin" and value is not None)}
    if own and not {*own} <= {*inspect.signature(maker).parameters}:
        raise UserError(f"{', '.join(own)} given, but {model} has a world of its own ({kind})",
                        accepted="these settings for models whose world takes them, as the open one does",
                        remedy="leave them out")
    with WORLDS.blaming(kind):
        world = maker(**own)
    if not isinstance(world, World):
        raise WORLDS.unusable(kind, f"gives a {type(world).__name__}, and no World")
    return world
