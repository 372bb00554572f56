"""The ledger on disk: one JSON file, each line of which carries the digest of the line before it.

It is a record against oversight and against hands that mean well, not against an enemy: who rewrites the whole file can
rewrite every digest in it. Publish `seal` (or sign it) to be able to show later that nothing was changed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expunge import untrusted
from expunge.errors import ConfigError, UserError
from expunge.files import text_digest, write_json
from expunge.models.model import Model
from expunge.records import LEDGER as LEDGER
from expunge.records import Entry, Ledger
from expunge.resume import Inputs, refusal, shortened
from expunge.sequence.settings import Demand, SequenceSettings, Withdrawal
from expunge.sequence.states import State


def read_ledger(folder: Path, model: Model) -> Ledger:
    """The ledger of a sequence's folder; an empty one where there is none yet.

    Raises:
        UserError: it cannot be read, was changed by hand, or belongs to another model.
    """
    file = folder / LEDGER
    if not untrusted.there(file):
        if any((folder / "states").glob("*/patch.safetensors")):
            raise UserError(f"states of a sequence in {folder}, and no {LEDGER}",
                            accepted="a folder with both, or with neither",
                            remedy="put back a copy of the ledger, or choose another output folder")
        return Ledger(model=model.name, model_hash=model.hash, process=model.process.description, parts=model.parts)
    try:
        ledger = Ledger.read(untrusted.text(file))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}", accepted="a ledger that `expunge sequence` wrote",
                        remedy="put back a copy of it, or choose another output folder") from error
    _check_chain(ledger, file)
    apart = ledger.parts not in ("", model.parts)  # "" was begun before it was told
    if apart or (ledger.model_hash, ledger.process) != (model.hash, model.process.description):
        raise UserError(f"{file} is of {ledger.model} ({ledger.model_hash[:12]}, {ledger.process})"
                        f"{' with another tokenizer or other configs' if apart else ''}",
                        accepted=f"one of the loaded model, {model.name} "
                                 f"({model.hash[:12]}, {model.process.description})",
                        remedy="choose another output folder, or load that model")
    return ledger


def begun(folder: Path, ledger: Ledger) -> Ledger:
    """The ledger, on disk before anything else is: so states without one mean that it was lost."""
    if not (folder / LEDGER).exists():
        ledger = ledger.model_copy(update={"seal": head_digest(ledger)})
        write_json(folder / LEDGER, ledger.model_dump(mode="json"))
    return ledger


def head_digest(ledger: Ledger) -> str:
    """Digest of what the ledger is about: the first line's `previous`."""
    return text_digest(json.dumps([ledger.format, ledger.model, ledger.model_hash, ledger.process]))[:16]


def add(folder: Path, ledger: Ledger, entry: Entry) -> Ledger:
    """The ledger with one more line, written whole or not at all. StorageError: it cannot be written."""
    linked = entry.model_copy(update={"previous": ledger.seal or head_digest(ledger)})
    longer = ledger.model_copy(update={"entries": (*ledger.entries, linked), "seal": linked.digest})
    write_json(folder / LEDGER, longer.model_dump(mode="json"))
    return longer


def check_file(ledger: Ledger, settings: SequenceSettings, folder: Path) -> None:
    """Whether the file of requests still says what the ledger has: new ones at the end, old ones as they were.

    Raises:
        ConfigError: requests that were changed, put elsewhere or left out, all of them with what the ledger has.
    """
    wrong: dict[int, str] = {}
    for entry in ledger.entries:
        name = ", ".join(entry.concept)
        if entry.number > len(settings.requests):
            wrong[entry.number] = f"request {entry.number} ({name}) is not in the file any more"
        elif asked_digest(settings.requests[entry.number - 1]) != entry.asked:
            now = settings.requests[entry.number - 1]
            wrong[entry.number] = f"request {entry.number} was {name}{_on(entry)}, the file now says {now.title}" \
                if now.title != name else f"request {entry.number} ({name}) was asked otherwise{_on(entry)}: " \
                                          f"{_apart(entry, now)}"
        elif entry.kind == "withdrawn" and not _same(entry, settings.requests[entry.number - 1].withdrawn):
            wrong[entry.number] = f"request {entry.number} ({name}) was withdrawn otherwise{_on(entry)}"
    for number in withdrawn(ledger):
        if number <= len(settings.requests) and settings.requests[number - 1].withdrawn is None:
            wrong[number] = f"request {number} ({settings.requests[number - 1].title}) was withdrawn and is so no more"
    if wrong:
        raise ConfigError("; ".join(wrong[number] for number in sorted(wrong)),
                          accepted=f"the requests as {folder / LEDGER} has them, new ones at the end",
                          remedy="to take one back mark it `withdrawn`; to ask again add it at the end")


