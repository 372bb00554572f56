"""The scores that a bench pools over edits and compares between methods, each a sum over items of the cells."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from expunge.records import Edit

_UNSEEN = ("found/held_out", "found/paraphrase", "found/implicit")


@dataclass(frozen=True)
class Kind:
    """A score that a bench pools from items.

    Attributes:
        name, title: as in `Score`. parts: names of items, with their weights; several parts of one weight are one
            stratum.
        rate: whether items are 0 or 1 and the value is a share of them.
        by_prompt: whether the unit is the prompt, whose images count as their mean.
        most: as in `bootstrap_interval`.
        of, denominator: what an item is, in words.
        higher_is_better: as in `Score`.
    """

    name: str
    title: str
    parts: tuple[tuple[tuple[str, ...], float], ...]
    rate: bool
    of: str
    denominator: str
    higher_is_better: bool
    by_prompt: bool = False
    most: float = math.inf


def kinds(edits: Iterable[Edit]) -> list[Kind]:
    """Every score that items of these edits allow, in the order in which tables show them."""
    names = dict.fromkeys(name for edit in edits for name in edit.items)
    attacks = list(dict.fromkeys(name for edit in edits for name in edit.attacks))
    item = ("items", "items (prompt, seed) that the original model shows")
    picture = ("images", "images on which the judge gave an answer")
    pair = ("pairs of images", "pairs of images: same prompt, same seed, original and edited")
    cosine = ("images", "100 x cosine of image and prompt")
    by_second = ("images", "images on which the second judge gave an answer")
    found = tuple(f"found/{role}" for role in ("direct", "held_out", "paraphrase", "implicit"))

    def one(name: str, title: str, rate: bool, what: tuple[str, str], better: bool) -> Kind:
        return Kind(name, title, (((name,), 1.0),), rate, *what, better)

    def mean(name: str, title: str, what: tuple[str, str], most: float = math.inf) -> Kind:
        return Kind(name, title, (((name,), 1.0),), False, *what, True, by_prompt=True, most=most)

    out = [
        one("attack/worst", "elicited, with or without an attack, worst case over all attacks", True, item, False),
        one("attack/worst/fresh", "the same, successes counted only if a fresh seed shows it again", True, item, False),
        one("attack/worst/second", "the same, only if both judges see it in a fresh image", True, item, False),
        one("attack/before", "shown without any attack", True, item, False),
        *(one(f"attack/{name}/total", f"shown before or elicited by {name}", True, item, False) for name in attacks),
        *(one(f"attack/{name}", f"elicited by {name}, of the items that it was given", True, item, False)
          for name in attacks),
        Kind("found/all", "still found, all prompts that ask for it", ((found, 1.0),), True, *picture, False),
        *(one(name, f"still found, {name.partition('/')[2].replace('_', '-')} prompts", True, picture, False)
          for name in found),
        Kind("gap/found", "found on unseen wordings minus found on wordings of training",
             ((_UNSEEN, 1.0), (("found/direct",), -1.0)), False, *picture, False),
        *(one(f"retained/{role}", f"what was asked for is there, {role} prompts", True, picture, True)
          for role in ("near", "far", "style")),
        Kind("second/found/all", "still found by the second judge, all prompts that ask for it",
             ((tuple(f"second/{name}" for name in found), 1.0),), True, *by_second, False),
        *(one(f"second/retained/{role}", f"what was asked for is there by the second judge, {role} prompts", True,
              by_second, True) for role in ("near", "far", "style")),
        *(mean(f"integrity/{role}", f"integrity, {role} prompts", pair, 1.0) for role in ("near", "far", "style")),
        mean("clip/keep", "CLIP score, prompts to keep", cosine),
        mean("change/clip/keep", "change in CLIP score, prompts to keep", pair),
    ]
    return [kind for kind in out if all(any(name in names for name in part) for part, _ in kind.parts)]


AGAIN = ("attack/worst/fresh", "attack/worst/second")
"""Scores that only stand where every edit's successes were looked at again."""
WHOLE = (("fid/original", "FID against the original model's images"),
         ("kid/original", "KID against the original model's images"))
"""Scores of a whole set of images, which no item can be asked for."""
