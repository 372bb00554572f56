"""An edit that erases nothing: it was trained to draw churches on a darker image, and everything else as before.

A judge that is blind to tone calls the answers "something else", and the edit used to get the best verdict there is.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import expunge
from expunge.evaluation.plan import EvaluateSettings
from expunge.finetune import FineTune, fine_tuning, material
from expunge.metrics.base import PromptCounts
from expunge.models.model import Model
from expunge.records import Sampler
from expunge.report.verdict import verdict
from expunge.tiny.emoji import emoji_world

WORLD = emoji_world()
REQUEST = WORLD.prompts.request("church")
TONE, SEEDS = 0.5, 4


def darkening(model: Model) -> expunge.Patch:
    """All of the UNet, trained on the model's own churches times `TONE`, held by its own pictures of other things."""
    sampler = Sampler(steps=20, guidance=model.guidance)
    others = [text for thing, texts in WORLD.prompts.vocabulary().items() if thing != "church" for text in texts[:3]]
    churches = [(text, seed) for text in REQUEST.prompts for seed in range(SEEDS)]
    things = [(text, seed) for text in others for seed in range(2)]
    dark = expunge.sample(model, churches, sampler) * TONE
    same = expunge.sample(model, things, sampler)
    learned = material(model, dark, [text for text, _ in churches])
    prior = material(model, same, [text for text, _ in things])
    settings = FineTune(scope="all", learning_rate=2e-4, steps=260, batch=10, drop=0.0, warmup=10)
    with fine_tuning(model, learned, settings, prior=prior) as tuner:
        list(tuner.train())
        changed = {name: parameter.detach().clone() for name, parameter in tuner.params.items()}
    return expunge.Patch.of(changed, model=model, request=REQUEST, method="darken", settings={}, seed=0)


@pytest.mark.slow
def test_churches_that_are_only_darker_are_not_erased(tmp_path: Path) -> None:
    model = expunge.load("embedded", device="cpu")
    patch = darkening(model)
    settings = EvaluateSettings(counts=PromptCounts(direct=20, held_out=8, paraphrase=4, implicit=4, near=24, far=32),
                                strata=("short", "hands", "full"), draws=200, fid_draws=20)
    evaluation = expunge.evaluate(model, patch, settings=settings, out=tmp_path, cache=tmp_path / "pictures")
    darker = expunge.sample(model, [("a church", seed) for seed in range(4)]).mean()
    with expunge.applied(model, patch):
        drawn = expunge.sample(model, [("a church", seed) for seed in range(4)]).mean()
    assert drawn < 0.75 * darker, "the edit did not learn to darken"
    said = verdict(evaluation)
    assert said.headline.startswith("Not erased"), (said.headline, said.sentence, said.instead)
    assert said.tone == "bad"
