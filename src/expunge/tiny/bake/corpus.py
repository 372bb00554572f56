"""The texts that tokenizers learn from: names and keywords of all emoji, and prompts of the world."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

from expunge.tiny.world import BACKGROUNDS, HELD_OUT_TEMPLATES, STYLES, THINGS, Scene, captions, fill


def corpus(pictures: Path) -> Iterator[str]:
    """All texts, from the folder that holds emojicanvas-extended/, in a fixed order."""
    with (pictures / "emojicanvas-extended" / "index.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            yield row["cldr_name"]
            yield row["keywords"].replace("|", " ")
    for name, style, background in itertools.product(THINGS, STYLES, BACKGROUNDS):
        scene = Scene(name, style, background)
        yield from (caption.text for caption in itertools.islice(captions(scene, 0), 12))
        yield from (fill(template, scene) for template in HELD_OUT_TEMPLATES)
