"""The heads of the second judge: linear, on frozen ImageNet features of drawings, calibrated, scored.

The same pool of features trains two sets of heads: those that ship, and those that learn from some vendors only and
are asked about the others. Features are made once; heads take seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor

from expunge.files import write_json, write_tensors
from expunge.metrics.imagenet import ImageNetFeatures
from expunge.metrics.imagenet_judge import chances, evened
from expunge.metrics.judge import ELSE
from expunge.metrics.statistics import wilson
from expunge.tiny.bake.sampling import Cells
from expunge.tiny.bake.second_pictures import (
    IGNORE,
    JUNK,
    LabelledImages,
    changed,
    held_out,
    junk,
    outsiders,
    redrawn,
    things,
    unseen_changes,
)
from expunge.tiny.pictures import Drawings
from expunge.tiny.world import STYLES, THINGS
from expunge.train import Progress, step_generator

ROWS: dict[str, tuple[str, ...]] = {"object": (*THINGS, ELSE, ELSE, ELSE), "style": (*STYLES, ELSE)}
"""Labels of the heads' rows: things outside the world, blends and nothing at all are three rows of one label."""
THRESHOLD = {"object": 0.5, "style": 0.5}
"""Least calibrated probability of an answer, as for the embedded judge."""
_BATCH = 96
_STEPS, _RATE, _DECAY, _ROWS, _DROP = 600, 3e-3, 0.1, 512, 0.5
_ELSE_WEIGHT = 0.3
"""Of an image of something else, beside one of a thing: who asks a model for things mostly gets things."""


