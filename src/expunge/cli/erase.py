"""`expunge erase`: take a concept out of a model."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

import click

from expunge.cli.options import as_yaml, dry_run_option, given, model_options, settings_options
from expunge.config import Settings, knob
from expunge.errors import ConfigError, UserError
from expunge.unlearn.recipe import Recipe

EXAMPLES = """\b
Examples:
  $ expunge erase church --method esd-fast --out runs/church
  patch: runs/church/patch.safetensors
  next: expunge evaluate runs/church
\b
  $ expunge erase church --keep church
  error: 'church' is to be unlearned and to be kept ('church')
    accepted: one of the two
    take it out of the things to keep
"""


class EraseJob(Settings):
    """What a run of `expunge erase` is asked to do; a `--config` file holds these keys."""

    concept: str = knob("", "What to take out")
    method: str = knob("esd", "How: see `expunge ls methods`")
    anchor: str = knob("", "What takes its place; nothing in particular if empty")
    keep: tuple[str, ...] = knob((), "What must stay.")
    seed: int = knob(0, "Decides every random draw", ge=0)
    settings: dict[str, Any] = knob({}, "The method's own settings")


@click.command("erase", epilog=EXAMPLES)
@click.argument("concept", required=False)
@model_options
@settings_options(EraseJob, leave_out=("concept",))
@settings_options(Recipe, leave_out=("name",), files=False)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Where the patch goes; a run that was stopped goes on from there [default: runs/CONCEPT].")
@dry_run_option
def command(concept: str | None, model: str, device: str, dtype: str, allow_pickle: bool, config: Path | None,
            sets: tuple[str, ...], out: Path | None, dry_run: bool, **flags: Any) -> None:
    """Take CONCEPT out of a model; the result is a patch, and the model itself stays as it was.

    The method's settings that have no flag (parts such as the objective) are reached by --set, which speaks of the
    method's settings, as the key `settings` of a --config file does. --dry-run shows them all.
    """
    job = _job(concept, config, sets, flags)
    from expunge.cli.output import slug, tell
    from expunge.cli.progress import progress
    from expunge.models.store import load
    from expunge.unlearn.erase import erase, plan

    opened = load(model, device=device, dtype=dtype, allow_pickle=allow_pickle)
    asked: dict[str, Any] = {"anchor": job.anchor, "keep": job.keep, "settings": job.settings, "seed": job.seed}
    if dry_run:
        click.echo(_estimate(job, plan(opened, job.concept, job.method, **asked)))
        return
    folder = out or Path("runs") / slug(job.concept)
    with progress(f"erasing {job.concept}") as report:
        erase(opened, job.concept, job.method, **asked, out=folder, progress=report)
    tell("patch", folder / "patch.safetensors")
    click.echo(f"next: expunge evaluate {quote(str(folder))}"
               + (f" --model {quote(model)}" if model != "embedded" else ""))


def _job(concept: str | None, config: Path | None, sets: tuple[str, ...], flags: dict[str, Any]) -> EraseJob:
    """The job from file and flags; mistakes in the job and in the method's settings are reported together."""
    from expunge.config import merged
    from expunge.unlearn.erase import check_words, resolve_method

    values = given(config, (), {name: value for name, value in flags.items() if _key(name) in EraseJob.model_fields})
    own = given(None, sets, {name: value for name, value in flags.items() if _key(name) not in EraseJob.model_fields})
    if isinstance(values.get("settings", {}), dict):  # else the schema says what is wrong with it
        values = merged(values, {"settings": own})
        own = values["settings"]
    values = merged(values, {"concept": concept} if concept is not None else {})
    mistakes: list[UserError] = []
    try:
        job = EraseJob.build(values, str(config) if config else "expunge erase")
        check_words(job.concept, job.anchor, job.keep)
    except UserError as error:
        mistakes.append(error)
    try:
        resolve_method(str(values.get("method", "esd")), own)
    except UserError as error:
        mistakes.append(error)
    if len(mistakes) > 1:
        raise ConfigError("; ".join(map(str, mistakes)))
    if mistakes:
        raise mistakes[0]
    return job


def _key(flag: str) -> str:
    return flag.removeprefix("setting__")


def _estimate(job: EraseJob, planned: dict[str, Any]) -> str:
    """The plan as YAML (a `--config` file of the same run), its cost as comments."""
    from expunge.cli.progress import span

    request = planned["request"]
    settings = {key: value for key, value in planned["settings"].items() if key not in ("name", "adversary")}
    lines = [as_yaml({**job.model_dump(mode="json"), "settings": settings}).rstrip()]
    lines.append(f"# model: {planned['model']}; {len(request['prompts'])} prompts ask for {request['concept']!r}")
    if "trained" in planned:
        trained, samples = planned["trained"], planned["unet_samples"]
        lines.append(f"# trains {trained['parameters']:,} parameters in {trained['tensors']} tensors")
        lines.append(f"# {samples['frozen']:,} UNet samples without gradient, {samples['trained']:,} with")
        lines.append(f"# estimate: {span(planned['seconds'])}"
                     + (f", {planned['memory_bytes'] / 2**30:.1f} GiB of memory" if planned["memory_bytes"] else ""))
    else:
        lines.append(f"# {planned['note']}")
    return "\n".join(lines)
