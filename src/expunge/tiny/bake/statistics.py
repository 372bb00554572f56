"""What is measured once a stage is baked: real pictures' features under the judge, and the autoencoder's fidelity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from expunge.files import write_tensors
from expunge.metrics.judge import EmojiJudge
from expunge.tiny.pictures import STEADY, Drawings, render


def write_real_statistics(out: Path, taught: Drawings, count: int, kept: int = 500) -> None:
    """Feature statistics of real pictures (the model's own drawings, augmented), for FID and KID without pictures."""
    judge = EmojiJudge(out)
    draw = torch.Generator().manual_seed(20_000_003)
    rows = torch.randint(len(taught), (count,), generator=draw)
    features = torch.cat([judge.features(render(taught, part, 30_000_001 + i, augmentation=STEADY)[0])
                          for i, part in enumerate(rows.split(200))])
    f = features.double()
    write_tensors(out / "real.safetensors",
                  {"mean": f.mean(0), "covariance": f.T.cov(), "sample": features[:kept].contiguous()},
                  {"features": judge.name, "n": str(count), "source": "EmojiCanvas drawings, augmented"})


@torch.no_grad()
def psnr(autoencoder: AutoencoderKL, drawings: Drawings, count: int = 200) -> dict[str, Any]:
    """Peak signal-to-noise ratio in dB of whole pictures through the autoencoder, mean over pictures."""
    rows = torch.randint(len(drawings), (count,), generator=torch.Generator().manual_seed(40_000_003))
    pictures, _ = render(drawings, rows, 40_000_005)
    values = []
    for x in pictures.split(50):
        y = (autoencoder.decode(autoencoder.encode(x * 2 - 1).latent_dist.mean).sample / 2 + 0.5).clamp(0, 1)
        values.append(-10 * (x - y).square().mean((1, 2, 3)).log10())
    every = torch.cat(values)
    return {"psnr_db": round(float(every.mean()), 2), "worst_db": round(float(every.min()), 2), "n": count}
