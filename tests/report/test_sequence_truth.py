"""What is said of a sequence, over every state that its numbers can be in: no sentence says more than they do."""

from __future__ import annotations

import math
import re
from itertools import product

import pytest
from sequence_examples import CONCEPTS, rate, sequence

from expunge.metrics.statistics import wilson
from expunge.records import Score, SequenceResult
from expunge.report.sequence import headline, notes, over_all, state_rows
from expunge.report.sequence_page import sequence_html, sequence_markdown
from expunge.sequence.gather import UNDRAWN

N = 45
FORBIDDEN = ("removed", "erased completely", "gone for good", "forgotten", "comes back", "nan", "None")


def share(name: str, hits: int | None, n: int = N, **more: object) -> Score:
    low, high = wilson(hits or 0, n) if hits is not None else (None, None)
    return rate(name, hits or 0, n or 1).model_copy(update={
        "low": low, "high": high, "n": n, "numerator": hits, "value": hits / n if hits is not None and n else None,
        **more})


def revival(value: float | None, low: float | None, high: float | None, note: str = "") -> Score:
    return Score(name="revival", title="r", value=value, low=low, high=high, n=90, of="pairs of images", note=note)


def made(before: tuple[int | None, ...], end: int | None, change: Score | None, **more: object) -> SequenceResult:
    """Three requests; `before`: pictures of 45 in which the original shows each concept."""
    sure = [name for name, hits in zip(CONCEPTS, before, strict=True) if hits is not None and wilson(hits, N)[0] > 0.5]
    lost = N * (3 - len(sure))
    n = N * len(sure)
    scores = [share("gone/end", None if end is None or not n else min(end, n), n, left_out={UNDRAWN: lost} if lost else
                    {})]
    return sequence(before=tuple(share(f"original/found/{name}", hits) for name, hits in
                                 zip(CONCEPTS, before, strict=True) if hits is not None),
                    scores=(*scores, *([change] if change is not None else [])), **more)


CHANGES = (None, revival(None, None, None, "nothing was measured"), revival(0.2, None, None, "only 2 concepts"),
           revival(0.2, 0.1, 0.3), revival(-0.2, -0.3, -0.1), revival(0.0, 0.0, 0.0), revival(0.1, 0.0, 0.2),
           revival(-0.1, -0.2, 0.0), revival(0.1, -0.1, 0.3), revival(math.nan, math.nan, math.nan),
           revival(0.2, math.nan, math.inf))
EVERYTHING = list(product(((N, N, N), (0, N, N), (0, 0, 0), (N, 20, 28), (None, N, N), (None, None, None)),
                          (None, 0, 1, 44, 135), CHANGES))


@pytest.mark.parametrize(("before", "end", "change"), EVERYTHING)
def test_no_headline_says_more_than_its_numbers(before: tuple[int | None, ...], end: int | None, change: Score | None
                                                ) -> None:
    result = made(before, end, change)
    said = headline(result)
    assert not [word for word in FORBIDDEN if word in said]
    sure = [name for name, hits in zip(CONCEPTS, before, strict=True) if hits is not None and wilson(hits, N)[0] > 0.5]
    for name in set(CONCEPTS) - set(sure):  # the original may not draw it: nothing is said, and why
        assert re.search(rf"of [^;]*{name}[^;]* nothing can be said: the original itself draws", said), said
    counts = re.search(r"(\d+) of (\d+) images that ask for", said)
    assert bool(counts) == (end is not None and bool(sure)), said
    if counts:
        assert int(counts[2]) == N * len(sure)
        assert "95%" in said
        assert f"the original's {sum(hits or 0 for hits in before if (hits or 0) > 30)} of {N * len(sure)}" in said
    low, high = (change.low, change.high) if change is not None else (None, None)
    clear = low is not None and high is not None and math.isfinite(low) and math.isfinite(high) \
        and not low <= 0 <= high
    assert bool(re.search("found (more|less) often than", said)) == (clear and bool(counts)), said


