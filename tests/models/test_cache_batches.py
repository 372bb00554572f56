"""Batches are cut from the plan: the same bytes after any kill and for any number of processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.errors import UserError
from expunge.models import cache
from expunge.models.cache import ImageCache
from expunge.models.sample import draw
from expunge.records import Prompt, Sampler
from expunge.runtime import Runtime

SAMPLER = Sampler(steps=3, guidance=3.0)
ITEMS = [(Prompt(text=text, role="near"), seed)
         for text in ("a church", "a dog", "a house by the sea", "a castle") for seed in (0, 1, 2)][:11]
BATCH = 4
"""11 items: two whole batches and a last one of three."""
CPU = torch.device("cpu")


class Killed(Exception):
    pass


def bytes_of(root: Path) -> dict[str, bytes]:
    """Every file of a cache: images and their records."""
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The sizes of the batches of each call."""
    seen: list[list[int]] = []

    def watched(model: Any, items: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(list(kwargs["batch"]))
        return draw(model, items, *args, **kwargs)

    monkeypatch.setattr(cache, "draw", watched)
    return seen


@pytest.mark.parametrize("kept", [1, 2, 4, 5, 7, 8, 9, 10])
def test_a_run_that_was_killed_leaves_the_bytes_of_one_that_was_not(model: Any, tmp_path: Path, kept: int,
                                                                    shapes: list[list[int]]) -> None:
    ImageCache(tmp_path / "whole").draw(model, ITEMS, SAMPLER, batch=BATCH)

    def kill(done: int, _: int) -> None:
        if done == kept:
            raise Killed

    with pytest.raises(Killed):
        ImageCache(tmp_path / "killed").draw(model, ITEMS, SAMPLER, batch=BATCH, progress=kill)
    shapes.clear()
    ImageCache(tmp_path / "killed").draw(model, ITEMS, SAMPLER, batch=BATCH)
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")
    assert shapes == [[4, 4, 3][kept // BATCH:]], "a batch is drawn whole or not at all"


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_processes_leaves_the_same_bytes(model: Any, tmp_path: Path, count: int) -> None:
    whole = ImageCache(tmp_path / "one").draw(model, ITEMS, SAMPLER, batch=BATCH)
    for rank in reversed(range(count)):  # each finds what the ones before it left, as after a barrier
        alone = _Alone(CPU, rank, count)
        found = ImageCache(tmp_path / "several").draw(model, ITEMS, SAMPLER, batch=BATCH, processes=alone)
    assert bytes_of(tmp_path / "several") == bytes_of(tmp_path / "one")
    assert found[0] == whole[0]
    assert found[1].equal(whole[1])


class _Alone(Runtime):
    """One process among several that run one after the other: there is nobody to wait for."""

    def barrier(self) -> None:
        return None


def test_each_process_draws_whole_batches_of_its_own(model: Any, tmp_path: Path, shapes: list[list[int]]) -> None:
    mine = Runtime(CPU, 1, 2).shard([ITEMS[first:first + BATCH] for first in range(0, len(ITEMS), BATCH)])
    ImageCache(tmp_path).draw(model, ITEMS, SAMPLER, batch=BATCH, processes=_Alone(CPU, 1, 2))
    assert shapes[0] == [len(batch) for batch in mine] == [4]
    assert shapes[1] == [4, 3], "what the other one should have drawn, and did not"


def test_the_order_in_which_batches_are_drawn_changes_no_byte(model: Any, tmp_path: Path) -> None:
    ImageCache(tmp_path / "whole").draw(model, ITEMS, SAMPLER, batch=BATCH)
    for first in (8, 0, 4):
        ImageCache(tmp_path / "turned").draw(model, ITEMS[first:first + BATCH], SAMPLER, batch=BATCH)
    assert bytes_of(tmp_path / "turned") == bytes_of(tmp_path / "whole")


def test_a_picture_of_another_plan_is_taken_as_it_is(model: Any, tmp_path: Path) -> None:
    ImageCache(tmp_path).draw(model, ITEMS[5:6], SAMPLER, batch=1)
    before = bytes_of(tmp_path)
    ImageCache(tmp_path).draw(model, ITEMS, SAMPLER, batch=BATCH)
    assert before.items() <= bytes_of(tmp_path).items()


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 11])
def test_another_batch_size_changes_at_most_one_grey_level_in_few_pixels(model: Any, tmp_path: Path, batch: int
                                                                         ) -> None:
    """So does another plan, which cuts other last batches."""
    _, whole = ImageCache(tmp_path / "whole").draw(model, ITEMS, SAMPLER, batch=BATCH)
    _, other = ImageCache(tmp_path / "other").draw(model, ITEMS, SAMPLER, batch=batch)
    off = ((whole - other) * 255).round().abs()
    print(f"batches of {batch} against {BATCH}: {int((off > 0).sum())} of {off.numel()} values differ")
    assert float(off.max()) <= 1
    assert float((off > 0).float().mean()) <= 1e-3


def test_batches_must_hold_the_items_that_there_are(model: Any, tmp_path: Path) -> None:
    for wrong in (0, -1):
        with pytest.raises(UserError, match="batch of"):
            ImageCache(tmp_path).draw(model, ITEMS, SAMPLER, batch=wrong)
    for sizes in ([4, 4], [4, 4, 4], [11, 0]):
        with pytest.raises(UserError, match="11 items together"):
            draw(model, ITEMS, SAMPLER, batch=sizes)
    assert draw(model, ITEMS, SAMPLER, batch=[4, 4, 3]).equal(draw(model, ITEMS, SAMPLER, batch=BATCH))


@pytest.mark.slow
def test_the_embedded_model_rounds_no_worse_and_resumes_alike(tmp_path: Path) -> None:
    """Its networks are large enough for batches of 3 and of 16 to round apart."""
    import expunge

    model = expunge.load("embedded", device="cpu")
    items = [(Prompt(text=f"a 3d emoji of a {name}", role="near"), seed) for name in ("church", "house") for seed in
             range(8)]
    sampler = Sampler(steps=10, guidance=model.guidance)
    _, whole = ImageCache(tmp_path / "whole").draw(model, items, sampler, batch=16)
    _, thirds = ImageCache(tmp_path / "thirds").draw(model, items, sampler, batch=3)
    off = ((whole - thirds) * 255).round().abs()
    assert float(off.max()) <= 1
    assert float((off > 0).float().mean()) <= 1e-4

    def kill(done: int, _: int) -> None:
        if done == 7:
            raise Killed

    with pytest.raises(Killed):
        ImageCache(tmp_path / "killed").draw(model, items, sampler, batch=3, progress=kill)
    ImageCache(tmp_path / "killed").draw(model, items, sampler, batch=3)
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "thirds")
