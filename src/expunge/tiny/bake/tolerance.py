"""The judge's second stage: the trained network learns to see through tone, frame, crop, blur and noise.

It goes on from the first stage's weights as they are saved (fp16), so that a bake that has only these comes to the same
judge. Junk is changed as things are, and joined by more of it: what a change makes of junk must not become a thing.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.metrics.judge import JudgeNet
from expunge.tiny.bake.changes import IGNORE, changed
from expunge.tiny.bake.judge import Redrawn, disturbed, judge_batch, losses_by_question
from expunge.tiny.bake.sampling import Cells
from expunge.tiny.bake.schedule import warm_then_cosine
from expunge.tiny.pictures import LOOSE, SIZE, Drawings, render
from expunge.tiny.world import THINGS
from expunge.train import Losses, Progress, run_loop, step_generator

_PEAK = 1e-3
_TILE = 8


def teach_changes(net: JudgeNet, drawings: Drawings, others: Drawings, redrawn: Redrawn, out: Path, steps: int,
                  batch: int, seed: int, progress: Progress | None = None) -> JudgeNet:
    """Train `net` further, in place: an eighth of each batch shapeless, half of the rest fresh and half redrawn."""
    net.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    cells = Cells(drawings.objects, drawings.styles)
    junk = batch // 8
    fresh = (batch - junk) // 2

    def step(number: int) -> Losses:
        draw = step_generator(seed, number, "tolerance")
        first = (seed * 1_000_003 + 90_000_001 + number) * 5
        parts = [judge_batch(drawings, cells, others, fresh, first, draw),
                 redrawn.draw(batch - junk - fresh, draw), shapeless(drawings, junk, first + 4, draw)]
        pictures, labels = changed(torch.cat([p for p, _ in parts]), torch.cat([told for _, told in parts]), draw)
        logits = net(disturbed(pictures, draw).contiguous(memory_format=torch.channels_last))
        losses = losses_by_question(logits, labels)
        loss = sum(losses.values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        hit = (logits["object"].argmax(1) == labels[:, 0]).float().mean().item()
        return {"loss": loss.item(), "object_hit": hit, **{k: v.item() for k, v in losses.items()}}

    run_loop(step, steps, dict(net.named_parameters()), {"adam": optimizer}, checkpoint=out / "tolerance.ckpt",
             fingerprint=f"tolerance/{seed}/{batch}/{steps}/{drawings.digest[:8]}",
             learning_rate={"adam": warm_then_cosine(_PEAK, steps)}, progress=progress)
    return net.eval()


def shapeless(drawings: Drawings, count: int, seed: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, 64, 64) that show no thing, and their labels: smears, shuffled drawings, checks, shades, one
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
