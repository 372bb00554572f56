"""OpenCLIP's folders give the numbers of the same network in transformers' names, and others are refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from expunge.detectors.opening import open_detector
from expunge.errors import ModelError
from expunge.metrics.clip import LocalClip
from expunge.metrics.open_clip import CONFIG, WEIGHTS, is_open_clip, transformers_names

NAMES = {"text_model.embeddings.token_embedding.weight": "token_embedding.weight",
         "text_model.embeddings.position_embedding.weight": "positional_embedding",
         "text_model.final_layer_norm.": "ln_final.", "text_projection.weight": "text_projection",
         "vision_model.embeddings.class_embedding": "visual.class_embedding",
         "vision_model.embeddings.patch_embedding.": "visual.conv1.",
         "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
         "vision_model.pre_layrnorm.": "visual.ln_pre.", "vision_model.post_layernorm.": "visual.ln_post.",
         "visual_projection.weight": "visual.proj", "text_model.encoder.layers.": "transformer.resblocks.",
         "vision_model.encoder.layers.": "visual.transformer.resblocks.", ".layer_norm1.": ".ln_1.",
         ".layer_norm2.": ".ln_2.", ".mlp.fc1.": ".mlp.c_fc.", ".mlp.fc2.": ".mlp.c_proj.",
         ".self_attn.out_proj.": ".attn.out_proj."}


def open_clip_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The other way round, written by hand from OpenCLIP's modules."""
    out = {}
    for name, value in state.items():
        new = name
        for ours, theirs in NAMES.items():
            new = new.replace(ours, theirs)
        if ".self_attn.q_proj." in name:
            parts = [state[name.replace("q_proj", f"{which}_proj")] for which in "qkv"]
            out[new.replace("self_attn.q_proj.", "attn.in_proj_")] = torch.cat(parts)
        elif "self_attn.k_proj" not in name and "self_attn.v_proj" not in name:
            out[new] = value.T.contiguous() if name.endswith("l_projection.weight") or name.startswith("text_pro") \
                else value
    return out


@pytest.fixture(params=["quick_gelu", "gelu"])
def pair(request: pytest.FixtureRequest, clip_files: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A folder of transformers and the same network as OpenCLIP keeps it."""
    from transformers import CLIPModel

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    shutil.copytree(clip_files, ours)
    shutil.copytree(clip_files, theirs, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    config = json.loads((ours / "config.json").read_text())
    words = config["text_config"]["vocab_size"]
    for tower in ("text_config", "vision_config"):
        config[tower]["hidden_act"] = request.param
    (ours / "config.json").write_text(json.dumps(config))
    model = CLIPModel.from_pretrained(ours)
    with torch.no_grad():
        for number, value in enumerate(model.parameters()):  # random weights leave biases and norms at their start
            value.add_(0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(number)))
    model.save_pretrained(ours, safe_serialization=True)
    save_file(open_clip_names(load_file(ours / "model.safetensors")), theirs / WEIGHTS)
    text = {"context_length": 16, "vocab_size": words, "width": 16, "heads": 2, "layers": 1, "mlp_ratio": 2.0}
    vision = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "mlp_ratio": 2.0, "patch_size": 8}
    write(theirs, {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text, "quick_gelu": request.param == "quick_gelu"},
          mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
    return ours, theirs


def write(folder: Path, model: dict[str, Any], **preparation: Any) -> None:
    (folder / CONFIG).write_text(json.dumps({"model_cfg": model, "preprocess_cfg": preparation}))


def test_the_same_network_under_both_names_gives_the_same_features(pair: tuple[Path, Path]) -> None:
    ours, theirs = map(LocalClip, pair)
    pictures = torch.rand(3, 3, 20, 16, generator=torch.Generator().manual_seed(1))
    texts = ["a church", "a house by the sea", "a dog"]
    torch.testing.assert_close(theirs.picture_features(pictures), ours.picture_features(pictures), rtol=0, atol=1e-6)
    torch.testing.assert_close(theirs.text_features(texts), ours.text_features(texts), rtol=0, atol=1e-6)
    assert theirs.scale == pytest.approx(ours.scale)
    assert is_open_clip(pair[1])
    assert not is_open_clip(pair[0])


def test_the_clip_detector_takes_both_folders(pair: tuple[Path, Path]) -> None:
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    one, other = (open_detector("clip", {"classes": ["church", "dog"]}, {"folder": folder})(pictures)
                  for folder in pair)
    for a, b in zip(one, other, strict=True):
        assert a.scores == pytest.approx(b.scores, abs=1e-5)


def test_a_folder_that_is_both_is_read_as_transformers(pair: tuple[Path, Path]) -> None:
    ours, theirs = pair
    shutil.copy(theirs / CONFIG, ours)
    assert not is_open_clip(ours)


def test_a_text_tower_of_its_own_is_the_same_tower(pair: tuple[Path, Path]) -> None:
    weights = load_file(pair[1] / WEIGHTS)
    custom = {name if name.startswith("visual") or name == "logit_scale" else f"text.{name}": value
              for name, value in weights.items()}
    assert transformers_names({**custom, "text.attn_mask": torch.zeros(2, 2)}).keys() == \
        transformers_names(weights).keys()


@pytest.mark.parametrize(("part", "key", "value", "said"), [
    ("vision_cfg", "timm_model_name", "vit_base", "vision_cfg.timm_model_name"),
    ("vision_cfg", "layers", [3, 4, 6, 3], "a ResNet"), ("text_cfg", "hf_model_name", "xlm", "text_cfg.hf_model_name"),
    ("", "init_logit_bias", -10, "model_cfg.init_logit_bias"), ("vision_cfg", "width", 24, "other tensors"),
    ("vision_cfg", "layers", 2, "other tensors")])
def test_what_transformers_clip_has_not_is_refused_by_its_name(part: str, key: str, value: object, said: str,
                                                               pair: tuple[Path, Path]) -> None:
    config = json.loads((pair[1] / CONFIG).read_text())
    (config["model_cfg"][part] if part else config["model_cfg"])[key] = value
    write(pair[1], config["model_cfg"], **config["preprocess_cfg"])
    with pytest.raises(ModelError, match=said):
        LocalClip(pair[1])


def test_pickled_weights_and_another_preparation_are_refused(pair: tuple[Path, Path]) -> None:
    folder = pair[1]
    config = json.loads((folder / CONFIG).read_text())
    write(folder, config["model_cfg"], resize_mode="squash")
    with pytest.raises(ModelError, match="resize_mode squash"):
        LocalClip(folder)
    (folder / WEIGHTS).rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights"):
        LocalClip(folder)
