"""What a family of models is to everything else: the one border to networks, tokenizers and schedules.

A family is a class with the members of `Denoiser`; `models.model.Model` makes of it what is used everywhere else, with
name, hashes and patches. docs/families.md says who asks for what, and when.

Letters used everywhere: B batch, T tokens, D text width, c h w latent channels and sides, H W pixels.
Latents are float32 (B, c, h, w). Time `t` is float32 (B,) in the family's own units, 0 = clean, `process.schedule.last`
= noise. Pixels at borders are float32 (B, 3, H, W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from torch import Tensor, nn

from expunge.models.conditioning import Conditioning
from expunge.models.process import Process
from expunge.models.scope import Rule
from expunge.models.text import TextEncoder, Tokens

Role = Literal["denoiser", "text", "autoencoder"]
"""What a component is in a model. Every model has one denoiser, one autoencoder and at least one text encoder."""
Null = Literal["empty", "zeros", "none"]
"""What classifier-free guidance goes away from where no negative prompt is given: the states of the empty prompt, zeros
in place of all states, or nothing (the model takes no such guidance)."""
Guidance = Literal["classifier-free", "embedded", "none"]
"""How a model is guided: by a second pass without the prompt; by a number that the network is told (distilled models,
in the conditioning's row "guidance"); or not at all."""


class Denoiser(Protocol):
    """A family's networks behind one interface. All members are asked for; there are no others.

    A family whose denoiser is told a pooled text state has it in the conditioning's row "pooled", and a scope "pooled",
    whose first layer reads it in its first columns.

    Attributes:
        family: its name in words ("Stable Diffusion").
        process: noise schedule and meaning of the network's output.
        components: networks by name, as files and patches call them ("unet", "text_encoder", "vae").
        roles: what each component is.
        texts: the text encoders, each over the component of its name; the first one is searched by token attacks.
        scopes: which layers of the denoiser a scope selects, by the scope's name (`models.scope`).
        entry: the scope of the layers whose input is the text states as they are, which closed forms may edit.
        places: by the encoder's place in `texts`, where its first token stands along T of the text states; encoders
            whose states are not among them are not named.
        latent_shape: (c, h, w) at the native size. factor: pixels per latent on a side. multiple: an image's height
            and width are multiples of so many pixels.
        null, guided: see `Null` and `Guidance`.
    """

    @property
    def family(self) -> str: ...
    @property
    def process(self) -> Process: ...
    @property
    def components(self) -> Mapping[str, nn.Module]: ...
    @property
    def roles(self) -> Mapping[str, Role]: ...
    @property
    def texts(self) -> tuple[TextEncoder, ...]: ...
    @property
    def scopes(self) -> Mapping[str, Rule]: ...
    @property
    def entry(self) -> str: ...
    @property
    def places(self) -> Mapping[int, int]: ...
    @property
    def latent_shape(self) -> tuple[int, int, int]: ...
    @property
    def factor(self) -> int: ...
    @property
    def multiple(self) -> int: ...
    @property
    def null(self) -> Null: ...
    @property
    def guided(self) -> Guidance: ...

    def condition(self, tokens: Sequence[Tokens], embeddings: Mapping[int, Tensor]) -> Conditioning:
        """What the denoiser is told of texts, of which each encoder has its own tokens.

        Args:
            tokens: one for each of `texts`, B rows each.
            embeddings: by the encoder's place, (B, T, D) in the place of its tokens' own; differentiable.
        """
        ...

    def predict(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The network's native output, float32 (B, c, h, w); t is (B,) or a single time."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Latents to pixels, float32 (B, 3, H, W) in [0, 1]."""
        ...

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] to latents (posterior mean), scaled as the network expects."""
        ...

    def with_components(self, components: Mapping[str, nn.Module]) -> Denoiser:
        """The same with some components exchanged for others of the same kind."""
        ...
