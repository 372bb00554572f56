"""The scores of a protocol that are measured on pixels: FID, KID, CLIP score, distances of pairs. Pixels are forgotten.

    fid, kid            against statistics of real images that are supplied (`expunge reference` makes them)
    fid-original        of the edited model's images against the original's, same prompts and seeds
    clip-score          100 x cosine of image and prompt by the CLIP that is supplied
    distance            mean distance of the edited model's image from the original's, same prompt and seed

FID against real images and FID against the original's are two numbers and never one. Two rows of the same text and seed
are the same image: it counts once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.errors import ConfigError
from expunge.metrics.stream.rows import FeatureRows
from expunge.metrics.stream.values import ItemValues, Meaning, clip_score, pair_distance
from expunge.protocols.formulas import IMAGE_FORMULAS
from expunge.protocols.kept import Part
from expunge.protocols.rows import Row
from expunge.protocols.schema import Measure
from expunge.records import ItemKey, Score
from expunge.records.protocol import Subject

if TYPE_CHECKING:
    from torch import Tensor

    from expunge.metrics.base import Distance, Features, Moments, TextImage

_AGAINST_REAL = ("fid", "kid")
_SEEDS = 2**64


def asked_as(row: Row, seed: int, number: int = 0) -> tuple[ItemKey, str]:
    """The item that an image of a row and seed is measured as, and its text.

    Args:
        number: which of several supplied images of one text and seed. They are images of one prompt, each by itself, so
            those behind the first have a number beyond all seeds in their item.
    """
    return ItemKey(row.digest, seed + number * _SEEDS), row.text


@dataclass(frozen=True)
class _Opened:
    """A score with what measures it."""

    measure: Measure
    features: Features | None = None
    real: Moments | None = None
    clip: TextImage | None = None
    distance: Distance | None = None


class ImageMeasures:
    """All of a protocol's scores over images. Scores that look with the same features share them."""

    def __init__(self, measures: Sequence[Measure], files: Mapping[str, Path], subjects: Sequence[Subject],
                 modified: bool = False, for_edits: bool = False) -> None:
        """Open what they measure with.

        Args:
            modified: take files of other hashes than are known, and name them so.
            for_edits: the original is measured alone, for edits that come later.

        Raises:
            UserError, ModelError: a file that is missing or of something else, statistics of other features.
            ConfigError: a score over pairs where there is no edit.
        """
        self._subjects = tuple(subjects)
        pairs = [score.name for score in measures if score.formula in ("fid-original", "distance")]
        if pairs and "edited" not in subjects and not for_edits:
            raise ConfigError(f"{', '.join(pairs)} compares an edited model with the original, and there is no edit",
                              accepted="a patch")
        self._opened = [_open(measure, files, modified) for measure in measures if measure.formula in IMAGE_FORMULAS]

    @property
    def has_pairs(self) -> bool:
        """Whether a score compares the two models' images pixel by pixel."""
        return "edited" in self._subjects and any(one.distance is not None for one in self._opened)

    def parts(self, subjects: Sequence[Subject] | None = None) -> dict[str, Part]:
        """Parts with nothing in them, by name; `subjects`: of their images alone, pairs with the edited ones."""
        out: dict[str, Part] = {}
        for one in self._opened:
            for subject in self._subjects if subjects is None else subjects:
                if one.features is not None:
                    out.setdefault(_of(one.features, subject), FeatureRows(one.features.name, one.features.width))
                if one.clip is not None:
                    out[f"{one.measure.name}/{subject}"] = ItemValues(self._meaning(one, subject))
            if one.distance is not None and "edited" in (self._subjects if subjects is None else subjects):
                out[f"{one.measure.name}/pairs"] = ItemValues(self._meaning(one, "edited"))
        return out

    def add(self, parts: Mapping[str, Part], asked: Sequence[tuple[ItemKey, str]],
            images: Mapping[Subject, Tensor]) -> None:
        """Take in the images (B, 3, H, W) of these items and their texts (`asked_as`), none of them twice.

        Images of which `parts` has no part are looked at in pairs alone.
        """
        if not asked:
            return
        items, texts = [item for item, _ in asked], [text for _, text in asked]
        done: set[str] = set()
        for one in self._opened:
            for subject, pixels in images.items():
                if one.features is not None and (name := _of(one.features, subject)) in parts and name not in done:
                    done.add(name)
                    rows = parts[name]
                    assert isinstance(rows, FeatureRows)  # `parts` made it
                    rows.add(items, one.features(pixels))
                if one.clip is not None and (name := f"{one.measure.name}/{subject}") in parts:
                    values = parts[name]
                    assert isinstance(values, ItemValues)
                    values.add(items, 100 * one.clip(pixels, texts))
            if one.distance is not None and {"edited", "original"} <= images.keys():
                values = parts[f"{one.measure.name}/pairs"]
                assert isinstance(values, ItemValues)
                values.add(items, one.distance(images["edited"], images["original"]))

    def scores(self, parts: Mapping[str, Part]) -> list[Score]:
        """Every score, of each subject."""
        out = []
        for one in self._opened:
            for subject in self._subjects:
                found = self._score(one, subject, parts)
                if found is not None:
                    prefix = "original/" if subject == "original" and found.subject == "original" else ""
                    title = one.measure.title or found.title
                    seeds = tuple(sorted({seed % _SEEDS for seed in found.seeds}))
                    out.append(found.model_copy(update={"name": f"{prefix}{one.measure.name}", "title": title,
                                                        "seeds": seeds, "per_item": {}}))
        return out

    def _score(self, one: _Opened, subject: Subject, parts: Mapping[str, Part]) -> Score | None:
        if one.features is not None:
            rows = parts[_of(one.features, subject)]
            assert isinstance(rows, FeatureRows)
            if one.real is not None:
                made = rows.against_real(one.real, subject="original" if subject == "original" else "edited")
                return next(score for score in made if one.measure.formula in score.name.split("/"))
            if subject != "edited":
                return None
            before = parts[_of(one.features, "original")]
            assert isinstance(before, FeatureRows)
            return next(score for score in rows.against(before) if score.name == "fid/original")
        name = f"{one.measure.name}/{subject if one.clip is not None else 'pairs'}"
        if name not in parts or (one.distance is not None and subject != "edited"):
            return None
        values = parts[name]
        assert isinstance(values, ItemValues)
        return values.score()

    @staticmethod
    def _meaning(one: _Opened, subject: Subject) -> Meaning:
        if one.clip is not None:
            return clip_score(one.clip.name, one.measure.name, "original" if subject == "original" else "edited")
        assert one.distance is not None  # a score over images measures with one of the three
        return pair_distance(one.distance.name, one.measure.name)

    def names(self) -> dict[str, str]:
        """What is measured with, by score."""
        used = {one.measure.name: one.features or one.clip or one.distance for one in self._opened}
        return {name: part.name for name, part in used.items() if part is not None}


