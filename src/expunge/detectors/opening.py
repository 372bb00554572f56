"""Open a detector by its name, with settings and supplied files; nothing is downloaded, and nothing stands in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expunge.detectors.base import Detector, DetectorSettings, Need
from expunge.errors import UserError
from expunge.registry import DETECTORS


def detector_settings(name: str, options: Mapping[str, Any] | None = None) -> DetectorSettings:
    """The settings of the detector `name`.

    Raises:
        UserError: an unknown detector. ConfigError: options that it does not have, or with other values.
    """
    kind: type[DetectorSettings] = DETECTORS.get(name)
    return kind.build(dict(options or {}), f"detector {name}")


def open_detector(name: str, options: Mapping[str, Any] | None = None,
                  files: Mapping[str, str | Path] | None = None) -> Detector:
    """The detector `name` of the registry.

    Args:
        options: its settings. files: paths by role, of what the user supplies (`DetectorSettings.needs`).

    Raises:
        UserError: an unknown detector or role, a role without a file, a file that is not there, or an extra that is
            not installed. ConfigError: wrong options. ModelError: a file of something else.
    """
    settings = detector_settings(name, options)
    paths = checked_files(name, settings.needs, files or {})
    with DETECTORS.blaming(name):
        return settings.open(paths)


def checked_files(name: str, needs: tuple[Need, ...], files: Mapping[str, str | Path]) -> dict[str, Path]:
    """Paths by role, each of which is there.

    Raises:
        UserError: a role that the detector does not have, or one that it needs and has not got.
    """
    known = {need.role: need for need in needs}
    strangers = [role for role in files if role not in known]
    if strangers:
        raise UserError(f"files for {', '.join(map(repr, strangers))}", accepted=f"roles of the detector {name}: "
                        f"{', '.join(known) or 'none, it takes no files'}")
    paths = {role: Path(path).expanduser() for role, path in files.items()}
    for need in needs:
        path = paths.get(need.role)
        if path is None and need.optional:
            continue
        if path is None or not (path.is_dir() if need.folder else path.is_file()):
            kind = "folder" if need.folder else "file"
            raise UserError(f"the detector {name} has no {kind} for the role {need.role!r}"
                            + (f": {path} is none" if path else ""), accepted=described(need),
                            remedy=f"give it as files.{need.role}=PATH; nothing is downloaded")
    return paths


def described(need: Need) -> str:
    """What is needed, where it is published, and under which licence."""
    parts = [need.what, f"published at {need.published}" if need.published else "",
             f"licence: {need.licence}" if need.licence else ""]
    return "; ".join(part for part in parts if part)
