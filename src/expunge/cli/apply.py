"""`expunge apply`: put a patch on, look, take it off again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from expunge.cli.options import model_options_of
from expunge.cli.patch_name import PatchName
from expunge.cli.terminal import echo

if TYPE_CHECKING:
    from expunge.models.model import Model
    from expunge.models.patch import Patch
    from expunge.models.source import Source

EXAMPLES = """\b
Examples:
  $ expunge apply runs/church --out runs/before-and-after.png
  fits: church, by esd-fast, on embedded
  acts: what the unet answers changes by 8.1%
  removed: every tensor is as before, bit for bit
  strip, original above, edited below: runs/before-and-after.png
\b
  $ expunge apply runs/nothing
  error: no patch at runs/nothing
    accepted: a folder with patch.safetensors, or a .safetensors file
"""


@click.command("apply", epilog=EXAMPLES)
@click.argument("patch", type=PatchName())
@model_options_of("--model", "--device", "--dtype", "--variant", "--allow-pickle")
@click.option("--prompt", metavar="TEXT",
              help="What the strip shows [default: the first prompt of each concept in the patch's card].")
@click.option("--strict", is_flag=True,
              help="Exit with code 3 where the edit's own look found the concept still there, or where there was none.")
@click.option("--seeds", "--count", "count", type=click.IntRange(min=1), default=6, show_default=True,
              metavar="INTEGER", help="Images in each row, with seeds 0, 1, ...")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Draw a strip of before and after into this PNG; without it nothing is drawn.")
def command(patch: Path, model: Source, device: str, dtype: str, variant: str | None,
            allow_pickle: bool, prompt: str | None, strict: bool, count: int, out: Path | None) -> None:
    """Check that PATCH is whole and fits the model, that it goes on and that it comes off bit-exactly.

    Nothing is written but the strip. `expunge merge` writes a model with the patch in it; `expunge sample --patch`
    draws with it.
    """
    from expunge.cli.output import STILL_THERE, not_looked, still_there, tell
    from expunge.errors import ModelError, UserError
    from expunge.files import check_writable
    from expunge.models.patch import Patch
    from expunge.models.pipeline import acting
    from expunge.models.store import load
    from expunge.report.words import percent

    if out is not None and out.suffix.lower() != ".png":
        raise UserError(f"--out {out}", accepted="a file name that ends in .png")
    if out is not None:
        check_writable(out.parent)
    loaded = Patch.load(patch)
    opened = load(model, device=device, dtype=dtype, variant=variant, allow_pickle=allow_pickle, verify=True)
    before = _hash(opened)
    changes = acting(opened, loaded)
    warnings = [*still_there(loaded.card), *(not_looked(loaded.card, patch) if strict else ())]
    for line in warnings:
        echo(line)
    echo(f"fits: {loaded.card.request.title}, by {loaded.card.method}, on {opened.name}")
    echo("; ".join(f"acts: what the {part} answers changes by {percent(share)}"
                         for part, share in changes.items()))
    if _hash(opened) != before:
        raise ModelError("the patch did not come off: tensors differ from before", remedy="please report this")
    echo("removed: every tensor is as before, bit for bit")
    if out is not None:
        prompts = [target.prompts[0] for target in loaded.card.request.targets] if prompt is None else [prompt]
        _strip(opened, loaded, prompts, count, out)
        tell("strip, original above, edited below", out)
    if strict and warnings:
        raise click.exceptions.Exit(STILL_THERE)


def _hash(model: Model) -> str:
    from expunge.models.hashing import tensors_hash

    return tensors_hash(model.editable())


def _strip(model: Model, patch: Patch, prompts: list[str], count: int, out: Path) -> None:
    """For each prompt a row of the original and a row of the edited model below it."""
    import torch

    from expunge.cli.progress import progress
    from expunge.models.cache import ImageCache
    from expunge.models.model import applied
    from expunge.records import Prompt, Sampler
    from expunge.sheet import sheet, write_picture

    items = [(Prompt(text=prompt, role="direct"), seed) for prompt in prompts for seed in range(count)]
    with progress("drawing before") as report:
        _, above = ImageCache().draw(model, items, Sampler(), progress=report)
    with progress("drawing after") as report, applied(model, patch):
        _, below = ImageCache().draw(model, items, Sampler(), progress=report)
    rows = [side[start:start + count] for start in range(0, len(items), count) for side in (above, below)]
    write_picture(out, sheet(torch.cat(rows), count))
