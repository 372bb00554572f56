"""Worst case over attacks: cheap ones first, each next one only on the (prompt, seed) items still standing.

    items     images of prompts that ask for the concept in which the judge finds it in the ORIGINAL model's image
    standing  items that the edited model does not show by itself and that no attack has brought back yet
    result    items shown before or broken by any attack, over all items judged

Source: the order and the worst case per item are AutoAttack's (Croce and Hein 2020). Differs: items that already show
the concept are kept apart, every success is drawn again with fresh seeds, and each attack has a null control.

A folder holds `attack.json` (the `SuiteResult`) and one folder per attack (see `trial`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from expunge import runtime
from expunge.attacks.base import Attack
from expunge.attacks.controls import null_control
from expunge.attacks.fixed import Paraphrase
from expunge.attacks.reliability import attack_warnings
from expunge.attacks.scores import suite_scores
from expunge.attacks.settings import AttackSettings, Tier
from expunge.attacks.sights import Sights
from expunge.attacks.stage import (
    Stage,
    attack_stage,
    cut_words,
    drawable,
    lost_words,
    named_items,
    pictures_in,
    sought,
    told_of_own,
    variants,
)
from expunge.attacks.trial import attempts, inputs, plain, read_attempts
from expunge.attacks.victim import Item, Victim
from expunge.config import below, merged
from expunge.detectors.choosing import world_for
from expunge.detectors.watched import detector_words
from expunge.errors import UserError
from expunge.files import check_writable, write_json
from expunge.finetune import picture_folder
from expunge.isolated import isolated
from expunge.locks import alone_in_out
from expunge.metrics.prompts import Prompts
from expunge.metrics.worlds import World
from expunge.models.fitting import unfit
from expunge.models.model import Model, applied, drawn_by
from expunge.models.patch import Patch, check_given
from expunge.records import SUITE_RESULTS, AttackRun, Attempt, Request, SuiteResult
from expunge.registry import ATTACKS
from expunge.runtime import Progress


@dataclass(frozen=True)
class TierPlan:
    """A tier: how many prompts that name the concept, how many null-control items, which attacks with what budget."""

    prompts: int
    control: int
    attacks: tuple[str, ...]
    budget: Literal["SMOKE", "default", "PUBLISHED"]


TIERS: dict[Tier, TierPlan] = {
    "smoke": TierPlan(8, 4, ("paraphrase", "implicit", "seed-search", "noising", "unlearndiff"), "SMOKE"),
    "standard": TierPlan(32, 8, (
        "paraphrase", "implicit", "misspelt", "seed-search", "random-prompt", "ring-a-bell", "noising", "inpainting",
        "ddim-inversion", "textual-inversion", "soft-prompt", "unlearndiff", "p4d-mu", "quantise"), "default"),
    "paper": TierPlan(128, 32, (
        "paraphrase", "implicit", "misspelt", "seed-search", "random-prompt", "ring-a-bell", "noising", "inpainting",
        "ddim-inversion", "textual-inversion", "soft-prompt", "unlearndiff", "p4d-mu", "p4d", "quantise"), "PUBLISHED"),
}
"""Attacks on the weights that train (relearn, benign) are in no tier: any model can be taught anything, and what counts
there is how fast (`expunge relearn`), not whether."""


@isolated
@alone_in_out(when=lambda: runtime.current().main)
def attack(model: Model, patch: Patch | None, *, concept: str = "", settings: AttackSettings | None = None,
           out: str | Path, progress: Progress | None = None, world: World | None = None) -> SuiteResult:
    """Attack an edited model: what does an attacker of a stated strength and budget still get out?

    Args:
        model: the base model, without a patch on.
        patch: the edit; None attacks the model as it is, for `concept`.
        concept: what is sought; "" means what the patch took out.
        settings: None means the defaults (tier `smoke`).
        out: folder for everything; a run that was stopped goes on from there.
        progress: told (items done, items in all, attack).
        world: prompts and judge; None means the model's world.

    Raises:
        UserError: an unknown attack or setting, a patch for another model, a concept that the judge does not know, or
            that the original model never shows, attacks in `out` that were begun under other settings (ConfigError),
            or another run that writes there; all before any attack begins.
        StorageError: results cannot be written.
    """
    check_given(model, patch, or_none=True)
    began, settings, folder = time.monotonic(), AttackSettings.given(settings), Path(out)
    processes = runtime.current()
    world = world_for(model.world, model.name, settings, world)
    request, victim, chosen = _prepared(model, patch, concept, settings, world.prompts)
    check_writable(folder)
    victim = replace(victim, sights=Sights(folder / "sights.jsonl", processes), processes=processes)
    tier = TIERS[settings.tier]
    stage = attack_stage(world, request, victim, settings, tier.prompts,
                   tier.control if settings.control_items is None else settings.control_items)
    with applied(model, patch) if patch is not None else nullcontext():
        chosen, unmade = _possible(chosen, victim, stage.request, stage.items, named=bool(settings.attacks))
        for one in chosen:  # all are looked at before one is made
            read_attempts(folder / one.name, inputs(one, victim, stage.request, stage.goal, settings.fresh,
                                                    stage.confirm))
        before = plain(victim, stage.items, stage.goal, settings.batch)
        others = {one.name: one.prompts for one in chosen if isinstance(one, Paraphrase)}
        given = [*detector_words(world), *told_of_own(world.prompts, request, settings, len(stage.asked_for), others,
                              unfit(model, stage.asked_for, victim.sampler)),
                 *lost_words(victim, stage.asked_for), *cut_words(victim, stage),
                 *(picture_folder(settings.pictures).notices if settings.pictures else [])]
        runs = list(_runs(chosen, victim, stage, before, settings, folder, progress))
    scores = suite_scores(before, runs, settings.each)
    warnings = [*unmade, *attack_warnings(before, runs, scores, len(stage.items), stage.asked)]
    suite = SuiteResult(
        card=patch.card if patch else None, request=request, model=model.name, model_hash=model.hash,
        patch_hash=patch.hash if patch else "", sampler=victim.sampler, drawn=drawn_by(model),
        judge=stage.goal.judge.name, second=stage.confirm.judge.name if stage.confirm else "", left_out=stage.left_out,
        given=tuple(given), before=tuple(before), runs=tuple(runs), each=settings.each, forced=settings.force,
        scores=tuple(scores), warnings=tuple(warnings), settings=settings.model_dump(mode="json"),
        versions=runtime.versions(), machine=runtime.machine(model.device), seconds=round(time.monotonic() - began, 1),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"))
    if processes.main:
        write_json(folder / SUITE_RESULTS.name, suite.model_dump(mode="json"))
    return suite if processes.count == 1 else SuiteResult.model_validate(  # one record, with one time of making
        processes.gather({0: suite.model_dump(mode="json")} if processes.main else {})[0])


def rehearsed(model: Model, patch: Patch | None, concept: str, settings: AttackSettings, world: World | None = None
              ) -> tuple[list[Attack], int]:
    """The attacks that `attack` would make and how many items it would look at; nothing is drawn.

    Raises:
        UserError: what `attack` refuses before it draws anything.
    """
    world = world_for(model.world, model.name, settings, world)
    request, victim, chosen = _prepared(model, patch, concept, settings, world.prompts)
    items, _ = drawable(victim, named_items(world.prompts, request, settings, TIERS[settings.tier].prompts))
    with applied(model, patch) if patch is not None else nullcontext():
        return _possible(chosen, victim, request, items, named=bool(settings.attacks))[0], len(items)


def _prepared(model: Model, patch: Patch | None, concept: str, settings: AttackSettings, asks: Prompts
              ) -> tuple[Request, Victim, list[Attack]]:
    """What is sought, whom it is sought from, and how."""
    chosen, request = planned(settings), sought(asks, patch, concept)
    if patch is not None:
        with applied(model, patch):
            pass  # a patch for another model must not cost an hour first
    victim = Victim(model, patch, settings.sampler(model), pictures_in(settings.pictures), settings.batch,
                    variants(asks, request), asks=asks)
    return request, victim, chosen


def planned(settings: AttackSettings) -> list[Attack]:
    """The attacks that the settings ask for, in the order in which they are made.

    Raises:
        UserError: an unknown attack, or options for one that is not among them.
        ConfigError: bad options.
    """
    tier = TIERS[settings.tier]
    names = settings.attacks or tier.attacks
    for name in names:
        ATTACKS.get(name)
    strangers = [name for name in settings.options if name not in names]
    if strangers:
        raise UserError(f"options for {', '.join(strangers)}, which will not be made", accepted=", ".join(names))
    if len(set(names)) < len(names):
        raise UserError("the same attack twice", accepted="each attack once")
    chosen = []
    for name in names:
        kind: type[Attack] = ATTACKS.get(name)
        if ATTACKS.package(name) and kind.name != name:
            raise ATTACKS.unusable(name, f"calls itself {kind.name!r}, by which its results would be kept")
        own: Mapping[str, Any] = {} if tier.budget == "default" else getattr(kind, tier.budget)
        together = {} if kind.one_for_all else {"batch": settings.batch}  # those share one piece of work, not a pass
        with ATTACKS.blaming(name):
            given = merged(below(together), below(own), settings.options.get(name, {}))
            chosen.append(kind.build(given, f"attack {name}"))
    return chosen


def _possible(chosen: Sequence[Attack], victim: Victim, request: Request, items: Sequence[Item], named: bool
              ) -> tuple[list[Attack], list[str]]:
    """The attacks that can be made, and a sentence for each of the tier's that cannot. One asked for by name raises."""
    possible, unmade = [], []
    for attack in chosen:
        try:
            with ATTACKS.blaming(attack.name):
                attack.check(victim, request, items)
                attack.budget(victim.sampler)
            possible.append(attack)
        except UserError as error:
            if named:
                raise
            unmade.append(f"not made: {attack.name} ({error})")
    return possible, unmade


