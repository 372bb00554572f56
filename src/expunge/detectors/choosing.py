"""The parts that measure an edit: those of a model's world, each replaced by the one that the user names."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from expunge.detectors.settings import AskSettings, MeasureSettings
from expunge.detectors.watched import named_eye, watched
from expunge.errors import ConfigError, UserError, check_type
from expunge.metrics.clip import clip_folder
from expunge.metrics.named import distance_named, features_named, prompts_named, reference_named
from expunge.metrics.worlds import World, world_of
from expunge.registry import DISTANCES, FEATURES, REFERENCES, Registry


def world_for(kind: str, model: str, settings: AskSettings, world: World | None = None) -> World:
    """The world called `kind` of the model called `model` (or `world`), with the parts that the settings name.

    Only detectors are opened here; other parts are where they are first asked for. A world whose parts were chosen
    stays as it is.

    Raises:
        UserError: what `world_of` refuses, an unknown part, files that it lacks, or options of a part that nobody
            named. ConfigError: wrong options.
    """
    if world is not None:
        check_type(world, World, "world", "an expunge world (`metrics.worlds.World`), or None for the model's own")
    if world is not None and world.chosen:
        return world
    own: dict[str, Any] = {"prompts": settings.prompts, "add_templates": settings.add_templates,
                           "default_role": settings.default_role}
    if isinstance(settings, MeasureSettings) and settings.name_in:  # attacks ask in one language
        own["name_in"] = settings.name_in
    made = plain = world or world_of(kind, model, settings.clip, margin=settings.margin,
                                     **({} if settings.prompts_of else own))
    if settings.prompts_of:
        made = made.but(prompts=prompts_named(settings.prompts_of, **own), own=made.completes)
    made = watched(made, named_eye(settings.detector, settings.detector_options),
                   named_eye(settings.second, settings.second_options, "--second"))
    if isinstance(settings, MeasureSettings):
        made = _measured(made, settings)
    return made if made is plain else made.but(chosen=True)


def _measured(world: World, settings: MeasureSettings) -> World:
    """The world with the features, the distance and the reference that are named."""
    if settings.features:
        files, options = _taken(FEATURES, settings.features, settings.features_options, settings.clip, "resizer")
        world = world.but(features=cache(partial(features_named, settings.features, files, **options,
                                                 flag="--features-option files.")))
    elif settings.features_options:
        raise _nobody("features", "--features")
    if settings.distance != "default":
        files, options = _taken(DISTANCES, settings.distance, settings.distance_options, settings.clip)
        world = world.but(distance=partial(distance_named, settings.distance, files, **options,
                                           flag="--distance-option files."))
    elif settings.distance_options:
        raise _nobody("a distance", "--distance")
    if settings.reference:
        if not Path(settings.reference).expanduser().is_file():
            REFERENCES.origin(settings.reference)  # an unknown one is told at once
        features = world.features
        world = world.but(reference=lambda: reference_named(settings.reference, features().name))
    return world


def _taken(known: Registry, name: str, given: Mapping[str, Any], clip: str, *more: str
           ) -> tuple[dict[str, Path], dict[str, Any]]:
    """Files by role, and the other options. A CLIP that a part needs is the judge's, unless another is given."""
    options = dict(given)
    files = options.pop("files", {})
    if not isinstance(files, Mapping):
        raise ConfigError(f"files of {known.kind} {name!r}: {files!r}", accepted="files.ROLE=PATH")
    accepted = (*more, "modified")
    unknown = [option for option in options if option not in accepted]
    if unknown:
        raise ConfigError(f"option {unknown[0]!r} of {known.kind} {name!r}",
                          accepted=", ".join(("files.ROLE", *accepted)))
    paths = {role: Path(path).expanduser() for role, path in files.items()}
    judge = clip or os.environ.get("EXPUNGE_CLIP", "")
    if "clip" in inspect.signature(known.get(name)).parameters and judge and "clip" not in paths:
        paths["clip"] = clip_folder(judge)
    return paths, options


def _nobody(what: str, flag: str) -> UserError:
    return UserError(f"options of {what}, and none named", accepted=f"{flag} NAME with them",
                     remedy=f"see `expunge ls {flag.strip('-')}{'s' * (not flag.endswith('s'))}`")
