"""The content hash of named tensors, taken tensor by tensor: no more than a part of one is in memory twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

CHUNK = 2**24
"""Numbers that are cast and hashed at once: 64 MiB in float32."""


def tensors_hash(tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> str:
    """sha256 (hex) over names, dtypes, shapes and bytes, in the order of the names; of the values cast to `dtype`.

    Each tensor is asked for once, so that a mapping may read them from files as it goes.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        digest.update(f"{name}|{dtype or tensor.dtype}|{tuple(tensor.shape)}|".encode())
        for part in tensor.reshape(-1).split(CHUNK):
            digest.update(part.to("cpu", dtype).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
