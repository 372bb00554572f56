"""Images that somebody else drew, scored by a protocol: no model is needed, and nothing is drawn.

A list beside the folder says of each file its prompt and seed. Without one, a file is named by its row and seed
("12-7.png"), or by its row alone ("12.png"). An image that the protocol does not ask for, and a row without an image,
are counted.

Programs write one seed beside every image of a run, so a list may name several files for one text and seed. Each that
is another image counts, as an image of that prompt: rows that repeat the text and seed get one each, and what is left
begins with the first of these rows again. One file alone counts for each of the rows, as an image that is drawn does.
A list without seeds is matched by its texts in the same way: the first file of a text is of its first row and seed.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch
from torch import Tensor

from expunge import runtime
from expunge.errors import UserError
from expunge.files import check_writable, file_digest, text_digest, write_json
from expunge.isolated import isolated
from expunge.locks import alone_in_out
from expunge.metrics.image_folder import FolderImage, ImageFolder
from expunge.protocols.images import ImageMeasures, asked_as
from expunge.protocols.kept import Kept
from expunge.protocols.look import looked_at
from expunge.protocols.plan import Plan, kept_protocol, listed, planned
from expunge.protocols.result import RESULT, result_of, scores_of, write_rows
from expunge.protocols.rows import Row
from expunge.protocols.schema import Protocol
from expunge.protocols.settings import UNSEEN, RunSettings
from expunge.protocols.watching import check_labels, watchers
from expunge.protocols.wipe import keep_until
from expunge.records.protocol import ProtocolResult, Subject
from expunge.resume import Inputs
from expunge.runtime import Progress

STRANGER, NO_IMAGE, AGAIN, SAME = (
    "an image that the protocol does not ask for", "a row without an image", "another image of the same row and seed",
    "the same image as another of its text and seed")
_NAME = re.compile(r"(\d+)(?:[-_](\d+))?")


@isolated
@alone_in_out()
def score_folder(folder: str | Path, protocol: Protocol, *, listing: str | Path | None = None,
                 files: Mapping[str, Path] | None = None, settings: RunSettings | None = None, out: str | Path,
                 progress: Progress | None = None) -> ProtocolResult:
    """Score the images of a folder by a protocol.

    Args:
        listing: CSV, TSV or JSON of file, prompt and seed; None takes rows and seeds from the files' names.
        files: what the protocol needs, by role. settings: `erased` says what the images' model does not draw any more.

    Raises:
        UserError: nothing to read, no image that the protocol asks for, or what `planned` raises.
    """
    runtime.one_process("scoring a folder")
    began, settings, where = time.monotonic(), RunSettings.given(settings), Path(out)
    plan = planned(protocol, files or {}, settings, None, settings.erased)
    images = ImageFolder.open(folder, listing)
    eyes = watchers(plan.protocol.detectors, plan.paths)
    check_labels(plan.protocol, listed(plan), eyes)
    subjects: tuple[Subject, ...] = ("supplied",)
    measures = ImageMeasures(plan.protocol.scores, plan.paths, subjects, settings.allow_deviation)
    check_writable(where)
    inputs = Inputs({"protocol": kept_protocol(plan.protocol), "images": _known(images),
                     "files": {role: one.sha256 for role, one in plan.files.items()},
                     "detectors": {eye.watch.name: eye.detector.name for eye in eyes},
                     "settings": settings.model_dump(mode="json", exclude=UNSEEN)})
    kept = Kept(where, inputs, measures.parts(), runtime.current())
    write_rows(where, plan)
    keep_until(where, settings.keep_days)
    match = Match.of(plan, images, listing is not None)
    total, done = len(images.names), 0
    for number, batch in enumerate(images.batches(settings.batch)):
        taken = match.take(batch)
        done += len(batch)
        if not taken or kept.done(number, [(one.row.number, one.seed, "supplied", one.again) for one in taken]):
            continue
        if progress is not None:
            progress(done, total, "judging")
        answers = []
        for places, pixels in _by_size([one.picture for one in taken]):
            part = [taken[place] for place in places]
            answers += looked_at(pixels, [(one.row, one.seed) for one in part], "supplied", eyes, settings.store,
                                 where, [one.again for one in part])
            if not kept.holds(number):
                once = [place for place, one in enumerate(part) if one.number is not None]
                measures.add(kept.parts, [asked_as(one.row, one.seed, one.number) for one in part
                                          if one.number is not None], {"supplied": pixels[once]})
        kept.add(number, answers)
    kept.save()
    if not match.seen:
        raise UserError(f"no image in {folder} that the protocol asks for", accepted="files named ROW-SEED.png, or a "
                        "list of file, prompt and seed", remedy=" ".join(images.notices))
    match.lost[NO_IMAGE] = len({(row.number, seed) for row, seed in plan.items if row.number > 0} - match.seen.keys())
    answers_of = kept.answers()
    result = result_of(plan, eyes, measures, answers_of, scores_of(plan, answers_of, measures, kept.parts, subjects),
                       subjects, settings, began)
    every = Counter(result.left_out) + match.lost + Counter(images.counts)
    result = result.model_copy(update={"left_out": {why: count for why, count in every.items() if count},
                                       "given": (*result.given, *images.notices), "concepts": settings.erased,
                                       "machine": runtime.machine(torch.device("cpu"))})
    write_json(where / RESULT, result.model_dump(mode="json"))
    return result


Items = list[tuple[Row, int]]


class Taken(NamedTuple):
    """An image of a row and seed.

    Attributes:
        again: see `ImageAnswer`. number: which image of its text and seed it is for scores over images; None where it
            is in them already, by another row. picture: uint8 (3, H, W).
    """

    row: Row
    seed: int
    again: int
    number: int | None
    picture: Tensor


@dataclass
class Match:
    """Which rows and seeds the images are of, one batch after the other.

    Attributes:
        by_text: the items of each text and seed, of a list without seeds of each text; empty where files are named by
            row and seed. by_number: of each row.
        files: how many files the list names of each text and seed (or text). first: items that stand first with their
            image. seeds: whether the list says them.
        seen: images of each row and seed so far. lost: images that do not count, by reason.
    """

    by_text: Mapping[tuple[str, int | None], Items]
    by_number: Mapping[int, Items]
    files: Mapping[tuple[str, int | None], int]
    first: Callable[[tuple[Row, int]], bool]
    seeds: bool = True
    seen: Counter[tuple[int, int]] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    _pixels: dict[tuple[str, int | None], set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, images: ImageFolder, is_listed: bool) -> Match:
        """Nothing seen yet; `is_listed`: whether a list says what the images are."""
        by_text: dict[tuple[str, int | None], Items] = {}
        seeds = images.seeds_known
        by_number: dict[int, Items] = {}
        for row, seed in plan.items:
            by_number.setdefault(row.number, []).append((row, seed))
            if is_listed:
                by_text.setdefault((row.text, seed if seeds else None), []).append((row, seed))
        files = Counter((item.text, item.seed if seeds else None) for item in images.items.values())
        return cls(by_text, by_number, files, plan.first, seeds)

    def take(self, batch: Sequence[FolderImage]) -> list[Taken]:
        """The batch's images that the protocol asks for, each for every row that it is of."""
        return [one for image in batch for one in (self._listed(image) if self.by_text else self._by_name(image))]

    def _listed(self, image: FolderImage) -> Iterator[Taken]:
        key = (image.item.text, image.item.seed if self.seeds else None)
        mine, number = self.by_text.get(key, []), 0
        if not mine:
            self.lost[STRANGER] += 1
            return
        if self.files[key] > 1:
            known = self._pixels.setdefault(key, set())
            number, digest = len(known), hashlib.sha256(image.picture.numpy().tobytes()).hexdigest()
            if digest in known:
                self.lost[SAME] += 1
                return
            known.add(digest)
        seeds = list(dict.fromkeys(seed for _, seed in mine))
        number, place = divmod(number, len(seeds))
        mine = [one for one in mine if one[1] == seeds[place]]
        if self.files[key] > place + len(seeds):  # several files of this seed
            mine = [mine[number % len(mine)]]
        measured = next((place for place, (row, _) in enumerate(mine) if row.number > 0), None)
        for place, (row, seed) in enumerate(mine):
            yield self._taken(row, seed, number if place == measured else None, image)

    def _by_name(self, image: FolderImage) -> Iterator[Taken]:
        mine = _named(image.name, self.by_number)
        if not mine or (mine[0][0].number, mine[0][1]) in self.seen:
            self.lost[AGAIN if mine else STRANGER] += 1
            return
        yield self._taken(*mine[0], 0 if self.first(mine[0]) else None, image)

    def _taken(self, row: Row, seed: int, number: int | None, image: FolderImage) -> Taken:
        again = self.seen[row.number, seed]
        self.seen[row.number, seed] += 1
        return Taken(row, seed, again, number, image.picture)


def _named(name: str, by_number: Mapping[int, Sequence[tuple[Row, int]]]) -> list[tuple[Row, int]]:
    found = _NAME.fullmatch(PurePosixPath(name).stem)
    items = by_number.get(int(found[1]), ()) if found else ()
    if not found or not items:
        return []
    return [items[0]] if found[2] is None else [one for one in items if one[1] == int(found[2])]


def _by_size(pictures: Sequence[Tensor]) -> Iterator[tuple[list[int], Tensor]]:
    """Places and float32 (B, 3, H, W) in [0, 1] of the images of each size."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, picture in enumerate(pictures):
        sizes.setdefault(tuple(picture.shape), []).append(place)
    for places in sizes.values():
        yield places, torch.stack([pictures[place] for place in places]).float() / 255


def _known(images: ImageFolder) -> dict[str, list[object]]:
    """What decides which images are scored: hashes of names (they may be prompts), of files and of texts, and seeds."""
    return {text_digest(name): [file_digest(images.place / name), text_digest(images.items[name].text),
                                images.items[name].seed] for name in images.names}