@pytest.mark.parametrize(("before", "end", "change", "says"), [
    ((0, 0, 0), 0, revival(0.0, 0.0, 0.0),
     "3 requests, an edit for each by esd-fast, strategy replay: of church, bomb, cat nothing can be said: the "
     "original itself draws them in 0 of 45 images (95% 0% to 7.9%), 0 of 45 images (95% 0% to 7.9%), 0 of 45 "
     "images "
     "(95% 0% to 7.9%)"),
    ((N, N, N), None, None, "3 requests, an edit for each by esd-fast, strategy replay; what is still found was not "
     "measured"),
    ((N, N, N), 0, revival(0.1, 0.0, 0.2),
     "3 requests, an edit for each by esd-fast, strategy replay: at the end 0 of 135 images that ask for one of them "
     "show it (0%, 95% 0% to 2.8% for these concepts alone; the original's 135 of 135); no change since each one's own "
     "request that could be told from 0: +10.0 points (95% +0.0 points to +20.0 points, n 90); near things drawn as "
     "asked in 7 of 8 (95% 0% to 100%)"),
    ((0, N, N), 3, revival(0.2, 0.1, 0.3),
     "3 requests, an edit for each by esd-fast, strategy replay: at the end 3 of 90 images that ask for one of bomb, "
     "cat show it (3.3%, 95% 1.1% to 9.3% for these concepts alone; the original's 90 of 90); found more often than "
     "right after its own request: +20.0 points (95% +10.0 points to +30.0 points, n 90); near things drawn as asked "
     "in 7 of 8 (95% 0% to 100%); of church nothing can be said: the original itself draws it in 0 of 45 images (95% "
     "0% to 7.9%)"),
])
def test_headlines_word_by_word(before: tuple[int, ...], end: int | None, change: Score | None, says: str) -> None:
    assert headline(made(before, end, change)) == says


def test_a_record_that_counts_what_the_original_does_not_draw_gets_no_count() -> None:
    """Records of earlier versions pooled all concepts."""
    result = sequence(before=tuple(share(f"original/found/{name}", hits) for name, hits in
                                   zip(CONCEPTS, (0, N, N), strict=True)),
                      scores=(share("gone/end", 0, 135), revival(0.2, 0.1, 0.3)))
    said = headline(result)
    assert "images that ask for" not in said
    assert "more often" not in said
    assert "of church nothing can be said" in said


def test_an_empty_record_says_that_nothing_was_measured() -> None:
    empty = SequenceResult(model="m", model_hash="h", strategy="naive", method="esd")
    assert headline(empty) == "No request stands: the model is the original"
    waiting = empty.model_copy(update={"settings": {"requests": [{"concept": ["church"], "withdrawn": None}]}})
    assert headline(waiting) == "No request was met yet: nothing was measured"
    assert notes(empty) == []
    assert "Nothing was measured" in sequence_html(empty)


def test_the_end_is_the_last_state_that_was_measured() -> None:
    states = sequence().states
    last = states[-1].model_copy(update={"scores": ()})
    assert "after request 2, the last one that was measured," in headline(sequence(states=(*states[:2], last)))


def test_what_the_judge_would_not_say_is_counted_aloud() -> None:
    states = sequence().states
    silent = tuple(score.model_copy(update={"left_out": {"abstained": 2}}) for score in states[-1].scores)
    result = sequence(states=(*states[:2], states[-1].model_copy(update={"scores": silent})))
    assert "6 more without an answer" in headline(result)
    assert "2 of 8, 2 left out" in sequence_markdown(result)


def test_a_concept_that_the_original_does_not_draw_is_named_with_its_count() -> None:
    told = notes(made((0, N, N), 3, None))
    assert any(line.startswith("“church”: the original itself draws it in 0 of 45 images") for line in told)
    assert any("left out: 45 the original may not draw it" in note for _, _, note in over_all(made((0, N, N), 3, None)))


def test_what_is_kept_stands_beside_the_original_s() -> None:
    kept = share("original/retained/near", 40)
    rows = state_rows(sequence(before=(*sequence().before, kept)))
    assert (rows[0].words, rows[0].figures[0].value) == ("the original", "88.9%")
    assert len(rows) == 4


@pytest.mark.parametrize(("drift", "says"), [(0.0, "0.00%"), (1e-6, "<0.01%"), (0.03, "3.00%"), (math.nan,
                                                                                              "not measured")])
def test_drift_that_is_there_is_not_written_as_none(drift: float, says: str) -> None:
    states = tuple(state.model_copy(update={"drift": drift}) for state in sequence().states)
    assert state_rows(sequence(states=states))[0].figures[-2].value == says
