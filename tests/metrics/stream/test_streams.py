"""Accumulators over items: equal to the whole-set functions, merged, resumed, and strict about what comes twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from expunge.errors import ExpungeError, UserError
from expunge.metrics.base import Moments
from expunge.metrics.fidelity import coverage_scores, scores_against_original, scores_against_real
from expunge.metrics.statistics import bootstrap_over_groups
from expunge.metrics.stream.base import Accumulator, read_states, write_states
from expunge.metrics.stream.rows import FeatureRows
from expunge.metrics.stream.values import ItemValues, clip_score, pair_distance
from expunge.records import ImageRecord, ItemKey, Prompt, Sampler

SHOTS = [ImageRecord(prompt=Prompt(text=f"p{i}", role="far"), seed=s, sampler=Sampler(), model="m")
         for i in range(10) for s in range(4)]
ITEMS = [shot.item_key for shot in SHOTS]


def features(seed: int, n: int = 40, width: int = 8) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def rows(x: torch.Tensor, cut: int = 7, name: str = "f@0") -> FeatureRows:
    out = FeatureRows(name, x.shape[1])
    for start in range(0, len(x), cut):
        out.add(ITEMS[start:start + cut], x[start:start + cut])
    return out


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_fid_kid_and_coverage_are_those_of_the_whole_sets(cut: int) -> None:
    x, y = features(0), features(1) + 0.3
    whole = scores_against_original(SHOTS, x, y, "f@0") + coverage_scores(SHOTS, x, y, "f@0")
    got = rows(x, cut).against(rows(y, 40), of="images of the keep prompts")
    assert got == whole
    real = Moments("f@0", y.double().mean(0), y.double().T.cov(), 40, y, "drawings")
    assert rows(x, cut).against_real(real, of="images of the keep prompts") == \
        scores_against_real(SHOTS, x, real, "f@0")


def test_items_of_one_side_and_rows_that_are_not_finite_are_counted() -> None:
    x, y = features(0), features(1)
    x[5, 0] = torch.inf
    short = FeatureRows("f@0", 8)
    short.add(ITEMS[:30], y[:30])
    fid = rows(x).against(short)[0]
    assert fid.n == 29
    assert fid.left_out == {"not finite": 1, "on one side alone": 10}


def test_features_of_other_extractors_never_meet() -> None:
    x = features(0)
    with pytest.raises(ExpungeError, match="g@1"):
        rows(x).against(rows(x, name="g@1"))
    with pytest.raises(ExpungeError, match="g@1"):
        rows(x).merge(rows(x, name="g@1"))


def values(seed: int) -> torch.Tensor:
    return torch.rand(40, generator=torch.Generator().manual_seed(seed))


def test_a_mean_over_prompts_is_that_of_all_values_at_once() -> None:
    v = values(0)
    stream = ItemValues(clip_score("clip@0"))
    for start in range(0, 40, 9):
        stream.add(ITEMS[start:start + 9], v[start:start + 9])
    whole = bootstrap_over_groups({f"p{i}": v[4 * i:4 * i + 4].tolist() for i in range(10)})
    score = stream.score()
    assert (score.value, score.low, score.high) == whole
    assert (score.n, score.prompts, score.seeds) == (40, 10, (0, 1, 2, 3))
    assert "clip@0" in score.denominator
    assert score.per_item["p3 | 2"] == float(v[14])


def filled() -> dict[str, Accumulator]:
    kept, scores, pairs = rows(features(0)), ItemValues(clip_score("c@0")), ItemValues(pair_distance("d@0"))
    scores.add(ITEMS[:20], values(1)[:20])
    pairs.add(ITEMS[:3], [0.1, float("nan"), 0.2])
    pairs.leave_out("broken file", 2)
    return {"rows": kept, "clip": scores, "pairs": pairs}


def test_states_lie_in_one_file_and_a_killed_run_goes_on_from_them(tmp_path: Path) -> None:
    file, before = tmp_path / "states.safetensors", filled()
    write_states(file, {name: one.state for name, one in before.items()})  # type: ignore[attr-defined]
    states = read_states(file)
    for name, one in before.items():
        again = type(one).from_state(states[name])  # type: ignore[attr-defined]
        assert again.items == one.items
        assert again.left_out == one.left_out
        with pytest.raises(ExpungeError, match="there already"):
            again._take([ITEMS[1]], ["" if ITEMS[1] in one.items else "not finite"])
    pairs = ItemValues.from_state(states["pairs"]).score()
    assert pairs == before["pairs"].score()  # type: ignore[attr-defined]
    assert pairs.left_out == {"not finite": 1, "broken file": 2}
    with pytest.raises(UserError, match="state of a feature rows"):
        ItemValues.from_state(states["rows"])
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(UserError, match="cannot be read"):
        read_states(file)


def test_shares_of_two_processes_are_one_and_an_item_counts_once() -> None:
    a, b = ItemValues(clip_score("c@0")), ItemValues(clip_score("c@0"))
    a.add(ITEMS[:20], values(0)[:20])
    b.add(ITEMS[20:], values(0)[20:])
    both = ItemValues(clip_score("c@0"))
    both.add(ITEMS, values(0))
    a.merge(b)
    assert a.score() == both.score()
    with pytest.raises(ExpungeError, match="there already"):
        a.merge(b)
    with pytest.raises(ExpungeError, match="there already"):
        a.add([ItemKey("new", 1), ItemKey("new", 1)], [0.0, 0.0])
    with pytest.raises(ExpungeError, match="values of clip/all"):
        ItemValues(pair_distance("d@0")).merge(a)


def test_shares_that_are_put_in_order_score_as_one_process_that_saw_all() -> None:
    items = [ItemKey(f"prompt {number}", 0) for number in range(12)]
    draw = torch.Generator().manual_seed(0)
    values, features = torch.rand(12, generator=draw), torch.randn(12, 3, generator=draw)
    real = Moments("f@0", torch.zeros(3).double(), torch.eye(3).double(), 9, torch.zeros(0, 3), "real")

    def seen(order: list[int]) -> tuple[ItemValues, FeatureRows]:
        one, other = ItemValues(clip_score("c")), FeatureRows("f@0", 3)
        one.add([items[row] for row in order], values[order])
        other.add([items[row] for row in order], features[order])
        return one, other

    whole, shares = seen(list(range(12))), [seen([0, 1, 4, 5, 8, 9]), seen([2, 3, 6, 7, 10, 11])]
    for mine, (first, second) in zip(whole, zip(*shares, strict=True), strict=True):
        first.merge(second)
        assert first.items != mine.items
        first.arrange(items)
        assert first.items == mine.items
    assert shares[0][0].score() == whole[0].score()
    assert shares[0][1].against_real(real) == whole[1].against_real(real)
    with pytest.raises(ExpungeError, match="1 items"):
        whole[0].arrange(items[1:])
