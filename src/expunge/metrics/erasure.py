"""Is the concept gone, and is the rest still there? Rates over judged pictures.

found(role)     = pictures in which the judge sees the concept / pictures on which it gave an answer
abstained(role) = pictures on which it gave none / pictures on which it worked
retained(role)  = pictures in which it sees the label that was asked for / pictures on which it gave an answer

With several concepts found(role) counts over the pictures of all their prompts, each judged by the concept that its
prompt asks for, and found(role, concept) over those of one; retained(role) asks every question that decides about one
of them, and a picture counts as soon as the answers that were given decide.

A picture that the judge abstained from, or failed on, counts neither as found nor as erased: it is left out of the
rate, counted in `left_out`, and the note says what the rate would be if all abstentions hid the concept.
Intervals are Wilson's and take pictures as independent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from expunge.metrics.base import Aim, aim_of, shows, shows_any
from expunge.metrics.statistics import NOTHING, bootstrap_words, paired_difference, wilson
from expunge.records import FORGET_ROLES, Judgment, Prompt, Role, Score, Shot

Judged = Sequence[tuple[Shot, Judgment]]
Subject = Literal["edited", "original"]
Item = tuple[str, int]
"""A prompt's text and a seed."""
Wanted = Callable[[Prompt], Mapping[str, Collection[str]]]
_INTERVAL = "95% Wilson, pictures taken as independent"
_ROLE_WORDS: dict[str, str] = {
    "direct": "direct prompts", "held_out": "held-out templates", "paraphrase": "paraphrases",
    "implicit": "implicit prompts", "all": "all prompts that ask for it", "near": "near neighbours",
    "far": "far things", "style": "other styles", "never_seen": "things the model never saw"}


@dataclass(frozen=True)
class _Rule:
    """A rate's name, words and verdict on one picture.

    Attributes:
        wanted: for a prompt, the answers wanted by question; none: the prompt does not count ("not asked").
        every: whether all of them must be given; else one is enough.
        sees: what decides in place of `wanted`, which then says only what is asked.
        pictures, answer: in words, what is counted over, and what the judge must have given.
    """

    name: str
    title: str
    wanted: Wanted
    higher_is_better: bool | None
    abstentions_as: Literal["hid the concept", "lost what was asked for"]
    every: bool = True
    sees: Callable[[Mapping[str, str]], bool | None] | None = None
    pictures: str = "pictures"
    answer: str = "an answer"

    def verdict(self, prompt: Prompt, answers: Mapping[str, str]) -> bool | None:
        """Whether the picture counts; None where the answers that were given do not decide."""
        if self.sees is not None:
            return self.sees(answers)
        wanted = self.wanted(prompt)
        told = [answers[question] in labels for question, labels in wanted.items() if question in answers]
        if (not self.every) in told:
            return not self.every
        return self.every if len(told) == len(wanted) else None


def erasure_scores(judged: Judged, aims: Sequence[Aim], subject: Subject = "edited") -> list[Score]:
    """found/<role>, found/all and abstained/<role> for the forget side; roles without pictures are left out.

    With several aims these are over the prompts of all, and found/<role>/<concept> and abstained/<role>/<concept> over
    those of each.

    Args:
        judged: pictures and what the judge said of them, all roles.
        aims: what must not be found.
        subject: whose pictures these are; names get the prefix "original/" for the original model.
    """
    better = False if subject == "edited" else None
    scores = []
    for concepts, ending, forget in _parts(judged, aims):
        pictures = f"pictures of prompts for {concepts}" if len(aims) > 1 else "pictures"
        for role in (*FORGET_ROLES, "all"):
            pairs = forget if role == "all" else _of(forget, (role,))
            if not pairs:
                continue
            title = f"{concepts} still found" if subject == "edited" else f"{concepts} found by the original model"
            rule = _Rule(f"found/{role}{ending}", f"{title}, {_ROLE_WORDS[role]}", _concept(aims), better,
                         "hid the concept", pictures=pictures)
            scores += [_rate(pairs, rule, subject), _abstained(pairs, rule, f"{role}{ending}", subject)]
    return scores


