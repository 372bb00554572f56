"""Classifiers of whole images, by real networks with random weights."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from shown import noise

from expunge.detectors.classifiers import state_dict, told_apart
from expunge.detectors.image_classification import resizer
from expunge.detectors.opening import open_detector
from expunge.detectors.preprocess import pil_images, prepared
from expunge.detectors.reading import read
from expunge.errors import ConfigError, ExpungeError, ModelError, UserError

TEST_ONLY = {"purpose": "test-only"}


def rows(readings: Any) -> torch.Tensor:
    assert not any(reading.error for reading in readings), readings
    return torch.tensor([list(reading.scores.values()) for reading in readings])


def test_a_transformers_folder_says_what_transformers_says(classifier_files: Path) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model, images = AutoModelForImageClassification.from_pretrained(classifier_files), noise(3, 30, 22)
    processor = AutoImageProcessor.from_pretrained(classifier_files, use_fast=False)
    assert resizer(processor) == "pil"
    inputs = processor(images=pil_images(images), return_tensors="pt")
    with torch.no_grad():
        wanted = model(**inputs).logits.softmax(1)
    detector = open_detector("image-classification", TEST_ONLY, {"folder": classifier_files})
    assert torch.allclose(rows(read(detector, images)), wanted, atol=1e-6)
    assert detector.labels == ("church, church building", "crane #1", "crane #2")
    assert detector.name.startswith("test-only/image-classification@")


def test_the_name_follows_the_weights_and_the_preparation(classifier_files: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(classifier_files, other)
    names = [open_detector("image-classification", TEST_ONLY, {"folder": classifier_files}).name,
             open_detector("image-classification", TEST_ONLY, {"folder": other}).name]
    settings = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps({**settings, "image_mean": [0.4, 0.5, 0.5]}))
    names.append(open_detector("image-classification", TEST_ONLY, {"folder": other}).name)
    assert names[0] == names[1] != names[2]


def test_a_folder_without_safetensors_head_or_processor_is_refused(classifier_files: Path, tmp_path: Path) -> None:
    def damaged(name: str) -> Path:
        shutil.copytree(classifier_files, tmp_path / name)
        return tmp_path / name

    pickled = damaged("pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    bare = damaged("bare")
    (bare / "preprocessor_config.json").unlink()
    headless = damaged("headless")
    from safetensors.torch import load_file

    whole = load_file(headless / "model.safetensors")
    save_file({name: tensor for name, tensor in whole.items() if "classifier" not in name},
              headless / "model.safetensors", {"format": "pt"})
    for folder, words in ((pickled, "never read"), (bare, "preprocessor_config"), (headless, "lack classifier")):
        with pytest.raises(ModelError, match=words):
            open_detector("image-classification", TEST_ONLY, {"folder": folder})


def test_clip_is_a_softmax_of_scaled_cosines_or_the_cosines(clip_files: Path) -> None:
    from expunge.metrics.clip import LocalClip

    clip, images, classes = LocalClip(clip_files), noise(3, 20, 16), ("church", "house", "dog")
    cosines = torch.stack([clip(images, [f"a photo of the {name}"] * 3) for name in classes], dim=1)
    options = {**TEST_ONLY, "classes": classes, "template": "a photo of the {}"}
    for score, wanted in (("cosine", cosines), ("probability", (clip.scale * cosines).softmax(1))):
        found = rows(read(open_detector("clip", {**options, "score": score}, {"folder": clip_files}), images))
        assert torch.allclose(found, wanted, atol=1e-5)


def test_clip_under_openais_preparation_reads_the_prepared_images(clip_files: Path) -> None:
    from expunge.metrics.clip import LocalClip

    clip, images = LocalClip(clip_files), noise(2, 40, 30)
    features = clip.prepared_features(prepared("clip224", images, 16))
    cosines = features @ clip.text_features(["a photo of a church", "a photo of a dog"]).T
    options = {**TEST_ONLY, "classes": ("church", "dog"), "score": "cosine", "preprocess": "clip224"}
    assert torch.allclose(rows(read(open_detector("clip", options, {"folder": clip_files}), images)), cosines,
                          atol=1e-6)


@pytest.mark.parametrize(("options", "words"), [
    ({}, "classes: not given"), ({"classes": ("a", "a")}, "same class twice"), ({"classes": ()}, "classes"),
    ({"classes": ("a",), "template": "a photo"}, "template"), ({"classes": ("a",), "margin": 1}, "unknown setting")])
def test_wrong_settings_are_told_before_a_file_is_opened(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_detector("clip", options, {"folder": "/nowhere"})


def test_q16_is_the_larger_of_two_cosines(clip_files: Path, tmp_path: Path) -> None:
    from expunge.detectors.rule import Rule
    from expunge.metrics.clip import LocalClip

    prompts = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float16)
    file = tmp_path / "prompts.p"
    file.write_bytes(pickle.dumps(prompts))
    detector, images = open_detector("q16", TEST_ONLY, {"prompts": file, "folder": clip_files}), noise(6, 20, 20)
    features = LocalClip(clip_files).prepared_features(prepared("clip224", images, 16))
    similarity = 100 * features @ F.normalize(torch.from_numpy(prompts.astype(np.float32)), dim=-1).T
    readings = read(detector, images)
    assert torch.allclose(rows(readings), similarity.softmax(1), atol=1e-5)
    rule = Rule(labels=("inappropriate",), rule="top")
    assert [rule.shows(reading) for reading in readings] == (similarity.argmax(1) == 1).tolist()
    file.write_bytes(pickle.dumps(prompts[:, :4]))
    with pytest.raises(ModelError, match="shape"):
        open_detector("q16", TEST_ONLY, {"prompts": file, "folder": clip_files})


def test_equal_labels_are_told_apart_by_their_index() -> None:
    assert told_apart(["crane", "dog", "crane"]) == ("crane #0", "dog", "crane #2")


def test_a_state_dict_is_read_without_running_anything(tmp_path: Path) -> None:
    state = {"module.weight": torch.ones(2), "module.bias": torch.zeros(1)}
    file = tmp_path / "w.pth"
    torch.save({"epoch": 3, "model_state_dict": state}, file)
    assert set(state_dict(file, "model_state_dict", "module.")) == {"weight", "bias"}
    for key, words in (("", "no state dict"), ("state", "no 'state'")):
        with pytest.raises(ModelError, match=words):
            state_dict(file, key)
    torch.save(torch.nn.Linear(2, 2), file)  # a whole pickled module
    with pytest.raises(ModelError, match="can run any code"):
        state_dict(file)
    save_file(state, tmp_path / "w.safetensors")
    assert set(state_dict(tmp_path / "w.safetensors")) == set(state)


def torchvision() -> Any:
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    return torchvision


def test_torchvision_says_what_torchvision_says(tmp_path: Path) -> None:
    library, file, images = torchvision(), tmp_path / "w.pth", noise(2, 300, 260)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = library.models.get_model("squeezenet1_1", weights=None).eval()
    torch.save(model.state_dict(), file)
    transforms = library.models.get_model_weights("squeezenet1_1").DEFAULT.transforms()
    with torch.no_grad():
        wanted = model(torch.stack([transforms(image) for image in pil_images(images)])).softmax(1)
    detector = open_detector("torchvision", {**TEST_ONLY, "architecture": "squeezenet1_1"}, {"weights": file})
    assert torch.allclose(rows(read(detector, images)), wanted, atol=1e-6)
    assert detector.labels[497] == "church"
    with pytest.raises(ModelError, match="not those of"):
        open_detector("torchvision", {**TEST_ONLY, "architecture": "squeezenet1_1", "labels": ("a", "b")},
                      {"weights": file})
    with pytest.raises(UserError, match="knows no"):
        open_detector("torchvision", {"architecture": "resnet51"}, {"weights": file})


def test_timm_with_a_new_head_says_what_timm_says(tmp_path: Path) -> None:
    torchvision()
    timm = pytest.importorskip("timm")
    from torchvision import transforms

    file, images, labels = tmp_path / "w.pth", noise(2, 50, 40), tmp_path / "labels.txt"
    labels.write_text("Abstractionism\nCartoon\nVan_Gogh\n", encoding="utf-8-sig")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("test_resnet", pretrained=False, num_classes=3).eval()
    torch.save({"model_state_dict": model.state_dict()}, file)
    own = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    options = {**TEST_ONLY, "architecture": "test_resnet", "key": "model_state_dict"}
    files = {"weights": file, "labels": labels}
    with torch.no_grad():
        wanted = model(torch.stack([own(image) for image in pil_images(images)])).softmax(1)
    detector = open_detector("timm", options, files)
    assert detector.labels == ("Abstractionism", "Cartoon", "Van_Gogh")
    assert torch.allclose(rows(read(detector, images)), wanted, atol=1e-6)
    canvas = transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor(),
                                 transforms.Normalize([0.5], [0.5])])
    with torch.no_grad():
        wanted = model(torch.stack([canvas(image) for image in pil_images(images)])).softmax(1)
    halves = {"preprocess": "stretch224", "mean": (0.5,) * 3, "deviation": (0.5,) * 3}
    found = rows(read(open_detector("timm", {**options, **halves}, files), images))
    assert torch.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_a_library_that_is_not_there_says_what_brings_it(name: str, tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save({"weight": torch.ones(1)}, file)
    try:
        __import__(name)
        pytest.skip(f"{name} is installed")
    except (ImportError, RuntimeError):
        pass
    with pytest.raises(ExpungeError, match="pip install"):
        open_detector(name, {"architecture": "resnet50", "labels": ("a",)}, {"weights": file})
