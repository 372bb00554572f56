"""What `expunge guard` reads and prints: images by name or folder, estimates, masks, what became of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.cli.options import as_yaml
from expunge.cli.terminal import echo

if TYPE_CHECKING:
    from expunge.finetune import TrainingImages
    from expunge.guard import PublisherImages
    from expunge.models.model import Model
    from expunge.records.freezing import FreezeMask, Moved, Savings, Verification

_MOST = 10
"""Tensors that are named one by one; --json has them all."""


def publisher_of(model: Model, forbidden: tuple[str, ...], innocent: tuple[str, ...], caption: str,
                 pictures: int, prior: tuple[str, ...]) -> PublisherImages:
    """The images that a command names, encoded. UserError: there are none, or a name is on both sides."""
    from expunge.errors import UserError
    from expunge.finetune import material
    from expunge.guard import PublisherImages
    from expunge.models.sample import draw

    places = {_place(name) for name in innocent}
    both = sorted(name for name in set(forbidden) if _place(name) in places)
    if both:
        raise UserError(f"{both[0]!r} is both forbidden and innocent", accepted="one of the two")
    if pictures < 2:
        raise UserError(f"{pictures} images of each character", accepted="2 or more")
    sides = [tuple(_material(model, name, caption, pictures) for name in names) for names in (forbidden, innocent)]
    kept = None
    if prior:
        texts = [prior[k % len(prior)] for k in range(pictures)]
        kept = material(model, draw(model, [(text, k) for k, text in enumerate(texts)]), texts)
    return PublisherImages(sides[0], sides[1], kept)


def _place(name: str) -> str:
    """A folder by its one path, however it is spelt; anything else is a name."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def _material(model: Model, name: str, caption: str, count: int) -> TrainingImages:
    from expunge.errors import UserError
    from expunge.finetune import material
    from expunge.guard.pictures import captioned_folder
    from expunge.metrics.characters import CHARACTERS
    from expunge.metrics.worlds import world_of

    if Path(name).is_dir():
        found, captions = captioned_folder(name, caption)
        long = model.too_long(captions)
        rows = [row for row, text in enumerate(captions) if text not in long]
        if not rows:
            raise UserError(f"all captions in {name} are longer than the text encoder reads ({captions[0]!r} first)",
                            accepted=f"up to {model.texts[0].room} tokens", remedy="shorten them")
        over = [f"{len(captions) - len(rows)} of {len(captions)} images left out: their captions are longer than the "
                "text encoder reads."] if long else []
        for line in (*found.notices, *over):
            echo(f"{name}: {line}")
        return material(model, found.pictures[rows], [captions[row] for row in rows])
    unknown = world_of(model.world, model.name).unknown
    newcomer = unknown.newcomer(name) if unknown is not None and name in CHARACTERS else None
    if newcomer is None:
        raise UserError(f"no images of {name!r}", accepted="a folder of images"
                        + (f", or one of {', '.join(CHARACTERS)}" if unknown is not None else ""))
    return material(model, *newcomer.pictures(count, *model.size))


def learning_estimate(model: Model, publisher: PublisherImages, preset: str, settings: dict[str, Any], seed: int
                      ) -> str:
    """The settings as YAML, and what learning takes, by one measured step of a user."""
    import time

    from expunge.cli.progress import span
    from expunge.finetune import FineTune, fine_tuning
    from expunge.guard import estimate, resolve

    learner = resolve(preset, settings)
    cost = estimate(model, publisher, learner)
    with fine_tuning(model, publisher.forbidden[0], FineTune(steps=3), seed=seed) as tuner:
        tuner.step(0)
        began = time.monotonic()
        tuner.step(1)
        each = time.monotonic() - began
    steps = cost["user_steps"] + cost["mask_steps"]
    return "\n".join([as_yaml(learner.model_dump(mode="json")).rstrip(),
                      f"# {cost['user_steps']} steps of simulated users, {cost['mask_steps']} mask steps",
                      f"# estimate: {span(steps * each)} by one step of 4 images; "
                      f"{cost['memory_bytes'] / 2**30:.2f} GiB beside the model and its activations"])


def print_mask(mask: FreezeMask) -> None:
    """How much is frozen, and its warnings."""
    echo(f"frozen: {len(mask.frozen)} of {len(mask.tensors)} tensors ({mask.share('count'):.1%}), "
               f"{mask.share('numel'):.1%} of the parameters; {mask.method}, seed {mask.seed}")
    for warning in mask.warnings:
        echo(f"warning: {warning}")


def print_savings(saved: Savings) -> None:
    """What users save, in a line."""
    if not saved.memory_bytes:
        echo("users save nothing: no tensor is frozen")
        return
    echo(f"users save about {saved.memory_bytes / 2**20:.1f} MiB of gradients and optimizer state "
               f"({saved.memory_share:.0%}) and {saved.time_share:.0%} of a step's computing in linear and "
               "convolutional layers, if they would train all of the UNet with AdamW in float32 "
               "(an estimate; with a LoRA less)")


def print_verification(found: Verification) -> None:
    """Whether the policy was kept, and what broke it."""
    free = {one.name for one in found.moved if not one.frozen}
    if found.broken:
        what = {f"{found.frozen - found.kept} of {found.frozen} frozen tensors are not as they were published":
                found.kept < found.frozen,
                "the number type is not accepted": any(one.how == "type" for one in found.moved),
                f"tensors were added ({len(found.added)})": found.added, "its architecture is another": found.differs}
        echo(f"broken: {'; '.join(words for words, so in what.items() if so)}")
    elif not found.frozen:
        echo("nothing to verify: the mask freezes no tensor")
    else:
        echo(f"{found.kept} of {found.frozen} frozen tensors are as they were published")
    said = [f"{one.name}: {_what_became(one)}" for one in found.moved if one.frozen or one.how == "type"]
    said += [f"{name}: missing" for name in found.missing_frozen]
    said += [f"{name}: added" for name in found.added]
    for line in (*said[:_MOST], *found.differs):
        echo(f"  {line}")
    if len(said) > _MOST:
        echo("  and more; --json has them all")
    echo(f"others: {len(free)} moved, {len(set(found.missing) - set(found.missing_frozen))} missing, "
               f"{len(found.added)} added")
    if found.note:
        echo(f"note: {found.note}")


def _what_became(one: Moved) -> str:
    if one.how in ("shape", "type"):
        return "has another shape" if one.how == "shape" else "has a number type that is not accepted"
    if one.how == "lora" and one.relative is None:
        return "has an adapter on it"
    if one.relative is not None:
        return f"{one.how}, by {one.relative:.2g} of its norm"
    return f"{one.how}, " + (f"by {one.largest:.2g} at most, from a published value of zero" if one.largest is not None
                             else "to values that are not finite")
