"""Merging a LoRA: what diffusers makes of the file is what we make of it; damaged and foreign files are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from brightness import ITEMS, REQUEST, SAMPLER, Brightness, church_above, weights
from safetensors.torch import load_file, save_file
from torch import Tensor

from expunge.attacks.adapter import Adapter
from expunge.attacks.trial import attempts
from expunge.attacks.victim import Goal, Victim
from expunge.errors import ConfigError, ModelError, UserError
from expunge.finetune import FineTune, fine_tuning, material
from expunge.metrics.base import Aim
from expunge.models.lora import Lora, read_lora
from expunge.models.model import Model
from expunge.registry import ATTACKS

LORA = Lora(rank=2, alpha=3.0, targets=("to_q", "to_v", "to_out.0", "conv1"))


@pytest.fixture
def tuned(model: Model, tmp_path: Path) -> tuple[Path, Tensor]:
    """A LoRA made by a fine-tuning user, and what the model drew with it on."""
    learned = material(model, torch.ones(2, 3, 16, 16), ("a church", "a dog"))
    with fine_tuning(model, learned, FineTune(scope="lora", lora=LORA, steps=4, learning_rate=3e-2)) as tuner:
        list(tuner.train())
        file = tuner.save_lora(tmp_path / "pytorch_lora_weights.safetensors")
        drawn = Victim(model, None, SAMPLER).draw([p.text for p, _ in ITEMS], [s for _, s in ITEMS])
    return file, drawn


def test_merged_adapter_draws_what_the_tuned_model_drew(model: Model, tuned: tuple[Path, Tensor]) -> None:
    file, drawn = tuned
    before, judge = weights(model), Brightness(-1.0)
    plain = Victim(model, None, SAMPLER).draw([p.text for p, _ in ITEMS], [s for _, s in ITEMS])
    outcomes = list(Adapter(path=str(file)).outcomes(Victim(model, None, SAMPLER), REQUEST, ITEMS,
                                                     Goal(judge, Aim("church", "object"))))
    assert torch.allclose(judge.seen[0], drawn, atol=1e-4)
    assert not torch.allclose(plain, drawn, atol=1e-3)
    assert [(o.found, o.spent.images, o.spent.gradient_steps) for o in outcomes] == [(True, 1, 0)] * len(ITEMS)
    assert "at strength 1" in outcomes[0].note
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())


def test_diffusers_reads_the_same_file_in_the_same_way(pipeline_folder: Path, model: Model,
                                                       tuned: tuple[Path, Tensor]) -> None:
    """The reference: diffusers' own loader and peft's own fusing."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder)
    pipe.load_lora_weights(tuned[0].parent, weight_name=tuned[0].name)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    mine = model.parameters_of("denoiser")
    deltas = read_lora(tuned[0], model).deltas(mine)
    theirs = dict(pipe.unet.named_parameters())
    assert any(delta.dim() == 4 for delta in deltas.values())
    for name, p in mine.items():
        expected = theirs[name.removeprefix("unet/")]
        assert torch.allclose(p + deltas.get(name, torch.zeros(())), expected, atol=1e-6)
        assert (name in deltas) == (not torch.equal(p, expected))


def respelt(tensors: Mapping[str, Tensor], way: str) -> dict[str, Tensor]:
    """The same LoRA in another tool's spelling."""
    out = {}
    for name, tensor in tensors.items():
        layer, part = name.removesuffix(".weight").rsplit(".lora_", 1)
        part = {"A": "down", "B": "up"}[part]
        if way == "kohya":
            layer = "lora_unet_" + layer.removeprefix("unet.").replace(".", "_")
            out[f"{layer}.lora_{part}.weight"] = tensor
            out[f"{layer}.alpha"] = torch.tensor(LORA.alpha)
        elif way == "older":
            out[f"{layer}.lora.{part}.weight"] = tensor
        else:
            layer = layer.removesuffix(".0") if layer.endswith("to_out.0") else layer
            head, _, tail = layer.rpartition(".")
            out[f"{head}.processor.{tail}_lora.{part}.weight"] = tensor
    return out


