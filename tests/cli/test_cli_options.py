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


def _told(*reports: tuple[float, int, int, str]) -> list[str]:
    """Lines of progress told at given seconds: (when, done, total, title)."""
    now, stream = [0.0], io.StringIO()
    tell = PlainLines("evaluating", stream, clock=lambda: now[0])
    for when, done, total, title in reports:
        now[0] = when
        tell(done, total, None, title)
    return stream.getvalue().splitlines()


def test_what_was_there_already_says_nothing_about_the_speed() -> None:
    (line,) = _told((0, 90, 100, ""), (5, 91, 100, ""), (10, 92, 100, ""))
    assert "40 s left" in line


@pytest.mark.parametrize("change", [(20, "evaluating"), (10, "judging")])
def test_time_left_is_of_the_phase_that_is_on(change: tuple[int, str]) -> None:
    total, title = change
    quick = [(0.1 * done, done, 10, "evaluating") for done in range(1, 10)]
    slow = [(1.0 + 6.0 * step, 9 + step, total, title) for step in range(2)] if title == "evaluating" else \
        [(1.0 + 6.0 * done, done, total, title) for done in range(1, 3)]
    more = [(19.0, slow[-1][1] + 2, total, title)]
    line = _told(*quick, *slow, *more)[-1]
    assert line.startswith(f"{title}: ")
    left = (total - more[0][1]) * 6
    assert abs(int(line.split(" gone, ")[1].split(" s left")[0]) - left) <= left / 2


def test_recent_half_decides_where_the_speed_changes_within_a_phase() -> None:
    reports = [(0.01 * done, done, 200, "") for done in range(1, 101)]
    reports += [(1 + 2.0 * step, 100 + step, 200, "") for step in range(1, 51)]
    line = _told(*reports)[-1]
    assert "1 min 4" in line.split(" gone, ")[1] or "1 min 3" in line.split(" gone, ")[1]


def test_a_batch_that_is_reported_picture_by_picture_is_one_step() -> None:
    batches = [(15.0 * (1 + k // 64), k + 1, 192, "") for k in range(129)]
    first, *_, last = _told(*batches)
    assert "left" not in first, "of a first batch nothing is known yet"
    seconds = int(last.split(" gone, ")[1].split(" s left")[0])
    assert abs(seconds - 15) <= 2, last  # one batch is left to be drawn


def test_the_end_is_told_once() -> None:
    assert len(_told((5, 5, 10, ""), (9, 10, 10, ""), (9, 10, 10, ""))) == 1
