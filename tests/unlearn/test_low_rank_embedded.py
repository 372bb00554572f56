"""On the real, small model: an edit by LoRA erases the concept and keeps the rest, as whole weights do."""

from __future__ import annotations

import pytest
from test_embedded import seen

import expunge
from expunge.metrics.statistics import wilson


@pytest.mark.slow
def test_esd_by_lora_takes_the_concept_out_and_keeps_what_is_far() -> None:
    model = expunge.load("embedded", device="cpu")
    before = seen(model)
    patch = expunge.erase(model, "church", "esd-fast", settings={"lora_rank": 8})
    with expunge.applied(model, patch):
        after = seen(model)
    assert patch.card.kind == "lora"
    low, _ = wilson(*before.found)
    _, high = wilson(*after.found)
    assert low is not None
    assert high is not None
    assert high < low, f"found {before.found} before, {after.found} after: the intervals overlap"
    assert after.kept[0] >= 0.8 * before.kept[0], f"kept {before.kept} before, {after.kept} after"
