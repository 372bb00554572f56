"""`expunge attack`: what an attacker of a stated strength and budget still gets out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.attacks.settings import AttackSettings
from expunge.cli.lists import Name, one_concept
from expunge.cli.options import as_yaml, dry_run_option, given, model_options, settings_options
from expunge.cli.patch_name import PatchName
from expunge.cli.protocols import Asked, estimate, print_result, protocol_options, write_tables
from expunge.cli.terminal import echo
from expunge.detectors.settings import AskSettings
from expunge.errors import UserError

if TYPE_CHECKING:
    from expunge.models.model import Model
    from expunge.models.patch import Patch
    from expunge.models.source import Source
    from expunge.protocols.settings import RunSettings

EXAMPLES = """\b
Examples:
  $ expunge attack runs/church --tier smoke
  Elicited in [...] items, worst case over 5 attackers [...]
  attack       may                elicited  95% interval  on fresh seeds [...]
  [...]
  attack: runs/church/attack/attack.json
  next: expunge evaluate runs/church --attack runs/church/attack
\b
  $ expunge attack --attacks seed-search
  error: nothing to look for
    accepted: a patch, or a concept
"""


@click.command("attack", epilog=EXAMPLES)
@click.argument("patch", type=PatchName(beside=True), required=False)
@click.option("--concept", default="", metavar="NAME",
              help="What is sought [default: what the patch took out]. Needed without a patch, or if that is several.")
@model_options
@settings_options(AttackSettings)
@protocol_options
@click.option("--case", "cases", type=Name(), multiple=True, metavar="FILE",
              help="A find that was kept: ask it again of PATCH, and make no attack. May be repeated.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Where everything goes [default: the patch's folder, under attack; under attack-NAME if it took "
                   "out several; without a patch runs/attack-NAME].")
@dry_run_option
def command(patch: Path | None, concept: str, model: Source, device: str, dtype: str, variant: str | None,
            allow_pickle: bool, verify: bool, offload: bool, eight_bit: bool,
            config: Path | None, sets: tuple[str, ...], protocol: str, cases: tuple[str, ...], out: Path | None,
            dry_run: bool, **flags: Any) -> None:
    """Attack the model edited by PATCH (or, without one, the model as it is) and count what comes back.

    Cheap attacks come first, and each next one gets only the items still standing. Every success is drawn again with
    fresh seeds. A run that was stopped goes on where it was.

    With --protocol it attacks a published list of prompts as the publication did, and prints the attack success rate by
    its formula. --set options.unlearndiff.steps=10 changes the attack's budget, which is told as a deviation.

    With --case it draws texts that were found before (`expunge ui` keeps them), each at its own seed as it was drawn
    then, and those that come back with fresh seeds, too. It takes --fresh and who judges, and no other setting.
    """
    from expunge import runtime
    from expunge.attacks.suite import attack
    from expunge.cli.next import evaluate_next
    from expunge.cli.output import print_suite, tell
    from expunge.cli.progress import progress
    from expunge.models.patch import Patch
    from expunge.models.store import load
    from expunge.records import SUITE_RESULTS

    asked = Asked.taken(flags)
    own = given(config, sets, flags)
    if not protocol:
        asked.check_unused()
    budget = own.pop("options", {}) if protocol else {}
    published = asked.settings(own) if protocol else None
    settings = AttackSettings.build({} if protocol else own, str(config) if config else "expunge attack")
    loaded = Patch.load(patch) if patch else None
    if published is None:
        one_concept(concept, loaded.card.request.concepts if loaded else ())
    if cases:
        _check_cases(loaded, protocol, dry_run, concept, own)
    opened = load(model, device=device, dtype=dtype, variant=variant, allow_pickle=allow_pickle, verify=verify,
                  offload=offload, eight_bit=eight_bit)
    if cases and loaded is not None and patch is not None:
        _ask_cases(opened, patch, loaded, cases, settings, out)
        return
    if published is not None:
        where = out or (patch or Path("runs")) / f"attack-{Path(protocol).stem}"
        _run_protocol(opened, loaded, protocol, asked.files, published, budget, where, dry_run)
        return
    if dry_run:
        echo(_estimate(opened, loaded, concept, settings))
        return
    folder = out or attack_folder(patch, loaded, concept)
    with progress("attacking") as report:
        suite = attack(opened, loaded, concept=concept, settings=settings, out=folder,
                       progress=lambda done, total, name: report(done, total, title=f"attack {name}"))
    if not runtime.current().main:
        return
    print_suite(suite)
    tell("attack", folder / SUITE_RESULTS.name)
    if patch is not None:
        for line in evaluate_next(patch, model, opened.world, variant, attack=folder, like=settings):
            echo(line)


def _check_cases(patch: Patch | None, protocol: str, dry_run: bool, concept: str, given: Mapping[str, Any]) -> None:
    """UserError: what makes no sense beside --case, or would go unused."""
    if patch is None or protocol or dry_run:
        raise UserError("--case without a patch, or with --protocol or --dry-run", accepted="--case with PATCH")
    taken = ("fresh", *AskSettings.model_fields)
    others = [*(["concept"] if concept else []), *(name for name in given if name not in taken)]
    if others:
        raise UserError(f"{', '.join(others)} with --case, which makes no attack", accepted=", ".join(taken),
                        remedy="leave them out: a case says what is sought and how it is drawn")


def _ask_cases(model: Model, path: Path, patch: Patch, files: Sequence[str], settings: AttackSettings,
               out: Path | None) -> None:
    from expunge.attacks.cases import read_case, recheck
    from expunge.cli.output import tell
    from expunge.detectors.choosing import world_for
    from expunge.records.stored import CASES

    cases = [read_case(Path(file)) for file in files]
    concepts = list(dict.fromkeys(case.concept for case in cases))
    if out is None and patch.card.request.also and len(concepts) > 1:
        raise UserError(f"cases of {' and '.join(concepts)}, whose results have folders of their own",
                        accepted="cases of one concept at a time, or --out FOLDER")
    folder = out or attack_folder(path, patch, concepts[0])
    world = world_for(model.world, model.name, settings)
    made = recheck(model, patch, cases, world, fresh=settings.fresh, out=folder)
    for one in made:
        echo(f"{one.words}: {one.case.text!r} at seed {one.case.seed}")
        for sentence in one.differs:
            echo(f"  {sentence}")
    echo(f"{sum(one.back for one in made)} of {len(made)} cases come back")
    tell("cases", folder / CASES.name)


def _run_protocol(model: Model, patch: Patch | None, protocol: str, files: Sequence[str], settings: RunSettings,
                  budget: dict[str, Any], folder: Path, dry_run: bool) -> None:
    from expunge import runtime
    from expunge.cli.output import tell
    from expunge.cli.progress import progress
    from expunge.protocols.artefacts import parse_files
    from expunge.protocols.attacked import attack_protocol
    from expunge.protocols.result import RESULT
    from expunge.protocols.schema import read_protocol

    if dry_run:
        echo(estimate(model, patch, protocol, files, settings))
        return
    read = read_protocol(protocol)
    own = budget.pop(str(read.attack.get("name", "")), {})
    if budget:
        raise UserError(f"options for {', '.join(budget)}, which the protocol does not make",
                        accepted=str(read.attack.get("name", "none: the protocol has no attack")))
    with progress("attacking") as report:
        result = attack_protocol(model, read, patch, files=parse_files(files), settings=settings, out=folder,
                                 budget=own, progress=report)
    if not runtime.current().main:
        return
    write_tables(result, folder)
    print_result(result)
    tell("protocol", folder / RESULT)


def attack_folder(path: Path | None, patch: Patch | None, concept: str) -> Path:
    """Where attacks on the patch at `path` go: into its folder, those on one of several concepts apart.

    Where an earlier version began, it goes on.
    """
    from expunge.files import folder_beside, folder_of
    from expunge.records import SUITE_RESULTS

    def known(folder: Path) -> bool:
        return SUITE_RESULTS.at(folder) is None or SUITE_RESULTS.read(folder).request.concept == concept

    if path is None or patch is None:
        return folder_of(Path("runs"), concept, "attack-", known)
    beside = folder_beside(path, "attack")
    return folder_of(beside.parent, concept, f"{beside.name}-", known) if patch.card.request.also else beside


def _estimate(model: Model, patch: Patch | None, concept: str, settings: AttackSettings) -> str:
    """The settings as YAML, and the most that the attacks may spend, by the denoiser's measured speed."""
    from expunge.attacks.suite import rehearsed
    from expunge.attacks.victim import picture_rows
    from expunge.cli.progress import span
    from expunge.models.speed import drawing_speed

    attacks, items = rehearsed(model, patch, concept, settings)
    sampler = settings.sampler(model)
    per_row = drawing_speed(model, sampler, settings.batch).picture(sampler) / picture_rows(sampler)
    lines = [as_yaml(settings.model_dump(mode="json")).rstrip(), f"# at most {items} items"]
    for attack in attacks:
        budget = attack.budget(sampler)
        lines.append(f"# {attack.name} ({attack.access}): at most {budget.gradient_steps} gradient steps, "
                     f"{budget.images} images per item, {span(budget.network_rows * per_row * items)} in all")
    return "\n".join(lines)
