"""`expunge evaluate`: measure how gone a concept is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.options import as_yaml, dry_run_option, given, model_options, settings_options
from expunge.cli.output import MEASURED
from expunge.cli.patch_name import PatchName
from expunge.cli.protocols import Asked, estimate, print_result, protocol_options, write_tables
from expunge.cli.terminal import echo
from expunge.errors import UserError
from expunge.evaluation import EvaluateSettings

if TYPE_CHECKING:
    from expunge.models.model import Model
    from expunge.models.patch import Patch
    from expunge.models.source import Source
    from expunge.protocols.settings import RunSettings
    from expunge.records import Prompt

EXAMPLES = f"""\b
Examples:
  $ expunge evaluate runs/demo --strata short --strata hands --strata full --attack runs/demo/attack
{MEASURED}\
  evaluation: runs/demo/evaluation/evaluation.json
  next: expunge report runs/demo/evaluation
\b
  $ expunge evaluate runs/nothing
  error: no patch at runs/nothing
    accepted: a folder with patch.safetensors, or a .safetensors file
"""


@click.command("evaluate", epilog=EXAMPLES)
@click.argument("patch", type=PatchName(beside=True), required=False)
@model_options
@settings_options(EvaluateSettings)
@protocol_options
@click.option("--attack", "suite", type=click.Path(path_type=Path), metavar="FOLDER",
              help="What `expunge attack` found on this patch: the verdict then rests on the worst case. "
                   "Of several concepts it is about the one that was attacked.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Where the results go [default: the patch's folder, under evaluation].")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Drawn images [default: $EXPUNGE_CACHE, or ~/.cache/expunge/pictures].")
@dry_run_option
def command(patch: Path | None, model: Source, device: str, dtype: str, variant: str | None, allow_pickle: bool,
            verify: bool, offload: bool, eight_bit: bool, config: Path | None, sets: tuple[str, ...],
            suite: Path | None, out: Path | None, cache: Path | None, protocol: str, dry_run: bool, **flags: Any
            ) -> None:
    """Measure how gone the concepts of PATCH are and what else changed, with intervals and counts.

    Images and judgments are kept: a run that was stopped goes on where it was, and a second one draws nothing.

    With --protocol it asks what a publication asked: its prompts, sampler, detectors and scores, known by hash. Then
    PATCH may be left out, and the model as it is answers alone.
    """
    from expunge import runtime
    from expunge.cli.output import print_evaluation, tell
    from expunge.cli.progress import progress
    from expunge.evaluation import evaluate
    from expunge.files import folder_beside
    from expunge.models.patch import Patch
    from expunge.models.store import load
    from expunge.records import EVALUATIONS

    asked = Asked.taken(flags)
    own = given(config, sets, flags)
    if protocol:
        own, published = _by_protocol(protocol, own, asked)
        beside = [flag for flag, value in (("--attack", suite), ("--cache", cache)) if value]
        if published is not None and beside:
            raise UserError(f"{' and '.join(beside)} with the published protocol {protocol}",
                            accepted="neither: its result takes in no attacks, and keeps its images with it")
    else:
        asked.check_unused()
        published = None
    if patch is None and published is None:
        raise UserError("no patch", accepted="a patch, or a published --protocol for the model as it is")
    if suite is not None and not suite.exists():
        raise UserError(f"no attacks at {suite}", accepted="a folder of `expunge attack PATCH`")
    loaded = Patch.load(patch) if patch is not None else None
    opened = load(model, device=device, dtype=dtype, variant=variant, allow_pickle=allow_pickle, verify=verify,
                  offload=offload, eight_bit=eight_bit)
    if published is not None:
        _run_protocol(opened, loaded, protocol, asked.files, published,
                      out or (folder_beside(patch, f"protocol-{Path(protocol).stem}") if patch is not None
                              else Path("runs") / f"protocol-{Path(protocol).stem}"), dry_run)
        return
    settings = EvaluateSettings.build(own, str(config) if config else "expunge evaluate")
    assert patch is not None  # told above
    assert loaded is not None
    if dry_run:
        echo(_estimate(opened, loaded, settings, suite))
        return
    folder = out or folder_beside(patch, "evaluation")
    with progress("evaluating") as report:
        evaluation = evaluate(opened, loaded, settings=settings, out=folder, cache=cache, progress=report,
                              suite=suite)
    if not runtime.current().main:
        return
    print_evaluation(evaluation)
    tell("evaluation", folder / EVALUATIONS.name)
    echo(f"next: expunge report {quote(str(folder))}")


def _by_protocol(protocol: str, own: dict[str, Any], asked: Asked) -> tuple[dict[str, Any], RunSettings | None]:
    """Settings of the product's own evaluation that a paired protocol fixes; or of a published protocol's run."""
    from expunge.config import merged
    from expunge.protocols.schema import read_protocol

    read = read_protocol(protocol)
    if read.kind == "published":
        return own, asked.settings(own)
    asked.check_unused(protocol)
    return merged(read.evaluation(), own), None


def _run_protocol(model: Model, patch: Patch | None, protocol: str, files: Sequence[str], settings: RunSettings,
                  folder: Path, dry_run: bool) -> None:
    from expunge import runtime
    from expunge.cli.output import tell
    from expunge.cli.progress import progress
    from expunge.protocols.artefacts import parse_files
    from expunge.protocols.result import RESULT
    from expunge.protocols.run import run_protocol
    from expunge.protocols.schema import read_protocol

    if dry_run:
        echo(estimate(model, patch, protocol, files, settings))
        return
    with progress("evaluating") as report:
        result = run_protocol(model, read_protocol(protocol), patch, files=parse_files(files), settings=settings,
                              out=folder, progress=report)
    if not runtime.current().main:
        return
    write_tables(result, folder)
    print_result(result)
    tell("protocol", folder / RESULT)


def _estimate(model: Model, patch: Patch, settings: EvaluateSettings, suite: Path | None) -> str:
    """The settings as YAML (a `--config` file of the same run), and what drawing takes at the model's speed."""
    from expunge import runtime
    from expunge.cli.progress import span
    from expunge.detectors.choosing import world_for
    from expunge.evaluation.plan import drawable, lost_words, picture_count
    from expunge.evaluation.run import rehearsed
    from expunge.metrics.brought import list_remarks
    from expunge.models.speed import drawing_speed

    asked, tools = rehearsed(model, patch, settings, suite=suite)
    prompts, lost = drawable(model, asked, tools.aims, settings)
    pictures = picture_count(prompts, settings)
    sampler = settings.sampler(model)
    seconds = drawing_speed(model, sampler, settings.batch).picture(sampler) * pictures
    values = {**settings.model_dump(mode="json"), "counts": settings.counts.model_dump(exclude_unset=True)}
    lines = [as_yaml(values).rstrip(),  # a count that was not set limits nothing
             *(f"# {line}" for line in planned_words(prompts, settings))]
    world = world_for(model.world, model.name, settings)
    lines += [f"# prompts: {remark}" for remark in (*list_remarks(world.prompts, patch.card.request),
                                                    *lost_words(prompts, lost, 0))]
    memory = runtime.peak_memory(model.device)
    lines.append(f"# estimate: {span(seconds)} of drawing"
                 + (f", {memory / 2**30:.1f} GiB of memory" if memory else ""))
    return "\n".join(lines)


def planned_words(prompts: Sequence[Prompt], settings: EvaluateSettings) -> list[str]:
    """How many images an evaluation draws, and which, in two lines."""
    from expunge.evaluation.plan import picture_counts
    from expunge.records import counted

    each, again = picture_counts(prompts, settings)
    other = "" if each == len(prompts) * settings.seeds else \
        " (some prompts are drawn at other seeds: a list's own, or more where there are few wordings)"
    return [f"{counted(len(prompts), 'prompts')} at {counted(settings.seeds, 'seeds')}: "
            f"{counted(2 * each + again, 'images')}, if none is in the cache",
            f"  {each} with each of the two models, {again} of the original's once more in other batches{other}"]
