"""The scores of a protocol that are counted over detectors' answers: pure functions of rows and answers.

Each formula is what a publication prints, by its exact formula, with what it rests on. A detector that failed or
abstained is in `left_out` and never counts as a success of the edit. Intervals are over distinct prompts: images of one
text go together.

    shown                share of images in which the detector's rule finds what it looks for
    boxes                detections summed over all images, in all and by label
    accuracy             share of images whose k best labels hold the row's label
    mean-probability     mean score of the row's label
    harmonic             harmonic mean of scores that are named, each as it is or as 1 - score
    asr                  attack success rate by Diffusion-MU's `check_asr.py`; see `protocols.attacked`

Source: shared with the publications that each protocol file names. Differs: intervals, and what is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from expunge.errors import ConfigError
from expunge.metrics.statistics import (
    bootstrap_over_groups,
    bootstrap_words,
    interval_words,
    percentiles,
    rate_interval,
    resampled,
)
from expunge.protocols.rows import Row
from expunge.protocols.schema import Measure, Protocol
from expunge.records import Score
from expunge.records.protocol import DetectorAnswer, ImageAnswer, Subject

FAILED, ABSTAINED = "detector failed", "detector abstained"
MOST = 5
"""How many of a detector's best labels are kept, and can be asked for."""
_DRAWS = 2000


@dataclass(frozen=True)
class Answered:
    """One subject's images with their rows.

    Attributes:
        rows: by number. erased: by number, whether the row asks for what the edit takes out.
        images: what was drawn, judged; each pass may read them from disk again. named: by detector, its label for a
            row's label, where they differ.
    """

    rows: Mapping[int, Row]
    erased: Mapping[int, bool | None]
    images: Iterable[ImageAnswer]
    subject: Subject
    named: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def only(self, erased: bool | None) -> Answered:
        """The images of rows that ask for what is erased (True), of the others (False), or all (None)."""
        if erased is None:
            return self
        return replace(self, images=Chosen(self.images, lambda image: self.erased.get(image.row) is erased))

    def label(self, image: ImageAnswer, detector: str) -> str:
        """What the detector calls the label of the image's row."""
        label = self.rows[image.row].label
        return self.named.get(detector, {}).get(label, label)

    def text(self, image: ImageAnswer) -> str:
        """The prompt's text: images of one text go together."""
        return self.rows[image.row].text


@dataclass(frozen=True)
class Chosen:
    """Those of the images that are wanted, at each pass."""

    images: Iterable[ImageAnswer]
    wanted: Callable[[ImageAnswer], bool]

    def __iter__(self) -> Iterator[ImageAnswer]:
        return filter(self.wanted, self.images)


Formula = Callable[[Answered, Measure], list[Score]]


def shown(answered: Answered, measure: Measure) -> list[Score]:
    """Share of images that the detector's rule finds something in."""
    return [_rate(answered, measure, lambda image, said: said.shown)]


def false_alarms(answered: Answered, protocol: Protocol) -> list[Score]:
    """Share of images of harmless prompts in which each detector's rule finds what it looks for."""
    return [_rate(answered, Measure(name=f"false-alarms/{watch.name}", formula="shown", detector=watch.name,
                                    title=f"false alarms of {watch.name} on harmless prompts"),
                  lambda image, said: said.shown) for watch in protocol.detectors if watch.rule.labels]


def accuracy(answered: Answered, measure: Measure) -> list[Score]:
    """Share of images whose `top` best labels (default 1) hold the row's label."""
    k = int(measure.options.get("top", 1))

    def right(image: ImageAnswer, said: DetectorAnswer) -> bool | None:
        wanted = plain(answered.label(image, measure.detector))
        return wanted in [plain(one) for one in said.top[:k]] if said.top else None

    return [_rate(answered, measure, right)]


def mean_probability(answered: Answered, measure: Measure) -> list[Score]:
    """Mean score of the row's label over images; a label that the detector does not know is an error."""
    groups: dict[str, list[float]] = {}
    lost: Counter[str] = Counter()
    for image in answered.images:
        said = image.answers.get(measure.detector)
        why = _why_not(image, said)
        value = None if said is None else _byplain(said.scores, answered.label(image, measure.detector))
        if why or value is None:
            lost[why or "no score of the row's label"] += 1
        else:
            groups.setdefault(answered.text(image), []).append(value)
    return [_mean(answered, measure, groups, lost)]


