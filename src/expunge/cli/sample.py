"""`expunge sample`: draw images, with or without a patch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge import untrusted
from expunge.cli.lists import Number, Sentence
from expunge.cli.options import model_options
from expunge.cli.patch_name import PatchName
from expunge.cli.terminal import echo

if TYPE_CHECKING:
    from expunge.models.source import Source
    from expunge.pixels import Pixels
    from expunge.records import Prompt
    from expunge.records.pictures import SampledImage

EXAMPLES = """\b
Examples:
  $ expunge sample "a 3d emoji of a church" "a cat" --seed 0 --seed 1 --out runs/pictures
  images: runs/pictures (4)
  sheet: runs/pictures/sheet.png
\b
  $ expunge sample "a 3d emoji of a church" --patch runs/church --seeds 4 --out runs/after
  images: runs/after (4)
  sheet: runs/after/sheet.png
"""

RECORD, SHEET = "shots.json", "sheet.png"
"""How each image was drawn, and all of them on one page."""
COLUMNS, ON_SHEET = 8, 400
"""Images in a row of the sheet of a list, and how many are on a sheet at most."""


@click.command("sample", epilog=EXAMPLES)
@click.argument("prompts", nargs=-1, type=Sentence())
@click.option("--prompts", "lists", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="A list of prompts, beside or instead of PROMPT: CSV, TSV or JSON with a column prompt, or one a "
                   "line. Columns of seeds, guidances and sizes are honoured.")
@model_options
@click.option("--patch", type=PatchName(), metavar="PATCH", help="Draw with this patch on.")
@click.option("--seed", "seeds", type=Number(min=0), multiple=True, metavar="INTEGER",
              help="A seed. May be repeated [default: 0].")
@click.option("--seeds", "--count", "count", type=click.IntRange(min=1), metavar="INTEGER",
              help="So many images per prompt, with seeds 0, 1, ..., instead of --seed.")
@click.option("--steps", type=int, default=20, show_default=True, metavar="INTEGER", help="Denoising steps.")
@click.option("--guidance", type=float, metavar="NUMBER",
              help="Classifier-free guidance; 1 is none [default: the model's own].")
@click.option("--negative", default="", metavar="TEXT", help="Negative prompt.")
@click.option("--height", type=int, metavar="INTEGER", help="Pixels [default: the model's own].")
@click.option("--width", type=int, metavar="INTEGER", help="Pixels [default: the model's own].")
@click.option("--truncate/--no-truncate", default=False, show_default=True,
              help="Cut prompts that are longer than the text encoder reads; else they are left out, and said.")
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, metavar="INTEGER",
              help="Images drawn together: speed, memory, and at most the last bit of an image.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("runs/sample"),
              show_default=True, metavar="FOLDER", help="Where the images go.")
def command(prompts: tuple[str, ...], model: Source, device: str, dtype: str, variant: str | None, allow_pickle: bool,
            verify: bool, offload: bool, eight_bit: bool, patch: Path | None, seeds: tuple[int, ...],
            count: int | None, batch: int, out: Path, lists: Path | None, **sampler: Any) -> None:
    """Draw every PROMPT at every seed: a PNG each, a contact sheet, and a record of how each was drawn.

    A prompt of --prompts whose list gives it a seed is drawn there alone, at the guidance and the size that its list
    gives it.

    The folder then holds what this run drew: images of an earlier run of this command, by its record, are removed;
    other files stay. The same prompt and seed give the same image whatever else is drawn beside it. Images that
    were drawn before are taken from the cache ($EXPUNGE_CACHE, or ~/.cache/expunge/pictures).

    An image whose values are not finite is named and not written; the others are, and the exit code is 1.
    """
    from contextlib import nullcontext

    from expunge.cli.output import some
    from expunge.cli.progress import progress
    from expunge.errors import ExpungeError, UserError
    from expunge.files import check_writable, readable
    from expunge.locks import alone
    from expunge.models.cache import ImageCache
    from expunge.models.fitting import none_fits, split
    from expunge.models.model import applied
    from expunge.models.patch import Patch
    from expunge.models.store import load
    from expunge.records import counted
    from expunge.records.pictures import SampledImage

    if count is not None and seeds:
        raise UserError("--seeds or --count and --seed together", accepted="one of the two")
    chosen = tuple(range(count)) if count is not None else seeds or (0,)
    how = _sampler({key: value for key, value in sampler.items() if value is not None})
    texts, notices = _listed(prompts, lists)
    check_writable(out)
    drawn_before(out)
    if (out / "patch.safetensors").exists():
        raise UserError(f"{out} holds an edit", accepted="a folder of its own for images",
                        remedy=f"choose another with --out, such as {out / 'sample'}")
    for what, given in (("prompt", prompts), ("seed", seeds)):
        if twice := [one for one, count in Counter(given).items() if count > 1]:
            raise UserError(f"the {what} {twice[0]!r} twice", accepted="each once: the same would be drawn again")
    opened = load(model, device=device, dtype=dtype, variant=variant, allow_pickle=allow_pickle, verify=verify,
                  offload=offload, eight_bit=eight_bit)
    if sampler["guidance"] is None:
        how = how.model_copy(update={"guidance": opened.guidance})
    kept, lost = split(opened, texts, how)
    if not kept:
        raise none_fits(counted(len(texts), "prompts"), lost)
    numbers = {place: number for number, place in enumerate(place for place in range(len(texts)) if place not in lost)}
    each = [prompt.seeds(0, 1, 1) if prompt.seed is not None else chosen for prompt in kept]
    items = [(prompt, seed) for prompt, its in zip(kept, each, strict=True) for seed in its]
    places = [1 + place for place, number in numbers.items() for _ in each[number]]
    names = [f"{place:03d}-{readable(prompt.text)}-seed{seed}.png"
             for place, (prompt, seed) in zip(places, items, strict=True)]
    on = applied(opened, Patch.load(patch)) if patch is not None else nullcontext(opened)
    with alone(out):
        with progress("drawing") as report, on:
            shots, pixels = ImageCache().spooled(opened, items, how, batch=batch, progress=report, go_on=True)
        there = [row for row, shot in enumerate(shots) if shot.file]
        names = [names[row] for row in there]
        about = {"model_name": opened.name, "family": opened.family}
        shown = [SampledImage(**shots[row].model_dump(exclude={"file"}), **about, file=name)
                 for row, name in zip(there, names, strict=True)]
        gone = _written(out, shown, pixels.only(there), COLUMNS if lists else len(chosen))
    for line in (*notices, *(f"left out: prompt {place + 1}: {why}" for place, why in lost.items())):
        echo(line)
    if gone:
        echo(f"removed: {gone} of an earlier run")
    echo(f"images: {out} ({len(names)})")
    if names:
        echo(f"sheet: {out / SHEET}" + (f" (the first {ON_SHEET})" if len(names) > ON_SHEET else ""))
    if broken := [f"prompt {places[row]} at seed {shot.seed}" for row, shot in enumerate(shots) if not shot.file]:
        raise ExpungeError(f"{opened.name} drew values that are not finite: {some(broken)}", accepted="finite pixels",
                           remedy="no file was written for these; load the model with --dtype float32 or bfloat16; if "
                                  "it has a patch on, make that again")


def _written(out: Path, shots: Sequence[SampledImage], pixels: Pixels, columns: int) -> int:
    """Write images, record and sheet; how many images of an earlier run were removed."""
    from expunge.files import write_json
    from expunge.sheet import sheet, write_picture

    earlier, names = drawn_before(out), [shot.file for shot in shots]
    for name in earlier:
        (out / name).unlink(missing_ok=True)
    write_json(out / RECORD, [shot.model_dump(mode="json") for shot in shots])
    for row, name in enumerate(names):
        write_picture(out / name, pixels.as_drawn(row))
    if names:
        write_picture(out / SHEET, sheet(pixels[:ON_SHEET], columns))
    else:
        (out / SHEET).unlink(missing_ok=True)
    return len({*earlier} - {*names})


def _listed(texts: Sequence[str], file: Path | None) -> tuple[list[Prompt], list[str]]:
    """The prompts of the command line and of a list, and how the list was read."""
    from expunge.metrics.lists import listed

    own = [_prompt(text) for text in texts]
    if file is None:
        if not own:
            raise click.UsageError("Missing argument 'PROMPTS...', or --prompts FILE.")
        return own, []
    found = listed(file, ("",), lambda text, concept: False, "direct")
    plain = [prompt.model_copy(update={"labels": {}}) for prompt in found.prompts]
    return [*own, *plain], [*found.columns, *found.drawn, *found.lost]


def drawn_before(folder: Path) -> list[str]:
    """The images in a folder that an earlier run of `expunge sample` says are its own; none without such a record.

    Raises:
        UserError: there is a record that is none.
    """
    from pydantic import TypeAdapter, ValidationError

    from expunge.errors import UserError
    from expunge.records.pictures import SampledImage

    file = folder / RECORD
    if not file.is_file():
        return []
    try:
        shots = TypeAdapter(list[SampledImage]).validate_json(untrusted.content(file))
    except (OSError, ValidationError) as error:
        raise UserError(f"{file} is no record of drawn images, so it is not known which ones in {folder} may go",
                        accepted="a folder that `expunge sample` wrote, or one without that file",
                        remedy="choose another --out, or delete the file") from error
    return [shot.file for shot in shots if shot.file == Path(shot.file).name and shot.file.endswith(".png")]


def _sampler(values: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from expunge.errors import UserError
    from expunge.records import Sampler

    try:
        return Sampler.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(f"--{item['loc'][0]}: got {item['input']!r}, {item['msg'].lower()}"
                          for item in error.errors())
        raise UserError(wrong) from error


def _prompt(text: str) -> Any:
    from expunge.records import Prompt

    return Prompt(text=text, role="direct")
