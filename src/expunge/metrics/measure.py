"""All scores of one edit, from images and judgments: the pure middle of an evaluation, which never sees a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch

from expunge.errors import ExpungeError
from expunge.metrics.align import alignment_scores
from expunge.metrics.base import Aim, Distance, Features, Judge, Moments, TextImage, featured
from expunge.metrics.erasure import Lost
from expunge.metrics.fidelity import coverage_scores, scores_against_original, scores_against_real
from expunge.metrics.instead import Side, instead_scores
from expunge.metrics.integrity import (
    ROLES,
    Bounds,
    ImageSet,
    bound_scores,
    distances,
    integrity_scores,
    seed_distances,
    sharpness_score,
    similarity_score,
)
from expunge.metrics.margins import AnswersByLead, margin_scores
from expunge.metrics.perceptual import Ssim
from expunge.metrics.rates import agreement, rates
from expunge.metrics.spoilt import NONE_SPOILT, Spoilt, rows_in_both, spoilt_scores, with_spoilt
from expunge.metrics.stlpips import LEAST
from expunge.pixels import chosen
from expunge.records import KEEP_ROLES, Detection, Score

Part = tuple[str, Callable[[], list[Score]]]
"""Scores that no other part needs: what is being done, and what does it."""
Share = Callable[[Sequence[Part]], list[list[Score]]]
"""Does all parts, and gives their scores in their order."""
Opinion = tuple[Sequence[Detection], Sequence[Detection]]
"""What one judge said of the original's and of the edited model's images, in their order."""


@dataclass(frozen=True)
class Instruments:
    """What an evaluation measures with.

    Attributes:
        judge: the detector, and aims: which of its answers mean that a concept is still there.
        features: extractor of FID and KID; distance: of integrity.
        clip: for CLIP scores, or None; real: statistics of real images, or None.
        second: a judge that shares nothing with the first; outside: features that nobody trained on the model's world;
            tolerant: a second distance; None where they are not installed or the world has none.
        surrogates: what is to take the place of each concept.
        missing: in plain sentences, which of these are not there and why.
    """

    judge: Judge
    aims: tuple[Aim, ...]
    features: Features
    distance: Distance
    clip: TextImage | None = None
    real: Moments | None = None
    second: Judge | None = None
    outside: Features | None = None
    tolerant: Distance | None = None
    surrogates: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.real is not None and self.real.features != self.features.name:
            raise ExpungeError(f"statistics of real images were made with {self.real.features}",
                               accepted=self.features.name, remedy="make them again with this extractor")

    def names(self) -> dict[str, str]:
        """Hash by "role: name" of everything that is used."""
        parts = {"judge": self.judge, "second judge": self.second, "features": self.features, "distance": self.distance,
                 "clip": self.clip, "outside features": self.outside, "second distance": self.tolerant}
        used = {what: part.name for what, part in parts.items() if part is not None}
        return {f"{what}: {name.partition('@')[0]}": name.partition("@")[2] for what, name in used.items()}

    def try_out(self) -> None:
        """Use everything once, so that nothing is missing after hours of drawing."""
        grey = torch.full((2, 3, 64, 64), 0.5)
        for distance in (self.distance, self.tolerant):
            if distance is not None:
                distance(grey, grey)
        for features in (self.features, self.outside):
            if features is not None:
                features(grey)
        if self.clip is not None:
            self.clip(grey, ["a", "b"])


def measured(original: ImageSet, edited: ImageSet, again: ImageSet, said: Sequence[Opinion], tools: Instruments, *,
             draws: int = 2000, fid_draws: int = 100, seed: int = 0,
             share: Share | None = None, lost: Lost = (), spoilt: Spoilt = NONE_SPOILT) -> list[Score]:
    """Every score that the images allow.

    Args:
        original, edited: images of the two models, the same prompts and seeds but for `spoilt`; all are finite.
        again: some of the original's, drawn a second time in other batches.
        said: what each judge said, the first one's first.
        draws, fid_draws: bootstrap draws; seed: of the resampling.
        share: does the parts; None does one after the other.
        lost: images that neither model could draw, with the reason. spoilt: images that are not finite.

    Raises:
        ExpungeError: images without a partner, or values that are not finite.
    """
    whole = original, edited, said
    pairs = rows_in_both(original, edited)
    said = [([before[i] for i in pairs[0]], [after[i] for i in pairs[1]]) for before, after in said]
    original, edited = original.only(pairs[0]), edited.only(pairs[1])
    there = original.rows()
    again = again.only([i for i, shot in enumerate(again.shots) if shot.item_key in there])
    parts: list[Part] = [
        ("counting what was found", lambda: [*spoilt_scores(*whole[:2], spoilt),
                                             *_rates(*whole, tools, lost, spoilt)]),
        *_comparisons(original, edited, again, said, tools, draws, fid_draws, seed)]
    scores, *more = (share or in_turn)(parts)
    compared = [score for part in more for score in part]
    known, asked = {score.name for score in compared}, {prompt.role for prompt in spoilt.prompts()}
    silent = [role for role in KEEP_ROLES if role in asked and f"integrity/{role}" not in known]
    compared += [_not_measured(f"integrity/{role}", f"integrity, {role} prompts", "no pair of finite images",
                               "comparison") for role in silent]
    return scores + with_spoilt(compared, spoilt, tools.aims)


def in_turn(parts: Sequence[Part]) -> list[list[Score]]:
    """One part after the other."""
    return [part() for _, part in parts]


def _comparisons(original: ImageSet, edited: ImageSet, again: ImageSet, said: Sequence[Opinion], tools: Instruments,
                 draws: int, fid_draws: int, seed: int) -> Iterator[Part]:
    """The scores that compare images of the two models, the same items on both sides."""
    def instead() -> list[Score]:
        first, second = (Side(drawn, [opinion[i] for opinion in said]) for i, drawn in enumerate((original, edited)))
        return instead_scores(first, second, tools.aims, tools.surrogates, tools.outside or tools.features)

    def alignment() -> list[Score]:
        if tools.clip is not None:
            return alignment_scores(edited, original, tools.clip, draws=draws, seed=seed)
        return [_not_measured(f"clip/{side}", f"CLIP score, {side} prompts", "this world has no CLIP")
                for side in ("forget", "keep")]

    yield "looking at what is drawn instead", instead
    yield "measuring integrity", partial(_integrity, original, edited, again, tools.distance, draws, seed)
    if tools.tolerant is not None:
        yield "measuring integrity by a tolerant distance", partial(_tolerant, original, edited, again, tools.tolerant,
                                                                    draws, seed)
    for features, real, ending in ((tools.features, tools.real, ""), (tools.outside, None, "/outside")):
        if features is not None:
            yield "measuring FID and KID", partial(_fidelity, original, edited, features, real, ending, fid_draws, seed)
    yield "measuring CLIP scores", alignment


def _rates(original: ImageSet, edited: ImageSet, said: Sequence[Opinion], tools: Instruments, lost: Lost, spoilt: Spoilt
           ) -> list[Score]:
    judged = [(list(zip(original.shots, before, strict=True)), list(zip(edited.shots, after, strict=True)))
              for before, after in said]
    scores, apart = rates(*judged[0], tools.aims, lost=lost, spoilt=spoilt)
    if isinstance(tools.judge, AnswersByLead):
        margins = margin_scores(judged[0][1], tools.aims, tools.judge.margin, apart)
        scores += with_spoilt(margins, spoilt, tools.aims)
    known = tuple(tools.second.questions) if tools.second is not None else ()
    for other in judged[1:]:
        more, _ = rates(*other, tools.aims, "second/", apart, known, lost, spoilt)
        scores += more
        both = agreement([*judged[0][0], *judged[0][1]], [*other[0], *other[1]], tools.aims)
        scores += with_spoilt(both, spoilt, tools.aims)
    return scores


def _integrity(original: ImageSet, edited: ImageSet, again: ImageSet, distance: Distance, draws: int, seed: int
               ) -> list[Score]:
    bounds = _bounds(again, original, distance)
    scores = bound_scores(bounds, distance, draws=draws, seed=seed)
    for role, after, before in _by_role(original, edited):
        scores += integrity_scores(after, before, distance, bounds, role, draws=draws, seed=seed)
        scores.append(sharpness_score(after, before, role, draws=draws, seed=seed))
        parts = _strata_of(after, role)
        scores += [integrity_scores(edited.stratum(part), original.stratum(part), distance, bounds, part, draws=draws,
                                    seed=seed, strata=len(parts))[2] for part in parts]
        if min(after.pictures.shape[-2:]) >= Ssim.window:
            scores.append(similarity_score(after, before, Ssim(), role, draws=draws, seed=seed))
        else:
            scores.append(_not_measured(f"ssim/{role}", f"SSIM at the same seeds, {role} prompts",
                                        f"images are smaller than SSIM's window ({Ssim.window} pixels)",
                                        "comparison"))
    return scores


def _tolerant(original: ImageSet, edited: ImageSet, again: ImageSet, distance: Distance, draws: int, seed: int
              ) -> list[Score]:
    """Integrity by a second distance, role by role."""
    if min(original.pictures.shape[-2:]) < LEAST:
        return [_not_measured(f"integrity/{role}/tolerant", f"integrity by a tolerant distance, {role} prompts",
                              f"images are smaller than {LEAST} pixels", "comparison")
                for role, _, _ in _by_role(original, edited)]
    bounds = _bounds(again, original, distance)
    told = [integrity_scores(after, before, distance, bounds, role, draws=draws, seed=seed)[2]
            for role, after, before in _by_role(original, edited)]
    return [score.model_copy(update={"name": f"{score.name}/tolerant"}) for score in told]


def _by_role(original: ImageSet, edited: ImageSet) -> Iterator[tuple[str, ImageSet, ImageSet]]:
    """The edited model's images and the original's, of each role that has some."""
    for role in ROLES:
        if (after := edited.stratum(role)).shots:
            yield role, after, original.stratum(role)


def _bounds(again: ImageSet, original: ImageSet, distance: Distance) -> Bounds:
    first = original.rows()
    noise = distances(again, original.only([first[shot.item_key] for shot in again.shots]), distance)
    return Bounds(sum(noise.values()) / len(noise) if noise else 0.0, len(noise), seed_distances(original, distance))


def _strata_of(drawn: ImageSet, role: str) -> list[str]:
    """"near@short" for each stratum of the role's images, if there are several; none for the forget side."""
    names = list(dict.fromkeys(shot.prompt.stratum for shot in drawn.shots if shot.prompt.stratum))
    return [f"{role}@{name}" for name in names] if len(names) > 1 and role in ("near", "far") else []


