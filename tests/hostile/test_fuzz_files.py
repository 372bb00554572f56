"""Files of every other kind with bytes flipped, cut and put in: settings, lists, tensors, images, bundles."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import yaml
from hostile_fuzz import FEW, MANY, as_json, both, bytes_like, reads_or_tells, values_like
from hostile_readers import IMAGES, LINES, OTHERS, READERS, SETTINGS, TABLES, TENSORS
from hypothesis import given
from hypothesis import strategies as st


@both([name for name in SETTINGS if name != "settings in TOML"])
def test_any_settings(reader: str, most: Any, good: Any, tmp_path: Path) -> None:
    _, file = READERS[reader].make(good, tmp_path / "good")
    value = yaml.safe_load(file.read_text(encoding="utf-8"))

    @most
    @given(st.one_of(values_like(value).map(as_json), bytes_like(file.read_bytes()), st.binary(max_size=40)))
    def check(data: bytes) -> None:
        reads_or_tells(reader, good, tmp_path / "given", lambda file: file.write_bytes(data) and None)

    check()


@both(["settings in TOML", *TABLES, *LINES, *IMAGES, *OTHERS])
def test_any_bytes(reader: str, most: Any, good: Any, tmp_path: Path) -> None:
    _, file = READERS[reader].make(good, tmp_path / "good")

    @most
    @given(st.one_of(bytes_like(file.read_bytes()), st.binary(max_size=40)))
    def check(data: bytes) -> None:
        reads_or_tells(reader, good, tmp_path / "given", lambda file: file.write_bytes(data) and None)

    check()


@both(TENSORS)
def test_any_tensors(reader: str, most: Any, good: Any, tmp_path: Path) -> None:
    _, file = READERS[reader].make(good, tmp_path / "good")
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header, behind = json.loads(data[8:8 + length]), data[8 + length:]

    def with_header(value: Any) -> bytes:
        words = as_json(value)
        return struct.pack("<Q", len(words)) + words + behind

    @most
    @given(st.one_of(values_like(header).map(with_header), bytes_like(data)))
    def check(data: bytes) -> None:
        reads_or_tells(reader, good, tmp_path / "given", lambda file: file.write_bytes(data) and None)

    check()


@pytest.mark.parametrize("most", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
def test_any_bundle(most: Any, good: Any, tmp_path: Path) -> None:
    """Whatever one file of a bundle holds, each line of the verdict says what holds, and nothing is raised."""
    pytest.importorskip("model_signing")
    from bundles import small_run

    from expunge.evidence.bundle import make_bundle
    from expunge.evidence.signing import Signer, Trust, make_keys
    from expunge.evidence.verify import verify_bundle

    private, public = make_keys(tmp_path / "keys")
    whole = make_bundle(small_run(good.model, tmp_path / "run"), tmp_path / "whole", signer=Signer(private)).folder
    names = sorted(file.relative_to(whole).as_posix() for file in whole.rglob("*") if file.is_file())

    @most
    @given(st.data())
    def check(data: st.DataObject) -> None:
        shutil.rmtree(tmp_path / "given", ignore_errors=True)
        shutil.copytree(whole, tmp_path / "given")
        file = tmp_path / "given" / data.draw(st.sampled_from(names))
        before = file.read_bytes()
        spoilt = data.draw(bytes_like(before)) if file.suffix != ".json" else \
            data.draw(st.one_of(bytes_like(before), values_like(json.loads(before)).map(as_json)))
        file.write_bytes(spoilt)
        lines = verify_bundle(tmp_path / "given", trust=Trust(key=public))
        assert spoilt == before or any(line.state == "fails" for line in lines)

    check()
