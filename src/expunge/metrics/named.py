"""Prompts, feature extractors, distances and references by their names, with what the user supplies.

A factory in the registry takes files by role as arguments of these names ("inception", "clip", "alexnet"), and, where
it has a choice, `resizer` and `modified`. What is missing or not asked for is an error: nothing is fetched or replaced.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expunge.errors import UserError
from expunge.metrics.base import Distance, Features, Moments
from expunge.metrics.clip import ClipDistance, ClipFeatures, LocalClip
from expunge.metrics.prompts import Prompts
from expunge.registry import DISTANCES, FEATURES, PROMPTS, REFERENCES, Registry

WHERE = {
    "inception": "pt_inception-2015-12-05-6726825d.pth of pytorch-fid (Apache 2.0), or inception-2015-12-05.pt, which "
                 "clean-fid uses",
    "alexnet": "alexnet-owt-7be5be79.pth of torchvision (BSD 3-Clause)",
    "clip": "a folder with a transformers CLIP, such as that of openai/clip-vit-base-patch32 (MIT)"}
"""Where each role's file is published."""


def features_named(name: str, files: Mapping[str, Path] | None = None, *, resizer: str = "", modified: bool = False,
                   flag: str = "--file ") -> Features:
    """A feature extractor of `expunge ls features`.

    Args:
        files: what the user supplies, by role. resizer: how images become what it sees; "" means its default.
        modified: take files of other hashes than the published ones; names of scores then say "modified".
        flag: the option that gives a file, for error messages.

    Raises:
        UserError: an unknown name, a file that is missing, not asked for or another than is known, a resizer where
            there is no choice.
    """
    made: Features = _made(FEATURES, name, files or {}, resizer, modified, flag)
    return made


def distance_named(name: str, files: Mapping[str, Path] | None = None, *, modified: bool = False,
                   flag: str = "--file ") -> Distance:
    """A distance of `expunge ls distances`; see `features_named`."""
    made: Distance = _made(DISTANCES, name, files or {}, "", modified, flag)
    return made


def clip_features(clip: Path) -> ClipFeatures:
    """The image tower of the CLIP in a folder."""
    return LocalClip(Path(clip)).features()


def clip_distance(clip: Path) -> ClipDistance:
    """The distance in the image tower of the CLIP in a folder."""
    return ClipDistance(LocalClip(Path(clip)))


def prompts_named(name: str, **options: Any) -> Prompts:
    """Prompts of `expunge ls prompts`.

    Args:
        options: what the user set of `prompts` (a file), `add_templates`, `default_role` and `name_in`; unset ones
            count as none.

    Raises:
        UserError: an unknown name, options that these prompts do not take, or a plug-in that gives something else.
    """
    factory, own = PROMPTS.get(name), {option: value for option, value in options.items() if value}
    refused = own.keys() - inspect.signature(factory).parameters.keys()
    if refused:
        raise UserError(f"{', '.join(sorted(refused))} given, but the prompts {name!r} take none of it",
                        accepted="these settings for prompts that take them, as `open` does", remedy="leave them out")
    with PROMPTS.blaming(name):
        made: Prompts = factory(**own)
    _check_gives(PROMPTS, name, made, PROMPTS.needs)
    return made


def reference_named(reference: str, features: str) -> Moments:
    """Statistics of real images: of `expunge ls references`, or a file that `expunge reference` wrote.

    Args:
        features: name, with hash and resizer, of the features that they must be of.

    Raises:
        UserError: neither a name nor a file that can be read, or statistics of other features.
    """
    from expunge.metrics.reference import read_statistics

    if reference not in REFERENCES.names() and Path(reference).expanduser().is_file():
        return read_statistics(Path(reference).expanduser(), features).moments
    factory = REFERENCES.get(reference)
    with REFERENCES.blaming(reference):
        made: Moments = factory()
    if not isinstance(made, Moments):
        raise REFERENCES.unusable(reference, f"gives a {type(made).__name__}, and no Moments")
    if made.features != features:
        raise UserError(f"the reference {reference!r} is of the features {made.features}", accepted=features,
                        remedy="choose the features that it is of, or make another: `expunge reference FOLDER`")
    return made


def _made(known: Registry, name: str, files: Mapping[str, Path], resizer: str, modified: bool, flag: str
          ) -> Any:
    factory = known.get(name)
    takes = inspect.signature(factory).parameters
    needed = [role for role, one in takes.items() if one.default is inspect.Parameter.empty
              and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    missing = [role for role in needed if role not in files]
    if missing:
        role = missing[0]
        raise UserError(f"{known.kind} {name!r} needs a file: {role}", accepted=WHERE.get(role, "a file of yours"),
                        remedy=f"give it as {flag}{role}=PATH; nothing is downloaded")
    extra = [role for role in files if role not in takes]
    if extra:
        raise UserError(f"{known.kind} {name!r} takes no file {extra[0]!r}",
                        accepted=", ".join(needed) or "no file")
    if resizer and "resizer" not in takes:
        raise UserError(f"resizer {resizer!r} for {known.kind} {name!r}", accepted="none: it has its own")
    options: dict[str, Any] = {**({"resizer": resizer} if resizer else {}),
                               **({"modified": True} if modified and "modified" in takes else {})}
    with known.blaming(name):
        made = factory(**files, **options)
    _check_gives(known, name, made, ("name", "width") if known is FEATURES else ("name",))
    return made


def _check_gives(known: Registry, name: str, made: Any, needs: tuple[str, ...]) -> None:
    """UserError: a plug-in made something that lacks members."""
    lacks = [need for need in needs if not hasattr(made, need)] + ["a call"] * (known is not PROMPTS
                                                                               and not callable(made))
    if lacks:
        raise known.unusable(name, f"gives a {type(made).__name__} without {', '.join(lacks)}")
