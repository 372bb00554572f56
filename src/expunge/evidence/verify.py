"""What holds of a bundle, line by line: signature, each file, the record's binding, the BOM, the base.

A line holds, fails, or is open: nobody looked, because nothing was named to look with, or nobody signed. Files are
compared with the manifest in both directions, the manifest with the statement, the statement with its envelope, and the
signature with all files; so one byte, a file more or a file less is told by its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from expunge import files, untrusted
from expunge.errors import ExpungeError, UserError
from expunge.evidence import bom
from expunge.evidence.bundle import BOM, MANIFEST, SEALED, STATEMENT, walked, weights_of
from expunge.evidence.found import SCORED, Found
from expunge.evidence.signing import SIGNATURE, Signed, Trust, check_installed, check_readable, fingerprint, verified
from expunge.evidence.statement import check_form, disagreements, results, unsealed
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.records import counted, read_card

State = Literal["holds", "fails", "open"]
OWN = (MANIFEST, STATEMENT, SEALED, SIGNATURE)
"""Files that the manifest does not name: it is one of them, and the others speak of it."""
NOBODY = Trust()
_NO_FILE = "is a link or a device, and no file of the bundle's own"


@dataclass(frozen=True)
class Line:
    """What was looked at ("signature", "file patch/patch.safetensors"), whether it holds, and in words why."""

    what: str
    state: State
    words: str

    def __str__(self) -> str:
        """As it is printed: on one line, so that no name of a file can look like a line of its own."""
        return "".join(sign if sign.isprintable() else ascii(sign)[1:-1]
                       for sign in f"{self.state:<6} {self.what}: {self.words}")


def verify_bundle(folder: str | Path, *, trust: Trust = NOBODY, base: Model | None = None) -> list[Line]:
    """What holds of the bundle in `folder`; it is whole if no line fails.

    Args:
        trust: whose signature is asked for; a bundle without it then fails.
        base: the model that the edit is said to be of, opened; its weights are compared.

    Raises:
        UserError: no bundle there, a key or certificate of `trust` cannot be read, or the extra `evidence` is missing.
    """
    check_installed()
    check_readable(trust)
    folder = Path(folder)
    if not any((folder / name).is_file() for name in OWN):
        raise UserError(f"no bundle at {folder}", accepted=f"a folder with {MANIFEST}",
                        remedy="`expunge bundle RUN --out FOLDER` makes one")
    there = {name: files.file_digest(file) if file.is_file() and not file.is_symlink() else ""
             for name, file in walked(folder).items()}
    signed, lines = _signature(folder, there, trust)
    lines += _files(folder, there)
    digests = {name: digest for name, digest in there.items() if digest}  # nothing is read through a link
    stated, more = _statement(folder, digests, signed)
    lines += more
    if stated is not None:
        lines += [*_records(folder, stated, digests), *_bom(folder, digests, stated)]
    return [*lines, *_base(folder, base, digests)]


def _signature(folder: Path, digests: Mapping[str, str], trust: Trust) -> tuple[Signed | None, list[Line]]:
    if SIGNATURE not in digests:
        state: State = "fails" if trust.asked or SEALED in digests else "open"
        return None, [Line("signature", state, f"unsigned: there is no {SIGNATURE}; nobody answers for these files")]
    odd = [name for name, digest in digests.items() if not digest]
    if odd and trust.asked:  # nothing that hashes it would come back from a pipe
        return None, [Line("signature", "fails", f"{name} {_NO_FILE}") for name in sorted(odd)]
    if not trust.asked:
        return None, [Line("signature", "open", "signed, and not looked at by whom: name the publisher's key, "
                           "certificate or identity")]
    links = [Line("signature", "fails", f"{name} {_NO_FILE}") for name, digest in digests.items() if not digest]
    if links:
        return None, links
    try:
        signed = verified(folder, trust)
    except UserError as error:
        return None, [Line("signature", "fails", error.got)]
    lines = [Line("signature", "fails", f"{name} is not what was signed") for name in sorted({*signed.files, *digests})
             if name != SIGNATURE and signed.files.get(name) != digests.get(name)]
    return signed, lines or [Line("signature", "holds", f"all files, by {signed.by}")]


def _why(error: Exception) -> str:
    """What is wrong with a file of JSON, for a person."""
    return "it lacks what it should hold" if isinstance(error, KeyError | TypeError | AttributeError) else \
        str(error).partition("\n")[0] or type(error).__name__


def _files(folder: Path, digests: Mapping[str, str]) -> Iterator[Line]:
    """Each file against the manifest."""
    for name in OWN:
        if digests.get(name) == "":
            yield Line(f"file {name}", "fails", _NO_FILE)
    if not digests.get(MANIFEST):
        yield from () if MANIFEST in digests else [Line(f"file {MANIFEST}", "fails", "is missing")]
        return
    try:
        named = {str(name): str(one["sha256"]) for name, one in
                 untrusted.json_of(folder / MANIFEST)["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        yield Line(f"file {MANIFEST}", "fails", f"cannot be read: {_why(error)}")
        return
    for name in sorted({*named, *digests}):
        if name in OWN and name not in named:
            continue
        if name not in digests:
            yield Line(f"file {name}", "fails", "is missing")
        elif name not in named:
            yield Line(f"file {name}", "fails", "was added: the manifest does not name it")
        elif not digests[name]:
            yield Line(f"file {name}", "fails", _NO_FILE)
        elif digests[name] != named[name]:
            yield Line(f"file {name}", "fails", f"was changed: {digests[name][:16]}, not {named[name][:16]}")
        else:
            yield Line(f"file {name}", "holds", digests[name][:16])


def _statement(folder: Path, digests: Mapping[str, str], signed: Signed | None
               ) -> tuple[dict[str, Any] | None, list[Line]]:
    """The statement, and whether it is about the files that are there."""
    name = SEALED if SEALED in digests else STATEMENT
    if name not in digests:
        return None, [Line("record", "fails", f"nothing binds it to the weights: no {SEALED} and no {STATEMENT}")]
    if {SEALED, STATEMENT} <= {*digests}:
        return None, [Line(f"file {STATEMENT}", "fails", f"was added: {SEALED} says what is stated")]
    try:
        read = untrusted.json_of(folder / name)
        stated: dict[str, Any] = unsealed(read, signed.key if signed is not None else None) if name == SEALED else read
        check_form(stated)
        said = stated["predicate"]
        linked = {one["name"]: one["digest"]["sha256"] for one in stated["subject"]}
        linked |= {said[part]["name"]: said[part]["sha256"] for part in ("bom", "manifest")}
        linked |= {one["name"]: one["sha256"] for one in said["records"] if one["sha256"]}
    except (OSError, ValueError, RecursionError, UserError) as error:
        got = error.got if isinstance(error, ExpungeError) else _why(error)
        return None, [Line("record", "fails", f"{name} cannot be used: {got}")]
    odd = [one for one in sorted({*linked, *weights_of([*digests])}) if linked.get(one) != digests.get(one)]
    if odd:
        return stated, [Line("record", "fails", f"{one} is not what {name} is about") for one in odd]
    if signed is None:
        by = "" if SIGNATURE in digests else ", which nobody signed"
    else:
        by = f", signed by the key {fingerprint(signed.key)}" if name == SEALED and signed.key else \
            ", which the signature covers"
    bound = counted(len(stated["subject"]), "files")
    return stated, [Line("record", "holds", f"bound to {bound} of weights by {name}{by}")]


def _records(folder: Path, stated: Mapping[str, Any], digests: Mapping[str, str]) -> Iterator[Line]:
    """Whether the records are about this patch, and say what the statement says."""
    said, source = stated["predicate"], SEALED if SEALED in digests else STATEMENT
    try:
        yield from (Line("record", "fails", f"the {what} in {source} is not what patch/patch.json says")
                    for what in disagreements(read_card(folder / "patch"), said))
    except ExpungeError as error:
        yield Line("record", "fails", f"the patch's card cannot be compared: {error.got}")
    for name, found in _scored(folder, digests):
        if isinstance(found, UserError):
            yield Line(f"record {name}", "fails", found.got)
            continue
        theirs, mine = [one for one in said["results"] if one["record"] == name], results(found)
        odd = [one["name"] for one in (*mine, *theirs) if one not in mine or one not in theirs]
        if found.patch_hash != said["patch"]["tensors"]:
            yield Line(f"record {name}", "fails", "is about another patch")
        elif odd:
            yield Line(f"record {name}", "fails", f"its {odd[0]} is not what was stated")
        else:
            yield Line(f"record {name}", "holds", f"{len(mine)} scores as they were stated")


def _scored(folder: Path, digests: Mapping[str, str]) -> Iterator[tuple[str, Found | UserError]]:
    """The records with scores by name, or why one cannot be read."""
    for name in sorted(digests):
        kind = next((stored for stored in SCORED if name.startswith("records/")
                     and name.endswith(f"/{stored.name}")), None)
        if kind is None:
            continue
        try:
            yield name, Found(folder / name, kind.read(folder / name))
        except UserError as error:
            yield name, error


def _bom(folder: Path, digests: Mapping[str, str], stated: Mapping[str, Any]) -> Iterator[Line]:
    if BOM not in digests:
        yield Line("BOM", "fails", f"no {BOM}")
        return
    try:
        text = untrusted.text(folder / BOM, errors="replace")
        made = untrusted.json_in(text)
    except OSError as error:
        yield Line("BOM", "fails", f"cannot be read: {error}")
        return
    wrong = bom.mistakes(text)
    if wrong:
        yield Line("BOM", "fails", f"not valid: {wrong}")
        return
    weights = {name: digests[name] for name in weights_of([*digests])}
    odd = bom.disagreements(made, weights, stated["predicate"])
    yield from (Line("BOM", "fails", words) for words in odd)
    if not odd:
        metrics = made["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
        yield Line("BOM", "holds", f"valid CycloneDX {bom.SPEC}, says what the record says ({len(metrics)} metrics)")


def _base(folder: Path, base: Model | None, digests: Mapping[str, str]) -> Iterator[Line]:
    """Whether patch and records are of the model that was named."""
    if base is None:
        yield Line("base", "open", "not looked at: name the model with --base")
        return
    try:
        patch = Patch.load(folder / "patch")
        note = patch.check(base, base.editable())
    except ExpungeError as error:
        yield Line("base", "fails", f"{base.name}: {error.got}")
        return
    same = {base.hash, patch.card.base_hash if patch.rounded_alike(base) else base.hash}  # a smaller copy is the model
    odd = []
    for name, found in _scored(folder, digests):
        if isinstance(found, UserError):
            odd.append(f"{name} cannot be compared: {found.got}")
        elif found.record.model_hash not in ("", *same):
            odd.append(f"{name} was measured on {found.record.model} ({found.record.model_hash[:16]}), not on "
                       f"{base.name} ({base.hash[:16]})")
    yield from (Line("base", "fails", words) for words in odd)
    if not odd:
        yield Line("base", "holds", f"{base.name} ({base.hash[:16]}) is what it was made on" if not note else
                   f"{base.name} takes it: {note}")
