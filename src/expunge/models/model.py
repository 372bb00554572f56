"""A loaded model: a family's networks, frozen, with name, identity and patches. All other code sees models as this."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from expunge.errors import ModelError, UserError
from expunge.models.base import Denoiser, Role
from expunge.models.conditioning import Conditioning
from expunge.models.eight_bit import put_in
from expunge.models.identity import former_digest, parts_digest, scheme_digest
from expunge.models.mounted import Mounted, changed_by
from expunge.models.networks import ROLES, Networks, cast_to
from expunge.models.patch import Patch
from expunge.models.process import Process
from expunge.models.switched import Off, Switched
from expunge.models.text import TextEncoder, Tokens
from expunge.models.told import Told
from expunge.models.weight_hashes import Remember, WeightHashes

log = logging.getLogger(__name__)

AT_ONCE = 512 * 512
"""Pixels that go through the autoencoder together: 64 images of 64 px, one of 512 px (some 0.8 GiB of Stable
Diffusion's in float32; 32 of them at once took 26)."""
EIGHT_BIT = "8-bit blocks"
GUIDANCE = 7.5
"""Where nobody names one: what diffusers draws Stable Diffusion with."""


class Model:
    """A family's networks, frozen and in evaluation mode.

    Attributes:
        denoiser: the family's networks; nothing outside `models/` asks it for anything.
        name: what the user called it. world: name of the registered world that goes with it ("emoji" for the embedded
            model, else "open").
        guidance: guidance scale at which it is drawn where nobody asks for another.
        parts: digest of what it computes by beside weights and process: architectures, buffers and how its tokenizers
            read (`models.identity`). It begins with the number of its scheme.
        held: how the denoiser's blocks hold their weights, in words, where that is not `dtype`; else "".
        device, dtype: of the denoiser's weights. Latents, text states and pixels are float32 at every border.
    """

    def __init__(self, denoiser: Denoiser, name: str, world: str = "open", *, guidance: float = GUIDANCE,
                 device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32,
                 text_dtype: torch.dtype | None = None, remember: Remember | None = None,
                 stored: Mapping[str, Tensor] | None = None, apart: bool = False, eight_bit: bool = False) -> None:
        """Take over the networks, freeze them and cast them; `text_dtype` None: the text encoders' is `dtype`.

        `remember` may know the weights' hashes from their files; None takes them anew: of the weights as they are
        `stored` (`models.in_files`), by full name; where that is None, of those in the networks. `apart`: only the
        networks that are asked are in memory (`models.residence`); they may be given without values. `eight_bit`: the
        denoiser's blocks hold their weights in 8 bits (`models.eight_bit`); only of weights that are `stored`.

        Raises:
            ModelError: parts that do not compute with their own weights (adapters, fused projections, offloading).
        """
        self.denoiser, self.name, self.world, self.guidance = denoiser, name, world, guidance
        for part in denoiser.components.values():
            part.eval().requires_grad_(False)
        self.device, self.dtype = torch.device(device), dtype
        self._networks = Networks(denoiser, self.device, stored, apart=apart)
        self._networks.check_plain()
        self._mounted = Mounted()
        self._told: Told | None = None
        self._said: set[str] = set()
        self._sides: tuple[int, int] | None = None
        self._hashes = WeightHashes(self._networks, stored, self._mounted.replaced, remember)
        self.parts = parts_digest(denoiser, stored)
        for component, part in denoiser.components.items():
            text = denoiser.roles[component] == "text"
            cast_to(part, self.device, (text_dtype or dtype) if text else dtype)
        self.held = EIGHT_BIT if eight_bit and put_in(denoiser.components[self.network_name]) else ""
        self._networks.residence.mark()
        if not apart:
            self._networks.need(*ROLES)

    def __repr__(self) -> str:
        on = f", patch {self.patch_hash[:8]} on" if self.patch_hash else ""
        return f"<Model {self.name}: {self.family}, {' x '.join(map(str, self.size))} pixels, {self.dtype}{on}>"

    @property
    def hash(self) -> str:
        """Content hash of the values of all parameters as they are stored (patch excluded), before any cast.

        A folder in float16 has the same hash however it is loaded.
        """
        return self._hashes.whole

    @property
    def encoder_hash(self) -> str:
        """That of the text encoders alone: models that share it can take each other's patches of the text encoder."""
        return self._hashes.texts

    @property
    def patch_hash(self) -> str:
        """Hash of the patch that is on, "" if none."""
        return self._mounted.hash

    @property
    def stored(self) -> Mapping[str, Tensor] | None:
        """All weights as the files hold them, by full name, read when asked; None where only memory tells them."""
        return self._hashes.stored

    @property
    def components(self) -> Mapping[str, nn.Module]:
        """Networks by name, as files and patches call them; all of them are in memory then."""
        self._networks.need(*ROLES)
        return self.denoiser.components

    def component(self, name: str) -> nn.Module:
        """The network of that name, in memory."""
        self._networks.need(self.denoiser.roles[name])
        return self.denoiser.components[name]

    @property
    def texts(self) -> tuple[TextEncoder, ...]:
        """The text encoders, in memory."""
        self._networks.need("text")
        return self.denoiser.texts

    @property
    def tokenizer(self) -> Any:
        """The first text encoder's tokenizer, of transformers."""
        return self.denoiser.texts[0].tokenizer

    @property
    def family(self) -> str:
        """The family's name in words ("Stable Diffusion")."""
        return self.denoiser.family

    @property
    def process(self) -> Process:
        """Noise schedule and meaning of the network's output."""
        process = self.denoiser.process
        return process if self._sides is None else process.sized(*self._sides)

    def process_for(self, x: Tensor) -> Process:
        """The process for latents of x's size, (..., h, w): some families shift their times with the size."""
        return self.process.sized(*x.shape[-2:])

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(c, h, w) at the native size, or at that of `sized`."""
        c, *native = self.denoiser.latent_shape
        h, w = native if self._sides is None else self._sides
        return c, h, w

    @property
    def factor(self) -> int:
        """Pixels per latent on a side."""
        return self.denoiser.factor

    @property
    def network_name(self) -> str:
        """The denoising network's component ("unet")."""
        return self._networks.named("denoiser")[0]

    @property
    def network(self) -> nn.Module:
        """The denoising network itself, in memory."""
        self._networks.need("denoiser")
        return self.denoiser.components[self.network_name]

    @property
    def text_names(self) -> tuple[str, ...]:
        """The text encoders' components."""
        return tuple(self._networks.named("text"))

    def parameters_of(self, *roles: Role) -> dict[str, Parameter]:
        """All parameters of the components in these roles, by full name ("unet/..."), in the components' order."""
        self._networks.need(*roles)
        return self._networks.every(*roles)

    def sizes_of(self, *roles: Role) -> dict[str, int]:
        """Bytes of every parameter of `parameters_of`, wherever they are; nothing is brought into memory."""
        return {full: p.nbytes for full, p in self._networks.every(*roles).items()}

    def shapes_of(self, names: Collection[str]) -> dict[str, Parameter]:
        """The parameters of these full names, wherever they are, to be asked for shape and number type alone."""
        every = self._networks.every(*ROLES)
        return {name: every[name] for name in names}

    def roles_of(self, names: Collection[str]) -> set[Role]:
        """The roles of the components of these full names."""
        return self._networks.roles_of(names)

    def editable(self) -> dict[str, Parameter]:
        """All that a patch may change, by full name: the denoiser and the text encoders."""
        return self.parameters_of("denoiser", "text")

    def parameters_in(self, scope: str) -> dict[str, Parameter]:
        """Parameters of a named scope by full name (see `models.scope`), frozen until the caller says else.

        Raises:
            UserError: unknown scope, or one that selects nothing.
        """
        chosen = self._networks.selected(scope)
        if self._networks.residence.away:  # what comes back has new parameters
            self._networks.need(*self.roles_of(chosen))
            chosen = self._networks.selected(scope)
        return chosen

    def names_in(self, scope: str) -> tuple[str, ...]:
        """Full names of `parameters_in`, wherever they are. UserError: the same."""
        return tuple(self._networks.selected(scope))

    def reading_text(self) -> dict[str, Parameter]:
        """Parameters of the denoiser's layers whose input is the text states as they are, by full name."""
        return self.parameters_in(self.denoiser.entry)

    def end_states(self, prompts: Sequence[str]) -> Tensor:
        """(B, D) text states at the prompts' end tokens: what stands for the whole of each.

        Of several encoders, at the first one's whose states the denoiser is told.

        Raises:
            UserError: a prompt is longer than every text encoder reads.
        """
        number, place = next(iter(self.denoiser.places.items()))
        encoder = self.texts[number]
        ends = place + encoder.ends(encoder.laid_out(prompts))
        states = self.encode(prompts).states
        return states[torch.arange(len(prompts), device=states.device), ends]

    def trains_text(self, names: Collection[str]) -> bool:
        """Whether a text encoder is among the parameters of these full names."""
        return any(name.partition("/")[0] in self.text_names for name in names)

    @cached_property
    def drawing(self) -> str:
        """Digest of all that decides an image beside weights, prompt, seed and sampler: scheme and 16 hex digits.

        That is schedule, architecture, tokenizers, number types and kind of device; drawn images are kept apart by
        it.
        """
        return scheme_digest([self.parts, *self.denoiser.process.identity, str(self.dtype), str(self._text_dtype),
                              self.device.type, *filter(None, [self.held])])

    @cached_property
    def former_drawing(self) -> str:
        """What `drawing` was before schemes had numbers: attempts and looks that older versions kept go by it."""
        words = self._text_dtype
        return former_digest(self.denoiser, [str(self.dtype), self.device.type,
                                             *([str(words)] if words != self.dtype else [])])

    def rounded(self, kind: str = "") -> dict[str, str]:
        """Content hashes of the parts' weights as loaded, rounded to a smaller type: by "float16/unet" and so on.

        Args:
            kind: "float16" or "bfloat16"; "" means both. A type that is missing cannot be told: the weights' files do
                not tell their values by name, and those in memory were cast to another type.
        """
        return self._hashes.rounded(kind, in_memory=self.dtype == self._text_dtype == torch.float32)

    def encode(self, prompts: Sequence[str], *, truncate: bool = False) -> Conditioning:
        """What the denoiser is told of the prompts; differentiable where a text encoder trains.

        Raises:
            UserError: a prompt is longer than every text encoder reads, unless `truncate`.
        """
        if not truncate:
            self.check_lengths(prompts)
        return self._encoded(prompts) if self._told is None or not prompts else self._told.rows(prompts, self.device)

    def _encoded(self, prompts: Sequence[str]) -> Conditioning:
        return self.denoiser.condition([encoder.laid_out(prompts) for encoder in self.texts], {})

    @contextmanager
    def told(self, prompts: Sequence[str]) -> Iterator[None]:
        """Inside, prompts are encoded once, each alone, these ones first; then the text encoders leave memory.

        They come back for another prompt, and leave again. For whoever does not train them, and asks for no more of
        them than `encode`. Where they cannot leave (`models.residence`), prompts are encoded once all the same.
        """
        self._told = Told(self._encoded, self._networks.residence)
        self._networks.residence.part()
        try:
            self._told.learn(prompts)
            yield
        finally:
            self._told = None

    def holding(self, *roles: Role) -> AbstractContextManager[None]:
        """Inside, the networks in these roles stay in memory, whatever else is asked."""
        return self._networks.residence.holding(*roles)

    @property
    def apart(self) -> bool:
        """Whether only the networks that are asked are in memory."""
        return self._networks.residence.apart

    @property
    def can_leave(self) -> bool:
        """Whether networks can leave memory until they are asked again."""
        return self._networks.residence.can_leave

    @property
    def in_memory(self) -> int:
        """Bytes of the parameters that are in memory."""
        return self._networks.residence.held_bytes

    def encode_embedded(self, prompts: Sequence[str], tokens: Tokens, embeddings: Tensor) -> Conditioning:
        """What the denoiser is told of token embeddings that need not stand for any token; differentiable in them.

        Args:
            prompts: B texts for the other encoders, where there are others; cut if too long.
            tokens: B rows for the first encoder; they say where its end token is.
            embeddings: (B, T, D) of the first encoder, before positions are added.
        """
        # Whoever does this differentiates through both, time and again.
        self._networks.residence.bind("text", "denoiser")
        others = [encoder.laid_out(prompts) for encoder in self.texts[1:]]
        return self.denoiser.condition([tokens, *others], {0: embeddings})

    def unconditional(self, negative: str = "", *, truncate: bool = False) -> Conditioning:
        """One row: what guidance goes away from.

        Raises:
            UserError: the family takes no such guidance, or a negative prompt is too long.
        """
        if self.denoiser.null == "none":
            raise UserError(f"classifier-free guidance of {self.name}", accepted="guidance 1 for this model")
        cond = self.encode([negative], truncate=truncate)
        if negative or self.denoiser.null == "empty":
            return cond
        return cond.emptied()

    def too_long(self, prompts: Sequence[str]) -> dict[str, int]:
        """Those of the prompts that no text encoder reads to their end, with their numbers of tokens.

        Each once, in their order; nothing is encoded. A model of several encoders is told all of a prompt as long as
        one of them reads all of it.
        """
        each = [encoder.too_long(prompts) for encoder in self.denoiser.texts]
        return {text: count for text, count in each[0].items() if all(text in counts for counts in each)}

    def check_lengths(self, prompts: Sequence[str]) -> None:
        """UserError: a prompt is longer than every text encoder reads."""
        long = self.too_long(prompts)
        if long:
            max(self.denoiser.texts, key=lambda encoder: encoder.room).check_length([*long])

    def predict(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The network's native output, float32 (B, c, h, w); t (B,) or a single time."""
        self._networks.need("denoiser")
        return self.denoiser.predict(x_t, t, cond)

    def initial_noise(self, seeds: Sequence[int], height: int | None = None, width: int | None = None) -> Tensor:
        """(B, c, h, w) float32 standard normal; row i depends on seeds[i] alone (CPU generator).

        Raises:
            UserError: a height or width (pixels) that is no multiple of the family's own.
        """
        c, h, w = self.latent_shape
        multiple = self.denoiser.multiple
        for side, pixels in (("height", height), ("width", width)):
            if pixels is not None and pixels % multiple:
                raise UserError(f"{side} {pixels}", accepted=f"a multiple of {multiple} pixels")
        shape = (c, height // self.factor if height else h, width // self.factor if width else w)
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
                for seed in seeds]
        return torch.stack(rows).to(self.device) if rows else torch.empty((0, *shape), device=self.device)

    def decode(self, z: Tensor) -> Tensor:
        """Latents to pixels, float32 (B, 3, H, W) in [0, 1]; as many at once as `AT_ONCE` allows.

        How many is a rule of size alone, so that an image's bits do not depend on what memory is free.
        """
        self._networks.need("autoencoder")
        height, width = z.shape[-2] * self.factor, z.shape[-1] * self.factor
        return torch.cat([self.denoiser.decode(some) for some in z.split(together(height, width))])

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [0, 1] to latents (posterior mean), scaled as the network expects."""
        self._networks.need("autoencoder")
        parts = pixels.split(together(*pixels.shape[-2:]))
        return torch.cat([self.denoiser.encode_pixels(part.to(self.device)) for part in parts])

    def frozen_copy(self, trained: Collection[str] | None = None) -> Model:
        """A teacher: the components that train as they are now, copied and frozen; the rest is shared.

        Args:
            trained: names of components; None: the denoiser and the text encoders.
        """
        names = (self.network_name, *self.text_names) if trained is None else trained
        return self._with({name: copy.deepcopy(self.components[name]).eval().requires_grad_(False) for name in names})

    def sized(self, side: int | None) -> Model:
        """The same model, whose noise is `side` pixels high and wide where nobody asks for another size.

        It shares networks and identity with this one. None, and its own size, are this model itself.

        Raises:
            UserError: a side that is no multiple of the family's own.
        """
        if side is None or (side, side) == self.size:
            return self
        sides = self.initial_noise([], side, side).shape[-2:]
        twin = copy.copy(self)
        twin._sides = sides[0], sides[1]
        return twin

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels where nobody asks for others."""
        _, h, w = self.latent_shape
        return h * self.factor, w * self.factor

    def without(self, off: Off) -> Model:
        """A teacher of the same networks: inside `off` they compute without what trains in them; nothing is copied."""
        return self.asked_through(lambda inner: cast(Denoiser, Switched(inner, off)))

    def asked_through(self, around: Callable[[Denoiser], Denoiser]) -> Model:
        """The same model (networks and identity are shared), whose family is asked through what `around` makes of it.
        """
        twin = copy.copy(self)
        twin.denoiser = around(self.denoiser)
        return twin

    @torch.no_grad()
    def edited(self, patch: Patch | None) -> Model:
        """A model of its own that has the patch in its weights (None: equal weights), for further edits of it.

        Its hash is that of its weights, so it takes patches that were made for it and no others. The autoencoder is
        shared.

        Raises:
            UserError: a patch is on, or weights not in float32, in which alone edits add up. ModelError: as `apply`.
        """
        if self.patch_hash:
            raise UserError("the model has a patch on", accepted="the model as loaded", remedy="remove the patch first")
        if self.dtype != torch.float32 or self._text_dtype != torch.float32 or self.held:
            raise UserError(f"the model's weights are {self.held or self.dtype}", accepted="torch.float32",
                            remedy="load the model with dtype float32 to change it")
        twin = self.frozen_copy()
        if patch is not None:
            twin.apply(patch)
            twin.become(f"{self.name} without {patch.card.request.title}")
        return twin

    def become(self, name: str, digest: str = "") -> None:
        """Be a model of its own, with the weights as they are, a patch that is on included.

        Args:
            digest: its hash; "" takes that of the weights, which are in no file.
        """
        self.name = name
        self._mounted.settle()
        if digest:
            self._hashes.whole = digest
        else:
            self._hashes = WeightHashes(self._networks, None, self._mounted.replaced)

    def check_fits(self, patch: object) -> Patch:
        """The patch, which could be put on this model.

        Raises:
            UserError: no patch, or another one is on already.
            ModelError: made for other weights or another process, tensors that this model does not have, or changes
                that the number type in memory rounds away.
        """
        if not isinstance(patch, Patch):
            raise UserError(f"{type(patch).__name__} is no patch", accepted="a Patch (see Patch.load)")
        if self.patch_hash:
            raise UserError(f"patch {self.patch_hash[:12]} is already on", remedy="remove it first")
        self._networks.check_plain()
        note = patch.check(self, self._networks.every("denoiser", "text"))
        mine = changed_by(patch, self._networks)
        halves = {mine[name].dtype for name in patch.weights} - {torch.float32, torch.int8}
        if halves and all(mine[name].equal(patch.value(name, mine[name]).to(mine[name])) for name in patch.weights):
            kind = str(halves.pop()).removeprefix("torch.")
            raise ModelError(f"the patch changes nothing here: its changes are smaller than {kind} can tell apart",
                             accepted="a number type that holds them", remedy="load the model with dtype float32")
        if note and note not in self._said:  # a base that is not the patch's own to the bit is told once
            self._said.add(note)
            log.warning("%s", note)
        return patch

    @torch.no_grad()
    def apply(self, patch: object) -> None:
        """Put a `models.patch.Patch` on; the originals are kept, so that `remove` is bit-exact.

        Raises:
            UserError, ModelError: as `check_fits`.
        """
        fitting = self.check_fits(patch)
        self._mounted.put_on(fitting, self._networks, self.denoiser.components)

    @torch.no_grad()
    def remove(self) -> None:
        """Take the patch off again, bit-exactly. UserError if none is on."""
        if not self.patch_hash:
            raise UserError("there is no patch on this model")
        self._mounted.take_off(self._networks)

    def _with(self, components: Mapping[str, nn.Module]) -> Model:
        self._networks.residence.stay()
        twin = copy.copy(self)
        twin.denoiser = self.denoiser.with_components(components)
        twin._networks, twin._mounted = Networks(twin.denoiser, self.device), self._mounted.copied()
        twin._hashes = self._hashes.copied(twin._networks, twin._mounted.replaced)
        return twin

    @property
    def _text_dtype(self) -> torch.dtype:
        return next(self.denoiser.texts[0].module.parameters()).dtype


def together(height: int, width: int) -> int:
    """How many images of so many pixels go through the autoencoder at once."""
    return max(1, AT_ONCE // (height * width))


@contextmanager
def applied(model: Model, patch: Patch) -> Iterator[Model]:
    """The model with the patch on, inside the `with`; off again afterwards, whatever happened."""
    model.apply(patch)
    try:
        yield model
    finally:
        model.remove()


def drawn_by(model: Model) -> dict[str, str]:
    """What decides the model's images beside weights, prompt, seed and sampler, in parts that records can compare.

    "schedule and parts" is `Model.drawing`, which holds number type and device as well.
    """
    weights = next(model.denoiser.components[model.network_name].parameters())  # wherever they are
    number = str(weights.dtype).removeprefix("torch.")
    return {"family": model.family, "process": model.process.description,
            "number type": f"{number}, {model.held}" if model.held else number,
            "device": model.device.type, "schedule and parts": model.drawing}
