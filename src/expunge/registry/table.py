"""A lazy table of names. Entries are "module:object", imported on use.

Other packages add their own through the entry-point group `expunge.<kind>s` (`expunge.methods`; CONTRIBUTING.md shows a
whole one). A plug-in that cannot be used costs nobody else anything: it is skipped, `skipped` says why, and so does the
error of whoever asks for it.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any

from expunge.errors import ExpungeError, UserError

log = logging.getLogger(__name__)

FAILURES = (Exception, SystemExit)
"""What the code of a plug-in may raise while it is imported or asked."""


@dataclass
class Registry:
    """A lazy table of name -> (module:object, one line of help, where it was published).

    Attributes:
        kind: what the entries are, in the singular ("method").
        verb: the command that lists them, for error messages.
        needs: what a class of this kind must have, by name, so that a plug-in that lacks some is told before it runs.
    """

    kind: str
    verb: str
    needs: tuple[str, ...] = ()
    _entries: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    _packages: dict[str, str] = field(default_factory=dict)
    _skipped: dict[str, str] = field(default_factory=dict)
    _plugins_read: bool = False

    @property
    def group(self) -> str:
        """The group of entry points by which other packages add to it ("expunge.methods")."""
        return f"expunge.{self.plural}"

    @property
    def plural(self) -> str:
        """Several of the kind ("methods"); a kind that ends in an s is its own plural."""
        if self.kind.endswith("y"):
            return f"{self.kind[:-1]}ies"
        return self.kind if self.kind.endswith("s") else f"{self.kind}s"

    def register(self, name: str, target: str, help: str = "", source: str = "") -> None:
        """Add an entry: its name, where it lives, a line of help, and the paper with a link, if there is one.

        Raises:
            ValueError: a name that is not lower-case-with-dashes, a target without ":", or a name already taken.
        """
        if not name or name != name.lower() or not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{self.kind} name {name!r}: use lower case letters, digits and dashes")
        if target.count(":") != 1:
            raise ValueError(f"{self.kind} target {target!r}: write it as 'module:object'")
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is already registered as {self._entries[name][0]}")
        self._entries[name] = (target, help, source)

    def names(self) -> list[str]:
        """All known names, sorted; of plug-ins those that are declared as they should be, whether they load or not."""
        self._read_plugins()
        return sorted(self._entries)

    def usable(self) -> list[str]:
        """All names that can be used, sorted. Imports every plug-in, and nothing else."""
        self.names()
        for name in [*self._packages]:
            try:
                self.get(name)
            except UserError as error:
                self._skipped[name] = error.got
        return [name for name in self.names() if name not in self._skipped]

    def skipped(self) -> dict[str, str]:
        """Plug-ins that cannot be used, by name, with the reason in words. Imports every plug-in."""
        self.usable()
        return dict(self._skipped)

    def help(self, name: str) -> str:
        """One line on the entry."""
        return self._entry(name)[1]

    def source(self, name: str) -> str:
        """Where the entry was published ("authors year, title, link"); "" where that is not said."""
        return self._entry(name)[2]

    def origin(self, name: str) -> str:
        """Where the entry lives, as "module:object"."""
        return self._entry(name)[0]

    def names_of(self, kind: type) -> list[tuple[str, str]]:
        """Name and line of help of a class, where it is registered; a plug-in's own help stands in its class."""
        if not kind.__module__.startswith("expunge."):
            self._read_plugins()
        target = f"{kind.__module__}:{kind.__qualname__}"
        return [(name, "" if name in self._packages else entry[1]) for name, entry in self._entries.items()
                if entry[0] == target]

    def package(self, name: str) -> str:
        """The package that brought the entry; "" for what is part of expunge."""
        self._entry(name)
        return self._packages.get(name, "")

    def get(self, name: str) -> Any:
        """Import and return the object.

        Raises:
            UserError: unknown name (the message lists the known ones and the closest), or a plug-in that cannot be
                imported, is nothing that can be called, or lacks what its kind needs.
        """
        module, _, attribute = self._entry(name)[0].partition(":")
        if name not in self._packages:
            return getattr(importlib.import_module(module), attribute)
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except FAILURES as error:
            raise self.unusable(name, f"does not load: {described(error)}") from error
        if not callable(found):
            raise self.unusable(name, f"is a {type(found).__name__}, which cannot be called")
        if isinstance(found, type):
            fields = getattr(found, "model_fields", {})
            lacks = [need for need in self.needs if not _has(found, need) and need not in fields]
            lacks += sorted(getattr(found, "__abstractmethods__", ()))
            if lacks:
                raise self.unusable(name, f"is a class without {', '.join(lacks)}")
        return found

    def unusable(self, name: str, why: str) -> UserError:
        """The error of a plug-in that cannot be used as asked; `why` goes on from its name ("does not load: ...")."""
        package = self._packages.get(name, "")
        return UserError(f"{self.kind} {name!r} of the package {package!r} {why}",
                         accepted=f"a plug-in as CONTRIBUTING.md describes it, or one of `{self.verb}`",
                         remedy=f"mend that package, or remove it: pip uninstall {package}")

    @contextmanager
    def blaming(self, name: str) -> Iterator[None]:
        """An exception out of a plug-in's code inside is an error that names its package, and has it as its cause.

        What expunge says itself passes, and so does whatever did not come out of code of that plug-in.

        Raises:
            UserError: the plug-in `name` raised something.
        """
        try:
            yield
        except (ExpungeError, MemoryError):
            raise
        except Exception as error:
            if name not in self._packages:
                raise
            brought = self._entries[name][0].partition(":")[0].partition(".")[0]
            frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
            if not any(module.partition(".")[0] == brought for module in frames):
                raise
            log.debug("%s %r broke off", self.kind, name, exc_info=error)
            raise self.unusable(name, f"broke off: {described(error)}") from error

    def _entry(self, name: str) -> tuple[str, str, str]:
        self._read_plugins()
        if name not in self._entries:
            if name in self._skipped:
                raise UserError(self._skipped[name], accepted=", ".join(self.names()), remedy=f"see `{self.verb}`")
            close = difflib.get_close_matches(name.lower(), self._entries, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UserError(f"unknown {self.kind} {name!r}", accepted=", ".join(self.names()) or "none registered",
                            remedy=f"{hint}see `{self.verb}`")
        return self._entries[name]

    def _read_plugins(self) -> None:
        if self._plugins_read:
            return
        self._plugins_read = True
        for package, point in self._declared():
            try:
                self.register(point.name, f"{point.module}:{point.attr}" if point.attr else point.value,
                              f"from {package}")
                self._packages[point.name] = package
            except (ValueError, AttributeError) as error:  # the second: a value that is no "module:object" at all
                why = str(error) if isinstance(error, ValueError) else \
                    f"{self.kind} target {point.value!r}: write it as 'module:object'"
                taken = point.name in self._entries
                self._skipped[f"{point.name} of {package}" if taken else point.name] = \
                    f"{self.kind} {point.name!r} of the package {package!r} is declared wrongly: {why}"

    def _declared(self) -> Iterator[tuple[str, EntryPoint]]:
        """Every entry point of this kind with its package; of a package that is installed twice the first found."""
        group, seen = self.group, set[str]()
        for one in distributions():
            package = _package(one)
            if package in seen:
                continue
            seen.add(package)
            try:
                points = [point for point in one.entry_points if point.group == group]
            except FAILURES as error:  # a damaged file of a package that may have nothing to do with us
                if group in (one.read_text("entry_points.txt") or ""):
                    self._skipped[package] = f"the entry points of {package!r} cannot be read: {described(error)}"
                continue
            yield from ((package, point) for point in points)


def _has(kind: type, member: str) -> bool:
    """Whether a class has a member of its own: every class can itself be called, which is another matter."""
    return any(member in vars(base) for base in kind.__mro__[:-1])


def described(error: BaseException) -> str:
    """"ImportError: no module named 'x'"."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _package(one: Distribution) -> str:
    try:
        return str(one.metadata["Name"])
    except FAILURES:  # a package without readable metadata
        return "(a package without a name)"
