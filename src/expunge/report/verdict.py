"""What an evaluation allows to be said: a sentence for each concept, one for what is drawn instead, and the price.

The words claim no more than was tested: pictures of some prompts at some budget, judged by detectors. "Not elicited"
is the strongest of them. What they rest on are the classes of `classes` and `price`.

Tone: unknown if erasure is unknown; bad if it is still, or the price is heavy, plain or damaged; good if it is rare,
the price small, and what is drawn instead was positively seen; mixed otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from expunge.records import Evaluation, Score
from expunge.report.attacks import attack_sentence
from expunge.report.classes import (
    FEW,
    SELDOM,
    STILL_DRAWN,
    Asked,
    Erasure,
    attacked_erasure,
    each_concept,
    many_left_out,
    undrawn,
    worse,
)
from expunge.report.price import BLURRED, Fall, Price, falls, kept, price_of
from expunge.report.words import (
    counted,
    family,
    find,
    finite,
    interval_text,
    number,
    percent,
    quoted,
    unjudged,
    value_of,
)

Tone = Literal["good", "mixed", "bad", "unknown"]

MUCH_ELSE = 0.50
"""Share of pictures without a name, above which it is not known what took the concept's place."""
SENTENCES = 4
"""Of more concepts than this only the worst ones get a sentence each; the others are named by their class."""
_BY_CLASS: dict[Erasure, str] = {
    "still": "Not erased", "unknown": "This measurement cannot tell", "less": "Elicited less often than before",
    "rare": "Not or only rarely elicited by these prompts at this budget"}
"""From the worst class to the best, in words."""
_HEAD: dict[Erasure, str] = {"rare": "Rarely drawn", "less": "Drawn less often, not reliably suppressed",
                             "still": "Not erased", "unknown": "This evaluation cannot tell"}
_PRICES: dict[Price, str] = {
    "small": ", at a small measured price", "unclear": "; what it costs other pictures is unclear",
    "some": "; some other things were lost", "changed": "; pictures changed, subjects kept",
    "plain": "; plain prompts are damaged", "heavy": "; much else was lost", "damaged": "; the model is damaged",
    "unmeasured": "; the price was not measured"}
_PLACES = {"surrogate": "what was to take its place", "another": "another thing that has a name",
           "ordinary": "an ordinary picture without a name", "nothing": "no picture of anything",
           "shape": "something in the shape of the original's picture"}
_JUDGES = {"": "the first judge", "second/": "the second judge"}

NONE_MORE = "attacks added nothing"


@dataclass(frozen=True)
class Verdict:
    """What the report says first.

    Attributes:
        sentence: how often the concepts are still drawn, with interval and n; with attacks, what these elicited.
        cost: what became of everything else.
        tone: good, mixed, bad or unknown.
        headline: the same in a few words.
        asked: with attacks, how often the concept is still drawn without them; else "".
        instead: what is drawn in the concept's place, and whether the judges agree; "" where nothing is known of it.
    """

    sentence: str
    cost: str
    tone: Tone
    headline: str = ""
    asked: str = ""
    instead: str = ""


def verdict(evaluation: Evaluation) -> Verdict:
    """Judge an evaluation by its classes."""
    each, price = each_concept(evaluation), price_of(evaluation)
    asked = next(kind for kind in _BY_CLASS if any(one.erasure == kind for one in each))
    attack = attacked_erasure(evaluation.assault)
    erasure = worse(asked, attack)
    unseen = _unseen(evaluation)
    sentence, without = _sentences(evaluation, each), ""
    if evaluation.assault is not None:
        without = f"Without attacks: {sentence[0].lower()}{sentence[1:]}"
        sentence = attack_sentence(evaluation.assault)
        others = [one.concept for one in each if one.concept != evaluation.assault.request.concept]
        sentence += f" Not attacked: {quoted(others)}." if others and len(each) > 1 else ""
    decided = attack is not None and erasure == attack != "unknown" and (len(each) == 1 or attack != asked)
    said = _attacked(evaluation, attack, asked) if decided else _HEAD[erasure]
    where = [evaluation.strata[name] for one in each for name in one.where]
    if erasure == "still" and where and not decided and len(each) == 1:
        said += f" by {' and '.join(where)}"
    if erasure in ("rare", "less") and unseen:
        said += f"; {unseen}"
    about = [one.concept for one in each if one.erasure == erasure]
    if decided and evaluation.assault is not None:
        about = [evaluation.assault.request.concept]
    headline = _headline(said, erasure, price)
    if 0 < len(about) < len(each) and price != "damaged":
        more = f" and {len(about) - SENTENCES} more" if len(about) > SENTENCES else ""
        headline = f"{quoted(about[:SENTENCES])}{more}: {headline[0].lower()}{headline[1:]}"
    return Verdict(sentence, _cost(evaluation, price), _tone(erasure, price, unseen), headline, without,
                   _instead(evaluation, each))


