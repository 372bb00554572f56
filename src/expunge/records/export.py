"""What was written for other programs, and what reading it back found."""

from __future__ import annotations

from typing import Literal

from expunge.records.base import Record


class ExportedTensor(Record):
    """One weight of the model, as the exported file has it.

    Attributes:
        name: full name ("unet/....weight"). key: where it lies in the file; "" where files say it by the full name.
        rank: of the factors; None where the weight or its difference is whole. kept: share of the squared singular
            values that the factors keep.
        error: |D - D'| / |D| (Frobenius): D the edit's change, D' what the file's numbers make of it.
        changed: numbers that the edit changes; survived: those of them that the file's number type still tells apart
            from the base's own in that type.
    """

    name: str
    key: str = ""
    rank: int | None = None
    kept: float | None = None
    error: float
    changed: int
    survived: int


class ReadBack(Record):
    """What a program that reads such files made of this one.

    Attributes:
        reader: its name and version. tensors: how many were compared.
        max_abs: largest difference between what it read and what was meant to be written; None where it did not run.
        note: why it did not run, or what it left unread; "" for nothing.
    """

    reader: str
    tensors: int = 0
    max_abs: float | None = None
    note: str = ""


class CheckedModel(Record):
    """How a small evaluation found one model.

    Attributes:
        what: which model, in words. strength: at which the LoRA was loaded; None where that has no meaning.
        found, n: images that show what was erased, of those that were judged; low, high: 95% interval of the rate.
        near, near_n, near_low, near_high: the same of near neighbours that show what was asked for.
        judge: the name of whoever judged.
    """

    what: str
    strength: float | None = None
    found: int
    n: int
    low: float | None
    high: float | None
    near: int
    near_n: int
    near_low: float | None
    near_high: float | None
    judge: str


class ExportRecord(Record):
    """What lies beside an export.

    Attributes:
        to: the format's name. files: sha256 of every file, by name.
        patch_hash: content hash of the patch's tensors; card_sha256: of its card, which headers call
            expunge.record_sha256. base, base_hash: the model that it was made on.
        dtype: number type of the written tensors, or "as stored".
        tensors: one entry per weight that changes. error: of all together, relative (Frobenius). survived: share of
            all changed numbers that the number type still tells apart.
        energy, most_rank: what was asked of truncated factors; None where nothing was truncated.
        left_out: weights that the format cannot carry and that the caller let go, with the reason; lost: their share
            |D_left out| / |D|.
        readers: what read it back. check: a small evaluation of the written file; () where none was asked for.
        notes: what whoever takes the file must know.
        versions: of expunge, torch, diffusers, transformers. created: ISO 8601, UTC.
    """

    format: Literal[1] = 1
    to: str
    files: dict[str, str]
    patch_hash: str
    card_sha256: str
    base: str
    base_hash: str
    dtype: str
    tensors: tuple[ExportedTensor, ...]
    error: float
    survived: float
    energy: float | None = None
    most_rank: int | None = None
    left_out: dict[str, str] = {}
    lost: float = 0.0
    readers: tuple[ReadBack, ...] = ()
    check: tuple[CheckedModel, ...] = ()
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    created: str = ""
