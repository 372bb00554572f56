"""Statistics of real images as a file: those of the whole tensor, known by features and resizer, brought with care."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_weights import inception_file
from PIL import Image

from expunge.cli import run
from expunge.errors import UserError
from expunge.metrics.image_folder import ImageFolder
from expunge.metrics.named import features_named
from expunge.metrics.reference import brought, read_statistics, statistics_of, write_statistics


class Means:
    """Nine numbers of an image, so that FID can be worked out."""

    name, width = "means@0/none", 9

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(pictures, (3, 1)).flatten(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "real"
    place.mkdir()
    draw = np.random.default_rng(0)
    for k in range(20):
        size = (12, 9 + k % 2)
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(place / f"{k:02}.png")
    (place / "broken.png").write_bytes(b"\x89PNG")
    return place


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_statistics_are_those_of_all_pictures_at_once(folder: Path, batch: int) -> None:
    made = statistics_of(ImageFolder.open(folder), Means(), batch=batch, sample=5)
    x = torch.cat([Means()(torch.from_numpy(np.array(Image.open(folder / f"{k:02}.png"))).permute(2, 0, 1)[None] / 255)
                   for k in range(20)]).double()
    torch.testing.assert_close(made.moments.mean, x.mean(0), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(made.moments.covariance, x.T.cov(), rtol=1e-5, atol=1e-9)
    assert (made.moments.n, made.moments.source, made.left_out) == (20, "real", {"broken or cut off": 1})
    whole = statistics_of(ImageFolder.open(folder), Means(), sample=5)
    assert torch.equal(made.moments.sample, whole.moments.sample)
    assert made.pictures == whole.pictures
    assert len(made.moments.sample) == 5


def test_a_file_is_read_back_and_refused_for_other_features(folder: Path, tmp_path: Path) -> None:
    made, file = statistics_of(ImageFolder.open(folder), Means(), source="drawings"), tmp_path / "s.safetensors"
    write_statistics(file, made)
    again = read_statistics(file, "means@0/none")
    assert again.moments.source == "drawings"
    assert again.left_out == made.left_out
    assert torch.equal(again.moments.covariance, made.moments.covariance)
    with pytest.raises(UserError, match="was made with means@0/none"):
        read_statistics(file, "means@0/clean299")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        read_statistics(file)


def test_moments_of_others_are_brought_without_pickle_and_say_what_is_unknown(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(50, 9))
    np.savez(tmp_path / "s.npz", mu=x.mean(0), sigma=np.cov(x, rowvar=False))
    made = brought(tmp_path / "s.npz", Means())
    assert (made.moments.n, len(made.moments.sample)) == (0, 0)
    assert "by the word of who brought it" in made.moments.source
    np.savez(tmp_path / "n.npz", mu=x.mean(0), sigma=np.cov(x, rowvar=False), n=50)
    assert brought(tmp_path / "n.npz", Means(), "mine").moments.n == 50
    for name, arrays, words in (
            ("object", {"mu": np.array([{}], dtype=object), "sigma": x}, "cannot be read"),
            ("shape", {"mu": x.mean(0)[:3], "sigma": x}, "shape"), ("less", {"mu": x.mean(0)}, "nothing"),
            ("odd", {"mu": x.mean(0), "sigma": np.triu(np.cov(x, rowvar=False))}, "symmetric"),
            ("nan", {"mu": x.mean(0) * np.nan, "sigma": np.cov(x, rowvar=False)}, "not finite")):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(UserError, match=words):
            brought(tmp_path / f"{name}.npz", Means())


def test_one_picture_is_too_few(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="1 images"):
        statistics_of(ImageFolder.open(tmp_path), Means())


def test_the_verb_makes_statistics_from_a_folder_and_from_an_npz(folder: Path, tmp_path: Path,
                                                                  capsys: pytest.CaptureFixture[str]) -> None:
    weights, out = inception_file(tmp_path), tmp_path / "out" / "real.safetensors"
    for name in [*folder.glob("0[4-9].png"), *folder.glob("1*.png")]:
        name.unlink()
    asked = ["reference", str(folder), "--features", "inception", "--file", f"inception={weights}",
             "--resizer", "tf299", "--out", str(out)]
    assert run(asked) == 2
    assert "6726825d" in capsys.readouterr().err
    assert run([*asked, "--allow-deviation", "--about", "noise"]) == 0
    said = capsys.readouterr()
    assert "images: 4" in said.out
    assert "1 left out: broken or cut off (broken.png)." in said.err
    name = features_named("inception", {"inception": weights}, resizer="tf299", modified=True).name
    assert read_statistics(out, name).moments.source == "noise"
    np.savez(tmp_path / "s.npz", mu=np.zeros(256), sigma=np.eye(256))
    assert run(["reference", str(tmp_path / "s.npz"), "--features", "emoji-judge", "--out", str(out)]) == 0
    assert "images: unknown" in capsys.readouterr().out
    for odd in (["--file", "inception"], ["--file", "a=b", "--file", "a=c"]):
        assert run(["reference", str(folder), "--features", "emoji-judge", "--out", str(out), *odd]) == 2
        assert "ROLE=PATH" in capsys.readouterr().err
