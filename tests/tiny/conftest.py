"""Drawings made here, and what a bake of a few steps makes of them, once per test session."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from baking import small
from expunge.tiny.bake.recipe import bake
from expunge.tiny.world import THINGS


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like EmojiCanvas, with one coloured blob per thing and style."""
    root = tmp_path_factory.mktemp("pictures")
    vendors = ("fluent_3d", "noto")
    rows = []
    for i, thing in enumerate(THINGS.values()):
        for vendor in vendors:
            file = root / "emojicanvas" / vendor / f"{thing.key}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            image = Image.new("RGBA", (64, 64))
            color = (i * 5, 255 - i * 5, 90 if vendor == "noto" else 200, 255)
            ImageDraw.Draw(image).ellipse([8, 8 + i // 3, 50, 60], fill=color)
            image.save(file)
            rows.append({"object": thing.key, "style": vendor, "file": f"{vendor}/{thing.key}.png"})
    with (root / "emojicanvas" / "metadata.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, ["object", "style", "file"])
        table.writeheader()
        table.writerows(rows)
    extended = root / "emojicanvas-extended"
    extended.mkdir()
    data = io.BytesIO()
    Image.new("RGBA", (64, 64), (9, 9, 9, 255)).save(data, "WEBP")
    with tarfile.open(extended / "emoji64.tar", "w") as tar:
        entry = tarfile.TarInfo("noto/1f9f2.webp")
        entry.size = len(data.getvalue())
        tar.addfile(entry, io.BytesIO(data.getvalue()))
    (extended / "index.csv").write_text(
        "file,style,cldr_name,keywords,cldr_group\nnoto/1f9f2.webp,noto,magnet,attraction|horseshoe,objects\n")
    return root


@pytest.fixture(scope="session")
def baked(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bake")
    bake(small(pictures, out))
    return out