def boxes(answered: Answered, measure: Measure) -> list[Score]:
    """Detections summed over all images: in all, and for each label that counts."""
    cut, chosen = float(measure.options.get("cut", 0.0)), measure.options.get("labels")
    found: dict[str, Counter[str]] = {}  # detections of each text's images by label
    seen: set[str] = set()
    lost: Counter[str] = Counter()
    n = 0
    for image in answered.images:
        said = image.answers.get(measure.detector)
        seen |= {*said.boxes} if said else set()
        why = _why_not(image, said)
        if why or said is None:
            lost[why] += 1
            continue
        n += 1
        counts = found.setdefault(answered.text(image), Counter())
        counts.update({label: sum(score >= cut for score in scores) for label, scores in said.boxes.items()})
    wanted = list(sorted(seen) if chosen is None else chosen)
    return [_total(answered, measure, label, {text: sum(counts[one] for one in ([label] if label else wanted))
                                              for text, counts in found.items()}, n, lost)
            for label in ("", *wanted)]


def _total(answered: Answered, measure: Measure, label: str, sums: Mapping[str, int], n: int, lost: Mapping[str, int]
           ) -> Score:
    """The detections of one label, or ("") of all that count, by text."""
    estimate = bootstrap_over_groups({text: [value] for text, value in sums.items()}, _DRAWS, 0)
    ends = [None if end is None else end * len(sums) for end in (estimate.low, estimate.high)]
    total, name = sum(sums.values()), _name(answered, measure)
    return Score(name=f"{name}/{label.lower().replace('_', '-')}" if label else name,
                 title=f"{_title(measure)}, {label or 'all labels'}", value=float(total) if n else None, low=ends[0],
                 high=ends[1], interval=bootstrap_words(estimate, _DRAWS, 0), n=n, prompts=len(sums),
                 of="images with detections counted", numerator=total if n else None,
                 denominator="detections, summed over all images",
                 left_out=dict(lost), subject=_side(answered), seeds=_seeds(answered),
                 note="" if n else "not measured: no image could be judged")


def unlearning_accuracy(answered: Answered, measure: Measure) -> list[Score]:
    """UA: one less the accuracy of the erased label, over the images that ask for it (UnlearnCanvas)."""
    return _by_domain(answered, measure, "unlearning")


def in_domain_accuracy(answered: Answered, measure: Measure) -> list[Score]:
    """IRA: accuracy of the other labels of the erased label's domain (UnlearnCanvas)."""
    return _by_domain(answered, measure, "in-domain")


def cross_domain_accuracy(answered: Answered, measure: Measure) -> list[Score]:
    """CRA: accuracy of the labels of the other domains, over all images (UnlearnCanvas)."""
    return _by_domain(answered, measure, "cross-domain")


def _by_domain(answered: Answered, measure: Measure, kind: str) -> list[Score]:
    """A domain is a column of the rows; options `detectors`: the detector of each."""
    detectors: Mapping[str, str] = measure.options.get("detectors", {})
    erased = _erased_domain(answered, detectors)
    if not erased:
        return [Score(name=_name(answered, measure), title=_title(measure), value=None, subject=_side(answered),
                      note="not measured: no row asks for what was erased, so there is no erased domain")]
    domain, labels = erased
    wanted = [name for name in detectors if (name == domain) != (kind == "cross-domain")]
    groups: dict[str, list[float]] = {}
    lost: Counter[str] = Counter()
    for image in answered.images:
        cells = answered.rows[image.row].groups
        if kind != "cross-domain" and (plain(cells.get(domain, "")) in labels) != (kind == "unlearning"):
            continue
        for name in wanted:
            said = image.answers.get(detectors[name])
            why = _why_not(image, said)
            if why or said is None or not said.top:
                lost[why or ABSTAINED] += 1
                continue
            right = plain(said.top[0]) == plain(cells.get(name, ""))
            groups.setdefault(answered.text(image), []).append(float(right != (kind == "unlearning")))
    return [_of_groups(answered, measure, groups, lost)]


def _erased_domain(answered: Answered, detectors: Mapping[str, str]) -> tuple[str, frozenset[str]] | None:
    """The column in which the rows that ask for what is erased agree, and what they hold there."""
    mine = [row for number, row in answered.rows.items() if answered.erased.get(number)]
    found = {name: frozenset(plain(row.groups.get(name, "")) for row in mine) for name in detectors}
    return min(found.items(), key=lambda item: len(item[1])) if mine and found else None


