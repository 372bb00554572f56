"""What expunge tells people to do can be done: every command in a message, and every installation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement

from expunge import errors
from expunge.attacks.settings import AttackSettings
from expunge.cli import VERBS, expunge
from expunge.cli.next import evaluate_next
from expunge.errors import install

try:
    import tomllib
except ImportError:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "expunge"
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = {line.split("==")[0].lower(): line for line in CONSTRAINTS if "==" in line and not line.startswith("#")}


def texts() -> Iterator[tuple[str, str]]:
    """Every text in the source with where it stands; what is filled in is an X."""
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{file.relative_to(SOURCE)}:{node.lineno}", node.value
            elif isinstance(node, ast.JoinedStr):
                yield f"{file.relative_to(SOURCE)}:{node.lineno}", "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)


def named() -> list[tuple[str, str]]:
    """(where, command) of every command that a text names: in backticks, or after "next:" or "make one with"."""
    found = [(where, command) for where, text in texts()
             for command in re.findall(r"(?:`|next: )(expunge [a-z]+[^`\n]*)", text)]
    return list(dict.fromkeys(found))


def resolved(command: str) -> click.Command:
    """The click command behind the words; assertion if a word is none."""
    _, verb, *rest = command.split()
    assert verb in VERBS or verb == "X", command
    found = expunge.get_command(click.Context(expunge), verb)
    assert found is not None, command
    if isinstance(found, click.Group) and rest and not rest[0].startswith("-"):
        below = found.get_command(click.Context(found), rest[0].strip(".,;"))
        assert below is not None, command
        return below
    return found


def test_there_are_commands_to_check() -> None:
    assert len(named()) >= 10


@pytest.mark.parametrize(("where", "command"), [pair for pair in named() if pair[1].split()[1] != "X"
                                                and pair[1].split()[1] != "COMMAND"],
                         ids=lambda value: value if " " not in value else "")
def test_named_command_exists_with_its_flags(where: str, command: str) -> None:
    known = {flag for param in resolved(command).params for flag in (*param.opts, *param.secondary_opts)} | {"--help"}
    assert {*re.findall(r"--[a-z][a-z-]*", command)} <= known, where


def test_flags_in_remedies_are_flags_of_some_command() -> None:
    def walk(command: click.Command) -> Iterator[str]:
        if isinstance(command, click.Group):
            for name in command.list_commands(click.Context(command)):
                below = command.get_command(click.Context(command), name)
                assert below is not None
                yield from walk(below)
        for param in command.params:
            yield from (*param.opts, *param.secondary_opts)

    known = {*walk(expunge), "--help"}
    odd = []
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg in ("remedy", "accepted"):
                told = " ".join(str(part.value) for part in ast.walk(node.value) if isinstance(part, ast.Constant))
                odd += [(file.name, flag) for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", told)
                        if flag not in known]
    assert not odd


def test_installations_are_told_in_one_place() -> None:
    told = {where.split(":")[0] for where, text in texts() if re.search(r"pip install", text)}
    assert told == {"errors.py"}


def test_named_extras_exist_and_all_that_they_bring_is_pinned() -> None:
    asked = set()
    for file in SOURCE.rglob("*.py"):
        asked |= set(re.findall(r"install\([\"'](\w+)[\"']\)", file.read_text(encoding="utf-8")))
    assert asked == {"evidence", "fleet", "lpips", "lora", "nudenet", "protocols", "report", "second", "timm", "ui"}
    for extra in asked:
        for one in EXTRAS[extra]:
            need = Requirement(one)
            assert need.name.lower() in PINS, f"{need.name} of {extra} is not in constraints.txt"
            assert re.split(r"==| ;", PINS[need.name.lower()])[1] in need.specifier


def test_the_pinned_torchvision_is_the_pinned_torch_s() -> None:
    """torchvision 0.(n + 15) is made for torch 2.n, and for no other."""
    (torch,), (vision,) = (re.findall(rf"^{name}==[\d]+\.(\d+)\.", "\n".join(PINS.values()), re.MULTILINE)
                           for name in ("torch", "torchvision"))
    assert int(vision) == int(torch) + 15


def test_following_a_remedy_leaves_torch_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"'torch=={version('torch')}'" in install("lpips")
    monkeypatch.setattr(errors, "version", lambda _: "2.13.0+cpu")
    assert install("lpips") == ("pip install 'expunge[lpips]' 'torch==2.13.0+cpu' "
                                "--extra-index-url https://download.pytorch.org/whl/cpu")
    assert "index" in install("timm")  # which brings torchvision
    assert "index" not in install("report")
    monkeypatch.setattr(errors, "version", lambda _: "2.13.0")
    assert install("lpips") == "pip install 'expunge[lpips]' 'torch==2.13.0'"


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]),
                         ids=lambda page: page.name)
def test_pages_install_extras_under_the_constraints(page: Path) -> None:
    for line in re.findall(r"[^`\n]*pip install [^`\n]*", page.read_text(encoding="utf-8")):
        assert "install ." in line or "-c constraints.txt" in line, line
        for extra in ",".join(re.findall(r"\[([\w,]+)\]", line)).split(","):
            assert not extra or extra in EXTRAS


@pytest.mark.parametrize("torchvision", [True, False])
@pytest.mark.parametrize("clip", ["", "a-clip"])
def test_next_command_of_a_real_model_can_be_run(clip: str, torchvision: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import expunge.cli.next as place

    monkeypatch.setenv("EXPUNGE_CLIP", clip)
    monkeypatch.setattr(place, "find_spec", lambda name: object() if torchvision else None)
    line, *notes = evaluate_next(Path("runs/my church"), "my model", "open")
    command = expunge.get_command(click.Context(expunge), "evaluate")
    assert command is not None
    import shlex

    params = command.make_context("evaluate", shlex.split(line.removeprefix("next: "))[2:]).params
    assert (params["patch"], params["model"]) == (Path("runs/my church"), "my model")
    assert bool(params["setting__clip"]) == (not clip)
    assert params["setting__distance"] == (None if torchvision else "ssim")
    assert len(notes) == (not clip) + (not torchvision)


def test_next_command_after_an_attack_draws_and_judges_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    import shlex

    like = AttackSettings(steps=7, guidance=3.0, clip="a/clip", prompts="my prompts.yaml", add_templates=True, seeds=3)
    line = evaluate_next(Path("p"), "m", "open", attack=Path("p/attack"), like=like)[0]
    command = expunge.get_command(click.Context(expunge), "evaluate")
    assert command is not None
    params = command.make_context("evaluate", shlex.split(line.removeprefix("next: "))[2:]).params
    got = {name.removeprefix("setting__"): value for name, value in params.items() if value not in (None, (), False)}
    assert (got["steps"], got["guidance"], got["clip"], got["prompts"], got["add_templates"]) == (
        7, 3.0, "a/clip", "my prompts.yaml", True)
    assert got["suite"] == Path("p/attack")
    assert "seeds" not in got  # an attack's seeds are its items', not an evaluation's
    assert evaluate_next(Path("p"), "embedded", "emoji") == ["next: expunge evaluate p"]
