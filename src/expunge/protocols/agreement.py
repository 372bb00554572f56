"""How far two detectors of a protocol say the same: two scores, over the images of which both say something.

    NAME         share of these images of which both say yes, or both say no
    NAME/kappa   Cohen's kappa: 1 is full agreement, 0 what chance gives two that say yes as often
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from expunge.metrics.kappa import Pairs, interval_words, kappa_interval
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
    pairs: dict[str, list[tuple[Hashable, Hashable]]] = {}
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
    every = Counter(pair for its in pairs.values() for pair in its)
    words = f"{first} alone says yes of {every[True, False]}, {second} alone of {every[False, True]}, both of " \
            f"{every[True, True]}, neither of {every[False, False]}"
    update = {"denominator": f"images of which {first} and {second} both say yes or no",
              "note": words if pairs else "not measured: there is no image of which both say something"}
    share = of_groups(answered, measure, groups, lost).model_copy(update=update)
    return [share, _kappa(answered, measure, pairs, share)]


def _kappa(answered: Answered, measure: Measure, pairs: Pairs, share: Score) -> Score:
    estimate = kappa_interval(pairs, DRAWS)
    told = estimate.value is not None
    note = share.note if not pairs else "not defined: each detector says the same of all images" if not told else \
        "no interval: too few prompts, or in too many resamples each detector says the same of all images" \
        if estimate.low is None else ""
    return Score(name=f"{name_of(answered, measure)}/kappa", title=f"{title_of(measure)}, Cohen's kappa",
                 value=estimate.value, low=estimate.low, high=estimate.high,
                 interval=interval_words(DRAWS) if estimate.low is not None else "", n=share.n, prompts=len(pairs),
                 denominator=share.denominator, left_out=share.left_out, subject=side_of(answered),
                 seeds=seeds_of(answered), note=note)
