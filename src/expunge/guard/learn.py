"""The verb: learn which tensors to freeze. And its dry run.

Presets: `projected` (the default), `saliency` (one shot, cheap), `released` (as published).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from expunge.config import below, merged
from expunge.errors import UserError
from expunge.files import check_writable
from expunge.finetune import TrainingImages, check_tuning
from expunge.guard.domains import SIDES, LossGauge, PublisherImages, Subject, Upper, halves, together
from expunge.guard.mask import MASK, groups_of, hard_mask, load_mask, mask_of, save_mask
from expunge.guard.projected import MaskScores, ProjectedMask, Turn, UserRounds, projected
from expunge.guard.ratio import Groups, check_ratio
from expunge.guard.relaxed import Trial
from expunge.guard.released import STAGE_1, STAGE_2, Released, released
from expunge.guard.saliency import Saliency, saliency
from expunge.guard.users import user_at_mask, user_seed
from expunge.isolated import isolated
from expunge.locks import alone_in_out
from expunge.models.model import Model
from expunge.records.freezing import FreezeMask
from expunge.resume import Inputs
from expunge.train import Progress, check_checkpoint, thinned

PRESETS: dict[str, ProjectedMask | Saliency | Released] = {
    "projected": ProjectedMask(), "saliency": Saliency(), "released": Released()}
"""Preset -> its settings."""
CHECKPOINT = "guard.safetensors"
KEPT = (CHECKPOINT, STAGE_1, STAGE_2)
"""Files from which a killed run goes on; gone once the mask is there."""


def resolve(preset: str = "projected", settings: Mapping[str, Any] | None = None
            ) -> ProjectedMask | Saliency | Released:
    """The learner's settings: those of the preset, and over them `settings` by (dotted) name.

    Raises:
        UserError: unknown preset. ConfigError: settings that do not fit.
    """
    if preset not in PRESETS:
        raise UserError(f"unknown preset {preset!r}", accepted=", ".join(PRESETS))
    base = PRESETS[preset]
    return type(base).build(merged(below(base.model_dump(mode="json")), settings or {}), f"guard preset {preset}")


@isolated
@alone_in_out()
def learn_mask(model: Model, publisher: PublisherImages, preset: str = "projected", *,
               settings: Mapping[str, Any] | None = None, seed: int = 0, out: str | Path | None = None,
               progress: Progress | None = None) -> FreezeMask:
    """Learn which tensors of the UNet to freeze, so that forbidden images cannot be learned and innocent ones can.

    The model comes back bit for bit. What is learned is of the model as it is, with the patch that is on.

    Args:
        publisher: images of both sides.
        preset: see the module; settings: overrides by (dotted) name, such as `ratio`.
        seed: decides every random draw.
        out: folder for `mask.json` and the checkpoint; a run that was killed goes on from there.
        progress: told of every round (released: of every step).

    Raises:
        UserError: what `check_learning` refuses, a mask in `out` that was begun under other settings
            (ConfigError), or another run that writes there.
        TrainingError: simulated users learn nothing, or a loss is not finite.
    """
    began, learner = time.monotonic(), resolve(preset, settings)
    groups = check_learning(model, publisher, learner, seed)
    resolved = learner.model_dump(mode="json")
    under = Inputs({"settings": resolved, "seed": seed, "model": model.hash, "process": model.process.description,
                    "parts": model.parts, "patch": model.patch_hash, "pictures": publisher.digest},
                   former={"settings": learner.model_dump(mode="json", by_alias=True)})
    folder = Path(out) if out is not None else None
    if folder is not None:
        check_writable(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if (known := _known(folder, under)) is not None:
            return known
        for file in KEPT:
            of_user = file == STAGE_1 and isinstance(learner, Released)  # that training has inputs of its own
            if (folder / file).is_file() and not of_user:
                check_checkpoint(folder / file, under)
    checkpoint = folder / CHECKPOINT if folder else None
    if isinstance(learner, Released):
        found = released(learner, groups, model, publisher, seed=seed, folder=folder, under=under,
                         progress=progress)
    else:
        found = _by_rounds(learner, groups, model, publisher, seed, checkpoint, under, progress)
    about: dict[str, Any] = {
        "method": preset, "granularity": learner.granularity, "seed": seed, "losses": thinned(found.trained.losses),
        "settings": {**resolved, "fingerprint": under.digest}, "steps": sum(learner.work(publisher)),
        "seconds": round(max(found.trained.seconds, time.monotonic() - began), 1)}
    mask = _rounded(model, found, groups, learner, about) if isinstance(learner, Released) else hard_mask(
        model, found.scores, groups, ratio=learner.ratio, by=learner.by, **about)
    if folder is not None:
        save_mask(folder, mask)
        for file in KEPT:
            (folder / file).unlink(missing_ok=True)
    return mask


def check_learning(model: Model, publisher: PublisherImages, learner: ProjectedMask | Saliency | Released, seed: int = 0
                   ) -> Groups:
    """What `learn_mask` refuses before any computing; the groups that it freezes by.

    Raises:
        UserError: a ratio that whole groups do not have, weights not in float32, users that cannot be simulated, too
            few images, or a seed that is none.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed {seed!r}", accepted="0 or a larger integer")
    groups = groups_of(model, learner.granularity)
    check_ratio(learner.ratio, groups, learner.by)
    for side in SIDES:
        if not publisher.of(side):
            raise UserError(f"no {side} images", accepted="images of one thing or more on either side")
        for thing in publisher.of(side):
            halves(thing)
    shapes = {tuple(thing.latents.shape[1:]) for side in SIDES for thing in publisher.of(side)}
    if len(shapes) > 1:
        raise UserError(f"images of different sizes (latents {', '.join(map(str, sorted(shapes)))})",
                        accepted="images of one size, the model's own")
    if isinstance(learner, Released):
        check_tuning(model, learner.first)
        if learner.by != "count":
            raise UserError(f"the released rule by {learner.by}", accepted="count: its penalty counts tensors",
                            remedy="take another preset for a ratio of the parameters")
        if learner.first.scope != "all" or learner.first.text_encoder:
            raise UserError("stage 1 of another scope than all of the UNet", accepted="first.scope all")
    else:
        learner.users.check(model, publisher)
    if isinstance(learner, ProjectedMask) and not learner.marks():
        raise UserError(f"users of {learner.steps} steps, of which none is followed by a mask step",
                        accepted=f"more steps than {learner.interval} (interval) and a smaller `settle`")
    return groups


