"""The found rate at other margins of a judge that answers by a lead: does the number hang on the threshold?

    margin/found/<margin>    found/all, had the judge answered from that lead on
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from expunge.metrics.base import Aim
from expunge.metrics.erasure import ALL_COUNT, Apart, Judged, rate
from expunge.metrics.rules import forget_rates
from expunge.records import Score

STEP = 0.1
"""Between the judge's margin and its neighbours."""


@runtime_checkable
class AnswersByLead(Protocol):
    """A judge that abstains where its best label leads the second by less than `margin`."""

    @property
    def margin(self) -> float: ...


def margin_scores(edited: Judged, aims: Sequence[Aim], margin: float, apart: Apart = ALL_COUNT) -> list[Score]:
    """The found rate of all prompts at the judge's margin and one step below and above; none without recorded leads.

    Args:
        edited: judgments with `best` and `lead`.
        margin: the judge's own.
        apart: what found/all leaves out.
    """
    if not any(item.lead for _, item in edited):
        return []
    prompts = list({shot.prompt.text: shot.prompt for shot, _ in edited}.values())
    pooled = next((rated for rated in forget_rates(prompts, aims) if rated.rule.name == "found/all"), None)
    if pooled is None:
        return []
    out = []
    for other in dict.fromkeys(round(min(0.95, max(0.0, margin + step)), 3) for step in (-STEP, 0.0, STEP)):
        again = [(shot, item.model_copy(update={"answers": {
            question: label for question, label in item.best.items() if item.lead.get(question, 0.0) >= other}}))
            for shot, item in edited]
        score = rate(again, pooled, apart=apart)
        mine = " (the judge's own)" if other == round(margin, 3) else ""
        out.append(score.model_copy(update={"name": f"margin/found/{other:g}",
                                            "title": f"{score.title}, had the judge's margin been {other:g}{mine}"}))
    return out
