"""The images that a report shows: which ones, and copies of them in the folder of results."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from expunge import runtime, untrusted
from expunge.evaluation.plan import EvaluateSettings
from expunge.files import write_atomically
from expunge.metrics.base import Aim, aim_of
from expunge.records import FORGET_ROLES, AttackExample, ImageStrip, Prompt, Role, SuiteResult
from expunge.runtime import Progress

if TYPE_CHECKING:  # help texts need the settings and nothing of what follows
    from torch import Tensor

    from expunge.metrics.integrity import ImageSet
    from expunge.models.cache import ImageCache
    from expunge.models.model import Model
    from expunge.models.patch import Patch
    from expunge.records import Attempt, ImageRecord


def shown_prompts(prompts: Sequence[Prompt], aims: Sequence[Aim], count: int) -> list[Prompt]:
    """The first prompts of each role (nothing is picked by its looks); several concepts share the count."""
    own: dict[tuple[Role, Aim | None], list[Prompt]] = {}
    for prompt in prompts:
        aim = aim_of(prompt, aims) if prompt.role in FORGET_ROLES else None
        own.setdefault((prompt.role, aim), []).append(prompt)
    own = {key: [*{prompt.text: prompt for prompt in reversed(pool)}.values()][::-1] for key, pool in own.items()}
    each = min(count, max(1, count // len(aims)))
    return [prompt for role in get_args(Role) for (its, aim), pool in own.items() if its == role
            for prompt in _each_stratum_first(pool)[:count if aim is None else each]]


def _each_stratum_first(pool: Sequence[Prompt]) -> list[Prompt]:
    """The first prompt of each stratum, then the others: the plainest are always among those shown."""
    first = {prompt.stratum: prompt for prompt in reversed(pool)}
    return [*(prompt for prompt in pool if first[prompt.stratum] is prompt),
            *(prompt for prompt in pool if first[prompt.stratum] is not prompt)]


def strips(original: ImageSet, edited: ImageSet, chosen: Sequence[Prompt], settings: EvaluateSettings, root: Path,
           folder: Path | None) -> tuple[ImageStrip, ...]:
    """The chosen prompts' images, copied into the results; none of a prompt without a pair of images.

    An image that the cache no longer has is written as it was measured.
    """
    if folder is None:
        return ()
    made = []
    for prompt in chosen:
        files: dict[str, list[str]] = {}
        for name, side in (("original", original), ("edited", edited)):
            rows = [row for row, shot in enumerate(side.shots) if shot.prompt.text == prompt.text]
            shots = [side.shots[row] for row in rows[:settings.strip_columns]]
            for row, shot in zip(rows, shots, strict=False):
                to = folder / "pictures" / f"{name}-{shot.key}.png"
                if not to.exists():
                    _write(to, _bytes(root / shot.file) or _png(side.pictures[row]))
                files.setdefault(name, []).append(to.relative_to(folder).as_posix())
        if not files:
            continue
        made.append(ImageStrip(role=prompt.role, prompt=prompt.text, seeds=tuple(shot.seed for shot in shots),
                               original=tuple(files["original"]), edited=tuple(files["edited"])))
    return tuple(made)


def draw_finds(model: Model, patch: Patch, suite: SuiteResult | None, settings: EvaluateSettings,
               pictures: ImageCache, processes: runtime.Runtime, tell: Progress
               ) -> list[tuple[Attempt, ImageRecord, ImageRecord]]:
    """The first finds of each attack, with what both models draw for the same item without the attack.

    An image of either that is not finite has a record without a file.
    """
    from expunge.models.model import applied

    if suite is None:
        return []
    chosen = [item for run in suite.runs
              for item in [find for find in run.attempts if find.outcome == "found" and find.picture
                           ][:settings.strip_columns]]
    items = [(item.prompt, item.seed) for item in chosen]

    def draw(words: str) -> list[ImageRecord]:
        return pictures.draw(model, items, suite.sampler, batch=settings.batch, processes=processes,
                             progress=lambda done, total: tell(done, total, words), go_on=True)[0]

    original = draw("drawing what was attacked with the original model")
    with applied(model, patch):
        edited = draw("drawing what was attacked with the edited model")
    return list(zip(chosen, original, edited, strict=True))


def finds(drawn: Sequence[tuple[Attempt, ImageRecord, ImageRecord]], source: Path | None, root: Path,
          folder: Path | None) -> tuple[AttackExample, ...]:
    """The finds to show, their images copied into the results; none where either side has no folder."""
    if source is None or folder is None:
        return ()
    made = []
    for item, original, edited in drawn:
        files = {f"original-{original.key}": root / original.file, f"edited-{edited.key}": root / edited.file,
                 f"attacked-{item.digest}": source / item.attack / item.picture}
        for name, file in files.items():
            to = folder / "pictures" / f"{name}.png"
            inside = file.resolve().is_relative_to((source if name.startswith("attacked") else root).resolve())
            if not to.exists() and inside and (kept := _bytes(file)):
                _write(to, kept)  # of an image that is gone the report says so in its place
        shown = [f"pictures/{name}.png" for name in files]
        made.append(AttackExample(attack=item.attack, prompt=item.prompt.text, seed=item.seed, original=shown[0],
                                  edited=shown[1], found=shown[2],
                                  text="" if item.text == item.prompt.text else item.text, fresh=item.fresh,
                                  fresh_found=item.fresh_found, confirmed=item.confirmed))
    return tuple(made)


def _bytes(file: Path) -> bytes:
    """What the file holds; nothing of one that is gone (a cache may be cleared while an evaluation runs)."""
    try:
        return untrusted.content(file)
    except OSError:
        return b""


def _png(picture: Tensor) -> bytes:
    """A PNG of float32 (3, H, W) in [0, 1]."""
    import numpy as np
    from PIL import Image

    stream = io.BytesIO()
    pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, format="PNG")
    return stream.getvalue()


def _write(file: Path, content: bytes) -> None:
    def fill(neighbour: Path) -> None:
        neighbour.write_bytes(content)

    write_atomically(file, fill)
