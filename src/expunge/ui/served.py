"""What the page may touch: the model and the folder that were named when it was started, and nothing else.

Whoever asks names a patch or a run by its place in that folder, and only names that a look into the folder has found
are known: a path is never made of what comes over the wire.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.errors import UserError
from expunge.files import readable, slug, text_digest
from expunge.records import BENCHES, EVALUATIONS, PROTOCOLS, SEQUENCES
from expunge.report.sensitive import sensitive

if TYPE_CHECKING:
    from expunge.metrics.worlds import World
    from expunge.models.model import Model
    from expunge.models.patch import Patch

DEEP = 4
"""Folders below the served one that are looked into."""
PATCH, CHECKPOINT = "patch.safetensors", "checkpoint.safetensors"
KINDS = {"evaluation": EVALUATIONS.name, "bench": BENCHES.name, "sequence": SEQUENCES.name,
         "protocol": PROTOCOLS.name}
"""Runs by kind, each with the file that tells one."""
SKIPPED = ("report", "report-redacted", "pictures", "tensors", "control")
"""Folders without patches or runs of their own."""


@dataclass(frozen=True)
class Run:
    """Results in the served folder. Attributes: name: its place there. kind: one of `KINDS`. folder: where it lies."""

    name: str
    kind: str
    folder: Path


class Served:
    """The model and the folder that a page works with."""

    def __init__(self, root: str | Path, name: str, load: Callable[[], Model]) -> None:
        """Set up; the model is not loaded before it is asked for.

        Args:
            root: the folder whose patches and runs are served, and where new ones go.
            name: what the page calls the model. load: opens it, once.

        Raises:
            UserError: `root` is a file.
        """
        self._given = Path(root)
        self.root = self._given.expanduser().resolve()
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"{root} is a file, and no folder", accepted="a folder, or the name of a new one")
        self.name, self._load = name, load
        self._lock = threading.Lock()
        self._opened: tuple[Model, World] | None = None

    @property
    def model(self) -> Model:
        """The model, in memory from the first time on that it is asked for (see `open`)."""
        return self.open()[0]

    @property
    def world(self) -> World:
        """The model's world, which is made once, with it (see `open`)."""
        return self.open()[1]

    def open(self) -> tuple[Model, World]:
        """The model and its world. Raises: what loading raises. UserError: a world that cannot be used."""
        from expunge.metrics.worlds import world_of

        with self._lock:
            if self._opened is None:
                model = self._load()
                self._opened = model, world_of(model.world, model.name)
            return self._opened

    def patches(self) -> dict[str, Path]:
        """Folders with a patch, by name, the newest first."""
        found = {name: folder for name, folder in self._folders() if (folder / PATCH).is_file()}
        return dict(sorted(found.items(), key=lambda one: -(one[1] / PATCH).stat().st_mtime))

    def patch_folder(self, name: str) -> Path:
        """The folder of the patch of that name. UserError: there is none."""
        found = self.patches().get(name)
        if found is None:
            raise UserError(f"the patch {_short(name)}", accepted=", ".join(self.patches()) or "none is there yet",
                            remedy="erase something first, or start the page on the folder where your patches are")
        return found

    def patch(self, name: str) -> Patch:
        """The patch of that name. UserError: there is none, or it is damaged."""
        from expunge.models.patch import Patch

        return Patch.load(self.patch_folder(name))

    def runs(self) -> dict[str, Run]:
        """Results with a report, by name."""
        return {name: Run(name, kind, folder) for name, folder in self._folders() for kind, file in KINDS.items()
                if (folder / file).is_file()}

    def run(self, name: str, kind: str = "") -> Run:
        """The run of that name. UserError: there is none, or it is of another kind."""
        known = {key: one for key, one in self.runs().items() if kind in ("", one.kind)}
        if name not in known:
            raise UserError(f"the {kind or 'run'} {_short(name)}", accepted=", ".join(known) or "none is there yet",
                            remedy="`expunge evaluate PATCH` makes an evaluation")
        return known[name]

    def new_folder(self, concept: str, method: str, settings: str) -> Path:
        """Where an edit goes: the same settings lead to the same folder, so that a stopped edit goes on."""
        return self.root / f"{slug(concept)}-{readable(method)}-{text_digest(settings)[:6]}"

    def called(self, folder: Path) -> Path:
        """A path in the served folder as whoever started the page would write it."""
        return self._given / folder.relative_to(self.root)

    def _folders(self) -> Iterator[tuple[str, Path]]:
        """Every folder in the served one, by its place there; links out of it are not followed."""
        if not self.root.is_dir():
            return
        for place, inside, _ in os.walk(self.root, followlinks=False):
            here = Path(place)
            depth = len(here.relative_to(self.root).parts)
            inside[:] = sorted(name for name in inside if not name.startswith(".") and name not in SKIPPED) \
                if depth < DEEP else []
            yield here.relative_to(self.root).as_posix(), here

    def about(self) -> dict[str, Any]:
        """What there is, JSON-able."""
        return {"folder": str(self._given), "model": self.name,
                "patches": [{"name": name, **_card(folder)} for name, folder in self.patches().items()],
                "runs": [{"name": run.name, "run": run.kind} for run in self.runs().values()]}


def _card(folder: Path) -> dict[str, Any]:
    """What a patch's card says in a line."""
    from expunge.records import read_card

    try:
        card = read_card(folder)
    except Exception as error:  # a damaged one is listed, and told when it is asked for
        return {"concepts": [], "method": "", "base": "", "words": f"cannot be read: {error}", "veiled": False}
    words = f"{', '.join(card.request.concepts)} taken out by {card.method}"
    return {"concepts": list(card.request.concepts), "method": card.method, "base": card.base, "words": words,
            "veiled": sensitive(card.request)}


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
