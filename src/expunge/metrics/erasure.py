"""Is the concept gone, and is the rest still there? Rates over judged images.

found(role)     = images in which the judge sees the concept / images on which it gave an answer
abstained(role) = images on which it gave none / images on which it worked
retained(role)  = images in which it sees the label that was asked for / images on which it gave an answer

Which rates there are says `rules`; here images are counted. A stratum (a way of asking) counts where the original draws
what it asks for in `DRAWN` or more, each concept and the keep side by themselves; others say nothing about an edit and
are left out of the rates over all strata (unless none counts).

An image that the judge abstained from, or failed on, counts neither as found nor as erased: it is left out of the
rate, counted in `left_out`, and the note says what the rate would be if all abstentions hid the concept.
Intervals are Wilson's with the prompt as the unit (`statistics.rate_interval`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from expunge.metrics.base import Aim, aim_of
from expunge.metrics.rules import KEEP_SIDE, KEPT_ROLES, NAMED, ROLE_WORDS, Rated, Rule, Subject
from expunge.metrics.statistics import at_once, interval_words, rate_interval
from expunge.records import NOT_ASKED, NOT_DRAWN, NOT_FINITE, Detection, ImageRecord, ItemKey, Prompt, Score

Judged = Sequence[tuple[ImageRecord, Detection]]
Lost = Sequence[tuple[Prompt, str]]
"""For each image that could not be drawn its prompt, and why."""
DRAWN = 0.80
"""Share of a stratum's images in which the original must show what was asked for, for the stratum to count."""


@dataclass(frozen=True)
class Apart:
    """What rates over all strata leave out, because the original does not draw it.

    Attributes:
        strata: pairs of a concept (or `KEEP_SIDE`) and a stratum of its prompts.
        aims: which prompt asks for which concept.
    """

    strata: frozenset[tuple[str, str]] = frozenset()
    aims: tuple[Aim, ...] = ()

    def holds(self, prompt: Prompt) -> bool:
        """Whether the prompt is left out."""
        if not self.strata or prompt.role not in (*NAMED, *KEPT_ROLES):
            return False
        return (aim_of(prompt, self.aims).concept if prompt.role in NAMED else KEEP_SIDE, prompt.stratum) in self.strata


ALL_COUNT = Apart()


def not_drawn(original: Iterable[Score]) -> set[str]:
    """Those strata of one concept, or of the keep side, that do not count, by the original's rates in them.

    One without any answer counts: nothing says that the original does not draw it. Where it draws none of them, all
    count: then the original's own rates say what the edited model's are worth.
    """
    drawn = {score.stratum: score.value >= DRAWN for score in original if score.value is not None}
    return {stratum for stratum, counts in drawn.items() if not counts} if any(drawn.values()) else set()


def rate(judged: Judged, rated: Rated, subject: Subject = "edited",
         apart: Apart = ALL_COUNT, prefix: str = "", lost: Lost = ()) -> Score:
    """The rate with which the judge gives the answer that the rule wants.

    Args:
        judged: all images of one model.
        apart: what a rate over all strata leaves out.
        prefix: before the score's name, for another judge's ("second/").
        lost: images of this model that could not be drawn.
    """
    rule, left_out = rated.rule, {"abstained": 0, "detector failed": 0}
    per_item: dict[str, float] = {}
    groups: dict[str, list[float]] = {}
    seeds: set[int] = set()
    for shot, item in _over(judged, rated):
        seeds.add(shot.seed)
        counts = rule.verdict(shot.prompt, item.answers)
        if not rule.wanted(shot.prompt):
            if rule.tells_unasked:
                left_out[NOT_ASKED] = left_out.get(NOT_ASKED, 0) + 1
        elif set_apart(rated, shot.prompt, apart):
            left_out[NOT_DRAWN] = left_out.get(NOT_DRAWN, 0) + 1
        elif item.error:
            left_out["detector failed"] += 1
        elif counts is None:
            left_out["abstained"] += 1
        else:
            per_item[shot.key] = float(counts)
            groups.setdefault(shot.prompt.text, []).append(float(counts))
    for prompt, reason in lost:
        if _asks(rated, prompt):
            left_out[reason] = left_out.get(reason, 0) + 1
    n, hits = len(per_item), int(sum(per_item.values()))
    low, high = rate_interval(groups, at_once(rule.at_once))
    return Score(name=f"{prefix}{'' if subject == 'edited' else 'original/'}{rule.name}",
                 title=title_of(rule, left_out), value=hits / n if n else None, low=low, high=high,
                 interval=_interval(rule, groups), n=n, prompts=len(groups), stratum=rule.stratum,
                 numerator=hits if n else None, left_out=left_out,
                 denominator=f"{rule.pictures} on which the judge gave {rule.answer}",
                 higher_is_better=rule.higher_is_better, subject=subject, per_item=per_item,
                 note=_bounds(hits, n, left_out, rule), seeds=tuple(sorted(seeds)))


