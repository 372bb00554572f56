"""One job at a time, with progress and stop."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from expunge.errors import UserError
from expunge.ui.jobs import Busy, Job, Jobs, stoppable


def test_a_second_job_is_refused_while_one_runs_and_taken_afterwards() -> None:
    jobs, go = Jobs(), threading.Event()
    jobs.start("compare", "the first", lambda job: {"waited": go.wait(10)})
    with pytest.raises(Busy, match="the first is still running"):
        jobs.start("attack", "the second", lambda job: {})
    go.set()
    jobs.wait(10)
    assert jobs.start("attack", "the second", lambda job: {"fine": True}) is jobs.last["attack"]
    jobs.wait(10)
    assert {action: job.state for action, job in jobs.last.items()} == {"compare": "done", "attack": "done"}
    assert jobs.last["compare"].result == {"waited": True}


def test_stop_ends_the_work_at_the_next_place_where_it_looks() -> None:
    jobs, begun, done = Jobs(), threading.Event(), []

    def work(job: Job) -> dict[str, Any]:
        for number in range(10_000):
            done.append(number)
            job.tell(number, 10_000, "counting")
            begun.set()
            threading.Event().wait(0.001)
        return {}

    job = jobs.start("erase", "counting", work)
    assert begun.wait(10)
    assert jobs.stop() is job
    jobs.wait(10)
    assert job.state == "stopped"
    assert len(done) < 10_000
    assert jobs.stop() is None


def test_what_goes_wrong_is_told_and_the_next_job_runs() -> None:
    jobs = Jobs()

    def refuse(job: Job) -> dict[str, Any]:
        raise UserError("a wish", accepted="another", remedy="wish again")

    jobs.start("erase", "erasing", refuse)
    jobs.wait(10)
    assert jobs.last["erase"].seen()["error"] == {"got": "a wish", "accepted": "another", "remedy": "wish again"}
    jobs.start("erase", "erasing", lambda job: {"one": 1 // 0})
    jobs.wait(10)
    assert "ZeroDivisionError" in str(jobs.last["erase"].error)
    jobs.start("erase", "erasing", lambda job: {"one": 1})
    jobs.wait(10)
    assert jobs.last["erase"].result == {"one": 1}


def test_only_what_is_new_is_told_again(job: Job) -> None:
    for number in range(3):
        job.say("candidate", number=number)
    assert [one["number"] for one in job.seen(after=1)["told"]] == [1, 2]
    assert job.seen(after=1)["count"] == 3


def test_a_job_may_stop_between_two_calls_of_the_network_and_leaves_no_trace(small_model: Any, job: Job) -> None:
    from expunge.models.sample import draw
    from expunge.records import Sampler

    before = draw(small_model, [("a church", 0)], Sampler(steps=3, guidance=1.0))
    calls: list[int] = []

    def count(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            job._stop.set()

    hook = small_model.network.register_forward_hook(count)
    with pytest.raises(KeyboardInterrupt), stoppable(small_model, job):
        draw(small_model, [("a church", 0)], Sampler(steps=50, guidance=1.0))
    hook.remove()
    assert len(calls) == 2  # of 50 steps
    assert not small_model.network._forward_pre_hooks
    assert draw(small_model, [("a church", 0)], Sampler(steps=3, guidance=1.0)).equal(before)
