"""The one set of a UNet's weights in what users return: its tensors, and its config.json.

Programs choose among several sets by settings that nobody sees here (a variant, a pickle where safetensors fail), and
what is beside the set that was looked at would not have been looked at. So there must be one set, and nothing else.
Only safetensors are read: what users return is not to be trusted.

Source: ours; names of files as in diffusers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from expunge import untrusted
from expunge.errors import ModelError
from expunge.guard.naming import NETWORKS, some
from expunge.models.folder import weight_map

_WEIGHTS = re.compile(r"(diffusion_pytorch_model(\.\w+)?|model)\.safetensors")
_INDEX = re.compile(r"diffusion_pytorch_model\.(\w+\.)?safetensors\.index(\.\w+)?\.json")
_LORA = "pytorch_lora_weights.safetensors"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5", ".npz", ".gguf", ".onnx")
"""Ends of names of files with weights that are not read here, most of them pickles."""
_UNSAFE = "a pickle file runs code when it is opened"


@dataclass(frozen=True)
class ReturnedWeights:
    """Where returned weights lie.

    Attributes:
        files: safetensors files of one set. places: name of each tensor -> name of its file, as an index tells; empty
            without an index. config: what config.json says; None without one.
    """

    files: tuple[Path, ...]
    places: Mapping[str, str]
    config: Mapping[str, Any] | None = None


def source_at(path: Path) -> ReturnedWeights:
    """The set of weights at a path.

    Raises:
        ModelError: nothing there, no safetensors, more than one set, a LoRA beside it, or a pickle.
    """
    if not path.exists():
        raise ModelError(f"nothing at {path}", accepted="a diffusers folder, or a .safetensors file")
    if path.is_file():
        if path.suffix != ".safetensors":
            why = f": {_UNSAFE}" if path.name.lower().endswith(_PICKLED) else ""
            raise ModelError(f"{path.name} is no safetensors file{why}",
                             accepted="a .safetensors file, or a diffusers folder", remedy="ask for safetensors")
        return ReturnedWeights((path,), {})
    folder = next((path / name for name in NETWORKS if (path / name).is_dir()), path)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if folder != path:  # what a pipeline's other folders hold is no weights of the network, unless they are called so
        files += sorted(file for file in path.iterdir() if file.is_file())
        called = re.compile("|".join((*NETWORKS, "lora")))
        files += sorted(file for other in path.iterdir() if other != folder and other.is_dir()
                        and called.search(other.name.lower()) for file in other.rglob("*") if file.is_file())
    tensors = [file for file in files if file.suffix.lower() == ".safetensors"]
    pickled = [file for file in files if file.name.lower().endswith((*_PICKLED, ".bin.index.json"))]
    if pickled:
        raise ModelError(f"{path} holds weights in {some(_shown(pickled, path))}: {_UNSAFE}",
                         accepted="safetensors alone", remedy="ask for the model without them")
    indices = [file for file in files if file.name.lower().endswith(".json") and ".index" in file.name.lower()
               and file.name != "model_index.json"]
    if not tensors and not indices:
        raise ModelError(f"{path} holds no UNet or transformer in safetensors",
                         accepted="diffusion_pytorch_model.safetensors, or its index and shards",
                         remedy=f"ask for safetensors: {_UNSAFE}")
    places = _index(indices[0]) if len(indices) == 1 and indices[0].parent == folder else {}
    chosen = [folder / name for name in sorted(set(places.values()))] or tensors[:1]
    beside = [file for file in (*tensors, *indices) if file not in (*chosen, *(indices if places else ()))]
    known = bool(places) or any(_WEIGHTS.fullmatch(file.name) and file.parent == folder for file in chosen)
    if not known and chosen == [path / _LORA] and not beside:
        return ReturnedWeights((path / _LORA,), {})
    if beside or not known:
        raise ModelError(f"{path} holds {some(_shown(sorted({*chosen, *indices, *beside}), path))}",
                         accepted="one set of the network's weights and nothing beside it: "
                         "diffusion_pytorch_model.safetensors, or its index and shards",
                         remedy="ask for one set; verify a LoRA by itself")
    missing = [file for file in chosen if not file.is_file()]
    if missing:
        raise ModelError(f"{path} lacks {some(_shown(missing, path))}, which its index names",
                         remedy="fetch it again, or refuse it")
    return ReturnedWeights(tuple(chosen), places, _config(folder / "config.json"))


def _shown(files: list[Path], path: Path) -> list[str]:
    return [str(file.relative_to(path)) for file in files]


def _index(file: Path) -> dict[str, str]:
    """The weight_map of an index."""
    with _reading(file):
        places = weight_map(file)
        if not _INDEX.fullmatch(file.name):
            raise ValueError("it is no index of a network's safetensors")
        if any(not name.endswith(".safetensors") for name in places.values()):
            raise ValueError("it names files that are no safetensors")
    return places


def _config(file: Path) -> Mapping[str, Any] | None:
    if not file.is_file():
        return None
    with _reading(file):
        config: Any = untrusted.json_of(file)
        if not isinstance(config, dict):
            raise ValueError("it is no mapping")
    return config


class Files(Mapping[str, Tensor]):
    """The tensors in a set's files, each read when it is asked for.

    Raises:
        ModelError: damaged files, a tensor in two of them, or not in the one that the index tells.
    """

    def __init__(self, source: ReturnedWeights) -> None:
        self._where: dict[str, tuple[Path, Any]] = {}
        for file in source.files:
            with _reading(file):
                handle = untrusted.opened_tensors(file)
                names = list(handle.keys())
                if wrong := untrusted.unlike_weights({key: handle.get_slice(key).get_dtype() for key in names}):
                    raise untrusted.Unreadable(wrong)
            for name in names:
                if name in self._where:
                    raise ModelError(f"{name!r} is in {self._where[name][0].name} and in {file.name}",
                                     accepted="each tensor in one file", remedy="refuse it")
                self._where[name] = file, handle
        if source.places:
            odd = [name for name in sorted({*source.places, *self._where})
                   if name not in self._where or source.places.get(name) != self._where[name][0].name]
            if odd:
                raise ModelError(f"the index and its files differ in {len(odd)} tensors ({some(odd)})",
                                 accepted="an index that names every tensor's file", remedy="refuse it")

    def __getitem__(self, name: str) -> Tensor:
        file, handle = self._where[name]
        with _reading(file):
            tensor: Tensor = handle.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ModelError(f"{file} cannot be read: {error}", remedy="fetch it again, or refuse it") from error
