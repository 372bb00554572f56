"""One attack on many items, as records: what it found, found again on fresh seeds, and confirmed by a second detector.

A folder holds `attempts.jsonl` (one `Attempt` per line, with its digest), `pictures/` (those that the judge accepted)
and `tensors/`. An interrupted trial goes on with the items that have no attempt yet; failed ones are tried again, and
damaged ones are made again.

Several processes under a launcher share the items: each writes a file of its own (`attempts-1.jsonl`), and the first
one takes them all into one at the end, or when the trial goes on, in however many processes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from expunge import interrupts, untrusted
from expunge.attacks.base import FAILURES, Attack
from expunge.attacks.proposal import Again, Outcome
from expunge.attacks.victim import Goal, Item, Victim, fresh_seed
from expunge.errors import StorageError
from expunge.files import append_lines, whole_lines, write_atomically, write_tensors, write_text
from expunge.records import Attempt, ItemKey, Prompt, Request, Spent
from expunge.registry import ATTACKS, described
from expunge.resume import Inputs, damaged
from expunge.runtime import Progress
from expunge.sealed import DamagedLine, mend_lines, sealed_line, unsealed_line

log = logging.getLogger(__name__)

ATTEMPTS = "attempts.jsonl"


def attempts(attack: Attack, victim: Victim, request: Request, items: Sequence[Item], goal: Goal, *, folder: Path,
             fresh: int = 4, confirm: Goal | None = None, tell: Progress | None = None) -> list[Attempt]:
    """Attack every item and keep the records in `folder`; returns one attempt per item, in their order.

    Args:
        items: distinct; what shows the concept without an attack (see `plain`) says nothing about one.
        fresh: images drawn again with other seeds for each success.
        confirm: the same goal of a second detector, of another make; None leaves `confirmed` empty.
        tell: told of every item that is settled, with the attack's name; of several processes each counts its share.

    Raises:
        UserError: what `Attack.check` refuses, before anything is computed.
        ConfigError: the folder holds attempts of the same attack under other settings.
    """
    with ATTACKS.blaming(attack.name):
        attack.check(victim, request, [item for item in items if not attack.told_no_room(victim, request, item)])
    under, processes = inputs(attack, victim, request, goal, fresh, confirm), victim.processes
    if processes.main:
        _join(folder, under)
    processes.barrier()
    ways = {ItemKey(prompt.text, seed): victim.sampler.of(prompt) for prompt, seed in items}
    done = {item.item_key: item for item in read_attempts(folder, under) if item.outcome != "failed"
            and ways.get(item.item_key, victim.sampler.of(item.prompt)) == victim.sampler.of(item.prompt)}
    todo = [item for item in items if (item[0].text, item[1]) not in done]
    processes.barrier()  # all have read what is there before it grows
    if todo and processes.main:
        _write(folder / ATTEMPTS, under, done.values())
    before = len(items) - len(todo)
    todo = processes.shard(todo) if not attack.one_for_all else todo if processes.main else []
    file = folder / (ATTEMPTS if processes.count == 1 else f"attempts-{processes.rank}.jsonl")
    if todo and processes.count > 1:
        _write(file, under, [])
    if tell:
        tell(before, before + len(todo), attack.name)
    for outcome in attack.outcomes(replace(victim, trial=len(items)), request, todo, goal):
        item = todo[outcome.row]
        try:
            attempt = _settled(attack, victim, item, outcome, goal, folder, fresh, confirm)
        except StorageError:
            raise
        except FAILURES as error:  # an outcome that cannot be kept, of somebody's own attack
            interrupts.check()
            log.debug("an outcome of %s cannot be kept", attack.name, exc_info=error)
            broken = Outcome(outcome.row, False, Spent(), error=f"its outcome cannot be kept: {described(error)}")
            attempt = _settled(attack, victim, item, broken, goal, folder, fresh, confirm)
        done[attempt.item_key] = attempt
        append_lines(file, [_line(attempt)])
        if tell:
            tell(before + sum((p.text, s) in done for p, s in todo), before + len(todo), attack.name)
    if processes.count > 1:
        processes.barrier()
        if processes.main:
            _join(folder, under)
        processes.barrier()
        done = {item.item_key: item for item in read_attempts(folder, under)}
    return [done[ItemKey(prompt.text, seed)] for prompt, seed in items]


def plain(victim: Victim, items: Sequence[Item], goal: Goal, batch: int = 32) -> list[Attempt]:
    """The items without any attack: "found before" or "not elicited", or "failed" where the judge did."""
    def spent(prompt: Prompt) -> Spent:
        return Spent(images=1, network_rows=victim.rows(victim.sampler.of(prompt)))

    return [Attempt(attack="none", access="none", prompt=prompt, seed=seed, spent=spent(prompt), text=prompt.text,
                    outcome="failed" if sight.error else "found before" if sight.found else "not elicited",
                    error=sight.error)
            for (prompt, seed), sight in zip(items, victim.seen(goal, items, batch), strict=True)]


def read_attempts(folder: Path, under: Inputs | None = None) -> list[Attempt]:
    """The attempts kept in `folder`, none if there is no file; what a damaged line kept is not there.

    Raises:
        ConfigError: they were begun under other inputs than `under`, if these are told.
        ModelError: the file is damaged in another way.
    """
    return _read(folder / ATTEMPTS, under)


def _read(file: Path, under: Inputs | None) -> list[Attempt]:
    if not file.is_file():
        return []
    try:
        head, *lines = (line for _, line in whole_lines(file))
        found = [*_undamaged(lines)]
        record = untrusted.json_in(head)
        _ = record["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(file, error) from error
    if under is not None:
        under.check(file, record)
    return found


def _undamaged(lines: Iterable[bytes]) -> Iterator[Attempt]:
    for line in lines:
        with suppress(DamagedLine):  # it is told where the file is mended
            yield Attempt.model_validate(unsealed_line(line))


def _settled(attack: Attack, victim: Victim, item: Item, outcome: Outcome, goal: Goal, folder: Path, fresh: int,
             confirm: Goal | None) -> Attempt:
    """The record of an outcome; its image and tensors written first, its fresh images drawn and judged."""
    prompt, seed = item
    name = hashlib.sha256(f"{attack.name}/{prompt.text}/{seed}".encode()).hexdigest()[:16]
    fields: dict[str, Any] = {"attack": attack.name, "access": attack.access, "prompt": prompt, "seed": seed,
                              "spent": outcome.spent, "text": outcome.text, "ids": outcome.ids,
                              "note": outcome.note, "error": outcome.error,
                              "reread": tuple(victim.encoder.tokens(outcome.text)) if outcome.text else ()}
    if outcome.error:
        return Attempt(outcome="failed", **fields)
    if outcome.tensors:
        fields["tensors"] = f"tensors/{name}.safetensors"
        write_tensors(folder / fields["tensors"], {k: v.contiguous() for k, v in outcome.tensors.items()}, {})
    if not outcome.found:
        return Attempt(outcome="not elicited", **fields)
    if outcome.picture is not None:
        fields["picture"] = f"pictures/{name}.png"
        write_atomically(folder / fields["picture"], partial(_save_png, outcome.picture))
    if outcome.again is not None and fresh:
        fields |= _seen_again(outcome.again, [fresh_seed(seed, k) for k in range(1, fresh + 1)], goal, confirm,
                              outcome.note)
    return Attempt(outcome="found", **fields)


def _seen_again(again: Again, seeds: Sequence[int], goal: Goal, confirm: Goal | None, note: str) -> dict[str, Any]:
    """What an attempt tells of its fresh images: those alone count that could be drawn and judged."""
    try:
        pictures = again(seeds)
    except FAILURES as error:
        interrupts.check()
        log.warning("fresh images could not be drawn: %s", error)
        return {"note": "; ".join(filter(None, (note, f"no fresh images: {described(error)}")))}
    seen = goal.see(pictures)
    found = [row for row, sight in enumerate(seen) if sight.found]
    out: dict[str, Any] = {"fresh": sum(not sight.error for sight in seen), "fresh_found": len(found)}
    if confirm is not None:
        answers = [sight for sight in confirm.see(pictures[found]) if not sight.error] if found else []
        out |= {"asked_second": len(answers), "confirmed": sum(sight.found for sight in answers)}
    return out


def _save_png(picture: Tensor, path: Path) -> None:
    pixels = (picture.clamp(0, 1).permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG")


def inputs(attack: Attack, victim: Victim, request: Request, goal: Goal, fresh: int, confirm: Goal | None) -> Inputs:
    """All that decides the records, the detectors included; the batch does not."""
    model, pictures, own = victim.model, victim.pictures, partial(attack.model_dump, mode="json", exclude={"batch"})
    lesson = attack.learns_from(victim, request)
    return Inputs({
        "attack": attack.name, "settings": own(),
        "files": attack.inputs(), "model": model.hash, "patch": model.patch_hash, "drawing": model.drawing,
        "sampler": victim.sampler.model_dump(mode="json"), "request": request.model_dump(mode="json"),
        "judge": goal.judge.name, "question": goal.aim.question, "concept": goal.aim.concept, "known": goal.known,
        "fresh": fresh, "second judge": confirm.judge.name if confirm else "",
        "wordings": {role: list(texts) for role, texts in victim.variants.items()},
        "pictures": None if pictures is None else hashlib.sha256(pictures.numpy().tobytes()).hexdigest(),
        **({"learns from": list(lesson)} if lesson else {}),
    }, former={"drawing": model.former_drawing, "settings": own(by_alias=True)}, added=frozenset({"learns from"}))


def _join(folder: Path, under: Inputs) -> None:
    """Take what several processes wrote into the one file; a kill in between leaves items in both, which count once.
    What is damaged is left out, so that it is made again."""
    parts = sorted(folder.glob("attempts-*.jsonl"))
    files = [folder / ATTEMPTS, *parts]
    done = {item.item_key: item for file in files for item in _read(file, under)}
    for file in files:  # once all are known to be of this trial
        mend_lines(file, head=1)
    if parts:
        _write(folder / ATTEMPTS, under, done.values())
    for file in parts:
        file.unlink()


def _write(file: Path, under: Inputs, done: Iterable[Attempt]) -> None:
    lines = [json.dumps(under.record, ensure_ascii=False), *map(_line, done)]
    write_text(file, "\n".join(lines) + "\n")


def _line(attempt: Attempt) -> str:
    return sealed_line(untrusted.json_in(attempt.model_dump_json()))  # as JSON gives it back: no number that it lacks
