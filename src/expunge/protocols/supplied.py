"""Images that somebody else drew, scored by a protocol: no model is needed, and nothing is drawn.

A list beside the folder says of each file its prompt and seed. Without one, a file is named by its row and seed
("12-7.png"), or by its row alone ("12.png"). An image that the protocol does not ask for, and a row without an image,
are counted.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from expunge import runtime
from expunge.errors import UserError
from expunge.files import check_writable, file_digest, write_json
from expunge.locks import alone_in_out
from expunge.metrics.image_folder import FolderImage, ImageFolder
from expunge.protocols.images import ImageMeasures
from expunge.protocols.kept import Kept
from expunge.protocols.plan import Plan, kept_protocol, listed, planned
from expunge.protocols.rows import Row
from expunge.protocols.run import RESULT, looked_at, result_of, scores_of, write_rows
from expunge.protocols.schema import Protocol
from expunge.protocols.settings import RunSettings
from expunge.protocols.watching import check_labels, watchers
from expunge.records.protocol import ProtocolResult, Subject
from expunge.resume import Inputs
from expunge.runtime import Progress

STRANGER, NO_IMAGE, AGAIN = ("an image that the protocol does not ask for", "a row without an image",
                             "another image of the same row and seed")
_NAME = re.compile(r"(\d+)(?:[-_](\d+))?")


@alone_in_out()
def score_folder(folder: str | Path, protocol: Protocol, *, listing: str | Path | None = None,
                 files: Mapping[str, Path] | None = None, settings: RunSettings | None = None, out: str | Path,
                 progress: Progress | None = None) -> ProtocolResult:
    """Score the images of a folder by a protocol.

    Args:
        listing: CSV or JSONL of file, prompt and seed; None takes rows and seeds from the files' names.
        files: what the protocol needs, by role. settings: `erased` says what the images' model does not draw any more.

    Raises:
        UserError: nothing to read, no image that the protocol asks for, or what `planned` raises.
    """
    began, settings, where = time.monotonic(), RunSettings.given(settings), Path(out)
    plan = planned(protocol, files or {}, settings, None, settings.erased)
    images = ImageFolder.open(folder, listing)
    eyes = watchers(plan.protocol.detectors, plan.paths)
    check_labels(plan.protocol, (row.label for row in listed(plan)), eyes)
    subjects: tuple[Subject, ...] = ("supplied",)
    measures = ImageMeasures(plan.protocol.scores, plan.paths, subjects, settings.allow_deviation)
    check_writable(where)
    inputs = Inputs({"protocol": kept_protocol(plan.protocol), "images": _listed(images),
                     "files": {role: one.sha256 for role, one in plan.files.items()},
                     "detectors": {eye.watch.name: eye.detector.name for eye in eyes},
                     "settings": settings.model_dump(mode="json", exclude={"allow_deviation"})})
    kept = Kept(where, inputs, measures.parts(), runtime.current())
    write_rows(where, plan)
    lost: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    wanted = partial(_asked, _by_text(plan) if listing is not None else {}, _by_number(plan), seen, lost)
    total, done = len(images.names), 0
    for number, batch in enumerate(images.batches(settings.batch)):
        chunk, pictures = wanted(batch)
        done += len(batch)
        if not chunk or kept.done(number, [(row.number, seed, "supplied") for row, seed in chunk]):
            continue
        if progress is not None:
            progress(done, total, "judging")
        answers = []
        for places, pixels in _by_size(pictures):
            part = [chunk[place] for place in places]
            answers += looked_at(pixels, part, "supplied", eyes, settings.store, where)
            if not kept.holds(number):
                once = [place for place, item in enumerate(part) if plan.first(item)]
                measures.add(kept.parts, [part[place] for place in once], {"supplied": pixels[once]})
        kept.add(number, answers)
    kept.save()
    if not seen:
        raise UserError(f"no image in {folder} that the protocol asks for", accepted="files named ROW-SEED.png, or a "
                        "list of file, prompt and seed", remedy=" ".join(images.notices))
    lost[NO_IMAGE] = len({(row.number, seed) for row, seed in plan.items if row.number > 0} - seen)
    answers_of = kept.answers()
    result = result_of(plan, eyes, measures, answers_of, scores_of(plan, answers_of, measures, kept.parts, subjects),
                       subjects, settings, began)
    every = Counter(result.left_out) + lost + Counter(images.counts)
    result = result.model_copy(update={"left_out": {why: count for why, count in every.items() if count},
                                       "given": (*result.given, *images.notices), "concepts": settings.erased,
                                       "machine": runtime.machine(torch.device("cpu"))})
    write_json(where / RESULT, result.model_dump(mode="json"))
    return result


Items = list[tuple[Row, int]]


def _by_text(plan: Plan) -> dict[tuple[str, int], Items]:
    out: dict[tuple[str, int], Items] = {}
    for row, seed in plan.items:
        out.setdefault((row.text, seed), []).append((row, seed))
    return out


def _by_number(plan: Plan) -> dict[int, Items]:
    out: dict[int, Items] = {}
    for row, seed in plan.items:
        out.setdefault(row.number, []).append((row, seed))
    return out


def _asked(by_text: Mapping[tuple[str, int], Items], by_number: Mapping[int, Items], seen: set[tuple[int, int]],
           lost: Counter[str], batch: Sequence[FolderImage]) -> tuple[Items, list[Tensor]]:
    """The batch's images that the protocol asks for, with their rows and seeds; others are counted.

    Args:
        by_text: items by text and seed, of a list; empty where files are named by row and seed.
    """
    chunk, pictures = [], []
    for image in batch:
        mine = by_text.get((image.item.text, image.item.seed), []) if by_text else _named(image.name, by_number)
        fresh = [(row, seed) for row, seed in mine if (row.number, seed) not in seen]
        if not fresh:
            lost[AGAIN if mine else STRANGER] += 1
        for row, seed in fresh:  # rows of one text and seed ask for one image, and each counts
            seen.add((row.number, seed))
            chunk.append((row, seed))
            pictures.append(image.picture)
    return chunk, pictures


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


def _listed(images: ImageFolder) -> dict[str, list[object]]:
    """What decides which images are scored: names, hashes of their files, items."""
    return {name: [file_digest(images.place / name), *images.items[name]] for name in images.names}
