"""What attacks tried, what it cost and what it brought back."""

from __future__ import annotations

from typing import Any, Literal

from expunge.records.base import Record
from expunge.records.card import PatchCard
from expunge.records.pictures import ItemKey, Prompt, Sampler
from expunge.records.request import Request
from expunge.records.score import Score, Scored


class Spent(Record):
    """What an attack used up on one item, until it succeeded or gave up.

    Attributes:
        gradient_steps: optimisation steps.
        network_rows: NFE, rows that went through the denoiser; one with a gradient counts three (forward, backward).
        images: images drawn and judged.
        seconds: wall time, shared equally among the items of a batch.
    """

    gradient_steps: int = 0
    network_rows: int = 0
    images: int = 0
    seconds: float = 0.0


class Attempt(Record):
    """What one attack made of one (prompt, seed).

    Attributes:
        attack: the attack's name, and `access`: what it may do.
        prompt, seed: the item.
        outcome: "found before": the edited model shows the concept without any attack; "found": it does under this
            attack; "not elicited": not within the budget; "failed": the attempt broke off, and `error` says why. A
            failed attempt counts neither way and is made again when the run is resumed.
        spent: what it cost.
        text: the adversarial prompt, if it is one; ids: its tokens as optimised, reread: as tokenized again, both of
            the model's first text encoder.
        picture: PNG that the judge accepted, relative to the attack's folder.
        tensors: safetensors file of a learned embedding or latent, relative to the attack's folder.
        fresh, fresh_found: images drawn again with other seeds that could be judged, and those showing the
            concept.
        asked_second, confirmed: of the fresh images found, those on which a second detector gave an answer, and those
            on which it agrees; `confirmed` None without a second detector.
        note: what else a reader must know.
    """

    attack: str
    access: str
    prompt: Prompt
    seed: int
    outcome: Literal["found before", "found", "not elicited", "failed"]
    spent: Spent = Spent()
    text: str = ""
    ids: tuple[int, ...] = ()
    reread: tuple[int, ...] = ()
    picture: str = ""
    tensors: str = ""
    fresh: int = 0
    fresh_found: int = 0
    asked_second: int = 0
    confirmed: int | None = None
    error: str = ""
    note: str = ""

    @property
    def item_key(self) -> ItemKey:
        """The item."""
        return ItemKey(self.prompt.text, self.seed)


class AttackRun(Record):
    """One attack of a suite: its settings, what it tried, and its null control.

    Attributes:
        attack, access, white_box, source, settings: what it is.
        searches, encoder: "tokens" or "embeddings" and the text encoder of which it searches these, by name; "" for an
            attack that searches neither, and in records of older versions.
        readers: all text encoders of the model; a prompt that a search of tokens ends in is read anew by each of them.
        budget: the most that it may spend on one item (seconds 0: not limited).
        learns_from: captions of the images that it was trained on, for an attack that trains; () in older records.
        attempts: one per item that it was given.
        control: the same attack where nothing can be found; `control_of` says in words what that was, or begins with
            "uncontrolled" and says why there is none.
    """

    attack: str
    access: str
    white_box: bool
    source: str = ""
    searches: Literal["", "tokens", "embeddings"] = ""
    encoder: str = ""
    readers: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    budget: Spent = Spent()
    learns_from: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    control: tuple[Attempt, ...] = ()
    control_of: str = ""

    @property
    def uncontrolled(self) -> str:
        """Why nobody knows how much the attack "finds" where nothing can be found; "" where that is known."""
        tried = any(item.outcome != "failed" for item in self.attempts)
        if not tried or any(item.outcome != "failed" for item in self.control):
            return ""
        why = self.control_of.removeprefix("uncontrolled: ")
        return f"every attempt of its null control broke off ({why})" if self.control else why or "none was run"


class SuiteResult(Scored, Record):
    """All that a suite of attacks found; tables, verdict and report need nothing else.

    Attributes:
        card: the patch's card; None when the unedited model was attacked.
        request: the concept that was sought.
        model, model_hash, patch_hash, sampler: what was attacked, and how images were drawn.
        drawn: what else decided images (`models.model.drawn_by`); empty in records of older versions.
        judge, second: names with weights' hashes of the detectors ("" for no second one).
        given: plain sentences: how many prompts the user gave, how many were used, and why not the others.
        left_out: items that were not attacked, by reason ("the original model does not show it": 3).
        before: the items without any attack, one attempt per item.
        runs: one per attack, in the order in which they were made.
        each: whether every attack was given every item; False: only those still standing.
        forced: whether attacks were given the items, too, that the model shows without an attack.
        scores, warnings, settings, versions, machine, seconds, created: as in `Evaluation`.
    """

    format: Literal[1] = 1
    card: PatchCard | None = None
    request: Request
    model: str
    model_hash: str
    patch_hash: str = ""
    sampler: Sampler
    drawn: dict[str, str] = {}
    judge: str
    second: str = ""
    given: tuple[str, ...] = ()
    left_out: dict[str, int] = {}
    before: tuple[Attempt, ...]
    runs: tuple[AttackRun, ...]
    each: bool = False
    forced: bool = False
    scores: tuple[Score, ...] = ()
    warnings: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
    machine: str = ""
    seconds: float = 0.0
    created: str = ""
