"""Drawn images on disk, addressed by what they are an image of, so that nothing is drawn twice.

`<root>/<drawing>/<first two of key>/<key>.png` is an image (8 bits, RGB), the `.json` beside it its
`ImageRecord`. `<key>` is `ImageRecord.key` (weights, patch, prompt, seed, sampler); `<drawing>` is
`Model.drawing` (schedule, architecture, tokenizer, number type, kind of device), which a shot's key does
not hold. The JSON file is written last: an image without it was interrupted and does not count. Pixels handed
out are always the 8-bit ones, so fresh and cached ones are equal bit for bit.

Kernels round by the shape of the batch, so the last bit of an image depends on how many are drawn together. Batches
are therefore cut from the whole list that is asked for (the plan), never from what is left of it: a batch of which
any image is missing is drawn again whole, and whole batches are shared out among processes. Hence

    at the same plan, batch size, number of threads and kind of machine, and from the same images in the cache, the
    bytes are the same for any number of processes, any order of batches and after any kill.

What an image is addressed by does not hold the plan: one that is there is taken as it is. So under another batch size,
or where an earlier plan left a smaller last batch, an image may differ by one grey level in a few pixels from the one
that an empty cache would give (`tests/models/test_cache_batches.py` bounds both).

The folder stays within a bound (`cache_size`): as it grows, what was not used for longest goes.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from expunge import files, runtime, untrusted
from expunge.errors import ModelError, StorageError, UserError
from expunge.models.cache_size import limit, make_room, mark, touched
from expunge.models.cache_size import root as default_root
from expunge.models.model import Model
from expunge.models.sample import at_one_size, by_way, draw
from expunge.pixels import Pixels, Spool
from expunge.records import ImageRecord, Prompt, Sampler

log = logging.getLogger(__name__)

_Take = Callable[[str, Tensor], None]
"""Told of each image once: its key, and uint8 (3, H, W); float32 and NaN throughout of one that is not finite."""


class ImageCache:
    """A folder of images that is filled as they are asked for."""

    def __init__(self, root: str | Path | None = None) -> None:
        """Args: root: the folder; None means `default_root()`."""
        self.root = Path(root) if root is not None else default_root()
        self._wrote = 0  # bytes since room was last made

    def draw(self, model: Model, items: Sequence[tuple[Prompt, int]], sampler: Sampler, *, batch: int = 32,
             progress: Callable[[int, int], None] | None = None, processes: runtime.Runtime | None = None,
             go_on: bool = False) -> tuple[list[ImageRecord], Tensor]:
        """The items' images; only batches with missing ones are drawn, and each image is kept as its batch is done.

        With several processes each draws its share of the batches, then all of them read everything; call it in all of
        them.

        A prompt whose list gives it a guidance or a size is drawn so, in batches with those that are drawn alike. Of a
        sampler that cuts long prompts the record of an image says so only where its prompt was cut.

        Args:
            items: (prompt, seed) pairs; may repeat. Distinct ones, in this order, are cut into batches.
            batch: images drawn together; it may change the last bit of an image (see the top of the file).
            progress: told (images there, images in all), of this process's share.
            processes: None means `runtime.current()`.
            go_on: an image that is not finite does not end the drawing: it is not kept, its record has no file, and
                every value of it is NaN. Else it is an error.

        Returns:
            A record per item, and float32 (N, 3, H, W) in [0, 1] on the CPU: multiples of 1/255 (but those of other
            sizes than most, which are brought to the size of most: `each` has them as they were drawn).

        Raises:
            StorageError: the cache cannot be written. What `models.sample.draw` raises.
        """
        if not items:
            return [], draw(model, [], sampler)
        shots, pictures = self.each(model, items, sampler, batch=batch, progress=progress, processes=processes,
                                    go_on=go_on)
        return shots, at_one_size(pictures)

    def each(self, model: Model, items: Sequence[tuple[Prompt, int]], sampler: Sampler, *, batch: int = 32,
             progress: Callable[[int, int], None] | None = None, processes: runtime.Runtime | None = None,
             go_on: bool = False) -> tuple[list[ImageRecord], list[Tensor]]:
        """As `draw`, with each image as it was drawn, float32 (3, H, W)."""
        there: dict[str, Tensor] = {}

        def take(key: str, picture: Tensor) -> None:
            there[key] = picture

        shots = self._drawn(model, items, sampler, batch, progress, processes, go_on, take)
        return shots, [there[shot.key].float() / 255 for shot in shots]

    def spooled(self, model: Model, items: Sequence[tuple[Prompt, int]], sampler: Sampler, *, batch: int = 32,
                progress: Callable[[int, int], None] | None = None, processes: runtime.Runtime | None = None,
                go_on: bool = False) -> tuple[list[ImageRecord], Pixels]:
        """As `draw`, with images that stay on disk: memory does not grow with their number.

        They lie in a file of their own beside the cache, so that one which makes room loses none of them.
        """
        spool, rows = Spool(self.root), dict[str, int]()

        def take(key: str, picture: Tensor) -> None:
            rows[key] = spool.add(picture)

        shots = self._drawn(model, items, sampler, batch, progress, processes, go_on, take)
        return shots, Pixels(spool, [rows[shot.key] for shot in shots])

    def _drawn(self, model: Model, items: Sequence[tuple[Prompt, int]], sampler: Sampler, batch: int,
               progress: Callable[[int, int], None] | None, processes: runtime.Runtime | None, go_on: bool,
               take: _Take) -> list[ImageRecord]:
        """A record per item; `take` is told of every distinct image."""
        cut = model.too_long([prompt.text for prompt, _ in items]) if sampler.truncate else {}
        whole = sampler.model_copy(update={"truncate": False})
        shots = [ImageRecord(prompt=prompt, seed=seed, sampler=(sampler if prompt.text in cut else whole).of(prompt),
                      model=model.hash, patch=model.patch_hash) for prompt, seed in items]
        distinct = {shot.key: shot for shot in reversed(shots)}  # a key's first shot is the one that is kept
        keys = list(dict.fromkeys(shot.key for shot in shots))
        processes = processes or runtime.current()
        if batch < 1:
            raise UserError(f"batch of {batch}", accepted="1 or more")
        alike = by_way([distinct[key].sampler for key in keys])
        batches = [[distinct[keys[place]] for place in places[first:first + batch]] for places in alike.values()
                   for first in range(0, len(places), batch)]
        found = self._filled(model, processes.shard(batches), progress, go_on, take)
        if processes.count > 1:
            processes.barrier()
            found |= self._filled(model, [one for one in batches if one[0].key not in found], None, go_on, take)
        return [shot.model_copy(update={"file": found[key].file, "pixels": found[key].pixels})
                for shot, key in ((shot, shot.key) for shot in shots)]

    def pixels(self, shot: ImageRecord) -> Tensor:
        """The image of a record, float32 (3, H, W) in [0, 1].

        Raises:
            ModelError: it is gone or damaged.
        """
        try:
            picture = _read_png(self.root / shot.file)
        except (OSError, SyntaxError) as error:
            raise ModelError(f"image {shot.file} cannot be read: {error}",
                             remedy="draw it again") from error
        if _pixel_hash(picture) != shot.pixels:
            raise ModelError(f"image {shot.file} is damaged: its pixels are not those of its record",
                             remedy="draw it again")
        return picture.float() / 255

    def _filled(self, model: Model, batches: Sequence[Sequence[ImageRecord]],
                progress: Callable[[int, int], None] | None, go_on: bool, take: _Take) -> dict[str, ImageRecord]:
        """Each shot's record by key, its image told to `take`: read where there is one, drawn where there is none."""
        found: dict[str, ImageRecord] = {}

        def have(key: str, shot: ImageRecord, picture: Tensor) -> None:
            found[key] = shot
            take(key, picture)

        damaged: list[str] = []
        for shot in (shot for batch in batches for shot in batch):
            kept = self._read(self._file(model, shot), damaged)
            if kept is not None:
                have(shot.key, *kept)
        if damaged:
            more = f", and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            log.warning("a cached image is damaged and is drawn again: %s%s", damaged[0], more)
        total = sum(map(len, batches))
        under = model.hash, model.patch_hash
        if progress is not None and batches:
            progress(len(found), total)
        todo = [batch for batch in batches if any(shot.key not in found for shot in batch)]

        def keep(shot: ImageRecord, picture: Tensor) -> None:
            if shot.key in found:  # it stays as it is: others may have taken it into their records
                return
            if (model.hash, model.patch_hash) != under or model.patch_hash != shot.patch:
                raise ModelError("a patch was put on the model or taken off while images were drawn",
                                 accepted="one thread for each model",
                                 remedy="load the model once for each thread, or use a lock")
            have(shot.key, *self._write(self._file(model, shot), shot, picture))
            if progress is not None:
                progress(len(found), total)

        for sampler, places in by_way([batch[0].sampler for batch in todo]).items():
            shots = [shot for place in places for shot in todo[place]]

            def sink(row: int, picture: Tensor, shots: Sequence[ImageRecord] = shots) -> None:
                keep(shots[row], picture)

            def lose(row: int, picture: Tensor, shots: Sequence[ImageRecord] = shots) -> None:
                if shots[row].key not in found:
                    have(shots[row].key, shots[row], torch.full_like(picture, torch.nan))
                if progress is not None:
                    progress(len(found), total)

            draw(model, [(shot.prompt, shot.seed) for shot in shots], sampler,
                 batch=[len(todo[place]) for place in places], sink=sink, broken=lose if go_on else None, collect=False)
        if todo:
            self._make_room()
        return found

    def _make_room(self) -> None:
        """Keep within the cache's bound (`cache_size`)."""
        most = limit()
        gone, freed = make_room(self.root, most, self._wrote) if most is not None else (0, 0)
        self._wrote = 0
        if gone:
            log.info("the cache is past its bound: %d images that were not used for longest are gone (%d MiB)", gone,
                     freed // 2**20)

    def _file(self, model: Model, shot: ImageRecord) -> Path:
        return self.root / model.drawing / shot.key[:2] / f"{shot.key}.png"

    def _write(self, file: Path, shot: ImageRecord, picture: Tensor) -> tuple[ImageRecord, Tensor]:
        pixels = (picture * 255).round().to(torch.uint8)
        image = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
        place = file.relative_to(self.root).as_posix()
        kept = shot.model_copy(update={"file": place, "pixels": _pixel_hash(pixels)})
        mark(self.root)
        try:
            files.write_atomically(file, partial(image.save, format="PNG"))
            files.write_json(file.with_suffix(".json"), kept.model_dump(mode="json"))
        except StorageError as error:
            raise StorageError(error.got, remedy=f"free some space, or name another folder for drawn images with "
                               f"EXPUNGE_CACHE or --cache (now {self.root}); nothing was half-written") from error
        self._wrote += sum(one.stat().st_size for one in (file, file.with_suffix(".json")))
        return kept, pixels

    def _read(self, file: Path, damaged: list[str]) -> tuple[ImageRecord, Tensor] | None:
        """The record and image at `file`; None if there is none, or it is damaged (then `damaged` is told)."""
        record = file.with_suffix(".json")
        if not record.exists():
            return None
        try:
            shot = ImageRecord.model_validate_json(untrusted.text(record))
            picture = _read_png(file)
            if (shot.key, shot.file) != (file.stem, file.relative_to(self.root).as_posix()):
                reason = "its record is of another image"
            elif _pixel_hash(picture) != shot.pixels:
                reason = "its pixels are not those of its record"
            else:
                touched(record)
                return shot, picture
        except (OSError, SyntaxError, ValueError) as error:  # PIL raises SyntaxError on bad chunks
            reason = str(error).splitlines()[0]
        damaged.append(f"{file} ({reason})")
        return None


def _read_png(file: Path) -> Tensor:
    with untrusted.image(file, ("PNG",)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()  # (3, H, W)


def _pixel_hash(pixels: Tensor) -> str:
    """sha256 over the uint8 pixels, row by row (H, W, 3), as an image file holds them."""
    return hashlib.sha256(pixels.permute(1, 2, 0).contiguous().numpy().tobytes()).hexdigest()
