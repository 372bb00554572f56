"""What a detector said of image after image: a rate with its interval, and what it could not say as numbers of their
own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from typing_extensions import Self

from expunge.errors import ExpungeError
from expunge.metrics.statistics import interval_words, rate_interval
from expunge.metrics.stream.base import Accumulator, State
from expunge.metrics.stream.values import Meaning
from expunge.records import ItemKey, Score

Reading = bool | str | None
"""True and False are answers, None an abstention; a text says how the detector failed."""
ABSTAINED, FAILED = "abstained", "detector failed"


class Readings(Accumulator):
    """Answers of one detector to one question: the share of yes among the images that it answered on.

    Attributes:
        meaning: which question of which detector.
        failures: up to a dozen distinct reasons of failures, in its words.
    """

    kind = "readings"

    def __init__(self, meaning: Meaning) -> None:
        super().__init__()
        self.meaning = meaning
        self.failures: list[str] = []
        self._hits: list[bool] = []

    def add(self, items: Sequence[ItemKey], readings: Sequence[Reading]) -> None:
        """Take in a reading per item; abstentions and failures are counted in `left_out`, each by itself.

        Raises:
            ExpungeError: another number of readings, or an item that was answered on before.
        """
        if len(readings) != len(items):
            raise ExpungeError(f"{len(readings)} readings for {len(items)} items", accepted="one reading per item")
        self._take(items, ["" if isinstance(one, bool) else ABSTAINED if one is None else FAILED for one in readings])
        self._hits += [one for one in readings if isinstance(one, bool)]
        self._note([one for one in readings if isinstance(one, str)])

    def merge(self, other: Self) -> None:
        """Take in what another process saw; its items follow."""
        if other.meaning != self.meaning:
            raise ExpungeError(f"readings for {other.meaning.name}", accepted=self.meaning.name)
        self._merged(other)
        self._hits += other._hits
        self._note(other.failures)

    @property
    def by_item(self) -> dict[ItemKey, bool]:
        """Answer by (prompt, seed)."""
        return dict(zip(self.items, self._hits, strict=True))

    def score(self) -> Score:
        """The rate, with Wilson's interval over prompts, and what it would be had the unanswered ones been yes."""
        groups: dict[str, list[float]] = {}
        for (text, _), hit in zip(self.items, self._hits, strict=True):
            groups.setdefault(text, []).append(float(hit))
        low, high = rate_interval(groups)
        hits, unsure = sum(self._hits), sum(self.left_out.get(reason, 0) for reason in (ABSTAINED, FAILED))
        note = "" if self.n else f"not measured: no answer on any of {unsure} images" if unsure else \
            "not measured: nothing was asked"
        if self.n and unsure:
            note = f"if all {unsure} images without an answer were yes: {(hits + unsure) / (self.n + unsure):.1%}"
        return Score(**asdict(self.meaning), value=hits / self.n if self.n else None, low=low, high=high,
                     interval=interval_words(groups), n=self.n, prompts=len(groups),
                     numerator=hits if self.n else None, left_out=self.left_out, note=note,
                     seeds=tuple(sorted({number for _, number in self.items})),
                     per_item={f"{text} | {number}": float(hit) for (text, number), hit in self.by_item.items()})

    @property
    def state(self) -> State:
        """All of it, for a file."""
        return State(self.kind, {}, {**self._values(), "meaning": asdict(self.meaning), "hits": self._hits,
                                     "failures": self.failures})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The accumulator of a state. Raises UserError if it is another kind's."""
        out = cls(Meaning(**state.values.get("meaning", {"name": "", "title": "", "denominator": ""})))
        out._fill(state)
        out._hits = [bool(hit) for hit in state.values["hits"]]
        out.failures = list(state.values["failures"])
        return out

    def _note(self, reasons: Sequence[str]) -> None:
        self.failures = list(dict.fromkeys([*self.failures, *reasons]))[:12]
