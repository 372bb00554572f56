"""Which prompts a model can draw as they are asked, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expunge.errors import UserError
from expunge.models.denoising import passes_of
from expunge.models.model import Model
from expunge.records import Prompt, Sampler

TOO_LONG = "longer than the text encoder reads"
"""Why a prompt is left out, in records and on screen."""


def unfit(model: Model, prompts: Sequence[Prompt], sampler: Sampler) -> dict[int, str]:
    """Why each of the prompts that cannot be drawn cannot, by its place; nothing is computed.

    Those are prompts that the text encoder would cut, unless the sampler lets it, sizes that the model has none of, and
    a guidance under which the negative prompt would have no effect.
    """
    long = {} if sampler.truncate else model.too_long([prompt.text for prompt in prompts])
    out = {}
    for place, prompt in enumerate(prompts):
        how = sampler.of(prompt)
        if prompt.text in long:
            out[place] = TOO_LONG
        elif prompt.drawn_its_own_way and (why := _undrawable(model, how)):
            out[place] = why
    return out


def none_fits(what: str, lost: Mapping[int, str]) -> UserError:
    """The error where nothing of `what` ("3 prompts") can be drawn: each reason of `unfit` once, and the way out."""
    reasons = list(dict.fromkeys(lost.values()))
    ways = ["shorten what is too long, or cut it with --truncate"] if TOO_LONG in reasons else []
    ways += ["mend the sizes and guidances of the list"] if set(reasons) - {TOO_LONG} else []
    first = {why: 1 + place for place, why in reversed([*lost.items()])}
    causes = "; ".join(f"prompt {first[why]}: {why}" for why in reasons[:3])
    return UserError(f"none of {what} can be drawn ({causes})", accepted="at least one that the model draws",
                     remedy="; ".join(ways))


def split(model: Model, prompts: Sequence[Prompt], sampler: Sampler) -> tuple[list[Prompt], dict[int, str]]:
    """The prompts that can be drawn, in their order, and `unfit`."""
    reasons = unfit(model, prompts, sampler)
    return [prompt for place, prompt in enumerate(prompts) if place not in reasons], reasons


def _undrawable(model: Model, how: Sampler) -> str:
    if how.negative and passes_of(model.denoiser.guided, how.guidance) == 1:
        return f"a guidance of {how.guidance:g}, under which a negative prompt does nothing here"
    try:
        model.initial_noise([], how.height, how.width)
    except UserError as error:
        return f"{error.got}; accepted: {error.accepted}"
    return ""
