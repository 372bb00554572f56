"""`expunge guard`: which tensors stay frozen when others fine-tune a model, and whether they did."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.freezing import learning_estimate, print_mask, print_savings, print_verification, publisher_of
from expunge.cli.lists import Name, Sentence
from expunge.cli.options import dry_run_option, given, model_options_of
from expunge.cli.patch_name import PatchName
from expunge.cli.terminal import echo

if TYPE_CHECKING:
    from expunge.models.model import Model
    from expunge.models.source import Source

EXAMPLES = """\b
Examples:
  $ expunge guard learn --forbidden blorp --innocent mofuu --ratio 0.5 --out runs/guard
  frozen: [...]
  mask: runs/guard/mask.json
  next: expunge guard apply runs/guard
\b
  $ expunge guard verify runs/guard returned/unet
  [...] frozen tensors are as they were published
"""
LEARN = """\b
Examples:
  $ expunge guard learn --forbidden blorp --innocent mofuu --ratio 0.5 --out runs/guard
  frozen: [...]
  mask: runs/guard/mask.json
  next: expunge guard apply runs/guard
\b
  $ expunge guard learn --forbidden blorp --innocent mofuu --ratio 1.5
  error: a ratio of 1.5
    accepted: 0 (nothing is frozen) to 1 (everything)
"""
APPLY = """\b
Examples:
  $ expunge guard apply runs/guard
  frozen: [...]
  users save about [...]
  terms: runs/guard/terms.json
\b
  $ expunge guard apply runs/guard --lora-config adapter_config.json
  error: a LoRA on [...] frozen layers [...]
"""
VERIFY = """\b
Examples:
  $ expunge guard verify runs/guard returned/unet
  [...] frozen tensors are as they were published
\b
  $ expunge guard verify runs/guard somebodys-lora.safetensors
  broken: [...]
