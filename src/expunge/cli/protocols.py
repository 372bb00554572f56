"""What the verbs share that run a published protocol: its options, its settings, what they print."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from expunge.cli.lists import Name, Sentence
from expunge.cli.terminal import visible_console
from expunge.errors import UserError

if TYPE_CHECKING:
    from expunge.models.model import Model
    from expunge.models.patch import Patch
    from expunge.protocols.settings import RunSettings
    from expunge.records.protocol import ProtocolResult

Command = TypeVar("Command", bound=Callable[..., Any])
_SHARED = ("batch", "steps", "width", "height")
"""Settings of the product's own verbs that a protocol's run takes as well."""


def protocol_options(command: Command) -> Command:
    """`--protocol`, and what goes with it (`Asked`)."""
    for option in reversed((
        click.option("--protocol", default="", metavar="NAME|FILE",
                     help="Ask a published protocol's question, not the product's own (`expunge ls protocols`)."),
        click.option("--file", "supplied", type=Name(), multiple=True, metavar="ROLE=PATH",
                     help="Protocol: a file that it needs, by its role. Without it the message says which one, with "
                          "its hash, where it is published and its licence. Nothing is fetched. May be repeated."),
        click.option("--allow-deviation", is_flag=True,
                     help="Protocol: take files of other hashes; the result is called -modified, and says why."),
        click.option("--store", type=click.Choice(["none", "hashes", "pictures"]), default=None,
                     help="Protocol: what is kept of images [default: hashes]."),
        click.option("--keep-days", type=click.IntRange(min=1), default=None, metavar="N",
                     help="Protocol: after so many days `expunge wipe --due` deletes images and prompts."),
        click.option("--limit", type=click.IntRange(min=1), default=None, metavar="N",
                     help="Protocol: ask N rows alone, spread over the list. The result is called -modified."),
        click.option("--stand-in", "stand_ins", type=Name(), multiple=True, metavar="DETECTOR=FOLDER",
                     help="Protocol: an image classifier's folder in a detector's place, to try a run without its "
                          "weights. No number of such a run is given. May be repeated."),
        click.option("--erased", type=Sentence(), multiple=True, metavar="LABEL",
                     help="Protocol: what the edit takes out, as the protocol's labels call it [default: the patch's "
                          "concepts]. May be repeated."))):
        command = option(command)
    return command


@dataclass(frozen=True)
class Asked:
    """What a user gave for a protocol. Attributes: files: words ROLE=PATH; chosen: settings of the run."""

    files: tuple[str, ...]
    chosen: Mapping[str, Any]

    @classmethod
    def taken(cls, flags: dict[str, Any]) -> Asked:
        """Taken out of a command's keyword arguments, which keep the rest."""
        files = tuple(flags.pop("supplied"))
        names = ("allow_deviation", "store", "keep_days", "limit", "erased", "stand_ins")
        return cls(files, {name: value for name in names if (value := flags.pop(name)) not in (None, (), False)})

    def check_unused(self, paired: str = "") -> None:
        """UserError: something was given that only a published protocol takes; `paired`: the one named, which is none.
        """
        if (self.files or self.chosen) and paired:
            raise UserError(f"options of a published protocol with {paired}, which is the product's own evaluation",
                            accepted="the options of `expunge evaluate` itself")
        if self.files or self.chosen:
            raise UserError("options of a published protocol without one", accepted="--protocol NAME",
                            remedy="`expunge ls protocols` lists them")

    def settings(self, given: Mapping[str, Any]) -> RunSettings:
        """Settings of the run, with those of the verb that it shares.

        Raises:
            UserError: a setting of the product's own verb that a protocol fixes.
        """
        from expunge.protocols.settings import RunSettings

        others = [name for name in given if name not in _SHARED]
        if others:
            raise UserError(f"{', '.join(others)} with --protocol", accepted=", ".join(_SHARED),
                            remedy="the protocol's file says the rest")
        return RunSettings.build({**given, **self.chosen}, "the protocol's run")


def print_result(result: ProtocolResult) -> None:
    """The table, and what it rests on."""
    from rich.table import Table

    from expunge.protocols.table import REFUSED, rows_of, told

    console = visible_console(width=None if sys.stdout.isatty() else 130)
    console.print(f"{result.protocol}: {result.title}\n", markup=False)
    if result.test_only:
        console.print(REFUSED, markup=False)
    else:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for head in ("score", "edited", "original", "left out, notes"):
            table.add_column(head)
        for title, value, interval, n, prompts, original, its, lost in rows_of(result):
            count = f"n {n}" + (f", {prompts} prompts" if prompts else "")
            table.add_row(title, *("\n".join(filter(None, part)) for part in (
                (value, interval, count if value else ""), (original, its, count if original and not value else ""))),
                lost)
        console.print(table, "", markup=False)
    for line in told(result):
        console.print(line, style="dim", markup=False)


def write_tables(result: ProtocolResult, folder: Path) -> None:
    """Tables and files for the Hub beside the record; of a stand-in's result the first table, which refuses numbers."""
    from expunge.files import write_text
    from expunge.protocols.hub import write_for_hub
    from expunge.protocols.table import as_csv, markdown

    write_text(folder / "protocol.md", markdown(result))
    if not result.test_only:
        write_text(folder / "protocol.csv", as_csv(result))
        write_for_hub(result, folder)


def estimate(model: Model, patch: Patch | None, protocol: str, files: Sequence[str], settings: RunSettings) -> str:
    """What a run would do: rows, images, deviations, time of drawing."""
    from expunge.cli.progress import span
    from expunge.models.speed import drawing_speed
    from expunge.protocols.artefacts import parse_files
    from expunge.protocols.plan import planned
    from expunge.protocols.schema import read_protocol
    from expunge.protocols.watching import watchers
    from expunge.records import counted

    read = read_protocol(protocol)
    concepts = patch.card.request.concepts if patch is not None else ()
    plan = planned(read, parse_files(files), settings, model, concepts)
    watchers(plan.protocol.detectors, plan.paths)  # what is missing is told before hours of drawing
    images = len(plan.items) * (2 if patch is not None else 1)
    sampler = plan.samplers[0]
    seconds = drawing_speed(model, sampler, settings.batch).picture(sampler) * images
    lines = [f"{read.protocol}: {read.title}", f"{counted(len(plan.rows), 'rows')}, {counted(images, 'images')}",
             *plan.read.said, *(f"not as the protocol says: {one}" for one in plan.deviations),
             f"estimate: {span(seconds)} of drawing"]
    return "\n".join(lines)
