"""Words that bring a concept back: that they do, that the weights come back, whose turn it is; and the composed target.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import mse_loss

from expunge.errors import UserError
from expunge.models.store import load
from expunge.records import Request, Target
from expunge.unlearn.ablation import noise_target
from expunge.unlearn.compose import Compose, Wordings
from expunge.unlearn.context import TrainContext
from expunge.unlearn.found_words import FoundWords, Words
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church on a hill", "a church"), anchor="house")
TWO = REQUEST.model_copy(update={"also": (Target(concept="dog", prompts=("a picture of a dog",), anchor="cat"),)})
POOL = FrozenTrajectory(grid=3, trajectories=3)
FEW = FoundWords(count=2, erase_steps=3, erase_rate=1e-3, search_steps=4, rows=2,
                 source=NoisedPictures(pictures=2, grid=3))


def at_work(model: Any, request: Request = REQUEST, settings: FoundWords = FEW) -> tuple[Words, Any, TrainContext]:
    params = model.parameters_in("xattn")
    for p in params.values():
        p.requires_grad_(True)
    context = TrainContext(model, model.frozen_copy(), request, 0, params=params)
    stream = POOL.open(context, request.all_prompts, 4, "erase")
    found = settings.prepare(context, stream, 4)
    assert isinstance(found, Words)
    return found, stream, context


def test_the_weights_come_back_and_the_words_are_new_and_the_same_again(model: Any) -> None:
    before = {name: p.detach().clone() for name, p in model.parameters_in("xattn").items()}
    first = at_work(model)[0].found
    assert all(torch.equal(p, before[name]) for name, p in model.parameters_in("xattn").items())
    assert torch.equal(at_work(model)[0].found, first)
    assert first.shape == (1, 2, model.texts[0].table.shape[1])
    assert not torch.equal(first[0, 0], first[0, 1])


@pytest.mark.slow
def test_a_word_brings_back_what_the_name_no_longer_does(model: Any) -> None:
    """In the student that a round of erasing leaves, images of the concept are denoised better with the word."""
    settings = FEW.model_copy(update={"count": 1, "erase_steps": 40, "erase_rate": 3e-3, "search_steps": 150,
                                      "search_rate": 0.05})
    words, stream, context = at_work(model, settings=settings)
    settings._erase(context, stream, words, 0)
    pictures = NoisedPictures(pictures=2, grid=3).open(context, REQUEST.prompts, 64, "others")
    points = pictures.draw(0)
    with torch.no_grad():
        by_name, by_word = (float(mse_loss(model.predict(points.x_t, points.t, words.conditioning(
            model, points, [which] * 64)), noise_target(context, points))) for which in (0, 1))
    assert by_word < by_name


def test_prompts_and_words_are_told_in_turn_each_as_often(model: Any) -> None:
    words, stream, _ = at_work(model)
    points = stream.draw(0)
    asked = words.wordings(points)
    assert isinstance(words, Wordings)
    assert len(asked) == 3
    torch.testing.assert_close(asked[0].states, points.cond.states)
    turns = []
    for number in range(3):
        said = words.condition(number, points).states
        near = [[float((said[i] - one.states[i]).norm()) for one in asked] for i in range(4)]
        turns += [min(range(3), key=row.__getitem__) for row in near]
    assert turns == [0, 1, 2] * 4


def test_each_concept_has_words_of_its_own(model: Any) -> None:
    words, _, _ = at_work(model, TWO)
    assert words.found.shape[:2] == (2, 2)
    assert not torch.equal(words.found[0], words.found[1])


def test_the_composed_target_by_hand(model: Any) -> None:
    words, stream, context = at_work(model)
    with torch.no_grad():
        for p in model.parameters_in("xattn").values():
            p.mul_(1.2)
    points = stream.draw(0)
    teacher = context.teacher
    with torch.no_grad():
        ask = lambda cond: teacher.predict(points.x_t, points.t, cond)
        e = ask(teacher.encode([""]).repeat(4))
        q = ask(teacher.encode([text.replace("church", "house") for text in points.prompts]))
        for attacker, asked in ((None, [points.cond]), (words, words.wordings(points))):
            away = torch.stack([ask(cond) for cond in asked]).mean(0)
            wanted = e + 0.5 * (q - e) - 2.0 * (away - e)
            told = points.cond if attacker is None else words.condition(0, points)
            loss = Compose(toward=0.5, away=2.0).prepare(context, stream, attacker).loss(0)
            by_hand = mse_loss(model.predict(points.x_t, points.t, told), wanted)
            assert float(loss) == pytest.approx(float(by_hand), rel=1e-3)


def test_a_lora_and_half_precision_are_searched_with_too(model: Any, pipeline_folder: Path) -> None:
    recipe = Recipe(source=POOL, adversary=FEW, objective=Compose(), steps=2, batch=2, learning_rate=1e-3)
    assert recipe.override({"lora_rank": 2})(model, REQUEST).card.kind == "lora"
    half = load(pipeline_folder, device="cpu", dtype="bfloat16")
    before = {name: p.detach().clone() for name, p in half.parameters_of("denoiser").items()}
    assert recipe(half, REQUEST).tensors
    assert all(torch.equal(p, before[name]) for name, p in half.parameters_of("denoiser").items())


def test_a_run_that_goes_on_does_not_look_for_words_again(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                          ) -> None:
    recipe = Recipe(source=POOL, adversary=FEW, objective=Compose(), steps=4, batch=2, learning_rate=1e-3,
                    checkpoint_every=0.0)
    whole = recipe(model, REQUEST)

    def killed(done: int, total: int, losses: Any) -> None:
        if losses and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipe(model, REQUEST, checkpoint=tmp_path / "c.safetensors", progress=killed)
    monkeypatch.setattr(FoundWords, "_search", lambda *given: pytest.fail("it looked again"))
    again = recipe(model, REQUEST, checkpoint=tmp_path / "c.safetensors")
    assert all(torch.equal(again.tensors[name], value) for name, value in whole.tensors.items())


def test_images_for_fewer_concepts_than_there_are_are_refused(model: Any) -> None:
    few = FEW.model_copy(update={"source": NoisedPictures(pictures=1, grid=3)})
    with pytest.raises(UserError, match=r"a pool of 1 for 2 concepts.*raise adversary\.source\.pictures"):
        Recipe(source=POOL, adversary=few, objective=Compose(), steps=1).check(model, TWO)


def test_a_prompt_without_room_for_a_word_is_refused(model: Any) -> None:
    room = model.texts[0].room
    long = " ".join(["hill"] * (room + 1))
    with pytest.raises(UserError, match="tokens"):
        Recipe(source=POOL, adversary=FEW, objective=Compose(), steps=1).check(
            model, REQUEST.model_copy(update={"prompts": (long,)}))
