"""One rule for several values in every command: repeat the option, or give words of their own; no comma separates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from expunge.cli import VERBS, Verbs, expunge, run
from expunge.cli.lists import LISTED, Name, Number, Sentence, one_concept
from expunge.errors import UserError


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            assert below is not None
            yield from commands(below, (*path, name))
    else:
        yield path, command


ALL = [(path, command, param) for path, command in commands(expunge) for param in command.params
       if (getattr(param, "multiple", False) or param.nargs == -1) and param.metavar != "KEY=VALUE"]
"""Everything that may be given several times, but for `--set` and its like, whose values are YAML."""


def test_the_walk_reaches_every_verb_and_the_lists_that_are_known() -> None:
    assert isinstance(expunge, Verbs)
    assert {path[0] for path, _ in commands(expunge)} == set(VERBS)
    names = {(*path, param.name) for path, _, param in ALL}
    assert {("erase", "concept"), ("erase", "setting__anchor"), ("erase", "setting__keep"), ("sample", "prompts"),
            ("sample", "seeds"), ("attack", "setting__attacks"), ("bench", "only"), ("guard", "learn", "forbidden"),
            ("guard", "learn", "prior"), ("guard", "apply", "targets")} <= names


@pytest.mark.parametrize(("path", "command", "param"), ALL, ids=[" ".join((*path, str(param.name))) for path, _, param
                                                                 in ALL])
def test_a_comma_is_refused_with_the_command_that_was_meant(
        path: tuple[str, ...], command: click.Command, param: click.Parameter) -> None:
    assert isinstance(param.type, LISTED)
    first, second = ("3", "4") if isinstance(param.type, Number) else ("church", "bomb")
    ctx = click.Context(command, parent=click.Context(expunge), info_name=" ".join(path))
    with pytest.raises(UserError) as told:
        param.type.convert(f"{first},{second}", param, ctx)
    flag = max(param.opts, key=len)
    meant = f"{flag} {first} {flag} {second}" if isinstance(param, click.Option) else f"{path[0]} {first} {second}"
    assert meant in told.value.remedy


def test_church_comma_bomb_is_not_one_concept(capsys: pytest.CaptureFixture[str], pipeline_folder: Path) -> None:
    for model in ("embedded", str(pipeline_folder)):
        assert run(["erase", "church,bomb", "--model", model]) == 2
        told = capsys.readouterr().err
        assert "with a comma in it" in told
        assert "write expunge erase church bomb" in told
        assert run(["erase", "church, bomb", "--model", model]) == 2
        assert "--config file" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["attack", "--concept", "church,bomb"], ["relearn", "--concept", "church,bomb"]])
def test_one_concept_is_sought_at_a_time(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert "--concept church, and the same command again for bomb" in capsys.readouterr().err


def test_names_with_commas_can_still_be_meant(tmp_path: Path) -> None:
    one_concept("Washington, D.C.", ("Washington, D.C.", "church"))
    (tmp_path / "a,b").mkdir()
    assert Name().convert(str(tmp_path / "a,b"), None, None)


def test_sentences_may_have_commas_as_sentences_do() -> None:
    assert Sentence().convert("a church, a dog and a hill", None, None)
    with pytest.raises(UserError):
        Sentence().convert("a church,a dog", None, None)
