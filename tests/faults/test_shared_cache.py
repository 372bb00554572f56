"""A cache of images that several processes draw into at once, one of which is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DRAWING = """
import hashlib, json, os, signal, sys
from expunge.models.cache import ImageCache
from expunge.models.store import load
from expunge.records import Prompt, Sampler

folder, cache, say = sys.argv[1:]
items = [(Prompt(text=f"a church number {k}", role="direct"), k) for k in range(12)]

def draw(killed_at):
    def tell(done, total):
        if killed_at is not None and done >= killed_at:  # the others may have drawn up to there, and more
            os.kill(os.getpid(), signal.SIGKILL)
    shots, pixels = ImageCache(cache).draw(load(folder, device="cpu"), items, Sampler(steps=2), batch=3, progress=tell)
    return [shot.pixels for shot in shots], hashlib.sha256(pixels.numpy().tobytes()).hexdigest()

children = []
for number in range(4):
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.write(writing, json.dumps(draw(5 if number == 3 else None)).encode())
        os._exit(0)
    children.append((child, reading))
    os.close(writing)
ended = [(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.read(reading, 2**16).decode())
         for child, reading in children]
again = draw(None)
with open(say, "w") as file:
    json.dump([*ended, (0, json.dumps(again))], file)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_four_processes_see_the_same_images_and_one_that_is_killed_spoils_nothing(pipeline_folder: Path, tmp_path: Path
                                                                                  ) -> None:
    """They are forked from a process with one thread that has computed nothing, and load the model by themselves."""
    cache, said = tmp_path / "cache", tmp_path / "said.json"
    done = subprocess.run([sys.executable, "-c", DRAWING, str(pipeline_folder), str(cache), str(said)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ended = json.loads(said.read_text())
    assert [code for code, _ in ended] == [0, 0, 0, -signal.SIGKILL, 0]
    assert len({told for code, told in ended if not code}) == 1
    assert "damaged" not in done.stderr
    assert len(list(cache.rglob("*.png"))) == 12
    assert not [file for file in cache.rglob("*") if "part" in file.name]
