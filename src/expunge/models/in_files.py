"""The weights of a diffusers folder as its files hold them, read one tensor at a time.

Names and hashes of a model go by these, so that opening it in another number type neither reads it twice nor holds it
twice. Files spell some names otherwise than the networks do; here they have their full names ("unet/...").

| in files | here |
| --- | --- |
| `text_model.` before a text encoder's names (transformers before 5, and some after) | without |
| `query`, `key`, `value`, `proj_attn` in an autoencoder's attention (diffusers before 0.12) | `to_q`, ..., `to_out.0` |
| `encoder.embed_tokens` of T5, where `shared` is not there | `shared` |
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from expunge import untrusted
from expunge.errors import ModelError
from expunge.models.folder import weight_files, weight_map
from expunge.models.scope import full_name, full_names

_OLD_ATTENTION = re.compile(r"(.*\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)")
_NOW = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class _Place:
    file: Path
    key: str
    shape: tuple[int, ...]
    kind: str


class InFiles(Mapping[str, Tensor]):
    """Tensors by full name, each read when it is asked for, in the number type of its file.

    Raises:
        ModelError: on reading, where a file is gone or another one than when this was made.
    """

    def __init__(self, places: Mapping[str, _Place]) -> None:
        """Use `weights_in`."""
        self._places = dict(places)
        self._stamps = {place.file: _stamp(place.file) for place in places.values()}
        self._open: dict[Path, Any] | None = None

    def __getitem__(self, name: str) -> Tensor:
        place = self._places[name]
        try:
            if _stamp(place.file) != self._stamps[place.file]:
                raise ModelError(f"{place.file} is another file than when the model was opened",
                                 remedy="open the model again")
            tensor = self._read(place, self._open)
        except OSError as error:
            raise ModelError(f"{place.file} cannot be read: {error}", remedy="open the model again") from error
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, a file that was opened for a tensor stays open for the next one."""
        before, self._open = self._open, self._open if self._open is not None else {}
        try:
            yield
        finally:
            self._open = before

    def _read(self, place: _Place, held: dict[Path, Any] | None) -> Tensor:
        if held is None:
            with untrusted.tensors(place.file) as opened:
                return cast(Tensor, opened.get_tensor(place.key))
        if place.file not in held:
            held[place.file] = untrusted.opened_tensors(place.file)
        with untrusted.reading_tensors(place.file):
            return cast(Tensor, held[place.file].get_tensor(place.key))

    def type_of(self, component: str) -> torch.dtype | None:
        """The number type of most numbers of a component; None where the files have none that is known."""
        sizes: dict[str, int] = {}
        for name, place in self._places.items():
            if name.startswith(f"{component}/"):
                sizes[place.kind] = sizes.get(place.kind, 0) + _count(place.shape)
        return _TYPES.get(max(sizes, key=sizes.__getitem__)) if sizes else None


def weights_in(folder: Path, variant: str | None, parts: Mapping[str, nn.Module]) -> InFiles | None:
    """All parameters of the parts (components by name) as the folder's files hold them, and the buffers that they hold.

    None where they do not hold each of them under a name that is known here and in its shape, or where it is not clear
    which files were read: whoever needs them then takes those in memory.
    """
    found: dict[str, _Place] = {}
    for component, part in parts.items():
        there = _component(folder / component, variant, component)
        for name, parameter in full_names(component, part).items():
            place = there.get(name)
            if place is None or place.shape != tuple(parameter.shape):
                return None
            found[name] = place
        for path, buffer in part.state_dict().items():
            place = there.get(full := full_name(component, path))
            if full not in found and place is not None and place.shape == tuple(buffer.shape):
                found[full] = place
    return InFiles(found)


def stored_type(folder: Path, variant: str | None, component: str) -> torch.dtype | None:
    """The number type in which a component lies in its files, known before it is opened; None where it has none."""
    return InFiles(_component(folder / component, variant, component)).type_of(component)


def _component(part: Path, variant: str | None, component: str) -> dict[str, _Place]:
    there: dict[str, _Place] = {}
    for file in _read_ones(part, variant):
        for key, place in _places(file).items():
            there[_plain(component, key)] = place
    shared, embedded = f"{component}/shared.weight", f"{component}/encoder.embed_tokens.weight"
    if embedded in there:
        there.setdefault(shared, there[embedded])
    return there


def _read_ones(part: Path, variant: str | None) -> list[Path]:
    """The component's files; none where shards and a whole file lie side by side."""
    files = weight_files(part, variant)
    shards = [file for file in files if "-of-" in file.name]
    if not shards:
        return files if len(files) == 1 else []
    if len(shards) != len(files):
        return []
    indices = [file for file in part.glob("*.safetensors.index*.json") if _names(file) == {one.name for one in shards}]
    return shards if indices else []


def _names(index: Path) -> set[str]:
    try:
        return set(weight_map(index).values())
    except OSError:
        return set()


def _plain(component: str, key: str) -> str:
    old = _OLD_ATTENTION.fullmatch(key) if component == "vae" else None
    return full_name(component, f"{old[1]}.{_NOW[old[2]]}.{old[3]}" if old else key)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def _stamp(file: Path) -> tuple[int, int, int]:
    about = os.stat(file)
    return about.st_size, about.st_mtime_ns, about.st_ino


def files_open(tensors: Mapping[str, Tensor] | None) -> AbstractContextManager[None]:
    """Inside, many tensors are read one after the other: files stay open, if it is files that they come from."""
    return tensors.held() if isinstance(tensors, InFiles) else nullcontext()


class Some(Mapping[str, Tensor]):
    """Some of the tensors of another mapping; still read when they are asked for."""

    def __init__(self, whole: Mapping[str, Tensor], names: Iterable[str]) -> None:
        self._whole, self._chosen = whole, dict.fromkeys(names)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._chosen:
            raise KeyError(name)
        return self._whole[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._chosen)

    def __len__(self) -> int:
        return len(self._chosen)


def file_type(file: Path) -> torch.dtype | None:
    """The number type of most numbers of a single file; None where it has none that is known."""
    return InFiles({f"file/{key}": place for key, place in _places(file).items()}).type_of("file")


def _places(file: Path) -> dict[str, _Place]:
    """Every tensor of a file by its key. ModelError: it cannot be read."""
    try:
        with untrusted.tensors(file) as opened:
            views = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118 (no dict)
            return {key: _Place(file, key, tuple(view.get_shape()), view.get_dtype()) for key, view in views.items()}
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error}", remedy="fetch the file again") from error