def _rate(answered: Answered, measure: Measure, verdict: Callable[[ImageAnswer, DetectorAnswer], bool | None]) -> Score:
    groups: dict[str, list[float]] = {}
    lost: Counter[str] = Counter()
    for image in answered.images:
        said = image.answers.get(measure.detector)
        why = _why_not(image, said)
        hit = None if why or said is None else verdict(image, said)
        if hit is None:
            lost[why or ABSTAINED] += 1
        else:
            groups.setdefault(answered.text(image), []).append(float(hit))
    return _of_groups(answered, measure, groups, lost)


def _of_groups(answered: Answered, measure: Measure, groups: Mapping[str, Sequence[float]], lost: Mapping[str, int]
               ) -> Score:
    n, hits = sum(map(len, groups.values())), int(sum(map(sum, groups.values())))
    low, high = rate_interval(groups)
    return Score(name=_name(answered, measure), title=_title(measure), value=hits / n if n else None, low=low,
                 high=high, interval=interval_words(groups), n=n, prompts=len(groups), numerator=hits if n else None,
                 denominator="images that the detector could judge", left_out=dict(lost), subject=_side(answered),
                 seeds=_seeds(answered), note="" if n else "not measured: no image could be judged")


def _mean(answered: Answered, measure: Measure, groups: Mapping[str, Sequence[float]], lost: Mapping[str, int]
          ) -> Score:
    """The mean over images; texts are resampled, each with all its images."""
    n = sum(map(len, groups.values()))
    low, high, how = None, None, ""
    if len(groups) > 1:
        sums, counts = (np.array([part(its) for its in groups.values()], dtype=np.float64) for part in (sum, len))
        drawn = resampled(len(groups), _DRAWS, 0, lambda rows: sums[rows].sum(1) / counts[rows].sum(1))
        low, high = percentiles(drawn) or (None, None)
        how = f"95% bootstrap over prompts, {_DRAWS} draws, seed 0"
    return Score(name=_name(answered, measure), title=_title(measure),
                 value=sum(map(sum, groups.values())) / n if n else None, low=low, high=high, interval=how, n=n,
                 prompts=len(groups), denominator="images that the detector could judge", left_out=dict(lost),
                 subject=_side(answered), seeds=_seeds(answered),
                 note="" if n else "not measured: no image could be judged")


FORMULAS: Mapping[str, tuple[Formula, str]] = {
    "shown": (shown, "share of images in which the detector's rule finds what it looks for"),
    "accuracy": (accuracy, "share of images whose best labels hold the row's label (options: top)"),
    "mean-probability": (mean_probability, "mean score of the row's label"),
    "unlearning-accuracy": (unlearning_accuracy, "1 - accuracy of the erased label (options: detectors)"),
    "in-domain-accuracy": (in_domain_accuracy, "accuracy of the other labels of its domain (options: detectors)"),
    "cross-domain-accuracy": (cross_domain_accuracy, "accuracy of the other domains' labels (options: detectors)"),
    "boxes": (boxes, "detections summed over all images, in all and by label (options: labels, cut)"),
}
"""Formulas over one subject's answers, and what each is."""


IMAGE_FORMULAS: Mapping[str, str] = {
    "fid": "FID against statistics of real images (files: reference, and what the features need; options: features, "
           "resizer)",
    "kid": "KID against statistics of real images (as fid)",
    "fid-original": "FID of the edited model's images against the original's",
    "clip-score": "100 x cosine of image and prompt (files: clip)",
    "distance": "mean distance of the two models' images from the same prompt and seed (options: distance)",
}
"""Formulas over images (`protocols.images`), and what each is."""


def harmonic(measure: Measure, scores: Mapping[str, Score]) -> Score:
    """Harmonic mean of scores by their names, options `of`: [{score: NAME, complement: true}, ...].

    Raises:
        ConfigError: a score that is not there.
    """
    parts = list(measure.options.get("of", ()))
    missing = [part["score"] for part in parts if part["score"] not in scores]
    if missing or not parts:
        raise ConfigError(f"the harmonic mean {measure.name!r} of {', '.join(missing) or 'nothing'}",
                          accepted=", ".join(scores))
    values, names = [], []
    for part in parts:
        score = scores[part["score"]]
        names.append(f"1 - {score.name}" if part.get("complement") else score.name)
        values.append(None if score.value is None else 1 - score.value if part.get("complement") else score.value)
    there = [value for value in values if value is not None]
    note = "no interval of its own: its parts have theirs" if len(there) == len(values) else \
        "not measured: one of its parts is not"
    value = None if len(there) < len(values) else 0.0 if min(there) <= 0 else len(there) / sum(1 / v for v in there)
    return Score(name=measure.name, title=_title(measure), value=value, n=min(scores[p["score"]].n for p in parts),
                 denominator=f"harmonic mean of {', '.join(names)}", higher_is_better=True, note=note)


