"""A bench that asks a published protocol: every whole edit is asked once, and its table compares the methods."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from colour_world import attacked_world

from expunge.bench.run import TABLES, run_bench
from expunge.bench.settings import BenchSettings
from expunge.config import merged
from expunge.errors import ConfigError, UserError
from expunge.protocols.answers import Answers
from expunge.protocols.wipe import wipe

sys.path.insert(0, str(Path(__file__).parents[1] / "protocols"))
from given import classifier, protocol, table


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(protocol()), encoding="utf-8")
    files = {"prompts": table(tmp_path / "list.csv", [{"prompt": f"a church {i}", "s": i} for i in range(3)]),
             "classifier": classifier(tmp_path / "network", ("church", "house"))}
    return {"protocol": str(file), "files": {role: str(path) for role, path in files.items()}}


@pytest.mark.slow
def test_every_edit_is_asked_and_asked_once(small: dict[str, Any], asked: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = BenchSettings.build(merged(small, {"protocols": [asked], "attack": None, "seeds": [0]}))
    run_bench(settings, out=out, world=attacked_world())
    text = (out / TABLES).read_text(encoding="utf-8")
    assert "| none (the original) |" in text
    assert "| esd | 1 |" in text
    assert "| stronger | 1 |" in text
    records = [*out.glob("cells/*/*/*/protocol-small/protocol.json")]
    assert len(records) == 2
    assert len(Answers(out / "originals" / "protocol-small")) == 3  # three images, whatever the number of edits
    assert all({one.subject for one in Answers(file.parent)} == {"edited"} for file in records)
    before = [file.stat().st_mtime_ns for file in records]
    run_bench(settings, out=out, world=attacked_world())
    assert [file.stat().st_mtime_ns for file in records] == before


def test_another_list_is_no_result_of_this_one(small: dict[str, Any], asked: dict[str, Any], tmp_path: Path) -> None:
    """Under a label of its own it is asked; in the place of the first it is refused by what differs."""
    other = {**asked, "files": {**asked["files"], "prompts": str(table(tmp_path / "other.csv", [
        {"prompt": "a dog", "s": 1}]))}}
    one = merged(small, {"attack": None, "seeds": [0], "methods": small["methods"][:1]})
    with pytest.raises(ConfigError, match="two protocols are called small"):
        BenchSettings.build(merged(one, {"protocols": [asked, other]}))
    out = tmp_path / "out"
    both = BenchSettings.build(merged(one, {"protocols": [asked, {**other, "label": "dogs"}]}))
    run_bench(both, out=out, world=attacked_world())
    tables = (out / TABLES).read_text(encoding="utf-8").split("### ")[1:]
    assert [text.splitlines()[0] for text in tables] == ["small", "dogs (small)"]
    assert ["n 3" in text for text in tables] == [True, False]
    with pytest.raises(UserError, match="files"):
        run_bench(BenchSettings.build(merged(one, {"protocols": [other]})), out=out, world=attacked_world())


def test_what_was_wiped_stays_so_when_the_bench_goes_on(small: dict[str, Any], asked: dict[str, Any], tmp_path: Path
                                                        ) -> None:
    out = tmp_path / "out"
    settings = BenchSettings.build(merged(small, {"protocols": [asked], "attack": None, "seeds": [0],
                                                  "methods": small["methods"][:1]}))
    run_bench(settings, out=out, world=attacked_world())
    place, = out.glob("cells/*/*/*/protocol-small")
    assert wipe(place, texts=True)["rows"] == 3
    before = {file: file.read_bytes() for file in place.rglob("*") if file.is_file()}
    run_bench(settings, out=out, world=attacked_world())
    assert {file: file.read_bytes() for file in place.rglob("*") if file.is_file()} == before


def test_a_missing_file_is_told_before_any_edit_is_made(small: dict[str, Any], asked: dict[str, Any], tmp_path: Path
                                                        ) -> None:
    lacking = {**asked, "files": {"classifier": asked["files"]["classifier"]}}
    with pytest.raises(UserError, match="prompts"):
        run_bench(BenchSettings.build(merged(small, {"protocols": [lacking]})), out=tmp_path / "out",
                  world=attacked_world())
    assert not [*(tmp_path / "out").rglob("patch.safetensors")]


def test_the_products_own_protocol_is_a_mistake_of_the_file(small: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the product's own evaluation"):
        BenchSettings.build(merged(small, {"protocols": [{"protocol": "emoji"}]}))


def test_an_unknown_protocol_is_a_mistake_of_the_file(small: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no protocol 'i2p'"):
        BenchSettings.build(merged(small, {"protocols": [{"protocol": "i2p"}]}))
