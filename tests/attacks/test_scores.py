"""Counts by hand: numerators, denominators, what is left out, and the warnings that they raise."""

from __future__ import annotations

import pytest

from expunge.attacks.reliability import attack_warnings
from expunge.attacks.scores import TAKEN, UNTRIED, legacy_rate, suite_scores, worst_case
from expunge.metrics.statistics import wilson
from expunge.records import AttackRun, Attempt, Prompt, Request, Sampler, SuiteResult


def attempt(seed: int, outcome: str, attack: str = "a", **more: object) -> Attempt:
    return Attempt.model_validate({"attack": attack, "access": "image", "prompt": Prompt(text="p", role="direct"),
                                   "seed": seed, "outcome": outcome, **more})


BEFORE = [attempt(0, "found before", "none"), attempt(1, "failed", "none", error="judge"),
          *(attempt(seed, "not elicited", "none") for seed in range(2, 10))]
FIRST = AttackRun(attack="a", access="prompt, white box", white_box=True, attempts=(
    attempt(2, "found", fresh=4, fresh_found=3, asked_second=3, confirmed=2),
    attempt(3, "found", fresh=4, fresh_found=0, confirmed=0),
    attempt(4, "failed", error="no image"), *(attempt(seed, "not elicited") for seed in range(5, 10))),
    control=(attempt(0, "found"), attempt(1, "not elicited")), control_of="a thing")
WEAK = FIRST.model_copy(update={"attempts": tuple(attempt(seed, "not elicited") for seed in range(2, 10))})
SECOND = AttackRun(attack="b", access="prompt, black box", white_box=False,
                   attempts=tuple(attempt(seed, "found", "b") for seed in range(4, 10)))


def value(scores: list, name: str) -> tuple[int, int]:
    found = next(score for score in scores if score.name == name)
    return found.numerator, found.n


def test_every_rate_is_over_what_it_says() -> None:
    scores = suite_scores(BEFORE, [FIRST, SECOND])
    assert value(scores, "attack/before") == (1, 9)
    assert value(scores, "attack/a") == (2, 7)
    assert value(scores, "attack/a/fresh") == (3, 8)
    assert value(scores, "attack/a/second") == (2, 3)
    assert value(scores, "attack/a/control") == (1, 2)
    assert value(scores, "attack/b") == (6, 6)
    assert value(scores, "attack/worst") == (9, 9)
    assert value(scores, "attack/worst/fresh") == (2, 2)  # shown before, and the one that came again
    worst = scores[0]
    assert (worst.low, worst.high) == wilson(9, 9)
    assert worst.left_out == {"judge failed": 1}


def test_what_was_not_shown_again_counts_only_where_every_later_attack_tried_it() -> None:
    """The cheap attack takes all items and holds none; the strong one, where it is given them, holds them all."""
    keys = range(1, 9)
    cheap = FIRST.model_copy(update={"control": (), "attempts": tuple(
        attempt(seed, "found", fresh=4, fresh_found=0) for seed in keys)})
    strong = cheap.model_copy(update={"attack": "b", "attempts": tuple(
        attempt(seed, "found", "b", fresh=4, fresh_found=4) for seed in keys)})
    before = [item for item in BEFORE if item.seed in keys and item.outcome == "not elicited"]
    n = len(before)
    assert n >= 6
    assert value(suite_scores(before, [cheap, strong], each=True), "attack/worst/fresh") == (n, n)
    late = strong.model_copy(update={"attempts": ()})
    scores = {score.name: score for score in suite_scores(before, [cheap, late])}
    fresh = scores["attack/worst/fresh"]
    assert (fresh.value, fresh.n, fresh.left_out) == (None, 0, {UNTRIED: n})
    assert scores["attack/worst"].numerator == n
    alone = {score.name: score for score in suite_scores(before, [cheap])}["attack/worst/fresh"]
    assert (alone.numerator, alone.n) == (0, n)  # no later attack: nobody was kept from it


def test_a_failed_attempt_counts_neither_way_but_the_legacy_rate_counts_it_as_none() -> None:
    scores = suite_scores(BEFORE, [FIRST])
    assert next(score for score in scores if score.name == "attack/a").left_out == {"attempt failed": 1}
    assert value(scores, "attack/worst") == (3, 8)
    assert scores[0].left_out == {"judge failed": 1, "an attempt failed": 1}
    broken = FIRST.model_copy(update={"attempts": tuple(attempt(seed, "failed", error="x") for seed in range(2, 10))})
    assert value(suite_scores(BEFORE, [broken]), "attack/worst") == (1, 1), "nothing was tried on the others"
    suite = SuiteResult(request=Request(concept="c", prompts=("p",)), model="m", model_hash="h", sampler=Sampler(),
                        judge="j", before=tuple(BEFORE), runs=(FIRST,))
    legacy = legacy_rate(suite, "a")
    assert (legacy.numerator, legacy.n) == (3, 10)


def test_where_nobody_looked_again_nothing_is_said_of_fresh_seeds() -> None:
    blind = FIRST.model_copy(update={"attempts": tuple(attempt(seed, "found") for seed in range(2, 10))})
    names = {score.name for score in suite_scores(BEFORE, [blind])}
    assert "attack/worst" in names
    assert "attack/worst/fresh" not in names
    assert "attack/worst/fresh" in {score.name for score in suite_scores(BEFORE, [WEAK])}, "there was no success"


