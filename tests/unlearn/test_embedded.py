"""On the real, small model: ESD erases the concept, keeps what is near and far, and comes off again."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

import expunge
from expunge.metrics.base import PromptCounts
from expunge.metrics.statistics import wilson
from expunge.models.model import Model
from expunge.records import FORGET_ROLES, Prompt, Sampler
from expunge.tiny.emoji import emoji_world
from expunge.unlearn.presets.esd import ESD_FAST

WORLD = emoji_world()
REQUEST = WORLD.prompts.request("church")
COUNTS = PromptCounts(direct=8, held_out=8, paraphrase=4, implicit=4, near=0, far=24, never_seen=0, empty=0)
PROMPTS = WORLD.prompts.of(REQUEST, COUNTS)


@dataclass(frozen=True)
class Seen:
    """Images with and without the patch, and how many show what was asked for, of how many."""

    found: tuple[int, int]
    kept: tuple[int, int]


@pytest.fixture(scope="module")
def model() -> Model:
    return expunge.load("embedded", device="cpu")


@pytest.fixture(scope="module")
def patch(model: Model) -> expunge.Patch:
    return expunge.erase(model, "church", ESD_FAST, seed=0)


@pytest.fixture(scope="module")
def before(model: Model) -> Seen:
    return seen(model)


@pytest.fixture(scope="module")
def after(model: Model, patch: expunge.Patch) -> Seen:
    with expunge.applied(model, patch):
        return seen(model)


def seen(model: Model) -> Seen:
    drawn = expunge.sample(model, [(prompt, 0) for prompt in PROMPTS], Sampler(steps=20), batch=48)
    answers = [answer.answers.get("object") for answer in WORLD.judge(REQUEST)(drawn)]

    def count(mine: list[bool]) -> tuple[int, int]:
        right = [answer == prompt.labels["object"] for answer, prompt, own in zip(answers, PROMPTS, mine, strict=True)
                 if own]
        return sum(right), len(right)

    forget = [asks_for_it(prompt) for prompt in PROMPTS]
    return Seen(count(forget), count([not own for own in forget]))


def asks_for_it(prompt: Prompt) -> bool:
    return prompt.role in FORGET_ROLES


def test_concept_is_drawn_before_and_not_after(before: Seen, after: Seen) -> None:
    low, _ = wilson(*before.found)
    _, high = wilson(*after.found)
    assert low is not None
    assert high is not None
    assert high < low, f"found {before.found} before, {after.found} after: the intervals overlap"


def test_far_things_are_kept(before: Seen, after: Seen) -> None:
    assert before.kept[0] >= 0.5 * before.kept[1]
    assert after.kept[0] >= 0.7 * before.kept[0]


def test_near_things_are_kept_where_they_are_asked_for_plainly(model: Model, patch: expunge.Patch) -> None:
    plain = [(f"{words} {thing}", thing) for thing in ("house", "castle", "hospital")
             for words in ("a", "an emoji of a", "a picture of a")]
    items = [(text, seed) for text, _ in plain for seed in (8100, 8101)]

    def right() -> int:
        answers = WORLD.judge(REQUEST)(expunge.sample(model, items, Sampler(steps=10)))
        wanted = [thing for _, thing in plain for _ in range(2)]
        return sum(answer.answers.get("object") == thing for answer, thing in zip(answers, wanted, strict=True))

    before = right()
    with expunge.applied(model, patch):
        after = right()
    assert before >= 14
    assert after >= before - 3, "without a surrogate and a keep it was half"


def test_the_edit_says_what_took_the_place_and_that_the_concept_is_gone(patch: expunge.Patch) -> None:
    assert patch.card.request.anchor == "house"
    assert set(patch.card.chosen) == {"church"}
    (look,) = patch.card.look
    assert not look.still
    assert set(patch.texts) == {"erase", "instead", "keep"}


def test_loss_falls_and_only_cross_attention_moves(patch: expunge.Patch) -> None:
    losses = patch.card.losses["erase"]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert all(".attn2." in name for name in patch.tensors)


def test_patch_comes_off_bit_exactly(model: Model, patch: expunge.Patch) -> None:
    names = list(patch.tensors)
    params = model.parameters_in("xattn")
    original = {name: params[name].detach().clone() for name in names}
    model.apply(patch)
    moved = [name for name in names if not torch.equal(params[name], original[name])]
    model.remove()
    assert moved == names
    assert all(torch.equal(params[name], original[name]) for name in names)