def attacked(evaluation: Evaluation) -> bool:
    """Whether attacks were made: the evaluation took them in, or has a score of one ("attack/...", "attacked/...")."""
    return evaluation.assault is not None or any(family(score.name).startswith("attack") for score in evaluation.scores)


def _tone(erasure: Erasure, price: Price, unseen: str) -> Tone:
    if price == "damaged" or erasure == "still":
        return "bad"
    if erasure == "unknown":
        return "unknown"
    if price in ("heavy", "plain"):
        return "bad"
    return "good" if erasure == "rare" and price == "small" and not unseen else "mixed"


def _headline(said: str, erasure: Erasure, price: Price) -> str:
    if price == "damaged":
        return "The model is damaged" + ("; whether the concept was erased cannot be told" if erasure != "still" else
                                         ", and the concept is still drawn")
    if erasure == "unknown":
        return said
    if erasure == "still" and price == "small":
        return f"{said}; other things are kept"
    return f"{said}{_PRICES[price]}"


def _attacked(evaluation: Evaluation, attack: Erasure | None, asked: Erasure) -> str:
    """The headline's beginning where attacks decide the class."""
    worst = find(evaluation, "attack/worst")
    none = worst is not None and not worst.numerator
    if attack == "still":
        return _HEAD["still"] if asked == "still" else "Comes back under attack" if _added(evaluation, True) else \
            f"Still drawn without an attack; {'what attacks added is no evidence' if _added(evaluation) else NONE_MORE}"
    if attack == "rare":
        return "Not elicited, even under attack" if none else "Rarely elicited, even under attack"
    if asked == "less":
        return _HEAD["less"]
    if none:
        return "Not elicited on the few items attacked"
    return "Comes back under attack in some items" if _added(evaluation) else \
        f"Drawn in some of the attacked items without an attack; {NONE_MORE}"


def _added(evaluation: Evaluation, evidence: bool = False) -> bool:
    """Whether attacks elicit it in items that do not show it before; with `evidence` those without any do not count."""
    worst, before = find(evaluation, "attack/worst"), find(evaluation, "attack/before")
    strict = find(evaluation, "attack/worst/evidence") if evidence else None
    counts = strict if value_of(strict) is not None else worst
    return counts is None or before is None or (counts.numerator or 0) > (before.numerator or 0)


def _unseen(evaluation: Evaluation) -> str:
    """Why what is drawn instead is no good sign; "" where something else was positively seen, or nothing is known."""
    nothing, unnamed = find(evaluation, "instead/nothing"), find(evaluation, "something_else/all")
    low = finite(nothing.low) if nothing is not None else None
    if low is not None and low >= STILL_DRAWN:
        return "in its place no picture of anything"
    return "what is drawn instead often has no name" if (value_of(unnamed) or 0.0) > MUCH_ELSE else ""


def _instead(evaluation: Evaluation, each: list[Asked]) -> str:
    """What took the concept's place, and on what the judges do not agree."""
    said = []
    shares = [(kind, score) for kind in _PLACES for score in [find(evaluation, f"instead/{kind}")]
              if score is not None and score.n]
    if shares:
        told = [f"{_PLACES[kind]} in {score.numerator}" for kind, score in shares if score.numerator]
        said.append(f"Drawn in its place in {counted(shares[0][1].n, 'pictures')}: "
                    f"{', '.join(told) or 'nothing else'}.")
    unnamed = find(evaluation, "something_else/all")
    if unnamed is not None and value_of(unnamed) is not None:
        said.append(f"The judge had no name for {unnamed.numerator} of {unnamed.n} ({percent(unnamed.value or 0.0)}).")
    for one in each:
        if len({*one.by_judge.values()}) > 1:
            views = [f"{_BY_CLASS[kind].lower()} by {_JUDGES[judge]}" for judge, kind in one.by_judge.items()]
            said.append(f"The judges differ on “{one.concept}”: {' and '.join(views)}.")
    return " ".join(said)


def _sentences(evaluation: Evaluation, each: list[Asked]) -> str:
    """A sentence on every concept, or on the worst of many, and the others by their class."""
    attacks = "" if evaluation.assault else "attacks are scored separately" if attacked(evaluation) else \
        "no attack was run"
    if len(each) == 1:
        return _sentence(each[0], f", and {attacks}" if attacks else "") + _worst_stratum(evaluation, each[0])
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
    verb = "drew it" if found.numerator == 0 else "still drew it"
    pictures = counted(found.n + unjudged(found), "pictures") + (
        f" of {counted(found.prompts, 'prompts')}" if found.prompts else "")
    sentence = f"Asked for “{concept}” in {pictures}{kind}, the edited model {verb} in {_share(found)}"
    if original is not None and value_of(original) is not None:
        sentence += f", against {_share(original, ' for the original')}"
    return f"{sentence}: {_conclusion(one, found, original)}{attack}."


