"""SIGINT and SIGTERM, seen from a process of its own: what waits for the end of a step, and with which code it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from expunge.cli import run as cli
from expunge.interrupts import Terminated, exit_code, noted_between_steps, take_signals
from expunge.metrics.judging import ask
from expunge.records import Detection

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
WAITING = """
import time
import expunge.cli

def ready(context):
    print("ready", flush=True)
    time.sleep(60)

expunge.cli.expunge.invoke = ready
expunge.cli.main(["ls"])
"""


SWALLOWING = """
import sys, time
import expunge.cli
from expunge.cli.progress import progress

def work(context):
    with progress("working") as tell:
        try:
            print("ready", flush=True)
            time.sleep(60)
        except BaseException:
            pass
        sys.stdout = sys.stderr
        THEN

expunge.cli.expunge.invoke = work
expunge.cli.main(["ls"])
"""
ENDING = """
import atexit, time
import expunge.cli

def ending():
    print("ready", flush=True)
    time.sleep(60)

atexit.register(ending)
expunge.cli.expunge.invoke = lambda context: 0
expunge.cli.main(["ls"])
"""


@pytest.fixture
def _taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("expunge.interrupts._asked", [])
    before = {number: signal.getsignal(number) for number in CODES}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    take_signals()
    yield

    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", CODES)
def test_a_command_ends_with_a_short_message_and_the_signals_code(number: int) -> None:
    code, said = signalled(WAITING, number)
    assert code == CODES[number]
    assert said.strip() == "interrupted: what was finished is kept; run the same command again to go on"


@pytest.mark.parametrize("number", CODES)
def test_a_command_that_is_done_and_about_to_end_says_nothing(number: int) -> None:
    assert signalled(ENDING, number) == (-number, "")


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("then", ["raise ValueError('of something else')", "return 0", "tell(3, 4); print('went on')"])
def test_an_interrupt_that_compiled_code_swallowed_ends_the_command_all_the_same(number: int, then: str) -> None:
    """Where it became another error, where nothing comes after it, and where progress is told next."""
    code, said = signalled(SWALLOWING.replace("THEN", then), number)
    assert code == CODES[number]
    assert said.strip() == "interrupted: what was finished is kept; run the same command again to go on"


def signalled(program: str, number: int) -> tuple[int, str]:
    """Code and standard error of a program that gets a signal once it has said that it is ready."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.usefixtures("_taken")
@pytest.mark.parametrize("number", CODES)
def test_between_steps_the_first_is_noted_and_the_second_is_not(number: int) -> None:
    done = list[int]()

    def work() -> None:
        with noted_between_steps() as noted:
            for step in range(3):
                os.kill(os.getpid(), number)
                done.append(step)
                assert noted() is not None

    with pytest.raises(KeyboardInterrupt) as stop:
        work()
    assert done == [0], "the second signal ends it at once"
    assert exit_code(stop.value) == CODES[number]


@pytest.mark.usefixtures("_taken")
@pytest.mark.parametrize("number", CODES)
def test_what_comes_behind_the_last_step_is_not_lost(number: int) -> None:
    with pytest.raises(KeyboardInterrupt) as stop, noted_between_steps():
        os.kill(os.getpid(), number)
    assert isinstance(stop.value, Terminated) == (number == signal.SIGTERM)


@pytest.mark.usefixtures("_taken")
def test_nothing_waits_in_other_threads_or_where_somebody_handles_the_signal() -> None:
    seen = list[object]()

    def elsewhere() -> None:
        with noted_between_steps():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    take_signals()
    with noted_between_steps():
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def test_the_code_is_that_of_what_ended_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def terminated(*args: object, **kwargs: object) -> None:
        raise Terminated

    monkeypatch.setattr("expunge.cli.expunge.main", terminated)
    assert cli(["ls"]) == 143


@pytest.mark.usefixtures("_taken")
def test_an_answer_that_a_signal_broke_is_no_failure_of_the_detector() -> None:
    class Broken:
        """A judge in whose compiled code a signal becomes another error."""

        name = "broken"

        def __call__(self, pictures: torch.Tensor) -> list[Detection]:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt as stop:
                raise RuntimeError("of compiled code") from stop
            return []

    with pytest.raises(KeyboardInterrupt):
        ask(Broken(), torch.zeros(2, 3, 8, 8))  # type: ignore[arg-type]
