"""Hostile and broken inputs as data: what is done to a good file, and what of it."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostile_readers import IMAGES, JSON, LINES, OTHERS, SETTINGS, TABLES, TENSORS

Spoil = Callable[[Path], None]
"""Does something to the file at a path, which is good."""
CODE = "code-ran"
"""The file that hostile code would make where it is run."""
ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202egnp.exe"


@dataclass(frozen=True)
class Hostile:
    """One input. Attributes: reader: its name in `READERS`; says: what the message must hold beside a file's name."""

    reader: str
    name: str
    spoil: Spoil
    says: str = ""

    @property
    def id(self) -> str:
        return f"{self.reader}: {self.name}"


class Runs:
    """What a pickle would do: make a file."""

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {CODE}",))


def holds(data: bytes | str) -> Spoil:
    def spoil(file: Path) -> None:
        file.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))

    return spoil


def replaced(by: Callable[[Path], None]) -> Spoil:
    def spoil(file: Path) -> None:
        file.unlink()
        by(file)

    return spoil


def changed(change: Callable[[bytes], bytes]) -> Spoil:
    return lambda file: holds(change(file.read_bytes()))(file)


def in_json(change: Callable[[Any], Any]) -> Spoil:
    return lambda file: holds(json.dumps(change(json.loads(file.read_text(encoding="utf-8")))))(file)


def _loop(file: Path) -> None:
    file.symlink_to(file.name)


