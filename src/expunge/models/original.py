"""Where the tensors of a network lie in the layouts that models were first published in: LDM, SAI, BFL and OpenCLIP.

A map goes from the name that diffusers gives a tensor to its `Place`: the key in the original layout, and what part of
that tensor it is. Queries, keys and values of some layouts are stacked in one tensor, some halves stand the other way
round, and one matrix is transposed. The same maps say what a LoRA's layer is called that was trained on such a layout.

Source: names as in diffusers' conversion functions (`loaders/single_file_utils.py`), which tests compare tensor by
tensor; they agree at the sizes of the published models. Differs: goes from what is wanted to where it lies, so that
nothing that is missing stays unseen; sizes come from the networks, not from constants.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Place:
    """Where a tensor lies.

    Attributes:
        key: name in the original layout, without the component's prefix.
        nth: which of several tensors of its own number of rows, stacked: 0, 1, 2; -1: the last rows; None: all of it.
        of: how many are stacked, if all of them have as many rows; 0 where that is open.
        swapped: the halves of its rows stand the other way round. transposed: so it lies.
    """

    key: str
    nth: int | None = None
    of: int = 0
    swapped: bool = False
    transposed: bool = False

    def rows(self, mine: int, total: int) -> slice:
        """Which rows of a stack of `total` belong to a tensor of `mine` rows."""
        if self.nth is None:
            return slice(0, total)
        first = total - mine if self.nth < 0 else self.nth * mine
        return slice(first, first + mine)

    def taken(self, stack: Tensor, mine: int) -> Tensor:
        """The tensor of `mine` rows out of what lies under the key."""
        part = stack[self.rows(mine, len(stack))]
        if self.transposed:
            return part.T.contiguous()
        return part.roll(len(part) // 2, 0) if self.swapped else part

    def put(self, stack: Tensor, value: Tensor) -> None:
        """Write the tensor into its rows of what lies under the key, in place: the way back of `taken`."""
        lies = value.T if self.transposed else value.roll(-(len(value) // 2), 0) if self.swapped else value
        part = stack[self.rows(len(lies), len(stack))]
        part.copy_(lies.reshape(part.shape))


Map = Callable[[str], Place]
"""From diffusers' name of a tensor to where it lies."""


def renamed(pairs: Mapping[str, str]) -> Map:
    """A map that takes the first beginning that fits, and puts another in its place; the rest of the name stays."""
    def place(name: str) -> Place:
        for ours, theirs in pairs.items():
            if name == ours or name.startswith(f"{ours}."):
                return Place(theirs + name[len(ours):])
        return Place(name)
    return place


# --- LDM: Stable Diffusion 1, 2, XL

_RESNET = renamed({"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
                   "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"})
