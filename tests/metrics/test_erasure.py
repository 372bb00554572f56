"""Rates: abstentions and failures are never success; every count is there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rated import rated
from torch import Tensor

from expunge.errors import UserError
from expunge.metrics.base import Aim
from expunge.metrics.erasure import rate
from expunge.metrics.integrity import ImageSet
from expunge.metrics.judging import check_questions, judged, judgments, read_judgments, write_judgments
from expunge.metrics.rules import forget_rates
from expunge.records import NOT_DRAWN, Detection, ImageRecord, Prompt, Role, Sampler

CHURCH = (Aim("church", "object"),)


def shot(role: Role, text: str, label: str = "church", seed: int = 0, **labels: str) -> ImageRecord:
    return ImageRecord(prompt=Prompt(text=text, role=role, labels={"object": label, **labels}), seed=seed,
                       sampler=Sampler(), model="m")


def said(item: ImageRecord, error: str = "", **answers: str) -> tuple[ImageRecord, Detection]:
    return item, Detection(shot=item.key, detector="d", answers=answers, error=error)


def test_found_counts_only_answers() -> None:
    judged = [said(shot("direct", "a"), object="church"), said(shot("direct", "b"), object="house"),
              said(shot("direct", "c")), said(shot("direct", "d"), error="broke"),
              said(shot("implicit", "e"), object="church")]
    scores = rated(judged, CHURCH)
    direct = scores["found/direct"]
    assert (direct.value, direct.numerator, direct.n) == (0.5, 1, 2)
    assert direct.left_out == {"abstained": 1, "detector failed": 1}
    assert direct.note == \
        "if all 2 images without an answer hid the concept: 75.0%"  # both without an answer hid a church
    assert (scores["abstained/direct"].numerator, scores["abstained/direct"].n) == (1, 3)
    assert (scores["found/all"].numerator, scores["found/all"].n) == (2, 3)
    assert "found/held_out" not in scores
    assert direct.low is not None
    assert direct.high is not None
    assert direct.low < 0.5 < direct.high
    assert direct.higher_is_better is False


def test_a_judge_that_always_abstains_measures_nothing() -> None:
    judged = [said(shot("direct", str(i))) for i in range(20)]
    score = rated(judged, CHURCH)["found/direct"]
    assert score.value is None
    assert score.low is None
    assert score.numerator is None
    assert "no answer on any of 20" in score.note
    assert rated(judged, CHURCH)["abstained/direct"].value == 1.0


class Broken:
    """A detector that cannot do its work."""

    name = "broken@0"

    def __init__(self) -> None:
        self.questions = {"object": ("church", "house")}

    def __call__(self, pictures: Tensor) -> list[Detection]:
        raise RuntimeError("out of order")


class OneBad(Broken):
    """Raises for a whole batch when one of its images is black; else answers "church"."""

    def __call__(self, pictures: Tensor) -> list[Detection]:
        if bool((pictures.flatten(1).sum(1) == 0).any()):
            raise RuntimeError("black")
        return [Detection(answers={"object": "church"}, confidence={"object": 0.9})] * len(pictures)


def test_a_broken_detector_is_no_success() -> None:
    shots = [shot("direct", str(i)) for i in range(5)]
    found = judgments(Broken(), shots, torch.rand(5, 3, 8, 8))
    assert all("out of order" in item.error for item in found)
    score = rated(list(zip(shots, found, strict=True)), CHURCH)["found/direct"]
    assert score.value is None
    assert score.left_out["detector failed"] == 5
    kept = rated([said(shot("near", "x", "house"), error="broke")], CHURCH)["retained/near"]
    assert kept.value is None


def test_one_bad_picture_spoils_itself_alone_and_is_asked_again() -> None:
    shots = [shot("direct", str(i)) for i in range(4)]
    pictures = torch.ones(4, 3, 8, 8)
    pictures[2] = 0
    stored: list[tuple[ImageRecord, Detection]] = []
    found = judgments(OneBad(), shots, pictures, keep=lambda items: stored.extend(items))
    assert [bool(item.error) for item in found] == [False, False, True, False]
    assert [item.prompt.text for item, _ in stored] == ["0", "1", "3"]
    again = judgments(OneBad(), shots, torch.ones(4, 3, 8, 8), known=list(zip(shots, found, strict=True)))
    assert not any(item.error for item in again)


def test_an_answer_outside_the_judges_labels_is_a_failure() -> None:
    class Odd(Broken):
        def __call__(self, pictures: Tensor) -> list[Detection]:
            return [Detection(answers={"object": "chapel"}, confidence={"object": 0.9})] * len(pictures)

    found = judgments(Odd(), [shot("direct", "a")], torch.rand(1, 3, 8, 8))
    assert "chapel" in found[0].error
    assert not found[0].answers


def test_known_judgments_are_not_asked_again(tmp_path: Path) -> None:
    shots = [shot("direct", str(i)).model_copy(update={"pixels": "old"}) for i in range(3)]
    known = [(s, Detection(shot=s.key, detector="broken@0", answers={"object": "house"})) for s in shots]
    write_judgments(tmp_path / "j.jsonl", known)
    kept, pictures = read_judgments(tmp_path / "j.jsonl"), torch.rand(3, 3, 8, 8)
    assert kept == known
    assert judgments(Broken(), shots, pictures, known=kept) == [item for _, item in known]
    others = [(s, item.model_copy(update={"detector": "another"})) for s, item in known]
    assert all(item.error for item in judgments(Broken(), shots, pictures, known=others))
    redrawn = [s.model_copy(update={"pixels": "new"}) for s in shots]
    assert all(item.error for item in judgments(Broken(), redrawn, pictures, known=kept))
    (tmp_path / "j.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="line 1"):
        read_judgments(tmp_path / "j.jsonl")


def test_a_damaged_judgment_is_said_and_asked_for_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Counting(Broken):
        asked = 0

        def __call__(self, pictures: Tensor) -> list[Detection]:
            self.asked += len(pictures)
            return [Detection(answers={"object": "house"}, confidence={"object": 0.5})] * len(pictures)

    side = ImageSet([shot("direct", str(i)) for i in range(3)], torch.rand(3, 3, 8, 8))
    file, judge = tmp_path / "judgments.jsonl", Counting()
    made = judged([side], judge, file)
    whole = file.read_text()
    lines = whole.splitlines(keepends=True)
    file.write_text(lines[0] + lines[1].replace("0.5", "0.7") + lines[2])
    with pytest.raises(UserError, match=r"line 2, is damaged.*judged again"):
        read_judgments(file)
    assert judged([side], judge, file) == made
    assert judge.asked == 4
    assert file.read_text() == whole
    assert caplog.text.count(f"{file} has damaged lines (1); what they kept is made again") == 1


def test_a_judge_without_the_concept_is_refused() -> None:
    check_questions(Broken(), "church", "object", [])
    with pytest.raises(UserError, match="unicorn"):
        check_questions(Broken(), "unicorn", "object", [])
    with pytest.raises(UserError, match="style"):
        check_questions(Broken(), "church", "object", [Prompt(text="t", role="far", labels={"style": "flat"})])


def test_retention_asks_for_the_label_of_each_prompt() -> None:
    judged = [said(shot("near", "a", "house", style="flat"), object="house", style="3d"),
              said(shot("near", "b", "castle", style="flat"), object="house", style="flat"),
              said(shot("far", "c", "dog"), object="dog"),
              said(shot("style", "d", "church", style="3d"), object="house", style="3d")]
    scores = rated(judged, CHURCH)
    assert scores["retained/near"].value == 0.5
    assert scores["retained/far"].value == 1.0
    assert scores["retained/style"].value == 1.0
    assert (scores["retained/keep:style"].value, scores["retained/keep:style"].n) == (0.5, 2)
    assert scores["retained/keep:style"].left_out["not asked"] == 1


def test_the_null_control_of_a_style_is_still_the_thing() -> None:
    controls = rated([said(shot("never_seen", "a", "bell", style="flat"), object="dog", style="flat")],
                     (Aim("pixel art", "style"),))
    assert controls["found/never_seen"].value == 0.0


def test_controls_and_change() -> None:
    controls = rated([said(shot("never_seen", "a", "bell"), object="bell"),
                      said(shot("far", "b", "dog"), object="church")], CHURCH)
    assert controls["original/found/never_seen"].value == 1.0
    assert controls["original/found/keep"].value == 1.0
    before = [said(shot("direct", str(i), seed=s), object="church") for i in range(3) for s in range(2)]
    after = [said(item, object="house") if item.prompt.text != "2" else said(item) for item, _ in before]
    change = rated(after, CHURCH, before)["change/found/all"]
    assert (change.value, change.n, change.prompts, change.left_out) == (-1.0, 4, 2, {"no answer on one side": 2})
    assert rated([said(item) for item, _ in before], CHURCH, before)["change/found/all"].value is None


def strata(plain: float, full: float, count: int = 10) -> list[tuple[ImageRecord, Detection]]:
    """`count` near pictures of each of two strata, of which these shares show what was asked for."""
    out = []
    for stratum, share in (("short", plain), ("full", full)):
        for i in range(count):
            prompt = Prompt(text=f"{stratum} {i}", role="near", labels={"object": "house"}, stratum=stratum)
            item = ImageRecord(prompt=prompt, seed=0, sampler=Sampler(), model="m")
            out.append(said(item, object="house" if i < share * count else "dog"))
    return out


def test_each_stratum_has_its_own_rate_and_the_loss_in_one_is_not_hidden_by_the_other() -> None:
    scores = rated(strata(0.2, 1.0), CHURCH, strata(1.0, 1.0))
    assert (scores["retained/near@short"].numerator, scores["retained/near@full"].numerator) == (2, 10)
    assert scores["change/retained/near@short"].value == pytest.approx(-0.8)
    assert "for all 2 strata at once" in scores["retained/near@short"].interval
    alone = rated(strata(0.2, 1.0)[:10], CHURCH)
    assert "retained/near@short" not in alone  # a single stratum is what the whole rate says
    low, alone_low = scores["retained/near@short"].low, alone["retained/near"].low
    assert low is not None
    assert alone_low is not None
    assert low < alone_low  # two intervals that hold at once are wider


def test_a_stratum_that_the_original_does_not_draw_counts_in_no_rate() -> None:
    scores = rated(strata(0.0, 1.0), CHURCH, strata(0.1, 1.0))
    assert scores["original/drawn/keep@short"].value == pytest.approx(0.1)
    near = scores["retained/near"]
    assert (near.value, near.n, near.left_out[NOT_DRAWN]) == (1.0, 10, 10)
    assert scores["change/retained/near"].n == 10
    assert scores["retained/near@short"].value == 0.0  # its own rate is told all the same
    neither = rated(strata(0.0, 0.0), CHURCH, strata(0.1, 0.2))
    assert neither["retained/near"].n == 20  # where nothing is drawn, nothing can be left out


def test_seeds_of_one_prompt_do_not_narrow_the_interval_like_prompts_do() -> None:
    alike = [said(shot("direct", str(i), seed=s), object="church" if i < 3 else "dog") for i in range(16)
             for s in range(4)]
    apart = [said(shot("direct", f"{i} {s}"), object="church" if i < 3 else "dog") for i in range(16) for s in range(4)]
    wide, narrow = rated(alike, CHURCH)["found/all"], rated(apart, CHURCH)["found/all"]
    assert (wide.value, wide.n, wide.prompts, narrow.prompts) == (narrow.value, 64, 16, 64)
    sixteen = rated([item for item in alike if item[0].seed == 0], CHURCH)["found/all"]
    assert (wide.low, wide.high) == pytest.approx((sixteen.low, sixteen.high))  # four equal images say what one does
    assert narrow.high is not None
    assert wide.high is not None
    assert narrow.high < wide.high


def test_the_label_of_an_interval_says_what_its_units_are() -> None:
    seeds = [said(shot("direct", "a", seed=seed), object="church") for seed in range(5)]
    for rows, units in ((seeds, "images of one prompt as units"), (seeds[:1], "prompts as units"),
                        ([*seeds, said(shot("direct", "b"), object="house")], "prompts as units")):
        scores = rated(rows, CHURCH)
        assert scores["found/all"].interval.startswith(f"95% Wilson, {units}")
        assert scores["abstained/all"].interval.startswith(f"95% Wilson, {units}")


def test_all_prompts_are_not_said_to_be_all_where_some_were_left_out() -> None:
    judged = [said(shot("direct", "a"), object="church"), said(shot("direct", "b"))]
    assert rated(judged, CHURCH)["found/all"].title == "church still found, all prompts that ask for it"
    rule = next(one for one in forget_rates([judged[0][0].prompt], CHURCH) if one.rule.name == "found/all")
    lost = rate(judged, rule, lost=[(judged[0][0].prompt, "longer than the text encoder reads")])
    assert lost.title == "church still found, all prompts that ask for it, but for those left out"
    assert rate(judged, rule).title == rule.rule.title


def test_longer_names_that_hold_the_concepts_are_told_apart() -> None:
    asked = [Prompt(text="a church mouse", role="near", labels={"object": "mouse"}, homonym="church mouse"),
             Prompt(text="a house", role="near", labels={"object": "house"})]
    shots = [ImageRecord(prompt=prompt, seed=0, sampler=Sampler(), model="m") for prompt in asked]
    scores = rated([said(shots[0], object="dog"), said(shots[1], object="house")], CHURCH)
    homonym = scores["retained/homonym"]
    assert (homonym.numerator, homonym.n, scores["retained/near"].numerator, scores["retained/near"].n) == (0, 1, 1, 2)
    assert scores["change/retained/homonym"].value == 0.0


def test_a_second_thing_is_counted_beside_the_first() -> None:
    prompt = Prompt(text="a church and a bus", role="direct", labels={"object": "church"}, beside="bus")
    shots = [ImageRecord(prompt=prompt, seed=s, sampler=Sampler(), model="m") for s in range(4)]
    before = [said(item, object=name) for item, name in zip(shots, ("bus", "church", "bus", "dog"), strict=True)]
    after = [said(item, object=name) for item, name in zip(shots, ("dog", "bus", "dog", "dog"), strict=True)]
    scores = rated(after, CHURCH, before)
    assert (scores["retained/beside"].numerator, scores["original/retained/beside"].numerator) == (1, 2)
    assert scores["change/retained/beside"].value == pytest.approx(-0.25)
