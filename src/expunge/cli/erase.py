"""`expunge erase`: take a concept out of a model."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import click
from pydantic import BeforeValidator, model_validator
from typing_extensions import Self

from expunge.cli.lists import Name
from expunge.cli.options import as_yaml, dry_run_option, given, model_options, settings_options
from expunge.cli.terminal import echo
from expunge.config import Settings, knob
from expunge.errors import ConfigError, ExpungeError, UserError
from expunge.unlearn.recipe import Recipe

if TYPE_CHECKING:
    from expunge.models.model import Model
    from expunge.models.source import Source
    from expunge.records import Origin, PatchCard, Request

EXAMPLES = """\b
Examples:
  $ expunge erase church --method esd-fast --out runs/church
  patch: runs/church/patch.safetensors
  anchor: house takes the place of church (found: closest to the text encoder, 0.08; --anchor "" for none)
  looked: church in 0 of 12 images by emoji-judge@6b69c99f
  next: expunge evaluate runs/church
\b
  $ expunge erase church bomb --anchor house
  error: 1 anchor for 2 concepts
    accepted: one anchor for each concept, in their order ('' for nothing in particular), or none
"""


Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
"""Names; a file may hold a single one as plain text."""


class EraseJob(Settings):
    """What a run of `expunge erase` is asked to do; a `--config` file holds these keys."""

    concept: Names = knob((), "What to take out: a name, or several")
    method: str = knob("esd", "How: see `expunge ls methods`")
    anchor: Names = knob((), "What takes its place; with several concepts one for each, in their order. '' is nothing "
                             "in particular. Where none is named, the -fast methods and those that need one find the "
                             "closest thing of its kind")
    keep: tuple[str, ...] = knob((), "What must stay.")
    kind: Literal["", "object", "style", "person", "explicit", "action"] = knob(
        "", "What the concept is; guessed from its name if empty")
    only_with: str = knob("", "Takes the concept out only together with this (a style, a thing); each stays without "
                              "the other.")
    train_prompts: str = knob("", "File of prompts of your own that ask for it, in place of the made ones: one a "
                                  "line, or a list as --prompts of evaluate takes it; what is to keep is left out")
    seed: int = knob(0, "Decides every random draw", ge=0)
    requested_by: str = knob("", "Who asked for it; stands in the patch's card, as the next three do")
    legal_basis: str = knob("", "What the request rests on, or where that is written down")
    requested_on: datetime.date | None = knob(None, "The day on which it was asked, such as 2026-05-01")
    due_on: datetime.date | None = knob(None, "The day by which it is to be met")
    settings: dict[str, Any] = knob({}, "The method's own settings")

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        if self.due_on is not None and self.requested_on is not None and self.due_on < self.requested_on:
            raise ValueError(f"due on {self.due_on}, before it was requested on {self.requested_on}")
        return self

    def as_file(self) -> dict[str, Any]:
        """The keys of a `--config` file; what is a single name is written as one."""
        values = self.model_dump(mode="json")
        return {key: (value or [""])[0] if key in ("concept", "anchor") and len(value) < 2 else value
                for key, value in values.items() if value or key not in _LEFT_OPEN}

    @property
    def origin(self) -> Origin | None:
        """Where the request comes from; None where nothing is said of that."""
        from expunge.records import Origin

        told = Origin(who=self.requested_by, when=self.requested_on, evidence=self.legal_basis, due=self.due_on)
        return told if told.facts else None


_LEFT_OPEN = ("kind", "only_with", "train_prompts", "requested_by", "legal_basis", "requested_on", "due_on")
"""Keys that a file leaves out where they say nothing."""


@click.command("erase", epilog=EXAMPLES)
@click.argument("concept", nargs=-1, type=Name())
@model_options
@settings_options(EraseJob, leave_out=("concept",))
@settings_options(Recipe, leave_out=("name",), files=False, whose="the method's; of esd ")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Where the patch goes; a run that was stopped goes on from there [default: runs/CONCEPT, of several "
                   "runs/CONCEPT-CONCEPT].")
@click.option("--own-look/--no-own-look", default=True, show_default=True,
              help="Draw a dozen images afterwards (without a judge: compare outputs), and say if the concept is "
                   "still there.")
@click.option("--strict", is_flag=True,
              help="Exit with code 3 where the edit's own look finds a concept still there; the patch is written.")
@dry_run_option
def command(concept: tuple[str, ...], model: Source, device: str, dtype: str, variant: str | None, allow_pickle: bool,
            verify: bool, offload: bool, eight_bit: bool, config: Path | None, sets: tuple[str, ...],
            out: Path | None, own_look: bool, strict: bool, dry_run: bool, **flags: Any) -> None:
    """Take CONCEPT (or several, in one edit) out of a model; the result is a patch, the model stays as it was.

    The method's settings that have no flag (parts such as the objective) are reached by --set, which speaks of the
    method's settings, as the key `settings` of a --config file does. --dry-run shows them all; it runs a few real
    steps, which it undoes, and says by them what a run takes.
    """
    if strict and not own_look:
        raise UserError("--strict with --no-own-look", accepted="--strict with the edit's own look, which it goes by")
    job = _job(concept, config, sets, flags)
    from expunge.cli.next import evaluate_next
    from expunge.cli.output import STILL_THERE, not_looked, some, still_there, tell
    from expunge.cli.progress import progress
    from expunge.models.paths import left_open
    from expunge.models.store import load
    from expunge.records import remarks
    from expunge.unlearn.erase import erase, plan, resolve_method, resolve_request

    opened = load(model, device=device, dtype=dtype, variant=variant, allow_pickle=allow_pickle, verify=verify,
                  offload=offload, eight_bit=eight_bit)
    how: dict[str, Any] = {"kind": job.kind, "only_with": job.only_with}
    request = resolve_request(opened, job.concept, job.anchor, job.keep, **how)
    notices: tuple[str, ...] = ()
    if job.train_prompts:
        how["prompts"], notices = _own_prompts(Path(job.train_prompts), request, opened)
        request = resolve_request(opened, job.concept, job.anchor, job.keep, **how)
    asked = {**how, "anchor": job.anchor or None, "keep": job.keep, "settings": job.settings, "seed": job.seed}
    if dry_run:
        echo(_estimate(job, plan(opened, job.concept, job.method, **asked)))
        method = resolve_method(job.method, job.settings, opened)
        around = left_open(opened, opened.parameters_in(method.scope)) if hasattr(method, "scope") else ""
        echo("".join(f"# {line}\n" for line in (*notices, *remarks(request), *filter(None, [around]))), nl=False)
        return
    folder = out or patch_folder(request.concepts, Path("runs"))
    with progress(f"erasing {some(request.concepts)}") as report:
        patch = erase(opened, job.concept, job.method, **asked, out=folder, progress=report, own_look=own_look,
                      origin=job.origin)
    card = patch.card
    warnings = [*still_there(card), *(not_looked(card, folder) if strict else ())]
    for line in warnings:
        echo(line)
    for line in (*notices, *remarks(request)):
        echo(f"understood: {line}")
    if card.left_out:
        echo(f"left out: {some([f'{thing} ({why})' for thing, why in card.left_out.items()])}; all in the patch")
    tell("patch", folder / "patch.safetensors")
    for line in (*_notes(card), *filter(None, [left_open(opened, patch.weights)])):
        echo(line)
    for line in evaluate_next(folder, model, opened.world, variant):
        echo(line)
    if strict and warnings:
        raise click.exceptions.Exit(STILL_THERE)


def _own_prompts(file: Path, request: Request, model: Model) -> tuple[Any, tuple[str, ...]]:
    """The prompts of --train-prompts, and how they were read."""
    from expunge.metrics.training_lists import training_list
    from expunge.records import names_target, with_prompts

    targets, reader = {target.concept: target for target in request.targets}, model.texts[0].reader
    own = training_list(file, request.concepts, lambda text, concept: names_target(text, targets[concept], reader))
    try:
        with_prompts(request, own.prompts, reader)
    except UserError as error:  # which knows of texts, and of no file
        raise UserError(f"{file}: {error.got}", error.accepted, error.remedy) from error
    return own.prompts, own.notices


def _notes(card: PatchCard) -> list[str]:
    """What was chosen for the user, and what the edit saw when it looked at itself."""
    anchors = [f"anchor: {target.anchor} takes the place of {target.concept} (found: closest to the text encoder, "
               f'{card.chosen[target.concept]:.2f}; --anchor "" for none)'
               for target in card.request.targets if target.concept in card.chosen]
    gone = [one.words for one in card.look if not one.still]
    if card.request.keep and not card.keeps:
        anchors.append(f"keep: {card.method} makes no use of what it is asked to keep; `expunge ls methods --long` "
                       "says which methods do")
    return [*anchors, *([f"looked: {'; '.join(gone)}"] if gone else [])]


def patch_folder(concepts: tuple[str, ...], runs: Path) -> Path:
    """The folder in `runs` of a patch that takes out `concepts`; that of an earlier version, if this edit is in it."""
    from expunge.files import readable, text_digest
    from expunge.models.patch import Patch

    name, whole = folder_name(concepts), "-".join(map(readable, concepts))
    before = whole if len(concepts) == 1 or len(whole) <= 40 else f"{whole[:31]}-{text_digest(whole)[:8]}"
    if before == name or (runs / name).exists() or not (runs / before).is_dir():
        return runs / name
    try:
        known = Patch.load(runs / before).card.request.concepts == concepts
    except ExpungeError:  # not finished: a checkpoint says itself whose it is
        known = not (runs / before / "patch.safetensors").exists()
    return runs / (before if known else name)


def folder_name(concepts: tuple[str, ...]) -> str:
    """The name of a patch's folder; of several concepts, all of their names, or a digest where these do not tell."""
    from expunge.files import readable, slug, text_digest

    if len(concepts) == 1:
        return slug(concepts[0])
    whole = "-".join(map(readable, concepts))
    plain = all(slug(concept) == concept for concept in concepts)  # words without blanks: no dash but those between
    return whole if plain and len(whole) <= 40 else f"{whole[:31].strip('-')}-{text_digest(json.dumps(concepts))[:8]}"


