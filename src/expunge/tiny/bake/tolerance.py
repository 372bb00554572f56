"""The judge's later stages: it learns to see through tone, frame, crop, blur and noise, and then to doubt.

They go on from the first stage's weights as they are saved (fp16), so that a bake that has only these comes to the same
judge. Junk is changed as things are, and joined by more of it: what a change makes of junk must not become a thing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.metrics.judge import JudgeNet
from expunge.resume import Inputs
from expunge.tiny.bake.changes import IGNORE, changed
from expunge.tiny.bake.judge import Redrawn, answered, disturbed, judge_batch
from expunge.tiny.bake.sampling import Cells
from expunge.tiny.bake.schedule import warm_then_cosine
from expunge.tiny.pictures import LOOSE, SIZE, Drawings, render
from expunge.tiny.world import THINGS
from expunge.train import Losses, Progress, run_loop, step_generator

_Batch = Callable[[int, torch.Generator], list[tuple[Tensor, Tensor]]]
"""The parts of a step's batch, images and labels, given the step's number and its generator."""
_TILE = 8


@dataclass(frozen=True)
class Lessons:
    """What the later stages train on.

    Attributes:
        drawings: the world's things.
        others: things outside the world.
        redrawn: images that went through the autoencoder.
        seed: seed of the bake.
        batch: images per step.
    """

    drawings: Drawings
    others: Drawings
    redrawn: Redrawn
    seed: int
    batch: int = 64

    def teach_changes(self, net: JudgeNet, out: Path, steps: int, progress: Progress | None = None) -> None:
        """Second stage, `net` in place: an eighth of each batch shapeless, half of the rest fresh, half redrawn."""
        cells, junk = Cells(self.drawings.objects, self.drawings.styles), self.batch // 8
        fresh = (self.batch - junk) // 2

        def parts(number: int, draw: torch.Generator) -> list[tuple[Tensor, Tensor]]:
            first = (self.seed * 1_000_003 + 90_000_001 + number) * 5
            return [judge_batch(self.drawings, cells, self.others, fresh, first, draw),
                    self.redrawn.draw(self.batch - junk - fresh, draw),
                    shapeless(self.drawings, junk, first + 4, draw)]

        self._train(net, parts, out, "tolerance", 1e-3, steps, progress)

    def teach_doubt(self, net: JudgeNet, out: Path, steps: int, progress: Progress | None = None) -> None:
        """Third stage, `net` in place: a third of each batch is none of the things, and half of it stays unchanged.

        A judge that sees through changes sees things in what only resembles them, and grows careless of style; images
        as they are and more junk bring it back.
        """
        cells, sixth = Cells(self.drawings.objects, self.drawings.styles), self.batch // 6
        usual = self.batch - sixth
        smears = sixth // 5
        fresh = usual // 2

        def parts(number: int, draw: torch.Generator) -> list[tuple[Tensor, Tensor]]:
            first = (self.seed * 1_000_003 + 95_000_001 + number) * 8
            return [judge_batch(self.drawings, cells, self.others, fresh, first, draw),
                    self.redrawn.draw(usual - fresh, draw), outside(self.others, sixth // 2, first + 4, draw),
                    blends(self.drawings, cells, sixth - sixth // 2 - smears, first + 5, draw),
                    shapeless(self.drawings, smears, first + 7, draw)]

        self._train(net, parts, out, "doubt", 5e-4, steps, progress, unchanged=0.5)

    def _train(self, net: JudgeNet, parts: _Batch, out: Path, name: str, peak: float, steps: int,
               progress: Progress | None, unchanged: float = 0.0) -> None:
        """`unchanged`: share of each batch that is kept from every change, besides those that none falls on."""
        net.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)

        def step(number: int) -> Losses:
            draw = step_generator(self.seed, number, name)
            whole = parts(number, draw)
            pictures, labels = partly_changed(torch.cat([p for p, _ in whole]), torch.cat([own for _, own in whole]),
                                              unchanged, draw)
            logits = net(disturbed(pictures, draw).contiguous(memory_format=torch.channels_last))
            return answered(optimizer, logits, labels)

        run_loop(step, steps, dict(net.named_parameters()), {"adam": optimizer}, checkpoint=out / f"{name}.ckpt",
                 under=Inputs({"part": name, "seed": self.seed, "batch": self.batch, "steps": steps,
                               "drawings": self.drawings.digest}),
                 learning_rate={"adam": warm_then_cosine(peak, steps, warm=min(100, steps // 10 + 1))},
                 progress=progress)
        net.eval()


def partly_changed(pictures: Tensor, labels: Tensor, unchanged: float, generator: torch.Generator
                   ) -> tuple[Tensor, Tensor]:
    """The batch with the share `unchanged` of its items, drawn anew, kept as they are, and the rest `changed`."""
    pictures, labels = pictures.clone(), labels.clone()
    rows = torch.randperm(len(pictures), generator=generator)[round(unchanged * len(pictures)):]
    pictures[rows], labels[rows] = changed(pictures[rows], labels[rows], generator)
    return pictures, labels


def outside(others: Drawings, count: int, seed: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Things outside the world, and their labels: the style is taught, the object is none of the things."""
    rows = torch.randint(len(others), (count,), generator=generator)
    pictures, grounds = render(others, rows, seed, augmentation=LOOSE)
    return pictures, torch.stack([torch.full((count,), len(THINGS)), others.styles[rows], grounds], 1)