def check_met(ledger: Ledger, states: Sequence[State], folder: Path) -> None:
    """Whether requests that were met would be met in the same way now.

    Raises:
        ConfigError: another method, strategy or seed, other settings of them, or something else that must stay.
    """
    standing, taken_back = {state.number: state for state in states}, set[int]()
    last: dict[int, tuple[Entry, set[int]]] = {}
    for entry in ledger.entries:
        if entry.kind == "withdrawn":
            taken_back.add(entry.number)
        else:
            last[entry.number] = entry, {number for number in taken_back if number < entry.number}
    for number, state in standing.items():
        if number not in last:
            continue
        entry, gaps = last[number]
        now: dict[str, Any] = {"method": state.method_name, "settings": state.settings, "strategy": state.strategy}
        if gaps == {earlier for earlier in range(1, number) if earlier not in standing}:  # else it is met anew
            now |= {"seed": state.seed, "kept": state.wishes}
        was = entry.model_dump(mode="json")
        odd, _ = Inputs(now).compared({name: was[name] for name in now})
        if odd:
            raise refusal(f"request {number} ({state.asked.title}) in {folder} was", shortened(odd),
                          "method, settings, strategy, seed and wishes (kept) with which the sequence was begun",
                          "another output folder, for a sequence of its own; what a later request wants kept goes into "
                          "that request")


def withdrawn(ledger: Ledger) -> Sequence[int]:
    """Numbers of the requests that were taken back."""
    return [entry.number for entry in ledger.entries if entry.kind == "withdrawn"]


def _apart(entry: Entry, now: Demand) -> str:
    """What a request's line and the file say otherwise, of what both tell."""
    pairs = {name: (str(getattr(entry, name) or ""), str(getattr(now, name) or ""))
             for name in ("who", "when", "evidence")}
    said = [f'{name} "{before}", now "{after}"' for name, (before, after) in pairs.items() if before != after]
    return ", ".join(said) or "its anchor, keep, method or settings"


def asked_digest(item: Demand) -> str:
    """Digest of a request as the file has it; whether it was withdrawn is no part of it."""
    fields = item.model_dump(mode="json", exclude={"withdrawn"})
    return text_digest(json.dumps(fields, sort_keys=True, ensure_ascii=False))[:16]


def _check_chain(ledger: Ledger, file: Path) -> None:
    before = head_digest(ledger)
    for number, entry in enumerate(ledger.entries, 1):
        if entry.previous != before:
            raise _changed(file, f"entry {number - 1}, before {', '.join(entry.concept)!r}," if number > 1
                           else "its head")
        before = entry.digest
    if ledger.seal != before:
        raise _changed(file, f"entry {len(ledger.entries)} (the last one), or the seal,")


def _changed(file: Path, what: str) -> UserError:
    return UserError(f"{file} was changed by hand: {what} does not fit its digest",
                     accepted="the ledger as `expunge sequence` wrote it",
                     remedy="put back a copy of it, or choose another output folder")


def _same(entry: Entry, now: Withdrawal | None) -> bool:
    return now is None or (entry.who, entry.when, entry.evidence) == (now.who, now.when, now.why)


def _on(entry: Entry) -> str:
    return f" ({entry.who or 'nobody named'}, {entry.when})" if entry.when else ""
