"""Two processes under a launcher give the table of one; verbs that cannot be shared out say so before they work."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from given import classifier, protocol, small_patch, table

from expunge.attacks.cases import recheck
from expunge.cli import run
from expunge.errors import UserError
from expunge.protocols.schema import Protocol
from expunge.protocols.supplied import score_folder
from expunge.tiny.emoji import emoji_world
from tiny_clip import tiny_clip

PLAIN = [sys.executable, "-m", "expunge"]


def launched() -> list[str]:
    """The same in two processes under `torchrun`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port), "-m",
            "expunge"]


@pytest.fixture
def asked(model: Any, pipeline_folder: Path, tmp_path: Path) -> list[str]:
    """Arguments of a run with scores over answers, over images and over pairs of them."""
    values = protocol()
    values["scores"] += [
        {"name": "clip", "formula": "clip-score", "artefacts": {"clip": {"role": "clip", "what": "a CLIP"}}},
        {"name": "apart", "formula": "distance", "options": {"distance": "ssim"}}]
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    small_patch(model).save(tmp_path / "patch")
    files = {"prompts": table(tmp_path / "list.csv", [{"prompt": f"a church {i}", "s": i} for i in range(7)]),
             "classifier": classifier(tmp_path / "network", ("church", "house")),
             "clip": tiny_clip(pipeline_folder, tmp_path / "clip")}
    given = [word for role, path in files.items() for word in ("--file", f"{role}={path}")]
    return ["evaluate", str(tmp_path / "patch"), "--model", str(pipeline_folder), "--device", "cpu", "--protocol",
            str(tmp_path / "small.yaml"), "--batch", "2", *given]


def shell(command: list[str]) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_processes_give_the_table_of_one(asked: list[str], tmp_path: Path) -> None:
    one = shell([*PLAIN, *asked, "--out", str(tmp_path / "one")])
    two = shell([*launched(), *asked, "--out", str(tmp_path / "two")])
    assert two.replace(str(tmp_path / "two"), str(tmp_path / "one")) == one  # and it is printed once
    records = [json.loads((tmp_path / name / "protocol.json").read_text(encoding="utf-8")) for name in ("one", "two")]
    for record in records:
        assert record.pop("created")
        del record["seconds"]
    assert records[0] == records[1]
    for name in ("protocol.md", "protocol.csv", "rows.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    shares = [len(file.read_bytes().splitlines()) for file in sorted((tmp_path / "two").glob("answers/*"))]
    assert shares == [8, 6]  # four batches of two rows (the last of one), two images each, and the other the others


@pytest.mark.parametrize("words", [["relearn", "patch"], ["sequence", "requests.yaml"],
                                   ["score", "images", "--protocol", "small.yaml"]])
def test_a_verb_that_cannot_be_shared_out_says_so_first(words: list[str], monkeypatch: pytest.MonkeyPatch,
                                                        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.chdir(tmp_path)
    assert run([*words, "--out", "out"]) == 2
    assert f"expunge {words[0]} under a launcher of 2 processes" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_so_do_the_functions_behind_them(model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    asked = Protocol.build(protocol())
    with pytest.raises(UserError, match="asking cases again under a launcher"):
        recheck(model, small_patch(model), [], emoji_world())
    with pytest.raises(UserError, match="scoring a folder under a launcher"):
        score_folder(tmp_path, asked, out=tmp_path / "score")
