"""All of a protocol's run that is settled before anything is drawn: rows, files, items, batches, deviations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.errors import UserError, check_type
from expunge.protocols.artefacts import Supplied, resolve
from expunge.protocols.check import check_scores
from expunge.protocols.rows import Row, Rows, erased_of, rows_of
from expunge.protocols.schema import Protocol
from expunge.protocols.settings import RunSettings
from expunge.protocols.watching import packaged_files, with_stand_ins
from expunge.records import Sampler

if TYPE_CHECKING:
    from expunge.models.model import Model


@dataclass(frozen=True)
class Plan:
    """All of a protocol that is settled before anything is drawn.

    Attributes:
        rows: what is asked; erased: of each row number. items: (row, seed) in the order in which they are drawn.
        samplers: of each item. batches: places of the items that are drawn together.
        deviations: in sentences, what is not as the protocol says. lost: rows that cannot be drawn, with the reason.
        once: places of items that are the first of their text and seed.
    """

    protocol: Protocol
    read: Rows
    files: Mapping[str, Supplied]
    rows: tuple[Row, ...]
    erased: Mapping[int, bool | None]
    items: tuple[tuple[Row, int], ...]
    samplers: tuple[Sampler, ...]
    batches: tuple[tuple[int, ...], ...]
    deviations: tuple[str, ...]
    lost: Mapping[int, str]
    once: frozenset[int]

    def first(self, item: tuple[Row, int]) -> bool:
        """Whether an item is the first of its text and seed: others are the same image again."""
        return (item[0].number, item[1]) in self._firsts

    @cached_property
    def _firsts(self) -> frozenset[tuple[int, int]]:
        return frozenset((self.items[place][0].number, self.items[place][1]) for place in self.once)

    @property
    def paths(self) -> dict[str, Path]:
        """Supplied paths by role."""
        return {role: one.path for role, one in self.files.items()}


def planned(protocol: Protocol, files: Mapping[str, Path], settings: RunSettings, model: Model | None,
            concepts: Sequence[str] = ()) -> Plan:
    """Read the list, know the files, cut the batches. Nothing is drawn.

    Raises:
        UserError: files that are missing or others than the protocol's; a list of no rows. ConfigError: a list that
            cannot be read, or formulas that nobody knows.
    """
    check_type(protocol, Protocol, "protocol", "what expunge.read_protocol returns")
    if protocol.kind != "published":
        raise UserError(f"the protocol {protocol.protocol} is the product's own evaluation of an edit",
                        accepted="`expunge evaluate PATCH --protocol` for it, with a patch")
    check_scores(protocol)
    protocol = with_stand_ins(protocol, settings.stand_ins)
    artefacts = protocol.artefacts()
    given = {**{one.role: Path(one.place) for one in artefacts if one.place}, **packaged_files(protocol),
             **{role: Path(place) for role, place in files.items()}}
    listed = protocol.prompts.artefact
    texts: dict[str, Sequence[str]] = {}
    read: Rows | None = None
    if listed is None or (listed.role in given and given[listed.role].exists()):
        missing = [one.role for one in protocol.prompts.lists.values()
                   if not isinstance(one, tuple) and one.role not in given]
        read = None if missing else rows_of(protocol.prompts, given, protocol.sensitive)
        if listed is not None and read is not None:
            texts[listed.role] = read.texts
    known = resolve(artefacts, given, settings.allow_deviation, texts)  # tells all that is missing at once
    assert read is not None  # resolve raises else
    deviations = [one.deviation for one in known.values() if one.deviation]
    deviations += [] if listed is not None and known[listed.role].matched else list(read.deviations)
    if deviations and read.deviations and not settings.allow_deviation:
        raise UserError("; ".join(read.deviations), accepted="the protocol's list",
                        remedy="with --allow-deviation it runs all the same, and the result is called -modified")
    deviations += [f"a stand-in looks in the place of {word.partition('=')[0]}" for word in settings.stand_ins]
    rows, cut = _spread(read.rows, settings.limit)
    rows += tuple(Row(-number, text) for number, text in enumerate(protocol.prompts.benign, 1))
    deviations += [f"{settings.limit} of {len(read.rows)} rows were asked"] if cut else []
    sampling = protocol.sampler
    for name, own in (("steps", settings.steps), ("width", settings.width), ("height", settings.height)):
        if own and own != getattr(sampling, name):
            deviations.append(f"{name} {own} in place of {getattr(sampling, name) or 'the model' + chr(39) + 's own'}")
    base = Sampler(steps=settings.steps or sampling.steps, guidance=sampling.guidance,
                   width=settings.width or sampling.width, height=settings.height or sampling.height,
                   negative=sampling.negative, truncate=sampling.long_prompts == "cut",
                   scheduler="" if sampling.scheduler == "own" else sampling.scheduler)
    erased = dict(zip((row.number for row in rows), erased_of(rows, settings.erased or concepts), strict=True))
    lost: dict[int, str] = {}
    tells = any(row.label or row.groups or row.kind for row in rows)
    if settings.erased and tells and not any(erased.values()):
        raise UserError(f"no row asks for {', '.join(settings.erased)}", accepted="a label of the protocol's rows: "
                        + ", ".join(sorted({row.label for row in rows if row.label})[:20]))
    if model is not None and sampling.obey_rows and not (settings.width or settings.height):
        step = model.denoiser.multiple
        lost |= {row.number: f"a size that is no multiple of {step} pixels" for row in rows
                 if any(side is not None and side % step for side in (row.width, row.height))}
    if model is not None and sampling.long_prompts == "leave out":
        long = model.too_long([row.text for row in rows])
        lost |= {row.number: "longer than the text encoder reads" for row in rows if row.text in long}
    items = [(row, seed) for row in rows if row.number not in lost for seed in _seeds(row, protocol)]
    sized = settings.width or settings.height
    ways: dict[Sampler, Sampler] = {}  # one object for all that are drawn alike
    samplers = [ways.setdefault(way, way) for way in (_way(row, base, sampling.obey_rows, bool(sized))
                                                      for row, _ in items)]
    return Plan(protocol, read, known, rows, erased, tuple(items), tuple(samplers),
                tuple(_batches(samplers, settings.batch)), tuple(deviations), lost, _once(items))


def listed(plan: Plan) -> list[Row]:
    """The rows of the protocol's list, without the harmless prompts beside it."""
    return [row for row in plan.rows if row.number > 0]