ANY: dict[str, Spoil] = {
    "a folder in its place": replaced(Path.mkdir),
    "a pipe in its place": replaced(os.mkfifo),
    "a device without end in its place": replaced(lambda file: file.symlink_to("/dev/zero")),
    "a link to itself": replaced(_loop),
    "UTF-16 without a mark": changed(lambda data: data.decode("utf-8", "replace").encode("utf-16-le")),
    "no UTF-8": holds(b'{"a": "\xff\xfe\x80"}'),
    "a pickle": holds(pickle.dumps(Runs())),
    "NUL characters": holds(b"\0" * 4096),
}
OF_JSON: dict[str, Spoil] = {
    "empty": holds(""),
    "cut off": changed(lambda data: data[:len(data) // 2]),
    "lists 100,000 deep": holds("[" * 100_000),
    "closed lists 100,000 deep": holds("[" * 100_000 + "]" * 100_000),
    "objects 100,000 deep": holds('{"a":' * 100_000),
    "objects 300 deep": holds('{"a":' * 300 + "1" + "}" * 300),
    "null": holds("null"),
    "a number": holds("3"),
    "a number of 400 digits": holds("9" * 400),
    "a number of 5,000 digits": holds("[" + "9" * 5000 + "]"),
    "no number": holds("NaN"),
    "without end": holds("-Infinity"),
    "a list of lists": holds("[[[]]]"),
    "a key that acts on terminals": holds(json.dumps({ESCAPE: ESCAPE})),
    "a text that acts on terminals": holds(json.dumps([{"text": [ESCAPE]}], ensure_ascii=False)),
    "a key twice": holds('{"format": 1, "format": 1, "direct": ["a"], "direct": ["b"]}'),
    "half a character": holds('{"\\ud800": ["\\udfff"]}'),
    "100,000 unknown keys": holds(json.dumps({f"key {number}": number for number in range(100_000)})),
}
OF_RECORDS: dict[str, Spoil] = {
    "a version of tomorrow": in_json(lambda values: {**values, "format": 99}),
    "a version that is a text": in_json(lambda values: {**values, "format": "1"}),
    "a version of 400 digits": changed(lambda data: re.sub(b'"format": *1', b'"format":' + b"1" * 400, data)),
    "an unknown field": in_json(lambda values: {**values, ESCAPE: 1}),
    "a field twice": changed(lambda data: b'{"format": 1, ' + data[1:]),
}
WITH_FORMAT = ("evaluation.json", "attack.json", "sequence.json", "bench.json", "card", "mask", "ledger", "labels.json")
OF_SETTINGS: dict[str, Spoil] = {
    "billions of laughs": holds("a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(12))),
    "billions of merges": holds("a: &a {x: 1}\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} {{<<: [{', '.join([f'*{chr(97 + n)}'] * 9)}]}}\n" for n in range(12))),
    "an alias for what it stands in": holds("a: &a [*a]\n"),
    "a tag that runs code": holds(f'a: !!python/object/apply:os.system ["touch {CODE}"]\n'),
    "a tag of an object": holds("a: !!python/object:expunge.errors.UserError {}\n"),
    "a tag of a module": holds("a: !!python/module:antigravity\n"),
    "lists 100,000 deep": holds("a: " + "[" * 100_000),
    "blocks 5,000 deep": holds("".join(f"{' ' * n}a:\n" for n in range(1000))),
    "a number of 400 digits": holds("steps: " + "9" * 400 + "\n"),
    "a number of base 60": holds("steps: 1" + ":59" * 100_000 + "\n"),
    "a fraction of base 60": holds("steps: 1" + ":59" * 5_000 + ".5\n"),
    "no number": holds("steps: .nan\n"),
    "without end": holds("steps: -.inf\n"),
    "a key twice": holds("steps: 1\nsteps: 2\n"),
    "20,000 unknown keys": holds("".join(f"k{number}: 1\n" for number in range(20_000))),
    "three megabytes": holds("# " + "a" * 3_000_000),
    "a key that acts on terminals": holds(json.dumps({ESCAPE: ESCAPE})),
    "several documents": holds("---\na: 1\n---\nb: 2\n"),
    "a list at the top": holds("- a\n- b\n"),
    "a tab": holds("\ta: 1\n"),
    "a date without end": holds("a: 99999-99-99\n"),
    "a date that is none": holds("a: 2026-02-31\n"),
    "binary that is none": holds("a: !!binary '\u00e9'\n"),
    "a set of lists": holds("a: !!set {[1, 2]: }\n"),
    "an alias for nothing": holds("a: *nothing\n"),
    "a key that is a list": holds("? [a, b]\n: c\n"),
}
OF_TABLES: dict[str, Spoil] = {
    "empty": holds(""),
    "a quote that is never closed": holds('prompt\n"' + "a" * 1_000_000),
    "no column of texts": holds(f"{ESCAPE},b\n1,2\n"),
    "a million separators": holds("," * 1_000_000),
}


def header(words: str | bytes | Mapping[str, Any], behind: bytes = b"\0" * 64, length: int | None = None) -> Spoil:
    """A safetensors file with this header, which may say that it is longer."""
    text = words if isinstance(words, bytes) else (words if isinstance(words, str) else json.dumps(words)).encode()
    return holds(struct.pack("<Q", len(text) if length is None else length) + text + behind)


def tensor(begin: int, end: int, shape: list[int] | None = None, kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": [4] if shape is None else shape, "data_offsets": [begin, end]}


OF_TENSORS: dict[str, Spoil] = {
    "empty": holds(""),
    "cut off": changed(lambda data: data[:len(data) // 2]),
    "cut off in the header": changed(lambda data: data[:40]),
    "a byte more": changed(lambda data: data + b"\0"),
    "a header of 2 GB": header("{}", length=2**31),
    "a header of 2**64": header("{}", length=2**64 - 1),
    "a header of nothing": header("", length=0),
    "no JSON in the header": header("{{{{"),
    "a list as header": header("[1, 2]"),
    "lists 100,000 deep as header": header("[" * 100_000),
    "a header that is no UTF-8": header(b'{"\xff": 1}'),
    "overlapping tensors": header({"a": tensor(0, 16), "b": tensor(8, 24)}),
    "a hole between tensors": header({"a": tensor(0, 16), "b": tensor(32, 48)}),
    "offsets behind the end": header({"a": tensor(0, 2**62, [2**60])}),
    "an offset of 400 digits": header('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, ' + "9" * 400 + "]}}"),
    "offsets the wrong way": header({"a": tensor(16, 0)}),
    "a shape that overflows": header({"a": tensor(0, 16, [2**40, 2**40])}),
    "a negative shape": header({"a": tensor(0, 16, [-4])}),
    "a number type of nobody's": header({"a": tensor(0, 16, kind="F37")}),
    "a tensor twice": header('{"a": ' + json.dumps(tensor(0, 16)) + ', "a": ' + json.dumps(tensor(0, 16)) + "}",
                             b"\0" * 16),
    "metadata that is no text": header({"__metadata__": {"a": 1}, "b": tensor(0, 16)}, b"\0" * 16),
    "another program's tensor": header({ESCAPE: tensor(0, 16)}, b"\0" * 16),
    "numbers of four bits": header({"a": tensor(0, 16, [32], "F4")}, b"\0" * 16),
    "whole numbers": header({"a": tensor(0, 16, kind="I32")}, b"\0" * 16),
    "no tensors": header("{}", b""),
    "a scalar": header({"a": tensor(0, 4, [])}, b"\0" * 4),
    "a zipped pickle": lambda file: holds(_zipped({"archive/data.pkl": pickle.dumps(Runs())}))(file),
}


def _zipped(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return out.getvalue()


def png(width: int, height: int, rows: int = 0, kind: int = 2, more: bytes = b"") -> bytes:
    """A PNG that says it is so large, with so many rows in it."""
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    body = zlib.compress(b"\0" * rows * (1 + 3 * width), 9) if rows else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", body) + chunk(b"IEND", b"")


EPS = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n(%pipe%touch {CODE}) (w) file\nshowpage\n"
OF_IMAGES: dict[str, Spoil] = {
    "empty": holds(""),
    "more pixels than any memory": holds(png(2**31 - 1, 2**31 - 1)),
    "a hundred million pixels": holds(png(20_000, 20_000)),
    "no pixels": holds(png(0, 0)),
    "colours of no kind": holds(png(16, 16, 16, kind=7)),
    "cut off": changed(lambda data: data[:40]),
    "a wrong checksum": changed(lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:]),
    "a program in PostScript": holds(EPS),
    "a page of script": holds('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
    "zeros that were packed": holds(gzip.compress(b"\0" * 50_000_000)),
}


def _index(change: Callable[[dict[str, str]], dict[str, Any]]) -> Spoil:
    return in_json(lambda values: {**values, "weight_map": change(values["weight_map"])})


def _elsewhere(to: Callable[[Path], str]) -> Spoil:
    """An index that names a file elsewhere, which is there."""
    def spoil(file: Path) -> None:
        values = json.loads(file.read_text(encoding="utf-8"))
        first = next(iter(values["weight_map"].values()))
        outside = file.parent.parent.parent / first
        shutil.move(file.parent / first, outside)
        places = {name: to(outside) if at == first else at for name, at in values["weight_map"].items()}
        holds(json.dumps({**values, "weight_map": places}))(file)

    return spoil


def _pickled_shard(file: Path) -> None:
    values = json.loads(file.read_text(encoding="utf-8"))
    (file.parent / "weights.bin").write_bytes(pickle.dumps(Runs()))
    holds(json.dumps({**values, "weight_map": dict.fromkeys(values["weight_map"], "weights.bin")}))(file)


OF_INDICES: dict[str, Spoil] = {
    "a shard above the folder": _elsewhere(lambda file: f"../../{file.name}"),
    "a shard by its absolute path": _elsewhere(str),
    "a shard that is a pickle": _pickled_shard,
    "a shard that is not there": _index(lambda places: dict.fromkeys(places, "gone.safetensors")),
    "shards that are numbers": _index(lambda places: dict.fromkeys(places, 1)),
    "a name that acts on terminals": _index(lambda places: dict.fromkeys(places, f"../{ESCAPE}.safetensors")),
    "a device as shard": _index(lambda places: dict.fromkeys(places, "/dev/zero")),
}


def _component(name: str, value: Any) -> Spoil:
    return in_json(lambda values: {**values, name: value})


def _own_code(name: str, module: str) -> Spoil:
    """A component by a module of the folder's own."""
    def spoil(file: Path) -> None:
        (file.parent / name / f"{module}.py").write_text(
            f"open({CODE!r}, 'w').close()\nclass Own:\n    pass\n", encoding="utf-8")
        _component(name, [module, "Own"])(file)

    return spoil


def _auto_map(file: Path) -> None:
    (file.parent / "text_encoder" / "own.py").write_text(f"open({CODE!r}, 'w').close()\n", encoding="utf-8")
    config = file.parent / "text_encoder" / "config.json"
    in_json(lambda values: {**values, "model_type": "own", "auto_map": {"AutoModel": "own.Own",
                                                                      "AutoConfig": "own.Own"}})(config)
    _component("text_encoder", ["transformers", "AutoModel"])(file)


OF_MODELS: dict[str, Spoil] = {
    "a module of the folder's own": _own_code("unet", "own_unet"),
    "a module of Python's": _component("unet", ["antigravity", "Own"]),
    "a module by a dotted name": _component("unet", ["os.path", "join"]),
    "code of the folder's own for transformers": _auto_map,
    "a pipeline of the folder's own": _component("_class_name", ["own_pipeline", "Own"]),
    "a pipeline of nobody's": _component("_class_name", ESCAPE),
    "no class of a pipeline": _component("_class_name", None),
    "a component of three parts": _component("unet", ["diffusers", "UNet2DConditionModel", "more"]),
    "a component that is a number": _component("unet", [1, 2]),
    "a component that is a function": _component("unet", ["diffusers", "is_torch_available"]),
}
OF_CONFIGS: dict[str, Spoil] = {
    "code of the Hub for its attention": in_json(lambda values: {**values, "attn_implementation": "owned/kernel"}),
    "a size of 400 digits": in_json(lambda values: {**values, "cross_attention_dim": 10**399, "hidden_size": 10**399}),
    "negative sizes": in_json(lambda values: {**values, "cross_attention_dim": -1, "hidden_size": -1}),
    "sizes that are texts": in_json(lambda values: {**values, "cross_attention_dim": "32", "hidden_size": "32"}),
}


def _expressions(expression: str) -> Spoil:
    return holds(json.dumps({"target_modules": expression}))


OF_EXPRESSIONS: dict[str, Spoil] = {
    "repeated groups": _expressions(r"(a+)+$"), "many choices": _expressions(r"(.*a){30}"),
    "wildcards in a row": _expressions(r".*.*.*.*.*.*x"), "no expression": _expressions("("),
    "a name of a megabyte": _expressions("a" * 1_000_000), "deep groups": _expressions("(" * 5000 + ")" * 5000),
    "a repetition without end": _expressions("a{1,99999999999}"),
}
OTHER: dict[str, dict[str, Spoil]] = {
    "index of shards": OF_INDICES, "index of what users return": OF_INDICES, "model index": OF_MODELS,
    "config of the network": OF_CONFIGS, "config of the text encoder": OF_CONFIGS, "lora config": OF_EXPRESSIONS,
    "pickled array": {"empty": holds(""), "a bomb of copies": holds(b"(" + b"K\x012" * 10_000 + b"t."),
                      "memory of 400 digits": holds(b"p" + b"9" * 400 + b"\n."),
                      "an array larger than its data": holds(
                          b"\x80\x04cnumpy.core.numeric\n_frombuffer\n(C\x00cnumpy\ndtype\n(X\x02\x00\x00\x00f4"
                          b"tR(J\xff\xff\xff\x7ftX\x01\x00\x00\x00CtR.")}}

FINE = {(reader, name) for reader in ("scheduler", "tokenizer's config", "config of the network",
                                      "config of the text encoder")
        for name in ("100,000 unknown keys", "a key that acts on terminals", "half a character")} | {
    ("a classifier's weights", "a scalar"), ("prompts.txt", "no column of texts")}
"""What the libraries make nothing of: keys of a component's config that they do not know; a tensor that is nothing to
this reader, which whoever asks for it by name refuses. And a text has no columns: each of its lines is a prompt."""


def table() -> list[Hostile]:
    """Every input."""
    out = []
    for readers, spoils in ((JSON, OF_JSON), (SETTINGS, OF_SETTINGS), (TABLES, OF_TABLES), (TENSORS, OF_TENSORS),
                            (IMAGES, OF_IMAGES), (LINES, {"objects 100,000 deep": OF_JSON["objects 100,000 deep"],
                                                          "a key twice": OF_JSON["a key twice"]}), (OTHERS, {})):
        for reader in readers:
            more = {**OTHER.get(reader, {}), **(OF_RECORDS if reader in WITH_FORMAT else {})}
            out += [Hostile(reader, name, spoil) for name, spoil in {**ANY, **spoils, **more}.items()]
    return out
