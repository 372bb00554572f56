"""`expunge export`: an edit in the form that another program takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from expunge.cli.lists import Name
from expunge.cli.options import model_options_of
from expunge.cli.patch_name import PatchName
from expunge.cli.terminal import echo

if TYPE_CHECKING:
    from expunge.models.source import Source
    from expunge.records.export import ExportRecord

EXAMPLES = """\b
Examples:
  $ expunge export runs/church --to lora-kohya --out runs/church-lora.safetensors
  error: 7 weights of the patch that this format cannot carry: 'unet/[...].to_out.0.bias' first, a bias
    accepted: a patch of weights of linear and convolutional layers
    --drop leaves them out and names them; a folder, a checkpoint or the full difference (diff-comfy) carries them
\b
  $ expunge export runs/church --to lora-kohya --drop --out runs/church-lora.safetensors
  lora-kohya: runs/church-lora.safetensors
  28 weights in float32: of the change 3.1% is missing (largest in one weight 3.2%), rank 27 to 67; [...]
  left out: 7 weights, 6.0% of the change:
  read back by expunge 0.2.0: 35 weights, largest difference 3e-08
  read back by diffusers 0.42.1 load_lora_weights: 35 weights, largest difference 3e-08
  note: a LoRA acts by its strength: at 0 the edit is off, and whoever has the file can leave it out; [...]
"""

TO = ("folder", "component", "checkpoint", "lora-diffusers", "lora-kohya", "lora-comfy", "diff-kohya", "diff-comfy",
      "text-encoder")
"""Formats, known here so that help loads no torch; a test holds them to `exports.formats.FORMATS`."""


@click.command("export", epilog=EXAMPLES)
@click.argument("patch", type=PatchName())
@click.option("--to", type=click.Choice(TO), default="folder", show_default=True,
              help="The form: a diffusers folder, or that of one component; your own checkpoint with the edit in it; a "
                   "LoRA or the full difference, by the dialect of the program; a text encoder for ComfyUI.")
@model_options_of("--model", "--variant", "--allow-pickle")
@click.option("--original", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="With --to checkpoint: the single file that is patched, where --model is a folder.")
@click.option("--dtype", metavar="NAME",
              help="Number type to write [default: float16; of LoRAs float32]. A checkpoint keeps its own.")
@click.option("--energy", type=float, metavar="NUMBER",
              help="Of a LoRA: share of each change's squared singular values that is kept. What is of low rank "
                   "already is kept whole. [default: 0.999]")
@click.option("--rank", type=int, metavar="INTEGER", help="Of a LoRA: largest rank of a weight.")
@click.option("--shard-size", default="", metavar="TEXT", help="Of a folder: the largest file, such as 5GB.")
@click.option("--write-variant", default="", metavar="NAME",
              help="Of a folder: the name of the set of weights that is written, such as fp16.")
@click.option("--drop", is_flag=True,
              help="Leave out what the format cannot carry, such as biases of a LoRA, and name it.")
@click.option("--component", default="", metavar="NAME",
              help="With --to component or text-encoder: which, where the patch changes several.")
@click.option("--title", default="", metavar="TEXT", help="Of a file: what its header calls it [default: its name].")
@click.option("--measure", "--check", "measure", is_flag=True,
              help="Measure original, edit and exported file with a small evaluation; a LoRA at strengths 0.5, 1, 1.5.")
@click.option("--measure-prompts", type=click.IntRange(min=1), metavar="INTEGER",
              help="With --measure: prompts that name the concept, and as many for its neighbours. [default: 8]")
@click.option("--with-lora", type=Name(), default="", metavar="FILE",
              help="With --measure: a foreign LoRA (FILE, or FILE:WEIGHT) that is on top in two rows more.")
@click.option("--clip", default="", metavar="MODEL", help="With --measure, open world: the CLIP that judges.")
@click.option("--overwrite", "--force", "overwrite", is_flag=True,
              help="Take the place of what is at --out; never that of the model, its LoRAs or PATCH.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE",
              help="The file, or the folder, to be written; a record lies beside it, or in it.")
def command(patch: Path, to: str, model: Source, variant: str | None, allow_pickle: bool, original: Path | None,
            dtype: str | None, energy: float | None, rank: int | None, shard_size: str, write_variant: str, drop: bool,
            component: str, title: str, measure: bool, measure_prompts: int | None, with_lora: str, clip: str,
            overwrite: bool, out: Path) -> None:
    """Write PATCH in a form that other programs take, and read it back.

    What was written, how much of the edit is in it and who read it is in a JSON record beside it. Nothing appears
    half-written. `expunge import` is the way back.
    """
    from expunge.cli.output import tell
    from expunge.cli.progress import progress
    from expunge.errors import UserError
    from expunge.exports.run import export
    from expunge.files import check_apart
    from expunge.models.patch import Patch, files_of

    of_measure = {"--measure-prompts": measure_prompts, "--with-lora": with_lora, "--clip": clip}
    if alone := [flag for flag, given in of_measure.items() if given and not measure]:
        raise UserError(f"{alone[0]} without --measure", accepted="--measure with it")
    check_apart(out, {"the patch": files_of(patch)})
    settings = None
    if measure:
        from expunge.exports.check import CheckSettings

        counts = {} if measure_prompts is None else {"direct": measure_prompts, "near": measure_prompts}
        settings = CheckSettings(**counts, with_lora=with_lora, clip=clip)
    loaded = Patch.load(patch)
    with progress("exporting") as report:
        record = export(loaded, out, to, model=model, original=original, dtype=dtype, energy=energy, rank=rank,
                        drop=drop, component=component, title=title, check=settings, overwrite=overwrite,
                        variant=variant, allow_pickle=allow_pickle, shard_size=shard_size,
                        write_variant=write_variant, progress=report)
    tell(to, out)
    for line in said(record):
        echo(line)


def said(record: ExportRecord) -> list[str]:
    """What a person needs to know of an export, line by line."""
    from expunge.report.words import percent

    cut = [entry for entry in record.tensors if entry.rank is not None]
    ranks = f", rank {min(e.rank or 0 for e in cut)} to {max(e.rank or 0 for e in cut)}" if cut else ""
    worst = max((entry.error for entry in record.tensors), default=0.0)
    missing = "the whole change is in it" if record.error < 1e-6 else (
        f"of the change {percent(record.error)} is missing (largest in one weight {percent(worst)})")
    out = [f"{len(record.tensors)} weights in {record.dtype}: {missing}{ranks}; {percent(record.survived)} of the "
           "changed numbers survive"]
    if cut:
        out += [f"  {entry.name}: rank {entry.rank}, error {entry.error:.3g}" for entry in record.tensors]
    if record.left_out:
        out.append(f"left out: {len(record.left_out)} weights, {percent(record.lost)} of the change:")
        out += [f"  {name}: {why}" for name, why in record.left_out.items()]
    for one in record.readers:
        came = one.note or f"{one.tensors} weights, largest difference {one.max_abs or 0:.2g}"
        out.append(f"read back by {one.reader}: {came}")
    for row in record.check:
        at = "" if row.strength is None else f" at {row.strength:g}"
        out.append(f"{row.what}{at}: found in {row.found} of {row.n}{_interval(row.low, row.high)}, neighbours there "
                   f"in {row.near} of {row.near_n}{_interval(row.near_low, row.near_high)}")
    return [*out, *(f"note: {note}" for note in record.notes)]


def _interval(low: float | None, high: float | None) -> str:
    from expunge.report.words import percent

    return "" if low is None or high is None else f" ({percent(low)} to {percent(high)})"
