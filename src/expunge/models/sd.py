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
import logging
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
from expunge.models.identity import HALVES, former_digest, parts_digest, rounded_hash, scheme_digest, stored_half
from expunge.models.patch import Patch, tensors_hash
from expunge.models.reading import as_read, laid_out, unread
from expunge.models.wrapped import unwrapped, why_not_plain

log = logging.getLogger(__name__)

Remember = Callable[[Callable[[], Mapping[str, str]]], Mapping[str, str]]
"""Gives what its argument gives, now or earlier (`models.remembered`)."""
PREDICTIONS = ("epsilon", "v_prediction")
AT_ONCE = 512 * 512
"""Pixels that go through the autoencoder together: 64 pictures of 64 px, one of 512 px (some 0.8 GiB of Stable
Diffusion's in float32; 32 of them at once took 26)."""
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
            ModelError: another family or prediction type, a schedule that the prediction cannot start from, or parts
                that do not compute with their own weights (adapters, fused projections, offloading).
        """
        _check_family(pipe)
        _check_plain(pipe)
        self.name, self.world, self.guidance, self.patch_hash = name, world, guidance, ""
        self.unet, self.text_encoder = unwrapped(pipe.unet), unwrapped(pipe.text_encoder)
        self.vae, self.tokenizer = unwrapped(pipe.vae), pipe.tokenizer
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
        self._originals: dict[str, Tensor] = {}
        self._said: set[str] = set()
        self._identify(remember)
        self.parts = parts_digest(self.unet, self.text_encoder, self.vae, self.tokenizer, self.length)
        self.device, self.dtype = torch.device(device), dtype
        for part in self._parts().values():
            nn.Module.to(part, self.device, (text_dtype or dtype) if part is self.text_encoder else dtype)
        self._abar = self._ddim.alphas_cumprod.to(self.device)

    @cached_property
    def drawing(self) -> str:
        """Scheme and 16 hex digits, see `Denoiser`."""
        ddim, words = self._ddim, next(self.text_encoder.parameters()).dtype
        return scheme_digest([
            self.parts, tensors_hash({"abar": ddim.alphas_cumprod}), float(ddim.final_alpha_cumprod), self.prediction,
            ddim.config.timestep_spacing, ddim.config.steps_offset, str(self.dtype), str(words), self.device.type])

    @cached_property
    def former_drawing(self) -> str:
        """What `drawing` was before schemes had numbers: attempts and looks that older versions kept go by it."""
        ddim, words = self._ddim, next(self.text_encoder.parameters()).dtype
        return former_digest(self.unet, self.text_encoder, self.vae, self.tokenizer, [
            self.length, self.vae.config.scaling_factor, tensors_hash({"abar": ddim.alphas_cumprod}),
            float(ddim.final_alpha_cumprod), self.prediction, ddim.config.timestep_spacing, ddim.config.steps_offset,
            str(self.dtype), self.device.type, *([str(words)] if words != self.dtype else [])])

    def rounded(self, kind: str = "") -> dict[str, str]:
        """Hashes of the parts' weights as loaded, rounded to `kind` ("" means to each of `HALVES`), see `Denoiser`.

        Of a type that neither the weights are stored in nor those in memory can be rounded to (they were cast to
        another on loading), there is none.
        """
        kinds, whole = [kind] if kind else [*HALVES], self.dtype == torch.float32
        whole = whole and next(self.text_encoder.parameters()).dtype == torch.float32
        for one in kinds:
            if whole and one in HALVES and f"{one}/vae" not in self._rounded:
                self._rounded |= self._hashed(one)
        return {name: value for name, value in self._rounded.items() if name.partition("/")[0] in kinds}

    def _hashed(self, kind: str) -> dict[str, str]:
        """Rounded hashes of the weights in memory, a patch that is on left out."""
        return {f"{kind}/{component}": rounded_hash({
            full: self._originals.get(full, parameter)
            for full, parameter in scopes.full_names(component, part).items()}, kind)
            for component, part in self._parts().items()}

    def encode(self, prompts: Sequence[str], *, truncate: bool = False) -> Conditioning:
        """Text states float32 (B, T, D) of the prompts; differentiable where the text encoder trains.

        Raises:
            UserError: a prompt is longer than the text encoder reads, unless `truncate`.
        """
        if not truncate:
            self._check_lengths(prompts)
        told = laid_out(self.tokenizer, prompts, self.length).to(self.device)
        mask = told.attention_mask if self._masks else None
        states: Tensor = self.text_encoder(told.input_ids, attention_mask=mask)[0]
        return Conditioning(states.float(), told.input_ids)  # (B, T, D), (B, T)

    @property
    def _masks(self) -> bool:
        """Whether the encoder is told where the padding begins, as diffusers does for few."""
        return bool(getattr(self.text_encoder.config, "use_attention_mask", False))

    def too_long(self, prompts: Sequence[str]) -> dict[str, int]:
        """Those of the prompts that the text encoder does not read to their end, with their numbers of tokens."""
        texts = list(dict.fromkeys(prompts))
        rows = self.tokenizer([as_read(self.tokenizer, text) for text in texts], truncation=False,
                              verbose=False).input_ids if texts else []
        return {text: len(row) - 2 for text, row in zip(texts, rows, strict=True) if len(row) > self.length}

    def attention_mask(self, ids: Tensor) -> Tensor | None:
        """Int64 (B, T), 1 up to the end token and 0 on the padding behind it; None where the encoder reads all of it.

        Of `ids` (B, T), as the tokenizer lays them out.
        """
        if not self._masks:
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
        """Latents to pixels, float32 (B, 3, H, W) in [0, 1]; as many at once as `AT_ONCE` allows."""
        return torch.cat([self._decoded(some) for some in z.split(self._slice(z.shape[-2:]))])

    def _decoded(self, z: Tensor) -> Tensor:
        pixels = self.vae.decode((z / self.vae.config.scaling_factor).to(self.dtype), return_dict=False)[0]
        out: Tensor = (pixels.float() / 2 + 0.5).clamp(0, 1)
        return out

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [0, 1] to latents (posterior mean), scaled as the network expects."""
        latents = [self.vae.encode((some.to(self.device) * 2 - 1).to(self.dtype)).latent_dist.mean.float()
                   for some in pixels.split(max(1, AT_ONCE // (pixels.shape[-2] * pixels.shape[-1])))]
        scaled: Tensor = torch.cat(latents) * self.vae.config.scaling_factor
        return scaled

    def _slice(self, sides: Sequence[int]) -> int:
        """How many latents of these sides the autoencoder takes at once: a rule of size alone, so that a picture's bits
        do not depend on what memory is free."""
        pixels: int = sides[0] * sides[1] * self.factor**2
        return max(1, AT_ONCE // pixels)

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
        _check_plain(self)
        self._say(patch.check(self, mine))
        self._originals = {name: mine[name].detach().clone() for name in patch.tensors}
        for name, value in patch.tensors.items():
            mine[name].copy_(value)
        self.patch_hash = patch.hash
        self._check_acts(patch, mine)

    def _check_acts(self, patch: Patch, mine: Mapping[str, Tensor]) -> None:
        """ModelError, and the patch is off again: the number type in memory rounds all of a real change away."""
        if all(mine[name].equal(value) for name, value in self._originals.items()):
            exact = all(value.equal(patch.tensors[name].to(value)) and value.dtype == torch.float32
                        for name, value in self._originals.items())
            if not exact:
                kind = str(self.dtype).removeprefix("torch.")
                self.remove()
                raise ModelError(f"the patch changes nothing here: its changes are smaller than {kind} can tell apart",
                                 accepted="a number type that holds them", remedy="load the model with dtype float32")

    def _say(self, note: str) -> None:
        """Warn once of a patch whose base is not this model to the bit."""
        if note and note not in self._said:
            self._said.add(note)
            log.warning("%s", note)

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
        told = dict(self._digests() if remember is None else remember(self._digests))
        self.hash, self.encoder_hash = told.pop("hash"), told.pop("encoder_hash")
        self._rounded: dict[str, str] = told

    def _digests(self) -> dict[str, str]:
        """All that is a digest of the weights, and costs reading them."""
        told = {"hash": tensors_hash({full: parameter for component, part in self._parts().items()
                                      for full, parameter in scopes.full_names(component, part).items()}),
                "encoder_hash": tensors_hash(dict(scopes.full_names("text_encoder", self.text_encoder)))}
        kind = stored_half({name: value for part in self._parts().values() for name, value in part.named_parameters()})
        # The weights may be cast to another type next.
        return told | (self._hashed(kind) if kind else {})

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
        for prompt, count in self.too_long(prompts).items():
            cut = unread(self.tokenizer, prompt, self.length - 2)
            raise UserError(f"prompt {prompt!r} has {count} tokens", accepted=f"up to {self.length - 2}",
                            remedy=f"shorten it; what would be cut: {cut!r}")


def _check_family(pipe: Any) -> None:
    if not isinstance(pipe, StableDiffusionPipeline):
        raise ModelError(f"a {type(pipe).__name__}",
                         accepted="StableDiffusionPipeline (Stable Diffusion 1.x and 2.x)")
    channels, latents = pipe.unet.config.in_channels, pipe.vae.config.latent_channels
    if channels != latents:
        raise ModelError(f"a UNet of {channels} input channels over {latents} latent channels",
                         accepted="text-to-image models (no inpainting, depth or upscaling)")


def _check_plain(pipe: Any) -> None:
    """ModelError: a part does not compute with its own weights, so that neither its hash nor an edit would mean it."""
    for component in ("unet", "text_encoder", "vae"):
        got, remedy = why_not_plain(component, getattr(pipe, component))
        if got:
            raise ModelError(got, accepted="parts that compute with their own weights", remedy=remedy)


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

