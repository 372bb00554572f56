"""What a verb's help loads: whoever reads it does not wait for libraries that draw."""

from __future__ import annotations

import subprocess
import sys

import pytest

from expunge.cli import VERBS

HEAVY = ("torch", "diffusers", "transformers", "scipy", "matplotlib")
SCRIPT = f"""
import contextlib, io, sys
from expunge.cli import run
for verb in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()):
        code = run([verb, "--help"])
    print(verb, code, *[name for name in {HEAVY!r} if name in sys.modules])
"""
WITH_TORCH = ("erase", "push", "bake")
SLOW = ("sequence",)
"""Its settings hold those of the methods that hold on to earlier edits, which load all of training."""


def said(*verbs: str) -> list[list[str]]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, *verbs], capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


def test_help_loads_nothing_heavy() -> None:
    verbs = [verb for verb in VERBS if verb not in (*WITH_TORCH, *SLOW)]
    assert said(*verbs) == [[verb, "0"] for verb in verbs]


@pytest.mark.parametrize("verb", WITH_TORCH)
def test_help_that_lists_a_methods_settings_loads_torch_alone(verb: str) -> None:
    assert said(verb) == [[verb, "0", "torch"]]
