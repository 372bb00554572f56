"""Features for FID and KID as papers report them: Inception by a file of the user's, known by its hash.

Nothing is downloaded. A file of another hash is refused, or, with a word, used under the name "inception-modified".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from expunge.errors import ModelError, UserError
from expunge.files import file_digest
from expunge.metrics.inception import WIDTH, Inception
from expunge.metrics.packaged import state_dict
from expunge.metrics.resizers import resizer_named
from expunge.pixels import Pictures

STATE_DICT = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""sha256 of pt_inception-2015-12-05-6726825d.pth, as pytorch-fid and torch-fidelity publish it."""
SCRIPT = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""sha256 of inception-2015-12-05.pt, the TorchScript file that clean-fid uses."""
PUBLISHED = ("pt_inception-2015-12-05-6726825d.pth (github.com/mseitzer/pytorch-fid, release fid_weights; Apache 2.0) "
             "or inception-2015-12-05.pt (NVIDIA's StyleGAN2-ADA, which clean-fid downloads)")


class InceptionFeatures:
    """`Features`: 2,048 numbers of the Inception network of 2015.

    Attributes:
        name: "inception-2015-12-05@<first 8 of the file's sha256>/<resizer>".
        hash: the whole sha256.
        width: 2048.
    """

    width = WIDTH
    streams = True

    def __init__(self, inception: Path, resizer: str = "clean299", modified: bool = False, batch: int = 16) -> None:
        """Open the user's file.

        Args:
            inception: the file. resizer: one of `resizers.RESIZERS`.
            modified: take a state dict of another hash, too; its features say so in their name.
            batch: images at a time.

        Raises:
            UserError: no such file, an unknown resizer, or another hash.
            ModelError: the file is damaged.
        """
        inception = Path(inception)
        self._resize = resizer_named(resizer)
        if not inception.is_file():
            raise UserError(f"no Inception weights at {inception}", accepted=PUBLISHED)
        self.hash = file_digest(inception)
        if self.hash not in (STATE_DICT, SCRIPT) and not modified:
            raise UserError(f"{inception} has the sha256 {self.hash}", accepted=f"{STATE_DICT} or {SCRIPT}",
                            remedy=f"give {PUBLISHED}; or allow a deviation, and scores carry another name")
        known = "inception-2015-12-05" if self.hash in (STATE_DICT, SCRIPT) else "inception-modified"
        self.name = f"{known}@{self.hash[:8]}/{resizer}"
        self._net: Callable[[Tensor], Tensor] = \
            _scripted(inception) if self.hash == SCRIPT else Inception(state_dict(inception, PUBLISHED))
        self._batch = batch

    @torch.no_grad()
    def __call__(self, pictures: Pictures) -> Tensor:
        """float32 (B, 2048) for images float32 (B, 3, H, W) in [0, 1], taken as the 8 bits that a file would hold."""
        parts = [self._net(self._resize((chunk.cpu() * 255).round().clamp(0, 255)))
                 for chunk in pictures.split(self._batch)]
        return torch.cat(parts) if len(pictures) else torch.zeros(0, self.width)


def _scripted(file: Path) -> Callable[[Tensor], Tensor]:
    """TorchScript is a program: this one is run only because its hash says which."""
    try:
        layers = torch.jit.load(str(file), map_location="cpu").eval().layers
    except Exception as error:  # what a damaged archive raises depends on where the damage is
        raise ModelError(f"{file} cannot be read: {error}", accepted=PUBLISHED) from error
    return lambda x: layers.forward(x).reshape(len(x), WIDTH)