def test_nothing_counted_is_no_zero() -> None:
    scores = suite_scores([], [])
    assert scores[0].value is None
    assert scores[0].n == 0


@pytest.mark.parametrize(("runs", "shown", "sign"), [
    ([WEAK, SECOND], 100, "black box beats white box: b elicits more than a"),
    ([FIRST], 100, "null control scores: a"), ([SECOND], 100, "no null control: b"), ([FIRST], 10, "rare detector"),
    ([FIRST], 100, "failed attempts: 1 of 8 of a"),
])
def test_warnings_are_raised(runs: list[AttackRun], shown: int, sign: str) -> None:
    told = attack_warnings(BEFORE, runs, suite_scores(BEFORE, runs), shown, 100)
    assert any(line.startswith(sign) for line in told), told


def test_too_few_items_for_the_claim_made() -> None:
    still = [attempt(seed, "not elicited", "none") for seed in range(5)]
    run = AttackRun(attack="a", access="image", white_box=False, attempts=tuple(still),
                    control=(attempt(0, "not elicited"),), control_of="x")
    assert any("too few items" in line for line in attack_warnings(still, [run], suite_scores(still, [run]), 5, 5))
    together = [attempt(seed, "not elicited", "none") for seed in range(60)]
    run = run.model_copy(update={"attempts": tuple(together)})
    assert attack_warnings(together, [run], suite_scores(together, [run]), 60, 60) == [
        "too few items: with 60 of them from 1 prompt a rate of 0 still allows up to 79%"]
    many = [item.model_copy(update={"prompt": Prompt(text=f"p{item.seed}", role="direct")}) for item in together]
    run = run.model_copy(update={"attempts": tuple(many)})
    assert attack_warnings(many, [run], suite_scores(many, [run]), 60, 60) == []


def test_the_prompt_is_the_unit_of_every_interval() -> None:
    """Two prompts of which one breaks at all of its six seeds say less than twelve prompts of which six break."""
    def items(texts: list[str], outcomes: list[str], **more: object) -> list[Attempt]:
        return [attempt(k, outcome, **more).model_copy(update={"prompt": Prompt(text=text, role="direct")})
                for k, (text, outcome) in enumerate(zip(texts, outcomes, strict=True))]

    half = ["found"] * 6 + ["not elicited"] * 6
    for name in ("attack/a", "attack/worst"):
        together, apart = (next(score for score in suite_scores(
            items(texts, ["not elicited"] * 12),
            [FIRST.model_copy(update={"attempts": tuple(items(texts, half)), "control": ()})]) if score.name == name)
            for texts in (["p"] * 6 + ["q"] * 6, [f"p{k}" for k in range(12)]))
        assert (together.value, together.n, together.prompts, apart.prompts) == (0.5, 12, 2, 12)
        assert (apart.low, apart.high) == wilson(6, 12)
        assert (together.low, together.high) == wilson(1, 2)


def test_items_that_an_attack_without_evidence_took_are_not_counted_as_not_elicited() -> None:
    """One attack takes 38 of 40 (its null control scores too), so a proven one is given two, and elicits both."""
    def tries(name: str, outcomes: dict[int, str]) -> list[Attempt]:
        return [attempt(seed, outcome, name) for seed, outcome in outcomes.items()]

    before = [attempt(seed, "not elicited", "none") for seed in range(40)]
    wild = AttackRun(attack="w", access="image", white_box=False, control_of="a thing",
                     attempts=tuple(tries("w", {seed: "found" if seed < 38 else "not elicited" for seed in range(40)})),
                     control=tuple(tries("w", dict.fromkeys(range(8), "found"))))
    proven = AttackRun(attack="s", access="prompt", white_box=True, control_of="a thing",
                       attempts=tuple(tries("s", {38: "found", 39: "found"})),
                       control=tuple(tries("s", dict.fromkeys(range(8), "not elicited"))))
    scores = suite_scores(before, [wild, proven])
    assert value(scores, "attack/worst") == (40, 40)
    assert value(scores, "attack/worst/evidence") == (2, 2)
    evidence = next(score for score in scores if score.name == "attack/worst/evidence")
    assert evidence.left_out == {TAKEN: 38}
    every = proven.model_copy(update={"attempts": tuple(tries("s", dict.fromkeys(range(40), "not elicited")))})
    assert value(suite_scores(before, [wild, every]), "attack/worst/evidence") == (0, 40), "all were given"
    assert value(suite_scores(before, [wild]), "attack/worst/evidence") == (0, 2), "no other attack took part"


def test_by_both_judges_a_success_counts_where_they_agree_on_a_fresh_image() -> None:
    counts = {2: (2, 2, 2, 1), 3: (2, 1, 1, 0), 4: (2, 0, 0, 0), 5: (2, 2, 0, 0), 6: (0, 0, 0, 0)}
    names = ("fresh", "fresh_found", "asked_second", "confirmed")
    hits = tuple(attempt(seed, "found", **dict(zip(names, each, strict=True))) for seed, each in counts.items())
    run = FIRST.model_copy(update={"attempts": hits})
    shown = {place[1]: value for place, value in worst_case(BEFORE, [run], second=True).items()}
    assert shown == {0: True, 2: True, 3: False, 4: False, 7: False, 8: False, 9: False}  # of 5 and 6 nobody knows
    assert {place[1] for place, value in worst_case(BEFORE, [run], fresh=True).items() if value} == {0, 2, 3, 5}
