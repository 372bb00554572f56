"""A bundle of evidence: an edit's files, what was measured of it, and who answers for that, in one folder.

    patch/            the patch with its card
    exports/          what was exported from it, if named
    records/          evaluations, attacks, protocols' results, relearning curves: the records, without images
    README.md         the model card, where there is an evaluation
    environment.json  versions and machine
    bom.cdx.json      CycloneDX ML-BOM
    manifest.json     sha256 and size of all of these
    statement.json    in-toto Statement that binds weights, records, BOM and manifest; signed, in its envelope:
    attestation.dsse.json
    model.sig         OpenSSF model signature of the whole folder

Prompts that the edit trained on stay with the patch; the card has the hash of their file. Records hold prompts; a
redacted bundle leaves out what `report.sensitive` names, who asked, and records of attacks, whose scores stay in
statement and BOM.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from expunge import files
from expunge.errors import StorageError, UserError
from expunge.evidence import bom, signing
from expunge.evidence.environment import environment
from expunge.evidence.found import Found, records_of_edit, relearnings_at
from expunge.evidence.signing import SIGNATURE, Signer
from expunge.evidence.statement import about, record_name, sealed, statement
from expunge.models.patch import Patch
from expunge.models.shareable import CARD, check_made_from, shareable, shareable_card
from expunge.records import EVALUATIONS, Evaluation, PatchCard
from expunge.records.patch_file import card_in
from expunge.records.protocol import ProtocolResult
from expunge.report.about import About
from expunge.report.card import model_card
from expunge.report.covering import without_folders
from expunge.report.sensitive import redacted
from expunge.scratch import beside, taken

MANIFEST, BOM, STATEMENT, SEALED = "manifest.json", "bom.cdx.json", "statement.json", "attestation.dsse.json"
WEIGHTS = (".safetensors", ".gguf", ".bin", ".ckpt", ".pt", ".pth")
"""How files of weights end: the subjects of a statement."""


@dataclass(frozen=True)
class Bundle:
    """What was made. Attributes: folder; root: sha256 of its manifest; signed: by which key, "" for none; left_out: in
    words, what is not in it."""

    folder: Path
    root: str
    signed: str = ""
    left_out: tuple[str, ...] = ()


def make_bundle(run: str | Path, out: str | Path, *, exports: Sequence[str | Path] = (), signer: Signer | None = None,
                by: str = "", redact: bool = False) -> Bundle:
    """Gather the evidence of an edit into a new folder, which appears whole or not at all.

    Args:
        run: the folder of a patch, with an evaluation, attacks or protocols' results in folders of it.
        out: the bundle's folder; new or empty.
        exports: files or folders that were exported from the patch.
        signer: who signs; None makes an unsigned bundle.
        by: who answers for it, as it is to stand in the model card.
        redact: leave out what is not to be handed out.

    Raises:
        UserError: no patch or no record there, records of another patch, a folder that is in use, an unusable key, or
            the extra `evidence` is missing.
        StorageError: a file cannot be written.
    """
    signing.check_installed()
    run, out = Path(run), files.output_folder(out)
    if signer is not None:
        signing.private_key(signer.key)
    patch, run = Patch.load(run), run if run.is_dir() else run.parent
    found = records_of_edit(run)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise taken(out, "a new or empty folder")
    files.check_writable(out.parent)
    patch = shareable(patch) if redact else replace(patch, texts={})
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with beside(out) as place:
            inside = place / out.name  # the signature tells this name
            left_out = _fill(inside, run, patch, found, tuple(map(Path, exports)), About(by.strip(), redact))
            root = _bind(inside, patch.card, found, signer)
            if out.is_dir():
                out.rmdir()
            os.replace(inside, out)
    except OSError as error:
        raise StorageError(f"cannot write {out}: {error.strerror or error}",
                           remedy="free some space or choose another folder; nothing was half-written") from error
    whose = signing.fingerprint(signing.private_key(signer.key).public_key()) if signer is not None else ""
    return Bundle(out, root, whose, tuple(left_out))


def walked(folder: Path) -> dict[str, Path]:
    """Every file of a bundle by its name ("patch/patch.safetensors"), hidden ones and links included."""
    return {(name := Path(where) / file).relative_to(folder).as_posix(): name
            for where, folders, names in os.walk(folder)
            for file in sorted([*names, *(one for one in folders if (Path(where) / one).is_symlink())])}


def weights_of(names: Sequence[str]) -> list[str]:
    """Those of a bundle's files that are weights."""
    return [name for name in names if name.startswith(("patch/", "exports/")) and name.lower().endswith(WEIGHTS)]


