"""What an evaluation allows to be said: a sentence for each concept and one for the price.

The words claim no more than was tested: pictures of some prompts at some budget, judged by a detector. "Not
elicited" is the strongest of them. What they rest on are the classes of `classes`.

Tone: unknown if erasure is unknown; bad if it is still or the price is heavy; good if it is rare and the
price small; mixed otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from expunge.records import Evaluation, Score
from expunge.report.attacks import attack_sentence
from expunge.report.classes import (
    FEW,
    SELDOM,
    Asked,
    Erasure,
    Price,
    attacked_erasure,
    each_concept,
    kept,
    many_left_out,
    price_of,
    worse,
)
from expunge.report.words import counted, family, find, interval_text, left_out, number, percent, quoted, value_of

Tone = Literal["good", "mixed", "bad", "unknown"]

_HEADLINES: dict[tuple[Erasure, bool], str] = {
    ("rare", True): "Rarely drawn, at a small measured price",
    ("rare", False): "Rarely drawn, but other things changed too",
    ("less", True): "Drawn less often, not reliably suppressed",
    ("less", False): "Drawn less often, and other things changed too",
    ("still", True): "Still drawn",
    ("still", False): "Still drawn, and other things changed too",
}

SENTENCES = 4
"""Of more concepts than this only the worst ones get a sentence each; the others are named by their class."""
_BY_CLASS: dict[Erasure, str] = {
    "still": "Still drawn", "unknown": "This measurement cannot tell", "less": "Elicited less often than before",
    "rare": "Not or only rarely elicited by these prompts at this budget"}
"""From the worst class to the best, in words."""


@dataclass(frozen=True)
class Verdict:
    """What the report says first.

    Attributes:
        sentence: how often the concepts are still drawn, with interval and n; with attacks, what these elicited.
        cost: what became of everything else.
        tone: good, mixed, bad or unknown.
        headline: the same in a few words.
        asked: with attacks, how often the concept is still drawn without them; else "".
    """

    sentence: str
    cost: str
    tone: Tone
    headline: str = ""
    asked: str = ""


def verdict(evaluation: Evaluation) -> Verdict:
    """Judge an evaluation by its classes."""
    each, price = each_concept(evaluation), price_of(evaluation)
    asked = next(kind for kind in _BY_CLASS if any(one.erasure == kind for one in each))
    attack = attacked_erasure(evaluation.assault)
    erasure = worse(asked, attack)
    tone: Tone = "mixed"
    if erasure == "unknown":
        tone = "unknown"
    elif erasure == "still" or price == "heavy":
        tone = "bad"
    elif erasure == "rare" and price == "small":
        tone = "good"
    sentence, without = _sentences(evaluation, each), ""
    if evaluation.assault is not None:
        without = f"Without attacks: {sentence[0].lower()}{sentence[1:]}"
        sentence = attack_sentence(evaluation.assault)
        others = [one.concept for one in each if one.concept != evaluation.assault.request.concept]
        sentence += f" Not attacked: {quoted(others)}." if others and len(each) > 1 else ""
    decided = attack is not None and erasure == attack != "unknown" and (len(each) == 1 or attack != asked)
    headline = _attacked_headline(evaluation, attack, asked, price) if decided else _headline(erasure, price)
    about = [one.concept for one in each if one.erasure == erasure]
    if decided and evaluation.assault is not None:
        about = [evaluation.assault.request.concept]
    if 0 < len(about) < len(each):
        more = f" and {len(about) - SENTENCES} more" if len(about) > SENTENCES else ""
        headline = f"{quoted(about[:SENTENCES])}{more}: {headline[0].lower()}{headline[1:]}"
    return Verdict(sentence, _cost(evaluation), tone, headline, without)


def attacked(evaluation: Evaluation) -> bool:
    """Whether attacks were made: the evaluation took them in, or has a score of one ("attack/...", "attacked/...")."""
    return evaluation.assault is not None or any(family(score.name).startswith("attack") for score in evaluation.scores)


def _attacked_headline(evaluation: Evaluation, attack: Erasure | None, asked: Erasure, price: Price) -> str:
    """The headline where attacks decide the class."""
    worst = find(evaluation, "attack/worst")
    none = worst is not None and not worst.numerator
    if attack == "still":
        said = "Still drawn" if asked == "still" else "Comes back under attack"
    elif attack == "rare":
        said = "Not elicited, even under attack" if none else "Rarely elicited, even under attack"
    elif asked == "less":
        said = "Drawn less often, not reliably suppressed"
    else:
        said = "Not elicited on the few items attacked" if none else "Comes back under attack in some items"
    but = "but" if attack == "rare" or (none and asked == "rare") else "and"
    prices: dict[Price, str] = {
        "small": ", at a small measured price" if but == "but" else "", "some": f", {but} other things changed too",
        "heavy": f", {but} much else was lost", "unmeasured": "; the price was not measured"}
    return said + prices[price]


def _headline(erasure: Erasure, price: Price) -> str:
    if erasure == "unknown":
        return "This evaluation cannot tell"
    if price == "heavy":
        drawn = {"rare": "Rarely drawn, but", "less": "Drawn less often, but", "still": "Still drawn, and"}
        return f"{drawn[erasure]} much else was lost"
    if price == "unmeasured":
        words = {"rare": "Rarely drawn", "less": "Drawn less often", "still": "Still drawn"}
        return f"{words[erasure]}; the price was not measured"
    return _HEADLINES[erasure, price == "small"]


def _sentences(evaluation: Evaluation, each: list[Asked]) -> str:
    """A sentence on every concept, or on the worst of many, and the others by their class."""
    attacks = "" if evaluation.assault else "attacks are scored separately" if attacked(evaluation) else \
        "no attack was run"
    if len(each) == 1:
        return _sentence(each[0], f", and {attacks}" if attacks else "")
    order = {kind: rank for rank, kind in enumerate(_BY_CLASS)}
    ranked = each if len(each) <= SENTENCES else sorted(each, key=lambda one: (order[one.erasure], -(
        value_of(one.found) or 0.0)))
    said = [_sentence(one) for one in ranked[:SENTENCES]]
    for kind, words in _BY_CLASS.items():
        names = [one.concept for one in ranked[SENTENCES:] if one.erasure == kind]
        said += [f"{words}: {quoted(names)}."] if names else []
    return " ".join([*said, *([f"{attacks[0].upper()}{attacks[1:]}."] if attacks else [])])


def _sentence(one: Asked, attack: str = "") -> str:
    concept, found, original = one.concept, one.found, one.original
    if found is None:
        return f"How often “{concept}” is still drawn was not measured, so nothing can be said about it."
    role = found.name.split("/")[1].replace("_", "-")
    kind = "" if role == "all" else f" with {role} prompts only"
    asked = found.n + left_out(found)
    verb = "drew it" if found.numerator == 0 else "still drew it"
    pictures = counted(asked, "pictures")
    sentence = f"Asked for “{concept}” in {pictures}{kind}, the edited model {verb} in {_share(found)}"
    if original is not None and value_of(original) is not None:
        sentence += f", against {_share(original, ' for the original')}"
    return f"{sentence}: {_conclusion(found, original, one.erasure)}{attack}."


def _share(score: Score, of_whom: str = "") -> str:
    """"3 of the 126 that could be judged (2.4%, 95% interval 0.8% to 6.8%)"."""
    judged = f"the {score.n} that could be judged" if left_out(score) else f"{score.n}"
    share, interval = number(score.name, score.value or 0.0), f"95% interval {interval_text(score)}"
    if score.numerator is None:
        return f"{share} of {judged}{of_whom} ({interval})"
    return f"{score.numerator or 'none'} of {judged}{of_whom} ({share}, {interval})"


def _conclusion(found: Score, original: Score | None, erasure: Erasure) -> str:
    if erasure == "still":
        return "it is still drawn"
    if erasure == "rare":
        rarely = "it was not" if found.value == 0 else "it was only rarely"
        return f"{rarely} elicited by these prompts at this budget"
    if erasure == "less":
        doubt = ", many pictures could not be judged" if many_left_out(found) else ""
        return f"it is elicited less often than before by these prompts at this budget{doubt}"
    before = value_of(original)
    if before is None:
        return "without the original's own rate this measurement cannot tell what the edit did"
    if before < SELDOM:
        return "the original itself seldom draws it, so this measurement cannot tell what the edit did"
    return f"with fewer than {FEW} judged pictures this measurement cannot tell what the edit did"


def _cost(evaluation: Evaluation) -> str:
    parts = []
    for stratum, words in (("near", "near neighbours"), ("far", "far things")):
        edited, original = kept(evaluation, stratum)
        value, before = value_of(edited), value_of(original)
        if edited is None or value is None:
            parts.append(f"{words} not measured")
            continue
        compared = f"; original {percent(before)}" if before is not None else "; original not measured"
        parts.append(f"{words} in {percent(value)} of {counted(edited.n, 'pictures')} (95% interval "
                     f"{interval_text(edited)}{compared})")
    sentence = f"Still drawn as asked: {', '.join(parts)}."
    known = [f"{number('integrity', value)} {stratum}" for stratum in ("near", "far")
             if (value := value_of(find(evaluation, f"integrity/{stratum}"))) is not None]
    if not known:
        return f"{sentence} Integrity was not measured."
    scale = "1: only numerical noise, 0: as different as another seed"
    return f"{sentence} Integrity is {' and '.join(known)} ({scale})."
