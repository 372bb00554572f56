"""Files that a protocol needs and the user supplies: found by role, known by hash, never fetched and never replaced.

A file whose hash is not the protocol's runs only where deviations are allowed, and then the result says so in its name.
A protocol that knows no hash of a file takes what it is given, and the record says which file that was.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.detectors.base import path_digest
from expunge.errors import UserError
from expunge.protocols.schema import Artefact


@dataclass(frozen=True)
class Supplied:
    """A file that was given for a role.

    Attributes:
        sha256: of its bytes; of a folder see `path_digest`.
        matched: by what it was known ("sha256", "git_blob", "text_sha256"); "" where the protocol knows no hash of it.
        deviation: in a sentence, how it differs from what the protocol names; "" where it does not.
    """

    artefact: Artefact
    path: Path
    sha256: str
    matched: str = ""
    deviation: str = ""


def text_hash(texts: Iterable[str]) -> str:
    """First 16 hex digits of sha256 over the texts: NFC, white space collapsed, joined by one newline, in order."""
    normal = "\n".join(" ".join(unicodedata.normalize("NFC", text).split()) for text in texts)
    return hashlib.sha256(normal.encode()).hexdigest()[:16]


def git_blob(path: Path) -> str:
    """The id that git gives a file's bytes."""
    size, digest = path.stat().st_size, hashlib.sha1(usedforsecurity=False)
    digest.update(f"blob {size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def parse_files(given: Sequence[str]) -> dict[str, Path]:
    """Paths by role, of `ROLE=PATH` words.

    Raises:
        UserError: another form, or a role twice.
    """
    out: dict[str, Path] = {}
    for word in given:
        role, found, path = word.partition("=")
        if not found or not role or not path:
            raise UserError(f"--file {word!r}", accepted="ROLE=PATH, such as prompts=nudity.csv")
        if role in out:
            raise UserError(f"the role {role!r} twice", accepted="one file for each role")
        out[role] = Path(path)
    return out


def resolve(artefacts: Sequence[Artefact], files: Mapping[str, Path], allow_deviation: bool = False,
            texts: Mapping[str, Sequence[str]] | None = None) -> dict[str, Supplied]:
    """What was supplied for each role.

    Args:
        artefacts: what the protocol needs; a role may stand twice.
        files: paths by role.
        allow_deviation: whether a file with another hash is taken, and told as a deviation.
        texts: of lists of prompts that were read already: their texts by role, for `text_sha256`.

    Raises:
        UserError: a file is missing (which role, which hash, where it is published, its licence), is not there, has
            another hash, or a role is given that the protocol does not know. All of them are told at once.
    """
    needed = {artefact.role: artefact for artefact in artefacts}
    files = {**{role: Path(one.place) for role, one in needed.items() if one.place}, **files}
    unknown = [role for role in files if role not in needed]
    if unknown:
        raise UserError(f"no role {', '.join(map(repr, unknown))} in this protocol",
                        accepted=", ".join(needed) or "no files at all: it needs none")
    missing = [artefact for role, artefact in needed.items() if role not in files]
    if missing:
        raise UserError("; ".join(f"no file for the role {one.role!r}: {_described(one)}" for one in missing),
                        accepted=" ".join(f"--file {one.role}=PATH" for one in missing),
                        remedy="nothing is fetched, and nothing takes their place")
    gone = [f"{role}={path}" for role, path in files.items() if not path.exists()]
    if gone:
        raise UserError(f"no such file: {', '.join(gone)}", accepted="a path for each role")
    out = {role: _supplied(one, files[role], (texts or {}).get(role)) for role, one in needed.items()}
    wrong = [supplied for supplied in out.values() if supplied.deviation]
    if wrong and not allow_deviation:
        raise UserError("; ".join(one.deviation for one in wrong), accepted="; ".join(
            f"{one.artefact.role}: {_described(one.artefact)}" for one in wrong),
            remedy="with --allow-deviation it runs all the same, and the result is called -modified")
    return out


def _supplied(artefact: Artefact, path: Path, texts: Sequence[str] | None) -> Supplied:
    digest = path_digest(path)
    ways = {"sha256": (artefact.sha256, lambda: digest),
            "git_blob": (artefact.git_blob, lambda: "" if path.is_dir() else git_blob(path)),
            "text_sha256": (artefact.text_sha256, lambda: "" if texts is None else text_hash(texts))}
    for name, (wanted, own) in ways.items():
        if wanted and own() == wanted:
            return Supplied(artefact, path, digest, name)
    deviation = f"{path.name} ({artefact.role}) is another file than the protocol names: its sha256 is {digest}" \
        if artefact.pinned else ""
    return Supplied(artefact, path, digest, "", deviation)


def _described(artefact: Artefact) -> str:
    known = [f"{name} {value}" for name, value in (("sha256", artefact.sha256), ("git blob", artefact.git_blob),
                                                   ("texts", artefact.text_sha256)) if value]
    parts = [artefact.what, ", ".join(known) or "no hash of it is known: the record will say which one was used",
             f"published at {artefact.published}" if artefact.published else "",
             f"licence: {artefact.licence}" if artefact.licence else ""]
    return ", ".join(filter(None, parts))