def _fill(inside: Path, run: Path, patch: Patch, found: Sequence[Found], exports: Sequence[Path], told: About
          ) -> list[str]:
    """All files but those that speak of the others."""
    patch.save(inside / "patch")
    for given in exports:
        check_made_from(given, patch)
        _export(given, inside / "exports" / given.name)
    for file in (inside / "exports").rglob(CARD) if told.redacted else ():
        card = shareable_card(card_in(file))
        files.write_text(file, card.model_dump_json(indent=2) + "\n")
    left_out = []
    for one in found:
        whole, record = one.record, one.record
        if told.redacted and isinstance(record, Evaluation):
            record = redacted(record)
        elif told.redacted and isinstance(record, ProtocolResult):
            record = without_folders(record)
        elif told.redacted:
            left_out.append(f"{one.short}: its wordings are not handed out; its scores are in the statement")
            continue
        files.write_text(inside / record_name(one), record.model_dump_json(indent=2) + "\n")
        if isinstance(record, Evaluation) and not (inside / "README.md").exists():
            page = model_card(without_folders(record), replace(told, digest=whole.digest))
            files.write_text(inside / "README.md", page)
    curves = relearnings_at(run)
    for file, curve in () if told.redacted else curves:
        files.write_text(inside / "records" / file.parent.name / file.name, curve.model_dump_json(indent=2) + "\n")
    left_out += [f"{file.parent.name}/{file.name}" for file, _ in curves if told.redacted]
    files.write_json(inside / "environment.json", environment())
    return left_out


def _export(given: Path, to: Path) -> None:
    if not given.exists():
        raise UserError(f"no file or folder {given} to put in", accepted="what was exported from the patch")
    to.parent.mkdir(parents=True, exist_ok=True)
    if to.exists():
        raise UserError(f"two exports called {to.name}", accepted="names of their own")
    if given.is_dir():
        shutil.copytree(given, to)
    else:
        shutil.copyfile(given, to)


def _bind(inside: Path, card: PatchCard, found: Sequence[Found], signer: Signer | None) -> str:
    """BOM, manifest, statement and signature; returns the manifest's sha256."""
    digests = {name: files.file_digest(file) for name, file in walked(inside).items()}
    weights = {name: digests[name] for name in weights_of([*digests])}
    stated = about(card, found, digests)
    evaluations = [EVALUATIONS.read(inside / record_name(one)) for one in found if isinstance(one.record, Evaluation)]
    files.write_json(inside / BOM, bom.bill(card, weights, stated, evaluations))
    files.write_json(inside / MANIFEST, {"format": 1, "files": {
        name: {"sha256": files.file_digest(file), "bytes": file.stat().st_size}
        for name, file in sorted(walked(inside).items())}})
    root = files.file_digest(inside / MANIFEST)
    whole: dict[str, Any] = {**stated, "bom": {"name": BOM, "sha256": files.file_digest(inside / BOM)},
                             "manifest": {"name": MANIFEST, "sha256": root}}
    bound = statement(weights, json.loads(json.dumps(whole)))
    if signer is None:
        files.write_json(inside / STATEMENT, bound)
        return root
    files.write_json(inside / SEALED, sealed(bound, signing.private_key(signer.key)))
    signing.sign(inside, signer)
    os.chmod(inside / SIGNATURE, 0o644)
    return root
