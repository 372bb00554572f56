"""One attack on many items: records, fresh seeds, failures, resumption."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from brightness import Brightness
from PIL import Image

from expunge.attacks.aims import targets
from expunge.attacks.base import Attack, item_generator, item_noise
from expunge.attacks.proposal import Batch, Candidate, Rounds
from expunge.attacks.scores import worst_case
from expunge.attacks.trial import attempts, plain, read_attempts
from expunge.attacks.unlearndiff import UnlearnDiff
from expunge.attacks.victim import NO_PICTURE, Goal, Item, Victim, fresh_seed, pictures_budget
from expunge.config import knob
from expunge.errors import ConfigError, ModelError, UserError
from expunge.metrics.base import Aim
from expunge.records import AttackRun, Attempt, Prompt, Request, Sampler, Spent


class OtherSeeds(Attack):
    """Draws the prompt at seeds of its own until the goal is met: a real attack, if a poor one."""

    name: ClassVar[str] = "other-seeds"
    help: ClassVar[str] = "other seeds"

    tries: int = knob(3, "seeds", ge=1)
    trips_over: str = knob("", "text of a prompt at which it raises")
    by: str = knob("RuntimeError", "what it raises")

    def propose(self, batch: Batch) -> Rounds:
        if any(prompt.text == self.trips_over for prompt, _ in batch.items):
            raise {"RuntimeError": RuntimeError, "KeyError": KeyError, "TypeError": TypeError,
                   "AssertionError": AssertionError}[self.by]("tripped")
        for k in range(self.tries):
            draws = [item_generator(self, item, str(k)) for item in batch.items]
            seeds = [int(torch.randint(10**6, (), generator=draw)) for draw in draws]
            yield [Candidate(row, seed=seeds[row], note=str(seeds[row])) for row in batch.standing]

    def budget(self, sampler: Sampler) -> Spent:
        return pictures_budget(sampler, self.tries)


def without_clock(found: Any) -> list[Any]:
    return [item.model_copy(update={"spent": item.spent.model_copy(update={"seconds": 0.0})}) for item in found]


def test_plain_finds_what_the_judge_sees(victim: Victim, items: list[Item], goal: Goal) -> None:
    found = plain(victim, items, goal)
    assert [item.outcome for item in found].count("found before") == 3  # the median splits six items in two
    pictures = victim.draw([prompt.text for prompt, _ in items], [seed for _, seed in items])
    assert [item.outcome == "found before" for item in found] == [sight.found for sight in goal.see(pictures)]


def test_outcomes_do_not_depend_on_batches_or_order(victim: Victim, items: list[Item], goal: Goal, request_: Request,
                                                    tmp_path: Path) -> None:
    one = attempts(OtherSeeds(batch=1, tries=1), victim, request_, items, goal, folder=tmp_path / "1", fresh=2)
    four = attempts(OtherSeeds(batch=4, tries=1), victim, request_, items[::-1], goal, folder=tmp_path / "4", fresh=2)
    assert without_clock(one) == without_clock(four[::-1])
    assert {item.outcome for item in one} == {"found", "not elicited"}


def test_a_success_is_drawn_again_with_fresh_seeds_and_confirmed(victim: Victim, items: list[Item], goal: Goal,
                                                                request_: Request, tmp_path: Path) -> None:
    confirm = replace(goal, judge=type(goal.judge)(goal.judge.threshold + 1e-3))
    made = attempts(OtherSeeds(), victim, request_, items, goal, folder=tmp_path, fresh=3, confirm=confirm)
    hit = next(item for item in made if item.outcome == "found")
    shift = int(hit.note) - hit.seed
    pictures = victim.draw([hit.prompt.text] * 3, [fresh_seed(hit.seed, k) + shift for k in (1, 2, 3)])
    seen = [sight.found for sight in goal.see(pictures)]
    assert (hit.fresh, hit.fresh_found, hit.confirmed) == (3, sum(seen),
                                                              sum(sight.found for sight in confirm.see(pictures)))
    assert hit.asked_second == sum(seen)
    with Image.open(tmp_path / hit.picture) as picture:
        assert picture.size == (16, 16)


class Broken(OtherSeeds):
    """Finds what it finds, and cannot draw it again."""

    name: ClassVar[str] = "broken"

    def propose(self, batch: Batch) -> Rounds:
        def draw(rows: Sequence[int], seeds: Sequence[int]) -> torch.Tensor:
            if len({*rows}) < len(rows):  # one item, again and again
                raise RuntimeError("out of memory")
            return batch.victim.draw([batch.items[row][0].text for row in rows], seeds)

        for candidates in super().propose(batch):
            yield [replace(one, draw=draw) for one in candidates]


def test_a_success_that_cannot_be_drawn_again_is_kept_and_says_so(victim: Victim, items: list[Item], goal: Goal,
                                                                 request_: Request, tmp_path: Path) -> None:
    made = attempts(Broken(), victim, request_, items, goal, folder=tmp_path, fresh=3)
    hits = [item for item in made if item.outcome == "found"]
    assert hits
    assert {(item.fresh, item.fresh_found) for item in hits} == {(0, 0)}
    assert all("no fresh images: RuntimeError: out of memory" in item.note for item in hits)
    before = [item.model_copy(update={"outcome": "not elicited"}) for item in plain(victim, items, goal)]
    assert len(worst_case(before, [run_of(made)])) == len(items)
    assert len(worst_case(before, [run_of(made)], fresh=True)) == len(items) - len(hits), "neither shown nor not"


def run_of(made: Sequence[Attempt]) -> AttackRun:
    return AttackRun(attack="broken", access="prompt, black box", white_box=False, attempts=tuple(made))


def test_a_judge_that_fails_on_fresh_pictures_is_not_counted_against_the_success(
        victim: Victim, items: list[Item], goal: Goal, request_: Request, tmp_path: Path) -> None:
    class Moody(type(goal.judge)):  # type: ignore[misc]
        asked = 0

        def __call__(self, pictures: torch.Tensor) -> list[Any]:
            if len(pictures) == 3 and not torch.equal(pictures[0], pictures[1]):
                type(self).asked += 1
                raise ValueError("no answer today")  # alone each image gets one
            return super().__call__(pictures)  # type: ignore[no-any-return]

    moody = replace(goal, judge=Moody(goal.judge.threshold))
    strict = attempts(OtherSeeds(), victim, request_, items, goal, folder=tmp_path / "a", fresh=3)
    made = attempts(OtherSeeds(), victim, request_, items, moody, folder=tmp_path / "b", fresh=3)
    assert Moody.asked
    assert [(item.fresh, item.fresh_found) for item in made] == [(item.fresh, item.fresh_found) for item in strict]


@pytest.mark.parametrize("by", ["RuntimeError", "KeyError", "TypeError", "AssertionError"])
def test_one_failing_item_takes_nobody_with_it_and_is_tried_again(victim: Victim, items: list[Item], goal: Goal,
                                                                 request_: Request, tmp_path: Path, by: str) -> None:
    poison = (Prompt(text="a castle", role="direct"), 0)
    tripping = OtherSeeds(trips_over="a castle", by=by)
    made = attempts(tripping, victim, request_, [*items, poison], goal, folder=tmp_path, fresh=0)
    clean = attempts(OtherSeeds(), victim, request_, items, goal, folder=tmp_path / "clean", fresh=0)
    assert without_clock(made[:-1]) == without_clock(clean)
    assert made[-1].outcome == "failed"
    assert made[-1].error.startswith(f"{by}: ")
    assert "tripped" in made[-1].error
    lines = (tmp_path / "attempts.jsonl").read_text(encoding="utf-8")
    again = attempts(tripping, victim, request_, [*items, poison], goal, folder=tmp_path, fresh=0)
    assert again[:-1] == made[:-1]
    assert lines


class Careless(OtherSeeds):
    """Somebody's own attack, with a mistake."""

    name: ClassVar[str] = "careless"
    mistake: str = knob("", "which")

    def no_room(self, victim: Victim, request: Request, item: Item) -> UserError | None:
        return {}["room"] if self.mistake == "no_room" else None

    def propose(self, batch: Batch) -> Rounds:
        for candidates in super().propose(batch):
            yield [{"row": lambda one: replace(one, row=99), "none": lambda _: None,
                    "ids": lambda one: replace(one, ids=("a",)), "text": lambda one: replace(one, text=3),
                    "tensors": lambda one: replace(one, tensors=lambda: {"x": 3})}[self.mistake](one)  # type: ignore
                   for one in candidates]


