"""Runs that are killed at random moments end as those that nobody killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from kills import SIGNALS, cuts_of
from verbs import VERBS

HARNESS = Path(__file__).with_name("kills.py")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")
def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    """In a process of its own, for this one has threads: what is forked from would not be what a fresh process is."""
    done = subprocess.run([sys.executable, str(HARNESS), "--kills", "20", "--out", str(tmp_path)], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    trials = json.loads((tmp_path / "kills-0.json").read_text())
    assert [trial["verb"] for trial in trials] == [*VERBS] * 2
    assert sum("missed" in trial["wrong"] for trial in trials) <= 4, "most kills must find a run that is alive"


def test_a_trial_is_the_same_whenever_it_is_made_and_trials_differ() -> None:
    many = [cuts_of(number, 0, 100, 3.0) for number in range(60)]
    assert many == [cuts_of(number, 0, 100, 3.0) for number in range(60)]
    assert {cut.signal for cuts in many for cut in cuts} == set(SIGNALS)
    assert {len(cuts) for cuts in many} == {1, 2}
    assert all(5 <= cut.touch <= 95 and 0 <= cut.later <= 0.09 for cuts in many for cut in cuts)
    assert {cut.later > 0 for cuts in many for cut in cuts if cut.signal != "SIGKILL"} == {True, False}
    assert cuts_of(0, 1, 100, 3.0) != many[0]
