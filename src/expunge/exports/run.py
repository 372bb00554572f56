"""The verb: write an edit in a form that other programs take, read it back, and say what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from expunge import runtime
from expunge.errors import ModelError, StorageError, UserError
from expunge.exports.base import check_patch, open_base
from expunge.exports.formats import FORMATS, Format, format_of
from expunge.exports.headers import card_digest
from expunge.exports.low_rank import ENERGY
from expunge.exports.read_back import check_given, read_back
from expunge.exports.writing import Job, Written
from expunge.files import check_apart, check_writable, file_digest, output_folder, readable_by_all, write_text
from expunge.isolated import isolated
from expunge.models.lora import lora_path
from expunge.models.opening import Location
from expunge.models.patch import Patch
from expunge.models.source import Source, source_of, weighted
from expunge.models.store import located, opened_from
from expunge.records.export import ExportRecord
from expunge.runtime import Progress
from expunge.scratch import beside, put, taken

if TYPE_CHECKING:
    from expunge.exports.check import CheckSettings

IN_FOLDER, BESIDE = "expunge-export.json", ".export.json"
"""The record's name inside an exported folder, and behind an exported file's name."""
_USES: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "component": (lambda to: FORMATS[to].alone, "which writes the whole edit"),
    "rank": (lambda to: FORMATS[to].loaded == "lora", "which cuts nothing"),
    "energy": (lambda to: FORMATS[to].loaded == "lora", "which cuts nothing"),
    "original": (lambda to: to == "checkpoint", "which patches no file"),
    "dtype": (lambda to: to != "checkpoint", "which keeps the number types of the file that it patches"),
    "title": (lambda to: FORMATS[to].kind == "file", "which has no header"),
    "shard_size": (lambda to: FORMATS[to].kind == "folder", "which is one file"),
    "write_variant": (lambda to: FORMATS[to].kind == "folder", "which is one file")}
"""Settings that only some formats have a use for: which have, and why the others have none."""
_SIZE, _VARIANT = re.compile(r"[1-9]\d*(?:KB|MB|GB)"), re.compile(r"[\w-]+", re.ASCII)


@isolated
def export(patch: Patch, out: str | Path, to: str = "folder", *, model: str | Path | Source = "embedded",
           parts: str | Path | None = None, original: str | Path | None = None, dtype: str | None = None,
           energy: float | None = None, rank: int | None = None, drop: bool = False, component: str = "",
           title: str = "", check: CheckSettings | None = None, overwrite: bool = False, variant: str | None = None,
           allow_pickle: bool = False, shard_size: str = "", write_variant: str = "",
           progress: Progress | None = None) -> ExportRecord:
    """Write an edit in a form that other programs take; a record of it lies beside.

    Args:
        patch: the edit. out: the file or folder to be written.
        to: one of `exports.formats.FORMATS`.
        model: the patch's base, as in `load`. parts: likewise.
        original: of "checkpoint": the user's own single file that is to be patched; None: the base is that file.
        dtype: number type of what is written; None is the format's own. A checkpoint keeps that of each tensor.
        energy: of a LoRA that is not of low rank already: share of the squared singular values that factors keep; None
            is `low_rank.ENERGY`. rank: largest rank; None for none.
        drop: leave out what the format cannot carry (biases, norms, embeddings of a LoRA), and name it.
        component: of a format of one component, which, where the patch changes several.
        title: what the file's header calls it; "" is its name.
        check: measure again from the written file, with a small evaluation; None measures nothing.
        overwrite: take the place of what is at `out`; never that of the base, its LoRAs or what the check reads.
        variant: which set of the base's weights, as in `load`. allow_pickle: likewise.
        shard_size: of folders, the largest file ("5GB"); "" is diffusers' own size.
        write_variant: of folders, the name of the set of weights ("fp16"); "" is none.

    Raises:
        UserError: an unknown format, a setting that it has no use for, something at `out`, weights that the format
            cannot carry.
        ModelError: a patch for another base, a family without a map, numbers that the type does not hold, or a reader
            that finds other numbers than were meant.
        StorageError: it cannot be written. Nothing is half-written, whatever happened.
    """
    out, form, patch = output_folder(out), format_of(to), check_given(patch)
    _check_useful(to, component=component, rank=rank, energy=energy, original=original, dtype=dtype, title=title,
                  shard_size=shard_size, write_variant=write_variant)
    _check_values(energy, rank, shard_size, write_variant)
    if patch.card.kind == "lora" and (rank is not None or energy is not None):
        raise UserError(f"{'--energy' if rank is None else '--rank'} with a patch that is a LoRA itself, which is "
                        "carried as it is", accepted="it with other patches", remedy="leave it out")
    if check is not None and check.with_lora and form.loaded == "patch":
        raise UserError("a foreign LoRA with a format that is opened as a patch", accepted="a folder, a checkpoint or "
                        "a LoRA", remedy="leave --with-lora out")
    number = runtime.parse_dtype(dtype or form.dtype)
    _check_out(out, form, overwrite)
    source = source_of(model, parts)
    where = located(source, variant=variant, allow_pickle=allow_pickle)
    foreign = [lora_path(weighted(check.with_lora)[0])] if check is not None and check.with_lora else []
    judge = [Path(check.clip).expanduser()] if check is not None and check.clip else []
    own = [] if original is None else [Path(original).expanduser()]
    check_apart(out, {**opened_from(source, where), "the file that is patched": own, "the foreign LoRA": foreign,
                      "the CLIP that judges": judge})
    if original is not None:
        source = _original(source, where, original)
        where = located(source, variant=variant, allow_pickle=allow_pickle)
    base = open_base(source, where)
    note = check_patch(patch, base)
    job = Job(patch, base, out, number, ENERGY if energy is None else energy, rank, drop, component, title, shard_size,
              write_variant)
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
    """Write at `place`, read back, measure, and rename into place, the record with it."""
    tell(0, 3, "writing")
    written = form.write(job, place)
    tell(1, 3, "reading back")
    readers = read_back(job, written, place, to)
    tell(2, 3, "measuring" if check else "recording")
    record = _record(job, to, form, written, place, notes).model_copy(update={"readers": readers})
    if check is not None:
        from expunge.exports.check import checked

        record = record.model_copy(update={"check": checked(job, form, place, check)})
    write_text(record_path(place), record.model_dump_json(indent=2) + "\n")
    readable_by_all(place)
    put(place, job.out, *([(record_path(place), record_path(job.out))] if form.kind == "file" else []))
    return record


def record_path(out: Path) -> Path:
    """Where the record of an export lies."""
    return out / IN_FOLDER if out.is_dir() else out.with_name(out.name + BESIDE)


def _original(source: Source, place: Location, original: str | Path) -> Source:
    """The user's file as the model, the patch's base lending it configs and what it lacks."""
    if source.loras:
        raise UserError("--original with --lora", accepted="a base without LoRAs",
                        remedy="--to folder writes a model with LoRAs merged into it")
    if not Path(original).expanduser().is_file():
        raise ModelError(f"no file at {original}", accepted="a single .safetensors file")
    return Source(str(original), source.parts or str(place.path if place.path.is_dir() else ""))


def _check_useful(to: str, **asked: object) -> None:
    """UserError: a setting that the format has no use for."""
    for name, given in asked.items():
        useful, why = _USES[name]
        if given not in (None, "") and not useful(to):
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"{flag} with --to {to}, {why}", accepted=f"it with {', '.join(filter(useful, FORMATS))}",
                            remedy=f"leave {flag} out")


def _check_values(energy: float | None, rank: int | None, shard_size: str, write_variant: str) -> None:
    """UserError: a value that a setting cannot have."""
    if energy is not None and not 0 < energy <= 1:
        raise UserError(f"energy {energy:g}", accepted="a share above 0, up to 1")
    if rank is not None and rank < 1:
        raise UserError(f"rank {rank}", accepted="1 or more")
    if shard_size and not _SIZE.fullmatch(shard_size):
        raise UserError(f"a shard size of {shard_size!r}", accepted="a number with its unit, such as 5GB or 500MB")
    if write_variant and not _VARIANT.fullmatch(write_variant):
        raise UserError(f"a variant called {write_variant!r}", accepted="letters, digits, - and _, such as fp16")


def _check_out(out: Path, form: Format, overwrite: bool) -> None:
    """UserError: a place that such a form cannot have, or that is taken. StorageError: it cannot be written."""
    if out.name in ("", ".."):
        raise UserError(f"--out {out}, a folder that has its place", accepted="the name of a new file or folder")
    if form.kind == "file" and out.suffix != ".safetensors":
        raise UserError(f"--out {out}", accepted="a file name that ends in .safetensors")
    _check_free(out, form, overwrite)
    check_writable(out.parent)


def _check_free(out: Path, form: Format, overwrite: bool) -> None:
    """UserError: something is at `out` that is not to be overwritten, or cannot be."""
    if form.kind == "folder" and out.is_file():
        raise UserError(f"{out} is a file", accepted="a new or empty folder")
    there = out.is_file() if form.kind == "file" else out.is_dir() and any(out.iterdir())
    if form.kind == "file" and out.is_dir():
        raise UserError(f"{out} is a folder", accepted="the name of a new file")
    if there and not overwrite:
        raise taken(out, "a new name", "choose another, or say --overwrite")




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


