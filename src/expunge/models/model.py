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
from expunge.models import scope as scopes
from expunge.models.base import Denoiser, Role
from expunge.models.conditioning import Conditioning
from expunge.models.eight_bit import EightBit, put_in, widened
from expunge.models.identity import (
    HALVES,
    former_digest,
    parts_digest,
    rounded_hash,
    scheme_digest,
    stored_half,
    value_hash,
)
from expunge.models.in_files import Some
from expunge.models.patch import Patch
from expunge.models.process import Process
from expunge.models.residence import Residence
from expunge.models.switched import Off, Switched
from expunge.models.text import TextEncoder, Tokens
from expunge.models.wrapped import why_not_plain

log = logging.getLogger(__name__)

Remember = Callable[[Callable[[], Mapping[str, str]]], Mapping[str, str]]
"""Gives what its argument gives, now or earlier (`models.remembered`)."""
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
        hash: content hash of the values of all parameters as they are stored (patch excluded), before any cast: a
            folder in float16 has the same hash however it is loaded. encoder_hash: that of its text encoders alone;
            models that share it can take each other's patches of the text encoder.
        parts: digest of what it computes by beside weights and process: architectures, buffers and how its tokenizers
            read (`models.identity`). It begins with the number of its scheme.
        patch_hash: hash of the patch now applied, "" if none.
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
        self.denoiser, self.name, self.world, self.guidance, self.patch_hash = denoiser, name, world, guidance, ""
        for part in denoiser.components.values():
            part.eval().requires_grad_(False)
        self.device, self.dtype = torch.device(device), dtype
        self._residence = Residence(denoiser.components, denoiser.roles, self.device, stored, apart=apart)
        self._check_plain()
        self._originals: dict[str, Tensor] = {}
        self._stored = stored
        self._told: dict[str, Conditioning] | None = None
        self._said: set[str] = set()
        self._sides: tuple[int, int] | None = None
        self._identify(remember)
        self.parts = parts_digest(denoiser, stored)
        for component, part in denoiser.components.items():
            text = denoiser.roles[component] == "text"
            _cast(part, self.device, (text_dtype or dtype) if text else dtype)
        self.held = EIGHT_BIT if eight_bit and put_in(denoiser.components[self.network_name]) else ""
        self._widened: list[tuple[nn.Module, str, EightBit]] = []
        self._filed: set[str] = set()
        self._residence.mark()
        if not apart:
            self._need("denoiser", "text", "autoencoder")

    @property
    def stored(self) -> Mapping[str, Tensor] | None:
        """All weights as the files hold them, by full name, read when asked; None where only memory tells them."""
        return self._stored

    @property
    def components(self) -> Mapping[str, nn.Module]:
        """Networks by name, as files and patches call them; all of them are in memory then."""
        self._need("denoiser", "text", "autoencoder")
        return self.denoiser.components

    def component(self, name: str) -> nn.Module:
        """The network of that name, in memory."""
        self._need(self.denoiser.roles[name])
        return self.denoiser.components[name]

    @property
    def texts(self) -> tuple[TextEncoder, ...]:
        """The text encoders, in memory."""
        self._need("text")
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
        return self._named("denoiser")[0]

    @property
    def network(self) -> nn.Module:
        """The denoising network itself, in memory."""
        self._need("denoiser")
        return self.denoiser.components[self.network_name]

    @property
    def text_names(self) -> tuple[str, ...]:
        """The text encoders' components."""
        return tuple(self._named("text"))

    def parameters_of(self, *roles: Role) -> dict[str, Parameter]:
        """All parameters of the components in these roles, by full name ("unet/..."), in the components' order."""
        self._need(*roles)
        return self._every(*roles)

    def sizes_of(self, *roles: Role) -> dict[str, int]:
        """Bytes of every parameter of `parameters_of`, wherever they are; nothing is brought into memory."""
        return {full: p.nbytes for full, p in self._every(*roles).items()}

    def shapes_of(self, names: Collection[str]) -> dict[str, Parameter]:
        """The parameters of these full names, wherever they are, to be asked for shape and number type alone."""
        every = self._every("denoiser", "text", "autoencoder")
        return {name: every[name] for name in names}

    def roles_of(self, names: Collection[str]) -> set[Role]:
        """The roles of the components of these full names."""
        return {self.denoiser.roles[name.partition("/")[0]] for name in names}

    def editable(self) -> dict[str, Parameter]:
        """All that a patch may change, by full name: the denoiser and the text encoders."""
        return self.parameters_of("denoiser", "text")

    def parameters_in(self, scope: str) -> dict[str, Parameter]:
        """Parameters of a named scope by full name (see `models.scope`), frozen until the caller says else.

        Raises:
            UserError: unknown scope, or one that selects nothing.
        """
        chosen = self._selected(scope)
        if self._residence.away:  # what comes back has new parameters
            self._need(*self.roles_of(chosen))
            chosen = self._selected(scope)
        return chosen

    def names_in(self, scope: str) -> tuple[str, ...]:
        """Full names of `parameters_in`, wherever they are. UserError: the same."""
        return tuple(self._selected(scope))

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
        kinds = [kind] if kind else [*HALVES]
        whole = self._stored is not None or self.dtype == self._text_dtype == torch.float32
        for one in kinds:
            if whole and one in HALVES and not any(name.startswith(f"{one}/") for name in self._rounded):
                self._rounded |= self._hashed(one)
        return {name: value for name, value in self._rounded.items() if name.partition("/")[0] in kinds}

    def encode(self, prompts: Sequence[str], *, truncate: bool = False) -> Conditioning:
        """What the denoiser is told of the prompts; differentiable where a text encoder trains.

        Raises:
            UserError: a prompt is longer than every text encoder reads, unless `truncate`.
        """
        if not truncate:
            self.check_lengths(prompts)
        if self._told is None or not prompts:
            return self.denoiser.condition([encoder.laid_out(prompts) for encoder in self.texts], {})
        self._tell(self._told, prompts)
        return Conditioning.cat(self._told[text].to(self.device) for text in prompts)

    @contextmanager
    def told(self, prompts: Sequence[str]) -> Iterator[None]:
        """Inside, prompts are encoded once, each alone, these ones first; then the text encoders leave memory.

        They come back for another prompt, and leave again. For whoever does not train them, and asks for no more of
        them than `encode`. Where they cannot leave (`models.residence`), prompts are encoded once all the same.
        """
        self._told = dict[str, Conditioning]()
        self._residence.part()
        try:
            self._tell(self._told, prompts)
            yield
        finally:
            self._told = None

    def _tell(self, known: dict[str, Conditioning], prompts: Sequence[str]) -> None:
        new = [text for text in dict.fromkeys(prompts) if text not in known]
        if not new:
            return
        with torch.no_grad():  # the rows wait beside the processor: how many there are costs an accelerator nothing
            for text in new:
                known[text] = self.denoiser.condition(
                    [encoder.laid_out([text]) for encoder in self.texts], {}).detach().to("cpu")
        self._residence.dismiss("text")

    def holding(self, *roles: Role) -> AbstractContextManager[None]:
        """Inside, the networks in these roles stay in memory, whatever else is asked."""
        return self._residence.holding(*roles)

    @property
    def apart(self) -> bool:
        """Whether only the networks that are asked are in memory."""
        return self._residence.apart

    @property
    def can_leave(self) -> bool:
        """Whether networks can leave memory until they are asked again."""
        return self._residence.can_leave

    @property
    def in_memory(self) -> int:
        """Bytes of the parameters that are in memory."""
        return self._residence.held_bytes

    def encode_embedded(self, prompts: Sequence[str], tokens: Tokens, embeddings: Tensor) -> Conditioning:
        """What the denoiser is told of token embeddings that need not stand for any token; differentiable in them.

        Args:
            prompts: B texts for the other encoders, where there are others; cut if too long.
            tokens: B rows for the first encoder; they say where its end token is.
            embeddings: (B, T, D) of the first encoder, before positions are added.
        """
        self._residence.bind("text", "denoiser")  # whoever does this differentiates through both, time and again
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
        self._need("denoiser")
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
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(rows).to(self.device) if rows else torch.empty((0, *shape), device=self.device)

    def decode(self, z: Tensor) -> Tensor:
        """Latents to pixels, float32 (B, 3, H, W) in [0, 1]; as many at once as `AT_ONCE` allows.

        How many is a rule of size alone, so that an image's bits do not depend on what memory is free.
        """
        self._need("autoencoder")
        height, width = z.shape[-2] * self.factor, z.shape[-1] * self.factor
        return torch.cat([self.denoiser.decode(some) for some in z.split(together(height, width))])

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [0, 1] to latents (posterior mean), scaled as the network expects."""
        self._need("autoencoder")
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
        twin, switched = copy.copy(self), Switched(self.denoiser, off)
        twin.denoiser = cast(Denoiser, switched)
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
            twin._originals, twin.patch_hash, twin.name = {}, "", f"{self.name} without {patch.card.request.title}"
            twin._stored = None  # these weights are in no file
            twin._identify()
        return twin

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
        self._check_plain()
        note = patch.check(self, self._every("denoiser", "text"))
        mine = self._changed_by(patch)
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
        self._widened = widened(self.denoiser.components, fitting.weights) if self.held else []
        mine = self._changed_by(fitting)
        self._filed = self._residence.unchanged(fitting.weights)
        self._originals = {name: mine[name].detach().clone() for name in fitting.weights}
        for name, weight in self._originals.items():
            mine[name].copy_(fitting.value(name, weight))
        self.patch_hash = fitting.hash

    @torch.no_grad()
    def remove(self) -> None:
        """Take the patch off again, bit-exactly. UserError if none is on."""
        if not self.patch_hash:
            raise UserError("there is no patch on this model")
        mine = self._every("denoiser", "text")
        for name, value in self._originals.items():
            mine[name].copy_(value)
        self._residence.mark(self._filed)
        for parent, name, layer in self._widened:
            setattr(parent, name, layer)
        self._originals, self.patch_hash, self._widened = {}, "", []

    def _with(self, components: Mapping[str, nn.Module]) -> Model:
        self._residence.stay()
        twin = copy.copy(self)
        twin.denoiser = self.denoiser.with_components(components)
        twin._residence = Residence(twin.denoiser.components, twin.denoiser.roles, self.device, None)
        return twin

    def _selected(self, scope: str) -> dict[str, Parameter]:
        parts = self.denoiser.components
        texts = {name: parts[name] for name in self.text_names}
        return scopes.select(self.network_name, parts[self.network_name], self.denoiser.scopes, texts, scope)

    def _need(self, *roles: Role) -> None:
        self._residence.need(*roles)

    def _every(self, *roles: Role) -> dict[str, Parameter]:
        """As `parameters_of`, wherever the parameters are."""
        return {full: parameter for role in roles for component in self._named(role)
                for full, parameter in scopes.full_names(component, self.denoiser.components[component]).items()}

    def _changed_by(self, patch: Patch) -> dict[str, Parameter]:
        """Parameters of the components that a patch changes, in memory."""
        return self.parameters_of(*sorted(self.roles_of(patch.weights)))

    def _check_plain(self) -> None:
        """ModelError: a part does not compute with its own weights, so that neither its hash nor an edit would mean it.
        """
        for component, part in self.denoiser.components.items():
            if component not in self._residence.away:
                got, remedy = why_not_plain(component, part)
                if got:
                    raise ModelError(got, accepted="parts that compute with their own weights", remedy=remedy)

    def _named(self, role: Role) -> list[str]:
        return [name for name in self.denoiser.components if self.denoiser.roles[name] == role]

    @property
    def _text_dtype(self) -> torch.dtype:
        return next(self.denoiser.texts[0].module.parameters()).dtype

    def _hashed(self, kind: str) -> dict[str, str]:
        """Rounded hashes of the weights as loaded, a patch that is on left out."""
        return {f"{kind}/{component}": rounded_hash(self._loaded([*scopes.full_names(component, part)]), kind)
                for component, part in self.denoiser.components.items()}

    def _loaded(self, names: Sequence[str]) -> Mapping[str, Tensor]:
        """Parameters by full name: as they are stored, or, where that is not known, as they are without a patch."""
        if self._stored is not None:
            return Some(self._stored, names)
        mine = self._every("denoiser", "text", "autoencoder")
        return {name: self._originals.get(name, mine[name]) for name in names}

    def _identify(self, remember: Remember | None = None) -> None:
        """Take the hashes of the weights as they are, or those that are remembered of the same files."""
        digests = dict(self._digests() if remember is None else remember(self._digests))
        self.hash, self.encoder_hash = digests.pop("hash"), digests.pop("encoder_hash")
        self._rounded: dict[str, str] = digests

    def _digests(self) -> dict[str, str]:
        """All that is a digest of the weights, and costs reading them."""
        every = self._loaded([*self._every("denoiser", "text", "autoencoder")])
        digests = {"hash": value_hash(every), "encoder_hash": value_hash(self._loaded([*self._every("text")]))}
        kind = stored_half(every)
        # The weights may be cast to another type next.
        return digests | (self._hashed(kind) if kind else {})


def _cast(part: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """To a device and number type, but for layers that their library keeps in float32 where float16 would overflow."""
    wide = {*(getattr(part, "_keep_in_fp32_modules", None) or ())} if dtype == torch.float16 else set()
    for name, module in part.named_modules():
        mine = torch.float32 if wide.intersection(name.split(".")) else dtype
        # Cast by torch itself, layer by layer: diffusers' own `to` warns of layers to keep where there are none.
        module._apply(lambda tensor, mine=mine: tensor.to(  # type: ignore[misc]
            "meta" if tensor.is_meta else device, mine if tensor.is_floating_point() else None), recurse=False)


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
