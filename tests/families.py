"""Two families for the border's contract: one that hides all but the protocol's members, and one of another kind.

`TwoTexts` has two text encoders with vocabularies of their own, pooled states, a transformer in place of a UNet, a flow
in place of a noise schedule, and zeros in place of an empty prompt. It is made of plain torch modules.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from expunge.models.base import Denoiser, Guidance, Null, Role
from expunge.models.conditioning import Conditioning
from expunge.models.model import Model
from expunge.models.process import Velocity
from expunge.models.schedule import StraightFlow
from expunge.models.scope import Rule
from expunge.models.text import TextEncoder, Tokens
from pipelines import LENGTH, tokenizer

MEMBERS = {name for name, _ in inspect.getmembers(Denoiser) if not name.startswith("_")}
"""What a family must have; nothing else may be asked of it."""


class Only:
    """A family of which nothing is seen but what the protocol names."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if name not in MEMBERS:
            raise AttributeError(f"a family has no {name!r}")
        return getattr(self._inner, name)

    def with_components(self, components: Mapping[str, nn.Module]) -> Only:
        return Only(self._inner.with_components(components))

    def __deepcopy__(self, memo: Any) -> Any:
        raise AssertionError("a family is copied by with_components")


def strict(model: Model) -> Model:
    """The model, its family behind `Only`."""
    model.denoiser = Only(model.denoiser)
    return model


class Attention(nn.Module):
    """Heads over a sequence, of it or of another; named as diffusers names them."""

    def __init__(self, width: int, told: int, causal: bool = False) -> None:
        super().__init__()
        self.to_q, self.to_k = nn.Linear(width, width, bias=False), nn.Linear(told, width, bias=False)
        self.to_v = nn.Linear(told, width, bias=False)
        self.to_out, self._causal = nn.Linear(width, width), causal

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        out = scaled_dot_product_attention(self.to_q(x), self.to_k(told), self.to_v(told), is_causal=self._causal)
        mixed: Tensor = self.to_out(out)
        return mixed


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(width, width, causal=True), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(x, x)
        return x + self.mlp(x).tanh()


class Encoder(nn.Module):
    """A causal text encoder: states of the last layer but one, and a pooled state at the end token."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Parameter(torch.randn(LENGTH, width) * 0.3)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList([Layer(width) for _ in range(3)])})
        self.final_layer_norm = nn.LayerNorm(width)

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        x, states = self.words(ids) + self.places[:ids.shape[1]], []
        for layer in self.encoder["layers"]:  # type: ignore[attr-defined]
            x = layer(x)
            states.append(x)
        return states[-2], self.final_layer_norm(x)


class Transformer(nn.Module):
    """Pixels of the latent as a sequence, which attends to itself and to the text; told time and a pooled state."""

    def __init__(self, channels: int, width: int, told: int, pooled: int) -> None:
        super().__init__()
        self.entry, self.time, self.pooled = nn.Linear(channels, width), nn.Linear(8, width), nn.Linear(pooled, width)
        self.blocks = nn.ModuleList([nn.ModuleDict({"attn1": Attention(width, width), "attn2": Attention(width, told),
                                                    "ff": nn.Linear(width, width)}) for _ in range(2)])
        self.exit = nn.Linear(width, channels)

    def forward(self, x: Tensor, t: Tensor, told: Tensor, pooled: Tensor) -> Tensor:
        waves = (t.reshape(-1, 1) * torch.tensor([1.0, 3.0, 9.0, 27.0])).expand(len(x), -1)
        y = self.entry(x.flatten(2).transpose(1, 2)) + (
            self.time(torch.cat([waves.sin(), waves.cos()], 1)) + self.pooled(pooled))[:, None]
        for block in self.blocks:
            y = y + block["attn1"](y, y)  # type: ignore[index]
            y = y + block["attn2"](y, told)  # type: ignore[index]
            y = y + block["ff"](y).tanh()  # type: ignore[index]
        out: Tensor = self.exit(y).transpose(1, 2).reshape(x.shape)
        return out


class Autoencoder(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, channels, 2, 2), nn.ConvTranspose2d(channels, 3, 2, 2)


class Words(TextEncoder):
    """States, and the pooled one at the end token."""

    pooled = "pooled"

    def read(self, tokens: Tokens, embeddings: Tensor | None = None) -> dict[str, Tensor]:
        with self.embedding(embeddings):
            states, last = self.module(tokens.ids)
        ends = ((tokens.ids == self.end).int().cumsum(1) == 1).int().argmax(1)
        return {"states": states, "pooled": last[torch.arange(len(last)), ends]}


SCOPES: Mapping[str, Rule] = {
    "xattn": lambda path: "attn2" in path, "xattn.kv": lambda path: path[-1] in ("to_k", "to_v") and "attn2" in path,
    "xattn.k": lambda path: path[-1] == "to_k" and "attn2" in path,
    "xattn.v": lambda path: path[-1] == "to_v" and "attn2" in path, "noxattn": lambda path: "attn2" not in path,
    "visual": lambda path: "attn1" in path or path[-2:] == ["attn2", "to_q"]}


class TwoTexts:
    """A family that shares nothing with Stable Diffusion but the border."""

    family = "two texts"
    roles: Mapping[str, Role] = {"transformer": "denoiser", "text_encoder": "text", "text_encoder_2": "text",
                                 "vae": "autoencoder"}
    scopes = SCOPES
    entry = "xattn.kv"
    places: Mapping[int, int] = {0: 0, 1: 0}
    null: Null = "zeros"
    guided: Guidance = "classifier-free"
    latent_shape = (4, 8, 8)
    factor = 2
    multiple = 2

    def __init__(self) -> None:
        first, second = tokenizer(), tokenizer(more=("hill", "sea"))
        second.pad_token = "!"
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.components: Mapping[str, Any] = {
                "transformer": Transformer(4, 32, 32 + 24, 24), "text_encoder": Encoder(len(first), 32),
                "text_encoder_2": Encoder(len(second), 24), "vae": Autoencoder(4)}
        self.process = Velocity(StraightFlow(shift=2.0))
        self.texts: tuple[TextEncoder, ...] = (
            Words("text_encoder", self.components["text_encoder"], first, LENGTH),
            Words("text_encoder_2", self.components["text_encoder_2"], second, LENGTH))

    def with_components(self, components: Mapping[str, nn.Module]) -> TwoTexts:
        twin = copy(self)
        twin.components = {**self.components, **components}
        twin.texts = tuple(encoder.with_module(twin.components[encoder.name]) for encoder in self.texts)
        return twin

    def condition(self, tokens: Sequence[Tokens], embeddings: Mapping[int, Tensor]) -> Conditioning:
        told = [encoder.read(mine, embeddings.get(place))
                for place, (encoder, mine) in enumerate(zip(self.texts, tokens, strict=True))]
        return Conditioning({"states": torch.cat([one["states"] for one in told], 2), "pooled": told[1]["pooled"]})

    def predict(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        out: Tensor = self.components["transformer"](x_t, t.float() / 1000, cond.states, cond.rows["pooled"])
        return out

    def decode(self, z: Tensor) -> Tensor:
        pixels: Tensor = self.components["vae"].up(z).sigmoid()
        return pixels

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        z: Tensor = self.components["vae"].down(pixels)
        return z


def two_texts() -> Model:
    """The second family as a loaded model, behind `Only`."""
    return Model(Only(TwoTexts()), "two texts", guidance=2.0)  # type: ignore[arg-type]
