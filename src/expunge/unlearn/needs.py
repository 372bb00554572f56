"""What parts of a recipe need of the request and of each other, looked for before anything is computed.

A part says so in a property `needs`; parts that need nothing have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from expunge.config import Settings
from expunge.errors import ConfigError, UserError
from expunge.records import Request

Need = Literal["anchor", "another prompt", "noised images", "keep beside", "no keep between", "keys and values",
               "whole weights", "text encoders", "text in steps", "no adversary", "predictions"]
"""anchor: every target of the request has one. another prompt: every target has an anchor, or the request has prompts
to keep. noised images: the recipe's source is "noised". keep beside: the recipe has a keep in the step of the erase
loss. no keep between: it has no keep in steps of its own. keys and values: some of cross-attention's train (the
recipe looks for them, which knows its parameters). whole weights: what trains are the model's own numbers, and not the
factors of a LoRA. text encoders: some of theirs train (the recipe looks for it).
text in steps: the text encoders are asked in every step. no adversary: of a source, whose points have no latents.
predictions: of an adversary, which learns from what the denoiser predicts in the erase step."""


def check_needs(recipe: Settings, request: Request) -> None:
    """Look through every part of `recipe`, at any depth.

    Raises:
        UserError: a target without the anchor that a part needs.
        ConfigError: parts that do not go together.
    """
    keep, source = getattr(recipe, "keep", None), getattr(recipe, "source", None)
    _check_adversary(recipe)
    kept = bool(request.keep or (keep is not None and getattr(recipe, "retain", None) is not None))
    for part in _parts(recipe):
        needs: tuple[Need, ...] = getattr(part, "needs", ())
        kind = getattr(part, "kind", type(part).__name__)
        if "anchor" in needs:
            check_anchors(request)
        if "another prompt" in needs and not kept:
            check_anchors(request, "or prompts to keep, one of which can take its place")
        if "noised images" in needs and getattr(source, "kind", "") != "noised":
            raise ConfigError(f"{kind!r} with source {getattr(source, 'kind', None)!r}",
                              accepted="source 'noised': images with noise of their own")
        if "keep beside" in needs and getattr(keep, "cadence", "") != "same":
            raise ConfigError(f"{kind!r} with {'no keep' if keep is None else 'a keep in steps of its own'}",
                              accepted="a keep in the step of the erase loss (keep.cadence same)",
                              remedy="name a keep, or another update")
        if "no keep between" in needs and getattr(keep, "cadence", "") == "between":
            raise ConfigError(f"{kind!r} with a keep in steps of its own",
                              accepted="no keep, or one in the step of the erase loss (keep.cadence same)")
    if getattr(getattr(keep, "source", None), "of", "prompt") != "prompt":
        raise ConfigError("a keep whose images show the anchor in the place of a prompt to keep",
                          accepted="keep.source.of prompt: images of the prompts to keep themselves")


def _check_adversary(recipe: Settings) -> None:
    source, objective, adversary = (getattr(recipe, name, None) for name in ("source", "objective", "adversary"))
    if adversary is None:
        return
    if "no adversary" in getattr(source, "needs", ()):
        raise ConfigError(f"an adversary with the source {getattr(source, 'kind', '')!r}",
                          accepted="a source of latents, at which an adversary asks the denoiser",
                          remedy="--set source=frozen")
    if "predictions" in getattr(adversary, "needs", ()) and "text encoders" in getattr(objective, "needs", ()):
        raise ConfigError(f"the adversary {getattr(adversary, 'kind', '')!r}, which learns from predictions, with an "
                          f"objective that asks for none ({getattr(objective, 'kind', '')!r})",
                          accepted="an adversary that makes its own, such as soft", remedy="--set adversary=soft")


def check_anchors(request: Request, otherwise: str = "") -> None:
    """UserError unless every target has an anchor; `otherwise`: what would do instead."""
    bare = [target.concept for target in request.targets if not target.anchor]
    if bare:
        wanted = "an anchor for every concept: what takes its place"
        raise UserError(f"no anchor for {', '.join(map(repr, bare))}",
                        accepted=f"{wanted}, {otherwise}" if otherwise else wanted,
                        remedy="name one, for example anchor='house' for 'church'")


def check_places(source: object, setting: str, concepts: int) -> None:
    """UserError: a source whose points are kept has fewer places than there are concepts.

    Args:
        source: None, and one without bound, have places for all. setting: where it stands in the recipe.
    """
    places = getattr(source, "max_prompts", None)
    if places is not None and places < concepts:
        raise UserError(f"a pool of {places} for {concepts} concepts", accepted="a place for each concept at least",
                        remedy=f"raise {more_places(source, setting)}")


def more_places(source: object, setting: str) -> str:
    """The setting that says how many places a source has; the source's own where it does not tell."""
    name = getattr(source, "places", "")
    return f"{setting}.{name}" if name else setting


def needs(method: object, need: Need) -> bool:
    """Whether the method is settings, a part of which has that need."""
    return isinstance(method, Settings) and any(need in getattr(part, "needs", ()) for part in _parts(method))


def check_low_rank(recipe: Settings) -> None:
    """ConfigError: a part of the recipe works on the model's own weights, so that no LoRA can train in their place."""
    for part in _parts(recipe):
        if "whole weights" in getattr(part, "needs", ()):
            why = getattr(part, "whole", "it works on single weights")
            raise ConfigError(f"a LoRA with {getattr(part, 'kind', type(part).__name__)!r}: {why}",
                              accepted="updates that take any parameters, such as plain, surgery, bilevel and dual",
                              remedy="another update or method, or no lora_rank")


def _parts(settings: Settings) -> Iterator[Settings]:
    yield settings
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from _parts(value)
