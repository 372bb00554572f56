"""No image is drawn twice, and fresh and cached ones are the same bits."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from expunge.errors import ModelError, StorageError
from expunge.models import cache
from expunge.models.cache import ImageCache
from expunge.models.patch import Patch
from expunge.models.sample import draw
from expunge.records import ImageRecord, Prompt, Request, Sampler

SAMPLER = Sampler(steps=3)
ITEMS = [(Prompt(text=text, role="near"), seed) for text in ("a church", "a dog") for seed in (0, 1)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What was really drawn, in order."""
    seen: list[tuple[str, int]] = []

    def watched(model: Any, items: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.extend((prompt.text, seed) for prompt, seed in items)
        return draw(model, items, *args, **kwargs)

    monkeypatch.setattr(cache, "draw", watched)
    return seen


def test_second_time_nothing_is_drawn_and_bits_are_equal(model: Any, tmp_path: Path, drawn: list[Any]) -> None:
    shots, fresh = ImageCache(tmp_path).draw(model, ITEMS, SAMPLER)
    assert len(drawn) == 4
    again, cached = ImageCache(tmp_path).draw(model, ITEMS, SAMPLER)
    assert len(drawn) == 4
    assert again == shots
    assert cached.equal(fresh)
    assert (fresh * 255).round().div(255).equal(fresh)
    assert float((fresh - draw(model, ITEMS, SAMPLER)).abs().max()) <= 0.5 / 255 + 1e-6


def test_records_say_where_and_what(model: Any, tmp_path: Path) -> None:
    pictures = ImageCache(tmp_path)
    shots, pixels = pictures.draw(model, ITEMS, SAMPLER)
    for (prompt, seed), shot, picture in zip(ITEMS, shots, pixels, strict=True):
        assert (shot.prompt, shot.seed, shot.model, shot.patch) == (prompt, seed, model.hash, "")
        assert Image.open(tmp_path / shot.file).size == (16, 16)
        assert pictures.pixels(shot).equal(picture)
        record = (tmp_path / shot.file).with_suffix(".json")
        assert ImageRecord.model_validate_json(record.read_text()) == shot
    with pytest.raises(ModelError, match="not those of its record"):
        pictures.pixels(shots[0].model_copy(update={"pixels": "0"}))
    with pytest.raises(ModelError, match="cannot be read"):
        pictures.pixels(shots[0].model_copy(update={"file": "nowhere.png"}))


def test_only_batches_with_missing_pictures_are_drawn_and_whole(model: Any, tmp_path: Path, drawn: list[Any]) -> None:
    ImageCache(tmp_path).draw(model, ITEMS[1:2], SAMPLER)
    far = Prompt(text="a dog", role="far")
    told: list[tuple[int, int]] = []
    shots, pixels = ImageCache(tmp_path).draw(model, [*ITEMS, (far, 0), ITEMS[0]], SAMPLER, batch=2,
                                              progress=lambda *counts: told.append(counts))
    assert drawn == [("a church", 1), ("a church", 0), ("a church", 1), ("a dog", 0), ("a dog", 1)]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert pixels[4].equal(pixels[2])
    assert pixels[5].equal(pixels[0])
    assert shots[4].prompt.role == "far"
    assert shots[2].prompt.role == "near"


def test_interrupted_drawing_keeps_what_was_done(model: Any, tmp_path: Path, drawn: list[Any]) -> None:
    def stop(done: int, _: int) -> None:
        if done == 3:  # batches of one: nothing that is there is drawn again
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ImageCache(tmp_path).draw(model, ITEMS, SAMPLER, batch=1, progress=stop)
    drawn.clear()
    ImageCache(tmp_path).draw(model, ITEMS, SAMPLER, batch=1)
    assert drawn == [("a dog", 1)]
    assert not list(tmp_path.rglob("*part"))


@pytest.mark.parametrize("harm", ["pixel", "cut", "record", "letter", "place", "gone", "no record"])
def test_damaged_pictures_are_drawn_again_and_said(model: Any, tmp_path: Path, drawn: list[Any], harm: str,
                                                   caplog: pytest.LogCaptureFixture) -> None:
    shots, fresh = ImageCache(tmp_path).draw(model, ITEMS[:1], SAMPLER)
    file = tmp_path / shots[0].file
    if harm == "pixel":
        image = Image.open(file)
        image.putpixel((3, 3), (1, 2, 3))
        image.save(file)
    elif harm == "cut":
        file.write_bytes(file.read_bytes()[:60])
    elif harm == "record":
        file.with_suffix(".json").write_text(json.dumps({"seed": 0}))
    elif harm in ("letter", "place"):
        one, other = ("church", "chursh") if harm == "letter" else (".png", ".pnf")
        file.with_suffix(".json").write_text(file.with_suffix(".json").read_text().replace(one, other))
    elif harm == "gone":
        file.unlink()
    else:
        file.with_suffix(".json").unlink()
    with caplog.at_level(logging.WARNING):
        again, repaired = ImageCache(tmp_path).draw(model, ITEMS[:1], SAMPLER)
    assert len(drawn) == 2
    assert repaired.equal(fresh)
    assert again == shots
    assert ("damaged" in caplog.text) == (harm != "no record"), "an image without a record was interrupted"
    caplog.clear()
    ImageCache(tmp_path).draw(model, ITEMS[:1], SAMPLER)
    assert len(drawn) == 2
    assert not caplog.text


def test_many_damaged_pictures_are_said_once(model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shots, _ = ImageCache(tmp_path).draw(model, ITEMS, SAMPLER)
    for shot in shots:
        (tmp_path / shot.file).write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        ImageCache(tmp_path).draw(model, ITEMS, SAMPLER)
    assert len(caplog.records) == 1
    assert f"and {len({shot.key for shot in shots}) - 1} more" in caplog.text


def test_a_cache_that_cannot_be_written_is_named_as_what_it_is(model: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(StorageError, match="EXPUNGE_CACHE") as caught:
        ImageCache(tmp_path / "cache").draw(model, ITEMS[:1], SAMPLER)
    assert "output folder" not in str(caught.value)


def test_patch_sampler_and_schedule_have_pictures_of_their_own(model: Any, tmp_path: Path, drawn: list[Any]) -> None:
    pictures = ImageCache(tmp_path)
    first, before = pictures.draw(model, ITEMS[:1], SAMPLER)
    tensors = {name: value + 0.5 for name, value in model.parameters_in("xattn").items()}
    model.apply(Patch.of(tensors, model=model, request=Request(concept="c", prompts=("c",)), method="m",
                         settings={}, seed=0))
    second, after = pictures.draw(model, ITEMS[:1], SAMPLER)
    assert second[0].patch == model.patch_hash
    assert second[0].file != first[0].file
    assert not after.equal(before)
    model.remove()
    pictures.draw(model, ITEMS[:1], Sampler(steps=4))
    model.drawing = "another schedule"
    pictures.draw(model, ITEMS[:1], SAMPLER)
    assert len(drawn) == 4


def test_nothing_asked(model: Any, tmp_path: Path) -> None:
    shots, pixels = ImageCache(tmp_path).draw(model, [], SAMPLER)
    assert shots == []
    assert pixels.shape == (0, 3, 16, 16)


def test_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path / "x"))
    assert ImageCache().root == tmp_path / "x"
    monkeypatch.delenv("EXPUNGE_CACHE")
    assert ImageCache().root.parts[-3:] == (".cache", "expunge", "pictures")


def test_unwritable_cache_is_said_plainly(model: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        ImageCache(tmp_path / "file").draw(model, ITEMS[:1], SAMPLER)


def test_pictures_on_disk_are_those_in_memory_and_survive_a_cleared_cache(model: Any, tmp_path: Path,
                                                                           drawn: list[Any]) -> None:
    shots, whole = ImageCache(tmp_path).draw(model, [*ITEMS, ITEMS[0]], SAMPLER)
    again, on_disk = ImageCache(tmp_path).spooled(model, [*ITEMS, ITEMS[0]], SAMPLER)
    assert len(drawn) == 4
    assert again == shots
    assert on_disk[:].equal(whole)
    for file in tmp_path.rglob("*.png"):
        file.unlink()
    assert on_disk[[4, 1]].equal(whole[[4, 1]])
    fresh = ImageCache(tmp_path / "new").spooled(model, ITEMS, SAMPLER)[1]
    assert fresh[:].equal(whole[:4])


def test_drawing_into_a_sink_keeps_no_picture_unless_it_is_told_to(model: Any) -> None:
    seen: dict[int, torch.Tensor] = {}
    none = draw(model, ITEMS, SAMPLER, batch=2, sink=seen.__setitem__, collect=False)
    assert tuple(none.shape) == (0, 3, 16, 16)
    assert torch.stack([seen[row] for row in range(4)]).equal(draw(model, ITEMS, SAMPLER, batch=2))


def test_a_patch_that_goes_on_while_images_are_drawn_is_no_image_of_the_original(
        model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another thread would put it on."""
    tensors = {name: p.detach() * 2 for name, p in model.parameters_in("xattn").items()}
    patch = Patch.of(tensors, model=model, request=Request(concept="church", prompts=("a church",)), method="m",
                     settings={}, seed=0)

    def hasty(*args: Any, **kwargs: Any) -> torch.Tensor:
        model.apply(patch)
        return draw(*args, **kwargs)

    monkeypatch.setattr(cache, "draw", hasty)
    with pytest.raises(ModelError, match="one thread for each model"):
        ImageCache(tmp_path).draw(model, ITEMS, SAMPLER)
    model.remove()
    assert not [*tmp_path.glob("**/*.png")]
