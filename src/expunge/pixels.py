"""Images that lie on disk and are read in pieces: what is measured in memory is a few of them, however many there are.

A `Spool` is a file without a name, 8 bits per value, which goes with the process that made it. `Pixels` are rows of
one, in the order in which somebody wants them; whoever takes a float32 tensor of images by `len`, `.shape`, `[...]` and
`.split` takes them as well.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from expunge.errors import StorageError

CHUNK = 128
"""Images of 64 x 64 that are read at a time; of larger ones as many as have as many pixels, at least 8."""
_PIXELS = 64 * 64


class Spool:
    """Images on disk, in the order in which they are added."""

    def __init__(self, folder: Path) -> None:
        """Args: folder: where the file lies while it is open. Raises StorageError if it cannot be made there."""
        self._where = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # it is open as long as this is
        except OSError as error:
            raise self._full(error) from error
        self._places: list[tuple[int, torch.Size]] = []
        self._end = 0

    def add(self, picture: Tensor) -> int:
        """The row of an image, uint8 (3, H, W); of one whose values are none (floating, not finite) only its size.

        Raises:
            StorageError: the disk is full.
        """
        if picture.is_floating_point():
            self._places.append((-1, picture.shape))
            return len(self._places) - 1
        values = picture.contiguous().numpy().tobytes()
        try:
            self._file.seek(self._end)
            self._file.write(values)
        except OSError as error:
            raise self._full(error) from error
        self._places.append((self._end, picture.shape))
        self._end += len(values)
        return len(self._places) - 1

    def shape(self, row: int) -> torch.Size:
        """(3, H, W) of an image."""
        return self._places[row][1]

    def read(self, row: int) -> Tensor:
        """float32 (3, H, W) in [0, 1]; NaN throughout where the values were none."""
        start, shape = self._places[row]
        if start < 0:
            return torch.full(shape, torch.nan)
        self._file.seek(start)
        values = bytearray(self._file.read(shape.numel()))
        return torch.frombuffer(values, dtype=torch.uint8).reshape(shape).float() / 255

    def _full(self, error: OSError) -> StorageError:
        return StorageError(f"images cannot be put aside in {self._where}: {error.strerror or error}",
                            remedy="free some space, or name another folder for drawn images")


class Pixels:
    """Rows of a spool, as images of one size: those of other sizes than most are brought to the size of most.

    Attributes:
        shape: (N, 3, H, W).
    """

    def __init__(self, spool: Spool, rows: Sequence[int], size: tuple[int, int] | None = None) -> None:
        """Args: size: (H, W); None means that of most."""
        self._spool, self._rows = spool, list(rows)
        size = size or size_of_most([tuple(spool.shape(row)[-2:]) for row in self._rows])
        self.shape = torch.Size((len(self._rows), 3, *size))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, key: int) -> Tensor: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int]) -> Tensor: ...

    def __getitem__(self, key: int | slice | Sequence[int]) -> Tensor:
        """float32 (3, H, W) of one image, (n, 3, H, W) of several: read now."""
        if isinstance(key, int):
            return self._one(self._rows[key])
        rows = self._rows[key] if isinstance(key, slice) else [self._rows[row] for row in key]
        return torch.stack([self._one(row) for row in rows]) if rows else torch.empty(0, *self.shape[1:])

    def as_drawn(self, row: int) -> Tensor:
        """float32 (3, h, w): an image in its own size."""
        return self._spool.read(self._rows[row])

    def split(self, size: int) -> Iterator[Tensor]:
        """The images, `size` at a time."""
        for start in range(0, len(self), size):
            yield self[start:start + size]

    def only(self, rows: Sequence[int]) -> Pixels:
        """These images, in this order; none is read."""
        return Pixels(self._spool, [self._rows[row] for row in rows], (self.shape[-2], self.shape[-1]))

    def _one(self, row: int) -> Tensor:
        return at_size(self._spool.read(row), (self.shape[-2], self.shape[-1]))


Pictures = Tensor | Pixels
"""Images float32 (N, 3, H, W) in [0, 1], in memory or on disk."""


def at_size(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """An image (3, h, w) as (3, H, W), bilinear with antialiasing; as it is where it has that size."""
    if tuple(picture.shape[-2:]) == size:
        return picture
    return interpolate(picture[None], size, mode="bilinear", antialias=True, align_corners=False)[0].clamp(0, 1)


def size_of_most(sizes: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """The size (H, W) that most have, of equally many the first; (0, 0) of none."""
    if not sizes:
        return (0, 0)
    (size, _), *_ = Counter(sizes).most_common()
    return (size[0], size[1])


def chosen(pictures: Pictures, rows: Sequence[int]) -> Pictures:
    """The images of these rows, in their order; on disk they stay there."""
    return pictures.only(rows) if isinstance(pictures, Pixels) else pictures[[*rows]]


def chunk_of(pictures: Pictures, most: int = CHUNK) -> int:
    """How many of these images to take at a time: fewer of larger ones."""
    return max(min(8, most), min(most, most * _PIXELS // max(1, pictures.shape[-2] * pictures.shape[-1])))


def chunks(pictures: Pictures) -> Iterator[Tensor]:
    """The images, some at a time; those in memory all at once, as they are there anyhow."""
    if isinstance(pictures, Tensor):
        yield pictures
    else:
        yield from pictures.split(chunk_of(pictures))
