"""Flags made from settings, and progress as lines of text."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from expunge.cli.options import given, settings_options
from expunge.cli.progress import PlainLines, span
from expunge.config import Settings, knob
from expunge.errors import ConfigError
from expunge.files import readable


class Small(Settings):
    steps: int = knob(3, "How many", unit="steps", source="nowhere")
    fresh: bool = knob(False, "Start anew")
    names: tuple[str, ...] = knob((), "Some names")
    size: int | None = knob(None, "How large")
    inner: dict[str, int] = knob({}, "No flag for this")


def _flags(*arguments: str) -> dict[str, object]:
    import click

    seen: dict[str, object] = {}

    @click.command()
    @settings_options(Small)
    def command(config: Path | None, sets: tuple[str, ...], **flags: object) -> None:
        seen.update(given(config, sets, flags))

    command.main(list(arguments), standalone_mode=False)
    return seen


def test_flags_come_from_settings() -> None:
    assert _flags() == {}
    assert _flags("--steps", "4", "--fresh", "--names", "a", "--names", "b", "--size", "2", "--set", "inner.k=1") == \
        {"steps": 4, "fresh": True, "names": ["a", "b"], "size": 2, "inner": {"k": 1}}
    assert _flags("--no-fresh") == {"fresh": False}


@pytest.mark.parametrize("text", ["steps", "=3", "inner={"])
def test_bad_assignment_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        _flags("--set", text)


def test_plain_progress_tells_every_ten_seconds_and_at_the_end() -> None:
    now, stream = [0.0], io.StringIO()
    tell = PlainLines("erasing", stream, clock=lambda: now[0])
    for done in range(1, 31):
        now[0] = float(done)
        tell(done, 30, {"loss": 0.5})
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("erasing: 10/30, 10 s gone, 20 s left")
    assert "loss 0.5" in lines[0]
    assert lines[-1].startswith("erasing: 30/30 done in 30 s")
    assert len(lines) == 3


def test_quick_work_prints_nothing() -> None:
    stream = io.StringIO()
    tell = PlainLines("drawing", stream, clock=lambda: 0.0)
    tell(1, 2)
    tell(2, 2)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("text", "word"), [("A church!", "a-church"), ("教会 ⛪", "教会"), ("!!", "empty"),
                                            ("a_b/../c", "a-b-c"), ("x" * 60, "x" * 40)])
def test_readable_names_keep_the_letters_of_any_script(text: str, word: str) -> None:
    assert readable(text) == word


@pytest.mark.parametrize(("seconds", "words"), [(8.2, "8 s"), (125, "2 min 05 s"), (4320, "1 h 12 min")])
def test_spans_read_like_words(seconds: float, words: str) -> None:
    assert span(seconds) == words
