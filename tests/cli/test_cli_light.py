"""Verbs that read records load no torch, and help no library that draws."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from expunge.cli import VERBS

SCRIPT = ("import sys; from expunge.cli import run; code = run(sys.argv[1:]); "
          "heavy = {'torch', 'diffusers', 'transformers'} & set(sys.modules); "
          "sys.exit(f'loaded {heavy}' if heavy else code)")


def light(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    from expunge.records import Evaluation, PatchCard, Request, Sampler, Score

    request = Request(concept="church", prompts=("a church",))
    card = PatchCard(request=request, base="b", base_hash="h", method="esd", settings={}, tensors=(), tensors_hash="t",
                     seed=0)
    score = Score(name="found/all", title="found", value=0.0, n=9, numerator=0, subject="edited")
    made = Evaluation(card=card, model="m", model_hash="h", sampler=Sampler(), scores=(score,))
    (tmp_path / "evaluation.json").write_text(made.model_dump_json(), encoding="utf-8")
    return tmp_path


def test_report_reads_json(evaluation: Path) -> None:
    pytest.importorskip("matplotlib")
    assert "report.html" in light("report", str(evaluation))


def test_show_reads_json(evaluation: Path) -> None:
    assert "found/all" in light("show", str(evaluation))


def test_show_reads_the_card_of_a_patch_and_leaves_its_tensors(patch: Path, tmp_path: Path) -> None:
    assert "concept: church" in light("show", str(patch))
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((patch / "patch.safetensors").read_bytes())
    assert json.loads(light("show", str(alone), "--json"))["request"]["concept"] == "church"


def test_cache_and_lists_are_light(tmp_path: Path) -> None:
    assert "folder:" in light("cache", "--cache", str(tmp_path))
    assert "esd" in light("ls", "methods")


def test_show_verify_refuses_a_damaged_patch(patch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    from expunge.cli import run

    copy = Path(shutil.copytree(patch, tmp_path / "patch"))
    file = copy / "patch.safetensors"
    held = bytearray(file.read_bytes())
    held[-1] ^= 1
    file.write_bytes(held)
    assert run(["show", str(copy)]) == 0
    assert run(["show", str(copy), "--verify"]) == 2
    assert "damaged" in capsys.readouterr().err


HEAVY = ("torch", "diffusers", "transformers", "scipy", "matplotlib")
HELPS = f"""
import contextlib, io, sys
from expunge.cli import run
for verb in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()):
        code = run([verb, "--help"])
    print(verb, code, *[name for name in {HEAVY!r} if name in sys.modules])
"""
WITH_TORCH = ("erase", "push", "bake", "sequence")


def said(*verbs: str) -> list[list[str]]:
    done = subprocess.run([sys.executable, "-c", HELPS, *verbs], capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


def test_help_loads_nothing_heavy() -> None:
    verbs = [verb for verb in VERBS if verb not in WITH_TORCH]
    assert said(*verbs) == [[verb, "0"] for verb in verbs]


@pytest.mark.slow
@pytest.mark.parametrize("verb", WITH_TORCH)
def test_help_that_lists_a_methods_settings_loads_torch_alone(verb: str) -> None:
    assert said(verb) == [[verb, "0", "torch"]]
