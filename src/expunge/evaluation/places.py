"""Which image of an evaluation a score's item is: names that stay the same whatever edited the model."""

from __future__ import annotations

from collections.abc import Sequence

from expunge.evaluation.plan import MOST_SEEDS, EvaluateSettings
from expunge.records import Evaluation, ImageRecord, ItemKey, Prompt


def places_of(evaluation: Evaluation, prompts: Sequence[Prompt], settings: EvaluateSettings) -> dict[str, ItemKey]:
    """Prompt and seed by the keys of `Score.per_item`: of single images, and of pairs of them.

    Args:
        prompts: those that the evaluation asked (`planned_prompts`). Some of them it may not have drawn, and how many
            seeds the others got depends on that: every seed is named that a prompt may get.
    """
    out: dict[str, ItemKey] = {}
    base = evaluation.sampler
    ways = [base.model_copy(update={"truncate": cut}) for cut in {False, base.truncate}]  # an image's says if it was
    for prompt in prompts:
        for seed in prompt.seeds(settings.first_seed, MOST_SEEDS * settings.seeds, settings.own_seeds):
            for way in ways:
                shot = ImageRecord(prompt=prompt, seed=seed, sampler=way.of(prompt), model=evaluation.model_hash,
                                   patch=evaluation.card.tensors_hash)
                out[shot.key] = out[f"{prompt.text} | {seed}"] = shot.item_key
    return out
