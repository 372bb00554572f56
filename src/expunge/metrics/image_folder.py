"""A folder of images that somebody drew or took, read in batches: nothing is dropped without being counted.

Files are taken from all folders within, in the order of their paths, which is the same everywhere. Images keep their
sizes. Each is of an item (prompt, seed): from a list beside the folder, where several images may be of one, else its
path and 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from expunge.errors import UserError
from expunge.metrics.base import Features
from expunge.metrics.image_file import ENDINGS, LEAST_SIDE, Unusable, read_image
from expunge.metrics.image_list import Listed, read_list
from expunge.records import ItemKey, counted
from expunge.untrusted import MOST_PIXELS

MISSING, EXTRA, NO_IMAGE = ("listed and not in the folder", "in the folder and not listed", "no image by its ending")


class FolderImage(NamedTuple):
    """An image: path within the folder, the item that it is of, and uint8 (3, H, W)."""

    name: str
    item: ItemKey
    picture: Tensor


@dataclass
class ImageFolder:
    """What is to be read, and, as it is read, what became of it.

    Attributes:
        place: the folder. names: paths of the files to read, in order. items: prompt and seed by path.
        left_out: reason by path, or by "row N" of a list, of what is no image to be measured.
        conversions: how many images took each conversion. read: how many were read.
        seeds_known: whether a list says the seeds; else items of one text are numbered in the list's order.
    """

    place: Path
    names: tuple[str, ...]
    items: Mapping[str, ItemKey]
    left_out: dict[str, str] = field(default_factory=dict)
    conversions: Counter[str] = field(default_factory=Counter)
    read: int = 0
    most_pixels: int = MOST_PIXELS
    least_side: int = LEAST_SIDE
    seeds_known: bool = False

    @classmethod
    def open(cls, folder: str | Path, listing: str | Path | None = None, *, columns: Mapping[str, str] | None = None,
             most_pixels: int = MOST_PIXELS, least_side: int = LEAST_SIDE) -> ImageFolder:
        """Look what is there; no image is read yet.

        Args:
            listing: a table or JSON of file, prompt and seed; `columns`: how they are called (see `image_list`).
            most_pixels: of an image that is read. least_side: pixels of its shorter side.

        Raises:
            UserError: no such folder, nothing in it to read, or a list that cannot be read.
        """
        place = Path(folder)
        if not place.is_dir():
            raise UserError(f"no folder {place}", accepted="a folder of PNG, JPEG or WebP files")
        listed = Path(listing) if listing is not None else None
        files = [file for file in place.rglob("*") if file.is_file() and (listed is None or not file.samefile(listed))]
        paths = sorted(file.relative_to(place).as_posix() for file in files)
        out = {name: NO_IMAGE for name in paths if Path(name).suffix.lower() not in ENDINGS}
        names = [name for name in paths if name not in out]
        items, seeds_known = {name: ItemKey(name, 0) for name in names}, False
        if listed is not None:
            rows, lost = read_list(listed, columns)
            names, items = _matched(names, rows, out)
            seeds_known = any(row.seed is not None for row in rows)
            out |= {f"row {reason} {k}": reason for reason, count in lost.items() for k in range(count)}
        if not names:
            raise UserError(f"no image to read in {place}", accepted="PNG, JPEG or WebP files"
                            + ("" if listed is None else ", named as the list names them"))
        return cls(place, tuple(names), items, out, most_pixels=most_pixels, least_side=least_side,
                   seeds_known=seeds_known)

    def batches(self, size: int = 64) -> Iterator[list[FolderImage]]:
        """The images that can be read, `size` files at a time, in order; what cannot is noted in `left_out`."""
        for start in range(0, len(self.names), size):
            batch = []
            for name in self.names[start:start + size]:
                try:
                    picture, how = read_image(self.place / name, most_pixels=self.most_pixels,
                                              least_side=self.least_side)
                except Unusable as why:
                    self.left_out[name] = str(why)
                    continue
                self.conversions.update(how)
                self.read += 1
                batch.append(FolderImage(name, self.items[name], picture))
            if batch:
                yield batch

    @property
    def counts(self) -> dict[str, int]:
        """How many files and rows were left out, by reason."""
        return dict(Counter(self.left_out.values()))

    @property
    def notices(self) -> list[str]:
        """In sentences: what was left out and what was converted."""
        first = {why: name for name, why in reversed(self.left_out.items())}
        out = [f"{count} left out: {why}" + ("." if first[why].startswith("row ") else f" ({first[why]}"
               f"{' first' * (count > 1)}).") for why, count in self.counts.items()]
        return out + [f"{counted(count, 'images')} converted: {how}." for how, count in self.conversions.items()]


def features_of(extractor: Features, images: Sequence[FolderImage]) -> Tensor:
    """float32 (N, F): features of images of any sizes, those of one size together."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        sizes.setdefault(tuple(image.picture.shape), []).append(row)
    out = torch.zeros(len(images), extractor.width)
    for rows in sizes.values():
        out[rows] = extractor(torch.stack([images[row].picture for row in rows]).float() / 255)
    return out


def _matched(names: Sequence[str], rows: Sequence[Listed], left_out: dict[str, str]
             ) -> tuple[list[str], dict[str, ItemKey]]:
    """The files that the list names, in the list's order, with their items; `left_out` is told of the others."""
    there, items = set(names), dict[str, ItemKey]()
    taken: Counter[str] = Counter()
    for row in rows:
        if row.file not in there:
            left_out[row.file] = left_out.get(row.file, MISSING)
            continue
        text = row.file if row.prompt is None else row.prompt
        items[row.file] = ItemKey(text, taken[text] if row.seed is None else row.seed)
        taken[text] += 1
    left_out |= {name: EXTRA for name in names if name not in items and name not in left_out}
    return list(items), items
