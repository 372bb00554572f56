"""All scores of one edit, from pictures and judgments: the pure middle of an evaluation, which never sees a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from expunge.errors import ExpungeError
from expunge.metrics.align import alignment_scores
from expunge.metrics.base import Aim, Distance, Features, Judge, Moments, TextImage
from expunge.metrics.erasure import (
    Judged,
    Subject,
    changes_in_found,
    control_scores,
    erasure_scores,
    retention_scores,
)
from expunge.metrics.fidelity import scores_against_original, scores_against_real
from expunge.metrics.integrity import (
    STRATA,
    Bounds,
    Drawn,
    bound_scores,
    distances,
    integrity_scores,
    seed_distances,
    similarity_score,
)
from expunge.metrics.perceptual import Ssim
from expunge.records import KEEP_ROLES, Judgment, Score


@dataclass(frozen=True)
class Instruments:
    """What an evaluation measures with.

    Attributes:
        judge: the detector, and aims: which of its answers mean that a concept is still there.
        features: extractor of FID and KID; distance: of integrity.
        clip: for CLIP scores, or None; real: statistics of real pictures, or None.
    """

    judge: Judge
    aims: tuple[Aim, ...]
    features: Features
    distance: Distance
    clip: TextImage | None = None
    real: Moments | None = None

    def __post_init__(self) -> None:
        if self.real is not None and self.real.features != self.features.name:
            raise ExpungeError(f"statistics of real pictures were made with {self.real.features}",
                               accepted=self.features.name, remedy="make them again with this extractor")

    def names(self) -> dict[str, str]:
        """Hash by "role: name" of everything that is used."""
        used = {"judge": self.judge.name, "features": self.features.name, "distance": self.distance.name,
                "clip": self.clip.name if self.clip else ""}
        return {f"{what}: {name.partition('@')[0]}": name.partition("@")[2] for what, name in used.items() if name}


def measured(original: Drawn, edited: Drawn, again: Drawn, before: Sequence[Judgment], after: Sequence[Judgment],
             tools: Instruments, *, draws: int = 2000, fid_draws: int = 100, seed: int = 0,
             tell: Callable[[int, int, str], None] | None = None) -> list[Score]:
    """Every score that the pictures allow.

    Args:
        original, edited: pictures of the two models, the same prompts and seeds.
        again: some of the original's, drawn a second time in other batches.
        before, after: judgments of the original's and the edited model's pictures, in their order.
        draws, fid_draws: bootstrap draws; seed: of the resampling.
        tell: told (done, in all, what is being done).

    Raises:
        ExpungeError: pictures without a partner, or values that are not finite.
    """
    tell = tell or (lambda done, total, words: None)
    tell(0, 4, "counting what was found")
    scores = _rates(original, edited, before, after, tools.aims, draws, seed)
    tell(1, 4, "measuring integrity")
    scores += _integrity(original, edited, again, tools.distance, draws, seed)
    tell(2, 4, "measuring FID and KID")
    scores += _fidelity(original, edited, tools, fid_draws, seed)
    tell(3, 4, "measuring CLIP scores")
    if tools.clip is not None:
        scores += alignment_scores(edited, original, tools.clip, draws=draws, seed=seed)
    else:
        scores += [_not_measured(f"clip/{side}", f"CLIP score, {side} prompts", "this world has no CLIP")
                   for side in ("forget", "keep")]
    tell(4, 4, "measured")
    return scores


def _rates(original: Drawn, edited: Drawn, before: Sequence[Judgment], after: Sequence[Judgment],
           aims: Sequence[Aim], draws: int, seed: int) -> list[Score]:
    questions = tuple(dict.fromkeys(question for aim in aims for question in aim.wanted))
    first = list(zip(original.shots, before, strict=True))
    second = list(zip(edited.shots, after, strict=True))
    sides: tuple[tuple[Subject, Judged], ...] = (("edited", second), ("original", first))
    scores: list[Score] = []
    for subject, side in sides:
        scores += erasure_scores(side, aims, subject)
        scores += retention_scores(side, questions, subject)
        scores += control_scores(side, aims, subject)
    return [*scores, *changes_in_found(second, first, aims, draws, seed)]


def _integrity(original: Drawn, edited: Drawn, again: Drawn, distance: Distance, draws: int, seed: int) -> list[Score]:
    first = original.rows()
    same = [first[shot.prompt.text, shot.seed] for shot in again.shots]
    noise = distances(again, Drawn([original.shots[i] for i in same], original.pictures[same]), distance)
    bounds = Bounds(sum(noise.values()) / len(noise) if noise else 0.0, len(noise), seed_distances(original, distance))
    scores = bound_scores(bounds, distance, draws=draws, seed=seed)
    for stratum in STRATA:
        after, before = edited.stratum(stratum), original.stratum(stratum)
        if not after.shots:
            continue
        scores += integrity_scores(after, before, distance, bounds, stratum, draws=draws, seed=seed)
        if min(after.pictures.shape[-2:]) >= Ssim.window:
            scores.append(similarity_score(after, before, Ssim(), stratum, draws=draws, seed=seed))
        else:
            scores.append(_not_measured(f"ssim/{stratum}", f"SSIM at the same seeds, {stratum} prompts",
                                        f"pictures are smaller than SSIM's window ({Ssim.window} pixels)",
                                        "comparison"))
    return scores


def _fidelity(original: Drawn, edited: Drawn, tools: Instruments, draws: int, seed: int) -> list[Score]:
    rows = [i for i, shot in enumerate(edited.shots) if shot.prompt.role in KEEP_ROLES]
    shots, name = [edited.shots[i] for i in rows], tools.features.name
    if not rows:
        return [_not_measured(f"{kind}/original", f"{kind.upper()} against the original model's pictures",
                              "no prompts to keep", "comparison") for kind in ("fid", "kid")]
    partner = original.rows()
    other = [partner[shot.prompt.text, shot.seed] for shot in shots]
    x, y = tools.features(edited.pictures[rows]), tools.features(original.pictures[other])
    scores = scores_against_original(shots, x, y, name, draws=draws, seed=seed)
    if tools.real is None:
        return scores + [_not_measured(f"{kind}/real", f"{kind.upper()} against real pictures",
                                       "this world has no statistics of real pictures") for kind in ("fid", "kid")]
    scores += scores_against_real(shots, x, tools.real, name, draws=draws, seed=seed)
    return scores + scores_against_real(shots, y, tools.real, name, draws=draws, seed=seed, subject="original")


def _not_measured(name: str, title: str, why: str, subject: Literal["edited", "comparison"] = "edited") -> Score:
    return Score(name=name, title=title, value=None, subject=subject, note=f"not measured: {why}")
