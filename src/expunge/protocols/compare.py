"""Two runs of one protocol, paired image by image: what differs, with intervals.

    d = share of B's images that show it - share of A's,   over the same rows and seeds

A pair counts where the detector could judge both images. The interval takes prompts as units (Agresti and Min).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from expunge.errors import UserError
from expunge.metrics.statistics import change_interval, interval_words
from expunge.protocols.answers import Answers
from expunge.protocols.result import PLAIN, read_rows
from expunge.protocols.table import REFUSED
from expunge.records import Score
from expunge.records.protocol import ProtocolResult


def compared(a: ProtocolResult, b: ProtocolResult, folder_a: Path, folder_b: Path) -> list[Score]:
    """A score for each detector of the protocol: how much more often B's images show what it looks for.

    Raises:
        UserError: other protocols, other versions of them, or other detectors; no pair of images.
    """
    for what, one, other in (("protocol", a.protocol_hash, b.protocol_hash), ("model", a.model_hash, b.model_hash)):
        if one != other:
            raise UserError(f"two runs with another {what} ({one} and {other})",
                            accepted="runs of one protocol on one model", remedy="run the protocol again")
    if a.deviations != b.deviations:
        raise UserError(f"two runs that deviate otherwise: {'; '.join(a.deviations) or 'not at all'} and "
                        f"{'; '.join(b.deviations) or 'not at all'}", accepted="the same deviations")
    if a.test_only or b.test_only:
        raise UserError(REFUSED, accepted="results of the protocol's own detectors")
    files = [{one.role: one.sha256 for one in result.files} for result in (a, b)]
    others = [role for role in files[0] if files[1].get(role) != files[0][role]]
    if others:
        raise UserError(f"another file was used for {', '.join(others)}", accepted="the same files in both runs")
    different = [name for name in a.detectors if b.detectors.get(name) != a.detectors[name]]
    if different:
        raise UserError(f"another detector looked: {', '.join(different)}", accepted="the same in both runs")
    asked = _plain(folder_a)
    texts = {row.number: row.text_sha256 for row in read_rows(asked)}
    first, second = Answers(asked), Answers(_plain(folder_b))
    out = [_change(name, _shown(name, first), _shown(name, second), texts) for name in a.detectors
           if any(name in one.answers for one in first)]
    if not out:
        raise UserError("no detector's answers in both runs", accepted="runs whose protocol has a detector")
    return out


def _plain(folder: Path) -> Path:
    """Where the answers lie: of an attack its rows without the attack."""
    return folder / PLAIN if (folder / PLAIN).is_dir() else folder


_Key = tuple[int, int, int]
"""Row, seed, and which of several supplied images it is."""


def _shown(name: str, answers: Answers) -> dict[_Key, bool | None]:
    """What a detector says of the edited model's images, by what pairs them; without an edit of the original's."""
    alone = all(one.subject == "original" for one in answers)
    out: dict[_Key, bool | None] = {}
    for one in answers:
        if alone or one.subject != "original":
            said = one.answers.get(name)
            out[one.row, one.seed, one.again] = None if said is None or said.error else said.shown
    return out


def _change(name: str, a: Mapping[_Key, bool | None], b: Mapping[_Key, bool | None], texts: Mapping[int, str]
            ) -> Score:
    groups: dict[str, list[float]] = {}
    lost = 0
    for key in a.keys() | b.keys():
        before, after = a.get(key), b.get(key)
        if before is None or after is None:
            lost += 1
        else:
            groups.setdefault(texts.get(key[0], str(key[0])), []).append(float(after) - float(before))
    found = change_interval(groups)
    n = sum(map(len, groups.values()))
    return Score(name=f"change/{name}", title=f"images that show it by {name}, B less A", value=found.value,
                 low=found.low, high=found.high, interval=interval_words(groups, "Agresti-Min"), n=n,
                 of="pairs of images", prompts=len(groups), subject="comparison",
                 denominator="pairs of images, same row and seed",
                 left_out={"not judged in both": lost} if lost else {},
                 note="" if n else "not measured: no pair could be judged")
