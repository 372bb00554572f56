"""The help of every verb: light, with examples that are true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from expunge.cli import VERBS, expunge, run


def test_help_is_light() -> None:
    script = ("import sys; from expunge.cli import run; code = run(['--help']); "
              "heavy = {'torch', 'diffusers', 'transformers', 'pydantic', 'rich', 'yaml'} & set(sys.modules); "
              "sys.exit(f'loaded {heavy}' if heavy else code)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in VERBS)


def test_import_is_light() -> None:
    script = "import sys, expunge; sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_ends_its_help_with_two_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    _, _, examples = capsys.readouterr().out.partition("Examples:")
    assert len(re.findall(rf"^\s*\$ expunge {verb}\b", examples, re.MULTILINE)) == 2


@pytest.mark.parametrize("verb", VERBS)
def test_examples_show_what_is_printed(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No prose in brackets; what `demo`, `evaluate` and `show` share is an excerpt of docs/measured.md."""
    from expunge.cli.output import MEASURED

    assert run([verb, "--help"]) == 0
    _, _, examples = capsys.readouterr().out.partition("Examples:")
    assert not re.findall(r"^\s*\(.*", examples, re.MULTILINE)
    assert verb not in {"demo", "evaluate", "show"} or " ".join(MEASURED.split()) in " ".join(examples.split())
    readme = " ".join((Path(__file__).parents[2] / "docs" / "measured.md").read_text(encoding="utf-8").split())
    prose, table = MEASURED.split("[...]")[:2]
    for piece in (prose, table.splitlines()[1], table.splitlines()[2]):
        assert " ".join(piece.split()) in readme


@pytest.mark.parametrize("verb", VERBS)
def test_examples_use_flags_that_exist(verb: str) -> None:
    import shlex

    import click

    command = expunge.get_command(click.Context(expunge), verb)
    assert command is not None
    for line in re.findall(r"\$ expunge (\w+) ?(.*)", command.epilog or ""):
        command.make_context(verb, shlex.split(line[1]))  # raises on an unknown flag or a missing argument


def test_ls_prints_what_its_help_says(capsys: pytest.CaptureFixture[str]) -> None:
    from expunge.cli.ls import EXAMPLES

    for block in EXAMPLES.split("$ expunge ")[1:]:
        first, *rest = block.replace("\b", "").splitlines()
        assert run(first.split()) == 0
        assert [line.strip() for line in capsys.readouterr().out.splitlines()] == \
            [line.strip() for line in rest if line.strip()]