@pytest.mark.parametrize(("mistake", "says"), [
    ("no_room", "KeyError: 'room'"), ("row", "ValueError: a candidate for row 99 of 1"), ("none", "AttributeError: "),
    ("text", "Error: "), ("ids", "its outcome cannot be kept: "),
    ("tensors", "its outcome cannot be kept: AttributeError")])
def test_a_mistake_of_somebody_s_own_attack_is_a_failed_attempt_that_names_it(
        victim: Victim, items: list[Item], goal: Goal, request_: Request, tmp_path: Path, mistake: str, says: str
        ) -> None:
    made = attempts(Careless(mistake=mistake), victim, request_, items[:2], goal, folder=tmp_path, fresh=0)
    assert [item.outcome for item in made] == ["failed", "failed"]
    assert all(says in item.error for item in made)


def test_an_interrupted_trial_goes_on(victim: Victim, items: list[Item], goal: Goal, request_: Request,
                                      tmp_path: Path) -> None:
    whole = attempts(OtherSeeds(), victim, request_, items, goal, folder=tmp_path / "whole", fresh=2)

    def stop(done: int, total: int, name: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempts(OtherSeeds(), victim, request_, items, goal, folder=tmp_path / "cut", fresh=2, tell=stop)
    kept = read_attempts(tmp_path / "cut")
    assert len(kept) == 2
    finished = attempts(OtherSeeds(batch=2), victim, request_, items, goal, folder=tmp_path / "cut", fresh=2)
    assert finished[:2] == kept
    assert without_clock(finished) == without_clock(whole)


def test_a_small_trial_goes_through_passes_of_its_own_size_and_goes_on_to_the_last_bit(
        victim: Victim, items: list[Item], goal: Goal, request_: Request, tmp_path: Path) -> None:
    attack, never = UnlearnDiff(tokens=2, timesteps=2, steps=3), replace(goal, judge=Brightness(2.0))
    victim = replace(victim, pictures=torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    passes = list[int]()
    hook = victim.model.network.register_forward_pre_hook(lambda module, given: passes.append(len(given[0])))
    whole = attempts(attack, victim, request_, items[:3], never, folder=tmp_path / "whole", fresh=0)
    hook.remove()
    assert set(passes[:3]) == {4}  # three items, in place of 16
    attempts(attack, victim, request_, items[:3], never, folder=tmp_path / "killed", fresh=0)
    file = tmp_path / "killed" / "attempts.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:3]))  # the head, and two of three
    again = attempts(attack, victim, request_, items[:3], never, folder=tmp_path / "killed", fresh=0)
    assert [(one.text, one.ids) for one in again] == [(one.text, one.ids) for one in whole]


@pytest.mark.parametrize("name", ["attempts.jsonl", "attempts-1.jsonl"])
def test_a_damaged_attempt_is_said_and_made_again(
        victim: Victim, items: list[Item], goal: Goal, request_: Request, tmp_path: Path, name: str,
        caplog: pytest.LogCaptureFixture) -> None:
    made = attempts(OtherSeeds(), victim, request_, items, goal, folder=tmp_path, fresh=0)
    whole = (tmp_path / "attempts.jsonl").read_bytes()
    head, first, *others = whole.splitlines(keepends=True)
    spoilt = re.sub(b'"note": ?"', b'"note": "1', first)
    assert spoilt != first
    (tmp_path / "attempts.jsonl").unlink()
    (tmp_path / name).write_bytes(head + spoilt + others[0][:40] + b"\xff" + others[0][41:] + b"".join(others[1:]))
    kept = len(read_attempts(tmp_path))
    told = list[tuple[int, int]]()
    again = attempts(OtherSeeds(), victim, request_, items, goal, folder=tmp_path, fresh=0,
                     tell=lambda done, total, name: told.append((done, total)))
    assert kept == (len(items) - 2 if name == "attempts.jsonl" else 0)
    assert told[0][0] == len(items) - 2
    assert without_clock(again) == without_clock(made)
    assert caplog.text.count("has damaged lines") == 1
    assert f"{tmp_path / name} has damaged lines (2); what they kept is made again" in caplog.text
    assert len(read_attempts(tmp_path)) == len(items)


def test_attempts_under_other_settings_are_refused_before_damaged_ones_are_left_out(
        victim: Victim, items: list[Item], goal: Goal, request_: Request, tmp_path: Path) -> None:
    attempts(OtherSeeds(), victim, request_, items[:2], goal, folder=tmp_path, fresh=0)
    file = tmp_path / "attempts.jsonl"
    file.write_text(file.read_text().replace('"seed": ', '"seed": 1'))
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="other settings"):
        attempts(OtherSeeds(tries=1), victim, request_, items[:2], goal, folder=tmp_path, fresh=0)
    assert file.read_bytes() == before


def test_attempts_without_digests_are_taken_as_they_are(victim: Victim, items: list[Item], goal: Goal,
                                                        request_: Request, tmp_path: Path) -> None:
    made = attempts(OtherSeeds(), victim, request_, items[:2], goal, folder=tmp_path, fresh=0)
    file = tmp_path / "attempts.jsonl"
    head = file.read_text().splitlines()[0]
    file.write_text("\n".join([head, *(item.model_dump_json() for item in made)]) + "\n")  # as earlier versions did
    assert attempts(OtherSeeds(), victim, request_, items[:2], goal, folder=tmp_path, fresh=0) == made


def test_other_settings_do_not_mix(victim: Victim, items: list[Item], goal: Goal, request_: Request, tmp_path: Path
                                   ) -> None:
    attempts(OtherSeeds(), victim, request_, items[:1], goal, folder=tmp_path, fresh=0)
    with pytest.raises(ConfigError, match="other settings"):
        attempts(OtherSeeds(tries=1), victim, request_, items[:1], goal, folder=tmp_path, fresh=0)


def test_attempts_that_an_older_version_kept_are_taken(victim: Victim, items: list[Item], goal: Goal,
                                                       request_: Request, tmp_path: Path) -> None:
    """They go by the model's former digest; a digest that it never had is another model's."""
    made = attempts(OtherSeeds(), victim, request_, items[:1], goal, folder=tmp_path, fresh=0)
    before = victim.model.drawing
    vars(victim.model).update(drawing="2-now", former_drawing=before)
    assert attempts(OtherSeeds(), victim, request_, items[:1], goal, folder=tmp_path, fresh=0) == made
    vars(victim.model).update(former_drawing="neither")
    with pytest.raises(ConfigError, match="other settings"):
        attempts(OtherSeeds(), victim, request_, items[:1], goal, folder=tmp_path, fresh=0)


def test_another_judge_or_second_detector_does_not_mix(victim: Victim, items: list[Item], goal: Goal, request_: Request,
                                                       tmp_path: Path) -> None:
    attempts(OtherSeeds(), victim, request_, items[:1], goal, folder=tmp_path, fresh=0)
    other = type(goal.judge)(0.5)
    other.name = "brightness@2"
    with pytest.raises(ConfigError, match="other settings"):
        attempts(OtherSeeds(), victim, request_, items[:1], replace(goal, judge=other), folder=tmp_path, fresh=0)
    with pytest.raises(ConfigError, match="other settings"):
        attempts(OtherSeeds(), victim, request_, items[:1], goal, folder=tmp_path, fresh=0, confirm=goal)


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "attempts.jsonl").write_text("{}\nnot json\n", encoding="utf-8")
    with pytest.raises(ModelError, match="damaged"):
        read_attempts(tmp_path)


