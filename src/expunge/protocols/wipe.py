"""Take what must not be kept out of a protocol's folder: pixels, and what of prompts could be read."""

from __future__ import annotations

import json
import os
import shutil
from datetime import date, timedelta
from pathlib import Path

from expunge import untrusted
from expunge.errors import ModelError, UserError
from expunge.files import read_lines, write_json, write_text
from expunge.protocols.kept import PLAN
from expunge.protocols.look import IMAGES
from expunge.protocols.result import PLAIN, RESULT, ROWS, read_rows
from expunge.records.protocol import ProtocolResult
from expunge.sealed import mend_lines, sealed_line, unsealed_line

UNTIL = "keep-until.json"
"""When a run is due to be wiped."""
ATTEMPTS = "attempts*.jsonl"
"""One file, and one of each further process where several were stopped."""


def keep_until(folder: Path, days: int, today: date | None = None) -> None:
    """Write down when a run is due to be wiped, `days` from today; 0 writes nothing, and a date that is there stays."""
    if days and not (folder / UNTIL).exists():
        write_json(folder / UNTIL, {"wipe": ((today or date.today()) + timedelta(days=days)).isoformat()})


def due(root: Path, today: date | None = None) -> list[Path]:
    """The runs in a folder, at any depth, whose day has come.

    Raises:
        ModelError: a file that should hold the day holds something else.
    """
    out = []
    for file in sorted(Path(at, UNTIL) for at, folders, names in os.walk(root) if UNTIL in (*folders, *names)):
        try:
            day = date.fromisoformat(untrusted.json_of(file)["wipe"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{file} cannot be read: {error}", accepted='{"wipe": "2026-12-31"}',
                             remedy="wipe the run by hand (expunge wipe), or mend the file") from error
        if day <= (today or date.today()):
            out.append(file.parent)
    return out


def wipe(folder: Path, texts: bool = False) -> dict[str, int]:
    """Delete a result's images; with `texts` also the prompts in its record and in its attack's attempts.

    Numbers, hashes and answers stay. What is gone cannot be attacked or looked at again.

    Returns:
        How many images are gone, and of how many attempts and rows the texts.

    Raises:
        UserError: no protocol's result in the folder.
    """
    if not any((folder / name).is_file() for name in (RESULT, PLAN, f"{PLAIN}/{PLAN}")):
        raise UserError(f"no protocol's result at {folder}", accepted=f"a folder with {RESULT}, or of a run that was "
                        "stopped")
    gone, own = {"images": 0, "attempts": 0, "rows": 0}, _own(folder)
    for place in (part / name for part in own for name in (IMAGES, "pictures", "tensors")):
        if place.is_dir():
            gone["images"] += sum(file.is_file() for file in place.rglob("*"))
            shutil.rmtree(place)
    for part in own if texts else ():
        for name, bare in (("rows", _bare_rows), ("", _bare_result), ("attempts", _bare_attempts)):
            try:
                count = bare(part)
            except (OSError, ValueError, TypeError, AttributeError) as error:
                raise ModelError(f"{name or 'the result'} in {part} cannot be read: {error}",
                                 remedy="texts may be left in it: delete the folder by hand") from error
            if name:
                gone[name] += count
    (folder / UNTIL).unlink(missing_ok=True)  # last: a wipe that was killed is due again
    return gone


def _bare_rows(part: Path) -> int:
    file = part / ROWS
    if not file.is_file():
        return 0
    bare = [row.model_copy(update={"text": ""}) for row in read_rows(part)]
    write_text(file, "".join(f"{row.model_dump_json()}\n" for row in bare))
    return len(bare)


def _bare_result(part: Path) -> int:
    file = part / RESULT
    if not file.is_file():
        return 0
    result = ProtocolResult.read(untrusted.text(file))
    write_json(file, result.model_copy(update={"sensitive": True}).model_dump(mode="json"))
    return 1


def _bare_attempts(part: Path) -> int:
    count = 0
    for file in sorted(part.glob(ATTEMPTS)):
        mend_lines(file, head=1, fate="they are deleted with the texts that they may hold")
        head, *lines = read_lines(file)
        kept = [sealed_line(_without_texts(unsealed_line(line))) for line in lines]
        bare_head = {"fingerprint": untrusted.json_in(head).get("fingerprint", "")}  # the inputs hold prompts
        write_text(file, "".join(f"{line}\n" for line in (json.dumps(bare_head), *kept)))
        count += len(lines)
    return count


def _own(folder: Path) -> list[Path]:
    """A run's folder and, of an attack's run, those of its plain run and of its attempts; nobody else's beside them."""
    if not (folder / PLAIN / PLAN).is_file():
        return [folder]
    return [folder, folder / PLAIN, *sorted({file.parent for file in folder.glob(f"*/{ATTEMPTS}")})]


def _without_texts(attempt: dict[str, object]) -> dict[str, object]:
    prompt = attempt.get("prompt")
    bare = {**prompt, "text": ""} if isinstance(prompt, dict) else prompt
    return {**attempt, "prompt": bare, "text": "", "ids": [], "reread": []}
