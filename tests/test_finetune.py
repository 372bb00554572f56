"""The fine-tuning user: learns by the model's own loss, resumes, stops where asked, and gives the model back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from expunge.errors import ConfigError, ExpungeError, UserError
from expunge.finetune import FineTune, TrainingImages, Tuner, diffusion_loss, fine_tuning, material, picture_folder
from expunge.models.lora import Lora
from expunge.models.model import Model

CAPTIONS = ("a church", "a red apple", "a dog")
QUICK = FineTune(steps=6, batch=2, learning_rate=1e-3)
SCOPES = ("all", "cross-attention", "lora")


def pictures(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def learned(model: Model) -> TrainingImages:
    return material(model, pictures(), CAPTIONS)


def weights(model: Model) -> dict[str, Tensor]:
    named = model.editable()
    return {name: p.detach().clone() for name, p in named.items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def trained(model: Model, learned: TrainingImages, settings: FineTune, **more: Any) -> dict[str, Tensor]:
    """What the tuned parameters are at the end."""
    with fine_tuning(model, learned, settings, **more) as tuner:
        list(tuner.train())
        return {name: p.detach().clone() for name, p in tuner.params.items()}


@pytest.mark.parametrize("scope", SCOPES)
def test_loss_falls_and_the_model_comes_back_bit_exactly(model: Model, learned: TrainingImages, scope: str) -> None:
    before = weights(model)
    rate = 2e-2 if scope == "lora" else 4e-3
    settings = FineTune(scope=scope, steps=25, batch=4, learning_rate=rate, drop=0.0)
    with fine_tuning(model, learned, settings) as tuner:
        start = sum(float(tuner.loss(number).detach()) for number in range(900, 904))
        list(tuner.train())
        end = sum(float(tuner.loss(number).detach()) for number in range(900, 904))
    assert end < 0.98 * start, f"{start} before, {end} after"
    assert same(weights(model), before)
    assert not any(p.requires_grad or p.grad is not None for p in model.network.parameters())


def test_model_comes_back_after_an_error(model: Model, learned: TrainingImages) -> None:
    before = weights(model)

    def stopped_in_the_middle() -> None:
        with fine_tuning(model, learned, QUICK) as tuner:
            next(tuner.train(at=(2,)))
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stopped_in_the_middle()
    assert same(weights(model), before)


def test_each_scope_trains_what_it_says(model: Model, learned: TrainingImages) -> None:
    moved = {}
    for scope in SCOPES[:2]:
        before = weights(model)
        with fine_tuning(model, learned, QUICK.model_copy(update={"scope": scope})) as tuner:
            list(tuner.train())
            after = weights(model)
        moved[scope] = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved["all"] == set(model.parameters_of("denoiser"))
    assert moved["cross-attention"] == {name for name in moved["all"] if ".attn2." in name}
    with fine_tuning(model, learned, FineTune(scope="lora", lora=Lora(targets=("to_k",)))) as tuner:
        assert {name.partition(".lora_")[0].rpartition(".")[2] for name in tuner.params} == {"to_k"}


def test_text_encoder_trains_on_request(model: Model, learned: TrainingImages) -> None:
    settings = FineTune(scope="cross-attention", text_encoder=True, steps=2)
    before = weights(model)
    with fine_tuning(model, learned, settings) as tuner:
        list(tuner.train())
        assert not same(weights(model), before)
        moved = [name for name, value in weights(model).items() if not torch.equal(value, before[name])]
    assert any(name.startswith("text_encoder/") for name in moved)
    assert same(weights(model), before)


def test_target_is_the_model_s_own(model: Model, v_model: Model) -> None:
    """A network that outputs the target by the textbook formula has no loss."""
    x0, eps = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([10, 500, 999])
    for each in (model, v_model):
        abar = each.process.schedule.levels(t)[0].square().view(-1, 1, 1, 1)
        target = eps if each.process.prediction == "epsilon" else abar.sqrt() * eps - (1 - abar).sqrt() * x0
        each.predict = lambda x_t, t, cond, out=target: out  # type: ignore[method-assign, misc]
        assert diffusion_loss(each, x0, eps, t, each.encode(["a church"])).shape == (3,)
        assert float(diffusion_loss(each, x0, eps, t, each.encode(["a church"])).max()) < 1e-10


def test_v_model_learns_too(v_model: Model) -> None:
    with fine_tuning(v_model, material(v_model, pictures(), CAPTIONS), FineTune(steps=20, learning_rate=4e-3)) as tuner:
        start = float(tuner.loss(999).detach())
        list(tuner.train())
        assert float(tuner.loss(999).detach()) < start


def test_training_pauses_where_asked_and_looking_changes_nothing(model: Model, learned: TrainingImages) -> None:
    straight = trained(model, learned, QUICK)
    with fine_tuning(model, learned, QUICK) as tuner:
        stops = []
        for done in tuner.train(at=(0, 2, 5, 100)):
            stops.append((done, tuner.done))
            torch.randn(3)  # somebody else's randomness
            model.predict(learned.latents, torch.tensor([1, 2, 3]), model.encode(CAPTIONS))
        paused = {name: p.detach().clone() for name, p in tuner.params.items()}
    assert stops == [(0, 0), (2, 2), (5, 5), (6, 6)]
    assert same(straight, paused)


@pytest.mark.parametrize("scope", ["cross-attention", "lora"])
def test_seed_decides_everything(model: Model, learned: TrainingImages, scope: str) -> None:
    settings = QUICK.model_copy(update={"scope": scope})
    torch.manual_seed(0)
    first = trained(model, learned, settings, seed=3)
    state = torch.manual_seed(1).get_state()
    again = trained(model, learned, settings, seed=3)
    assert same(first, again)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    assert not same(first, trained(model, learned, settings, seed=4))


@pytest.mark.parametrize("scope", ["cross-attention", "lora"])
def test_killed_training_goes_on_to_the_same_weights(model: Model, learned: TrainingImages, tmp_path: Path,
                                                     scope: str) -> None:
    settings = QUICK.model_copy(update={"scope": scope, "warmup": 4})
    whole, file = trained(model, learned, settings), tmp_path / "user.safetensors"
    with fine_tuning(model, learned, settings) as tuner:
        steps = tuner.train(at=(2, 4), checkpoint=file)
        assert [next(steps), next(steps)] == [2, 4]
        steps.close()
    with fine_tuning(model, learned, settings) as tuner:
        assert list(tuner.train(at=(2, 4, 5), checkpoint=file)) == [4, 5, 6]
        assert same({name: p.detach() for name, p in tuner.params.items()}, whole)
    with fine_tuning(model, learned, settings, seed=9) as tuner, pytest.raises(ConfigError, match="other settings"):
        list(tuner.train(checkpoint=file))


def test_frozen_tensors_stay_and_nothing_left_is_an_error(model: Model, learned: TrainingImages) -> None:
    every = model.parameters_of("denoiser")
    frozen = [name for name in every if "down_blocks" in name]
    with fine_tuning(model, learned, QUICK, frozen=frozen) as tuner:
        before = weights(model)
        list(tuner.train())
        moved = {name for name, value in weights(model).items() if not torch.equal(value, before[name])}
    assert moved == set(every) - set(frozen)
    with pytest.raises(UserError, match="nothing is left"), fine_tuning(model, learned, QUICK, frozen=set(every)):
        pass
    lora = QUICK.model_copy(update={"scope": "lora"})
    with fine_tuning(model, learned, lora, frozen=frozen) as tuner:
        assert tuner.params
        assert not any("down_blocks" in name for name in tuner.params)
    with pytest.raises(UserError, match="nothing is left"), fine_tuning(model, learned, lora, frozen=set(every)):
        pass


def test_prior_pictures_add_their_term(model: Model, learned: TrainingImages) -> None:
    prior = material(model, 1 - pictures(), ("a house", "a house", "a house"))
    with fine_tuning(model, learned, QUICK) as tuner:
        alone = float(tuner.loss(0).detach())
    with fine_tuning(model, learned, QUICK, prior=prior) as tuner:
        both = float(tuner.loss(0).detach())
        assert tuner.rows(2) == 2 * 3 * 2 * QUICK.batch
    weightless = QUICK.model_copy(update={"prior_weight": 0.0})
    with fine_tuning(model, learned, weightless, prior=prior) as tuner:
        assert float(tuner.loss(0).detach()) == pytest.approx(alone, rel=1e-5)
    assert both > alone


def test_every_picture_is_shown_once_a_round(model: Model, learned: TrainingImages) -> None:
    with fine_tuning(model, learned, FineTune(batch=2, drop=0.0)) as tuner:
        texts = [int(row) for number in range(3) for row in tuner._points(learned, number, 0)[3]]
        dropped = Tuner(model, learned, FineTune(drop=1.0), tuner.params, 0, None)._points(learned, 0, 0)[3]
    assert sorted(texts[:3]) == sorted(texts[3:]) == [1, 2, 3]
    assert dropped.tolist() == [0] * 4


def test_sgd_is_plain_gradient_descent(model: Model, learned: TrainingImages) -> None:
    settings = FineTune(optimizer="sgd", steps=1, learning_rate=0.5, max_grad_norm=1e9, scope="cross-attention")
    with fine_tuning(model, learned, settings) as tuner:
        before = {name: p.detach().clone() for name, p in tuner.params.items()}
        gradients = torch.autograd.grad(tuner.loss(0), list(tuner.params.values()))
        list(tuner.train())
        for (name, p), gradient in zip(tuner.params.items(), gradients, strict=True):
            assert torch.allclose(p, before[name] - 0.5 * gradient, atol=1e-7)


def lapses(model: Model) -> Iterator[tuple[Any, str]]:
    learned = material(model, pictures(), CAPTIONS)
    yield lambda: material(model, pictures(0), ()), "images of shape"
    yield lambda: material(model, torch.rand(1, 3, 15, 16), ("a",)), "multiples of 2"
    yield lambda: material(model, pictures(), ("a",)), "1 captions for 3"
    yield lambda: material(model, pictures(1), ("church " * 40,)), "tokens"
    lora = FineTune(scope="lora", lora=Lora(targets=("nothing",)))
    yield lambda: fine_tuning(model, learned, lora).__enter__(), "nothing"


def test_bad_input_is_a_clear_error(model: Model) -> None:
    for act, words in lapses(model):
        with pytest.raises(ExpungeError, match=words):
            act()


def test_half_precision_is_refused(pipeline_folder: Path, learned: TrainingImages) -> None:
    from expunge.models.store import load

    half = load(pipeline_folder, device="cpu", dtype="bfloat16")
    with pytest.raises(UserError, match="bfloat16"), fine_tuning(half, learned):
        pass


def test_missing_peft_names_the_extra(model: Model, learned: TrainingImages, monkeypatch: pytest.MonkeyPatch
                                      ) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"expunge\[lora\]"), fine_tuning(model, learned, FineTune(scope="lora")):
        pass
    assert trained(model, learned, QUICK)


def test_only_a_lora_can_be_saved_as_one(model: Model, learned: TrainingImages, tmp_path: Path) -> None:
    with fine_tuning(model, learned, QUICK) as tuner, pytest.raises(UserError, match="LoRA file"):
        tuner.save_lora(tmp_path / "lora.safetensors")


def test_pictures_that_cannot_be_read_or_are_of_another_size_are_left_out_by_themselves(tmp_path: Path) -> None:
    for name, size in (("a.png", (16, 16)), ("b.PNG", (16, 16)), ("d.png", (24, 16))):
        Image.fromarray(np.zeros((size[1], size[0], 3), dtype=np.uint8)).save(tmp_path / name, format="PNG")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[:40])
    found = picture_folder(tmp_path)
    assert [file.name for file in found.files] == ["a.png", "b.PNG"]
    assert found.pictures.shape == (2, 3, 16, 16)
    assert found.left_out == {"c.png": "it cannot be read", "d.png": "its size is not that of most (16 x 16)"}
    assert found.notices[0] == "1 of 4 images left out: it cannot be read (c.png)."
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "c.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"no image in .* can be read"):
        picture_folder(tmp_path / "none")
