"""`expunge merge`: the patched model as a plain diffusers folder, a short name of `expunge export --to folder`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from expunge.cli.options import model_options_of
from expunge.cli.patch_name import PatchName
from expunge.cli.terminal import echo
from expunge.errors import UserError

if TYPE_CHECKING:
    from expunge.models.source import Source

EXAMPLES = """\b
Examples:
  $ expunge merge runs/church --out runs/without-church
  model: runs/without-church
  open it with StableDiffusionPipeline.from_pretrained("runs/without-church")
\b
  $ expunge merge runs/church --out runs/without-church
  error: runs/without-church exists already
    accepted: a new name
    choose another, or say --overwrite
"""


@click.command("merge", epilog=EXAMPLES)
@click.argument("patch", type=PatchName())
@model_options_of("--model")
@click.option("--dtype", default="float16", show_default=True, metavar="NAME", help="Number type to write.")
@click.option("--variant", metavar="NAME",
              help="Which set of weights, where the base's folder has several, such as fp16.")
@click.option("--only", type=click.Choice(["text-encoder", "lora"]),
              help="Write this alone: the text encoder, for other models with the same one (the only component that "
                   "models share); or a patch that is a LoRA as such, for pipe.load_lora_weights.")
@click.option("--allow-pickle", is_flag=True,
              help="Load weights that are not safetensors. Such a file can run any code: trust its author.")
@click.option("--overwrite", is_flag=True,
              help="Take the place of what is at --out; never that of the model, its LoRAs or PATCH. Not with --only "
                   "lora.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="FOLDER",
              help="A new or empty folder.")
def command(patch: Path, model: Source, dtype: str, variant: str | None,
            only: str | None, allow_pickle: bool, overwrite: bool, out: Path) -> None:
    """Write a diffusers folder of the model with PATCH in it, for tools that know no patches.

    The folder appears whole or not at all, and holds a record of what reading it back found. `expunge export` writes
    single checkpoints, LoRAs and other forms. To use a patch without merging, see docs/patches.md.
    """
    from expunge.cli.output import tell
    from expunge.exports.run import export
    from expunge.models.opening import opener
    from expunge.models.patch import Patch
    from expunge.models.store import merge

    if overwrite and only == "lora":
        raise UserError("--overwrite with --only lora", accepted="a new or empty folder for it")
    loaded = Patch.load(patch)
    if only == "lora":  # the patch as it is, or not at all
        merge(model, loaded, out, dtype, only=only, allow_pickle=allow_pickle, variant=variant)
    else:
        export(loaded, out, "component" if only else "folder", model=model, dtype=dtype, variant=variant,
               component=(only or "").replace("-", "_"), allow_pickle=allow_pickle, overwrite=overwrite)
    tell((only or "model").replace("-", " "), out)
    ways = {"lora": f'pipe.load_lora_weights("{out}")', "text-encoder": f'CLIPTextModel.from_pretrained("{out}")'}
    echo(f"open it with {ways[only] if only else opener(out)}")