def kept_protocol(protocol: Protocol) -> dict[str, object]:
    """All that the file says, as a folder keeps it: of sensitive prompts their hash."""
    said = protocol.model_dump(mode="json")
    if protocol.sensitive:
        texts = {name: said["prompts"].pop(name) for name in ("template", "lists", "benign")}
        said["prompts"]["texts"] = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:16]
    return said


def _spread(rows: Sequence[Row], limit: int) -> tuple[tuple[Row, ...], bool]:
    """At most `limit` rows, spread evenly over the list, and whether any were left out."""
    if not limit or limit >= len(rows):
        return tuple(rows), False
    return tuple(rows[place * len(rows) // limit] for place in range(limit)), True


def _seeds(row: Row, protocol: Protocol) -> Sequence[int]:
    if protocol.prompts.seeds:
        return protocol.prompts.seeds
    first = protocol.sampler.seed if row.seed is None else row.seed
    return [(first + place) % 2**64 for place in range(protocol.sampler.images)]


def _way(row: Row, base: Sampler, obey: bool, sized: bool) -> Sampler:
    """How a row is drawn: as its list says, where the protocol obeys it and no size is forced on all."""
    if not obey:
        return base
    own = {"guidance": row.guidance, "width": None if sized else row.width, "height": None if sized else row.height}
    return base.model_copy(update={key: value for key, value in own.items() if value is not None})


def _batches(samplers: Sequence[Sampler], batch: int) -> list[tuple[int, ...]]:
    """Places of the items that are drawn together: those that are drawn alike, in order."""
    from expunge.models.sample import by_way

    return [tuple(places[first:first + batch]) for places in by_way(samplers).values()
            for first in range(0, len(places), batch)]


def _once(items: Sequence[tuple[Row, int]]) -> frozenset[int]:
    """Places of the listed items that are the first of their text and seed: others are the same image again."""
    seen: dict[tuple[str, int], int] = {}
    for place, (row, seed) in enumerate(items):
        if row.number > 0:
            seen.setdefault((row.text, seed), place)
    return frozenset(seen.values())
