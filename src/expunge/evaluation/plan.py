"""What an evaluation is going to do: its settings, the prompts that it asks, how many pictures that makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import groupby

from expunge.config import knob
from expunge.errors import ExpungeError, UserError
from expunge.metrics.base import Aim, PromptCounts, World, aim_of, aims_of
from expunge.records import FORGET_ROLES, KEEP_ROLES, Prompt, Request, Sampler
from expunge.sampling import SamplingSettings


class EvaluateSettings(SamplingSettings):
    """Everything about an evaluation that can be set."""

    counts: PromptCounts = knob(PromptCounts(), "how many prompts of each role")
    strata: tuple[str, ...] = knob((), "ways of asking, by the world's names for them, or all; none named means those "
                                       "that are asked by default")
    seeds: int = knob(2, "pictures per prompt, with seeds first_seed, first_seed + 1, ...; integrity needs two. Where "
                         "a way of asking has few wordings, each is drawn at more seeds", ge=1)
    distance: str = knob("default", "perceptual distance of integrity, by the world's name for it")
    floor_items: int = knob(8, "keep pictures drawn a second time in other batches, for integrity's floor", ge=0)
    draws: int = knob(2000, "bootstrap draws", ge=100)
    fid_draws: int = knob(100, "bootstrap draws of FID and KID", ge=20)
    bootstrap_seed: int = knob(0, "seed of all resampling", ge=0)
    strips: int = knob(3, "prompts of each role that the report shows, the first ones; at least one of each of several "
                          "concepts", ge=0)
    strip_columns: int = knob(4, "seeds that the report shows per prompt", ge=1)
    clip: str = knob("", "open world: folder or Hub id of the CLIP that judges")
    prompts: str = knob("", "open world: YAML or CSV file of prompts by role; used whole, unless counts are set")
    add_templates: bool = knob(False, "open world: ask templates, too, for what the file of prompts fills")
    margin: float | None = knob(None, "open world: least lead in probability of a CLIP judge's answer, below which it "
                                      "abstains; None means 0.2", ge=0.0, lt=1.0)


MOST_SEEDS = 6
"""Times the seeds of other prompts that one of a way of asking with few wordings may get."""


def planned_prompts(world: World, request: Request, settings: EvaluateSettings) -> list[Prompt]:
    """The prompts that an evaluation asks.

    Raises:
        UserError: none of them asks for the concept, or for one of several; a stratum that the world does not know.
        ExpungeError: two are alike, or nothing says for which of several concepts one asks (a world's mistake).
    """
    prompts = world.prompts(request, settings.counts, settings.strata)
    if len({prompt.text for prompt in prompts}) < len(prompts):
        raise ExpungeError(f"the world {world.name} gave the same prompt twice", accepted="distinct prompts")
    aims = aims_of(world, request)
    there = {aim_of(prompt, aims) for prompt in prompts if prompt.role in FORGET_ROLES}
    missing = [aim.concept for aim in aims if aim not in there]
    if missing:
        raise UserError(f"no prompt asks for {', '.join(map(repr, missing))}", accepted="at least one direct, "
                        "held_out, paraphrase or implicit prompt", remedy="raise one of their counts")
    return prompts


def planned_items(prompts: Sequence[Prompt], settings: EvaluateSettings) -> list[tuple[Prompt, int]]:
    """(prompt, seed) pairs in the prompts' order. A way of asking with few wordings ("the name alone" has one) is drawn
    at more seeds, until it has as many pictures as the other ways of its role, or `MOST_SEEDS` times the seeds."""
    place = lambda prompt: (prompt.role, prompt.stratum)
    sizes = {key: len(list(group)) for key, group in groupby(sorted(prompts, key=place), place)}
    largest = {role: max(size for (other, _), size in sizes.items() if other == role) for role, _ in sizes}

    def seeds(prompt: Prompt) -> range:
        size, most = sizes[place(prompt)], largest[prompt.role]
        times = min(MOST_SEEDS, -(-most // size)) if prompt.stratum and 2 * size <= most else 1
        return range(settings.first_seed, settings.first_seed + times * settings.seeds)

    return [(prompt, seed) for prompt in prompts for seed in seeds(prompt)]


def prompts_digest(prompts: Sequence[Prompt]) -> str:
    """16 hex digits of the prompts, with their roles and labels."""
    told = json.dumps([prompt.model_dump(mode="json") for prompt in prompts], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def picture_count(prompts: Sequence[Prompt], settings: EvaluateSettings) -> int:
    """How many pictures an evaluation draws when none is in the cache."""
    items = planned_items(prompts, settings)
    keep = sum(prompt.role in KEEP_ROLES for prompt, _ in items)
    return 2 * len(items) + min(settings.floor_items, keep)


def not_tested(prompts: Sequence[Prompt], aims: Sequence[Aim], sampler: Sampler) -> list[str]:
    """Plain sentences on what the scores say nothing about."""
    from expunge.metrics.doubts import missing_roles

    return [
        f"Prompts were asked in one way of drawing alone: deterministic DDIM, {sampler.steps} steps, guidance "
        f"{sampler.guidance:g}. With other samplers, guidance, sizes and number types they were not asked.",
        f"Asked for in the words of these prompts alone, not in other languages or longer descriptions than theirs: "
        f"{', '.join(aim.concept for aim in aims)}.",
        *missing_roles(prompts, aims),
    ]
