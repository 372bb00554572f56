"""What weights a diffusers folder holds: in which format, and in which variant ("fp16", "ema").

A variant is a second set of weights under names of its own: `diffusion_pytorch_model.fp16.safetensors` beside or in
place of `diffusion_pytorch_model.safetensors`, in shards `diffusion_pytorch_model.fp16-00001-of-00002.safetensors`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from safetensors import safe_open

from expunge.errors import ModelError, UserError

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
"""Suffixes of files that run code when they are opened."""

_NAMED = re.compile(r"(?:diffusion_pytorch_model|pytorch_model|model)(?:\.(?P<variant>[\w-]+?))?"
                    r"(?:-\d{5}-of-\d{5})?\.(?:safetensors|bin)")


def check_weights(folder: Path, weighed: Sequence[str], allow_pickle: bool, given: Collection[str] = ()) -> None:
    """Raise ModelError where weights of the components `weighed` are missing, or any are pickled and must not be.

    Args:
        given: components that are not read from the folder.
    """
    for part in (entry for entry in sorted(folder.iterdir()) if entry.is_dir() and entry.name not in given):
        kinds = {file.suffix for file in part.iterdir()}
        pickled = sorted(kinds & set(PICKLES))
        if pickled and ".safetensors" not in kinds and not allow_pickle:
            raise ModelError(f"{part} holds its weights only as {', '.join(pickled)}: a pickle file runs code "
                             "when it is opened", accepted="safetensors",
                             remedy="pass allow_pickle (--allow-pickle) if you trust whoever made the file")
    missing = [name for name in weighed if not has_weights(folder, name)]
    if missing:
        raise ModelError(f"{folder} has no weights for {', '.join(missing)}", accepted=f"weights for "
                         f"{', '.join(weighed)}", remedy="fetch or save the model again")


def has_weights(folder: Path, part: str) -> bool:
    """Whether a component's folder has weights in any format."""
    return (folder / part).is_dir() and any(file.suffix in {".safetensors", *PICKLES}
                                            for file in (folder / part).iterdir())


def variant_of(folder: Path, weighed: Sequence[str], asked: str, allow_pickle: bool) -> str | None:
    """The variant to open, None for the plain weights.

    Args:
        weighed: the components that must have weights.
        asked: the one that the user named; "" takes the plain weights, and where a component has none of these the only
            variant that fills every such gap.

    Raises:
        UserError: no component has the variant that was asked for, or several variants would do.
    """
    there = {part.name: _variants(part, allow_pickle) for part in sorted(folder.iterdir()) if part.is_dir()}
    known = sorted({name for names in there.values() for name in names if name})
    if asked:
        if asked not in known:
            raise UserError(f"{folder} has no variant {asked!r}",
                            accepted=", ".join(known) or "none: this folder has no variants",
                            remedy="leave the variant out to take the folder's own weights")
        without = [name for name in weighed if not there.get(name, set()) & {asked, ""}]
        if without:
            raise UserError(f"{folder} has no weights of variant {asked!r} for {', '.join(without)}",
                            accepted=f"of these there: {', '.join(sorted(there[without[0]])) or 'none'}")
        return asked
    gaps = [names for names in there.values() if names and "" not in names]
    if not gaps:
        return None
    fill = sorted(set.intersection(*gaps))
    if len(fill) != 1:
        raise UserError(f"{folder} holds its weights only in variants ({', '.join(known)})",
                        accepted=f"one of them: {', '.join(fill) or 'none fits every part'}",
                        remedy="name it: --variant (variant=)")
    return fill[0]


def check_complete(folder: Path, variant: str | None, parts: Mapping[str, Collection[str]]) -> None:
    """Raise ModelError where files lack tensors that a component has: libraries fill such gaps with random numbers.

    Args:
        parts: names of each component's parameters, as opened. Old files spell some otherwise, and hold more than is
            asked for: so numbers decide, and names are told where they are spelt alike.
    """
    for name, wanted in parts.items():
        there = {key.removeprefix("text_model.") for key in _tensors(folder / name, variant)}
        lacking = sorted({key.removeprefix("text_model.") for key in wanted} - there)
        if there and len(there) < len(wanted):
            raise ModelError(f"the weights of {name} in {folder} hold {len(there)} tensors of {len(wanted)}"
                             f"{f'; {lacking[0]!r} is not there' if lacking else ''}",
                             accepted="all of them", remedy="fetch or save the model again")


def weight_files(part: Path, variant: str | None) -> list[Path]:
    """A component's safetensors files: of the variant, or the plain ones of a component without it."""
    files: dict[str, list[Path]] = {}
    for file in sorted(part.glob("*.safetensors")):
        match = _NAMED.fullmatch(file.name)
        if match:
            files.setdefault(match["variant"] or "", []).append(file)
    return files.get(variant or "", files.get("", []))


def _tensors(part: Path, variant: str | None) -> set[str]:
    """Names of the tensors in these files."""
    out: set[str] = set()
    for file in weight_files(part, variant):
        with safe_open(file, "pt") as opened:
            out |= {*opened.keys()}
    return out


def _variants(part: Path, allow_pickle: bool) -> set[str]:
    """The variants of a component's weights, "" for plain ones; nothing for parts without weights."""
    suffixes = (".safetensors", ".bin") if allow_pickle else (".safetensors",)
    matches = [_NAMED.fullmatch(file.name) for file in part.iterdir() if file.suffix in suffixes]
    return {match["variant"] or "" for match in matches if match}