def _fidelity(original: ImageSet, edited: ImageSet, features: Features, real: Moments | None, ending: str, draws: int,
              seed: int) -> list[Score]:
    rows = [i for i, shot in enumerate(edited.shots) if shot.prompt.role in KEEP_ROLES]
    shots, name = [edited.shots[i] for i in rows], features.name
    if not rows:
        return [_not_measured(f"{kind}/original{ending}", f"{kind.upper()} against the original model's images",
                              "no pair of images of prompts to keep", "comparison") for kind in ("fid", "kid")]
    partner = original.rows()
    other = [partner[shot.item_key] for shot in shots]
    x, y = (featured(features, chosen(drawn.pictures, places)) for drawn, places in ((edited, rows), (original, other)))
    scores = scores_against_original(shots, x, y, name, draws=draws, seed=seed) + coverage_scores(shots, x, y, name)
    if ending:
        return [score.model_copy(update={"name": f"{score.name}{ending}"}) for score in scores]
    if real is None:
        return scores + [_not_measured(f"{kind}/real", f"{kind.upper()} against real images",
                                       "this world has no statistics of real images") for kind in ("fid", "kid")]
    scores += scores_against_real(shots, x, real, name, draws=draws, seed=seed)
    return scores + scores_against_real(shots, y, real, name, draws=draws, seed=seed, subject="original")


def _not_measured(name: str, title: str, why: str, subject: Literal["edited", "comparison"] = "edited") -> Score:
    return Score(name=name, title=title, value=None, subject=subject, note=f"not measured: {why}")
