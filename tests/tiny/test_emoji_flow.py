"""The flow model that comes in a distribution of its own: it draws what is asked, and erasure is seen on it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

import expunge
from expunge.metrics.judge import EmojiJudge
from expunge.models.model import Model, applied
from expunge.models.sample import draw
from expunge.records import Sampler
from expunge.tiny.emoji import WEIGHTS

pytestmark = pytest.mark.skipif(find_spec("expunge_models") is None, reason="pip install ./models brings emoji-flow")
THINGS = ("church", "house", "dog", "car", "banana", "guitar")


@pytest.fixture(scope="module")
def flow() -> Model:
    return expunge.load("emoji-flow", device="cpu")


def found(model: Model, judge: EmojiJudge, thing: str, seeds: range) -> int:
    items = [(f"an emoji of a {thing}", seed) for seed in seeds]
    images = draw(model, items, Sampler(steps=20, guidance=model.guidance))
    return sum(one.answers.get("object") == thing for one in judge(images))


@pytest.mark.slow
def test_it_draws_what_is_asked(flow: Model) -> None:
    judge = EmojiJudge(Path(WEIGHTS))
    assert sum(found(flow, judge, thing, range(2)) for thing in THINGS) >= 10  # of 12


def test_plain_diffusers_opens_it() -> None:
    from diffusers import StableDiffusion3Pipeline

    spec = find_spec("expunge_models")
    assert spec is not None
    folder = Path(next(iter(spec.submodule_search_locations or ()))) / "emoji-flow"
    pipe = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    assert sum(p.numel() for p in pipe.transformer.parameters()) == pytest.approx(13.8e6, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["uce", "esd-fast"])
def test_erasure_takes_the_concept_and_leaves_other_things(method: str, flow: Model) -> None:
    judge, seeds = EmojiJudge(Path(WEIGHTS)), range(6)
    before = {thing: found(flow, judge, thing, seeds) for thing in THINGS[:4]}
    with applied(flow, expunge.erase(flow, "church", method=method)):
        after = {thing: found(flow, judge, thing, seeds) for thing in THINGS[:4]}
    assert before["church"] >= 5
    assert after["church"] <= 2
    assert sum(after[thing] for thing in THINGS[1:4]) >= sum(before[thing] for thing in THINGS[1:4]) - 4  # of 18