@dataclass(frozen=True)
class Seen:
    """Images as features, with their labels by question.

    Attributes:
        features: float32 (N, 1280).
        labels: (N,) int64 by question: an index into `ROWS`, or `IGNORE`.
        apart: (N,) bool: a drawing by a held-out vendor is in it.
    """

    features: Tensor
    labels: Mapping[str, Tensor]
    apart: Tensor

    @classmethod
    def of(cls, look: ImageNetFeatures, shown: LabelledImages) -> Seen:
        """Features of images."""
        return cls(look(shown.pictures), {"object": shown.objects, "style": shown.styles}, shown.apart)

    @classmethod
    def join(cls, parts: list[Seen]) -> Seen:
        """All of them, one after another."""
        return cls(torch.cat([part.features for part in parts]),
                   {q: torch.cat([part.labels[q] for part in parts]) for q in ROWS},
                   torch.cat([part.apart for part in parts]))

    def where(self, keep: Tensor) -> Seen:
        """The rows for which `keep` (N,) bool is true."""
        return Seen(self.features[keep], {q: x[keep] for q, x in self.labels.items()}, self.apart[keep])

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Studio:
    """All that images for the second judge are made of.

    Attributes:
        drawings, others: of the world, and of things outside it.
        autoencoder: of the embedded model. look: the network.
        seed: of everything.
    """

    drawings: Drawings
    others: Drawings
    autoencoder: AutoencoderKL
    look: ImageNetFeatures
    seed: int = 0

    def batches(self, count: int, stream: str, begin: int = 0) -> Iterator[Seen]:
        """About `count` images, of which `begin` are there already: 2/3 things of the world, 1/6 others, 1/6 junk.

        Every second batch went through the autoencoder, its latents disturbed. Half of all images are in another tone
        or frame.
        """
        cells, spare = Cells(self.drawings.objects, self.drawings.styles), self._others(kept=False)
        for number in range(begin // _BATCH, -(-count // _BATCH)):
            draw = step_generator(self.seed, number, f"second/{stream}")
            key = int(torch.randint(2**40, (), generator=draw))
            some = _BATCH // 6
            kinds = torch.randint(len(JUNK), (some,), generator=draw)
            strange = spare[torch.randint(len(spare), (some,), generator=draw)]
            shown = LabelledImages.join(things(self.drawings, cells.draw(_BATCH - 2 * some, draw), key),
                                        outsiders(self.others, strange, key + 1),
                                        junk(self.drawings, cells, kinds, key + 2, draw, self.autoencoder))
            if number % 2:
                shown = shown.shown(redrawn(self.autoencoder, shown.pictures, draw))
            yield Seen.of(self.look, shown.shown(changed(shown.pictures, draw)))

    def pool(self, count: int, file: Path, progress: Progress) -> Seen:
        """`batches` for training, kept in `file` as they come: a run that was stopped goes on from there."""
        kept = _read(file) if file.is_file() else None
        for part in self.batches(count, "pool", len(kept) if kept else 0):
            kept = Seen.join([kept, part]) if kept else part
            progress(len(kept), count, {})
            if len(kept) % (10 * _BATCH) == 0 or len(kept) >= count:
                write_tensors(file, {"features": kept.features.half(), "apart": kept.apart, **kept.labels}, {})
        return _read(file)

    def things(self, drawings: Drawings, count: int, stream: str,
               change: Callable[[Tensor, torch.Generator], Tensor] = lambda pictures, _: pictures) -> Seen | None:
        """`count` fresh images of things of the world, changed by `change`; None without drawings."""
        if not len(drawings):
            return None
        draw = step_generator(self.seed, 0, f"second/{stream}")
        rows = Cells(drawings.objects, drawings.styles).draw(count, draw)
        parts = []
        for part in rows.split(_BATCH):
            shown = things(drawings, part, int(torch.randint(2**40, (), generator=draw)))
            parts.append(Seen.of(self.look, shown.shown(change(shown.pictures, draw))))
        return Seen.join(parts)

    def junk(self, count: int) -> dict[str, Seen]:
        """`count` fresh images of every kind of junk, and drawings of other things that no head learned from."""
        cells, kept = Cells(self.drawings.objects, self.drawings.styles), self._others(kept=True)
        out = {}
        for index, kind in enumerate(JUNK):
            draw = step_generator(self.seed, index, "second/junk")
            shown = junk(self.drawings, cells, torch.full((count,), index), index, draw, self.autoencoder)
            out[kind] = Seen.of(self.look, shown)
        draw = step_generator(self.seed, 0, "second/outside")
        rows = kept[torch.randint(len(kept), (5 * count,), generator=draw)]
        return {**out, "things outside the world": Seen.of(self.look, outsiders(self.others, rows, 7))}

    def _others(self, kept: bool) -> Tensor:
        """Rows of `others`: an eighth is kept for scoring."""
        rows = torch.arange(len(self.others))
        return rows[(rows % 8 == 3) == kept] if len(rows) > 8 else rows


Head = tuple[Tensor, Tensor]
"""Weight (rows, 1280) and bias (rows,)."""
Calibrated = tuple[Mapping[str, Head], Mapping[str, float]]
"""Heads and temperatures, by question."""


def train_heads(seen: Seen, seed: int) -> dict[str, Head]:
    """One linear head per question, by AdamW on cross-entropy.

    Features are standardised, which the head takes in, and half of them are dropped in each step.
    """
    x = evened(seen.features)
    mean, deviation = x.mean(0), x.std(0) + 0.1
    x = (x - mean) / deviation
    heads = {}
    for question, names in ROWS.items():
        weight = torch.zeros(len(names), x.shape[1], requires_grad=True)
        bias = torch.zeros(len(names), requires_grad=True)
        optimizer = torch.optim.AdamW([weight, bias], weight_decay=_DECAY)
        balance = torch.tensor([_ELSE_WEIGHT if question == "object" and name == ELSE else 1.0 for name in names])
        for number in range(_STEPS):
            draw = step_generator(seed, number, f"heads/{question}")
            rows = torch.randint(len(x), (_ROWS,), generator=draw)
            kept = (torch.rand(_ROWS, x.shape[1], generator=draw) >= _DROP) / (1 - _DROP)
            optimizer.param_groups[0]["lr"] = _RATE * (1 - number / _STEPS)
            loss = F.cross_entropy(F.linear(x[rows] * kept, weight, bias), seen.labels[question][rows], balance,
                                   ignore_index=IGNORE)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            folded = weight / deviation
            heads[question] = (folded.half().float(), (bias - folded @ mean).half().float())
    return heads


def calibrate(heads: Mapping[str, Head], seen: Seen) -> dict[str, float]:
    """Temperature by question that minimises the cross-entropy of the labels (Guo et al. 2017), on a grid of logs."""
    found = {}
    for question in ROWS:
        logits, labels = _logits(heads, seen, question)
        loss = lambda T, z=logits, y=labels, q=question: F.nll_loss(  # type: ignore[misc]
            chances(z, ROWS[q], T).clamp_min(1e-12).log(), y).item()
        found[question] = float(min(torch.arange(-3, 3, 0.02).exp().tolist(), key=loss))
    return found


def accuracy(heads: Mapping[str, Head], temperature: Mapping[str, float], seen: Seen) -> dict[str, dict[str, Any]]:
    """How often the answer is the right one, by question: an abstention counts as wrong, and is counted."""
    out: dict[str, dict[str, Any]] = {}
    for question in ROWS:
        logits, labels = _logits(heads, seen, question)
        if not len(labels):
            continue
        confidence, answer = chances(logits, ROWS[question], temperature[question]).max(1)
        sure = confidence >= THRESHOLD[question]
        right, n = int(((answer == labels) & sure).sum()), len(labels)
        bins = (confidence * 15).long().clamp_max(14)
        gaps = [abs(float(confidence[bins == b].mean() - (answer == labels)[bins == b].float().mean()))
                * int((bins == b).sum()) for b in range(15) if (bins == b).any()]
        out[question] = {"accuracy": round(right / n, 4), "interval": list(wilson(right, n)), "n": n,
                         "abstained": int((~sure).sum()), "calibration_error": round(sum(gaps) / n, 4)}
    return out


def called_nothing(heads: Mapping[str, Head], temperature: Mapping[str, float], seen: Seen) -> dict[str, Any]:
    """How often junk is not called by the name of a thing, and what it is called otherwise."""
    logits, _ = _logits(heads, seen, "object")
    names = list(dict.fromkeys(ROWS["object"]))
    confidence, answer = chances(logits, ROWS["object"], temperature["object"]).max(1)
    sure = confidence >= THRESHOLD["object"]
    wrong = sure & (answer != names.index(ELSE))
    n = len(answer)
    called: dict[str, int] = {}
    for index in answer[wrong].tolist():
        called[names[index]] = called.get(names[index], 0) + 1
    return {"not called a thing": round(1 - int(wrong.sum()) / n, 4), "interval": list(wilson(n - int(wrong.sum()), n)),
            "n": n, "abstained": int((~sure).sum()), "called": dict(sorted(called.items(), key=lambda x: -x[1]))}


def bake_second(studio: Callable[[], Studio], taught: Drawings, out: Path, count: int, scored: int, progress: Progress
                ) -> dict[str, Any]:
    """Train, calibrate, score and write `second.safetensors` (fp16) and `second.json`, unless they are there.

    Args:
        studio: what images are made of, asked for when it is needed.
        taught: what the diffusion model learned from: these images are scored through the autoencoder.
        count: images to train on. scored: images behind each score.

    Returns:
        The scores, as in `second.json`.
    """
    if not (out / "second.json").is_file():
        made = studio()
        seen = made.pool(count, out / "second-features.safetensors", progress)
        held = Seen.join(list(made.batches(max(count // 8, _BATCH * 2), "calibration")))
        heads, fewer = train_heads(seen, made.seed), train_heads(seen.where(~seen.apart), made.seed)
        temperature, theirs = calibrate(heads, held), calibrate(fewer, held.where(~held.apart))
        scores = score_heads(made, taught, (heads, temperature), (fewer, theirs), scored)
        tensors = {f"{q}.{name}": tensor.half() for q, pair in heads.items()
                   for name, tensor in zip(("weight", "bias"), pair, strict=True)}
        write_tensors(out / "second.safetensors", tensors, {"format": "pt"})
        write_json(out / "second.json", {
            "labels": ROWS, "temperature": temperature, "threshold": THRESHOLD, "backbone": made.look.hash,
            "network": made.look.name, "learned_from": len(seen), "scores": scores})
    card: dict[str, Any] = json.loads((out / "second.json").read_text(encoding="utf-8"))
    return dict(card["scores"])


def score_heads(studio: Studio, taught: Drawings, heads: Calibrated, fewer: Calibrated, count: int) -> dict[str, Any]:
    """Accuracy on fresh images of many kinds, and what nothing is called; `fewer` never saw the held-out vendors."""
    through = lambda pictures, _: redrawn(studio.autoencoder, pictures)
    drawings = studio.drawings
    asked = {"vendors it learned from": (heads, studio.things(drawings, count, "fresh")),
             "vendors held out": (fewer, studio.things(drawings.where(held_out(drawings)), count, "held out")),
             "through the autoencoder": (heads, studio.things(taught, count, "through", through)),
             "other tone and frame": (heads, studio.things(drawings, count, "changed", changed))}
    for name, change in unseen_changes().items():
        apply = lambda pictures, _, change=change: change(pictures)
        asked[f"{name} (never trained)"] = (heads, studio.things(drawings, count // 3, f"unseen/{name}", apply))
    scores = {name: accuracy(*who, part) for name, (who, part) in asked.items() if part is not None}
    nothing = {kind: called_nothing(*heads, part) for kind, part in studio.junk(max(count // 15, 4)).items()}
    return {**scores, "pictures of nothing": nothing}


def _read(file: Path) -> Seen:
    kept = load_file(file)
    return Seen(kept["features"].float(), {q: kept[q] for q in ROWS}, kept["apart"])


def _logits(heads: Mapping[str, Head], seen: Seen, question: str) -> tuple[Tensor, Tensor]:
    """Logits (N, rows) and labels (N,) of the images that have an answer; labels index different names."""
    rows = seen.labels[question]
    names = list(dict.fromkeys(ROWS[question]))
    known = rows != IGNORE
    labels = torch.tensor([names.index(name) for name in ROWS[question]])[rows[known]]
    return F.linear(evened(seen.features[known]), *heads[question]), labels
