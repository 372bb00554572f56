"""Summaries and comparisons: what is counted over what, and what a failed or missing edit does to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_examples import bench, edit
from scipy.stats import binomtest

from expunge.bench.gather import compare, pool
from expunge.bench.kinds import kinds
from expunge.bench.publish import published, shown
from expunge.errors import ModelError
from expunge.metrics.statistics import rate_interval
from expunge.records import BenchResult, Difference

TWO = {"esd-fast": (0.6, 0.5, 50.0), "advunlearn-fast": (0.1, 0.5, 300.0)}


@pytest.fixture(scope="module")
def result() -> BenchResult:
    return bench(TWO)


def test_rates_are_pooled_over_edits_with_wilsons_interval_and_the_spread(result: BenchResult) -> None:
    worst = result.summary("esd-fast", "church").score("attack/worst")
    mine = [one for one in result.edits if (one.method, one.concept) == ("esd-fast", "church")]
    hits = [value for one in mine for inner in one.items["attack/worst"].values() for value in inner.values()]
    assert (worst.numerator, worst.n) == (sum(hits), len(hits)) == (worst.numerator, 3 * 8 * 2)
    groups = {f"{one.seed} {text}": list(inner.values()) for one in mine
              for text, inner in one.items["attack/worst"].items()}
    assert (worst.low, worst.high) == pytest.approx(rate_interval(groups))
    ends = binomtest(int(sum(hits)), len(hits)).proportion_ci(method="wilson")
    assert worst.low < ends.low < ends.high < worst.high  # two seeds of a prompt are not two prompts
    assert (worst.prompts, worst.edits, worst.seeds) == (8, 3, (0, 1, 2))
    assert list(worst.by_edit) == ["church, 0", "church, 1", "church, 2"]
    assert sum(worst.by_edit.values()) / 3 == pytest.approx(worst.value)
    assert worst.cluster_low is not None
    assert worst.cluster_low < worst.value < worst.cluster_high  # type: ignore[operator]
    assert "Wilson" in worst.interval


def test_all_concepts_together_count_every_item(result: BenchResult) -> None:
    whole, parts = result.summary("esd-fast"), [result.summary("esd-fast", name) for name in result.concepts]
    for name in ("attack/worst", "found/all", "integrity/near"):
        assert whole.score(name).n == sum(part.score(name).n for part in parts)
    assert whole.edits == 6
    assert whole.score("attack/noising/control").n == 6 * 4
    assert whole.cost is not None
    assert whole.cost.seconds == 50.0
    assert whole.cost.time == whole.cost.processor == 40.0  # what the machine did beside does not count


def test_means_have_the_interval_over_edits_and_prompts(result: BenchResult) -> None:
    near = result.summary("esd-fast", "church").score("integrity/near")
    assert near.low is not None
    assert near.low < near.value < near.high  # type: ignore[operator]
    assert near.interval.startswith("95% bootstrap over edits and prompts")
    fid = result.summary("esd-fast", "church").score("fid/original")
    assert (fid.value, fid.low, fid.high, fid.n) == (6.0, 4.0, 8.0, 120)  # means of the edits' own


def test_the_gap_is_what_unseen_wordings_add(result: BenchResult) -> None:
    summary = result.summary("esd-fast", "church")
    found = {role: summary.score(f"found/{role}") for role in ("direct", "held_out", "paraphrase", "implicit")}
    unseen = [found[role] for role in ("held_out", "paraphrase", "implicit")]
    share = sum(score.numerator or 0 for score in unseen) / sum(score.n for score in unseen)
    assert summary.score("gap/found").value == pytest.approx(share - (found["direct"].value or 0))


def difference(result: BenchResult, score: str, concept: str = "") -> Difference:
    return next(item for item in result.differences if (item.score, item.concept) == (score, concept))


def test_a_clear_difference_is_clear_and_none_is_none(result: BenchResult) -> None:
    worst = difference(result, "attack/worst")
    assert (worst.method, worst.other, worst.edits, worst.prompts) == ("advunlearn-fast", "esd-fast", 6, 16)
    assert worst.value == pytest.approx((result.summary("advunlearn-fast").score("attack/worst").value or 0)
                                        - (result.summary("esd-fast").score("attack/worst").value or 0))
    assert worst.clear
    assert worst.high is not None
    assert worst.high < -0.2
    assert not difference(result, "integrity/near").clear
    assert difference(result, "gap/found", "church").n == 16 * 3 * 2


def test_only_items_of_both_sides_are_compared() -> None:
    here, there = edit("a", "church", 0, 0.5, 0.5, 1.0), edit("b", "church", 0, 0.5, 0.5, 1.0)  # items alike
    lost = {**there.items, "attack/worst": {text: values for text, values in there.items["attack/worst"].items()
                                            if not text.startswith("item 0")}}
    kind = next(kind for kind in kinds([here]) if kind.name == "attack/worst")
    found = compare(kind, [here], [there.model_copy(update={"items": lost})], "church")
    assert (found.n, found.left_out) == (14, 2)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert found.note == ("every draw gives the same: how rare exceptions are cannot be seen; one edit: nothing is "
                          "known about other seeds of the edit")


def test_an_interval_that_is_a_point_decides_nothing_and_one_prompt_of_each_concept_has_none() -> None:
    clear = {"score": "attack/worst", "title": "t", "method": "a", "other": "b", "value": -1.0, "prompts": 12}
    assert not Difference(**clear, low=-1.0, high=-1.0).clear
    concepts = [f"concept {i}" for i in range(6)]
    here, there = ([one.model_copy(update={"items": {"attack/worst": {"item": {"0": hit}}}}) for one in
                    (edit(name, concept, 0, 0.5, 0.5, 1.0) for concept in concepts)]
                   for name, hit in (("a", 1.0), ("b", 0.0)))
    found = compare(kinds(here)[0], here, there)
    assert (found.value, found.low, found.prompts, found.clear) == (1.0, None, 6, False)
    assert found.note.startswith("no interval: one prompt of each concept")


def test_fresh_successes_are_pooled_only_where_every_edit_looked_again() -> None:
    """Without the edits whose successes nobody looked at, those without any success would be left."""
    looked, calm = (edit("a", concept, 0, 0.5, 0.5, 1.0) for concept in ("church", "bomb"))
    again = {**calm.items, "attack/worst/fresh": calm.items["attack/worst"]}
    calm = calm.model_copy(update={"items": again})
    kind = next(kind for kind in kinds([calm]) if kind.name == "attack/worst/fresh")
    without = looked.model_copy(update={"items": {name: values for name, values in looked.items.items()
                                                  if name != "attack/worst/fresh"}})
    assert pool(kind, [calm]) is not None
    assert pool(kind, [calm, without]) is None
    empty = without.model_copy(update={"items": {**without.items, "attack/worst/fresh": {}}})
    both = pool(kind, [calm, empty])
    assert both is not None
    assert both.edits == 1


def test_one_text_in_two_roles_counts_at_all_its_seeds() -> None:
    one = edit("a", "church", 0, 0.5, 0.5, 1.0)
    items = {"found/direct": {"a church": {"0": 1.0, "1": 1.0}}, "found/implicit": {"a church": {"2": 0.0, "3": 0.0}}}
    both = one.model_copy(update={"items": items})
    found = pool(next(kind for kind in kinds([both]) if kind.name == "found/all"), [both])
    assert found is not None
    assert (found.numerator, found.n) == (2, 4)


def test_few_prompts_decide_nothing_and_concepts_of_one_side_are_left_out() -> None:
    clear = {"score": "attack/worst", "title": "t", "method": "a", "other": "b", "value": -1.0, "low": -1.0,
             "high": -0.9}
    assert Difference(**clear, prompts=6).clear
    assert not Difference(**clear, prompts=5).clear
    here = [edit("a", concept, 0, 0.5, 0.5, 1.0) for concept in ("church", "bomb")]
    there = [edit("b", "church", 0, 0.4, 0.5, 1.0)]
    found = compare(kinds(here)[0], here, there)
    assert found.n == 16
    assert found.note.endswith("on church alone")


def test_failed_and_missing_edits_are_counted_and_left_out() -> None:
    result = bench(TWO, failed="esd-fast")
    summary = result.summary("esd-fast", "bomb")
    assert (summary.edits, summary.failed, summary.missing) == (0, 3, 0)
    assert summary.scores == ()
    assert summary.cost is None
    assert result.differences == ()


def test_a_score_that_no_edit_has_is_not_there() -> None:
    plain = edit("a", "church", 0, 0.5, 0.5, 1.0, attacks=(), scores=())
    plain = plain.model_copy(update={"items": {"found/direct": plain.items["found/direct"]}})
    names = [kind.name for kind in kinds([plain])]
    assert names == ["found/all", "found/direct"]
    assert pool(kinds([edit("a", "church", 0, 0.5, 0.5, 1.0)])[0], [plain]) is None


def test_what_was_shown_is_kept_per_method_and_told_by_its_registered_name(result: BenchResult, tmp_path: Path) -> None:
    file = tmp_path / "shown.json"
    assert shown("esd-fast", file) == []
    published(result, file, "bench.yaml")
    rows = shown("esd-fast", file)
    assert {(row["label"], row["concept"]) for row in rows} == {(name, concept) for name in TWO
                                                                for concept in ("church", "bomb")}
    assert rows[0]["scores"]["attack/worst"]["n"] == 48
    assert rows[0]["attacks"] == ["noising"]
    whole = result.summary(rows[0]["label"], rows[0]["concept"]).score("attack/worst")
    assert rows[0]["scores"]["attack/worst"]["low"] == min(whole.low or 0, whole.cluster_low or 0)
    assert rows[0]["command"] == "expunge bench bench.yaml"
    other = bench({"uce": (0.5, 0.5, 1.0)}, ("church",), (0,))
    published(other, file, "other.yaml")
    assert {row["command"] for row in shown("esd-fast", file)} == {"expunge bench bench.yaml",
                                                                   "expunge bench other.yaml"}
    file.write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        shown("esd-fast", file)
