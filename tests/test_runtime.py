"""Devices, number types and processes: two processes give the records of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge import runtime
from expunge.errors import UserError
from expunge.models.cache import ImageCache
from expunge.models.store import load
from expunge.records import Prompt, Sampler
from launching import finished, launch

ITEMS = [(Prompt(text=text, role="near"), seed) for text in ("a church", "a dog") for seed in range(3)][:5]

WORKER = """
import json, os, sys
from pathlib import Path
from expunge import runtime
from expunge.models.cache import ImageCache
from expunge.models.store import load
from expunge.records import Prompt, Sampler

folder, root, out = sys.argv[1:]
processes = runtime.current("cpu")
items = [(Prompt(text=text, role="near"), seed) for text, seed in json.loads(os.environ["ITEMS"])]
model = load(folder, device="cpu")
shots, pixels = ImageCache(root).draw(model, items, Sampler(steps=2), batch=1, processes=processes)
mine = processes.shard(range(5))
gathered = processes.gather({i: {"item": i, "rank": processes.rank} for i in mine})
processes.barrier()
Path(out, f"{processes.rank}.json").write_text(json.dumps({
    "shots": [shot.model_dump(mode="json") for shot in shots], "sum": float(pixels.sum()), "gathered": gathered,
    "count": processes.count, "main": processes.main, "device": str(processes.device)}))
"""


def launched(count: int, *args: Path) -> list[dict[str, Any]]:
    """Run WORKER in `count` processes; what each wrote, by rank."""
    out = args[-1]
    out.mkdir()
    items = json.dumps([(prompt.text, seed) for prompt, seed in ITEMS])
    finished(launch(count, ["-c", WORKER, *map(str, args)], {"ITEMS": items}))
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(count)]


@pytest.mark.slow
def test_two_processes_give_the_records_of_one(pipeline_folder: Path, tmp_path: Path) -> None:
    two = launched(2, pipeline_folder, tmp_path / "two processes", tmp_path / "out")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the workers, so that not even rounding differs
    try:
        shots, pixels = ImageCache(tmp_path / "one process").draw(
            load(pipeline_folder, device="cpu"), ITEMS, Sampler(steps=2), batch=1)
    finally:
        torch.set_num_threads(threads)
    assert [told["shots"] for told in two] == [[shot.model_dump(mode="json") for shot in shots]] * 2
    assert [told["sum"] for told in two] == [float(pixels.sum())] * 2
    assert len(list((tmp_path / "two processes").rglob("*.png"))) == 5
    assert [told["gathered"] for told in two] == [[{"item": i, "rank": i % 2} for i in range(5)]] * 2
    assert [(told["count"], told["main"], told["device"]) for told in two] == [
        (2, True, "cpu"), (2, False, "cpu")]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_a_partition(count: int) -> None:
    cpu, items = torch.device("cpu"), list(range(5))
    shards = [runtime.Runtime(cpu, rank, count).shard(items) for rank in range(count)]
    assert sorted(item for shard in shards for item in shard) == items
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.slow
def test_one_process_gathers_in_order_without_accelerate() -> None:
    code = ("import sys; from expunge import runtime; assert 'torch' not in sys.modules; "
            "r = runtime.current('cpu'); r.barrier(); assert r.gather({2: 'c', 0: 'a', 1: None}) == ['a', None, 'c']; "
            "assert 'accelerate' not in sys.modules")
    env = {key: value for key, value in os.environ.items() if key != "WORLD_SIZE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_number_types() -> None:
    assert runtime.parse_dtype(None) == torch.float32
    assert runtime.parse_dtype("fp16") == runtime.parse_dtype("float16") == torch.float16
    assert runtime.parse_dtype(torch.bfloat16) == torch.bfloat16
    for bad in ("float8", "", torch.int64):
        with pytest.raises(UserError, match=r"unknown number type .*accepted: float32"):
            runtime.parse_dtype(bad)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert runtime.current().device == runtime.current("cpu").device == torch.device("cpu")
    with pytest.raises(UserError, match=r"'cuda' is not there; accepted: on this machine: auto, cpu"):
        runtime.current("cuda")
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        runtime.current("gpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="device 'cuda:0' with 2 processes"):
        runtime.current("cuda:0")


def test_versions_and_machine_say_what_a_record_needs() -> None:
    assert set(runtime.versions()) == {"expunge", "torch", "diffusers", "transformers", "python"}
    assert runtime.versions()["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert runtime.machine(torch.device("cpu")).endswith("cores, cpu")
