"""What a training service is told, and what users save."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from expunge.errors import UserError
from expunge.guard import captioned, check_lora, random_mask, read_lora_config, savings, terms
from expunge.guard.mask import mask_of
from expunge.guard.pictures import captioned_folder
from expunge.models.model import Model


def test_terms_name_every_parameter_as_diffusers_does(model: Model) -> None:
    mask = random_mask(model, 0.5, by="count")
    told = terms(model, mask)
    assert {*told.frozen, *told.trainable} == {name for name, _ in model.network.named_parameters()}
    assert not set(told.frozen) & set(told.trainable)
    assert told.lora_targets
    layers = dict(model.network.named_modules())
    assert all(isinstance(layers[name], nn.Linear) and f"{name}.weight" in told.trainable for name in told.lora_targets)


@pytest.mark.parametrize("targets", [("to_q",), ["to_k", "to_v"], r".*attn2\.to_q", "all-linear",
                                     r"(down|up)_blocks\.\d+\..*attn\d\.(to_q|to_k|to_out\.0)"])
def test_a_lora_s_configuration_is_judged_as_peft_reads_it(model: Model, targets: Any, tmp_path: Path
                                                           ) -> None:
    from peft import LoraConfig

    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"target_modules": targets}))
    read = read_lora_config(file)
    layers = check_lora(model, mask_of(model, [], method="test", ratio=0.0), read)
    model.network.add_adapter(LoraConfig(r=2, target_modules=targets if isinstance(targets, str) else list(targets)))
    on = {name.partition(".lora_A")[0] for name, _ in model.network.named_parameters() if ".lora_A." in name}
    model.network.unload_lora()
    assert set(layers) == on
    held = mask_of(model, [f"unet/{layers[0]}.weight"], method="test", ratio=0.0)
    with pytest.raises(UserError, match="1 frozen layers"):
        check_lora(model, held, read)


@pytest.mark.parametrize(("text", "says"), [
    ("{", "Expecting property name"), ("{}", "no configuration"), ('{"target_modules": [1]}', "target_modules is"),
    ('{"target_modules": ["nothing"]}', "no layer"), ('{"target_modules": "("}', "target_modules '\\('"),
    ("[]", "mapping"),
    ('{"target_modules": ["to_q"], "peft_type": "LOHA"}', "peft_type is 'LOHA'"),
    ('{"target_modules": ["to_q"], "bias": "some"}', "bias is 'some'"), ("[" * 100_000, "more than 100 deep"),
    ('{"target_modules": ["to_q"], "modules_to_save": "conv_in"}', "modules_to_save is"),
    ('{"target_modules": ["to_q"], "exclude_modules": ["to_q"]}', "no layer")])
def test_bad_configurations_are_told(model: Model, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=says):
        check_lora(model, random_mask(model, 0.5), read_lora_config(tmp_path / "a.json"))


@pytest.mark.parametrize(("more", "says"), [
    ({}, ""), ({"modules_to_save": ["conv_in"]}, "modules_to_save trains 1 frozen"), ({"lora_bias": True}, "lora_bias"),
    ({"bias": "all"}, "bias 'all' trains 2 frozen"), ({"bias": "lora_only"}, "bias 'lora_only' trains 1 frozen"),
    ({"target_parameters": ["conv_in.weight"]}, "target_parameters trains 1 frozen"),
    ({"target_modules": "all-linear"}, "1 frozen layers"), ({"peft_type": "LORA", "modules_to_save": None}, ""),
    ({"target_modules": ["to_out.0", "to_q"], "exclude_modules": r".*attn1\.to_q"}, "")])
def test_all_that_a_lora_trains_is_judged(model: Model, tmp_path: Path, more: dict[str, Any], says: str
                                          ) -> None:
    names = list(model.parameters_of("denoiser"))
    held = [next(name for name in names if name.endswith(end)) for end in ("to_out.0.bias", "attn1.to_q.weight")]
    mask = mask_of(model, [*held, "unet/conv_in.weight", "unet/conv_in.bias"][: 4 if "all" in more.values() else 3],
                   method="test", ratio=0.0)
    (tmp_path / "a.json").write_text(json.dumps({"target_modules": ["to_out.0"], **more}))
    if not says:
        assert check_lora(model, mask, read_lora_config(tmp_path / "a.json"))
        return
    with pytest.raises(UserError, match=says):
        check_lora(model, mask, read_lora_config(tmp_path / "a.json"))


@pytest.mark.parametrize("pattern", [r"([\w.]|[\w.])*!", "(a*)*!", "((a+)b)+", ".*.*.*.*.*!", ".?" * 30 + "!",
                                     "(d|d)(o|o)" * 20, "(a)" * 150 + "((", r"(.)\1", "a{1,99}", "(?=.*a)b"])
def test_expressions_that_could_take_for_ever_are_refused(model: Model, pattern: str) -> None:
    with pytest.raises(UserError, match=r"take for ever|unterminated"):
        check_lora(model, random_mask(model, 0.0), pattern)


def test_terms_for_targets_that_fit_no_layer_are_refused(model: Model) -> None:
    with pytest.raises(UserError, match="no layer of the UNet fits"):
        terms(model, random_mask(model, 0.5), ["nothing"])


def test_savings_of_everything_and_nothing(model: Model) -> None:
    nothing, everything = savings(model, random_mask(model, 0.0)), savings(model, random_mask(model, 1.0))
    size = sum(p.numel() for p in model.network.parameters())
    assert (nothing.memory_bytes, nothing.time_share, nothing.first_trainable) == (
        0, 0, "unet/time_embedding.linear_1.weight")
    assert everything.memory_bytes == 12 * size
    assert everything.weight_gradients == pytest.approx(1 / 3)
    assert everything.time_share == pytest.approx(2 / 3)
    assert everything.first_trainable == ""


def test_savings_are_those_of_flops_that_torch_counts(model: Model) -> None:
    """Forward and backward with and without gradients of the frozen weights; attention's own products excepted."""
    from torch.utils.flop_counter import FlopCounterMode

    names = [name for name in model.parameters_of("denoiser") if "conv" in name and name.endswith(".weight")
             and "conv_in" not in name]
    mask = mask_of(model, names, method="test", ratio=0.5)
    told = savings(model, mask)

    def flops(frozen: bool) -> int:
        model.network.requires_grad_(True)
        for name, p in model.parameters_of("denoiser").items():
            p.requires_grad_(not (frozen and name in names))
        with FlopCounterMode(display=False) as counter:
            cond = model.encode(["a church"])
            model.predict(model.initial_noise([0]), torch.tensor([5]), cond).square().mean().backward()
        return int(counter.get_total_flops())

    whole, saved = flops(False), flops(False) - flops(True)
    model.network.requires_grad_(False)
    assert told.weight_gradients == pytest.approx(saved / whole, rel=0.15)


