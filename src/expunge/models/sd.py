"""Stable Diffusion 1.x and 2.x (epsilon and v-prediction) behind `models.base.Denoiser`.

With abar_t the product of alphas up to t, a = abar_t and a' = abar at the next grid point, one DDIM step is

    epsilon:       x0 = (x_t - sqrt(1 - a) e) / sqrt(a)         e = output
    v-prediction:  x0 = sqrt(a) x_t - sqrt(1 - a) v             e = sqrt(a) v + sqrt(1 - a) x_t
    x'  = sqrt(a') x0 + sqrt(1 - a') e

Source: Song et al. 2021 (DDIM), eq. 12 with eta = 0; Salimans and Ho 2022, appendix D (v); Lin et al. 2024
(zero terminal SNR). Differs: the step goes to the noise level of the next grid point itself; diffusers'
DDIMScheduler goes to t - train_steps // steps, which is the same for "leading" spacing and wherever `steps`
divides `train_steps`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import Tensor, nn
from torch.nn import Parameter

from expunge.errors import ModelError, UserError
from expunge.files import text_digest
from expunge.models import scope as scopes
from expunge.models.base import Conditioning
from expunge.models.patch import Patch, tensors_hash

Remember = Callable[[Callable[[], Mapping[str, str]]], Mapping[str, str]]
"""Gives what its argument gives, now or earlier (`models.remembered`)."""
PREDICTIONS = ("epsilon", "v_prediction")
GUIDANCE = 7.5
"""Of a model that does not name its own: what diffusers draws Stable Diffusion with."""


class StableDiffusion:
    """A diffusers `StableDiffusionPipeline`, frozen, in evaluation mode, with DDIM on its own schedule.

    Attributes beyond those of `Denoiser`: `unet`, `text_encoder`, `vae`, `tokenizer` (the pipeline's own),
    `device`, `dtype` (of the weights; latents, text states and pixels are float32 at every border).

    `hash` is taken of the float32 values of all parameters of unet, text encoder and autoencoder, before any
    cast to a smaller `dtype`: a folder in float16 has the same hash however it is loaded. `encoder_hash` is that of the
    text encoder alone.
    """

    def __init__(self, pipe: Any, name: str, world: str = "open", *, guidance: float = GUIDANCE,
                 device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32,
                 text_dtype: torch.dtype | None = None, remember: Remember | None = None) -> None:
        """Take over the parts of `pipe`, a `StableDiffusionPipeline`; `text_dtype` None: the text encoder's is `dtype`.

        `remember` may know the weights' hashes from their files; None takes them anew.

        Raises:
            ModelError: another family or prediction type, or a schedule that the prediction cannot start from.
        """
        _check_family(pipe)
        self.name, self.world, self.guidance, self.patch_hash = name, world, guidance, ""
        self.unet, self.text_encoder = pipe.unet, pipe.text_encoder
        self.vae, self.tokenizer = pipe.vae, pipe.tokenizer
        # The latents are no pictures, so they are never clipped, whatever a scheduler's default says.
        self._ddim = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, thresholding=False)
        self.prediction: str = self._ddim.config.prediction_type
        self.train_steps: int = self._ddim.config.num_train_timesteps
        self.process = _process(self._ddim.config)
        self._check_schedule()
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        side = self.unet.config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        self.latent_shape: tuple[int, int, int] = (self.unet.config.in_channels, height, width)
        self.length = min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)
        # Cast by torch itself: diffusers' own `to` warns of layers to keep in float32 where there are none.
        for part in self._parts().values():
            nn.Module.to(part.eval().requires_grad_(False), torch.float32)
        self._identify(remember)
        self.device, self.dtype = torch.device(device), dtype
        for part in self._parts().values():
            nn.Module.to(part, self.device, (text_dtype or dtype) if part is self.text_encoder else dtype)
        self._abar = self._ddim.alphas_cumprod.to(self.device)
        self._originals: dict[str, Tensor] = {}

    @cached_property
    def drawing(self) -> str:
        """16 hex digits, see `Denoiser`."""
        ddim, scale = self._ddim, self.vae.config.scaling_factor
        tokenizer = json.loads(self.tokenizer.backend_tokenizer.to_str())["model"]
        text = {key: value for key, value in self.text_encoder.config.to_dict().items()
                if key not in {"dtype", "torch_dtype", "transformers_version"}}
        told = [_plain(self.unet.config), _plain(self.vae.config), _plain(text), tokenizer, self.length, scale,
                tensors_hash({"abar": ddim.alphas_cumprod}), float(ddim.final_alpha_cumprod), self.prediction,
                ddim.config.timestep_spacing, ddim.config.steps_offset, str(self.dtype), self.device.type]
        words = next(self.text_encoder.parameters()).dtype
        told += [str(words)] if words != self.dtype else []
        return text_digest(json.dumps(told, sort_keys=True, default=str))[:16]

    def encode(self, prompts: Sequence[str], *, truncate: bool = False) -> Conditioning:
        """Text states float32 (B, T, D) of the prompts; differentiable where the text encoder trains.

        Raises:
            UserError: a prompt is longer than the text encoder reads, unless `truncate`.
        """
        if not truncate:
            self._check_lengths(prompts)
        told = self.tokenizer(list(prompts), padding="max_length", max_length=self.length, truncation=True,
                              return_tensors="pt").to(self.device)
        states: Tensor = self.text_encoder(told.input_ids, attention_mask=self.attention_mask(told.input_ids))[0]
        return Conditioning(states.float(), told.input_ids)  # (B, T, D), (B, T)

    def attention_mask(self, ids: Tensor) -> Tensor | None:
        """Int64 (B, T), 1 up to the end token and 0 on the padding behind it; None where the encoder reads all of it.

        Of `ids` (B, T), as the tokenizer lays them out.
        """
        if not getattr(self.text_encoder.config, "use_attention_mask", False):
            return None
        ends = (ids == self.tokenizer.eos_token_id).int()
        mask: Tensor = (ends.cumsum(1) - ends == 0).long()  # before the first end token, and on it
        return mask

    def noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps, each (B, c, h, w); t int64 (B,)."""
        abar = self._abar[t.to(self.device)].view(-1, 1, 1, 1)
        x_t: Tensor = abar.sqrt() * x0 + (1 - abar).sqrt() * eps
        return x_t

    def predict(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The network's native output, float32 (B, c, h, w); t int64 (B,) or a single time."""
        out: Tensor = self.unet(x_t.to(self.dtype), t.to(self.device), cond.states.to(self.dtype),
                                return_dict=False)[0]
        return out.float()

    def timesteps(self, steps: int) -> Tensor:
        """(steps,) int64: the sampler's grid, from noise to clean, spaced as the model's scheduler says.

        Raises:
            UserError: more steps than the grid allows.
        """
        if 1 <= steps <= self.train_steps:
            self._ddim.set_timesteps(steps)
            if int(self._ddim.timesteps[0]) < self.train_steps:
                grid: Tensor = self._ddim.timesteps.clone()
                return grid
        offset = self._ddim.config.steps_offset if self._ddim.config.timestep_spacing == "leading" else 0
        raise UserError(f"{steps} sampling steps",
                        accepted=f"1 to {self.train_steps - offset} for this model")

    @torch.no_grad()
    def denoise(self, x_t: Tensor, cond: Conditioning, uncond: Conditioning | None, steps: int,
                guidance: float, *, start: int = 0, stop: int | None = None) -> Tensor:
        """Deterministic DDIM over grid points start..stop-1, no gradient; returns x at grid point `stop`.

        Args:
            x_t: float32 (B, c, h, w) at the noise level of grid point `start`.
            cond: B rows; uncond: B rows or one row for all, not looked at when guidance is 1.
            stop: k gives exactly the noise level of `timesteps(steps)[k]`; None or `steps` the clean latent.

        Raises:
            UserError: `start` and `stop` out of order or off the grid, or guidance without `uncond`.
        """
        grid, stop = self.timesteps(steps), steps if stop is None else stop
        if not 0 <= start <= stop <= steps:
            raise UserError(f"denoising from grid point {start} to {stop}",
                            accepted=f"0 <= start <= stop <= {steps}")
        if guidance != 1 and uncond is None:
            raise UserError(f"guidance {guidance} without unconditional states",
                            accepted="guidance 1, or `uncond`")
        final = self._ddim.final_alpha_cumprod.to(self._abar).reshape(1)
        levels = torch.cat([self._abar[grid.to(self.device)], final])  # (steps + 1,)
        x = x_t.to(self.device)
        both = cond if guidance == 1 or uncond is None else _stacked(uncond, cond)
        for k in range(start, stop):
            if both is cond:
                out = self.predict(x, grid[k], cond)
            else:
                out_u, out_c = self.predict(torch.cat([x, x]), grid[k], both).chunk(2)
                out = out_u + guidance * (out_c - out_u)
            x = self._step(x, out, levels[k], levels[k + 1])
        return x

    def _step(self, x_t: Tensor, out: Tensor, a: Tensor, a_next: Tensor) -> Tensor:
        if self.prediction == "epsilon":
            x0, eps = (x_t - (1 - a).sqrt() * out) / a.sqrt(), out
        else:
            x0 = a.sqrt() * x_t - (1 - a).sqrt() * out
            eps = a.sqrt() * out + (1 - a).sqrt() * x_t
        return a_next.sqrt() * x0 + (1 - a_next).sqrt() * eps

    def initial_noise(self, seeds: Sequence[int], height: int | None = None,
                      width: int | None = None) -> Tensor:
        """(B, c, h, w) float32 standard normal; row i depends on seeds[i] alone (CPU generator).

        Raises:
            UserError: a height or width (pixels) that is no multiple of the autoencoder's factor.
        """
        c, h, w = self.latent_shape
        for side, pixels in (("height", height), ("width", width)):
            if pixels is not None and pixels % self.factor:
                raise UserError(f"{side} {pixels}", accepted=f"a multiple of {self.factor} pixels")
        shape = (c, height // self.factor if height else h, width // self.factor if width else w)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(rows).to(self.device) if rows else torch.empty((0, *shape), device=self.device)

    def decode(self, z: Tensor) -> Tensor:
        """Latents to pixels, float32 (B, 3, H, W) in [0, 1]."""
        pixels = self.vae.decode((z / self.vae.config.scaling_factor).to(self.dtype), return_dict=False)[0]
        out: Tensor = (pixels.float() / 2 + 0.5).clamp(0, 1)
        return out

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [0, 1] to latents (posterior mean), scaled as the network expects."""
        posterior = self.vae.encode((pixels.to(self.device) * 2 - 1).to(self.dtype), return_dict=False)[0]
        latents: Tensor = posterior.mean.float() * self.vae.config.scaling_factor
        return latents

    def parameters_in(self, scope: str) -> dict[str, Parameter]:
        """Parameters of a named scope by full name (see `models.scope`), frozen until the caller says else.

        Raises:
            UserError: unknown scope, or one that selects nothing.
        """
        return scopes.select(self.unet, self.text_encoder, scope)

    def frozen_copy(self, trained: Collection[str] = ("unet", "text_encoder")) -> StableDiffusion:
        """A teacher: the components that train as they are now, copied and frozen; the rest is shared."""
        twin = copy.copy(self)
        for name in trained:
            setattr(twin, name, copy.deepcopy(getattr(self, name)).eval().requires_grad_(False))
        return twin

    @torch.no_grad()
    def edited(self, patch: Patch | None) -> StableDiffusion:
        """A model of its own that has the patch in its weights (None: equal weights), for further edits of it.

        Its hash is that of its weights, so it takes patches that were made for it and no others. The autoencoder is
        shared.

        Raises:
            UserError: a patch is on, or weights not in float32. ModelError: as `apply`.
        """
        if self.patch_hash:
            raise UserError("the model has a patch on", accepted="the model as loaded", remedy="remove the patch first")
        if self.dtype != torch.float32 or next(self.text_encoder.parameters()).dtype != torch.float32:
            raise UserError(f"the model's weights are {self.dtype}", accepted="torch.float32",
                            remedy="load the model with dtype float32 to change it")
        twin = self.frozen_copy()
        if patch is not None:
            twin.apply(patch)
            twin._originals, twin.patch_hash, twin.name = {}, "", f"{self.name} without {patch.card.request.title}"
            twin._identify()
        return twin

    @torch.no_grad()
    def apply(self, patch: object) -> None:
        """Put a `models.patch.Patch` on; the originals are kept, so that `remove` is bit-exact.

        Raises:
            UserError: no patch, or another one is on already.
            ModelError: made for other weights or another process, or tensors that this model does not have.
        """
        if not isinstance(patch, Patch):
            raise UserError(f"{type(patch).__name__} is no patch", accepted="a Patch (see Patch.load)")
        if self.patch_hash:
            raise UserError(f"patch {self.patch_hash[:12]} is already on", remedy="remove it first")
        mine = self._patchable()
        patch.check(self, mine)
        self._originals = {name: mine[name].detach().clone() for name in patch.tensors}
        for name, value in patch.tensors.items():
            mine[name].copy_(value)
        self.patch_hash = patch.hash

    @torch.no_grad()
    def remove(self) -> None:
        """Take the patch off again, bit-exactly. UserError if none is on."""
        if not self.patch_hash:
            raise UserError("there is no patch on this model")
        mine = self._patchable()
        for name, value in self._originals.items():
            mine[name].copy_(value)
        self._originals, self.patch_hash = {}, ""

    def _identify(self, remember: Remember | None = None) -> None:
        """Take the hashes of the weights as they are, or those that are remembered of the same files."""
        told = self._digests() if remember is None else remember(self._digests)
        self.hash, self.encoder_hash = told["hash"], told["encoder_hash"]

    def _digests(self) -> dict[str, str]:
        """All that is a digest of the weights, and costs reading them."""
        return {"hash": tensors_hash({full: parameter for component, part in self._parts().items()
                                      for full, parameter in scopes.full_names(component, part).items()}),
                "encoder_hash": tensors_hash(dict(scopes.full_names("text_encoder", self.text_encoder)))}

    def _parts(self) -> dict[str, nn.Module]:
        return {"unet": self.unet, "text_encoder": self.text_encoder, "vae": self.vae}

    def _patchable(self) -> dict[str, Parameter]:
        return scopes.full_names("unet", self.unet) | scopes.full_names("text_encoder", self.text_encoder)

    def _check_schedule(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ModelError(f"a model that predicts {self.prediction!r}", accepted=", ".join(PREDICTIONS))
        if self.prediction == "epsilon" and float(self._ddim.alphas_cumprod[-1]) == 0:
            raise ModelError("a zero-terminal-SNR schedule with epsilon prediction: pure noise has no x0",
                             accepted="v_prediction with such a schedule")

    def _check_lengths(self, prompts: Sequence[str]) -> None:
        for prompt in prompts:
            ids = self.tokenizer(prompt, truncation=False, verbose=False).input_ids
            if len(ids) > self.length:
                cut = self.tokenizer.decode(ids[self.length - 1:-1])
                raise UserError(
                    f"prompt {prompt!r} has {len(ids) - 2} tokens", accepted=f"up to {self.length - 2}",
                    remedy=f"shorten it; what would be cut: {cut!r}")


def _check_family(pipe: Any) -> None:
    if not isinstance(pipe, StableDiffusionPipeline):
        raise ModelError(f"a {type(pipe).__name__}",
                         accepted="StableDiffusionPipeline (Stable Diffusion 1.x and 2.x)")
    channels, latents = pipe.unet.config.in_channels, pipe.vae.config.latent_channels
    if channels != latents:
        raise ModelError(f"a UNet of {channels} input channels over {latents} latent channels",
                         accepted="text-to-image models (no inpainting, depth or upscaling)")


def _process(config: Mapping[str, Any]) -> str:
    """Prediction and noise schedule in words, from the scheduler's config: computed levels differ by rounding."""
    betas = config["trained_betas"]
    schedule = (f"{config['beta_schedule']} betas {config['beta_start']} to {config['beta_end']}" if betas is None else
                f"betas of its own ({text_digest(json.dumps([float(beta) for beta in betas]))[:12]})")
    zero = ", zero terminal SNR" if config["rescale_betas_zero_snr"] else ""
    return f"{config['prediction_type']}, {schedule}, {config['num_train_timesteps']} steps{zero}"


def _stacked(uncond: Conditioning, cond: Conditioning) -> Conditioning:
    """Both branches of guidance in one batch: (2B, T, D), unconditional rows first."""
    count = len(cond.states)
    if len(uncond.states) == 1:
        uncond = uncond.repeat(count)
    return Conditioning(torch.cat([uncond.states, cond.states]), torch.cat([uncond.ids, cond.ids]))


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A diffusers config without its bookkeeping (names of folders, versions)."""
    return {key: value for key, value in config.items() if not key.startswith("_")}