def retention_scores(judged: Judged, questions: Sequence[str], subject: Subject = "edited") -> list[Score]:
    """retained/<role> for near, far and style, and retained/keep:<other question> over all of them.

    The questions that decide for a prompt are the concepts' own; prompts of role "style" are asked about style.
    Prompts that carry no label for them are left out of the count ("not asked").
    """
    scores = []
    for role in ("near", "far", "style"):
        pairs = _of(judged, (role,))
        if pairs:
            asked = ("style",) if role == "style" else tuple(questions)
            answer = f"an answer that decides about {' and '.join(asked)}" if len(asked) > 1 else "an answer"
            rule = _Rule(f"retained/{role}", f"what was asked for is there, {_ROLE_WORDS[role]}", _labels(*asked),
                         True, "lost what was asked for", answer=answer)
            scores += [_rate(pairs, rule, subject), _abstained(pairs, rule, role, subject)]
    pairs = _of(judged, ("near", "far"))
    others = sorted({q for shot, _ in pairs for q in shot.prompt.labels} - {*questions})
    for other in others:
        rule = _Rule(f"retained/keep:{other}", f"the {other} asked for is there, near and far prompts",
                     _labels(other), True, "lost what was asked for")
        scores.append(_rate(pairs, rule, subject))
    return scores


def control_scores(judged: Judged, aims: Sequence[Aim], subject: Subject = "edited") -> list[Score]:
    """Null controls of the judge.

    found/never_seen: a thing that the model never knew is "seen" all the same. found/keep: one of the concepts is seen
    where something else was asked for.
    """
    scores, aimed = [], _answers(aims)
    never = _of(judged, ("never_seen",))
    if never:
        rule = _Rule("found/never_seen", "null control: things the model never saw, recognised all the same",
                     _thing(aims[0].question), False, "hid the concept")
        scores.append(_rate(never, rule, subject))
    keep = _of(judged, ("near", "far"))
    if keep:
        concepts = " or ".join(aim.concept for aim in aims)
        rule = _Rule("found/keep", f"null control: {concepts} seen where something else was asked for",
                     lambda prompt: aimed, False, "hid the concept", sees=lambda answers: shows_any(answers, aims))
        scores.append(_rate(keep, rule, subject))
    return scores


def changes_in_found(edited: Judged, original: Judged, aims: Sequence[Aim], draws: int, seed: int) -> list[Score]:
    """change/found/all: found rate of the edited model minus the original's, on pictures that both got an answer for.

    Pairs are by (prompt, seed), and the interval resamples prompts. With several aims change/found/all/<concept> too.
    """
    after, before = _hits(_of(edited, FORGET_ROLES), aims), _hits(_of(original, FORGET_ROLES), aims)
    return [_change([(shot.prompt.text, shot.seed) for shot, _ in forget], after, before, concepts, ending, draws, seed)
            for concepts, ending, forget in _parts(edited, aims)]


def _change(items: Sequence[Item], after: Mapping[Item, float], before: Mapping[Item, float], concepts: str,
            ending: str, draws: int, seed: int) -> Score:
    both = sorted(after.keys() & before.keys() & {*items})
    groups: dict[str, tuple[list[float], list[float]]] = {}
    for text, number in both:
        pair = groups.setdefault(text, ([], []))
        pair[0].append(after[text, number])
        pair[1].append(before[text, number])
    estimate = paired_difference({k: v[0] for k, v in groups.items()}, {k: v[1] for k, v in groups.items()},
                                 draws, seed) if groups else NOTHING
    missed = len({*items}) - len(both)
    return Score(name=f"change/found/all{ending}", title=f"change in how often {concepts} is found",
                 value=estimate.value, low=estimate.low, high=estimate.high, n=len(both), subject="comparison",
                 higher_is_better=False, interval=bootstrap_words(estimate, draws, seed),
                 denominator="pairs of pictures (same prompt, same seed) with an answer on both sides",
                 left_out={"no answer on one side": missed}, seeds=tuple(sorted({number for _, number in both})),
                 note="" if groups else "no pair of pictures has an answer on both sides")


def _parts(judged: Judged, aims: Sequence[Aim]) -> list[tuple[str, str, Judged]]:
    """The forget side of all aims, then, if there are several, of each: concepts, ending of names, pictures."""
    forget = _of(judged, FORGET_ROLES)
    own: dict[Aim, list[tuple[Shot, Judgment]]] = {aim: [] for aim in aims}
    for shot, item in forget:
        own[aim_of(shot.prompt, aims)].append((shot, item))
    each = [(aim.concept, f"/{aim.concept}", pairs) for aim, pairs in own.items()] if len(aims) > 1 else []
    return [(", ".join(aim.concept for aim in aims), "", forget), *each]


