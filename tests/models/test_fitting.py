"""Prompts that ask to be drawn in their own way, and those that cannot be drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.errors import UserError
from expunge.models.cache import ImageCache
from expunge.models.fitting import TOO_LONG, none_fits, split, unfit
from expunge.models.sample import draw
from expunge.records import ImageRecord, Prompt, Sampler

SAMPLER = Sampler(steps=2, guidance=2.0)
PLAIN = Prompt(text="a church", role="direct")
LONG = Prompt(text="a church and " * 12, role="direct")


def test_one_question_tells_which_prompts_are_too_long_without_encoding_any(model: Any, monkeypatch: pytest.MonkeyPatch
                                                                            ) -> None:
    monkeypatch.setattr(model.texts[0], "module", None)
    assert model.too_long(["a church", LONG.text, LONG.text]) == {LONG.text: 36}
    assert model.too_long([]) == {}


def test_each_prompt_that_cannot_be_drawn_has_its_reason(model: Any) -> None:
    odd = PLAIN.model_copy(update={"width": 17})
    bare = PLAIN.model_copy(update={"guidance": 1.0})
    negative = SAMPLER.model_copy(update={"negative": "a dog"})
    reasons = unfit(model, [PLAIN, LONG, odd, bare], negative)
    assert reasons == {1: TOO_LONG, 2: "width 17; accepted: a multiple of 2 pixels",
                       3: "a guidance of 1, under which a negative prompt does nothing here"}
    assert split(model, [PLAIN, LONG], SAMPLER.model_copy(update={"truncate": True})) == ([PLAIN, LONG], {})
    told = none_fits("2 prompts", {0: reasons[2], 1: reasons[2]})
    assert told.got == "none of 2 prompts can be drawn (prompt 1: width 17; accepted: a multiple of 2 pixels)"
    assert told.remedy == "mend the sizes and guidances of the list"
    assert none_fits("1 prompts", {0: TOO_LONG}).remedy == "shorten what is too long, or cut it with --truncate"


def test_a_prompt_is_drawn_as_its_list_says_whatever_is_drawn_beside_it(model: Any, tmp_path: Path) -> None:
    own = PLAIN.model_copy(update={"guidance": 5.0, "width": 24, "height": 16})
    items = [(PLAIN, 0), (own, 0), (PLAIN, 1)]
    shots, pictures = ImageCache(tmp_path).each(model, items, SAMPLER)
    assert [tuple(picture.shape) for picture in pictures] == [(3, 16, 16), (3, 16, 24), (3, 16, 16)]
    assert [shot.sampler.guidance for shot in shots] == [2.0, 5.0, 2.0]
    alone = draw(model, [("a church", 0)], Sampler(steps=2, guidance=5.0, width=24, height=16))[0]
    assert float((pictures[1] - alone).abs().max()) <= 0.5 / 255 + 1e-6
    again, same = ImageCache(tmp_path).draw(model, items, SAMPLER)
    assert again == shots
    assert same.shape == (3, 3, 16, 16), "those of other sizes are brought to that of most"
    assert torch.equal(same[0], pictures[0])
    with pytest.raises(UserError, match="images of several sizes"):
        draw(model, items, SAMPLER)
    mixed = draw(model, [(PLAIN, 0), (PLAIN.model_copy(update={"guidance": 5.0}), 0)], SAMPLER)
    assert float((mixed[0] - pictures[0]).abs().max()) <= 0.5 / 255 + 1e-6


def test_a_record_says_that_a_prompt_was_cut_only_where_it_was(model: Any, tmp_path: Path) -> None:
    cutting = SAMPLER.model_copy(update={"truncate": True})
    shots, _ = ImageCache(tmp_path).draw(model, [(PLAIN, 0), (LONG, 0)], cutting)
    assert [shot.sampler.truncate for shot in shots] == [False, True]
    with pytest.raises(UserError, match="has 36 tokens"):
        ImageCache(tmp_path).draw(model, [(LONG, 0)], SAMPLER)


def test_records_of_earlier_versions_keep_their_keys() -> None:
    shot = ImageRecord(prompt=PLAIN, seed=3, sampler=SAMPLER, model="m")
    assert "truncate" not in SAMPLER.model_dump(mode="json")
    assert "seed" not in PLAIN.model_dump(mode="json")
    assert shot.key == "7162b16fe0e1a37a1849073e"
