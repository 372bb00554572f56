"""What an evaluation is going to do: its settings, the prompts that it asks, how many images that makes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from expunge.config import knob
from expunge.errors import ExpungeError, UserError
from expunge.metrics.base import Aim, PromptCounts, World, aim_of, aims_of
from expunge.records import FORGET_ROLES, KEEP_ROLES, Prompt, Request, Sampler, counted
from expunge.sampling import SamplingSettings

if TYPE_CHECKING:
    from expunge.models.model import Model

class EvaluateSettings(SamplingSettings):
    """Everything about an evaluation that can be set."""

    counts: PromptCounts = knob(PromptCounts(), "how many prompts of each role")
    strata: tuple[str, ...] = knob((), "ways of asking, by the world's names for them, or all; none named means those "
                                       "that are asked by default")
    seeds: int = knob(2, "images per prompt, with seeds first_seed, first_seed + 1, ...; integrity needs two. Where "
                         "a way of asking has few wordings, each is drawn at more seeds", ge=1)
    distance: str = knob("default", "perceptual distance of integrity, by the world's name for it")
    floor_items: int = knob(8, "keep images drawn a second time in other batches, for integrity's floor", ge=0)
    draws: int = knob(2000, "bootstrap draws", ge=100)
    fid_draws: int = knob(100, "bootstrap draws of FID and KID", ge=20)
    bootstrap_seed: int = knob(0, "seed of all resampling", ge=0)
    strips: int = knob(3, "prompts of each role that the report shows, the first ones; at least one of each of several "
                          "concepts", ge=0)
    strip_columns: int = knob(4, "seeds that the report shows per prompt", ge=1)
    clip: str = knob("", "open world: folder or Hub id of the CLIP that judges")
    prompts: str = knob("", "open world: file of prompts by role (YAML, CSV, JSON); used whole, unless counts are set")
    default_role: str = knob("", "open world: role of the prompts in a file without roles; empty: by what they name")
    name_in: tuple[str, ...] = knob((), "open world: LANGUAGE=NAME, what the concept is called where a stratum asks in "
                                        "that language; else it is called as the request calls it")
    add_templates: bool = knob(False, "open world: ask templates, too, for what the file of prompts fills")
    margin: float | None = knob(None, "open world: least lead in probability of a CLIP judge's answer, below which it "
                                      "abstains; None means 0.2", ge=0.0, lt=1.0)
    detector: str = knob("", "who says whether the concept is there, by a name of `expunge ls detectors`; empty: the "
                             "world's judge")
    detector_options: dict[str, Any] = knob({}, "the detector's settings; under files what it needs, by role; under "
                                                "rule what of its readings counts")


MOST_SEEDS = 6
"""Times the seeds of other prompts that one of a way of asking with few wordings may get."""


def planned_prompts(world: World, request: Request, settings: EvaluateSettings) -> list[Prompt]:
    """The prompts that an evaluation asks.

    Raises:
        UserError: none of them asks for the concept, or for one of several; a stratum that the world does not know.
        ExpungeError: two are alike, or nothing says for which of several concepts one asks (a world's mistake).
    """
    prompts = world.prompts(request, settings.counts, settings.strata)
    if len({(prompt.text, prompt.seed) for prompt in prompts}) < len(prompts):
        raise ExpungeError(f"the world {world.name} gave the same prompt twice", accepted="distinct prompts")
    aims = aims_of(world, request)
    there = {aim_of(prompt, aims) for prompt in prompts if prompt.role in FORGET_ROLES}
    missing = [aim.concept for aim in aims if aim not in there]
    if missing:
        raise UserError(f"no prompt asks for {', '.join(map(repr, missing))}", accepted="at least one direct, "
                        "held_out, paraphrase or implicit prompt", remedy="raise one of their counts")
    return prompts


def drawable(model: Model, prompts: Sequence[Prompt], aims: Sequence[Aim], settings: EvaluateSettings
             ) -> tuple[list[Prompt], list[tuple[Prompt, str]]]:
    """The prompts that the model draws as they are asked, and those that it does not, each with the reason.

    Raises:
        UserError: none is left that asks for one of the concepts.
    """
    from expunge.models.fitting import split

    kept, reasons = split(model, prompts, settings.sampler(model))
    lost = [(prompts[place], reason) for place, reason in reasons.items()]
    there = {aim_of(prompt, aims) for prompt in kept if prompt.role in FORGET_ROLES}
    missing = [aim.concept for aim in aims if aim not in there]
    if missing:
        why = next(reason for prompt, reason in lost if prompt.role in FORGET_ROLES)
        raise UserError(f"no prompt that can be drawn asks for {', '.join(map(repr, missing))}: {why}",
                        accepted="at least one that can", remedy="shorten them, or cut them with --truncate")
    return kept, lost


def lost_items(lost: Sequence[tuple[Prompt, str]], settings: EvaluateSettings) -> list[tuple[Prompt, str]]:
    """Prompt and reason of each image that is not drawn."""
    reasons = {(prompt.text, prompt.seed): reason for prompt, reason in lost}
    return [(prompt, reasons[prompt.text, prompt.seed])
            for prompt, _ in planned_items([prompt for prompt, _ in lost], settings)]


def lost_words(prompts: Sequence[Prompt], lost: Sequence[tuple[Prompt, str]], cut: int) -> list[str]:
    """In sentences, how many prompts are not drawn and why, and how many are cut."""
    from expunge.models.fitting import TOO_LONG

    total = len(prompts) + len(lost)
    counts = Counter(reason for _, reason in lost)
    out = [f"{count} of {counted(total, 'prompts')} left out: {reason}"
           + (" (--truncate cuts them)." if reason == TOO_LONG else ".") for reason, count in counts.items()]
    return [*out, f"{cut} of {counted(total, 'prompts')} cut to what the text encoder reads."] if cut else out


def planned_items(prompts: Sequence[Prompt], settings: EvaluateSettings) -> list[tuple[Prompt, int]]:
    """(prompt, seed) pairs in the prompts' order, each once. A prompt whose list gives it a seed is drawn there.

    A way of asking with few wordings ("the name alone" has one) is drawn at more seeds, until it has as many images
    as the other ways of its role, or `MOST_SEEDS` times the seeds.
    """
    place = lambda prompt: (prompt.role, prompt.stratum)
    sizes = {key: len(list(group)) for key, group in groupby(sorted(prompts, key=place), place)}
    largest = {role: max(size for (other, _), size in sizes.items() if other == role) for role, _ in sizes}

    def seeds(prompt: Prompt) -> range:
        if prompt.seed is not None:
            return prompt.seeds(settings.first_seed, settings.seeds, settings.own_seeds)
        size, most = sizes[place(prompt)], largest[prompt.role]
        times = min(MOST_SEEDS, -(-most // size)) if prompt.stratum and 2 * size <= most else 1
        return range(settings.first_seed, settings.first_seed + times * settings.seeds)

    once = {(prompt.text, seed): (prompt, seed) for prompt in reversed(prompts) for seed in seeds(prompt)}
    return [once[prompt.text, seed] for prompt in prompts for seed in seeds(prompt)
            if once[prompt.text, seed][0] is prompt]


def prompts_digest(prompts: Sequence[Prompt]) -> str:
    """16 hex digits of the prompts, with their roles and labels."""
    payload = json.dumps([prompt.model_dump(mode="json") for prompt in prompts], sort_keys=True)
    return hashlib.sha256(payload.encode()).hexdigest()[:16]


def picture_counts(prompts: Sequence[Prompt], settings: EvaluateSettings) -> tuple[int, int]:
    """How many images an evaluation draws with each of the two models when none is in the cache, and how many of the
    original's it then draws a second time."""
    items = planned_items(prompts, settings)
    return len(items), min(settings.floor_items, sum(prompt.role in KEEP_ROLES for prompt, _ in items))


def picture_count(prompts: Sequence[Prompt], settings: EvaluateSettings) -> int:
    """How many images an evaluation draws when none is in the cache."""
    each, again = picture_counts(prompts, settings)
    return 2 * each + again


def not_tested(prompts: Sequence[Prompt], aims: Sequence[Aim], sampler: Sampler) -> list[str]:
    """Plain sentences on what the scores say nothing about."""
    from expunge.metrics.reliability import missing_roles

    own = " or what their list says" if any(prompt.drawn_its_own_way for prompt in prompts) else ""
    return [
        f"Prompts were asked in one way of drawing alone: deterministic DDIM, {sampler.steps} steps, guidance "
        f"{sampler.guidance:g}{own}. With other samplers, guidance, sizes and number types they were not asked.",
        f"Asked for in the words of these prompts alone, not in other languages or longer descriptions than theirs: "
        f"{', '.join(aim.concept for aim in aims)}.",
        *missing_roles(prompts, aims),
    ]
