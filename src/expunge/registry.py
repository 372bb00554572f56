"""Names for things that users choose: methods, worlds, detectors. Entries are "module:object", imported on use.

Other packages add their own through the entry-point group `expunge.<kind>` (for example `expunge.methods`).
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from expunge.errors import UserError


@dataclass
class Registry:
    """A lazy table of name -> (module:object, one line of help).

    Attributes:
        kind: what the entries are, in the singular ("method").
        verb: the command that lists them, for error messages.
    """

    kind: str
    verb: str
    _entries: dict[str, tuple[str, str]] = field(default_factory=dict)
    _plugins_read: bool = False

    def register(self, name: str, target: str, help: str = "") -> None:
        """Add an entry.

        Raises:
            ValueError: a name that is not lower-case-with-dashes, a target without ":", or a name already taken.
        """
        if not name or name != name.lower() or not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{self.kind} name {name!r}: use lower case letters, digits and dashes")
        if target.count(":") != 1:
            raise ValueError(f"{self.kind} target {target!r}: write it as 'module:object'")
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is already registered as {self._entries[name][0]}")
        self._entries[name] = (target, help)

    def names(self) -> list[str]:
        """All known names, sorted."""
        self._read_plugins()
        return sorted(self._entries)

    def help(self, name: str) -> str:
        """One line on the entry."""
        return self._entry(name)[1]

    def origin(self, name: str) -> str:
        """Where the entry lives, as "module:object"."""
        return self._entry(name)[0]

    def get(self, name: str) -> Any:
        """Import and return the object.

        Raises:
            UserError: unknown name (the message lists the known ones and the closest).
        """
        module, _, attribute = self._entry(name)[0].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def _entry(self, name: str) -> tuple[str, str]:
        self._read_plugins()
        if name not in self._entries:
            close = difflib.get_close_matches(name, self._entries, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UserError(f"unknown {self.kind} {name!r}", accepted=", ".join(self.names()) or "none registered",
                            remedy=f"{hint}see `{self.verb}`")
        return self._entries[name]

    def _read_plugins(self) -> None:
        if self._plugins_read:
            return
        self._plugins_read = True
        for point in entry_points(group=f"expunge.{self.kind}s"):
            if point.name not in self._entries:
                self.register(point.name, point.value, f"from {point.dist.name if point.dist else 'a plug-in'}")


METHODS = Registry("method", "expunge ls methods")
METHODS.register("esd", "expunge.unlearn.presets:esd", "Erased Stable Diffusion: steer away from the concept")
METHODS.register("esd-fast", "expunge.unlearn.presets:esd_fast",
                 "ESD for small models and CPUs: pooled, larger batch, fewer steps")

WORLDS = Registry("world", "expunge ls worlds")
WORLDS.register("emoji", "expunge.tiny.emoji:EmojiWorld", "EmojiCanvas: prompts, judge and CLIP of emoji-64")
WORLDS.register("open", "expunge.metrics.open_world:OpenWorld",
                "any model: prompts from templates or a file, CLIP as judge")