def _open(measure: Measure, files: Mapping[str, Path], modified: bool) -> _Opened:
    own = {need: files[artefact.role] for need, artefact in measure.artefacts.items()}
    options = dict(measure.options)
    if measure.formula == "clip-score":
        from expunge.metrics.clip import LocalClip

        if "clip" not in own:
            raise ConfigError(f"the score {measure.name!r} names no file `clip`", accepted="artefacts: {clip: ...}")
        return _Opened(measure, clip=LocalClip(own["clip"]))
    if measure.formula == "distance":
        from expunge.metrics.named import distance_named

        return _Opened(measure, distance=distance_named(str(options.get("distance", "")), own, modified=modified))
    from expunge.metrics.named import features_named
    from expunge.metrics.reference import read_statistics

    reference = own.pop("reference", None)
    if measure.formula in _AGAINST_REAL and reference is None:
        raise ConfigError(f"the score {measure.name!r} names no file `reference`",
                          accepted="artefacts: {reference: ...}")
    features = features_named(str(options.get("features", "inception")), own, resizer=str(options.get("resizer", "")),
                              modified=modified)
    return _Opened(measure, features, None if reference is None else read_statistics(reference, features.name).moments)


def _of(features: Features, subject: Subject) -> str:
    return f"{features.name}/{subject}"