"""


@click.group("guard", epilog=EXAMPLES)
def command() -> None:
    """Freeze a part of a model where others fine-tune it: learn a mask, apply it, verify what comes back.

    It is a policy that a platform can enforce and verify, not a lock on open weights: whoever holds the weights can
    train every tensor again.
    """


def _patch_option(function: Any) -> Any:
    return click.option("--patch", type=PatchName(), metavar="PATCH",
                        help="Edit that is on the published model.")(function)


@command.command("learn", epilog=LEARN)
@click.option("--forbidden", multiple=True, type=Name(), metavar="NAME|FOLDER",
              help="What must not be learned: an invented character, or a folder of images with "
                   "captions. May be repeated.")
@click.option("--innocent", multiple=True, type=Name(), metavar="NAME|FOLDER",
              help="What users may go on to learn, in the same form. May be repeated.")
@click.option("--caption", default="", metavar="TEXT", help="Caption of images that have none of their own.")
@click.option("--drawings", "--pictures", "pictures", type=click.IntRange(min=1), default=16, show_default=True,
              metavar="INTEGER", help="Images of each character.")
@click.option("--prior", multiple=True, type=Sentence(), metavar="PROMPT",
              help="Prompt whose images users of DreamBooth hold on to (drawn by the model, as many as --drawings). "
                   "May be repeated.")
@click.option("--preset", default="projected", show_default=True, metavar="NAME",
              help="projected, saliency (one shot, cheap), released (as published), or "
                   "random (the baseline, which takes no images).")
@click.option("--ratio", type=float, metavar="NUMBER", help="Share that is frozen [default: the preset's].")
@click.option("--share-of", "--by", "by", type=click.Choice(["numel", "count"]),
              help="What it is a share of: parameters, or tensors [default: the preset's].")
@click.option("--granularity", type=click.Choice(["tensor", "module", "block"]),
              help="What is frozen together [default: the preset's].")
@click.option("--seed", default=0, show_default=True, metavar="INTEGER",
              help="Decides every random draw.")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="YAML or TOML file of the learner's settings; flags win over it.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE",
              help="Any setting of the learner by its dotted key, such as users.adamw.learning_rate=1e-5. "
                   "May be repeated.")
@model_options_of("--model", "--device", "--variant", "--allow-pickle")
@_patch_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("runs/guard"), show_default=True,
              metavar="FOLDER", help="Where the mask goes; a run that was stopped goes on from there.")
@dry_run_option
def learn(forbidden: tuple[str, ...], innocent: tuple[str, ...], caption: str, pictures: int, prior: tuple[str, ...],
          preset: str, ratio: float | None, by: str | None, granularity: str | None, seed: int, config: Path | None,
          sets: tuple[str, ...], model: Source, device: str, variant: str | None, allow_pickle: bool,
          patch: Path | None, out: Path, dry_run: bool) -> None:
    """Learn which tensors to freeze, so that forbidden images are harder to learn and innocent ones less so.

    How far that goes depends on how much the two differ. On invented characters no difference between what forbidden
    and what innocent users lost could be told from 0 (docs/guard.md). Users are simulated: each fine-tunes on half of
    the images of one thing, and the mask is judged on the other half.
    """
    from expunge.cli.output import tell
    from expunge.cli.progress import progress
    from expunge.config import merged
    from expunge.errors import UserError
    from expunge.guard import PRESETS, check_learning, learn_mask, random_mask, resolve, save_mask
    from expunge.guard.learn import check_free
    from expunge.guard.mask import groups_of
    from expunge.guard.ratio import check_ratio
    from expunge.guard.released import Released
    from expunge.locks import alone
    from expunge.models.store import load

    flags = {"ratio": ratio, "by": by, "granularity": granularity}
    chosen = {name: value for name, value in flags.items() if value is not None}
    settings = merged(given(config, (), {}), chosen, given(None, sets, {}))
    if preset not in (*PRESETS, "random"):
        raise UserError(f"unknown preset {preset!r}", accepted=", ".join((*PRESETS, "random")))
    asked = {"--forbidden": forbidden, "--innocent": innocent, "--caption": caption, "--prior": prior}
    if preset == "random":
        passed_over = [name for name, value in asked.items() if value] + sorted(settings.keys() - flags.keys())
        if passed_over:
            raise click.UsageError(f"a random mask is not learned: it has no use for {', '.join(passed_over)}")
    else:
        for name in ("--forbidden", "--innocent"):
            if not asked[name]:
                raise click.UsageError(f"Missing option '{name}'.")
        if caption and not any(Path(name).is_dir() for name in (*forbidden, *innocent)):
            raise click.UsageError("--caption: characters by name have captions of their own")
    learner = resolve("projected" if preset == "random" else preset, settings)
    if prior and (isinstance(learner, Released) or "dreambooth" not in learner.users.kinds):
        raise click.UsageError("--prior: no simulated user holds on to images (users.kinds dreambooth does)")
    opened = load(model, device=device, variant=variant, allow_pickle=allow_pickle, verify=True)
    check_ratio(learner.ratio, groups_of(opened, learner.granularity), learner.by)
    with _patched(opened, patch):
        if preset == "random":
            mask = random_mask(opened, learner.ratio, seed, by=learner.by, granularity=learner.granularity)
            if not dry_run:
                with alone(out):
                    check_free(out, mask)
                    save_mask(out, mask)
        else:
            publisher = publisher_of(opened, forbidden, innocent, caption, pictures, prior)
            check_learning(opened, publisher, learner, seed)
            if dry_run:
                echo(learning_estimate(opened, publisher, preset, settings, seed))
                return
            with progress("learning a mask") as report:
                mask = learn_mask(opened, publisher, preset, settings=settings, seed=seed, out=out, progress=report)
    print_mask(mask)
    if not dry_run:
        tell("mask", out / "mask.json")
        echo(f"next: expunge guard apply {quote(str(out))}"
                   + "".join(f" {quote(word)}" for word in model.flags))


@command.command("apply", epilog=APPLY)
@click.argument("mask", type=click.Path(path_type=Path))
@model_options_of("--model", "--device", "--variant", "--allow-pickle")
@_patch_option
@click.option("--lora-config", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="A user's adapter_config.json: refused if it would change a frozen tensor.")
@click.option("--lora-target", "targets", multiple=True, type=Name(), metavar="NAME",
              help="End of the names of layers that a LoRA goes on [default: to_q, to_k, to_v, to_out.0]. May be "
                   "repeated.")
@click.option("--positions", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Also write the published text format: 0.0 or 1.0 per tensor, in the order of unet.parameters().")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Where the terms go [default: terms.json beside the mask].")
def apply(mask: Path, model: Source, device: str, variant: str | None, allow_pickle: bool, patch: Path | None,
          lora_config: Path | None, targets: tuple[str, ...], positions: Path | None, out: Path | None) -> None:
    """Write the terms of training for MASK: names to freeze, names for the optimizer, layers for a LoRA, savings.

    A training service needs no more: it gives its optimizer the parameters in `trainable`, and peft the layers in
    `lora_targets`. In one's own loop `expunge.guard.guarded` does it and watches. The model itself is not changed: a
    saved pipeline has no place for a mask, and any program would ignore it.
    """
    from expunge.cli.output import tell
    from expunge.files import folder_beside, write_json
    from expunge.guard import check_lora, export_positions, load_mask, read_lora_config, terms
    from expunge.models.lora import Lora
    from expunge.models.store import load

    if lora_config is not None and targets:
        raise click.UsageError("--lora-target and --lora-config: give one of the two")
    asked = read_lora_config(lora_config) if lora_config is not None else None
    loaded = load_mask(mask)
    opened = load(model, device=device, variant=variant, allow_pickle=allow_pickle, verify=True)
    with _patched(opened, patch):
        layers = check_lora(opened, loaded, asked) if asked is not None else targets
        made = terms(opened, loaded, layers or Lora().targets)
        if positions is not None:
            export_positions(positions, loaded, opened)
    file = out or folder_beside(mask, "terms.json")
    write_json(file, made.model_dump(mode="json"))
    print_mask(loaded)
    print_savings(made.savings)
    echo(f"layers for a LoRA: {len(made.lora_targets)}")
    if positions is not None:
        tell("positions", positions)
    tell("terms", file)


@command.command("verify", epilog=VERIFY)
@click.argument("mask", type=click.Path(path_type=Path))
@click.argument("returned", type=click.Path(path_type=Path))
@model_options_of("--model", "--device", "--variant", "--allow-pickle")
@_patch_option
@click.option("--json", "as_json", is_flag=True, help="The whole record as JSON.")
def verify(mask: Path, returned: Path, model: Source, device: str, variant: str | None, allow_pickle: bool,
           patch: Path | None, as_json: bool) -> int:
    """Compare the RETURNED model with the published one (--model) and name every tensor that moved.

    RETURNED is a diffusers folder, its UNet's, or a .safetensors file of a UNet or of a LoRA. Ends with code 1 if a
    tensor that MASK holds moved, is missing, or has an adapter on it; if tensors were added, or the architecture is
    another. More than one set of weights in a folder is refused.
    """
    from expunge.guard import load_mask
    from expunge.guard import verify as compare
    from expunge.models.store import load

    loaded = load_mask(mask)
    opened = load(model, device=device, variant=variant, allow_pickle=allow_pickle, verify=True)
    with _patched(opened, patch):
        found = compare(opened, returned, loaded)
    if as_json:
        echo(found.model_dump_json(indent=2))
    else:
        print_verification(found)
    return 1 if found.broken else 0


def _patched(model: Model, patch: Path | None) -> Any:
    """The patch is on inside, where there is one."""
    from expunge.models.model import applied
    from expunge.models.patch import Patch

    return applied(model, Patch.load(patch)) if patch else nullcontext()
