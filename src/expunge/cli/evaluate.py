"""`expunge evaluate`: measure how gone a concept is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.options import as_yaml, dry_run_option, given, model_options, settings_options
from expunge.evaluation import EvaluateSettings

if TYPE_CHECKING:
    from expunge.models.patch import Patch
    from expunge.models.sd import StableDiffusion

EXAMPLES = """\b
Examples:
  $ expunge evaluate runs/church
  (the verdict in sentences, then the scores)
  evaluation: runs/church/evaluation/evaluation.json
  next: expunge report runs/church/evaluation
\b
  $ expunge evaluate runs/nothing
  error: no patch at runs/nothing
    accepted: a folder with patch.safetensors, or a .safetensors file
"""


@click.command("evaluate", epilog=EXAMPLES)
@click.argument("patch", type=click.Path(path_type=Path))
@model_options
@settings_options(EvaluateSettings)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Where the results go [default: the patch's folder, under evaluation].")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Drawn pictures [default: $EXPUNGE_CACHE, or ~/.cache/expunge/pictures].")
@dry_run_option
def command(patch: Path, model: str, device: str, dtype: str, allow_pickle: bool, config: Path | None,
            sets: tuple[str, ...], out: Path | None, cache: Path | None, dry_run: bool, **flags: Any) -> None:
    """Measure how gone the concept of PATCH is and what else changed, with intervals and counts.

    Pictures and judgments are kept: a run that was stopped goes on where it was, and a second one draws nothing.
    """
    from expunge.cli.output import print_evaluation, tell
    from expunge.cli.progress import progress
    from expunge.evaluation import evaluate
    from expunge.models.patch import Patch
    from expunge.models.store import load

    settings = EvaluateSettings.build(given(config, sets, flags), str(config) if config else "expunge evaluate")
    loaded = Patch.load(patch)
    opened = load(model, device=device, dtype=dtype, allow_pickle=allow_pickle)
    if dry_run:
        click.echo(_estimate(opened, loaded, settings))
        return
    folder = out or (patch if patch.is_dir() else patch.parent) / "evaluation"
    with progress("evaluating") as report:
        evaluation = evaluate(opened, loaded, settings=settings, out=folder, cache=cache, progress=report)
    print_evaluation(evaluation)
    tell("evaluation", folder / "evaluation.json")
    click.echo(f"next: expunge report {folder}")


def _estimate(model: StableDiffusion, patch: Patch, settings: EvaluateSettings) -> str:
    """The settings as YAML (a `--config` file of the same run), and what drawing takes, measured on one batch."""
    import time

    from expunge import runtime
    from expunge.cli.progress import span
    from expunge.evaluation import picture_count, planned_prompts, world_of
    from expunge.models.sample import draw

    prompts = planned_prompts(world_of(model, settings), patch.card.request, settings)
    pictures = picture_count(prompts, settings)
    items = [(prompt, 0) for prompt in prompts[:settings.batch]]
    began = time.monotonic()
    draw(model, items, settings.sampler, batch=settings.batch)
    seconds = (time.monotonic() - began) / len(items) * pictures
    lines = [as_yaml(settings.model_dump(mode="json")).rstrip(),
             f"# {len(prompts)} prompts at {settings.seeds} seeds: {pictures} pictures, if none is in the cache"]
    memory = runtime.peak_memory()
    lines.append(f"# estimate: {span(seconds)} of drawing"
                 + (f", {memory / 2**30:.1f} GiB of memory" if memory else ""))
    return "\n".join(lines)
