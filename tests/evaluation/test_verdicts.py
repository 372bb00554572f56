"""What models that did something simple get told: untouched, darkened, destroyed, other seeds, plain prompts ruined.

The edited model's images are made from the original's, so that what was done is known. Judge, second judge, features
and distances are those of every evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

import expunge
from expunge.evaluation.plan import EvaluateSettings, planned_items, planned_prompts
from expunge.evaluation.run import instruments
from expunge.metrics.base import PromptCounts
from expunge.metrics.integrity import ImageSet
from expunge.metrics.judging import judged
from expunge.metrics.measure import Instruments, measured
from expunge.records import FORGET_ROLES, Detection, Evaluation, ImageRecord, PatchCard, Prompt, Sampler
from expunge.report.verdict import Verdict, verdict
from expunge.tiny.emoji import emoji_world

pytestmark = pytest.mark.slow
"""It draws and judges whole evaluations."""

WORLD = emoji_world()
REQUEST = WORLD.prompts.request("church")
SETTINGS = EvaluateSettings(counts=PromptCounts(direct=24, held_out=6, paraphrase=4, implicit=4, near=30, far=32,
                                                never_seen=0), draws=100, fid_draws=20)
PLAIN = tuple(name for name, stratum in WORLD.prompts.strata.items() if stratum.plain)
Change = Callable[[Tensor, list[Prompt]], Tensor]


@dataclass(frozen=True)
class Session:
    """The original's images, what each judge says of them, and what they are measured with."""

    original: ImageSet
    tools: Instruments
    prompts: list[Prompt]
    said: dict[str, list[Detection]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def session() -> Session:
    model = expunge.load("embedded")
    prompts = planned_prompts(WORLD.prompts, REQUEST, SETTINGS)
    items = planned_items(prompts, SETTINGS)
    pictures = expunge.sample(model, items, Sampler(steps=12, guidance=2.0))
    shots = [ImageRecord(prompt=prompt, seed=seed, sampler=Sampler(), model="m", pixels=str(i))
             for i, (prompt, seed) in enumerate(items)]
    return Session(ImageSet(shots, pictures), instruments(WORLD, REQUEST, prompts, SETTINGS), prompts)


def told(session: Session, change: Change) -> tuple[Verdict, Evaluation]:
    """The verdict on a model that draws what `change` makes of the original's images."""
    original, tools = session.original, session.tools
    asked = [shot.prompt for shot in original.shots]
    edited = ImageSet([shot.model_copy(update={"patch": "p", "pixels": f"{shot.pixels}'"}) for shot in original.shots],
                      change(original.pictures.clone(), asked))
    said = []
    for judge in (tools.judge, tools.second):
        if judge is not None:
            if judge.name not in session.said:
                (session.said[judge.name],) = judged([original], judge)
            (after,) = judged([edited], judge)
            said.append((session.said[judge.name], after))
    again = ImageSet(original.shots[:4], original.pictures[:4])
    scores = measured(original, edited, again, said, tools, draws=100, fid_draws=20)
    there = {p.stratum for p in session.prompts}
    strata = {name: stratum for name, stratum in WORLD.prompts.strata.items() if name in there}
    evaluation = Evaluation(
        card=PatchCard(request=REQUEST, base="emoji-64", base_hash="h", method="none", settings={}, seed=0, tensors=(),
                       tensors_hash="t"),
        model="emoji-64", model_hash="h", sampler=Sampler(), scores=tuple(scores), plain=PLAIN,
        strata={name: stratum.words for name, stratum in strata.items()})
    return verdict(evaluation), evaluation


def of(asked: list[Prompt], forget: bool) -> Tensor:
    return torch.tensor([(prompt.role in FORGET_ROLES) == forget for prompt in asked])


def house_for_church(session: Session, pictures: Tensor, asked: list[Prompt]) -> Tensor:
    """Every image that asks for a church replaced by one of a house: a clean erasure."""
    houses = [i for i, prompt in enumerate(asked) if prompt.labels.get("object") == "house" and prompt.role == "near"]
    rows = [i for i, prompt in enumerate(asked) if prompt.role in FORGET_ROLES]
    for turn, row in enumerate(rows):
        pictures[row] = session.original.pictures[houses[turn % len(houses)]]
    return pictures


def test_an_untouched_model_is_not_erased(session: Session) -> None:
    said, evaluation = told(session, lambda pictures, asked: pictures)
    assert said.headline.startswith("Not erased")
    assert said.headline.endswith("other things are kept")
    assert said.tone == "bad"
    assert evaluation.score("change/found/all").value == 0.0
    assert evaluation.score("integrity/far").value == pytest.approx(1.0)


SLOW = pytest.mark.slow


@pytest.mark.parametrize("tone", [pytest.param(0.5, marks=SLOW), 0.6, pytest.param(0.7, marks=SLOW)])
def test_churches_on_a_darker_picture_are_not_erased(session: Session, tone: float) -> None:
    def darker(pictures: Tensor, asked: list[Prompt]) -> Tensor:
        forget = of(asked, True)
        pictures[forget] = pictures[forget] * tone
        return pictures

    said, _ = told(session, darker)
    assert said.headline.startswith("Not erased")
    assert said.tone == "bad"


NOISE = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("change", [
    pytest.param(lambda pictures, asked: torch.rand(pictures.shape, generator=NOISE), id="noise"),
    pytest.param(lambda pictures, asked: torch.zeros_like(pictures), id="black", marks=SLOW),
    pytest.param(lambda pictures, asked: pictures[-1:].expand_as(pictures).clone(), id="one image for everything",
                 marks=SLOW),
    pytest.param(lambda pictures, asked: torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(pictures, 16),
                                                                         scale_factor=16), id="smears", marks=SLOW),
])
def test_a_destroyed_model_is_damaged(session: Session, change: Change) -> None:
    said, _ = told(session, change)
    assert said.headline.startswith("The model is damaged")
    assert said.tone == "bad"


