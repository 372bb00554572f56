"""Perceptual distances that need no model of ours: 1 - SSIM, and LPIPS with its published weights.

Source: Wang et al. 2004 and Zhang et al. 2018, as implemented in torchmetrics. Differs: none.
"""

from __future__ import annotations

from importlib.metadata import version

import torch
from torch import Tensor

from expunge.errors import UserError, install


class Ssim:
    """1 - structural similarity (Gaussian window of 11 pixels, sigma 1.5): 0 for equal images, at most 2."""

    name = "1-ssim"
    window = 11
    """Pixels; smaller images cannot be compared."""

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """float32 (B,) for images (B, 3, H, W) in [0, 1], H and W at least 11.

        Raises:
            UserError: images that are smaller than the window.
        """
        from torchmetrics.functional.image import structural_similarity_index_measure

        if min(a.shape[-2:]) < self.window:
            raise UserError(f"images of {a.shape[-2]}x{a.shape[-1]} pixels",
                            accepted=f"at least {self.window}x{self.window} for SSIM")
        if not len(a):
            return torch.zeros(0)
        values: Tensor = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
        return 1 - values.reshape(-1)


class Lpips:
    """LPIPS with AlexNet or VGG. The network is torchvision's; its weights are downloaded on first use."""

    def __init__(self, network: str = "alex") -> None:
        """Load the network.

        Args:
            network: "alex", "vgg" or "squeeze".

        Raises:
            UserError: torchvision is not installed, or the weights cannot be had.
        """
        try:
            import torchvision  # noqa: F401
        except (ImportError, RuntimeError) as error:  # a torchvision built for another torch raises RuntimeError
            raise UserError(f"LPIPS needs torchvision, which cannot be imported: {error}",
                            accepted="an installed torchvision that fits torch, or another distance",
                            remedy=f"{install('lpips')}, or choose the distance 'ssim'") from error
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        try:
            self._metric = LearnedPerceptualImagePatchSimilarity(network, normalize=True, reduction="sum").eval()
        except Exception as error:  # whatever the download raises
            raise UserError(f"the weights of LPIPS ({network}) cannot be loaded: {error}",
                            remedy="connect once to download them, or choose the distance 'ssim'") from error
        self.name = f"lpips-{network}@torchvision-{version('torchvision')}-torchmetrics-{version('torchmetrics')}"

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """float32 (B,) for images (B, 3, H, W) in [0, 1]."""
        return self._metric.net(a, b, normalize=True).reshape(-1) if len(a) else torch.zeros(0)


def lpips_alex() -> Lpips:
    """LPIPS with AlexNet."""
    return Lpips("alex")


def lpips_vgg() -> Lpips:
    """LPIPS with VGG."""
    return Lpips("vgg")
