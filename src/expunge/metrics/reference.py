"""Statistics of real images as a file, so that FID and KID against them need no images: made from a folder, or brought.

`<file>.safetensors` holds mean and covariance (float64) and a sample of features (float32) for KID; its metadata says
which features with hash and resizer, how many images, which ones, and what was left out or converted. Statistics of
other features or resizers are refused: their numbers would look like FIDs.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from expunge import untrusted
from expunge.errors import ExpungeError, UserError
from expunge.files import file_digest, write_tensors
from expunge.metrics.base import Features, Moments
from expunge.metrics.image_folder import ImageFolder, features_of
from expunge.metrics.stream.sums import FeatureSums

SAMPLE = 1000
"""Features kept for KID: as many as one of its subsets holds."""
_VERSION = "1"


@dataclass(frozen=True)
class Statistics:
    """Moments with where they come from.

    Attributes:
        moments: what FID and KID take.
        pictures: sha256 over names and pixels of the images, in order; "" of brought ones.
        left_out, converted: images by reason, and by what was done to them.
    """

    moments: Moments
    pictures: str = ""
    left_out: dict[str, int] = field(default_factory=dict)
    converted: dict[str, int] = field(default_factory=dict)


def statistics_of(folder: ImageFolder, extractor: Features, *, source: str = "", sample: int = SAMPLE, seed: int = 0,
                  batch: int = 64, tell: Callable[[int, int], None] | None = None) -> Statistics:
    """Statistics of a folder's images, read `batch` at a time and forgotten.

    Args:
        source: in words, which images; "" means the folder's name.
        sample: features to keep for KID; which ones depends on `seed` and the images' names alone.
        tell: told (files done, files in all).

    Raises:
        UserError: fewer than two images that can be measured.
    """
    sums = FeatureSums(extractor.name, extractor.width)
    chosen: list[tuple[int, str, Tensor]] = []  # a heap of those whose numbers are the smallest, the largest on top
    pixels, done = hashlib.sha256(), 0
    for images in folder.batches(batch):
        rows = features_of(extractor, images)
        sums.add(rows)
        for image, row in zip(images, rows, strict=True):
            pixels.update(f"{image.name}\0{tuple(image.picture.shape)}\0".encode())
            pixels.update(image.picture.numpy().tobytes())
            if row.isfinite().all():
                entry = (-_lot(seed, image.name), image.name, row.clone())
                (heapq.heappush if len(chosen) < sample else heapq.heappushpop)(chosen, entry)
        done += batch
        if tell is not None:
            tell(min(done, len(folder.names)), len(folder.names))
    if sums.n < 2:
        raise UserError(f"{sums.n} images in {folder.place} can be measured", accepted="two or more",
                        remedy="; ".join(folder.notices))
    kept = [row for _, _, row in sorted(chosen, key=lambda entry: entry[1])]
    moments = Moments(extractor.name, sums.mean, sums.covariance, sums.n,
                      torch.stack(kept) if kept else torch.zeros(0, extractor.width), source or folder.place.name)
    return Statistics(moments, pixels.hexdigest(), {**folder.counts, **sums.left_out}, dict(folder.conversions))


def brought(path: Path, extractor: Features, source: str = "") -> Statistics:
    """Statistics from an npz of the field (arrays mu and sigma), which says neither features nor how many images.

    That they were made with `extractor` is the caller's word, and the source says so. An array n, if there is one, is
    believed.

    Raises:
        UserError: it cannot be read without pickle, lacks an array, or has another shape or values that are no moments.
    """
    try:
        found = untrusted.arrays(path, ("mu", "sigma", "n"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}", accepted="an npz with arrays mu and sigma") from error
    width = extractor.width
    for name, shape in (("mu", (width,)), ("sigma", (width, width))):
        if name not in found or found[name].shape != shape:
            raise UserError(f"{path}: {name} of shape {found[name].shape if name in found else 'nothing'}",
                            accepted=f"{shape}, as {extractor.name} gives")
    mean, covariance = (torch.from_numpy(found[name].astype(np.float64)) for name in ("mu", "sigma"))
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        raise UserError(f"{path} has values that are not finite", accepted="finite moments")
    if (covariance - covariance.T).abs().max() > 1e-6 * covariance.abs().max():
        raise UserError(f"sigma of {path} is not symmetric", accepted="a covariance")
    n = int(found["n"].reshape(-1)[0]) if "n" in found and found["n"].size == 1 else 0
    words = f"{source or path.name}, brought (sha256 {file_digest(path)[:8]}); features by the word of who brought it"
    return Statistics(Moments(extractor.name, mean, covariance, n, torch.zeros(0, width), words))


def write_statistics(path: Path, made: Statistics) -> None:
    """Write the file, atomically.

    Raises:
        StorageError: it cannot be written.
    """
    moments = made.moments
    write_tensors(path, {"mean": moments.mean.double(), "covariance": moments.covariance.double().contiguous(),
                         "sample": moments.sample.float()},
                  {"expunge.reference": _VERSION, "features": moments.features, "n": str(moments.n),
                   "source": moments.source, "pictures": made.pictures, "left_out": json.dumps(made.left_out),
                   "converted": json.dumps(made.converted)})


def read_statistics(path: Path, features: str = "") -> Statistics:
    """What `write_statistics` wrote.

    Args:
        features: name, with hash and resizer, of the features that it must be of; "" takes any.

    Raises:
        UserError: it is missing or damaged, of another version, or of other features.
    """
    try:
        with untrusted.tensors(path) as opened:
            meta = opened.metadata() or {}
            mean, covariance, sample = (opened.get_tensor(name) for name in ("mean", "covariance", "sample"))
        version = meta.get("expunge.reference", "")
        moments = Moments(meta["features"], mean, covariance, int(meta["n"]), sample, meta["source"])
        made = Statistics(moments, meta.get("pictures", ""), untrusted.json_in(meta.get("left_out", "{}")),
                          untrusted.json_in(meta.get("converted", "{}")))
    except Exception as error:  # safetensors has its own error types
        raise UserError(f"{path} cannot be read: {type(error).__name__}: {error}",
                        accepted="statistics that `expunge reference` wrote") from error
    if version not in ("", _VERSION):
        raise UserError(f"{path} is of version {version}", accepted=_VERSION, remedy="use the version that wrote it")
    if features and moments.features != features:
        raise UserError(f"{path} was made with {moments.features}", accepted=features,
                        remedy="make it again with these features and this resizer: `expunge reference FOLDER`")
    width = len(mean)
    if covariance.shape != (width, width) or sample.ndim != 2 or sample.shape[1] != width:
        raise ExpungeError(f"{path} holds moments of width {width}, {tuple(covariance.shape)} and "
                           f"{tuple(sample.shape)}", accepted="one width")
    return made


def _lot(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big")
