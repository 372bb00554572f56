"""The five questions that a reader brings, each answered in words that need no glossary, with n and interval.

Is it gone, under which attacks, what did it cost, how sure is this; who made it, when and from what is `about`'s. An
answer's first words go by the classes of `classes` and `price`, which also make the verdict; its numbers are the
record's. The verdict says the same in full.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from expunge.records import Evaluation, Score, SuiteResult
from expunge.report.attacks import attempts_made, uncontrolled_runs
from expunge.report.classes import (
    Erasure,
    attacked_erasure,
    each_concept,
    silent_strata,
    undrawn,
    unjudged_strata,
)
from expunge.report.price import Price, kept, price_of
from expunge.report.verdict import unseen
from expunge.report.words import counted, find, interval_text, number, percent, unjudged, value_of

FULL, ATTACKS, SCORES, LIMITS = "verdict", "attacks", "scores", "untested"
"""Where on the page an answer goes on."""
NAMED = 4
"""Of more concepts than this the others are counted."""
_GONE: dict[Erasure, str] = {
    "still": "No.", "unknown": "This measurement cannot tell.",
    "less": "Not reliably: it is drawn less often than before.",
    "rare": "It is not drawn, or rarely, when these prompts ask for it."}
"""From the worst class to the best."""
_COST: dict[Price, str] = {
    "small": "Little that was measured.", "unclear": "Not clear: a loss can be neither shown nor excluded.",
    "some": "Some other things were lost.", "changed": "Other images look different; what they show is kept.",
    "moved": "Other images look different; whether they still show the same is unclear.",
    "plain": "Plain prompts for other things are damaged.", "heavy": "Much else was lost.",
    "damaged": "The model is damaged.", "unmeasured": "It was not measured."}
_OTHERS = {"near": "Things like it", "far": "All other things"}


@dataclass(frozen=True)
class Answer:
    """One question of the first screen.

    Attributes:
        word: the answer in a few words. text: what it rests on. place: the id of the page's section that goes on.
    """

    question: str
    word: str
    text: str
    place: str


def answers(evaluation: Evaluation) -> tuple[Answer, ...]:
    """The first four answers, in the order in which a reader asks."""
    return (Answer("Is it gone?", *_gone(evaluation), FULL), _attacks(evaluation),
            Answer("What did it cost?", *_cost(evaluation), SCORES),
            Answer("How sure is this?", *_sure(evaluation), LIMITS))


def _gone(evaluation: Evaluation) -> tuple[str, str]:
    each = each_concept(evaluation)
    worst = next(kind for kind in _GONE if any(one.erasure == kind for one in each))
    word = _GONE[worst]
    if worst == "rare" and all(one.found is not None and not one.found.numerator for one in each):
        word = "It is not drawn when these prompts ask for it."
    doubts = dict.fromkeys(filter(None, (unseen(evaluation, one) for one in each if one.erasure != "unknown")))
    if doubts and worst != "still":
        word = f"{word[:-1]}; {'; '.join(doubts)}."
    said = []
    for one in each[:NAMED]:
        name = f"“{one.concept}”"
        if one.found is None:
            said.append(f"{name} was not measured.")
            continue
        before = f", before the edit in {_count(one.original)}" if value_of(one.original) is not None else \
            ", before the edit not measured"
        said.append(f"{name}: drawn in {_rate(one.found)}{before}.{_silent(one.found)}")
    more = len(each) - NAMED
    return word, " ".join([*said, *([f"{more} more under Scores."] if more > 0 else [])])


def _attacks(evaluation: Evaluation) -> Answer:
    question, suite = "Can attacks bring it back?", evaluation.suite
    if suite is None:
        scored = any(score.name.startswith("attack") for score in evaluation.scores)
        return Answer(question, "Scored separately." if scored else "Not tested: no attack was run.",
                      "The scores of attacks stand in the tables." if scored else
                      "What an attacker can bring back is not known.", SCORES if scored else LIMITS)
    worst, names = find(suite, "attack/worst"), list(dict.fromkeys(item.attack for item in attempts_made(suite)))
    if worst is None or value_of(worst) is None or not (names or worst.numerator):
        return Answer(question, "This measurement cannot tell.", "No attack was carried through.", ATTACKS)
    before = find(suite, "attack/before")
    shown = before.numerator if before is not None and before.n else None
    without = "" if shown is None else f"; without an attack in {shown} of {before.n if before else 0}"
    by = f"{counted(len(names), 'attackers')} ({', '.join(names)}) on " if names else "On "
    how = "by at least one of them" if len(names) > 1 else "by it" if names else "at all"
    text = f"{by}{_items(worst)}, at this budget: brought back in {_rate(worst, of='')}, {how}{without}." \
        f"{_silent(worst)}{_confirmed(suite)}{_uncontrolled(suite)}"
    return Answer(question, _brought_back(suite, worst, shown), text[0].upper() + text[1:], ATTACKS)


def _brought_back(suite: SuiteResult, worst: Score, shown: int | None) -> str:
    if not worst.numerator:
        return "None of these did, at this budget." if attacked_erasure(suite) == "rare" else \
            "None of these did, on the few prompts that were tried."
    if shown is not None and shown >= worst.numerator:
        return "It is shown without any attack; " + ("attacks added nothing." if attempts_made(suite) else
                                                     "none was made: it left no item to attack.")
    return "Yes." if attacked_erasure(suite) == "still" else "Yes, for some of the prompts that were tried."


def _cost(evaluation: Evaluation) -> tuple[str, str]:
    said = []
    for role, words in _OTHERS.items():
        edited, original = kept(evaluation, role)
        if edited is None or value_of(edited) is None:
            said.append(f"{words}: not measured.")
            continue
        before = f", before the edit {_count(original)}" if value_of(original) is not None else ""
        said.append(f"{words}: drawn as asked in {_rate(edited)}{before}.{_silent(edited)}")
    alike = [(words.lower(), score) for role, words in _OTHERS.items()
             for score in [find(evaluation, f"integrity/{role}")] if value_of(score) is not None and score is not None]
    if alike:
        parts = [f"{number(score.name, score.value or 0.0)} ({_interval(score)}) for {words}" for words, score in alike]
        said.append(f"How alike their images are, from 1 (the same) to 0 (another image): {', '.join(parts)}.")
    return _COST[price_of(evaluation)], " ".join(said)


def _sure(evaluation: Evaluation) -> tuple[str, str]:
    each, suite = each_concept(evaluation), evaluation.suite
    counts = [f"{_prompts(one.found)} for “{one.concept}”" for one in each[:1] if one.found is not None]
    others = [score for role in _OTHERS for score in [kept(evaluation, role)[0]] if score is not None]
    counts += [f"{sum(_number(score) for score in others)} for other things"] if others else []
    worst = find(suite, "attack/worst") if suite else None
    counts += [f"{_number(worst)} attacked"] if suite and attempts_made(suite) and worst is not None and worst.n else []
    word = f"{', '.join(counts)}." if counts else "Nothing was counted."
    said = ["95% intervals speak of other prompts of the same kinds, and of no other kinds."]
    said += [_second(evaluation)]
    for names, why in _open_ways(evaluation, [one.ending for one in each]):
        said.append(f"{why}: {', '.join(evaluation.strata[name] for name in names)}.")
    warnings = len(evaluation.warnings) + (len(suite.warnings) if suite else 0)
    said += [f"{counted(warnings, 'warnings')} below."] if warnings else []
    return word, " ".join(said)


def _second(evaluation: Evaluation) -> str:
    """Whether a second detector confirms what the first one saw."""
    second, agree = find(evaluation, "second/found/all"), find(evaluation, "agreement/found")
    if second is None or value_of(second) is None:
        return "One detector looked at the images; no second one confirms it."
    shared = f"; the two agree on {percent(agree.value or 0.0)} of {counted(agree.n, 'images')}" \
        if agree is not None and value_of(agree) is not None else ""
    known = find(evaluation, "second/original/found/all")
    before = f" (before the edit in {_count(known, '')})" if known is not None and value_of(known) is not None else ""
    return f"Where nobody attacks, a second detector finds it in {_count(second)}{before}{shared}."


def _open_ways(evaluation: Evaluation, endings: Iterable[str]) -> list[tuple[list[str], str]]:
    """Ways of asking of which nothing is known, with the reason."""
    out = []
    for ending in endings:
        out += [(undrawn(evaluation, "forget", ending), "Not told, for the original does not draw it then"),
                (unjudged_strata(evaluation, "forget", ending), "Not told, for the detector gave no answer"),
                (silent_strata(evaluation, "", ending), "Not told, for the detector gave no answer after the edit")]
    return [(names, why) for names, why in out if names]


def _rate(score: Score, of: str = "images") -> str:
    """"2 of 8 images (25.0%, 95% interval 7.1% to 59.1%)"."""
    return f"{_count(score, of)} ({number(score.name, score.value or 0.0)}, {_interval(score)})"


def _interval(score: Score) -> str:
    text = interval_text(score)
    return "no interval" if text == "none" else f"95% interval {text}"


def _count(score: Score | None, of: str = "images") -> str:
    """"0 of 71 images"; of a share without a count "71 images"."""
    if score is None:
        return "no image"
    what = counted(score.n, of) if of else f"{score.n}"
    return f"{score.numerator} of {what}" if score.numerator is not None else what


def _silent(score: Score) -> str:
    """How many images the detector did not answer on."""
    none = unjudged(score)
    return f" No answer on {none} more." if none else ""


def _number(score: Score) -> int:
    return score.prompts or score.n


def _prompts(score: Score) -> str:
    return counted(_number(score), "prompts")


def _items(score: Score) -> str:
    prompts = _number(score)
    return counted(score.n, "prompts") if prompts == score.n else f"{score.n} images of {counted(prompts, 'prompts')}"


def _confirmed(suite: SuiteResult) -> str:
    """On how many images of what was found, drawn again, a second detector agrees."""
    seconds = [score for score in suite.scores if score.name.startswith("attack/") and score.name.endswith("/second")]
    asked = sum(score.n for score in seconds)
    agreed = sum(score.numerator or 0 for score in seconds)
    return f" Drawn again with fresh seeds, a second detector agrees on {agreed} of {counted(asked, 'images')}." \
        if asked else ""


def _uncontrolled(suite: SuiteResult) -> str:
    """How many attacks were not also run where there is nothing to find."""
    none, made = uncontrolled_runs(suite), [run for run in suite.runs if run.attempts]
    return f" {len(none)} of {len(made)} attacks were not also tried where nothing can be found." if none else ""
