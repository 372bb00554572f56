"""What is measured once a stage is baked: real images' features under the judge."""

from __future__ import annotations

from pathlib import Path

import torch

from expunge.files import write_tensors
from expunge.metrics.judge import EmojiJudge
from expunge.tiny.pictures import STEADY, Drawings, render


def write_real_statistics(out: Path, taught: Drawings, count: int, kept: int = 500) -> None:
    """Feature statistics of real images (the model's own drawings, augmented), for FID and KID without images."""
    judge = EmojiJudge(out)
    draw = torch.Generator().manual_seed(20_000_003)
    rows = torch.randint(len(taught), (count,), generator=draw)
    features = torch.cat([judge.features(render(taught, part, 30_000_001 + i, augmentation=STEADY)[0])
                          for i, part in enumerate(rows.split(200))])
    f = features.double()
    write_tensors(out / "real.safetensors",
                  {"mean": f.mean(0), "covariance": f.T.cov(), "sample": features[:kept].contiguous()},
                  {"features": judge.name, "n": str(count), "source": "EmojiCanvas drawings, augmented"})
