"""The found rate at neighbouring margins: whether a number hangs on the threshold is said."""

from __future__ import annotations

import pytest
import torch

from expunge.errors import ConfigError, UserError
from expunge.evaluation.plan import EvaluateSettings
from expunge.metrics.base import Aim
from expunge.metrics.clip import ClipJudge
from expunge.metrics.erasure import Apart
from expunge.metrics.margins import AnswersByLead, margin_scores
from expunge.metrics.worlds import world_of
from expunge.records import Detection, ImageRecord, Prompt, Sampler
from expunge.tiny.emoji import emoji_world

CHURCH = (Aim("church", "object"),)


def judged(lead: float, best: str, text: str) -> tuple[ImageRecord, Detection]:
    shot = ImageRecord(prompt=Prompt(text=text, role="direct", labels={"object": "church"}), seed=0, sampler=Sampler(),
                       model="m")
    answers = {"object": best} if lead >= 0.2 else {}
    return shot, Detection(shot=shot.key, detector="d", answers=answers, best={"object": best}, lead={"object": lead})


def test_each_margin_has_its_own_rate_and_counts_what_it_leaves_open() -> None:
    side = [judged(0.15, "church", "a"), judged(0.25, "church", "b"), judged(0.9, "house", "c"),
            judged(0.05, "church", "d")]
    scores = {score.name: score for score in margin_scores(side, CHURCH, 0.2)}
    assert {name: (score.numerator, score.n, score.left_out["abstained"]) for name, score in scores.items()} == {
        "margin/found/0.1": (2, 3, 1), "margin/found/0.2": (1, 2, 2), "margin/found/0.3": (0, 1, 3)}
    assert "the judge's own" in scores["margin/found/0.2"].title


def test_strata_that_do_not_count_count_at_no_margin() -> None:
    side = [(shot.model_copy(update={"prompt": shot.prompt.model_copy(update={"stratum": name})}), item)
            for name, best in (("short", "church"), ("hands", "house"))
            for shot, item in [judged(0.9, best, f"{name} {k}") for k in range(10)]]
    apart = Apart(frozenset({("church", "hands")}), CHURCH)
    own = next(score for score in margin_scores(side, CHURCH, 0.2, apart) if score.name == "margin/found/0.2")
    assert (own.numerator, own.n) == (10, 10)


def test_a_judge_without_leads_has_no_such_scores() -> None:
    shot, item = judged(0.9, "church", "a")
    assert margin_scores([(shot, item.model_copy(update={"lead": {}, "best": {}}))], CHURCH, 0.2) == []


def test_the_clip_judge_tells_its_lead_and_first_label_where_it_abstains() -> None:
    clip = emoji_world().clip()
    sure, never = (ClipJudge(clip, {"object": {"church": ["a church"], "dog": ["a dog"]}}, margin)
                   for margin in (0.0, 0.999))
    assert isinstance(sure, AnswersByLead)
    grey = torch.full((1, 3, 64, 64), 0.5)
    told, open_ = sure(grey)[0], never(grey)[0]
    assert told.answers["object"] == told.best["object"] == open_.best["object"]
    assert not open_.answers
    assert told.lead == open_.lead
    assert sure.name != never.name


def test_the_margin_is_a_setting_of_the_open_world_alone() -> None:
    assert EvaluateSettings(margin=0.3).margin == 0.3
    with pytest.raises((ConfigError, ValueError)):
        EvaluateSettings(margin=1.0)
    with pytest.raises(UserError, match="margin given"):
        world_of("emoji", "embedded", margin=0.3)
