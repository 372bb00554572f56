"""Nothing that acts on a terminal reaches it but our own colours."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest

import expunge.cli
from expunge.cli.terminal import VisibleLog, echo, visible, visible_console

ACTING = "a\x1b[2Jb\x07c\x9bd\u202ee\u2066f\rg\x7fh\ud800i\u2028j"
CLI = Path(expunge.cli.__file__).parent


def test_what_acts_is_shown_as_its_number_and_the_rest_as_it_is() -> None:
    assert visible(ACTING) == ("a\\u001b[2Jb\\u0007c\\u009bd\\u202ee\\u2066f\\u000dg\\u007fh\\ud800i\\u2028j")
    for fine in ("a church\n\tof stone", "église", "教会", "👨‍👩‍👧", "كنيسة"):
        assert visible(fine) == fine


def test_what_is_json_stays_json() -> None:
    assert json.loads(visible(json.dumps([ACTING.replace("\ud800", "")], ensure_ascii=False))) == \
        [ACTING.replace("\ud800", "")]


def test_lines_tables_and_logs_are_visible(capfd: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table()
    table.add_column(ACTING)
    table.add_row(ACTING)
    out = io.StringIO()
    console = visible_console(file=out, width=200)
    console.print(ACTING, markup=False)
    console.print(table)
    echo(ACTING)
    told = VisibleLog().format(logging.LogRecord("a", logging.WARNING, "b", 1, "%s", (ACTING,), None))
    for words in (out.getvalue(), capfd.readouterr().out, told):
        assert "\\u001b" in words
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & {*words}


def test_colours_stay() -> None:
    out = io.StringIO()
    visible_console(file=out, force_terminal=True, color_system="standard").print("a", style="bold red")
    assert "\x1b[1;31m" in out.getvalue()


@pytest.mark.parametrize("file", sorted(CLI.glob("*.py")), ids=lambda file: file.stem)
def test_verbs_print_by_the_terminal_alone(file: Path) -> None:
    if file.stem != "terminal":
        text = file.read_text(encoding="utf-8")
        assert "click.echo(" not in text
        assert "Console(" not in text
        assert "click.secho(" not in text
