"""The environment of a bundle: expunge and all that it is built on, with versions, and the machine."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, distribution

from expunge import runtime

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def environment() -> dict[str, object]:
    """Python, system, machine, and versions of expunge's own dependencies and theirs, by name. No other packages."""
    return {"python": platform.python_version(), "system": platform.platform(), "machine": runtime.machine(),
            "packages": packages("expunge")}


def packages(root: str) -> dict[str, str]:
    """`root` and what it needs, directly or not, as far as it is installed; what `root` can do without included."""
    found: dict[str, str] = {}
    asked = [root]
    while asked:
        name = asked.pop()
        try:
            there = distribution(name)
        except PackageNotFoundError:
            continue
        key = re.sub(r"[-_.]+", "-", there.metadata["Name"]).lower()
        if key in found:
            continue
        found[key] = there.version
        for need in there.requires or ():
            optional = "extra ==" in need
            if (match := _NAME.match(need)) and (not optional or name == root):
                asked.append(match[0])
    return dict(sorted(found.items()))
