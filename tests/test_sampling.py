"""How images are drawn where nobody says how: at the model's own guidance."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from expunge.attacks.settings import AttackSettings
from expunge.errors import ConfigError
from expunge.evaluation import EvaluateSettings
from expunge.records import Sampler
from expunge.sampling import SamplingSettings


@dataclass
class Model:
    guidance: float = 7.5


@pytest.mark.parametrize("kind", [SamplingSettings, EvaluateSettings, AttackSettings])
def test_guidance_is_the_models_own_unless_it_is_set(kind: type[SamplingSettings]) -> None:
    assert kind().sampler(Model()) == Sampler(guidance=7.5)
    assert kind(guidance=3.0, steps=5).sampler(Model()) == Sampler(steps=5, guidance=3.0)


def test_guidance_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="guidance"):
        SamplingSettings.build({"guidance": 0.5}, "test")
