"""What a suite of attacks allows to be said: a sentence, a row per attack, its warnings, and what was asked, as text.

The sentence claims no more than was tried: "not elicited" in so many attempts, with interval, items and what was left
out. An item is a (prompt, seed) for which the judge finds the concept in the original model's image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from expunge.records import AttackRun, Attempt, Score, Spent, SuiteResult
from expunge.report.words import (
    count_text,
    counted,
    find,
    interval_text,
    left_out,
    left_out_text,
    number,
    value_of,
)

WHY = {
    "rare detector": "What the judge does not see in the original model's images, it cannot find in an attack's.",
    "zero gradients": "An attack that follows gradients and gets none does not work; its failure says nothing.",
    "black box beats white box": "Whoever sees gradients can do all that the other does. So this white box found less "
                                 "than it could: its gradients may be masked, its budget too small, or its form too "
                                 "narrow.",
    "no null control": "Without it nobody knows how much the attack “finds” where nothing can be found.",
    "null control scores": "The attack “finds” the concept where it cannot be. So part of its success, or all of it, "
                           "may "
                           "come from the image it starts from, from the prompt or from the judge.",
    "failed attempts": "They count neither way, and are made again when the same attack is run again.",
    "too few items": "The interval is wide: a rate of zero among them does not mean a rate near zero.",
    "not made": "An attack of the tier that cannot be made on this model; its channel was not tried.",
}
"""What each kind of warning means; a warning's kind is what stands before its colon."""
_NAMED = 3
"""So many of the captions that an attack trained on are named."""


@dataclass(frozen=True)
class AttackRow:
    """One attack as text: counts over items tried; what it may spend at most on one item.

    Attributes:
        warnings: (kind, anchor) of the warnings that name this attack.
    """

    name: str
    access: str
    elicited: str
    interval: str
    fresh: str
    second: str
    control: str
    budget: str
    control_of: str = ""
    warnings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class WarningGroup:
    """All warnings of one kind: what they say, why that matters, and the anchor under which a page shows them."""

    kind: str
    anchor: str
    why: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Rewording:
    """A prompt that an attack put in place of another, with what came of it on fresh seeds."""

    prompt: str
    seed: int
    text: str
    again: str


def attack_sentence(suite: SuiteResult) -> str:
    """What the attacks found, worst case over all of them, with its denominator and what is not in it.

    What the edited model shows by itself is not called elicited, and where nobody attacked nothing is said of attacks.
    """
    worst, tried = find(suite, "attack/worst"), attempts_made(suite)
    concept = suite.request.concept
    if worst is None or value_of(worst) is None:
        why = "no item could be judged" if suite.before else "there was no item to attack"
        return f"Whether attacks elicit “{concept}” was not measured: {why}.{_left(suite, worst)}"
    if not tried and not worst.numerator:
        return (f"No attack was carried through on {counted(worst.n, 'items')}, so nothing can be said about attacks."
                f"{_left(suite, worst)}")
    names = list(dict.fromkeys(item.attack for item in tried))
    share = f"{number(worst.name, worst.value or 0.0)}, 95% interval {interval_text(worst)}"
    before = _shown_before(suite)
    if not worst.numerator:
        said = (f"Not elicited in {counted(len(tried), 'attempts')} on {counted(worst.n, 'items')} by "
                f"{_attackers(names, 'these')} at this budget (95% interval {interval_text(worst)}).")
    elif before is not None and before >= worst.numerator:
        said = f"Shown without any attack in {worst.numerator} of {counted(worst.n, 'items')} ({share}); " \
               f"{_not_more(suite, names, len(tried), worst)}."
    else:
        said = f"Elicited in {worst.numerator} of {counted(worst.n, 'items')} ({share}), worst case over " \
               f"{_attackers(names)}{_already(before)}.{_stricter(suite)}"
    return f"{said} An item is a prompt and a seed for which the judge finds “{concept}” in the original model's " \
           f"image.{_uncontrolled(suite)}{_left(suite, worst)}"


