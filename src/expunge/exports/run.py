"""The verb: write an edit in a form that other programs take, read it back, and say what came of it."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from expunge import runtime
from expunge.errors import ModelError, StorageError, UserError
from expunge.exports.base import Base, check_patch, open_base
from expunge.exports.formats import Format, format_of
from expunge.exports.headers import card_digest
from expunge.exports.read_back import check_given, read_back
from expunge.exports.writing import Job, Written
from expunge.files import check_writable, file_digest, readable_by_all, write_text
from expunge.models.patch import Patch
from expunge.models.source import Source, source_of
from expunge.records.export import ExportRecord
from expunge.runtime import Progress
from expunge.scratch import beside, put

if TYPE_CHECKING:
    from expunge.exports.check import CheckSettings

IN_FOLDER, BESIDE = "expunge-export.json", ".export.json"
"""The record's name inside an exported folder, and behind an exported file's name."""
ENERGY = 0.999
"""Share of a change's squared singular values that a LoRA keeps."""
_SIZE, _VARIANT = re.compile(r"[1-9]\d*(?:KB|MB|GB)"), re.compile(r"[\w-]+", re.ASCII)


def export(patch: Patch, out: str | Path, to: str = "folder", *, model: str | Path | Source = "embedded",
           parts: str | Path | None = None, original: str | Path | None = None, dtype: str | None = None,
           energy: float = ENERGY, rank: int | None = None, drop: bool = False, component: str = "", title: str = "",
           check: CheckSettings | None = None, overwrite: bool = False, variant: str | None = None,
           allow_pickle: bool = False, shard_size: str = "", write_variant: str = "",
           progress: Progress | None = None) -> ExportRecord:
    """Write an edit in a form that other programs take; a record of it lies beside.

    Args:
        patch: the edit. out: the file or folder to be written.
        to: one of `exports.formats.FORMATS`.
        model: the patch's base, as in `load`. parts: likewise.
        original: of "checkpoint": the user's own single file that is to be patched; None: the base is that file.
        dtype: number type of what is written; None is the format's own. A checkpoint keeps that of each tensor.
        energy: of a LoRA that is not of low rank already: share of the squared singular values that factors keep.
        rank: largest rank; None for none.
        drop: leave out what the format cannot carry (biases, norms, embeddings of a LoRA), and name it.
        component: of a format of one component, which, where the patch changes several.
        title: what the file's header calls it; "" is its name.
        check: measure again from the written file, with a small evaluation; None measures nothing.
        overwrite: take the place of what is at `out`.
        shard_size: of folders, the largest file ("5GB"); "" is diffusers' own size.
        write_variant: of folders, the name of the set of weights ("fp16"); "" is none.

    Raises:
        UserError: an unknown format or setting, something at `out`, weights that the format cannot carry.
        ModelError: a patch for another base, a family without a map, numbers that the type does not hold, or a reader
            that finds other numbers than were meant.
        StorageError: it cannot be written. Nothing is half-written, whatever happened.
    """
    out, form, patch = Path(out), format_of(to), check_given(patch)
    _check_asked(out, to, form, energy, rank, dtype, original, overwrite)
    if (shard_size or write_variant) and form.kind != "folder":
        raise UserError(f"{'shard_size' if shard_size else 'write_variant'} with {to!r}, which is one file",
                        accepted="it with folder or component", remedy="leave it out")
    if shard_size and not _SIZE.fullmatch(shard_size):
        raise UserError(f"a shard size of {shard_size!r}", accepted="a number with its unit, such as 5GB or 500MB")
    if write_variant and not _VARIANT.fullmatch(write_variant):
        raise UserError(f"a variant called {write_variant!r}", accepted="letters, digits, - and _, such as fp16")
    source = source_of(model, parts)
    base = open_base(_original(source, original) if original else source, variant=variant, allow_pickle=allow_pickle)
    _check_apart(out, base)
    note = check_patch(patch, base)
    job = Job(patch, base, out, runtime.parse_dtype(dtype or form.dtype), energy, rank, drop, component, title, variant,
              allow_pickle, shard_size, write_variant)
    tell = progress or (lambda done, total, note: None)
    try:
        with beside(out) as scratch:
            _check_free(out, form, overwrite)  # another run may have put something there since
            record = _made(job, to, form, scratch / out.name, (note,) if note else (), check, tell)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write {out}: {error}", remedy="free some space or choose another name; nothing "
                           "was half-written") from error
    tell(3, 3, "written")
    return record


