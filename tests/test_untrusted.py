"""The door for other people's files: its bounds, and that the package has no other."""

from __future__ import annotations

import ast
import json
import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from expunge import untrusted
from expunge.untrusted import Unreadable

SOURCE = Path(untrusted.__file__).parent


@pytest.mark.parametrize("call", [untrusted.content, untrusted.text, untrusted.json_of, untrusted.all_tensors,
                                  untrusted.tensors_header, untrusted.opened_tensors])
@pytest.mark.parametrize("place", ["folder", "pipe", "device", "nothing", "a\0b"])
def test_nothing_but_a_regular_file_is_opened(call: Callable[[Path], Any], place: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    with pytest.raises(OSError, match=r"folder|no regular file|No such file|null byte"):
        call(tmp_path / place)


def test_what_is_no_file_does_not_pass_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    assert untrusted.there(tmp_path / "loop")
    assert untrusted.there(tmp_path / "folder")
    assert not untrusted.there(tmp_path / "nothing")


def test_a_text_is_no_larger_than_it_may_be(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"a" * 100)
    assert untrusted.text(file, most=100) == "a" * 100
    with pytest.raises(Unreadable, match="more than"):
        untrusted.text(file, most=99)


def test_ends_of_lines_are_pythons(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"a\r\nb\rc\n\xc2\x85d")
    assert untrusted.text(file) == "a\nb\nc\n\x85d" == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("value", [None, 1, -2.5, "a", [], {}, {"a": [1, {"b": None}]}, 10**99])
def test_json_is_read_as_it_is_written(value: Any) -> None:
    assert untrusted.json_in(json.dumps(value)) == value
    assert untrusted.json_in(json.dumps(value).encode()) == value


@pytest.mark.parametrize(("words", "says"), [
    ("", "Expecting value"), ("[" * 100_000, "deep"), ("[" * 200 + "]" * 200, "deep"), ('{"a": 1, "a": 1}', "'a'"),
    ("1" * 101, "101 digits"), ("-" + "1" * 101, "digits"), (b"\xff\xfe\xff", "codec"), ("1 2", "Extra data")])
def test_json_has_bounds(words: str | bytes, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        untrusted.json_in(words)


def test_a_hundred_levels_are_read() -> None:
    deepest = untrusted.MOST_DEEP
    assert untrusted.json_in("[" * deepest + "]" * deepest)
    with pytest.raises(Unreadable, match="deep"):
        untrusted.json_in("[" * (deepest + 1) + "]" * (deepest + 1))


@pytest.mark.parametrize(("words", "value"), [
    ("", None), ("a: 1", {"a": 1}), ("a: &x [1, 2]\nb: *x\n", {"a": [1, 2], "b": [1, 2]}),
    ("base: &b {x: 1, y: 2}\nmine: {<<: *b, y: 3}\n", {"base": {"x": 1, "y": 2}, "mine": {"x": 1, "y": 3}}),
    ('1: a\n"1": b\n', {1: "a", "1": "b"}), ("a: " + "x" * 500, {"a": "x" * 500})])
def test_yaml_is_read_with_its_aliases(words: str, value: Any) -> None:
    assert untrusted.yaml_in(words) == value


@pytest.mark.parametrize(("words", "says"), [
    ("a: &a [*a]", "stands in"), ("a: !!python/name:os.system ''", "python/name"), ("a: 1\nb: 2\na: 3", "'a'"),
    ("a: " + "1" * 101, "digits"), ("a: 1" + ":00" * 60, "digits"), ("# " + "x" * 3_000_000, "2 MB"),
    ("a: " + "[" * 10_000, "deep"), ("a: b: c", "mapping values")])
def test_yaml_has_bounds(words: str, says: str) -> None:
    with pytest.raises(Unreadable, match=re.escape(says)):
        untrusted.yaml_in(words)


def test_aliases_count_as_often_as_they_stand_there() -> None:
    def doubled(times: int) -> str:
        return "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, times))

    assert len(untrusted.yaml_in(doubled(10))) == 10
    with pytest.raises(Unreadable, match="aliases"):
        untrusted.yaml_in(doubled(40))


@pytest.mark.parametrize(("words", "says"), [("a = 1\na = 2", "overwrite"), ("a = " + "1" * 101, "digits"),
                                             ("a = " + "[" * 10_000, "deep"), ("x" * 3_000_000, "2 MB")])
def test_toml_has_bounds(words: str, says: str) -> None:
    assert untrusted.toml_in("a = {b = [1]}") == {"a": {"b": [1]}}
    with pytest.raises(Unreadable, match=says):
        untrusted.toml_in(words)


def test_tensors_are_read_and_damage_is_told(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file({"a": torch.arange(4.0)}, file, {"b": "c"})
    assert untrusted.all_tensors(file)["a"].tolist() == [0, 1, 2, 3]
    assert untrusted.tensors_header(file)["__metadata__"] == {"b": "c"}
    assert list(untrusted.opened_tensors(file).keys()) == ["a"]
    file.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    for call in (untrusted.all_tensors, untrusted.tensors_header, untrusted.opened_tensors):
        with pytest.raises(Unreadable):
            call(file)


ONE = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'


@pytest.mark.parametrize(("header", "says"), [
    (f'{{"a": {ONE}, "a": {ONE}}}', "'a' stands there twice"), (f'{{"a\\u001b[2J": {ONE}}}', r"'a\\x1b\[2J'"),
    (f'{{"{"a" * 1001}": {ONE}}}', r"a\.\.\.'")], ids=["twice", "acts on terminals", "long"])
def test_a_tensor_is_named_once_and_as_networks_are(header: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header.encode() + b"\0" * 4)
    for call in (untrusted.all_tensors, untrusted.opened_tensors):
        with pytest.raises(Unreadable, match=says):
            call(file)
    save_file({"a": torch.zeros(1)}, file)
    assert untrusted.opened_tensors(file).keys() == ["a"]


def test_weights_are_plain_numbers() -> None:
    plain = {"a.weight": "BF16", "a.bias": "torch.float8_e5m2", "batches": "I64", "mask": "torch.bool"}
    assert untrusted.unlike_weights(plain) == ""
    for name, kind in (("a.weight", "I64"), ("a.weight", "bool"), ("a", "I32"), ("a", "F4"), ("a", "torch.uint8")):
        why = f"{name!r} is in {kind.removeprefix('torch.')}, as no weights are"
        assert untrusted.unlike_weights({**plain, name: kind}) == why


def test_an_error_of_a_tensor_that_is_not_there_is_told_within(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file({"a": torch.arange(4.0)}, file)
    with pytest.raises(Unreadable), untrusted.tensors(file) as opened:
        opened.get_tensor("b")


@pytest.mark.parametrize(("data", "says"), [(b"", "empty"), (b"GIF89a" + b"\0" * 20, "no PNG"),
                                            (b"\x89PNG\r\n\x1a\n", "broken")])
def test_an_image_that_is_none_is_told(data: bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(data)
    with pytest.raises(Unreadable, match=says), untrusted.image(file):
        pass


def test_an_image_has_no_more_pixels_than_it_may(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (10, 10)).save(file)
    with untrusted.image(file, most_pixels=100) as opened:
        assert opened.size == (10, 10)
    with pytest.raises(Unreadable, match="more than 99 pixels"), untrusted.image(file, most_pixels=99):
        pass


def test_an_image_of_a_format_that_pil_knows_besides_is_none(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (10, 10)).save(file, format="TIFF")
    with pytest.raises(Unreadable, match="no PNG, JPEG or WebP"), untrusted.image(file):
        pass


@pytest.mark.parametrize("words", ["a | b", "<script>", "a\nb", "[a](b)", "`a`", "# a", "~~a~~", "$a$", "a\\|b"])
def test_markdown_is_one_cell(words: str) -> None:
    shown = untrusted.in_markdown(words)
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`\[\]#~$]|[\n<]", shown)


OTHERS = {
    "json": ("load", "loads"), "yaml": ("load", "safe_load", "full_load", "unsafe_load", "load_all", "safe_load_all"),
    "tomllib": ("load", "loads"), "Image": ("open",), "torch": ("load",), "np": ("load", "fromfile", "memmap"),
    "pickle": ("load", "loads", "Unpickler"), "safetensors": ("safe_open",),
    "": ("safe_open", "load_file", "eval", "exec")}
"""Functions that read what somebody else may have made, by the name before their dot."""
METHODS = ("read_text", "read_bytes")
OWN = "json.loads of what it has just made itself"
MAY = {
    "untrusted.py": "the door", "guard/verify.py": OWN, "resume.py": OWN, "report/card.py": OWN,
    "evidence/bundle.py": OWN, "evidence/statement.py": OWN, "models/identity.py": OWN, "models/reading.py": OWN,
    "files.py": "the lines of a file that grows by them", "runtime.py": "files of processes and of the machine",
    "bench/memory.py": "/proc", "unlearn/footprint.py": "/proc", "report/page.py": "the package's own templates",
    "cli/ls.py": "the package's own source", "ui/server.py": "the package's own page",
    "registry/table.py": "entry points of installed packages", "detectors/preprocess.py": OWN,
    "tiny/pictures.py": "pictures to bake with",
}
"""Files with readers of their own, and what these read."""


def readers(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in OTHERS[""]:
            yield f"{node.func.id} in line {node.lineno}"
        elif isinstance(node.func, ast.Attribute):
            before = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            if node.func.attr in METHODS or (before and node.func.attr in OTHERS.get(before, ())):
                yield f"{before or '...'}.{node.func.attr} in line {node.lineno}"


@pytest.mark.parametrize("file", [file for file in sorted(SOURCE.rglob("*.py")) if "bake" not in file.parts],
                         ids=lambda file: file.relative_to(SOURCE).as_posix())
def test_other_peoples_files_are_read_by_the_door_alone(file: Path) -> None:
    name = file.relative_to(SOURCE).as_posix()
    found = list(readers(file))
    assert not found or name in MAY, f"{name} reads by {'; '.join(found)}: use expunge.untrusted"
    assert name not in MAY or found, f"{name} has no reader of its own any more: take it out of the list"