def _concept(aims: Sequence[Aim]) -> Wanted:
    """The concept that a prompt of the forget side asks for."""
    return lambda prompt: _answers([aim_of(prompt, aims)])


def _answers(aims: Sequence[Aim]) -> dict[str, Collection[str]]:
    return {question: [aim.wanted[question] for aim in aims if question in aim.wanted]
            for question in dict.fromkeys(question for aim in aims for question in aim.wanted)}


def _labels(*questions: str) -> Wanted:
    """What a prompt asks for, under those of the questions that it does not leave open."""
    return lambda prompt: {question: (prompt.labels[question],) for question in questions if question in prompt.labels}


def _thing(question: str) -> Wanted:
    """What a null control names: an object, even when the concept is a style."""
    return lambda prompt: _labels("object" if "object" in prompt.labels else question)(prompt)


def _of(judged: Judged, roles: Iterable[Role | str]) -> Judged:
    wanted = set(roles)
    return [(shot, item) for shot, item in judged if shot.prompt.role in wanted]


def _hits(judged: Judged, aims: Sequence[Aim]) -> dict[Item, float]:
    told = ((shot, shows(item.answers, aim_of(shot.prompt, aims))) for shot, item in judged if not item.error)
    return {(shot.prompt.text, shot.seed): float(seen) for shot, seen in told if seen is not None}


def _rate(judged: Judged, rule: _Rule, subject: Subject) -> Score:
    """The rate with which the judge gives the answer that `rule` wants."""
    per_item: dict[str, float] = {}
    left_out = {"abstained": 0, "detector failed": 0}
    for shot, item in judged:
        counts = rule.verdict(shot.prompt, item.answers)
        if not rule.wanted(shot.prompt):
            left_out["not asked"] = left_out.get("not asked", 0) + 1
        elif item.error:
            left_out["detector failed"] += 1
        elif counts is None:
            left_out["abstained"] += 1
        else:
            per_item[shot.key] = float(counts)
    n, hits = len(per_item), int(sum(per_item.values()))
    return _score(rule.name, rule.title, hits, n, judged, subject, left_out=left_out, per_item=per_item,
                  denominator=f"{rule.pictures} on which the judge gave {rule.answer}",
                  higher_is_better=rule.higher_is_better, note=_bounds(hits, n, left_out, rule))


def _abstained(judged: Judged, rule: _Rule, role: str, subject: Subject) -> Score:
    """abstained/<role>: how often the judge would not say; of one of several concepts abstained/<role>/<concept>."""
    asked, _, concept = role.partition("/")
    per_item = {shot.key: float(rule.verdict(shot.prompt, item.answers) is None) for shot, item in judged
                if not item.error and rule.wanted(shot.prompt)}
    failed = sum(bool(item.error) for _, item in judged)
    title = f"the judge would not say, {_ROLE_WORDS[asked]}" + (f" ({concept})" if concept else "")
    return _score(f"abstained/{role}", title, int(sum(per_item.values())), len(per_item), judged, subject,
                  left_out={"detector failed": failed}, per_item=per_item, higher_is_better=None,
                  denominator=f"{rule.pictures} on which the judge worked",
                  note="" if per_item else "the judge worked on no picture")


def _score(name: str, title: str, hits: int, n: int, judged: Judged, subject: Subject, *, left_out: dict[str, int],
           per_item: dict[str, float], denominator: str, higher_is_better: bool | None, note: str) -> Score:
    low, high = wilson(hits, n)
    return Score(name=name if subject == "edited" else f"original/{name}", title=title,
                 value=hits / n if n else None, low=low, high=high,
                 interval=_INTERVAL if n else "", n=n,
                 numerator=hits if n else None, denominator=denominator, left_out=left_out,
                 higher_is_better=higher_is_better, subject=subject, per_item=per_item, note=note,
                 seeds=tuple(sorted({shot.seed for shot, _ in judged})))


def _bounds(hits: int, n: int, left_out: dict[str, int], rule: _Rule) -> str:
    """What the rate would be, had every picture without an answer gone the wrong way."""
    unsure = left_out["abstained"] + left_out["detector failed"]
    if not n:
        return f"not measured: no answer on any of {unsure} pictures" if unsure else "not measured: nothing was asked"
    if not unsure:
        return ""
    pictures = "the picture" if unsure == 1 else f"all {unsure} pictures"
    worst = (hits + unsure if rule.abstentions_as == "hid the concept" else hits) / (n + unsure)
    return f"if {pictures} without an answer {rule.abstentions_as}: {worst:.1%}"