def attack_rows(suite: SuiteResult) -> list[AttackRow]:
    """No attack, then every attack in the order in which they were made, then the worst case over all."""
    by_anchor = {warning.anchor: warning for warning in warning_groups(suite)}
    before = find(suite, "attack/before")
    rows = [AttackRow("no attack", "none", _count(before), _interval(before), "", "", "", "")] if before else []
    for run in suite.runs:
        name = f"attack/{run.attack}"
        own, control = find(suite, name), find(suite, f"{name}/control")
        named = re.compile(rf"(?<![\w-]){re.escape(run.attack)}(?![\w-])")
        rows.append(AttackRow(
            run.attack, run.access, _count(own) if run.attempts else "no item was left", _interval(own),
            _count(find(suite, f"{name}/fresh")) or "none drawn",
            _count(find(suite, f"{name}/second")) or ("none shown" if suite.second else "no second detector"),
            _control(control, run), budget_text(run.budget),
            run.control_of if control and not run.uncontrolled else "",
            tuple((d.kind, anchor) for anchor, d in by_anchor.items() if any(map(named.search, d.sentences)))))
    worst, fresh = find(suite, "attack/worst"), find(suite, "attack/worst/fresh")
    if worst:
        rows.append(AttackRow("worst case", "any of these", _count(worst), _interval(worst),
                              _count(fresh) and f"{_count(fresh)} items", "", "", ""))
    return rows


def attacker_words(suite: SuiteResult) -> list[str]:
    """Plain sentences: of which text encoder attacks searched tokens or embeddings, and who reads what they found; and
    with which captions attacks trained on images."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for run in suite.runs:
        if run.searches:
            groups.setdefault((run.searches, run.encoder, run.readers), []).append(run.attack)
    out = []
    for (searches, encoder, readers), names in groups.items():
        others = [name for name in readers if name != encoder]
        read = (f"; the prompt that was found is read anew by {', '.join(readers)}" if searches == "tokens" else
                f"; by {', '.join(others)} the prompt is read as it is" if others else "")
        out.append(f"Searched {searches} of {encoder}: {', '.join(names)}{read}.")
    taught: dict[tuple[str, ...], list[str]] = {}
    for run in suite.runs:
        if run.learns_from:
            taught.setdefault(run.learns_from, []).append(run.attack)
    for texts, names in taught.items():
        more = f" and {len(texts) - _NAMED} more, all in the record" if len(texts) > _NAMED else ""
        named = ", ".join(f"“{text}”" for text in texts[:_NAMED])
        out.append(f"Trained on images with {counted(len(texts), 'captions')}: {', '.join(names)} ({named}{more}).")
    return out


def attempts_made(suite: SuiteResult) -> list[Attempt]:
    """All attempts that were carried through."""
    return [item for run in suite.runs for item in run.attempts if item.outcome != "failed"]


def warning_groups(suite: SuiteResult) -> list[WarningGroup]:
    """The suite's warnings by kind, in the order in which they were raised."""
    kinds: dict[str, list[str]] = {}
    for warning in suite.warnings:
        kind, colon, sentence = warning.partition(": ")
        known = bool(colon) and kind in WHY
        kinds.setdefault(kind if known else "warning", []).append(sentence if known else warning)
    return [WarningGroup(kind, f"warning-{re.sub(r'[^a-z]+', '-', kind)}", WHY.get(kind, ""), tuple(sentences))
            for kind, sentences in kinds.items()]


def asked_instead(run: AttackRun) -> list[Rewording]:
    """The adversarial prompts of an attack that found something, in the order of its items."""
    return [Rewording(item.prompt.text, item.seed, item.text, again_text(item)) for item in run.attempts
            if item.outcome == "found" and item.text and item.text != item.prompt.text]


def again_text(item: Attempt) -> str:
    """"again on 3 of 4 fresh seeds, 2 confirmed by the second detector"."""
    if not item.fresh:
        return "not drawn again"
    fresh = f"again on {item.fresh_found} of {item.fresh} fresh seeds"
    if item.confirmed is None or not item.fresh_found:
        return fresh
    if item.asked_second < item.fresh_found:  # it abstained or failed on the others
        return f"{fresh}, {item.confirmed} confirmed of the {item.asked_second} on which the second detector answered"
    return f"{fresh}, {item.confirmed} of them confirmed by the second detector"


def budget_text(budget: Spent) -> str:
    """The most that may be spent on one item: "20 gradient steps, 40 images, 1,600 NFE".

    NFE: rows that go through the denoiser; a row with a gradient counts three.
    """
    amounts = ((budget.gradient_steps, "gradient step"), (budget.images, "image"))
    parts = [f"{count:,} {unit}{'' if count == 1 else 's'}" for count, unit in amounts if count]
    nfe = [f"{budget.network_rows:,} NFE"] if budget.network_rows else []
    return ", ".join([*parts, *nfe, *([f"{budget.seconds:g} s"] if budget.seconds else [])]) or "not stated"


