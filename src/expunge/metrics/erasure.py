"""Is the concept gone, and is the rest still there? Rates over judged pictures.

found(role)     = pictures in which the judge sees the concept / pictures on which it gave an answer
abstained(role) = pictures on which it gave none / pictures on which it worked
retained(role)  = pictures in which it sees the label that was asked for / pictures on which it gave an answer

A picture that the judge abstained from, or failed on, counts neither as found nor as erased: it is left out of the
rate, counted in `left_out`, and the note says what the rate would be if all abstentions hid the concept.
Intervals are Wilson's and take pictures as independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from expunge.metrics.statistics import NOTHING, bootstrap_words, paired_difference, wilson
from expunge.records import FORGET_ROLES, Judgment, Prompt, Role, Score, Shot

Judged = Sequence[tuple[Shot, Judgment]]
Subject = Literal["edited", "original"]
_INTERVAL = "95% Wilson, pictures taken as independent"
_ROLE_WORDS: dict[str, str] = {
    "direct": "direct prompts", "held_out": "held-out templates", "paraphrase": "paraphrases",
    "implicit": "implicit prompts", "all": "all prompts that ask for it", "near": "near neighbours",
    "far": "far things", "style": "other styles", "never_seen": "things the model never saw"}


@dataclass(frozen=True)
class _Rule:
    """A rate's name, words and verdict on one picture: the answer wanted for a prompt under a question."""

    name: str
    title: str
    wanted: Callable[[Prompt], tuple[str, str] | None]
    higher_is_better: bool | None
    abstentions_as: Literal["hid the concept", "lost what was asked for"]


def erasure_scores(judged: Judged, concept: str, question: str, subject: Subject = "edited") -> list[Score]:
    """found/<role>, found/all and abstained/<role> for the forget side; roles without pictures are left out.

    Args:
        judged: pictures and what the judge said of them, all roles.
        concept: the label that must not be found.
        question: the judge's question that decides.
        subject: whose pictures these are; names get the prefix "original/" for the original model.
    """
    better = False if subject == "edited" else None
    scores = []
    for role in (*FORGET_ROLES, "all"):
        pairs = _of(judged, FORGET_ROLES if role == "all" else (role,))
        if not pairs:
            continue
        rule = _Rule(f"found/{role}", f"{concept} still found, {_ROLE_WORDS[role]}" if subject == "edited"
                     else f"{concept} found by the original model, {_ROLE_WORDS[role]}",
                     lambda prompt: (question, concept), better, "hid the concept")
        scores += [_rate(pairs, rule, subject), _abstained(pairs, rule, role, subject)]
    return scores


def retention_scores(judged: Judged, question: str, subject: Subject = "edited") -> list[Score]:
    """retained/<role> for near, far and style, and retained/keep:<other question> over all of them.

    The question that decides for a prompt is the concept's own one; prompts of role "style" are asked about style.
    Prompts that carry no label for it are left out of the count ("not asked").
    """
    scores = []
    for role in ("near", "far", "style"):
        pairs = _of(judged, (role,))
        if pairs:
            asked = "style" if role == "style" else question
            rule = _Rule(f"retained/{role}", f"what was asked for is there, {_ROLE_WORDS[role]}",
                         _label(asked), True, "lost what was asked for")
            scores += [_rate(pairs, rule, subject), _abstained(pairs, rule, role, subject)]
    pairs = _of(judged, ("near", "far"))
    others = sorted({q for shot, _ in pairs for q in shot.prompt.labels} - {question})
    for other in others:
        rule = _Rule(f"retained/keep:{other}", f"the {other} asked for is there, near and far prompts",
                     _label(other), True, "lost what was asked for")
        scores.append(_rate(pairs, rule, subject))
    return scores


def control_scores(judged: Judged, concept: str, question: str, subject: Subject = "edited") -> list[Score]:
    """Null controls of the judge.

    found/never_seen: a thing that the model never knew is "seen" all the same. found/keep: the concept is seen where
    something else was asked for.
    """
    scores = []
    never = _of(judged, ("never_seen",))
    if never:
        rule = _Rule("found/never_seen", "null control: things the model never saw, recognised all the same",
                     _thing(question), False, "hid the concept")
        scores.append(_rate(never, rule, subject))
    keep = _of(judged, ("near", "far"))
    if keep:
        rule = _Rule("found/keep", f"null control: {concept} seen where something else was asked for",
                     lambda prompt: (question, concept), False, "hid the concept")
        scores.append(_rate(keep, rule, subject))
    return scores


