"""`expunge import`: what somebody else's file changes in a model, as a patch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from expunge.cli.lists import Name
from expunge.cli.options import model_options_of
from expunge.cli.terminal import echo

if TYPE_CHECKING:
    from expunge.models.source import Source

EXAMPLES = """\b
Examples:
  $ expunge import esd-church.safetensors church --model sd15 --partial --out runs/theirs
  patch: runs/theirs/patch.safetensors
  unet in diffusers' names: 96 weights change, 0 are the base's
  next: expunge evaluate runs/theirs --model sd15
\b
  $ expunge import uce.pt church --model sd15 --out runs/theirs
  error: uce.pt is a pickle, which runs code when it is opened
    accepted: .safetensors
    --allow-pickle reads it by torch's reader of weights, which runs none; ask for it in safetensors where you can
"""


@click.command("import", epilog=EXAMPLES)
@click.argument("edit", type=click.Path(path_type=Path))
@click.argument("concept", nargs=-1, required=True, type=Name())
@model_options_of("--model", "--variant")
@click.option("--anchor", type=Name(), multiple=True, metavar="TEXT",
              help="What takes the concept's place, as the edit's authors say. May be repeated.")
@click.option("--kind", type=click.Choice(["", "object", "style", "person", "explicit", "action"]), default="",
              help="What the concept is; guessed from its name if empty.")
@click.option("--component", default="", metavar="NAME",
              help="Which component the file is of, where more than one would do.")
@click.option("--partial", is_flag=True, help="The file holds only the weights that its authors changed.")
@click.option("--skip", type=Name(), multiple=True, metavar="NAME",
              help="A component that is not compared, such as vae. May be repeated.")
@click.option("--allow-pickle", is_flag=True,
              help="Read .pt, .bin and .ckpt of EDIT, by torch's reader of weights alone, which runs no code; and a "
                   "model that is not in safetensors, whose files can: trust its author.")
@click.option("--overwrite", "--force", "overwrite", is_flag=True,
              help="Take the place of what is at --out; never that of EDIT, the model or its LoRAs.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="FOLDER",
              help="Where the patch goes.")
def command(edit: Path, concept: tuple[str, ...], model: Source, variant: str | None, anchor: tuple[str, ...],
            kind: str, component: str, partial: bool, skip: tuple[str, ...], allow_pickle: bool, overwrite: bool,
            out: Path) -> None:
    """Make a patch of EDIT, which takes CONCEPT out of a model, so that it can be evaluated and attacked here.

    EDIT is a diffusers folder or single file of a whole model, a component, a LoRA, or a full difference. Tensors that
    the model has no place for, and those that it lacks, are refused by name.
    """
    from shlex import quote

    from expunge.cli.output import tell
    from expunge.errors import UserError
    from expunge.exports.incoming import import_edit
    from expunge.files import check_apart
    from expunge.models.patch import files_of
    from expunge.models.store import located, opened_from

    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise UserError(f"{out} exists already", accepted="a new or empty folder",
                        remedy="choose another, or say --overwrite")
    kept = opened_from(model, located(model, variant=variant, allow_pickle=allow_pickle))
    for file in files_of(out):
        check_apart(file, {**kept, "the edit": [edit.expanduser()]})
    patch = import_edit(edit, list(concept), model=model, anchor=list(anchor) or "", kind=kind, component=component,
                        partial=partial, skip=skip, allow_pickle=allow_pickle, variant=variant)
    tell("patch", patch.save(out))
    about = patch.card.settings
    echo(f"{about['form']}: {len(patch.weights)} weights change, {about['weights_that_are_the_bases']} are the "
               f"base's" + (f", {about['weights_not_in_the_file']} are not in the file"
                            if about["weights_not_in_the_file"] else ""))
    echo(f"next: expunge evaluate {quote(str(out))}" + "".join(f" {quote(flag)}" for flag in model.flags))