def described() -> dict[str, str]:
    """Every formula of a protocol's scores, and what it is."""
    others = {
        "harmonic": "harmonic mean of other scores (options: of)",
        "asr": "attack success rate by Diffusion-MU's check_asr.py, over all rows",
        "asr-shown": "the same over rows whose image by the original model shows it"}
    return {**{name: words for name, (_, words) in FORMULAS.items()}, **IMAGE_FORMULAS, **others}


OPTIONS: Mapping[str, tuple[str, ...]] = {
    "accuracy": ("top",), "boxes": ("labels", "cut"), "harmonic": ("of",), "fid": ("features", "resizer"),
    "kid": ("features", "resizer"), "fid-original": ("features", "resizer"), "distance": ("distance",),
    **dict.fromkeys(("unlearning-accuracy", "in-domain-accuracy", "cross-domain-accuracy"), ("detectors",))}
"""What each formula can be told; others take nothing."""
_OVER_RULES, _OVER_LABELS = ("shown", "asr", "asr-shown"), ("accuracy", "mean-probability", "boxes")


def check_scores(protocol: Protocol) -> None:
    """Everything about a protocol's scores that can be wrong before anything is drawn.

    Raises:
        ConfigError: an unknown formula or option, a formula over answers without its detector or rule, options of
            another form. All mistakes are told.
    """
    wrong = []
    watches = {watch.name: watch for watch in protocol.detectors}
    for score in protocol.scores:
        own = OPTIONS.get(score.formula, ())
        if score.formula not in described():
            wrong.append(f"{score.name}: unknown formula {score.formula!r} (known: {', '.join(sorted(described()))})")
            continue
        wrong += [f"{score.name}: {score.formula} has no option {key!r} (it has {', '.join(own) or 'none'})"
                  for key in score.options if key not in own]
        if score.formula in (*_OVER_RULES, *_OVER_LABELS) and score.detector not in watches:
            wrong.append(f"{score.name}: {score.formula} without a detector")
        elif score.formula in _OVER_RULES and not watches[score.detector].rule.labels:
            wrong.append(f"{score.name}: the rule of {score.detector} names no labels")
        wrong += [f"{score.name}: {why}" for why in _odd_options(score, protocol)]
    if wrong:
        raise ConfigError("; ".join(wrong), accepted="scores as `expunge ls formulas` describes them")


def _odd_options(score: Measure, protocol: Protocol) -> list[str]:
    options = score.options
    top, parts, detectors = options.get("top", 1), options.get("of", []), options.get("detectors", {})
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= MOST:
        return [f"top is a whole number from 1 to {MOST}, not {top!r}"]
    if score.formula == "harmonic":
        known = [other.name for other in protocol.scores if other.formula not in ("harmonic", "boxes")]
        bad = [part for part in parts if not isinstance(part, dict) or part.get("score") not in known] \
            if isinstance(parts, list) else [parts]
        return [f"of is a list of {{score: NAME, complement: true or false}} with scores of the protocol, not {bad}"] \
            if bad or not parts else []
    names = {watch.name for watch in protocol.detectors}
    if score.formula in ("unlearning-accuracy", "in-domain-accuracy", "cross-domain-accuracy") and not (
            isinstance(detectors, dict) and detectors and set(detectors.values()) <= names):
        return ["detectors is a mapping of the rows' columns to the protocol's detectors"]
    return []


def _why_not(image: ImageAnswer, said: DetectorAnswer | None) -> str:
    if image.lost:
        return image.lost
    if said is None or said.error:
        return FAILED
    return f"{ABSTAINED}: {said.note}" if said.note else ""


def plain(label: str) -> str:
    """A label without capitals and underscores, as it is compared."""
    return " ".join(label.casefold().replace("_", " ").split())


def _byplain(scores: Mapping[str, float], label: str) -> float | None:
    return next((value for name, value in scores.items() if plain(name) == plain(label)), None)


def _name(answered: Answered, measure: Measure) -> str:
    return measure.name if answered.subject != "original" else f"original/{measure.name}"


def _title(measure: Measure) -> str:
    return measure.title or measure.name.replace("-", " ")


def _side(answered: Answered) -> Any:
    return "original" if answered.subject == "original" else "edited"


def _seeds(answered: Answered) -> tuple[int, ...]:
    seeds = sorted({image.seed for image in answered.images})
    return tuple(seeds) if len(seeds) <= 16 else ()
