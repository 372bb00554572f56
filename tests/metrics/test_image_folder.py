"""Folders of images as people have them: every odd file is converted under a name or left out under a reason."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from expunge.errors import UserError
from expunge.metrics import image_folder, image_list
from expunge.metrics.image_file import Unusable, read_image
from expunge.metrics.image_folder import ImageFolder
from expunge.records import ItemKey
from expunge.records.tables import EMPTY_ROW, MORE_CELLS


def noise(height: int = 20, width: int = 16, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def png16(path: Path, colour: bool) -> None:
    """A PNG of 16 bits per channel, written by hand: PIL writes none in colour."""
    channels = 3 if colour else 1
    rows = np.full((10, 12, channels), 0x80FF, dtype=">u2")
    body = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 12, 10, 16, 2 if colour else 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body)) +
                     chunk(b"IEND", b""))


def everything(folder: Path) -> None:
    rgb = Image.fromarray(noise())
    rgb.save(folder / "a.png")
    rgb.save(folder / "b.JPG", format="JPEG")
    rgb.save(folder / "c.webp")
    rgb.convert("L").save(folder / "grey.png")
    Image.fromarray(noise(channels=4)).save(folder / "alpha.png")
    Image.merge("RGBA", [*rgb.split(), Image.new("L", rgb.size, 255)]).save(folder / "opaque.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("P").save(folder / "palette.png")
    png16(folder / "deep-grey.png", False)
    png16(folder / "deep-colour.png", True)
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "turned.jpg", exif=exif)
    Image.new("RGB", (1, 1)).save(folder / "one-pixel.png")
    whole = (folder / "a.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[:len(whole) // 2])
    (folder / "broken.png").write_bytes(whole[:40] + b"\0" * 40 + whole[80:])
    (folder / "empty.png").write_bytes(b"")
    (folder / "words.jpg").write_text("no image")
    rgb.save(folder / "gif.png", format="GIF")
    (folder / "notes.txt").write_text("hello")
    (folder / "sub").mkdir()
    rgb.save(folder / "sub" / "d.png")
    Image.new("RGB", (300, 300)).save(folder / "giant.png")


def test_every_odd_file_is_counted_and_nothing_is_dropped_in_silence(tmp_path: Path) -> None:
    everything(tmp_path)
    found = ImageFolder.open(tmp_path, most_pixels=50_000)
    images = [image for batch in found.batches(4) for image in batch]
    assert [image.name for image in images] == sorted(image.name for image in images)
    assert len(images) + len(found.left_out) == len([*tmp_path.rglob("*.*")])
    assert found.read == len(images) == 12
    assert found.left_out == {
        "notes.txt": "no image by its ending", "one-pixel.png": "a side below 8 pixels", "cut.png": "broken or cut off",
        "broken.png": "broken or cut off", "empty.png": "empty file", "words.jpg": "no PNG, JPEG or WebP inside",
        "gif.png": "no PNG, JPEG or WebP inside", "giant.png": "more than 50,000 pixels"}
    assert found.conversions == {
        "grey to RGB": 2, "transparent, laid on white": 1, "opaque alpha dropped": 1, "CMYK to RGB": 1,
        "palette to RGB": 1, "16 bits to 8": 2, "turned by EXIF": 1}
    said = " ".join(found.notices)
    assert "2 left out: broken or cut off (" in said
    assert "converted: transparent, laid on white" in said


def test_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    everything(tmp_path)
    plain, none = read_image(tmp_path / "a.png")
    assert none == []
    torch.testing.assert_close(plain, torch.from_numpy(noise()).permute(2, 0, 1))
    for name in ("deep-grey.png", "deep-colour.png"):
        assert set(read_image(tmp_path / name)[0].flatten().tolist()) == {0x80}
    turned, _ = read_image(tmp_path / "turned.jpg")
    assert tuple(turned.shape) == (3, 16, 20)
    rgba = torch.from_numpy(noise(channels=4)).permute(2, 0, 1).float()
    by_hand = (rgba[:3] * rgba[3] + 255 * (255 - rgba[3])) / 255
    assert (read_image(tmp_path / "alpha.png")[0].float() - by_hand).abs().max() <= 1
    with pytest.raises(Unusable, match="more than"):
        read_image(tmp_path / "a.png", most_pixels=100)


def test_a_list_gives_prompts_and_seeds_and_both_sides_of_a_mismatch_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("x.png", "y.png", "z.png", "again.png"):
        Image.fromarray(noise()).save(folder / name)
    listing = folder / "list.csv"
    listing.write_bytes("\ufefffile,prompt,seed\ny.png,nan,7\nx.png,\"a, b\",7\n,,\ngone.png,c,1\nagain.png,nan,7\n"
                        "x.png,d,2\n,no file,3\nz.png,e, f,4\nz2.png,e,99999999999999999999999\n".encode())
    found = ImageFolder.open(folder, listing)
    assert [name for batch in found.batches() for name, _, _ in batch] == ["y.png", "x.png", "again.png"]
    assert found.items == {"y.png": ItemKey("nan", 7), "x.png": ItemKey("a, b", 7), "again.png": ItemKey("nan", 7)}
    assert found.counts == {image_folder.MISSING: 1, image_folder.EXTRA: 1, EMPTY_ROW: 1, MORE_CELLS: 1,
                            image_list.TWICE_LISTED: 1, image_list.NO_FILE: 1, image_list.NO_SEED: 1}


def test_columns_may_be_named_and_what_is_not_there_is_told(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "x.png")
    listing = tmp_path / "rows.jsonl"
    listing.write_text(json.dumps({"path": "x.png", "caption": "a cat"}) + "\n")
    with pytest.raises(UserError, match="no column of files"):
        ImageFolder.open(tmp_path, listing)
    with pytest.raises(UserError, match="'where'"):
        ImageFolder.open(tmp_path, listing, columns={"file": "where"})
    assert ImageFolder.open(tmp_path, listing, columns={"file": "path"}).items == {"x.png": ItemKey("a cat", 0)}
    listing.write_text("[1]\n")
    with pytest.raises(UserError, match=r"row 1: got \[1\]"):
        ImageFolder.open(tmp_path, listing)


@pytest.mark.parametrize(("name", "text"), [
    ("list.csv", "Image;Evaluation Seed;Prompt\r\nx.png;4188.0; a, b\r\n;;\r\n"),
    ("list.tsv", "file\ttext\tseed\nx.png\ta, b\t4188\n\t\t\n"),
    ("list.json", '[{"file": "x.png", "caption": "a, b", "seed": 4188}, {"file": "", "caption": null}]')])
def test_a_list_beside_a_folder_is_read_as_a_list_of_prompts_is(tmp_path: Path, name: str, text: str) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(noise()).save(folder / "x.png")
    (tmp_path / name).write_bytes(text.encode())
    found = ImageFolder.open(folder, tmp_path / name)
    assert found.items == {"x.png": ItemKey("a, b", 4188)}
    assert found.counts == {EMPTY_ROW: 1}


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        ImageFolder.open(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="no image to read"):
        ImageFolder.open(tmp_path)


def test_features_of_several_sizes_come_in_the_images_order(tmp_path: Path) -> None:
    class Size:
        name, width = "size@0", 2

        def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
            return torch.tensor([pictures.shape[-2:]] * len(pictures), dtype=torch.float32)

    for name, size in (("a", (10, 12)), ("b", (20, 9)), ("c", (10, 12))):
        Image.fromarray(noise(*size)).save(tmp_path / f"{name}.png")
    images = next(ImageFolder.open(tmp_path).batches())
    assert image_folder.features_of(Size(), images).tolist() == [[10, 12], [20, 9], [10, 12]]
