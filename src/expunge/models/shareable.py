"""A patch as it may be handed out: without who asked for it, and without wordings that are nobody's to publish."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from expunge import untrusted
from expunge.errors import ModelError, UserError
from expunge.models.patch import Patch
from expunge.records import PatchCard, Request, Target, guess_kind
from expunge.records.patch_file import card_in

CARD = "expunge-patch.json"
"""The card in a merged model's folder."""
HEADER = "expunge.patch_sha256"
"""What a file's header calls the patch that its weights were made from."""
UNSAID = ("explicit", "person")
"""Kinds of concepts whose prompts are not handed out, as neither are a user's own."""


def check_made_from(weights: Path, patch: Patch) -> None:
    """Refuse exported weights (a file or a folder) that say that they were made from another patch.

    Raises:
        UserError: they were. ModelError: as `made_from`.
    """
    named = made_from(weights)
    if named and named != patch.hash:
        raise UserError(f"{weights} was made from another patch ({named[:12]}, not {patch.hash[:12]})",
                        accepted="what was made from this one", remedy="export this patch, or name the other's run")


def made_from(weights: Path) -> str:
    """Content hash of the patch that exported weights name: a file in its header, a folder in its card; "" if none.

    Raises:
        ModelError: they cannot be read.
    """
    if weights.is_dir():
        card = weights / CARD
        return card_in(card).tensors_hash if card.is_file() else ""
    if weights.suffix != ".safetensors" or not weights.is_file():
        return ""
    return header_of(weights).get(HEADER, "")


def header_of(weights: Path) -> dict[str, str]:
    """The texts in the header of a safetensors file. ModelError: it cannot be read."""
    try:
        with untrusted.tensors(weights) as opened:
            return dict(opened.metadata() or {})
    except OSError as error:
        raise ModelError(f"{weights} cannot be read: {error}", accepted="a safetensors file",
                         remedy="export the patch again") from error


def shareable(patch: Patch) -> Patch:
    """The same edit, the same tensors, with a card to hand out.

    Left out are the request's origin, the texts that the edit trained on, what training left out, and the prompts of
    explicit concepts, of persons, and of the user's own: in their place stands the concept's name alone.
    """
    return replace(patch, card=shareable_card(patch.card), texts={})


def shareable_card(card: PatchCard) -> PatchCard:
    """`shareable` of the card alone."""
    return card.model_copy(update={"origin": None, "request": _request(card.request), "left_out": {}, "kept": ()})


def unsaid(patch: Patch) -> tuple[str, ...]:
    """The texts of a patch that are not to be handed out: who asked and why, and prompts that `shareable` takes out."""
    origin, hidden = patch.card.origin, [target for target in patch.card.request.targets if _unsaid(target)]
    told = [*(origin.facts.values() if origin is not None else ())]
    names = {name for target in hidden for name in (target.concept, target.word)}
    prompts = [prompt for target in hidden for prompt in target.prompts]
    if hidden:
        prompts += [*patch.texts.get("erase", ()), *patch.card.left_out]
    keep = {*patch.card.request.keep} if not hidden else set()
    return tuple(dict.fromkeys(text for text in (*told, *prompts)
                               if text not in names | keep and (text in told or len(text.split()) > 1)))


def _request(request: Request) -> Request:
    first, *also = map(_target, request.targets)
    said = any(_unsaid(target) for target in request.targets)
    return Request.of((first, *also), keep=() if said else request.keep)


def _target(target: Target) -> Target:
    plain = Target(**{name: getattr(target, name) for name in Target.model_fields})
    return plain.model_copy(update={"prompts": (target.concept,), "own": False}) if _unsaid(target) else plain


def _unsaid(target: Target) -> bool:
    return target.own or bool({target.kind, guess_kind(target.concept)} & {*UNSAID})