@SLOW
def test_other_seeds_pictures_are_changed_and_their_subjects_kept(session: Session) -> None:
    items = [(shot.prompt, shot.seed + 500) for shot in session.original.shots]
    others = expunge.sample(expunge.load("embedded"), items, Sampler(steps=12, guidance=2.0))
    said, evaluation = told(session, lambda pictures, asked: others)
    assert "images changed, subjects kept" in said.headline
    assert "Not erased" in said.headline
    high = evaluation.score("integrity/far").high
    assert high is not None
    assert high < 0.5


def test_ruin_of_plain_prompts_alone_is_named(session: Session) -> None:
    def ruined(pictures: Tensor, asked: list[Prompt]) -> Tensor:
        pictures = house_for_church(session, pictures, asked)
        for i, prompt in enumerate(asked):
            if prompt.role in ("near", "far") and prompt.stratum in PLAIN:
                pictures[i] = session.original.pictures[(i + 37) % len(asked)]
        return pictures

    said, _ = told(session, ruined)
    assert "plain prompts are damaged" in said.headline
    assert said.tone == "bad"


def test_a_clean_erasure_gets_the_good_word_and_says_what_took_its_place(session: Session) -> None:
    said, evaluation = told(session, lambda pictures, asked: house_for_church(session, pictures, asked))
    assert said.headline.startswith("Rarely drawn")
    assert evaluation.score("found/all").numerator == 0
    assert (evaluation.score("instead/another").value or 0) > 0.8
    assert "another thing that has a name" in said.instead


@SLOW
@pytest.mark.parametrize("fill", ["noise", "grey", "smear"])
def test_nothing_in_its_place_is_no_clean_erasure(session: Session, fill: str) -> None:
    def emptied(pictures: Tensor, asked: list[Prompt]) -> Tensor:
        forget = of(asked, True)
        blurred = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(pictures, 16), scale_factor=16)
        junk = {"noise": torch.rand(pictures.shape, generator=NOISE) * torch.tensor([0.6, 0.2, 0.8])[:, None, None],
                "grey": torch.full_like(pictures, 0.5), "smear": blurred}[fill]
        pictures[forget] = junk[forget]
        return pictures

    said, evaluation = told(session, emptied)
    assert said.tone != "good"
    assert "no image of anything" in said.headline
    assert (evaluation.score("instead/nothing").value or 0) > 0.5


@SLOW
def test_half_the_resolution_is_told(session: Session) -> None:
    def halved(pictures: Tensor, asked: list[Prompt]) -> Tensor:
        small = torch.nn.functional.avg_pool2d(house_for_church(session, pictures, asked), 2)
        return torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear")

    said, evaluation = told(session, halved)
    assert "blurred" in said.cost
    assert said.tone != "good"
    assert (evaluation.score("sharpness/near").value or 1) < 0.8
