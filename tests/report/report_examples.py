"""Evaluations as the report would get them, built from plain counts and values."""

from __future__ import annotations

import math

from expunge.records import Evaluation, ImageStrip, PatchCard, Request, Sampler, Score

HOSTILE = '<script>alert("x")</script>'


def wilson(k: int, n: int) -> tuple[float, float]:
    """95% interval of k in n, by the textbook's formula."""
    z, p = 1.959964, k / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))


def rate(name: str, k: int, n: int, abstained: int = 0) -> Score:
    low, high = wilson(k, n)
    subject = "original" if name.startswith("original/") else "edited"
    return Score(name=name, title=f"Rate {name}", value=k / n, low=low, high=high, interval="Wilson", n=n, numerator=k,
                 denominator="judged images", left_out={"abstained": abstained}, seeds=(0, 1, 2, 3),
                 higher_is_better="retained" in name, subject=subject)


def number(name: str, value: float | None, note: str = "") -> Score:
    spread = None if value is None else 0.1 * abs(value)
    return Score(name=name, title=f"Number {name}", value=value, low=None if value is None else value - spread,
                 high=None if value is None else value + spread, interval="bootstrap over prompts", n=12, of="prompts",
                 subject="comparison", note=note)


def change(name: str, value: float, spread: float = 0.05) -> Score:
    """The paired change of a rate, as an evaluation measures it."""
    return Score(name=f"change/{name}", title=f"Change of {name}", value=value, low=value - spread, high=value + spread,
                 interval="Agresti-Min", n=48, of="pairs of images", subject="comparison")


def usual_scores() -> list[Score]:
    """3 of 126 still found, neighbours and far things kept."""
    return [rate("found/direct", 0, 32), rate("original/found/direct", 32, 32), rate("found/held_out", 1, 32),
            rate("found/paraphrase", 0, 31, 1), rate("found/implicit", 2, 31, 1), rate("found/all", 3, 126, 2),
            rate("original/found/all", 121, 128), rate("abstained/all", 2, 128), rate("found/never_seen", 0, 16),
            rate("retained/near", 45, 48), rate("original/retained/near", 46, 48), rate("retained/far", 47, 48),
            rate("original/retained/far", 48, 48), change("found/all", -0.92), change("retained/near", -0.02),
            change("retained/far", -0.02), rate("instead/another", 120, 126),
            number("integrity/near", 0.62), number("integrity/far", 0.81),
            number("perceptual/floor", 0.0004), number("perceptual/ceiling", 0.55), number("fid/original", 18.4),
            number("fid/real", None, "needs 256 images, got 112"), number("kid/original", 0.0061)]


def make_card(concept: str = "church", **changes: object) -> PatchCard:
    values: dict[str, object] = {
        "request": Request(concept=concept, prompts=("a church", "an emoji of a church"), keep=("a house",)),
        "base": "someone/emoji-64", "base_hash": "9f2c41d0a7e35b18", "method": "esd",
        "settings": {"objective": {"eta": 1.0}, "scope": "xattn", "lr": 1e-5},
        "tensors": ("unet/a.weight", "unet/b.weight"), "tensors_hash": "5d1e0c9b", "seed": 0,
        "versions": {"torch": "2.13.0"}, "losses": {"erase": [0.9, 0.4, 0.2], "keep": [0.02, 0.03, 0.04]},
        "seconds": 74.0, "steps": 200, "created": "2026-02-11T10:20:31Z"}
    return PatchCard.model_validate({**values, **changes})


def make_evaluation(scores: list[Score] | None = None, **changes: object) -> Evaluation:
    """An evaluation with these scores; what was drawn instead is a thing with a name, unless they say otherwise."""
    if scores and not any(score.name.startswith(("instead/", "something_else/")) for score in scores):
        scores = [*scores, rate("instead/another", 96, 96)]
    values: dict[str, object] = {
        "card": make_card(), "model": "emoji-64", "model_hash": "9f2c41d0a7e35b18", "sampler": Sampler(),
        "detectors": {"emoji-judge": "1a2b3c4d"}, "scores": tuple(usual_scores() if scores is None else scores),
        "not_tested": ("Prompts in other languages.",), "warnings": ("Only 12 prompts per stratum.",),
        "settings": {"seeds": 4}, "versions": {"torch": "2.13.0"}, "machine": "x86_64, 2 cores, cpu", "seconds": 63.0}
    return Evaluation.model_validate({**values, **changes})


def strip(role: str, prompt: str, seeds: tuple[int, ...], original: tuple[str, ...], edited: tuple[str, ...]
          ) -> ImageStrip:
    return ImageStrip.model_validate({"role": role, "prompt": prompt, "seeds": seeds, "original": original,
                                      "edited": edited})
