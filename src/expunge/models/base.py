"""The one interface over a diffusion model; everything outside this folder sees models through it.

Letters used everywhere: B batch, T tokens, D text width, c h w latent channels and sides, H W pixels.
Latents are float32 (B, c, h, w). Time `t` is int64 (B,) in the model's own training grid, 0 = clean,
`train_steps - 1` = noise. Pixels at borders are float32 (B, 3, H, W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn import Parameter


@dataclass(frozen=True)
class Conditioning:
    """What the denoiser is told.

    Attributes:
        states: (B, T, D) text states.
        ids: (B, T) token ids, for records and attacks.
    """

    states: Tensor
    ids: Tensor

    def repeat(self, count: int) -> Conditioning:
        """Each row `count` times in place: (B*count, T, D)."""
        return Conditioning(self.states.repeat_interleave(count, 0), self.ids.repeat_interleave(count, 0))

    def at(self, rows: Tensor | slice) -> Conditioning:
        """The rows at `rows`."""
        return Conditioning(self.states[rows], self.ids[rows])


class Denoiser(Protocol):
    """A text-to-image diffusion model behind one interface.

    Attributes:
        name: what the user called it; hash: content hash of its weights as loaded (patch excluded).
        encoder_hash: content hash of its text encoder alone. Models that share it can take each other's patches of the
            text encoder.
        prediction: the network's native output: "epsilon" or "v_prediction".
        process: what the weights were trained for, in words: prediction and noise schedule. Models with one hash and
            one process can take each other's patches.
        parts: digest of what it computes by beside weights and process: architectures, buffers and how its tokenizer
            reads (`models.identity`). It begins with the number of its scheme.
        train_steps: length of the training time grid (1000).
        latent_shape: (c, h, w) at the native size.
        world: name of the registered world that goes with it ("emoji" for the embedded model, else "open").
        guidance: classifier-free guidance at which it is drawn where nobody asks for another.
        patch_hash: hash of the patch now applied, "" if none.
    """

    name: str
    hash: str
    encoder_hash: str
    prediction: str
    process: str
    parts: str
    train_steps: int
    latent_shape: tuple[int, int, int]
    world: str
    guidance: float
    patch_hash: str

    @property
    def drawing(self) -> str:
        """Short digest of all that decides a picture beside weights, prompt, seed and sampler.

        That is schedule, architecture, tokenizer, number type and kind of device; drawn pictures are kept apart by it.
        It begins with the number of its scheme.
        """
        ...

    def rounded(self, kind: str = "") -> Mapping[str, str]:
        """Content hashes of the parts' weights as loaded, rounded to a smaller type: by "float16/unet" and so on.

        Args:
            kind: "float16" or "bfloat16"; "" means both. A type that cannot be told from the weights in memory is
                missing.
        """
        ...

    def encode(self, prompts: Sequence[str], *, truncate: bool = False) -> Conditioning:
        """Text states of the prompts; differentiable where the text encoder trains.

        Raises:
            UserError: a prompt is longer than the text encoder reads, unless `truncate`.
        """
        ...

    def too_long(self, prompts: Sequence[str]) -> dict[str, int]:
        """Those of the prompts that the text encoder does not read to their end, with their numbers of tokens.

        Each once, in their order; nothing is encoded.
        """
        ...

    def noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps, each (B, c, h, w)."""
        ...

    def predict(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The network's native output (B, c, h, w)."""
        ...

    def timesteps(self, steps: int) -> Tensor:
        """(steps,) int64: the sampler's grid, from noise to clean."""
        ...

    def denoise(self, x_t: Tensor, cond: Conditioning, uncond: Conditioning | None, steps: int, guidance: float, *,
                start: int = 0, stop: int | None = None) -> Tensor:
        """Deterministic DDIM (eta 0) over grid points start..stop-1, no gradient; returns x at point `stop`.

        With `stop` = k, the result has exactly the noise level of `timesteps(steps)[k]`; None runs to the clean
        latent.
        """
        ...

    def initial_noise(self, seeds: Sequence[int], height: int | None = None, width: int | None = None) -> Tensor:
        """(B, c, h, w) float32 standard normal; row i depends on seeds[i] alone (CPU generator)."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Latents to pixels, float32 (B, 3, H, W) in [0, 1]."""
        ...

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] to latents (posterior mean), scaled as the network expects."""
        ...

    def parameters_in(self, scope: str) -> dict[str, Parameter]:
        """Trainable tensors of a named scope, by full name ("unet/..." or "text_encoder/...").

        Raises:
            UserError: unknown scope, or one that selects nothing.
        """
        ...

    def frozen_copy(self, trained: Collection[str] = ("unet", "text_encoder")) -> Denoiser:
        """A teacher: the same weights now, no gradients; components that are not `trained` may be shared."""
        ...

    def apply(self, patch: object) -> None:
        """Put a `models.patch.Patch` on. UserError or ModelError: made for another base, or one is on."""
        ...

    def remove(self) -> None:
        """Take the patch off again, bit-exactly."""
        ...


def drawn_by(model: Denoiser) -> dict[str, str]:
    """What decides the model's pictures beside weights, prompt, seed and sampler, in parts that records can compare.

    "schedule and parts" is `Denoiser.drawing`, which holds number type and device as well.
    """
    weights = next(iter(model.parameters_in("unet").values()))
    return {"process": model.process, "number type": str(weights.dtype).removeprefix("torch."),
            "device": weights.device.type, "schedule and parts": model.drawing}


ImageSink = Callable[[int, Tensor], None]
"""Called with (index of the item, float32 (3, H, W) pixels) as pictures are finished."""