def estimate(model: Model, publisher: PublisherImages, learner: ProjectedMask | Saliency | Released) -> dict[str, int]:
    """What learning takes: steps of simulated users, mask steps, and bytes beside the model itself.

    Memory of users who train whole tensors by AdamW: gradient, two moments, and three copies of the UNet in float32:
    the published values twice (one copy gives the model back bit for bit, one makes D with theta_ft) and theta_ft.
    Activations are not counted.
    """
    size, (users, marks) = sum(p.numel() for p in model.network.parameters()), learner.work(publisher)
    whole = isinstance(learner, Released) or any(learner.users.tuning(kind).scope != "lora"
                                                 for kind in learner.users.kinds)
    return {"user_steps": users, "mask_steps": marks, "memory_bytes": 4 * size * 6 if whole else 0}


def _by_rounds(learner: ProjectedMask | Saliency, groups: Groups, model: Model, publisher: PublisherImages, seed: int,
               checkpoint: Path | None, under: Inputs, progress: Progress | None) -> MaskScores:
    turns = learner.turns(publisher)
    split = {subject: halves(_pictures(learner, publisher, subject)) for turn in turns for subject in turn.subjects}
    upper = Upper({subject: LossGauge(model, ours, rows=learner.rows, batch=learner.batch, seed=seed,
                                      name="/".join(map(str, subject))) for subject, (_, ours) in split.items()},
                  learner.upper, learner.innocent, learner.margin)

    @contextmanager
    def opened(number: int, turn: Turn) -> Iterator[Trial]:
        shown = together([split[subject][0] for subject in turn.subjects])
        with user_at_mask(model, learner.users, learner.users.kinds[turn.kind], shown, groups.names,
                          seed=user_seed(seed, number), prior=publisher.prior) as trial:
            yield trial

    if isinstance(learner, Saliency):
        return saliency(learner, turns, groups, opened, upper, checkpoint=checkpoint, under=under,
                        progress=progress)
    return projected(learner, turns, groups, opened, upper, checkpoint=checkpoint, under=under,
                     progress=progress)


def _pictures(learner: UserRounds, publisher: PublisherImages, subject: Subject) -> TrainingImages:
    side, place = subject
    return publisher.of(side)[place] if learner.shown == "thing" else together(publisher.of(side))


def _rounded(model: Model, found: MaskScores, groups: Groups, learner: Released, about: dict[str, Any]
             ) -> FreezeMask:
    """frozen = round(m), as published; the ratio is what it is, and told where it is off."""
    held = groups.spread(torch.sigmoid(found.scores / learner.temperature).round() == 1).tolist()
    frozen = [name for name, one in zip(groups.names, held, strict=True) if one]
    share = len(frozen) / len(groups.names)
    missed = [f"the released rule froze {share:.3g} of the tensors, asked for {learner.ratio:g}"
             ] if abs(share - learner.ratio) * len(groups.names) > 1 else []
    each = dict(zip(groups.names, groups.spread(found.scores).tolist(), strict=True))
    return mask_of(model, frozen, ratio=learner.ratio, by=learner.by, scores=each, warnings=missed, **about)


def check_free(folder: Path, mask: FreezeMask) -> None:
    """Raise ConfigError if another mask than the random one, or a half of one, lies in the folder."""
    def inputs_of(one: FreezeMask) -> dict[str, Any]:
        frozen = [name for name, tensor in one.tensors.items() if tensor.frozen]
        return {"method": one.method, "ratio": one.ratio, "seed": one.seed, "model": one.model_hash, "frozen": frozen}

    if (folder / MASK).is_file():
        Inputs(inputs_of(mask)).check(folder / MASK, {"inputs": inputs_of(load_mask(folder))})
    for file in KEPT:
        if (folder / file).is_file():
            check_checkpoint(folder / file, Inputs({"settings": {"method": mask.method}, "seed": mask.seed}))


def _known(folder: Path, under: Inputs) -> FreezeMask | None:
    """The mask that lies in the folder, if it is the one asked for. ConfigError if it is another."""
    if not (folder / MASK).is_file():
        return None
    mask = load_mask(folder)
    settings = {name: value for name, value in mask.settings.items() if name != "fingerprint"}
    under.check(folder / MASK, {"fingerprint": mask.settings.get("fingerprint", ""), "inputs": {
        "settings": settings, "seed": mask.seed, "model": mask.model_hash}})
    return mask
