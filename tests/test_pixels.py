"""Images on disk are those in memory: bit for bit, row by row, for everything that an evaluation measures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from expunge.errors import StorageError
from expunge.metrics.base import Aim, featured
from expunge.metrics.fidelity import items_against_original
from expunge.metrics.instead import Side, instead_scores
from expunge.metrics.integrity import (
    ImageSet,
    distances,
    seed_distances,
    sharpness_score,
)
from expunge.metrics.judging import judgments
from expunge.metrics.perceptual import Ssim
from expunge.metrics.spoilt import finite_only
from expunge.models.sample import at_one_size
from expunge.pixels import Pixels, Spool, chosen, chunk_of, chunks
from expunge.records import ImageRecord, Prompt, Sampler
from expunge.tiny.emoji import judge_distance, judge_features


def levels(n: int, side: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8,
                         generator=torch.Generator().manual_seed(seed))


def spooled(folder: Path, pictures: torch.Tensor) -> Pixels:
    spool = Spool(folder)
    return Pixels(spool, [spool.add(picture) for picture in pictures])


def test_rows_slices_and_choices_are_those_of_the_tensor(tmp_path: Path) -> None:
    x = levels(9, 16)
    whole, on_disk = x.float() / 255, spooled(tmp_path, x)
    assert (len(on_disk), on_disk.shape) == (9, whole.shape)
    assert torch.equal(on_disk[3], whole[3])
    assert torch.equal(on_disk[-1], whole[-1])
    assert torch.equal(on_disk[2:7], whole[2:7])
    assert torch.equal(on_disk[[5, 0, 5]], whole[[5, 0, 5]])
    assert torch.equal(on_disk[[]], whole[[]])
    assert torch.equal(torch.cat([*on_disk.split(4)]), whole)
    part = chosen(on_disk, [8, 1])
    assert isinstance(part, Pixels)
    assert torch.equal(part[:], whole[[8, 1]])
    assert torch.equal(torch.cat([*chunks(on_disk)]), whole)
    assert [*tmp_path.iterdir()] == []  # the file has no name


def test_other_sizes_come_as_at_one_size_brings_them_and_no_numbers_as_nan(tmp_path: Path) -> None:
    spool, mixed = Spool(tmp_path), [levels(1, side)[0] for side in (16, 24, 16)]
    rows = [spool.add(picture) for picture in mixed] + [spool.add(torch.full((3, 16, 16), torch.nan))]
    on_disk = Pixels(spool, rows)
    want = at_one_size([*(picture.float() / 255 for picture in mixed), torch.full((3, 16, 16), torch.nan)])
    assert torch.equal(on_disk[:3], want[:3])
    assert on_disk[3].isnan().all()
    assert on_disk.only([1]).shape == (1, 3, 16, 16)
    assert torch.equal(on_disk.only([2, 1]).as_drawn(1), mixed[1].float() / 255)


def test_fewer_large_pictures_are_read_at_a_time(tmp_path: Path) -> None:
    at = lambda side: chunk_of(torch.empty(0, 3, side, side))
    assert [at(side) for side in (16, 64, 128, 512)] == [128, 128, 32, 8]
    assert chunk_of(torch.empty(0, 3, 512, 512), 2) == 2


def test_a_place_where_no_file_can_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be put aside"):
        Spool(tmp_path / "file")


def sides(tmp_path: Path, n: int = 130) -> tuple[tuple[ImageSet, ImageSet], tuple[ImageSet, ImageSet]]:
    """Original and edited, in memory and on disk; a chunk ends inside, and the last may have one image."""
    shots = [ImageRecord(prompt=Prompt(text=f"p{i // 2}", role="direct" if i % 4 < 2 else "far",
                                       labels={"object": "church"}), seed=i % 2, sampler=Sampler(), model="m",
                         pixels=str(i)) for i in range(n)]
    smooth = torch.nn.functional.avg_pool2d(levels(n).float(), 5, 1, 2).round().to(torch.uint8)
    changed = (smooth.float() * 0.8 + levels(n, seed=1).float() * 0.2).round().to(torch.uint8)
    memory = tuple(ImageSet(shots, x.float() / 255) for x in (smooth, changed))
    disk = tuple(ImageSet(shots, spooled(tmp_path, x)) for x in (smooth, changed))
    return memory, disk  # type: ignore[return-value]


@pytest.mark.slow
@pytest.mark.parametrize("n", [129])
def test_every_measure_is_the_same_bit_for_bit(tmp_path: Path, n: int) -> None:
    from expunge.tiny.emoji import emoji_world

    (original, edited), (on_disk, edited_on_disk) = sides(tmp_path, n)
    features = judge_features()
    x, y = featured(features, edited.pictures), featured(features, edited_on_disk.pictures)
    assert torch.equal(x, y)
    for distance in (judge_distance(), Ssim()):
        assert distances(edited, original, distance) == distances(edited_on_disk, on_disk, distance)
        assert seed_distances(original, distance) == seed_distances(on_disk, distance)
    assert sharpness_score(edited, original, "far") == sharpness_score(edited_on_disk, on_disk, "far")
    world = emoji_world()
    judge = world.judge(world.prompts.request("church"))
    said = [judgments(judge, side.shots, side.pictures) for side in (original, edited, on_disk, edited_on_disk)]
    assert said[:2] == said[2:]
    aims = (Aim("church", "object"),)
    assert instead_scores(Side(original, [said[0]]), Side(edited, [said[1]]), aims, {}, features) == \
        instead_scores(Side(on_disk, [said[2]]), Side(edited_on_disk, [said[3]]), aims, {}, features)
    assert finite_only(on_disk)[1] == ()
    assert len(finite_only(on_disk)[0].shots) == n
    items = [shot.item_key for shot in original.shots]
    assert items_against_original(items, x, x, "f", draws=2) == items_against_original(items, y, y, "f", draws=2)


def test_features_that_know_only_tensors_are_given_chunks(tmp_path: Path) -> None:
    seen: list[int] = []

    class Means:
        name, width = "means@0", 3

        def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
            seen.append(len(pictures))
            return pictures.mean((2, 3))

    x = levels(150)
    torch.testing.assert_close(featured(Means(), spooled(tmp_path, x)), featured(Means(), x.float() / 255))
    assert seen == [128, 22, 150]