def abstained(judged: Judged, rated: Rated, subject: Subject = "edited", prefix: str = "", lost: Lost = ()) -> Score:
    """abstained/<role>: how often the judge abstained; of one of several concepts abstained/<role>/<concept>.

    Args: as `rate`, but that of `lost` only images that are not finite are told.
    """
    rule = rated.rule
    spoilt = sum(reason == NOT_FINITE and _asks(rated, prompt) for prompt, reason in lost)
    over = [(shot, item) for shot, item in _over(judged, rated) if rule.wanted(shot.prompt)]
    per_item = {shot.key: float(rule.verdict(shot.prompt, item.answers) is None) for shot, item in over
                if not item.error}
    groups: dict[str, list[float]] = {}
    for shot, _ in over:
        if shot.key in per_item:
            groups.setdefault(shot.prompt.text, []).append(per_item[shot.key])
    _, _, role = rule.name.partition("/")
    asked, _, concept = role.partition("/")
    low, high = rate_interval(groups)
    n, hits = len(per_item), int(sum(per_item.values()))
    return Score(name=f"{prefix}{'' if subject == 'edited' else 'original/'}abstained/{role}",
                 title=f"the judge abstained, {ROLE_WORDS[asked]}" + (f" ({concept})" if concept else ""),
                 value=hits / n if n else None, low=low, high=high, interval=_interval(rule, groups), n=n,
                 prompts=len(groups), numerator=hits if n else None,
                 denominator=f"{rule.pictures} on which the judge worked",
                 left_out={"detector failed": sum(bool(item.error) for _, item in over),
                           **({NOT_FINITE: spoilt} if spoilt else {})}, subject=subject,
                 per_item=per_item, note="" if per_item else "the judge worked on no image",
                 seeds=tuple(sorted({shot.seed for shot, _ in over})))


def set_apart(rated: Rated, prompt: Prompt, apart: Apart) -> bool:
    """Whether a rate over all strata leaves the prompt out, because the original does not draw its stratum."""
    return not rated.rule.stratum and apart.holds(prompt)


def decided(judged: Judged, rated: Rated, apart: Apart = ALL_COUNT) -> dict[ItemKey, float]:
    """1 or 0 by (prompt text, seed) for every image that the rate counts."""
    out = {}
    for shot, item in _over(judged, rated):
        counts = rated.rule.verdict(shot.prompt, item.answers)
        if counts is not None and not item.error and rated.rule.wanted(shot.prompt) and \
                not set_apart(rated, shot.prompt, apart):
            out[shot.item_key] = float(counts)
    return out


def asked(shots: Iterable[ImageRecord], rated: Rated) -> list[ImageRecord]:
    """Those of the images that the rate asks about."""
    return [shot for shot in shots if _asks(rated, shot.prompt)]


def _asks(rated: Rated, prompt: Prompt) -> bool:
    return prompt.role in rated.roles and rated.rule.stratum in ("", prompt.stratum) and bool(rated.rule.wanted(prompt))


def _over(judged: Judged, rated: Rated) -> Judged:
    roles, stratum = {*rated.roles}, rated.rule.stratum
    return [(shot, item) for shot, item in judged
            if shot.prompt.role in roles and (not stratum or shot.prompt.stratum == stratum)]


def _interval(rule: Rule, groups: Mapping[str, Sequence[float]]) -> str:
    many = f", for all {rule.at_once} strata at once" if rule.at_once > 1 else ""
    return f"{words}{many}" if (words := interval_words(groups)) else ""


def title_of(rule: Rule, left_out: Mapping[str, int]) -> str:
    """The rule's title; "all prompts" are not all where prompts were left out, whatever a judge says of images."""
    of_pictures = ("abstained", "detector failed", "no answer on one side", NOT_FINITE, NOT_ASKED)
    prompts = any(count for reason, count in left_out.items() if reason not in of_pictures)
    return f"{rule.title}, but for those left out" if prompts else rule.title


def _bounds(hits: int, n: int, left_out: dict[str, int], rule: Rule) -> str:
    """What the rate would be, had every image without an answer gone the wrong way."""
    unsure = left_out["abstained"] + left_out["detector failed"]
    if not n and not unsure and left_out.get(NOT_FINITE):
        return "not measured: no image with finite values"
    if not n:
        return f"not measured: no answer on any of {unsure} images" if unsure else "not measured: nothing was asked"
    if not unsure:
        return ""
    pictures = "the image" if unsure == 1 else f"all {unsure} images"
    worst = (hits + unsure if rule.abstentions_as == "hid the concept" else hits) / (n + unsure)
    return f"if {pictures} without an answer {rule.abstentions_as}: {worst:.1%}"
