"""A world in which detectors that the user names judge."""

from __future__ import annotations

import inspect

from expunge.detectors.watched import Unlabelled
from expunge.metrics.brought import Brings, Remarks
from expunge.metrics.prompts import LeavesOut
from expunge.registry import PROMPTS


def test_unlabelled_prompts_have_all_that_the_worlds_have_as_checks_at_run_time_see_it() -> None:
    asks = PROMPTS.get("open")()
    made = Unlabelled(asks)
    there = [name for name in dir(asks) if not name.startswith("_")]
    unseen = [name for name in there if inspect.getattr_static(made, name, None) is None]
    assert there
    assert not unseen  # Python 3.12 and later look at runtime_checkable protocols' members in this way
    for protocol in (Brings, LeavesOut, Remarks):
        assert isinstance(made, protocol) == isinstance(asks, protocol)