def test_captions_are_found_where_people_keep_them(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(np.full((16, 16, 3), 100, dtype=np.uint8)).save(tmp_path / name)
    with pytest.raises(UserError, match=r"no image in .* has a caption .a\.png first"):
        captioned(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "first"}\n')
    (tmp_path / "b.txt").write_text("second\n")
    pictures, captions = captioned(tmp_path, "all")
    assert captions == ["first", "second", "all"]
    assert pictures.shape == (3, 3, 16, 16)
    assert float(pictures.mean()) == pytest.approx(100 / 255)
    (tmp_path / "metadata.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"metadata\.jsonl cannot be read"):
        captioned(tmp_path)
    with pytest.raises(UserError, match="no images in"):
        captioned(tmp_path / "nowhere")


def test_a_picture_without_a_caption_that_can_be_read_is_left_out_by_itself_and_named(tmp_path: Path) -> None:
    for place, name in enumerate(("a.png", "b.png", "c.png")):
        Image.fromarray(np.full((16, 16, 3), 50 * place, dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "b.txt").write_text("second\n")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\xff")
    found, captions = captioned_folder(tmp_path)
    assert captions == ["second"]
    assert [file.name for file in found.files] == ["b.png"]
    assert float(found.pictures.mean()) == pytest.approx(50 / 255)
    assert found.notices == ["1 of 3 images left out: it has no caption (a.png).",
                             "1 of 3 images left out: its caption cannot be read (c.png)."]
    found, captions = captioned_folder(tmp_path, "all")
    assert captions == ["all", "second"], "a caption for all stands in for none, not for one that is damaged"