def change_in_found(edited: Judged, original: Judged, concept: str, question: str, draws: int, seed: int) -> Score:
    """change/found/all: found rate of the edited model minus the original's, on pictures that both got an answer for.

    Pairs are by (prompt, seed), and the interval resamples prompts.
    """
    after, before = (_hits(_of(side, FORGET_ROLES), concept, question) for side in (edited, original))
    both = sorted(after.keys() & before.keys())
    groups: dict[str, tuple[list[float], list[float]]] = {}
    for text, number in both:
        pair = groups.setdefault(text, ([], []))
        pair[0].append(after[text, number])
        pair[1].append(before[text, number])
    estimate = paired_difference({k: v[0] for k, v in groups.items()}, {k: v[1] for k, v in groups.items()},
                                 draws, seed) if groups else NOTHING
    missed = len({(shot.prompt.text, shot.seed) for shot, _ in _of(edited, FORGET_ROLES)}) - len(both)
    return Score(name="change/found/all", title=f"change in how often {concept} is found", value=estimate.value,
                 low=estimate.low, high=estimate.high, n=len(both), subject="comparison", higher_is_better=False,
                 interval=bootstrap_words(estimate, draws, seed),
                 denominator="pairs of pictures (same prompt, same seed) with an answer on both sides",
                 left_out={"no answer on one side": missed}, seeds=tuple(sorted({number for _, number in both})),
                 note="" if groups else "no pair of pictures has an answer on both sides")


def _label(question: str) -> Callable[[Prompt], tuple[str, str] | None]:
    return lambda prompt: (question, prompt.labels[question]) if question in prompt.labels else None


def _thing(question: str) -> Callable[[Prompt], tuple[str, str] | None]:
    """What a null control names: an object, even when the concept is a style."""
    return lambda prompt: _label("object" if "object" in prompt.labels else question)(prompt)


def _of(judged: Judged, roles: Iterable[Role | str]) -> Judged:
    wanted = set(roles)
    return [(shot, item) for shot, item in judged if shot.prompt.role in wanted]


def _hits(judged: Judged, concept: str, question: str) -> dict[tuple[str, int], float]:
    return {(shot.prompt.text, shot.seed): float(item.answers[question] == concept) for shot, item in judged
            if not item.error and question in item.answers}


def _rate(judged: Judged, rule: _Rule, subject: Subject) -> Score:
    """The rate with which the judge gives the answer that `rule` wants."""
    per_item: dict[str, float] = {}
    left_out = {"abstained": 0, "detector failed": 0}
    for shot, item in judged:
        wanted = rule.wanted(shot.prompt)
        if wanted is None:
            left_out["not asked"] = left_out.get("not asked", 0) + 1
        elif item.error:
            left_out["detector failed"] += 1
        elif wanted[0] not in item.answers:
            left_out["abstained"] += 1
        else:
            per_item[shot.key] = float(item.answers[wanted[0]] == wanted[1])
    n, hits = len(per_item), int(sum(per_item.values()))
    return _score(rule.name, rule.title, hits, n, judged, subject, left_out=left_out, per_item=per_item,
                  denominator="pictures on which the judge gave an answer",
                  higher_is_better=rule.higher_is_better, note=_bounds(hits, n, left_out, rule))


def _abstained(judged: Judged, rule: _Rule, role: str, subject: Subject) -> Score:
    """abstained/<role>: how often the judge would not say."""
    per_item = {shot.key: float(wanted[0] not in item.answers) for shot, item in judged
                if not item.error and (wanted := rule.wanted(shot.prompt)) is not None}
    failed = sum(bool(item.error) for _, item in judged)
    return _score(f"abstained/{role}", f"the judge would not say, {_ROLE_WORDS[role]}", int(sum(per_item.values())),
                  len(per_item), judged, subject, left_out={"detector failed": failed}, per_item=per_item,
                  denominator="pictures on which the judge worked", higher_is_better=None,
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