def _made(job: Job, to: str, form: Format, place: Path, notes: tuple[str, ...], check: CheckSettings | None,
          tell: Progress) -> ExportRecord:
    """Write at `place`, read back, measure, and rename into place."""
    tell(0, 3, "writing")
    written = form.write(job, place)
    tell(1, 3, "reading back")
    readers = read_back(job, written, place, to)
    tell(2, 3, "measuring" if check else "recording")
    record = _record(job, to, form, written, place, notes).model_copy(update={"readers": readers})
    if check is not None:
        from expunge.exports.check import checked

        record = record.model_copy(update={"check": checked(job, form, place, check)})
    text = record.model_dump_json(indent=2) + "\n"
    readable_by_all(place)
    if form.kind == "folder":
        write_text(place / IN_FOLDER, text)
    else:  # before the file: a run that is killed in between left nothing yet, and can be started again
        write_text(record_path(job.out), text)
    put(place, job.out)
    return record


def record_path(out: Path) -> Path:
    """Where the record of an export lies."""
    return out / IN_FOLDER if out.is_dir() else out.with_name(out.name + BESIDE)


def _original(source: Source, original: str | Path) -> Source:
    """The user's file as the model, the patch's base lending it configs and what it lacks."""
    if source.loras:
        raise UserError("--original with --lora", accepted="a base without LoRAs",
                        remedy="--to folder writes a model with LoRAs merged into it")
    file = Path(original).expanduser()
    if not file.is_file():
        raise ModelError(f"no file at {original}", accepted="a single .safetensors file")
    from expunge.models.store import local_place

    place = local_place(source.model, False, None, None)
    return Source(str(original), source.parts or str(place if place.is_dir() else ""))


def _check_asked(out: Path, to: str, form: Format, energy: float, rank: int | None, dtype: str | None,
                 original: str | Path | None, overwrite: bool) -> None:
    if not 0 < energy <= 1:
        raise UserError(f"energy {energy:g}", accepted="a share above 0, up to 1")
    if not to.startswith("lora") and (rank is not None or energy != ENERGY):
        raise UserError(f"{'rank' if rank is not None else 'energy'} with {to!r}, which cuts nothing",
                        accepted="it with a LoRA (lora-diffusers, lora-kohya, lora-comfy)", remedy="leave it out")
    if rank is not None and rank < 1:
        raise UserError(f"rank {rank}", accepted="1 or more")
    if original is not None and to != "checkpoint":
        raise UserError(f"--original with --to {to}", accepted="--original with --to checkpoint")
    if to == "checkpoint" and dtype is not None:
        raise UserError(f"--dtype {dtype} with --to checkpoint", accepted="the number types of the file that is "
                        "patched", remedy="leave --dtype out")
    if form.kind == "file" and out.suffix != ".safetensors":
        raise UserError(f"--out {out}", accepted="a file name that ends in .safetensors")
    _check_free(out, form, overwrite)
    check_writable(out.parent)


def _check_free(out: Path, form: Format, overwrite: bool) -> None:
    """UserError: something is at `out` that is not to be overwritten, or cannot be."""
    if form.kind == "folder" and out.is_file():
        raise UserError(f"{out} is a file", accepted="a new or empty folder")
    taken = out.is_file() if form.kind == "file" else out.is_dir() and any(out.iterdir())
    if form.kind == "file" and out.is_dir():
        raise UserError(f"{out} is a folder", accepted="the name of a new file")
    if taken and not overwrite:
        raise UserError(f"{out} exists already", accepted="a new name", remedy="choose another, or say --overwrite")


def _check_apart(out: Path, base: Base) -> None:
    """UserError: the export would take the place of the model that it is made from."""
    place = out.resolve()
    if any(place == there.resolve() for there in (base.path, base.folder)):
        raise UserError(f"{out} is the model itself", accepted="another name: the original stays as it is")


def _record(job: Job, to: str, form: Format, written: Written, place: Path, notes: tuple[str, ...]) -> ExportRecord:
    files = {job.out.name: file_digest(place)} if form.kind == "file" else {
        file.relative_to(place).as_posix(): file_digest(file) for file in sorted(place.rglob("*")) if file.is_file()}
    changed = sum(entry.changed for entry in written.tensors)
    survived = sum(entry.survived for entry in written.tensors)
    return ExportRecord(
        to=to, files=files, patch_hash=job.patch.hash, card_sha256=card_digest(job.patch), base=job.base.model.name,
        base_hash=job.base.model.hash, dtype=written.dtype, tensors=written.tensors, error=written.error,
        survived=survived / changed if changed else 0.0, energy=job.energy if written.cut else None,
        most_rank=job.rank if written.cut else None, left_out=dict(written.left_out), lost=written.lost,
        notes=(*notes, *written.notes), versions=runtime.versions(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"))


