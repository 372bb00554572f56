"""Features and distances by name: files by role and hash, deviations in the name, nothing replaced in silence."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from made_weights import alexnet_file, inception_file

from expunge.errors import ModelError, UserError
from expunge.metrics import inception_features
from expunge.metrics.inception import WIDTH
from expunge.metrics.named import distance_named, features_named
from expunge.registry import DISTANCES, FEATURES

PICTURES = torch.rand(3, 3, 40, 56, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inception_file(tmp_path_factory.mktemp("inception"))


def test_inception_of_another_hash_is_refused_and_with_a_word_says_so_in_its_name(inception: Path) -> None:
    with pytest.raises(UserError, match="6726825d"):
        features_named("inception", {"inception": inception})
    made = features_named("inception", {"inception": inception}, resizer="tf299", modified=True)
    assert made.name.startswith("inception-modified@")
    assert made.name.endswith("/tf299")
    out = made(PICTURES)
    assert tuple(out.shape) == (3, WIDTH) == (3, made.width)
    assert out.std() > 0
    assert tuple(made(PICTURES[:0]).shape) == (0, WIDTH)


def test_features_do_not_depend_on_the_batch(inception: Path) -> None:
    make = inception_features.InceptionFeatures
    whole = make(inception, modified=True)(PICTURES)
    torch.testing.assert_close(make(inception, modified=True, batch=1)(PICTURES), whole, rtol=1e-4, atol=1e-5)


def test_a_file_with_a_weight_missing_is_told_by_its_name(inception: Path, tmp_path: Path) -> None:
    state = torch.load(inception, weights_only=True)
    del state["Mixed_6b.branch7x7_2.conv.weight"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(ModelError, match=r"Mixed_6b\.branch7x7_2"):
        features_named("inception", {"inception": tmp_path / "less.pth"}, modified=True)
    (tmp_path / "torn.pth").write_bytes(inception.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be read"):
        features_named("inception", {"inception": tmp_path / "torn.pth"}, modified=True)


def test_torchscript_is_run_only_where_its_hash_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit's; the published file is what it is

    class Layers(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((1, 2, 3), keepdim=True).expand(-1, 2048, 1, 1)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = Layers()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x)

    file = tmp_path / "inception-2015-12-05.pt"
    torch.jit.script(Net()).save(str(file))
    with pytest.raises(ModelError, match="TorchScript program"):
        inception_features.InceptionFeatures(file, modified=True)
    monkeypatch.setattr(inception_features, "SCRIPT", inception_features.file_digest(file))
    made = inception_features.InceptionFeatures(file)
    torch.testing.assert_close(made(PICTURES)[:, 0], made(PICTURES)[:, 99])


def test_a_missing_file_says_its_role_and_where_it_is_published(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs a file: inception.*pytorch-fid"):
        features_named("inception")
    with pytest.raises(UserError, match="no Inception weights"):
        features_named("inception", {"inception": tmp_path / "nowhere"})
    with pytest.raises(UserError, match=r"needs a file: alexnet.*torchvision"):
        distance_named("lpips-64")
    with pytest.raises(UserError, match="takes no file 'inception'"):
        features_named("emoji-judge", {"inception": tmp_path})
    with pytest.raises(UserError, match="it has its own"):
        features_named("emoji-judge", resizer="clean299")
    with pytest.raises(UserError, match="did you mean 'inception'"):
        features_named("inceptoin")


def test_the_embedded_judge_and_a_clip_are_ordinary_entries(clip_files: Path) -> None:
    from expunge.tiny.emoji import emoji_world

    world = emoji_world()
    assert features_named("emoji-judge").name == world.features().name
    assert distance_named("emoji-judge").name == world.distance().name
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(features_named("emoji-judge")(x), world.features()(x))
    clip = features_named("clip", {"clip": clip_files})
    assert clip.name.startswith("clip-features:tiny-clip@")
    assert tuple(clip(x).shape) == (2, clip.width)


def test_other_packages_add_their_own_by_entry_points() -> None:
    assert (FEATURES.group, DISTANCES.group) == ("expunge.features", "expunge.distances")


def test_every_entry_has_a_line_of_help_and_lives_where_it_says() -> None:
    for known in (FEATURES, DISTANCES):
        for name in known.names():
            assert known.help(name)
            assert callable(known.get(name))


def test_lpips_is_nought_for_equal_pictures_and_grows(tmp_path: Path) -> None:
    file = alexnet_file(tmp_path)
    with pytest.raises(UserError, match="begins with 7be5be79"):
        distance_named("lpips", {"alexnet": file})
    d, small = (distance_named(name, {"alexnet": file}, modified=True) for name in ("lpips", "lpips-64"))
    assert (d.name.partition("@")[0], small.name.partition("@")[0]) == ("lpips-alex-modified", "lpips-alex-modified-64")
    other = (PICTURES + 0.1 * torch.rand(3, 3, 40, 56, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    assert d(PICTURES, PICTURES).abs().max() == 0
    assert (d(PICTURES, other) > 0).all()
    assert (d(PICTURES, 1 - PICTURES) > d(PICTURES, other)).all()
    torch.testing.assert_close(d(PICTURES, other), d(other, PICTURES))
    with pytest.raises(UserError, match="32x32"):
        d(PICTURES[..., :20], other[..., :20])
    assert (small(PICTURES[..., :20], other[..., :20]) > 0).all()


def test_lpips_64_is_lpips_of_the_small_picture(tmp_path: Path) -> None:
    from PIL import Image

    file = alexnet_file(tmp_path)
    d, small = (distance_named(name, {"alexnet": file}, modified=True) for name in ("lpips", "lpips-64"))
    x = (torch.rand(2, 3, 128, 96, generator=torch.Generator().manual_seed(2)) * 255).round() / 255

    def shrunk(picture: torch.Tensor) -> torch.Tensor:
        image = Image.fromarray((picture * 255).to(torch.uint8).permute(1, 2, 0).numpy())
        made = image.resize((64, 85), Image.Resampling.BILINEAR)  # int(64 * 128 / 96)
        return torch.frombuffer(bytearray(made.tobytes()), dtype=torch.uint8).reshape(85, 64, 3).permute(2, 0, 1) / 255

    by_hand = torch.stack([shrunk(picture) for picture in x])
    torch.testing.assert_close(small(x[:1], x[1:]), d(by_hand[:1], by_hand[1:]), rtol=1e-4, atol=1e-6)