def _attackers(names: list[str], which: str = "") -> str:
    """"these 3 attackers (a, b, c)"."""
    this = {"": "", "these": "this " if len(names) == 1 else "these "}[which]
    return f"{this}{counted(len(names), 'attackers')} ({', '.join(names)})"


def _shown_before(suite: SuiteResult) -> int | None:
    """Items that the edited model shows without any attack; None where that was not measured."""
    before = find(suite, "attack/before")
    return before.numerator if before is not None and before.n else None


def _already(before: int | None) -> str:
    if before is None:
        return "; how many of them without an attack is not known"
    return f"; {before} of them already without an attack" if before else "; none of them without an attack"


def _not_more(suite: SuiteResult, names: list[str], tried: int, worst: Score) -> str:
    """What attacks added to items of which all are shown without one."""
    if tried:
        return f"{_attackers(names)} elicited no other in {counted(tried, 'attempts')} at this budget"
    if worst.numerator == worst.n and not any(run.attempts for run in suite.runs):
        return "no attack had one left"
    return "no attack was carried through on the others"


def _stricter(suite: SuiteResult) -> str:
    """The worst case counted more strictly, where that changes it."""
    worst, out = find(suite, "attack/worst"), ""
    for name, words in (("attack/worst/fresh", "Counting only successes that a fresh seed shows again"),
                        ("attack/worst/evidence", "Without attacks that are not shown to do better than their null "
                                                  "control")):
        score = find(suite, name)
        if score is not None and score.n and worst is not None and (score.numerator, score.n) != (worst.numerator,
                                                                                                worst.n):
            share = f"{number(name, score.value or 0.0)}, 95% interval {interval_text(score)}"
            own = [f"{count} left out ({why})" for why, count in score.left_out.items()
                   if name.endswith("/evidence") and why not in worst.left_out]
            out += f" {words}: {'; '.join([f'{score.numerator} of {score.n} ({share})', *own])}."
    fresh = find(suite, "attack/worst/fresh")
    return out + (" No success was drawn again with a fresh seed." if fresh is None or not fresh.n else "")


def uncontrolled_runs(suite: SuiteResult) -> list[AttackRun]:
    """The attacks that were made, and have no null control that was carried through."""
    return [run for run in suite.runs if run.attempts and (
        run.uncontrolled or not any(item.outcome != "failed" for item in run.control))]


def _uncontrolled(suite: SuiteResult) -> str:
    """Which attacks nobody ran where nothing can be found, and what that means for what they found."""
    runs = uncontrolled_runs(suite)
    if not runs:
        return ""
    found = any(item.outcome == "found" for run in runs for item in run.attempts)
    means = ": how much they “find” where nothing can be found is not known" if found else ""
    return f" Uncontrolled, without a null control: {', '.join(run.attack for run in runs)}{means}."


def _left(suite: SuiteResult, worst: Score | None) -> str:
    """What is not in the denominator, and which attempts broke off."""
    reasons = {**suite.left_out, **(worst.left_out if worst else {})}
    parts = [f"{count} ({reason})" for reason, count in reasons.items() if count]
    failed = sum(item.outcome == "failed" for run in suite.runs for item in run.attempts)
    out = f" Items left out: {', '.join(parts)}." if parts else ""
    return out + (f" {failed} attempts broke off and count neither way." if failed > 1 else
                  " 1 attempt broke off and counts neither way." if failed else "")


def _count(score: Score | None) -> str:
    """"3 of 12", with what is not among them: "3 of 12 (1 attempt failed)"; "" where there is no such score."""
    if score is None:
        return ""
    count = count_text(score) if score.n else "not measured"
    return f"{count} ({left_out_text(score)})" if left_out(score) else count


def _control(control: Score | None, run: AttackRun) -> str:
    """"0 of 4 (0% to 49.0%)": a null control of few items says little, and the interval says how little."""
    if run.uncontrolled:
        return f"uncontrolled: {run.uncontrolled}"
    if control is None:
        return f"none run ({run.control_of})" if run.control_of else "none run"
    return f"{_count(control)} ({interval_text(control)})" if control.n else _count(control)


def _interval(score: Score | None) -> str:
    return interval_text(score) if score is not None else "none"
