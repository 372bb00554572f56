"""How far two detectors of a protocol say the same: two scores, over the images of which both say something.

    NAME         share of these images of which both say yes, or both say no
    NAME/kappa   Cohen's kappa: 1 is full agreement, 0 what chance gives two that say yes as often
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from expunge.detectors.agreement import Agreement, kappas, tally
from expunge.metrics.statistics import percentiles, resampled
from expunge.protocols.answered import (
    ABSTAINED,
    DRAWS,
    Answered,
    name_of,
    of_groups,
    seeds_of,
    side_of,
    title_of,
    why_not,
)
from expunge.protocols.schema import Measure
from expunge.records import Score


def agreement(answered: Answered, measure: Measure) -> list[Score]:
    """The two scores; options `detectors`: the two that are compared."""
    first, second = measure.options["detectors"]
    pairs: dict[str, list[tuple[bool | None, bool | None]]] = {}
    lost: Counter[str] = Counter()
    for image in answered.images:
        said = [image.answers.get(name) for name in (first, second)]
        shown = [None if one is None else one.shown for one in said]
        if None in shown:
            name, one = next((name, one) for name, one, yes in zip((first, second), said, shown, strict=True)
                             if yes is None)
            lost[image.lost or f"{name}: {why_not(image, one) or ABSTAINED}"] += 1
        else:
            pairs.setdefault(answered.text(image), []).append((shown[0], shown[1]))
    groups = {text: [float(one == other) for one, other in its] for text, its in pairs.items()}
    every = tally(pair for its in pairs.values() for pair in its)
    words = f"{first} alone says yes of {every.first_only}, {second} alone of {every.second_only}, both of " \
            f"{every.both}, neither of {every.neither}"
    update = {"denominator": f"images of which {first} and {second} both say yes or no",
              "note": words if every.decided else "not measured: there is no image of which both say something"}
    share = of_groups(answered, measure, groups, lost).model_copy(update=update)
    return [share, _kappa(answered, measure, [tally(its) for its in pairs.values()], every, share)]


def _kappa(answered: Answered, measure: Measure, by_text: list[Agreement], every: Agreement, share: Score) -> Score:
    """Texts are resampled, each with all its images."""
    ends, how, note = None, "", ""
    if len(by_text) > 1 and every.kappa is not None:
        counts = np.array([one.counts for one in by_text], dtype=np.float64)
        ends = percentiles(resampled(len(counts), DRAWS, 0, lambda rows: kappas(counts[rows].sum(1))))
        how = f"95% bootstrap over prompts, {DRAWS} draws, seed 0" if ends else ""
        note = "" if ends else "no interval: in some resamples each detector says the same of all images"
    if every.kappa is None:
        note = "not defined: each detector says the same of all images" if every.decided else share.note
    low, high = ends or (None, None)
    return Score(name=f"{name_of(answered, measure)}/kappa", title=f"{title_of(measure)}, Cohen's kappa",
                 value=every.kappa, low=low, high=high, interval=how, n=every.decided, prompts=len(by_text),
                 denominator=share.denominator, left_out=share.left_out, subject=side_of(answered),
                 seeds=seeds_of(answered), note=note)