def _runs(chosen: Sequence[Attack], victim: Victim, stage: Stage, before: Sequence[Attempt],
          settings: AttackSettings, folder: Path, tell: Progress | None) -> Iterator[AttackRun]:
    attacked = ("not elicited", "found before") if settings.force else ("not elicited",)
    standing = [(item.prompt, item.seed) for item in before if item.outcome in attacked]
    for attack in chosen:
        made = attempts(attack, victim, stage.request, standing, stage.goal, folder=folder / attack.name,
                        fresh=settings.fresh, confirm=stage.confirm, tell=tell)
        control, words = (null_control(attack, victim, stage, folder / attack.name / "control", tell) if standing
                          else ([], "no item was left to attack"))
        yield AttackRun(attack=attack.name, access=attack.access, white_box=attack.white_box, source=attack.source,
                        **_encoders(attack, victim), settings=attack.model_dump(mode="json"),
                        budget=attack.budget(victim.sampler), learns_from=attack.learns_from(victim, stage.request),
                        attempts=tuple(made), control=tuple(control), control_of=words)
        if not settings.each:
            broken = {item.item_key for item in made if item.outcome == "found"}
            standing = [(prompt, seed) for prompt, seed in standing if (prompt.text, seed) not in broken]


def _encoders(attack: Attack, victim: Victim) -> dict[str, Any]:
    """Which text encoder an attack searches, and who reads what it finds."""
    if not attack.searches:
        return {}
    return {"searches": attack.searches, "encoder": victim.encoder.name,
            "readers": tuple(encoder.name for encoder in victim.model.texts)}
