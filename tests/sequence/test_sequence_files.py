"""The sequence that comes with the repository can be run as it is."""

from __future__ import annotations

from pathlib import Path

from expunge.metrics.worlds import world_of
from expunge.sequence.settings import read_sequence
from expunge.sequence.states import everything

FILE = Path(__file__).parents[2] / "benchmarks" / "sequence.yaml"


def test_it_has_eight_requests_that_the_world_knows_and_leaves_far_things() -> None:
    settings, world = read_sequence(FILE), world_of("emoji", "embedded")
    assert len(settings.active) == 8
    request = everything(settings, world.prompts)
    assert settings.evaluation is not None
    prompts = world.prompts.of(request, settings.evaluation.counts)
    assert {prompt.role for prompt in prompts} >= {"direct", "held_out", "near", "far"}
    backwards = settings.model_copy(update={"requests": settings.requests[::-1]})
    assert everything(backwards, world.prompts).concepts == request.concepts[::-1]