_UNET_ENDS = renamed({
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"})
_MIDDLE = {("resnets", 0): "0", ("attentions", 0): "1", ("resnets", 1): "2"}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MID = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def ldm_unet(config: Any) -> Map:
    """Of a `UNet2DConditionModel` with this config, whose levels have equally many layers."""
    layers = config["layers_per_block"]
    attends = ["CrossAttn" in kind or "Attn" in kind for kind in config["up_block_types"]]

    def place(name: str) -> Place:
        if middle := _MID.fullmatch(name):
            kind, number, rest = middle.groups()
            inside = _RESNET(rest).key if kind == "resnets" else rest
            return Place(f"middle_block.{_MIDDLE[kind, int(number)]}.{inside}")
        found = _BLOCK.fullmatch(name)
        if not found:
            return _UNET_ENDS(name)
        way, level, kind, number, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        count = layers + 1
        if way == "down":
            block = 1 + level * count + (layers if kind == "downsamplers" else number)
            inside = {"resnets": f"0.{_RESNET(rest).key}", "attentions": f"1.{rest}",
                      "downsamplers": f"0.op.{rest.removeprefix('conv.')}"}[kind]
            return Place(f"input_blocks.{block}.{inside}")
        block = level * count + (layers if kind == "upsamplers" else number)
        inside = {"resnets": f"0.{_RESNET(rest).key}", "attentions": f"1.{rest}",
                  "upsamplers": f"{2 if attends[level] else 1}.{rest}"}[kind]
        return Place(f"output_blocks.{block}.{inside}")
    return place


_VAE_LEAF = renamed({"conv_shortcut": "nin_shortcut"})
_VAE_ATTENTION = renamed({"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
                          "query": "q", "key": "k", "value": "v", "proj_attn": "proj_out"})
_VAE_BLOCK = re.compile(r"(encoder|decoder)\.(?:down|up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)\.(.+)")
_VAE_MID = re.compile(r"(encoder|decoder)\.mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def ldm_vae(config: Any) -> Map:
    """Of an `AutoencoderKL` with this config. The levels of the decoder are counted from the other end."""
    levels = len(config["block_out_channels"])

    def place(name: str) -> Place:
        if middle := _VAE_MID.fullmatch(name):
            side, kind, number, rest = middle.groups()
            inside = (f"block_{int(number) + 1}.{_VAE_LEAF(rest).key}" if kind == "resnets"
                      else f"attn_{int(number) + 1}.{_VAE_ATTENTION(rest).key}")
            return Place(f"{side}.mid.{inside}")
        found = _VAE_BLOCK.fullmatch(name)
        if not found:
            return Place(name.replace(".conv_norm_out.", ".norm_out."))
        side, level, kind, rest = found[1], int(found[2]), found[3], found[5]
        way, level = ("down", level) if side == "encoder" else ("up", levels - 1 - level)
        inside = f"block.{found[4]}.{_VAE_LEAF(rest).key}" if kind == "resnets" else (
            f"{'downsample' if way == 'down' else 'upsample'}.{rest}")
        return Place(f"{side}.{way}.{level}.{inside}")
    return place


# --- text encoders

def bare(name: str) -> str:
    """A name without "text_model.", which some versions of transformers put before and others do not."""
    return name.removeprefix("text_model.")


def clip(name: str) -> Place:
    """Of a CLIP text encoder in transformers' own layout."""
    return Place(name if name.startswith("text_projection.") else f"text_model.{bare(name)}")


def clip_without_prefix(name: str) -> Place:
    """The same, as some tools save it again."""
    return Place(bare(name))


_OPEN_ENDS = {"embeddings.token_embedding.weight": "token_embedding.weight",
              "embeddings.position_embedding.weight": "positional_embedding",
              "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias"}
_OPEN_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)")
_OPEN_LEAF = renamed({"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
                      "self_attn.out_proj": "attn.out_proj"})
_OPEN_STACK = re.compile(r"self_attn\.([qkv])_proj\.(weight|bias)")


def open_clip(name: str) -> Place:
    """Of a CLIP text encoder in OpenCLIP's layout."""
    if name == "text_projection.weight":
        return Place("text_projection", transposed=True)
    layer = _OPEN_LAYER.fullmatch(bare(name))
    if not layer:
        return Place(_OPEN_ENDS.get(bare(name), bare(name)))
    start = f"transformer.resblocks.{layer[1]}."
    stacked = _OPEN_STACK.fullmatch(layer[2])
    if stacked:
        return Place(f"{start}attn.in_proj_{stacked[2]}", nth="qkv".index(stacked[1]), of=3)
    return Place(start + _OPEN_LEAF(layer[2]).key)


def t5(name: str) -> Place:
    """Of T5's encoder: its token embedding goes by one name alone."""
    return Place("shared.weight" if name == "encoder.embed_tokens.weight" else name)


# --- transformers

_STACKED = {"to_q": 0, "to_k": 1, "to_v": 2, "add_q_proj": 0, "add_k_proj": 1, "add_v_proj": 2}
_JOINT_BLOCK = re.compile(r"transformer_blocks\.(\d+)\.(.+)")
_SINGLE_BLOCK = re.compile(r"single_transformer_blocks\.(\d+)\.(.+)")
_SD3_ENDS = renamed({
    "pos_embed.pos_embed": "pos_embed", "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "proj_out": "final_layer.linear", "norm_out.linear": "final_layer.adaLN_modulation.1"})
_SD3_LEAF = renamed({
    "attn.norm_q": "x_block.attn.ln_q", "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q", "attn.norm_added_k": "context_block.attn.ln_k",
    "attn.to_out.0": "x_block.attn.proj", "attn.to_add_out": "context_block.attn.proj",
    "attn2.norm_q": "x_block.attn2.ln_q", "attn2.norm_k": "x_block.attn2.ln_k", "attn2.to_out.0": "x_block.attn2.proj",
    "norm1.linear": "x_block.adaLN_modulation.1", "norm1_context.linear": "context_block.adaLN_modulation.1",
    "ff.net.0.proj": "x_block.mlp.fc1", "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1", "ff_context.net.2": "context_block.mlp.fc2"})


def sd3(config: Any) -> Map:
    """Of an `SD3Transformer2DModel` with this config, in the layout of Stability AI."""
    last = config["num_layers"] - 1

    def place(name: str) -> Place:
        block = _JOINT_BLOCK.fullmatch(name)
        if not block:
            return replace(_SD3_ENDS(name), swapped=name.startswith("norm_out.linear."))
        start, (attention, leaf, end) = f"joint_blocks.{block[1]}.", _split(block[2])
        if leaf in _STACKED and attention in ("attn", "attn2"):
            side = "context_block" if leaf.startswith("add_") else "x_block"
            return Place(f"{start}{side}.{attention}.qkv.{end}", nth=_STACKED[leaf], of=3)
        swapped = int(block[1]) == last and block[2].startswith("norm1_context.linear.")
        return Place(start + _SD3_LEAF(block[2]).key, swapped=swapped)
    return place


_FLUX_ENDS = renamed({
    "x_embedder": "img_in", "context_embedder": "txt_in",
    **{f"time_text_embed.{ours}.linear_{number}": f"{theirs}.{layer}"
       for ours, theirs in (("timestep_embedder", "time_in"), ("text_embedder", "vector_in"),
                            ("guidance_embedder", "guidance_in"))
       for number, layer in ((1, "in_layer"), (2, "out_layer"))},
    "proj_out": "final_layer.linear", "norm_out.linear": "final_layer.adaLN_modulation.1"})
_FLUX_LEAF = renamed({
    "norm1.linear": "img_mod.lin", "norm1_context.linear": "txt_mod.lin",
    "attn.to_out.0": "img_attn.proj", "attn.to_add_out": "txt_attn.proj",
    "attn.norm_q.weight": "img_attn.norm.query_norm.scale", "attn.norm_k.weight": "img_attn.norm.key_norm.scale",
    "attn.norm_added_q.weight": "txt_attn.norm.query_norm.scale",
    "attn.norm_added_k.weight": "txt_attn.norm.key_norm.scale",
    "ff.net.0.proj": "img_mlp.0", "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0", "ff_context.net.2": "txt_mlp.2"})
_FLUX_SINGLE = renamed({
    "norm.linear": "modulation.lin", "proj_out": "linear2", "attn.norm_q.weight": "norm.query_norm.scale",
    "attn.norm_k.weight": "norm.key_norm.scale"})


def flux(name: str) -> Place:
    """Of a `FluxTransformer2DModel`, in the layout of Black Forest Labs."""
    if single := _SINGLE_BLOCK.fullmatch(name):
        start, (_, leaf, end) = f"single_blocks.{single[1]}.", _split(single[2])
        if leaf in _STACKED or leaf == "proj_mlp":
            return Place(f"{start}linear1.{end}", nth=_STACKED.get(leaf, -1))
        return Place(start + _FLUX_SINGLE(single[2]).key)
    block = _JOINT_BLOCK.fullmatch(name)
    if not block:
        return replace(_FLUX_ENDS(name), swapped=name.startswith("norm_out.linear."))
    start, (_, leaf, end) = f"double_blocks.{block[1]}.", _split(block[2])
    if leaf in _STACKED:
        side = "txt" if leaf.startswith("add_") else "img"
        return Place(f"{start}{side}_attn.qkv.{end}", nth=_STACKED[leaf], of=3)
    return Place(start + _FLUX_LEAF(block[2]).key)


def _split(path: str) -> tuple[str, str, str]:
    """ "attn.to_q.weight" -> ("attn", "to_q", "weight")."""
    before, _, end = path.rpartition(".")
    around, _, leaf = before.rpartition(".")
    return around, leaf, end
