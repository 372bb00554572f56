"""An array out of a pickle that is never executed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from expunge.detectors.pickled_array import pickled_array
from expunge.errors import ModelError

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3) / 7


class Harmful:
    """What a hostile file asks for when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._trace),)


def kept(value: Any, file: Path, protocol: int) -> Path:
    file.write_bytes(pickle.dumps(value, protocol=protocol))
    return file


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("array", [
    ARRAY, ARRAY.astype(np.float16), ARRAY.T.astype(np.float64), np.asfortranarray(ARRAY), ARRAY.astype(">f4"),
    np.arange(4), np.float32(3) * np.ones((1, 1, 1), dtype=np.float32), np.zeros((0, 3), dtype=np.float32)],
    ids=str)
def test_arrays_of_every_protocol_are_read_as_pickle_reads_them(array: Any, protocol: int, tmp_path: Path) -> None:
    found = pickled_array(kept(array, tmp_path / "a.p", protocol))
    assert found.dtype.kind == array.dtype.kind
    assert found.shape == array.shape
    assert np.array_equal(found, array)


def test_the_older_name_of_numpys_core_is_known(tmp_path: Path) -> None:
    """Files of numpy 1 say numpy.core, those of numpy 2 numpy._core."""
    data = pickle.dumps(ARRAY, protocol=2)
    assert b"numpy._core.multiarray" in data
    file = tmp_path / "old.p"
    file.write_bytes(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert np.array_equal(pickled_array(file), ARRAY)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_file_is_refused_and_not_run(protocol: int, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for value in (Harmful(trace), [ARRAY, Harmful(trace)], {"prompts": Harmful(trace)}, (Harmful(trace), ARRAY)):
        with pytest.raises(ModelError):
            pickled_array(kept(value, tmp_path / "bad.p", protocol))
    assert not trace.exists()
    pickle.loads(pickle.dumps(Harmful(trace), protocol=protocol))
    assert trace.exists()  # the file would have done harm


@pytest.mark.parametrize("value", [
    [1, 2], {"a": ARRAY}, "text", 3, (ARRAY, ARRAY), np.array([{}, "x"], dtype=object), np.array(["text"]),
    np.array([1j]), torch.ones(2)], ids=repr)
def test_anything_but_one_array_of_numbers_is_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        pickled_array(kept(value, tmp_path / "a.p", 4))


@pytest.mark.parametrize("data", [b"", b"\x80", b"no pickle", pickle.dumps(ARRAY)[:-8], b"\x80\x04\x8c\x02os\x8c\x06"
                                  b"system\x93\x8c\x02ls\x85R."])
def test_a_damaged_file_says_so(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.p"
    file.write_bytes(data)
    with pytest.raises(ModelError, match=r"a\.p"):
        pickled_array(file)


def test_a_shape_that_the_bytes_do_not_fill_is_refused(tmp_path: Path) -> None:
    data = pickle.dumps(ARRAY, protocol=2).replace(b"K\x02K\x03\x86", b"K\xffK\xff\x86")
    file = tmp_path / "a.p"
    file.write_bytes(data)
    with pytest.raises(ModelError, match="cannot be read"):
        pickled_array(file)
