"""What Inception sees of an image: three programs' ways, by values worked out by hand or by their libraries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from expunge.errors import UserError
from expunge.metrics.resizers import RESIZERS, bilinear299, clean299, resizer_named, tf299


def levels(height: int, width: int) -> torch.Tensor:
    return (torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 255).round()


@pytest.mark.parametrize("name", RESIZERS)
@pytest.mark.parametrize("size", [(1, 1), (64, 48), (299, 299), (400, 301)])
def test_every_size_comes_out_at_299_and_within_range(name: str, size: tuple[int, int]) -> None:
    out = resizer_named(name)(levels(*size))
    assert tuple(out.shape) == (2, 3, 299, 299)
    assert out.abs().max() <= 1.0001


def test_an_image_of_299_pixels_is_only_scaled() -> None:
    x = levels(299, 299)
    torch.testing.assert_close(clean299(x), (x - 128) / 128)
    torch.testing.assert_close(tf299(x), (x - 128) / 128)
    torch.testing.assert_close(bilinear299(x), x / 127.5 - 1)


def test_tensorflows_corners_are_at_nought_and_the_last_column_repeats() -> None:
    row = torch.tensor([0.0, 100.0]).expand(1, 3, 1, 2)
    line = tf299(row)[0, 0, 0] * 128 + 128
    assert line[0] == 0
    assert float(line[100]) == pytest.approx(100 * 200 / 299, abs=1e-3)
    assert (line[150:] == 100).all()  # from the second pixel's corner on


def test_clean_is_pils_bicubic_of_float_channels_without_rounding() -> None:
    x = levels(64, 48)
    image = Image.fromarray(x[1, 2].numpy()).resize((299, 299), Image.Resampling.BICUBIC)
    want = torch.from_numpy(np.array(image)).clamp(0, 255)
    got = clean299(x)[1, 2] * 128 + 128
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)
    assert (got - got.round()).abs().max() > 0.1


def test_the_three_differ_and_an_unknown_one_is_refused() -> None:
    x = levels(64, 64)
    assert (clean299(x) - tf299(x)).abs().max() > 0.05
    assert (bilinear299(x) - tf299(x)).abs().max() > 0.05
    with pytest.raises(UserError, match="clean299"):
        resizer_named("lanczos")