@pytest.mark.parametrize("way", ["kohya", "older", "oldest"])
def test_other_spellings_are_the_same_lora(model: Model, tuned: tuple[Path, Tensor], tmp_path: Path, way: str
                                           ) -> None:
    original = read_lora(tuned[0], model).deltas(model.parameters_of("denoiser"))
    file = tmp_path / f"{way}.safetensors"
    about = {} if way == "kohya" else {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": LORA.alpha})}
    save_file(respelt(load_file(tuned[0]), way), file, about)
    again = read_lora(file, model).deltas(model.parameters_of("denoiser"))
    assert again.keys() == original.keys()
    assert all(torch.allclose(again[name], original[name]) for name in original)


def test_text_encoder_and_no_alpha(model: Model, tmp_path: Path) -> None:
    down, up = torch.ones(1, 32), torch.full((32, 1), 0.5)
    layer = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    save_file({f"{layer}.lora_linear_layer.down.weight": down, f"{layer}.lora_linear_layer.up.weight": up},
              tmp_path / "t.safetensors")
    deltas = read_lora(tmp_path / "t.safetensors", model).deltas(model.parameters_of("text"))
    assert list(deltas) == ["text_encoder/encoder.layers.0.self_attn.q_proj.weight"]
    assert torch.equal(next(iter(deltas.values())), torch.full((32, 32), 0.5))


def test_strength_zero_changes_nothing_and_outcomes_do_not_depend_on_batch(model: Model,
                                                                          tuned: tuple[Path, Tensor]) -> None:
    victim, judge = Victim(model, None, SAMPLER), Brightness(2.0)
    plain = victim.draw([p.text for p, _ in ITEMS], [s for _, s in ITEMS])
    goal = Goal(judge, Aim("church", "object"))
    list(Adapter(path=str(tuned[0]), strength=0.0).outcomes(victim, REQUEST, ITEMS, goal))
    assert torch.allclose(judge.seen[0], plain, atol=1e-5)
    goal = church_above(float(tuned[1].mean((1, 2, 3)).median()))
    whole = [o.found for o in Adapter(path=str(tuned[0])).outcomes(victim, REQUEST, ITEMS, goal)]
    single = [o.found for o in Adapter(path=str(tuned[0]), batch=1).outcomes(victim, REQUEST, ITEMS, goal)]
    backwards = [o.found for o in Adapter(path=str(tuned[0])).outcomes(victim, REQUEST, ITEMS[::-1], goal)]
    assert whole == single == backwards[::-1]
    assert set(whole) == {True, False}


def test_another_file_under_the_same_name_is_another_attack(model: Model, tuned: tuple[Path, Tensor],
                                                            tmp_path: Path) -> None:
    attack, goal = Adapter(path=str(tuned[0])), church_above(2.0)
    run = {"folder": tmp_path / "run", "fresh": 0}
    done = attempts(attack, Victim(model, None, SAMPLER), REQUEST, ITEMS[:1], goal, **run)  # type: ignore[arg-type]
    assert [item.outcome for item in done] == ["not elicited"]
    save_file({name: 2 * tensor for name, tensor in load_file(tuned[0]).items()}, tuned[0])
    with pytest.raises(ConfigError, match="other settings"):
        attempts(attack, Victim(model, None, SAMPLER), REQUEST, ITEMS[:1], goal, **run)  # type: ignore[arg-type]


def test_bad_files_are_refused_before_anything_is_drawn(model: Model, tuned: tuple[Path, Tensor],
                                                        tmp_path: Path) -> None:
    good, victim = load_file(tuned[0]), Victim(model, None, SAMPLER)
    name = next(iter(good))

    def refused(words: str, path: Path | str, error: type[Exception] = ModelError) -> None:
        with pytest.raises(error, match=words):
            Adapter(path=str(path)).check(victim, REQUEST, ITEMS)

    def file(tensors: dict[str, Tensor]) -> Path:
        save_file(tensors, tmp_path / "bad.safetensors")
        return tmp_path / "bad.safetensors"

    refused("needs a LoRA", "", UserError)
    refused("no LoRA at", tmp_path / "nowhere.safetensors")
    (tmp_path / "pickle.bin").write_bytes(b"x")
    refused("runs code", tmp_path / "pickle.bin")
    (tmp_path / "broken.safetensors").write_bytes(b"\x08broken")
    refused("cannot be read", tmp_path / "broken.safetensors")
    refused("holds no tensors", file({}))
    refused("no part of a plain LoRA", file({**good, "unet.mid_block.hada_w1_a": torch.ones(2, 2)}))
    refused("holds only", file({key: value for key, value in good.items() if key != name}))
    refused("does not have", file({key.replace("blocks.1", "blocks.7"): value for key, value in good.items()}))
    refused("the factors of", file({key: torch.ones(2, 999) if key == name else value for key, value in good.items()}))
    assert ATTACKS.get("adapter") is Adapter


@pytest.mark.parametrize(("strength", "said"), [(1.0, "every update of its 32 layers is zero"), (0.0, "strength 0")])
def test_a_lora_that_changes_nothing_is_no_attack_that_found_nothing(
        model: Model, tuned: tuple[Path, Tensor], tmp_path: Path, strength: float, said: str) -> None:
    file = tuned[0]
    if strength:  # as a LoRA is before it was trained: B is zero
        tensors = {name: torch.zeros_like(value) if "lora_B" in name or ".up." in name else value
                   for name, value in load_file(tuned[0]).items()}
        file = tmp_path / "untrained.safetensors"
        save_file(tensors, file)
    with pytest.raises(UserError, match=f"changes nothing .{said}"):
        attempts(Adapter(path=str(file), strength=strength), Victim(model, None, SAMPLER), REQUEST, ITEMS,
                 church_above(2.0), folder=tmp_path / "run", fresh=0)
    assert not (tmp_path / "run").exists()
