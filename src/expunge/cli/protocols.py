"""What the verbs share that run a published protocol: its options, its settings, what they print."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from expunge.errors import UserError

if TYPE_CHECKING:
    from expunge.models.model import Model
    from expunge.models.patch import Patch
    from expunge.protocols.run import RunSettings
    from expunge.records.protocol import ProtocolResult

Command = TypeVar("Command", bound=Callable[..., Any])
_SHARED = ("batch", "steps", "width", "height")
"""Settings of the product's own verbs that a protocol's run takes as well."""


def protocol_options(command: Command) -> Command:
    """`--protocol`, `--file`, `--allow-deviation`, `--store`, `--limit`, `--erased`."""
    for option in reversed((
        click.option("--protocol", default="", metavar="NAME|FILE",
                     help="Ask a published protocol's question, not the product's own (`expunge ls protocols`)."),
        click.option("--file", "supplied", multiple=True, metavar="ROLE=PATH",
                     help="Protocol: a file that it needs, by its role. Without it the message says which one, with "
                          "its hash, where it is published and its licence. Nothing is fetched."),
        click.option("--allow-deviation", is_flag=True,
                     help="Protocol: take files of other hashes; the result is called -modified, and says why."),
        click.option("--store", type=click.Choice(["none", "hashes", "pictures"]), default=None,
                     help="Protocol: what is kept of images [default: hashes]."),
        click.option("--limit", type=click.IntRange(min=1), default=None, metavar="N",
                     help="Protocol: ask N rows alone, spread over the list. The result is called -modified."),
        click.option("--erased", multiple=True, metavar="LABEL",
                     help="Protocol: what the edit takes out, as the protocol's labels call it [default: the patch's "
                          "concepts]."))):
        command = option(command)
    return command


def run_settings(given: Mapping[str, Any], *, store: str | None, limit: int | None, erased: Sequence[str],
                 allow_deviation: bool) -> RunSettings:
    """Settings of a protocol's run, from its own options and those of the verb that it shares.

    Raises:
        UserError: a setting of the product's own verb that a protocol fixes.
    """
    from expunge.protocols.run import RunSettings

    others = [name for name in given if name not in _SHARED]
    if others:
        raise UserError(f"{', '.join(others)} with --protocol", accepted=", ".join(_SHARED),
                        remedy="the protocol's file says the rest")
    values = {**given, "allow_deviation": allow_deviation, "erased": tuple(erased)}
    chosen = {"store": store, "limit": limit}
    return RunSettings.build(values | {name: value for name, value in chosen.items() if value is not None},
                             "the protocol's run")


def print_result(result: ProtocolResult) -> None:
    """The table, and what it rests on."""
    from expunge.protocols.table import markdown

    click.echo(markdown(result).rstrip())


def write_tables(result: ProtocolResult, folder: Path) -> None:
    """protocol.md and protocol.csv beside the record; of a stand-in's result the first alone, which refuses numbers."""
    from expunge.files import write_text
    from expunge.protocols.table import as_csv, markdown

    write_text(folder / "protocol.md", markdown(result))
    if not result.test_only:
        write_text(folder / "protocol.csv", as_csv(result))


def estimate(model: Model, patch: Patch | None, protocol: str, files: Sequence[str], settings: RunSettings) -> str:
    """What a run would do: rows, images, deviations, time of drawing."""
    from expunge.cli.progress import span
    from expunge.models.speed import drawing_speed
    from expunge.protocols.artefacts import parse_files
    from expunge.protocols.run import planned
    from expunge.protocols.schema import read_protocol
    from expunge.records import counted

    read = read_protocol(protocol)
    concepts = patch.card.request.concepts if patch is not None else ()
    plan = planned(read, parse_files(files), settings, model, concepts)
    images = len(plan.items) * (2 if patch is not None else 1)
    sampler = plan.samplers[0]
    seconds = drawing_speed(model, sampler, settings.batch).picture(sampler) * images
    lines = [f"{read.protocol}: {read.title}", f"{counted(len(plan.rows), 'rows')}, {counted(images, 'images')}",
             *plan.read.said, *(f"not as the protocol says: {one}" for one in plan.deviations),
             f"estimate: {span(seconds)} of drawing"]
    return "\n".join(lines)
