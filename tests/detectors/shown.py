"""Images that detectors are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def noise(n: int, height: int = 24, width: int = 24, seed: int = 0) -> Tensor:
    """Random 8-bit images (n, 3, height, width) in [0, 1]."""
    whole = torch.randint(0, 256, (n, 3, height, width), generator=torch.Generator().manual_seed(seed))
    return whole.float() / 255


def photo() -> Tensor:
    """A photograph of a person in public domain (NASA), (1, 3, 600, 512), that matplotlib brings."""
    import matplotlib

    with Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg") as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