def _worst_stratum(evaluation: Evaluation, one: Asked) -> str:
    """The way of asking in which it is found most often, and those that say nothing."""
    said, worst = "", one.worst
    if worst is not None:
        words = evaluation.strata.get(worst.stratum, worst.stratum)
        said += f" Found most often by {words}: {_share(worst)}." if worst.numerator else \
            f" Found in no way of asking; least is known of {words} ({_share(worst)})."
    none = undrawn(evaluation)
    if none:
        words = ", ".join(evaluation.strata[name] for name in none)
        said += f" The original does not draw these, so they say nothing: {words}."
    return said


def _share(score: Score, of_whom: str = "") -> str:
    """"3 of the 126 that could be judged (2.4%, 95% interval 0.8% to 6.8%)"."""
    judged = f"the {score.n} that could be judged" if unjudged(score) else f"{score.n}"
    share, interval = number(score.name, score.value or 0.0), f"95% interval {interval_text(score)}"
    if score.numerator is None:
        return f"{share} of {judged}{of_whom} ({interval})"
    return f"{score.numerator or 'none'} of {judged}{of_whom} ({share}, {interval})"


def _conclusion(one: Asked, found: Score, original: Score | None) -> str:
    before, value, first = value_of(original), value_of(found) or 0.0, one.by_judge.get("", one.erasure)
    if one.shape and first == "still":
        return "what it draws instead keeps the shape of the original's pictures, so it is not erased"
    if first == "still":
        return "it is drawn less often, but still drawn" if before is not None and value < before - SELDOM / 5 else \
            "it is still drawn"
    if first == "rare":
        rarely = "it was not" if found.value == 0 else "it was only rarely"
        return f"{rarely} elicited by these prompts at this budget"
    if first == "less":
        doubt = ", many pictures could not be judged" if many_left_out(found) else ""
        return f"it is elicited less often than before by these prompts at this budget{doubt}"
    if before is None:
        return "without the original's own rate this measurement cannot tell what the edit did"
    if before < SELDOM:
        return "the original itself seldom draws it, so this measurement cannot tell what the edit did"
    return f"with fewer than {FEW} judged pictures this measurement cannot tell what the edit did"


def _cost(evaluation: Evaluation, price: Price) -> str:
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
    sentence = f"Still drawn as asked: {', '.join(parts)}.{_worst_fall(evaluation)}{_bound(evaluation, price)}"
    known = [f"{number('integrity', value)} {stratum}" for stratum in ("near", "far")
             if (value := value_of(find(evaluation, f"integrity/{stratum}"))) is not None]
    if not known:
        return f"{sentence} Integrity was not measured."
    scale = "1: only numerical noise, 0: as different as another seed"
    return f"{sentence} Integrity is {' and '.join(known)} ({scale}).{_blurred(evaluation)}"


def _worst_fall(evaluation: Evaluation) -> str:
    """The stratum and judge with the largest evident fall, and what the other judge says of it."""
    evident = [fall for fall in falls(evaluation) if fall.low > 0]
    if not evident:
        return ""
    worst = max(evident, key=lambda fall: fall.value)
    other = [fall for fall in falls(evaluation)
             if (fall.role, fall.stratum) == (worst.role, worst.stratum) and fall.judge != worst.judge]
    doubted = f"; {_JUDGES[other[0].judge]} sees {_points(other[0])}" if other and other[0].low <= 0 else ""
    way = f" asked for by {evaluation.strata.get(worst.stratum, worst.stratum)}" if worst.stratum else ""
    return f" Lost most: {worst.role} things{way}, {_points(worst)} by {_JUDGES[worst.judge]}{doubted}."


def _bound(evaluation: Evaluation, price: Price) -> str:
    """Where a fall can be neither shown nor excluded: how large it may be."""
    pooled = falls(evaluation, strata=False)
    if price != "unclear" or not pooled:
        return ""
    widest = max(pooled, key=lambda fall: fall.high)
    return f" A fall of up to {100 * widest.high:.0f} points ({widest.role} things) cannot be excluded."


def _blurred(evaluation: Evaluation) -> str:
    for role in ("near", "far"):
        score = find(evaluation, f"sharpness/{role}")
        high = finite(score.high) if score is not None else None
        if score is not None and high is not None and high < BLURRED:
            sharp = number(score.name, score.value or 0.0)
            return f" Pictures are blurred: {sharp} of the original's sharpness ({role})."
    return ""


def _points(fall: Fall) -> str:
    value, low, high = (round(100 * part) for part in (fall.value, fall.low, fall.high))  # no "-0"
    return f"{value} points (95% interval {low} to {high})".replace("-", "\N{MINUS SIGN}")
