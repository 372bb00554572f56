"""Images of an evaluation as data addresses, so that the page needs no other file.

Small images are embedded as lossless PNG and shown pixel by pixel; larger ones are reduced to `LONGEST`
pixels and embedded as WebP, and the page says so. An image that cannot be shown leaves a reason in its
place. Files outside the evaluation's folder are never read.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge import untrusted
from expunge.errors import UserError, install
from expunge.records import FORGET_ROLES, AttackExample, Evaluation, ImageStrip

PIXELATED_UP_TO = 128
"""Longest side, in pixels, of images that are shown pixel by pixel."""
LONGEST = 256
"""Longest side, in pixels, to which larger images are reduced."""
BUDGET = 2_200_000
"""Characters of embedded images in one page; strips beyond it are named but not shown."""
FINDS_BUDGET = 600_000
"""The same for the images that attacks found."""
COLUMNS = 4
"""Seeds side by side; a strip with more goes on in a next block."""

GROUPS = (("target", "What was to be unlearned"), ("near", "Near neighbours"), ("far", "Far things"),
          ("style", "Other styles"), ("control", "Controls"))
_GROUP_OF = {**dict.fromkeys(FORGET_ROLES, "target"), "near": "near", "far": "far", "style": "style"}


@dataclass(frozen=True)
class Picture:
    """One embedded image: its data address ("" if it cannot be shown, then `problem` says why)."""

    source: str = ""
    problem: str = ""
    pixelated: bool = True
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class Column:
    """One seed of a strip: the original's image and the edited model's."""

    seed: int
    original: Picture
    edited: Picture


@dataclass(frozen=True)
class ImageRow:
    """A strip ready for the page: blocks of at most `COLUMNS` seeds; `shown` is False beyond the budget."""

    role: str
    prompt: str
    blocks: tuple[tuple[Column, ...], ...]
    shown: bool = True


@dataclass(frozen=True)
class Group:
    """Strips of one kind, in the order of the record."""

    name: str
    title: str
    rows: tuple[ImageRow, ...]


def picture_groups(evaluation: Evaluation, folder: Path) -> list[Group]:
    """All strips, grouped; the first strip of every group is embedded before the second of any.

    Raises:
        UserError: Pillow is not installed.
    """
    members: dict[str, list[ImageStrip]] = {name: [] for name, _ in GROUPS}
    for strip in evaluation.strips:
        members[_GROUP_OF.get(strip.role, "control")].append(strip)
    ranked = sorted(((rank, name) for name, strips in members.items() for rank in range(len(strips))),
                    key=lambda item: item[0])
    rows: dict[tuple[str, int], ImageRow] = {}
    left = BUDGET
    for rank, name in ranked:
        row = _row(members[name][rank], folder)
        size = sum(len(picture.source) for block in row.blocks for column in block
                   for picture in (column.original, column.edited))
        if size > left:
            row = ImageRow(row.role, row.prompt, (), shown=False)
        else:
            left -= size
        rows[name, rank] = row
    return [Group(name, title, tuple(rows[name, rank] for rank in range(len(members[name]))))
            for name, title in GROUPS if members[name]]


@dataclass(frozen=True)
class Glance:
    """One seed of the first strip of a group, for the first screen."""

    group: str
    prompt: str
    column: Column


def at_a_glance(groups: Sequence[Group]) -> list[Glance]:
    """Of what went, of near and of far things one prompt each, as far as their images can be shown."""
    first = {group.name: row for group in groups for row in group.rows[:1] if row.blocks}
    return [Glance(name, first[name].prompt, first[name].blocks[0][0]) for name in ("target", "near", "far")
            if name in first]


@dataclass(frozen=True)
class FindColumn:
    """A find of an attack: the item without the attack in both models, and what the attack stopped at."""

    find: AttackExample
    original: Picture
    edited: Picture
    found: Picture


@dataclass(frozen=True)
class FindGroup:
    """The finds of one attack; `hidden`: how many are beyond the budget and only named."""

    attack: str
    blocks: tuple[tuple[FindColumn, ...], ...]
    hidden: int


def find_groups(evaluation: Evaluation, folder: Path) -> list[FindGroup]:
    """The finds to show, by attack, in the order of the record.

    Raises:
        UserError: Pillow is not installed.
    """
    names = list(dict.fromkeys(find.attack for find in evaluation.finds))
    groups, left = [], FINDS_BUDGET
    for name in names:
        shown: list[FindColumn] = []
        finds = [find for find in evaluation.finds if find.attack == name]
        for find in finds:
            column = FindColumn(find, *(embed(folder, file) for file in (find.original, find.edited, find.found)))
            size = sum(len(picture.source) for picture in (column.original, column.edited, column.found))
            if size <= left:
                left -= size
                shown.append(column)
        blocks = tuple(tuple(shown[i:i + COLUMNS]) for i in range(0, len(shown), COLUMNS))
        groups.append(FindGroup(name, blocks, len(finds) - len(shown)))
    return groups


def embed(folder: Path, name: str) -> Picture:
    """The image `name` inside `folder` as a data address; never raises for a bad or missing image.

    Raises:
        UserError: Pillow is not installed.
    """
    try:
        import PIL  # noqa: F401 (asked whether it is there)
    except ImportError as error:
        raise UserError("the report's images need Pillow, which is not installed",
                        remedy=install("report")) from error
    root, file = folder.resolve(), (folder / name).resolve()
    if not name or not file.is_relative_to(root):
        return Picture(problem="no file named" if not name else "file lies outside the evaluation's folder")
    try:
        with untrusted.image(file, ("PNG",)) as opened:
            picture = opened.convert("RGB")
    except FileNotFoundError:
        return Picture(problem="file is missing")
    except Exception:  # Pillow's decoders raise many kinds of errors for damaged or oversized files
        return Picture(problem="file cannot be read")
    small = max(picture.size) <= PIXELATED_UP_TO
    stream = io.BytesIO()
    if small:
        picture.save(stream, "PNG", optimize=True)
    else:
        picture.thumbnail((LONGEST, LONGEST))
        picture.save(stream, "WEBP", quality=86)
    kind, data = "png" if small else "webp", base64.b64encode(stream.getvalue()).decode()
    return Picture(f"data:image/{kind};base64,{data}", "", small, *picture.size)


def _row(strip: ImageStrip, folder: Path) -> ImageRow:
    columns = [Column(seed, _pick(strip.original, i, folder), _pick(strip.edited, i, folder))
               for i, seed in enumerate(strip.seeds)]
    blocks = tuple(tuple(columns[i:i + COLUMNS]) for i in range(0, len(columns), COLUMNS))
    return ImageRow(strip.role.replace("_", "-"), strip.prompt, blocks)


def _pick(names: Sequence[str], i: int, folder: Path) -> Picture:
    return embed(folder, names[i]) if i < len(names) else Picture(problem="not in the record")
