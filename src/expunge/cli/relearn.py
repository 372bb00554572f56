"""`expunge relearn`: how fast fine-tuning brings a concept back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.attacks.settings import RelearnSettings
from expunge.cli.attack import attack_folder
from expunge.cli.lists import one_concept
from expunge.cli.options import as_yaml, dry_run_option, given, settings_options, training_model_options
from expunge.cli.patch_name import PatchName
from expunge.cli.terminal import echo

if TYPE_CHECKING:
    from expunge.models.model import Model
    from expunge.models.source import Source

EXAMPLES = """\b
Examples:
  $ expunge relearn runs/church
  The edited model draws “church” again after [...]
  steps  “church”, edited model  “blorp” (new), edited model  [...]
  [...]
  relearning: runs/church/attack/relearning.json
  next: expunge evaluate runs/church --attack runs/church/attack
\b
  $ expunge relearn --set at=[0]
  error: looks at 0 steps
    accepted: two or more numbers of training steps, such as 0, 10, 100
"""


@click.command("relearn", epilog=EXAMPLES)
@click.argument("patch", type=PatchName(beside=True), required=False)
@click.option("--concept", default="", metavar="NAME",
              help="What is taught [default: what the patch took out]. Needed without a patch, or if that is several.")
@training_model_options
@settings_options(RelearnSettings)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Where everything goes [default: beside the attacks, see `expunge attack`].")
@dry_run_option
def command(patch: Path | None, concept: str, model: Source, device: str, variant: str | None, allow_pickle: bool,
            verify: bool,
            config: Path | None, sets: tuple[str, ...], out: Path | None, dry_run: bool, **flags: Any) -> None:
    """Fine-tune the model edited by PATCH on images of the concept, and count how often it is drawn as it learns.

    Beside that: the same training on the original model, and of an invented thing that no model ever knew, for
    anything can be taught, and what counts is how fast. Where to look, in training steps: --set
    at=[0,10,100]. A run that was stopped goes on where it was.
    """
    from expunge.attacks.relearning import rehearsed, relearn, training_attack
    from expunge.cli.next import evaluate_next
    from expunge.cli.output import print_relearning, tell
    from expunge.cli.progress import progress
    from expunge.models.patch import Patch
    from expunge.models.store import load
    from expunge.records import RELEARNINGS

    settings = RelearnSettings.build(given(config, sets, flags), str(config) if config else "expunge relearn")
    training_attack(settings)
    loaded = Patch.load(patch) if patch else None
    one_concept(concept, loaded.card.request.concepts if loaded else ())
    opened = load(model, device=device, variant=variant, allow_pickle=allow_pickle, verify=verify)
    if dry_run:
        prompts = rehearsed(opened, loaded, concept, settings)[-1]
        count = len(prompts) if settings.count is None else settings.count
        echo(_estimate(opened, settings, count, curves=2 if loaded is None else 3))
        return
    folder = out or attack_folder(patch, loaded, concept)
    with progress("teaching") as report:
        made = relearn(opened, loaded, concept=concept, settings=settings, out=folder,
                       progress=lambda done, total, words: report(done, total, title=words))
    print_relearning(made)
    tell("relearning", folder / RELEARNINGS.name)
    if patch is not None:
        for line in evaluate_next(patch, model, opened.world, variant, attack=folder, like=settings):
            echo(line)


def _estimate(model: Model, settings: RelearnSettings, count: int, curves: int) -> str:
    """The settings as YAML, and what training and looking take, by the denoiser's measured speed."""
    from expunge.attacks.relearning import training_attack
    from expunge.attacks.victim import picture_rows
    from expunge.cli.progress import span
    from expunge.models.speed import drawing_speed

    attack, pictures = training_attack(settings), count * settings.seeds
    sampler = settings.sampler(model)
    per_row = drawing_speed(model, sampler, settings.batch).picture(sampler) / picture_rows(sampler)
    budget = attack.budget(sampler)
    trained = 3 * budget.gradient_steps * attack.tune.batch
    rows = trained + pictures * (budget.network_rows - trained)
    lines = [as_yaml(settings.model_dump(mode="json")).rstrip(),
             f"# at most {curves} curves, each of {budget.gradient_steps} training steps and {budget.images} looks at "
             f"{pictures} images",
             f"# estimate: {span(curves * rows * per_row)} in all"]
    return "\n".join(lines)