def blends(drawings: Drawings, cells: Cells, count: int, seed: int, generator: torch.Generator
           ) -> tuple[Tensor, Tensor]:
    """Two drawings of different things at once, each at half its strength, on the same background."""
    rows, more = cells.draw(count, generator), cells.draw(count, generator)
    a, grounds = render(drawings, rows, seed, augmentation=LOOSE)
    b, _ = render(drawings, more, seed + 1, backgrounds=grounds, augmentation=LOOSE)
    same = drawings.objects[rows] == drawings.objects[more]
    objects = torch.where(same, IGNORE, torch.full((count,), len(THINGS)))
    return (a + b) / 2, torch.stack([objects, torch.full((count,), IGNORE), grounds], 1)


def shapeless(drawings: Drawings, count: int, seed: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (B, 3, 64, 64) that show no thing, and their labels: smears, shuffled drawings, checks, shades, one
    colour.
    """
    rows = torch.randint(len(drawings), (count,), generator=generator)
    whole, _ = render(drawings, rows, seed, augmentation=LOOSE)
    corners = torch.rand(count, 3, 2, 2, generator=generator)
    a, b = torch.rand(2, count, 3, 1, 1, generator=generator)
    step = int(torch.randint(2, 17, (1,), generator=generator))
    bands = torch.arange(SIZE) // step % 2
    grown = lambda x: F.interpolate(x, (SIZE, SIZE), mode="bicubic", align_corners=False).clamp(0, 1)
    side = int(torch.randint(3, 10, (1,), generator=generator))
    options = torch.stack([
        grown(torch.rand(count, 3, side, side, generator=generator)), _shuffled(whole, generator),
        torch.where((bands[:, None] ^ bands[None]).bool(), a, b), torch.where(bands.bool(), a, b).expand_as(whole),
        grown(corners), a.expand_as(whole)])
    kind = torch.randint(len(options), (count,), generator=generator)
    labels = torch.tensor([len(THINGS), IGNORE, IGNORE]).repeat(count, 1)
    return options[kind, torch.arange(count)], labels


def _shuffled(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Their tiles of eight pixels in another order, one for all."""
    tiles = F.unfold(pictures, _TILE, stride=_TILE)
    order = torch.randperm(tiles.shape[-1], generator=generator)
    return F.fold(tiles[:, :, order], pictures.shape[-2:], _TILE, stride=_TILE)
