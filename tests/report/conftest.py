"""A realistic evaluation, a hostile one, a bare one, and real images in a folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from report_examples import HOSTILE, make_card, make_evaluation, number, strip

from expunge.records import Evaluation, PatchCard, Request, Sampler, Score


@pytest.fixture
def evaluation() -> Evaluation:
    return make_evaluation()


@pytest.fixture
def draw(tmp_path: Path) -> Callable[[str, int, str], str]:
    """A function that puts a square image into the evaluation's folder and gives back its name."""

    def put(name: str, side: int = 64, colour: str = "red") -> str:
        picture = Image.linear_gradient("L").resize((side, side)).convert("RGB")
        picture.paste(colour, (0, 0, side // 2, side // 2))
        picture.save(tmp_path / name)
        return name

    return put


@pytest.fixture
def hostile() -> Evaluation:
    """Text that wants to be markup, numbers that are none, strips that lead out of the folder."""
    card = make_card(HOSTILE, base="/somewhere/else", method='"><img src=x onerror=alert(1)>',
                     settings={HOSTILE: {"a": [1, {"z": None}]}}, tensors=("$\\frac{",),
                     losses={"_hidden": [1.0, math.nan, 0.001], "$\\frac{": [2.0, 900.0], HOSTILE: [1.0], "none": []})
    scores = [Score(name="found/all", title=HOSTILE, value=math.nan, note="judge failed | on everything"),
              Score(name="retained/near", title="near", value=None),
              Score(name="strange/thing", title="| a | `b` |", value=3.14159, high=math.inf, n=1, note=HOSTILE),
              number("integrity/near", -0.4)]
    strips = (strip("near", HOSTILE, (), (), ()),
              strip("direct", "x" * 300, (0, 1, 2, 3, 4), ("missing.png", "../../secret.png"), ("/etc/passwd",)))
    return make_evaluation(scores, card=card, strips=strips, warnings=(HOSTILE,), not_tested=(HOSTILE,),
                           detectors={HOSTILE: HOSTILE}, settings={}, versions={HOSTILE: "1"}, model=HOSTILE)


@pytest.fixture
def bare() -> Evaluation:
    """An evaluation that holds nothing beyond what the schema demands."""
    card = PatchCard(request=Request(concept="church", prompts=("a",)), base="b", base_hash="h", method="esd",
                     settings={}, tensors=(), tensors_hash="t", seed=0)
    return Evaluation(card=card, model="m", model_hash="h", sampler=Sampler())
