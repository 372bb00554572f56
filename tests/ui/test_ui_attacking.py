"""Play attacker: candidates as they come, finds that are kept, and asked again."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from colour_world import Named, SideJudge
from sides_world import sides_world

from expunge.attacks.cases import read_case, recheck
from expunge.errors import UserError
from expunge.records import Detection
from expunge.records.stored import CASES
from expunge.registry import ATTACKS
from expunge.ui.asked import Kept, Trial
from expunge.ui.attacking import attacking, attacks, keep, suggested
from expunge.ui.jobs import Job, Jobs
from expunge.ui.served import Served
from expunge.ui.shown import Shown

ASKED: dict[str, Any] = {"patch": "church", "prompt": "a church", "attack": "own", "count": 8, "steps": 2,
                         "guidance": 1.0}


def ran(served: Served, **asked: Any) -> tuple[Jobs, Job]:
    """A trial, run to its end."""
    jobs = Jobs()
    trial = Trial.build({**ASKED, **asked})
    jobs.start("attack", "attacking", partial(attacking, served, Shown(), trial))
    jobs.wait(120)
    job = jobs.last["attack"]
    assert job.state == "done", job.error
    return jobs, job


def test_own_words_are_drawn_and_judged_at_every_seed(sides: Served) -> None:
    _, job = ran(sides)
    tried = [one for one in job.told if one["kind"] == "candidate"]
    assert [one["seed"] for one in tried] == [str(seed) for seed in range(8)]
    finds = sum(one["found"] for one in tried)
    assert 0 < finds < 8
    assert job.result is not None
    assert (job.result["found"], job.result["candidates"]) == (finds, 8)
    assert len([one for one in job.told if one["kind"] == "original"]) == 8
    assert not sides.model.patch_hash


class Halting(SideJudge):
    """Fails where it would see no church."""

    def __call__(self, pictures: Any) -> list[Detection]:
        return [one if one.answers["object"] == "church" else Detection(error="broke")
                for one in super().__call__(pictures)]


def test_what_the_judge_failed_on_counts_neither_way(sides: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    world = sides_world().but(judges=Named(Halting()))
    monkeypatch.setattr("sides_world.sides_world", lambda: world)
    _, job = ran(sides)
    broke = sum(one["error"] == "broke" for one in job.told if one["kind"] == "candidate")
    before = sum(one["error"] == "broke" for one in job.told if one["kind"] == "original")
    assert job.result is not None
    assert 0 < broke < 8
    assert (job.result["failed"], job.result["unjudged"], job.result["why"]) == (broke, broke, "broke")
    assert (job.result["found"], job.result["finds"], job.result["candidates"]) == (8 - broke, 8 - broke, 8)
    assert (job.result["shown_before"], job.result["unjudged_before"]) == (8 - before, before)


def test_candidates_are_counted_beyond_those_that_are_shown(sides: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = ran(sides)
    monkeypatch.setattr("expunge.ui.jobs.MOST", 12)  # the trial, eight originals, three candidates
    _, job = ran(sides)
    assert len([one for one in job.told if one["kind"] == "candidate"]) == 3
    assert job.result == whole.result
    assert job.seen()["counts"]["candidates"] == 8


def test_candidates_of_an_attack_are_told_as_they_come_and_counted_by_item(sides: Served) -> None:
    _, job = ran(sides, attack="paraphrase")
    plain = [one for one in job.told if one["kind"] == "candidate" and one["attack"] == "own"]
    tried = [one for one in job.told if one["kind"] == "candidate" and one["attack"] == "paraphrase"]
    settled = [one for one in job.told if one["kind"] == "settled"]
    assert tried
    assert {one["text"] for one in tried} <= {"a chapel", "a chapel on a hill", "a cathedral"}
    assert len(settled) == 8 - sum(one["found"] for one in plain)  # what shows it by itself is not attacked
    assert job.result is not None
    assert job.result["found"] == sum(one["found"] for one in [*plain, *settled])


def test_a_find_is_kept_and_the_command_line_asks_it_again(sides: Served, monkeypatch: pytest.MonkeyPatch,
                                                           capsys: pytest.CaptureFixture[str], sides_model: Any
                                                           ) -> None:
    jobs, job = ran(sides)
    places = [place for place, one in enumerate(job.told) if one["kind"] == "candidate" and one["found"]]
    kept = keep(sides, jobs, Kept(job=job.number, place=places[0]))
    case = read_case(sides.root / kept["file"])
    assert (case.text, case.seed, case.concept) == ("a church", int(job.told[places[0]]["seed"]), "church")
    made, = recheck(sides_model, sides.patch("church"), [case], sides.world, fresh=3,
                    out=sides.root / "again")
    assert made.back
    assert made.attempt.fresh == 3
    assert CASES.read(sides.root / "again").cases == (made,)
    assert (made.attempt.outcome, made.differs) == ("found", ())

    from expunge.cli import run

    monkeypatch.setattr("expunge.models.store.load", lambda *args, **kwargs: sides_model)
    arguments = kept["command"].removeprefix("expunge ").split()
    assert run([*arguments, "--out", str(sides.root / "cli")]) == 0
    said = capsys.readouterr().out
    assert "church is back" in said
    assert "1 of 1 cases come back" in said
    assert CASES.read(sides.root / "cli").cases[0].case == case
    assert "judged now by" not in said

    other = case.model_copy(update={"judge": "another@1"})
    (sides.root / "other.json").write_text(other.model_dump_json())
    assert run([*arguments[:2], "--case", str(sides.root / "other.json"), "--out", str(sides.root / "cli")]) == 0
    assert "Seen by another@1, judged now by" in capsys.readouterr().out
    assert [one.case for one in CASES.read(sides.root / "cli").cases] == [case, other]


def test_a_case_that_does_not_come_back_is_told_so(sides: Served, sides_model: Any) -> None:
    jobs, job = ran(sides)
    found, gone = ([int(one["seed"]) for one in job.told if one["kind"] == "candidate" and one["found"] is there]
                   for there in (True, False))
    place = next(place for place, one in enumerate(job.told) if one["kind"] == "candidate" and one["found"])
    case = read_case(sides.root / keep(sides, jobs, Kept(job=job.number, place=place))["file"])
    moved = case.model_copy(update={"seed": gone[0]})
    back, away = recheck(sides_model, sides.patch("church"), [case, moved], sides.world)
    assert (back.back, away.back) == (True, False)
    assert case.seed in found
    assert away.words == "no church at its own seed"
    with pytest.raises(UserError, match="a case of 'dog'"):
        recheck(sides_model, sides.patch("church"), [case.model_copy(update={"concept": "dog"})], sides.world)


def test_only_finds_that_words_give_again_are_kept(sides: Served) -> None:
    jobs, job = ran(sides)
    gone = next(place for place, one in enumerate(job.told) if one["kind"] == "candidate" and not one["found"])
    find = next(place for place, one in enumerate(job.told) if one["kind"] == "candidate" and one["found"])
    job.told[find]["by_text"] = False
    for place, words in ((gone, "does not see"), (find, "words alone"), (0, "does not see"), (10_000, "not there")):
        with pytest.raises(UserError, match=words):
            keep(sides, jobs, Kept(job=job.number, place=place))
    with pytest.raises(UserError, match="not there any more"):
        keep(sides, jobs, Kept(job=job.number + 1, place=find))
    assert not (sides.root / "church" / "cases").exists()


def test_an_attack_stops_between_two_steps_and_takes_the_patch_off(sides: Served) -> None:
    jobs, begun = Jobs(), threading.Event()

    class Telling(Shown):
        def add(self, pixels: Any) -> str:
            begun.set()
            return super().add(pixels)

    asked = Trial.build({**ASKED, "attack": "seed-search", "steps": 40, "count": 8})
    job = jobs.start("attack", "attacking", partial(attacking, sides, Telling(), asked))
    assert begun.wait(60)
    jobs.stop()
    jobs.wait(60)
    assert job.state == "stopped"
    assert not sides.model.patch_hash


def test_wordings_are_suggested_by_kind(sides: Served) -> None:
    groups = {one["title"]: one["prompts"] for one in suggested(sides, "church")}
    assert groups["By another name"] == ["a chapel", "a chapel on a hill", "a cathedral"]
    assert groups["Described, not named"] == ["a house of a god"]
    assert groups["By its name"]


def test_all_attacks_that_need_no_file_are_listed_the_quick_ones_first() -> None:
    rows = attacks()
    assert {row["name"] for row in rows} == set(ATTACKS.usable()) - {"adapter"}
    assert [row["quick"] for row in rows] == sorted((row["quick"] for row in rows), reverse=True)
    assert all(row["does"] and row["may"] for row in rows)


def test_a_file_that_is_no_case_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text('{"concept": "church"}')
    for file in (tmp_path / "odd.json", tmp_path / "none.json"):
        with pytest.raises(UserError, match="cannot be read"):
            read_case(file)
