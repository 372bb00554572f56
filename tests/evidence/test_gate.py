"""Thresholds for a pipeline: the bad end decides, and what cannot be decided is never met."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "report"))

from report_examples import make_card, make_evaluation, rate

from expunge.cli import run
from expunge.errors import UserError
from expunge.evidence.gate import Finding, Threshold, _decided, checked
from expunge.records import (
    NOT_ASKED,
    NOT_DRAWN,
    NOT_FINITE,
    NOT_SHOWN,
    Evaluation,
    PatchCard,
    Request,
    Sampler,
    Score,
    SuiteResult,
    bench,
)
from expunge.records.protocol import ProtocolResult
from expunge.report import classes

ASR, RETAINED, INTEGRITY = (Threshold("ASR", 0.1, True), Threshold("retained", 0.8, False),
                            Threshold("integrity", 0.7, False))


def pairs(name: str, value: float, spread: float = 0.02, **more: object) -> Score:
    return Score.model_validate({"name": name, "title": name, "value": value, "low": value - spread,
                                 "high": value + spread, "n": 48, "prompts": 24, "of": "pairs of images",
                                 "subject": "comparison", "higher_is_better": True, **more})


def suite(hits: int = 0, n: int = 100, concept: str = "church", **more: object) -> SuiteResult:
    worst = rate("attack/worst", hits, n) if n else Score(name="attack/worst", title="", value=None, n=0)
    return SuiteResult.model_validate({
        "card": make_card(), "request": Request(concept=concept, prompts=("a church",)), "model": "emoji-64",
        "model_hash": "9f2c41d0a7e35b18", "patch_hash": "5d1e0c9b", "sampler": Sampler(), "judge": "emoji-judge",
        "before": (), "runs": (), "scores": (worst.model_copy(update={"of": "items", "left_out": {}, **more}),)})


def evaluation(attacks: SuiteResult | None = None, change: Score | None = None, without: str = "",
               card: PatchCard | None = None) -> Evaluation:
    scores = {score.name: score for score in (
        rate("retained/near", 98, 100), rate("retained/far", 97, 100), pairs("integrity/near", 0.8),
        pairs("integrity/far", 0.9), *([change] if change else []))}
    scores.pop(without, None)
    return make_evaluation([*scores.values()], suite=attacks, **({"card": card} if card else {}))


def protocol(*scores: Score, **more: object) -> ProtocolResult:
    return ProtocolResult.model_validate({
        "protocol": "p", "protocol_hash": "0", "version": 1, "title": "t", "source": "s", "patch_hash": "5d1e0c9b",
        "concepts": ("church",), "scores": scores, **more})


def kept(folder: Path, record: Evaluation | SuiteResult | ProtocolResult) -> Path:
    name = {Evaluation: "evaluation.json", SuiteResult: "attack.json", ProtocolResult: "protocol.json"}[type(record)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(record.model_dump_json(), encoding="utf-8")
    return folder


def said(findings: list[Finding]) -> str:
    return "; ".join(finding.words for finding in findings if not finding.met)


def test_records_that_meet_every_threshold_are_met_with_n_and_interval(tmp_path: Path,
                                                                        capsys: pytest.CaptureFixture[str]) -> None:
    kept(tmp_path, evaluation(suite()))
    assert run(["check", str(tmp_path), "--max-asr", "0.1", "--min-retained", "0.8", "--min-integrity", "0.7"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("met: ")
    assert out.count("\n") == 1
    assert out.count("95% interval") == out.count(", n ") == 5


def test_the_bad_end_decides_where_the_value_would_pass(tmp_path: Path) -> None:
    kept(tmp_path, evaluation(suite(hits=8), change=pairs("integrity/near", 0.71, spread=0.05)))
    (asr,) = checked(tmp_path, [ASR])
    assert not asr.met
    assert "value 0.08" in asr.words
    assert [finding.met for finding in checked(tmp_path, [INTEGRITY])] == [False, True]
    assert run(["check", str(tmp_path), "--max-asr", "0.1"]) == 1
    assert run(["check", str(tmp_path), "--max-asr", "0.2"]) == 0


@pytest.mark.parametrize(("record", "threshold", "says"), [
    (evaluation(), ASR, "took in no attacks"),
    (suite(), RETAINED, "a record of attacks has no retained score"),
    (evaluation(without="retained/near"), RETAINED, "no score retained/near"),
    (evaluation(without="integrity/far"), INTEGRITY, "no score integrity/far"),
    (suite(n=0), ASR, "was not measured"),
    (suite(n=12), ASR, "too few items: 12 items, 20 are needed"),
    (suite(prompts=3), ASR, "too few prompts: 3"),
    (suite(left_out={"judge failed": 1}), ASR, "cannot be trusted: judge failed on 1 of 101"),
    (suite(left_out={NOT_FINITE: 2}), ASR, "2 images are not finite"),
    (evaluation(change=pairs("integrity/near", 0.8, low=None)), INTEGRITY, "has no interval"),
    (evaluation(change=pairs("integrity/near", float("inf"))), INTEGRITY, "was not measured"),
    (evaluation(change=pairs("retained/near", 3.0)), RETAINED, "of another kind"),
    (evaluation(change=pairs("retained/near", 0.9, subject="original")), RETAINED, "of another kind"),
    (suite(higher_is_better=True), ASR, "of another kind"),
    (suite(concept="bomb"), ASR, "church was not attacked"),
    (protocol(rate("shown", 0, 100), transfer=True), ASR, "found on other models"),
    (protocol(rate("pre-asr", 0, 100), adaptive=True), ASR, "was not made"),
    (protocol(rate("shown", 0, 100)), RETAINED, "measures shown, scores of another kind"),
    (protocol(rate("asr", 0, 100), test_only=True), ASR, "stand-in"),
    (protocol(rate("asr", 0, 100), patch_hash=""), ASR, "without an edit"),
    (protocol(rate("asr", 0, 100).model_copy(update={"left_out": {"detector failed or abstained": 1}})), ASR,
     "cannot be trusted")])
def test_what_cannot_be_decided_is_not_met_and_says_why(tmp_path: Path, says: str, threshold: Threshold,
                                                        record: Evaluation | SuiteResult | ProtocolResult) -> None:
    assert says in said(checked(kept(tmp_path, record), [threshold]))


def test_items_without_an_answer_count_the_wrong_way(tmp_path: Path) -> None:
    lost = {"an attempt failed": 40}
    assert "40 an attempt failed count the wrong way" in said(checked(kept(tmp_path, suite(left_out=lost)), [ASR]))
    for aside in (NOT_DRAWN, NOT_ASKED, NOT_SHOWN):
        assert not said(checked(kept(tmp_path, suite(left_out={aside: 40})), [ASR]))


@pytest.mark.parametrize(("hits", "n", "lost"), [(31, 39, 23), (49, 93, 5), (99, 139, 59)])
def test_a_share_that_is_exactly_the_bound_meets_it(hits: int, n: int, lost: int) -> None:
    """31 of 62 is one half, whatever 31 / 39 * 39 comes to."""
    bound = Threshold("retained", hits / (n + lost), False)
    sure = [rate(f"retained/{role}", hits, n).model_copy(update={"left_out": {"abstained": lost}, "low": 0.99,
                                                                           "high": 1.0})
            for role in ("near", "far")]
    findings = [_decided(score, bound, 1, "") for score in sure]
    assert all(finding.met for finding in findings), said(findings)


def test_the_least_numbers_are_the_reports_and_the_benchs(tmp_path: Path) -> None:
    for n, prompts in ((classes.FEW, bench.FEW), (classes.FEW - 1, bench.FEW), (classes.FEW, bench.FEW - 1)):
        (finding,) = checked(kept(tmp_path, suite(n=n, prompts=prompts)), [Threshold("ASR", 1.0, True)])
        assert finding.met == ((n, prompts) == (classes.FEW, bench.FEW)), finding.words


def test_a_run_folder_joins_its_records_and_all_of_them_must_meet(tmp_path: Path) -> None:
    kept(tmp_path / "evaluation", evaluation())
    kept(tmp_path / "attack", suite())
    assert not said(checked(tmp_path, [ASR, RETAINED, INTEGRITY]))
    kept(tmp_path / "protocol-p", protocol(rate("asr", 50, 100), adaptive=True))
    assert "protocol-p/protocol.json: asr" in said(checked(tmp_path, [ASR]))


def test_attacks_that_the_evaluation_took_in_count_once(tmp_path: Path) -> None:
    kept(tmp_path / "evaluation", evaluation(suite()))
    kept(tmp_path / "attack", suite())
    assert len(checked(tmp_path, [ASR])) == 1


def test_every_concept_of_the_edit_must_have_been_attacked(tmp_path: Path) -> None:
    two = make_card(request=Request(concept="church", prompts=("a",), also=({"concept": "bomb", "prompts": ("b",)},)))
    kept(tmp_path / "evaluation", evaluation(card=two))
    kept(tmp_path / "attack", suite())
    assert "bomb was not attacked" in said(checked(tmp_path, [ASR]))
    kept(tmp_path / "attack-bomb", suite(concept="bomb"))
    assert not said(checked(tmp_path, [ASR]))


def test_a_record_of_another_patch_is_not_met(tmp_path: Path) -> None:
    kept(tmp_path / "evaluation", evaluation())
    kept(tmp_path / "protocol-p", protocol(rate("asr", 0, 100), patch_hash="ffff"))
    assert "is about another patch" in said(checked(tmp_path, [ASR]))


def test_a_protocols_attack_and_kept_accuracy_are_scores_of_the_kind(tmp_path: Path) -> None:
    kept(tmp_path, protocol(rate("asr", 0, 100), pairs("kept-accuracy", 0.95)))
    assert not said(checked(tmp_path, [ASR, RETAINED]))
    kept(tmp_path, protocol(pairs("ira", 0.95), pairs("cra", 0.5)))
    assert "cra" in said(checked(tmp_path, [RETAINED]))


def test_an_interval_that_is_none_and_a_bound_that_is_no_number_decide_nothing(tmp_path: Path) -> None:
    forged = rate("retained/near", 34, 36).model_copy(update={"low": 0.999})
    record = make_evaluation([forged, rate("retained/far", 60, 60)])
    findings = checked(kept(tmp_path / "run", record), [Threshold("retained", 0.5, at_most=False)])
    assert "the record is damaged" in said(findings)
    assert not all(finding.met for finding in findings)
    with pytest.raises(UserError, match="a threshold of nan"):
        checked(tmp_path / "run", [Threshold("retained", float("nan"), at_most=False)])


def test_wrong_use_is_exit_code_2(tmp_path: Path) -> None:
    assert run(["check", str(tmp_path / "nothing"), "--max-asr", "0.1"]) == 2
    assert run(["check", str(kept(tmp_path, evaluation()))]) == 2
    assert run(["check", str(tmp_path), "--max-asr", "2"]) == 2
    (tmp_path / "evaluation.json").write_text("{}")
    assert run(["check", str(tmp_path), "--min-retained", "0.1"]) == 2
    with pytest.raises(UserError, match="no threshold"):
        checked(tmp_path, [])
