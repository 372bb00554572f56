"""The README and the pages under docs: what they show exists, parses, and is finished."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path

import click
import pytest

import expunge
from expunge.cli import VERBS
from expunge.cli import expunge as group

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def calls(code: str) -> list[ast.Call]:
    """Calls of the form expunge.name(...)."""
    return [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "expunge"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_on_the_page_uses_names_and_keywords_that_exist(page: Path) -> None:
    for code in blocks(page, "python"):
        ast.parse(code)
        for call in calls(code):
            assert isinstance(call.func, ast.Attribute)
            known = inspect.signature(getattr(expunge, call.func.attr)).parameters
            for keyword in call.keywords:
                assert keyword.arg in known or any(p.kind is p.VAR_KEYWORD for p in known.values()), ast.unparse(call)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_the_page_have_flags_that_exist(page: Path) -> None:
    for block in blocks(page, ""):
        for line in re.findall(r"^(?:\$ )?expunge (.+)$", block, re.MULTILINE):
            verb, *arguments = shlex.split(line)
            command = group.get_command(click.Context(group), verb)
            assert command is not None, line
            command.make_context(verb, arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_make_targets_on_the_page_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", README.read_text(encoding="utf-8"))) <= targets


def test_python_example_is_ten_lines_at_most() -> None:
    lines = [line for line in blocks(README, "python")[0].splitlines() if line.strip()]
    assert len(lines) <= 10


def test_methods_on_the_pages_are_registered() -> None:
    from expunge.registry import METHODS

    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = {flag or keyword for flag, keyword in re.findall(r"--method ([\w-]+)|method=\"([\w-]+)\"", text)}
    assert named
    brought = set(re.findall(r'^([\w-]+) = "\w+:\w+"$', text, re.MULTILINE))  # by the plug-in that is shown
    assert named - brought <= set(METHODS.names())


def test_readme_has_no_open_places() -> None:
    assert "FILL" not in README.read_text(encoding="utf-8")


def test_command_page_names_every_verb() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert [verb for verb in VERBS if f"`{verb}" not in page] == []


def test_every_public_name_can_be_imported_and_has_a_docstring() -> None:
    for name in expunge.__all__:
        if not name.startswith("_"):
            assert inspect.getdoc(getattr(expunge, name)), name


def test_public_function_is_not_hidden_by_its_module() -> None:
    importlib.import_module("expunge.evaluation")
    assert callable(expunge.evaluate)
    with pytest.raises(AttributeError, match="it has load, erase"):
        expunge.no_such_name  # noqa: B018


def test_readme_is_read_in_three_minutes() -> None:
    assert len(README.read_bytes()) <= 8192
