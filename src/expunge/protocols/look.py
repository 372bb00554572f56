"""Images come by batches, are looked at and forgotten: what detectors say and what accumulators make of them stays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from expunge import runtime
from expunge.files import write_atomically
from expunge.protocols.images import ImageMeasures, asked_as
from expunge.protocols.kept import Kept
from expunge.protocols.plan import Plan
from expunge.protocols.rows import Row
from expunge.protocols.settings import RunSettings
from expunge.protocols.watching import Watcher
from expunge.records import NOT_FINITE, Sampler
from expunge.records.protocol import DetectorAnswer, ImageAnswer, Subject
from expunge.runtime import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from expunge.models.model import Model
    from expunge.models.patch import Patch

IMAGES = "images"


@dataclass(frozen=True)
class Run:
    """A run that is begun.

    Attributes:
        eyes: the detectors. original: a run of the original by itself, which this one shares; None where it draws and
            judges the original, too.
    """

    model: Model
    patch: Patch | None
    plan: Plan
    eyes: Sequence[Watcher]
    measures: ImageMeasures
    kept: Kept
    settings: RunSettings
    folder: Path
    original: Kept | None = None

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """Whose images it judges."""
        if self.patch is None:
            return ("original",)
        return ("original", "edited") if self.original is None else ("edited",)

    def done(self, number: int) -> bool:
        """Whether a batch need not be made."""
        items = [self.plan.items[place] for place in self.plan.batches[number]]
        images = [(row.number, seed, subject, 0) for row, seed in items for subject in self.subjects]
        return self.kept.done(number, images) and (self.settings.store != "pictures" or all(
            one.lost or image_file(self.folder, one.row, one.seed, one.subject, one.again).is_file()
            for one in self.kept.answered(images)))


def look_at_all(run: Run, tell: Progress, processes: runtime.Runtime) -> None:
    """Draw and look at what is not there yet, batch by batch."""
    mine = processes.shard([number for number in range(len(run.plan.batches)) if not run.done(number)])
    for count, number in enumerate(mine):
        tell(count, len(mine), "drawing and judging")
        places = run.plan.batches[number]
        chunk = [run.plan.items[place] for place in places]
        images = _drawn(run, places)
        answers = [one for subject in run.subjects
                   for one in looked_at(images[subject], chunk, subject, run.eyes, run.settings.store, run.folder)]
        if not run.kept.holds(number):
            once = [place for place, at in enumerate(places) if at in run.plan.once]
            some = {subject: pixels[once] for subject, pixels in images.items()}
            run.measures.add(run.kept.parts, [asked_as(*chunk[place]) for place in once], some)
        run.kept.add(number, answers)
    run.kept.save()
    tell(max(1, len(mine)), max(1, len(mine)), "drawing and judging")
    processes.barrier()
    if processes.main:
        run.kept.join()


def _drawn(run: Run, places: Sequence[int]) -> dict[Subject, Tensor]:
    """float32 (B, 3, H, W) in [0, 1], in steps of 1 / 255, by subject: those that are judged or measured."""
    from expunge.models.model import applied
    from expunge.models.sample import draw

    items = [(run.plan.items[place][0].text, run.plan.items[place][1]) for place in places]
    sampler: Sampler = run.plan.samplers[places[0]]

    def drawn() -> Tensor:
        pixels: dict[int, Tensor] = {}
        draw(run.model, items, sampler, batch=len(items), sink=pixels.__setitem__, broken=pixels.__setitem__)
        return (torch.stack([pixels[place] for place in range(len(items))]) * 255).round() / 255

    images: dict[Subject, Tensor] = {}
    if "original" in run.subjects or run.measures.has_pairs:
        images["original"] = drawn()
    if run.patch is not None:
        with applied(run.model, run.patch):
            images["edited"] = drawn()
    return images


def looked_at(pixels: Tensor, chunk: Sequence[tuple[Row, int]], subject: Subject, eyes: Sequence[Watcher], store: str,
              folder: Path, again: Sequence[int] = ()) -> list[ImageAnswer]:
    """What the detectors say of images (B, 3, H, W) in [0, 1]; those that are not finite are none.

    Pixels and hashes are kept as `store` says. `again`: see `ImageAnswer`; () where each is the only one.
    """
    finite = pixels.flatten(1).isfinite().all(1).tolist()
    there = [place for place, whole in enumerate(finite) if whole]
    said: dict[int, dict[str, DetectorAnswer]] = {place: {} for place in there}
    for eye in eyes:
        labels = [chunk[place][0].label for place in there]
        for place, answer in zip(there, eye(pixels[there], labels), strict=True):
            said[place][eye.watch.name] = answer
    out = []
    for place, ((row, seed), more) in enumerate(zip(chunk, again or [0] * len(chunk), strict=True)):
        if place not in said:
            out.append(ImageAnswer(row=row.number, seed=seed, subject=subject, again=more, lost=NOT_FINITE))
            continue
        exact = (pixels[place] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        if store == "pictures":
            write_atomically(image_file(folder, row.number, seed, subject, more),
                             partial(Image.fromarray(exact).save, format="PNG"))
        digest = "" if store == "none" else hashlib.sha256(exact.tobytes()).hexdigest()
        out.append(ImageAnswer(row=row.number, seed=seed, subject=subject, again=more, answers=said[place],
                               pixels=digest))
    return out


def image_file(folder: Path, row: int, seed: int, subject: str, again: int = 0) -> Path:
    """Where an image's pixels lie, if they are stored."""
    return folder / IMAGES / subject / (f"{row}-{seed}-{again}.png" if again else f"{row}-{seed}.png")