def test_check_comes_before_any_computing(victim: Victim, items: list[Item], goal: Goal, request_: Request,
                                          tmp_path: Path) -> None:
    class Refusing(OtherSeeds):
        def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
            raise UserError("no")

    with pytest.raises(UserError, match="no"):
        attempts(Refusing(), victim, request_, items, goal, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_randomness_belongs_to_items(items: list[Item]) -> None:
    attack = OtherSeeds()
    noise = item_noise([item_generator(attack, item) for item in items], (2, 3))
    alone = item_noise([item_generator(attack, items[4])], (2, 3))
    assert torch.equal(noise[4], alone[0])
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(alone[0], item_noise([item_generator(attack, items[4], "other")], (2, 3))[0])


def test_targets_show_the_concept_or_are_missing(victim: Victim, items: list[Item], goal: Goal) -> None:
    aims = targets(victim, items, goal, tries=2)
    shown = [aim for aim in aims if aim is not None]
    assert shown
    assert all(sight.found for sight in goal.see(torch.stack(shown)))
    impossible = Goal(goal.judge, Aim("nothing of the kind", goal.aim.question))
    assert targets(victim, items, impossible, tries=2) == [None] * len(items)
    unknown = Goal(goal.judge, Aim("nothing of the kind", goal.aim.question), known=False)
    assert all(aim is not None for aim in targets(victim, items, unknown))


def test_what_is_no_picture_fails_its_own_item_and_no_other(victim: Victim, items: list[Item], goal: Goal,
                                                            request_: Request, tmp_path: Path) -> None:
    """The token vector of "hill" is one that no layer can add up, so the first prompt's images are NaN."""
    (hill,) = victim.model.texts[0].tokenizer("hill", add_special_tokens=False).input_ids
    with torch.no_grad():
        victim.model.texts[0].module.get_input_embeddings().weight[hill] = 3e38
    before = plain(victim, items, goal)
    assert [item.outcome == "failed" for item in before] == [True, True, False, False, False, False]
    assert {item.error for item in before[:2]} == {NO_PICTURE}
    made = attempts(OtherSeeds(), victim, request_, items, goal, folder=tmp_path, fresh=1)
    assert [item.outcome == "failed" for item in made] == [True, True, False, False, False, False]
    assert "not finite" in made[0].error