def _job(concept: tuple[str, ...], config: Path | None, sets: tuple[str, ...], flags: dict[str, Any]) -> EraseJob:
    """The job from file and flags; mistakes in the job and in the method's settings are reported together."""
    from expunge.config import merged
    from expunge.records import asked
    from expunge.unlearn.erase import resolve_method

    values = given(config, (), {name: value for name, value in flags.items() if _key(name) in EraseJob.model_fields})
    own = given(None, sets, {name: value for name, value in flags.items() if _key(name) not in EraseJob.model_fields})
    if isinstance(values.get("settings", {}), dict):  # else the schema says what is wrong with it
        values = merged(values, {"settings": own})
        own = values["settings"]
    in_file = values.get("concept", ())
    of_file = (in_file,) if isinstance(in_file, str) else tuple(map(str, in_file)) if isinstance(in_file, list) else ()
    values = merged(values, {"concept": concept} if concept else {})
    mistakes: list[UserError] = []
    if concept and values.get("anchor") and of_file not in ((), concept) and not flags.get("setting__anchor"):
        mistakes.append(UserError(f"{config} has an anchor for {', '.join(of_file)}, and {', '.join(concept)} is to go",
                                  accepted="--anchor for what is named with the command", remedy='"" names none'))
    try:
        job = EraseJob.build(values, str(config) if config else "expunge erase")
        asked(job.concept, job.anchor, () if job.only_with else job.keep, kinds=(job.kind,) * len(job.concept))
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
    settings = {key: value for key, value in planned["settings"].items() if key != "name"}
    anchors = [target["anchor"] for target in (request, *request["also"])]
    anchor = (anchors[0] if len(anchors) == 1 else anchors) if any(anchors) else ""
    lines = [as_yaml({**job.as_file(), "anchor": anchor, "settings": settings}).rstrip()]
    lines += [f"# {words}" for words in planned["chosen"]]
    ask = [f"{len(target['prompts'])} for {target['concept']!r}" for target in (request, *request["also"])]
    lines.append(f"# model: {planned['model']}; prompts ask: {', '.join(ask)}")
    if "trained" in planned:
        trained = planned["trained"]
        lines.append(f"# changes {trained['parameters']:,} parameters in {trained['tensors']} tensors")
        if size := settings.get("size"):
            own = " x ".join(map(str, planned["size"]))
            lines.append(f"# trains at {size} x {size} pixels; the model's own are {own}")
        if texts := planned.get("encoded_texts"):
            lines.append(f"# {texts:,} texts through the text encoder, no UNet sample")
        lines.append(f"# estimate: {span(planned['seconds'])}"
                     + (f", {planned['memory_bytes'] / 2**30:.1f} GiB of memory" if planned["memory_bytes"] else "")
                     + f" (measured on {planned['measured']})")
        if parts := planned.get("memory"):
            mib = lambda sizes: ", ".join(f"{name} {size / 2**20:,.0f}" for name, size in sizes.items() if size)
            phases = planned["phases"]
            lines.append(f"# memory while it trains, counted, in MiB: {mib(parts)}; in all "
                         f"{sum(parts.values()) / 2**20:,.0f}")
            lines.append(f"# memory by phase, counted, in MiB: {mib(phases)}; at most "
                         f"{max(phases.values()) / 2**20:,.0f}. (The estimate's memory was measured, in the steps that "
                         "were run: of the whole process, libraries and all that it held before included)")
    else:
        lines.append(f"# {planned['note']}")
    return "\n".join(lines)
