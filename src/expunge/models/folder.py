"""What weights a diffusers folder holds: in which format, and in which variant ("fp16", "ema").

A variant is a second set of weights under names of its own: `diffusion_pytorch_model.fp16.safetensors` beside or in
place of `diffusion_pytorch_model.safetensors`, in shards `diffusion_pytorch_model.fp16-00001-of-00002.safetensors`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from expunge import untrusted
from expunge.errors import ModelError, UserError
from expunge.untrusted import Unreadable, json_of, mapping_of, shortened

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
"""Suffixes of files that run code when they are opened."""

MOST_TIMES = 100_000
"""Of a scheduler; published models are trained with 1,000."""
_NAMED = re.compile(r"(?:diffusion_pytorch_model|pytorch_model|model)(?:\.(?P<variant>[\w-]+?))?"
                    r"(?:-\d{5}-of-\d{5})?\.(?:safetensors|bin)")


_LIBRARIES = ("diffusers", "transformers")
"""Whose classes a folder may name; with diffusers' own pipelines, which are told from modules by their names."""


def check_no_code(folder: Path, index: Mapping[str, Any]) -> None:
    """Raise ModelError where a folder names code of its own, or code to be fetched, for a component.

    Older libraries run it without being asked; newer ones ask on the terminal whether they may.

    Args:
        index: what the folder's `model_index.json` holds.
    """
    from diffusers import pipelines  # here alone: settings and `--help` do without

    accepted = f"components of {' and '.join(_LIBRARIES)} alone"
    for name, entry in index.items():
        if not isinstance(entry, list | tuple):
            continue
        library, kind = (*entry, None, None)[:2]
        if entry and (len(entry) != 2 or not all(one is None or isinstance(one, str) for one in entry)):
            raise ModelError(f"{folder} names {shortened(repr(entry))} as its {shortened(name)}", accepted=accepted)
        own = library is not None and library not in _LIBRARIES and not hasattr(pipelines, library)
        if own or (library == "transformers" and str(kind).startswith("Auto")):
            raise ModelError(f"{folder} names {shortened(kind or '')!r} of {shortened(library)!r} as its "
                             f"{shortened(name)}: code that a model brings is never run", accepted=accepted,
                             remedy="ask for a model of the libraries' own classes")
    for file in sorted(folder.glob("*/*.json")):
        try:
            config = json_of(file)  # what the libraries read once more; they know no bounds
        except OSError as error:
            raise ModelError(f"{file} cannot be read: {error}", remedy="fetch or save the model again") from error
        fetched = [key for key, value in (config.items() if isinstance(config, dict) else ())
                   if "attn_implementation" in key and "/" in str(value)] if file.name == "config.json" else []
        if fetched:
            raise ModelError(f"{file} names code of the Hub as its {fetched[0]}, which is never run",
                             accepted=accepted, remedy=f"take {fetched[0]} out of it")


def check_schedule(folder: Path) -> None:
    """Raise ModelError where a scheduler has more times than any model is trained with: libraries make lists of them.

    Whatever else its config holds is small, and told by whoever makes something of it.
    """
    file = folder / "scheduler" / "scheduler_config.json"
    if not file.is_file():
        return  # told where all parts are looked for
    try:
        config = mapping_of(file)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error}", remedy="fetch or save the model again") from error
    times, betas = config.get("num_train_timesteps", 1), config.get("trained_betas")
    if isinstance(times, bool) or not isinstance(times, int) or not 1 <= times <= MOST_TIMES:
        raise ModelError(f"{file} has {shortened(repr(times))} for num_train_timesteps",
                         accepted=f"a whole number from 1 to {MOST_TIMES:,}", remedy="fetch or save the model again")
    if isinstance(betas, list) and len(betas) > MOST_TIMES:
        raise ModelError(f"{file} has {len(betas):,} trained_betas", accepted=f"at most {MOST_TIMES:,}",
                         remedy="fetch or save the model again")


def weight_map(index: Path) -> dict[str, str]:
    """The file of each tensor, as the index of shards says; each lies beside the index.

    Raises:
        OSError: it cannot be read, is no such index, or names a file elsewhere.
    """
    found = json_of(index)
    places = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise Unreadable("its weight_map names no file for each tensor")
    odd = [name for name in places.values() if Path(name).name != name or name == ".."]
    if odd:
        raise Unreadable(f"it names files outside its folder ({shortened(odd[0])!r})")
    return places


def _check_index(index: Path, allow_pickle: bool) -> None:
    """Raise ModelError where an index of shards is damaged, leads out of its folder, or to pickles without leave."""
    try:
        names = weight_map(index).values()
    except OSError as error:
        raise ModelError(f"{index} cannot be read: {error}", remedy="fetch or save the model again") from error
    odd = [name for name in names if not name.endswith(".safetensors")]
    if odd and not allow_pickle:
        raise ModelError(f"{index} names {shortened(odd[0])!r}, which is no safetensors file: a pickle file runs code "
                         "when it is opened", accepted="safetensors",
                         remedy="pass allow_pickle (--allow-pickle) if you trust whoever made the file")


def check_weights(folder: Path, weighed: Sequence[str], allow_pickle: bool, given: Collection[str] = ()) -> None:
    """Raise ModelError where weights of the components `weighed` are missing, or any are pickled and must not be, or
    lie outside.

    Args:
        given: components that are not read from the folder.
    """
    for part in (entry for entry in sorted(folder.iterdir()) if entry.is_dir() and entry.name not in given):
        kinds = {file.suffix for file in part.iterdir()}
        for index in sorted(part.glob("*.safetensors.index*.json")):
            _check_index(index, allow_pickle)
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


def check_numbers(folder: Path, variant: str | None, given: Collection[str] = ()) -> None:
    """Raise ModelError where a file of weights holds nothing, or what no network computes with: libraries cast that.

    Args:
        given: components that are not read from the folder.
    """
    for file in [file for part in sorted(folder.iterdir()) if part.is_dir() and part.name not in given
                 for file in weight_files(part, variant)]:
        try:
            with untrusted.tensors(file) as opened:
                types = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118 (no dict)
        except OSError as error:
            raise ModelError(f"{file} cannot be read: {error}", remedy="fetch or save the model again") from error
        odd = untrusted.unlike_weights(types) if types else "no tensors are in it"
        if odd:
            raise ModelError(f"{file}: {odd}", accepted=untrusted.WEIGHTS, remedy="fetch or save the model again")


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
        with untrusted.tensors(file) as opened:
            out |= {*opened.keys()}
    return out


def _variants(part: Path, allow_pickle: bool) -> set[str]:
    """The variants of a component's weights, "" for plain ones; nothing for parts without weights."""
    suffixes = (".safetensors", ".bin") if allow_pickle else (".safetensors",)
    matches = [_NAMED.fullmatch(file.name) for file in part.iterdir() if file.suffix in suffixes]
    return {match["variant"] or "" for match in matches if match}
