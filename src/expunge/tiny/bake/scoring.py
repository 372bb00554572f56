"""How good a baked judge is: calibrated and scored on seeds that training never used, and on changes of other kinds.

Everything is scored as the judge answers: in all its views, calibrated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from expunge.files import write_json, write_tensors
from expunge.metrics.judge import ELSE, JudgeNet, Looking
from expunge.metrics.statistics import wilson
from expunge.metrics.views import Step
from expunge.tiny.bake.changes import IGNORE
from expunge.tiny.bake.judge import LABELS, junk
from expunge.tiny.bake.sampling import Cells
from expunge.tiny.bake.tolerance import shapeless
from expunge.tiny.bake.unseen import UNSEEN, UnseenChange
from expunge.tiny.pictures import LOOSE, Drawings, render

ASKED = {"object": 0.5, "style": 0.5, "background": 0.5}
"""Least calibrated probability of an answer; below it the judge abstains."""
NOTHING = LABELS["object"].index(ELSE)
VIEWS: tuple[tuple[Step, ...], ...] = (
    (("stretch", 0.02),),
    (("crop", 0.16), ("stretch", 0.02)),
    (("crop", 0.08), ("balance", 0.02)),
    (("smooth", 1.0),),
)
"""What the judge looks at besides the image as it is."""
FALSE_ALARMS = 0.01
"""Share of images without a thing in which a thing may be seen because of the views."""


@dataclass(frozen=True)
class JudgeAnswers:
    """What a judge said about images, before calibration.

    Attributes:
        logits: (V, N, labels) by question, as `Looking.logits` gives them.
        labels: (N, 3) object, style, background; `IGNORE` where there is no right answer.
    """

    logits: Mapping[str, Tensor]
    labels: Tensor


@torch.no_grad()
def ask_drawings(net: JudgeNet, looking: Looking, drawings: Drawings, count: int, seed: int,
                 autoencoder: AutoencoderKL | None = None, change: UnseenChange | None = None) -> JudgeAnswers:
    """Fresh augmentations of the drawings (a seed that training never used).

    With an `autoencoder`, the same images after a passage through it: the most that a diffusion model can reach. With
    a `change`, the same images after it.
    """
    draw = torch.Generator().manual_seed(seed)
    cells, pictures, labels = Cells(drawings.objects, drawings.styles), [], []
    for start in range(0, count, 200):
        rows = cells.draw(min(200, count - start), draw)
        x, grounds = render(drawings, rows, seed + 1 + start)
        if autoencoder is not None:
            latents = autoencoder.encode(x * 2 - 1).latent_dist.mean
            x = (autoencoder.decode(latents).sample / 2 + 0.5).clamp(0, 1)
        pictures.append(x if change is None else change(x).clamp(0, 1))
        labels.append(torch.stack([drawings.objects[rows], drawings.styles[rows], grounds], 1))
    return _ask(net, looking, torch.cat(pictures), torch.cat(labels))


@torch.no_grad()
def ask_nothing(net: JudgeNet, looking: Looking, drawings: Drawings, others: Drawings, count: int, seed: int,
                changed: bool = False) -> JudgeAnswers:
    """About `count` images that show none of the things: things outside the world, junk and shapeless ones.

    `changed`: after the changes of `UNSEEN`, each in turn.
    """
    draw = torch.Generator().manual_seed(seed)
    cells, third = Cells(drawings.objects, drawings.styles), -(-count // 3)
    strange = torch.randint(len(others), (third,), generator=draw)
    outside, _ = render(others, strange, seed + 1, augmentation=LOOSE)
    blends, blend_labels = junk(drawings, cells, third, seed + 2, draw)
    smears, _ = shapeless(drawings, third, seed + 4, draw)
    pictures = torch.cat([outside, blends[blend_labels[:, 0] == NOTHING], smears])
    if changed:
        turn = list(UNSEEN.values())
        pictures = torch.stack([turn[i % len(turn)](x[None])[0].clamp(0, 1) for i, x in enumerate(pictures)])
    return _ask(net, looking, pictures, torch.tensor([NOTHING, IGNORE, IGNORE]).repeat(len(pictures), 1))


def _ask(net: JudgeNet, looking: Looking, pictures: Tensor, labels: Tensor) -> JudgeAnswers:
    parts = [looking.logits(net, chunk) for chunk in pictures.split(100)]
    return JudgeAnswers({q: torch.cat([part[q] for part in parts], 1) for q in LABELS}, labels)


def calibration(*asked: JudgeAnswers) -> dict[str, float]:
    """Temperature by question that minimises the cross-entropy of the images as they are (Guo et al. 2017), all of
    `asked` together, to 1% on a grid of its log.
    """
    labels = torch.cat([each.labels for each in asked])
    grid = torch.arange(-3, 3, 0.01).exp()
    out = {}
    for i, question in enumerate(LABELS):
        logits = torch.cat([each.logits[question][0] for each in asked])
        out[question] = float(min(grid, key=lambda T: F.cross_entropy(logits / T, labels[:, i]).item()))
    return out


def handicapped(looking: Looking, nothing: Sequence[JudgeAnswers]) -> Looking:
    """`looking` with the least handicap at which the views see a thing in at most `FALSE_ALARMS` more of the images
    without one than a look at the images as they are sees it.
    """
    def alarms(given: Looking, first: int) -> float:
        answers = [given.probabilities({q: v[:first] for q, v in asked.logits.items()}, NOTHING)["object"].argmax(1)
                   for asked in nothing]
        return float((torch.cat(answers) != NOTHING).float().mean())

    bound = alarms(looking, 1) + FALSE_ALARMS
    grid = [replace(looking, handicap=tenth / 2) for tenth in range(41)]
    return next((given for given in grid if alarms(given, len(given.views) + 1) <= bound), grid[-1])


def report_accuracy(asked: JudgeAnswers, looking: Looking, questions: Sequence[str] = tuple(LABELS)
                    ) -> dict[str, dict[str, Any]]:
    """Accuracy with its Wilson interval, abstentions, and expected calibration error (15 bins), by question."""
    out: dict[str, dict[str, Any]] = {}
    probabilities = looking.probabilities(asked.logits, NOTHING)
    for question in questions:
        confidence, answer = probabilities[question].max(1)
        right, n = answer == asked.labels[:, list(LABELS).index(question)], len(asked.labels)
        low, high = wilson(int(right.sum()), n)
        bins = (confidence * 15).long().clamp_max(14)
        gaps = [abs(float(confidence[bins == b].mean() - right[bins == b].float().mean())) * int((bins == b).sum())
                for b in range(15) if (bins == b).any()]
        out[question] = {"accuracy": round(float(right.float().mean()), 4), "interval": [low, high],
                         "n": n, "abstained": int((confidence < ASKED[question]).sum()),
                         "calibration_error": round(sum(gaps) / n, 4)}
    return out


def score_judge(net: JudgeNet, drawings: Drawings, taught: Drawings, others: Drawings, autoencoder: AutoencoderKL,
                n: int) -> tuple[Looking, dict[str, Any]]:
    """The judge's temperatures and handicap, and how it does on seeds and changes that are new to it.

    After a change only the object is asked: what the style or the background of such an image is, is open.

    Args:
        net: the trained judge.
        drawings: all drawings of the world's things.
        taught: those of the diffusion model, which alone go through the autoencoder.
        others: drawings of things outside the world.
        autoencoder: the model's.
        n: fresh augmentations; half as many through the autoencoder, a quarter without a thing, a tenth per change.
    """
    looking = Looking(dict.fromkeys(LABELS, 1.0), (), 0.0)
    temperature = calibration(ask_drawings(net, looking, drawings, n // 2, 50_000_003),
                              ask_drawings(net, looking, taught, n // 2, 50_000_003, autoencoder))
    looking = replace(looking, temperature=temperature, views=VIEWS)
    looking = handicapped(looking, [ask_nothing(net, looking, drawings, others, max(n // 4, 3), 52_000_003, changed)
                                    for changed in (False, True)])
    through = ask_drawings(net, looking, taught, n // 2, 60_000_003, autoencoder)
    scores: dict[str, Any] = {
        "fresh augmentations": report_accuracy(ask_drawings(net, looking, drawings, n, 60_000_003), looking),
        "through the autoencoder": report_accuracy(through, looking)}
    for title, changed in (("without a thing", False), ("without a thing, changed", True)):
        asked = ask_nothing(net, looking, drawings, others, max(n // 4, 3), 62_000_003, changed)
        scores[title] = report_accuracy(asked, looking, ("object",))
    for title, change in UNSEEN.items():
        asked = ask_drawings(net, looking, drawings, max(n // 10, 1), 64_000_003, change=change)
        scores[f"never trained on: {title}"] = report_accuracy(asked, looking, ("object",))
    return looking, scores


def score_first_stage(net: JudgeNet, known: Drawings, unknown: Drawings, n: int) -> dict[str, dict[str, Any]]:
    """Accuracy on the drawings `unknown` to a judge of the first stage alone, calibrated on `known`; without views."""
    looking = Looking(dict.fromkeys(LABELS, 1.0), (), 0.0)
    looking = replace(looking, temperature=calibration(ask_drawings(net, looking, known, n // 2, 50_000_003)))
    return report_accuracy(ask_drawings(net, looking, unknown, n, 60_000_003), looking)


def save_judge(net: JudgeNet, folder: Path, looking: Looking, scores: Mapping[str, Any]) -> None:
    """Write `judge.safetensors` (fp16) and `judge.json`."""
    tensors = {key: value.detach().half().contiguous() for key, value in net.state_dict().items()}
    write_tensors(folder / "judge.safetensors", tensors, {"format": "pt"})
    write_json(folder / "judge.json", {
        "labels": LABELS, "temperature": dict(looking.temperature), "threshold": ASKED,
        "views": [list(map(list, steps)) for steps in looking.views], "handicap": looking.handicap, "scores": scores})
