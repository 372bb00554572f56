"""What an attack's author proposes, and what the base makes of it: candidates, a batch of items, outcomes.

An author proposes candidates for the items that still stand, round by round. `Batch` draws them, shows them to the
judge, counts what they cost and settles items: where the concept is found, where the judge fails, where the budget of
images is spent, and where the author gives up. All other loops of attacks are their authors' own search.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from operator import attrgetter

from torch import Tensor

from expunge.attacks.victim import Goal, Item, Victim
from expunge.records import Detection, Request, Spent

Again = Callable[[Sequence[int]], Tensor]
"""The attack's own image with other seeds: (len(seeds), 3, H, W)."""
Draw = Callable[[Sequence[int], Sequence[int]], Tensor]
"""Images (B, 3, H, W) for the items at B rows of the batch, at B seeds."""


@dataclass(frozen=True)
class Candidate:
    """One image to ask for on behalf of one item.

    Attributes:
        row: place of the item in the batch.
        text, seed: what is asked; None: the item's own prompt, its own seed.
        ids: the prompt's tokens, where they were chosen as such.
        note: what the record says if the item ends here.
        draw: how images like it are drawn; None: by prompt. Candidates of a round with one `draw` go together.
        network_rows: what the image costs; None: what an image of the sampler's does.
        tensors: what else the attack ends in (embedding, latent), asked for once the image is judged.
        fixed: whether nothing in it is random, so that it cannot be drawn again.
        name: of one of several ways of trying ("strength 0.9"). The record says at which the concept was found and at
            which it was not; one that fails leaves nothing but that behind.
    """

    row: int
    text: str | None = None
    seed: int | None = None
    ids: tuple[int, ...] = ()
    note: str = ""
    draw: Draw | None = None
    network_rows: int | None = None
    tensors: Callable[[], Mapping[str, Tensor]] = dict
    fixed: bool = False
    name: str = ""


Rounds = Generator[Sequence[Candidate], None, None]
"""What an attack proposes: candidates, round by round. Between two rounds items are settled."""


class Meter:
    """Counts what is spent on each row of a batch; time is shared among the rows that were worked on."""

    def __init__(self, count: int) -> None:
        self._spent = [Spent() for _ in range(count)]
        self._last = time.monotonic()

    def add(self, rows: Sequence[int], *, gradient_steps: int = 0, network_rows: int = 0, images: int = 0) -> None:
        """Add the same to each of `rows`, and the time since the last call, divided among them."""
        now = time.monotonic()
        share, self._last = (now - self._last) / max(1, len(rows)), now
        for row in rows:
            old = self._spent[row]
            self._spent[row] = Spent(gradient_steps=old.gradient_steps + gradient_steps,
                                     network_rows=old.network_rows + network_rows, images=old.images + images,
                                     seconds=round(old.seconds + share, 3))

    def __getitem__(self, row: int) -> Spent:
        return self._spent[row]


@dataclass(frozen=True)
class Outcome:
    """What `run` found out about one item of its batch.

    Attributes:
        row: place of the item in the batch.
        found: whether the judge saw the concept in `picture`.
        spent: what it took.
        picture: (3, H, W), the last one that was judged; None if none was drawn.
        text: the adversarial prompt, for attacks that end in one; ids: its tokens as optimised.
        tensors: what else the attack ends in (embedding, latent), to be kept.
        again: draws the attack's image with other seeds; None where there is no seed to change (then `note` says so).
        error: why the attempt broke off; "" if it did not.
    """

    row: int
    found: bool
    spent: Spent
    picture: Tensor | None = None
    text: str = ""
    ids: tuple[int, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    again: Again | None = None
    error: str = ""
    note: str = ""


class Batch:
    """Items that are attacked together: what an author reads, and what he tells.

    Attributes:
        victim, request, goal: whom to attack, for what, and what counts.
        items: the items, by row. size: images drawn together.
        notes: by row, what the record says of the item beside the note of the candidate that it ends with.
    """

    def __init__(self, victim: Victim, request: Request, items: Sequence[Item], goal: Goal, size: int, most: int
                 ) -> None:
        """`most`: images after which an item is settled."""
        self.victim, self.request, self.items, self.goal, self.size = victim, request, items, goal, size
        self.notes: list[list[str]] = [[] for _ in items]
        self._most, self._meter, self._standing = most, Meter(len(items)), dict.fromkeys(range(len(items)))
        self._last, self._settled = dict[int, tuple[Candidate, Outcome]](), list[Outcome]()

    @property
    def standing(self) -> list[int]:
        """Rows of the items that are not settled."""
        return [*self._standing]

    def spend(self, rows: Sequence[int], *, gradient_steps: int = 0, network_rows: int = 0) -> None:
        """Charge each of the items at `rows` what was done for it since the last round, and a share of the time."""
        self._meter.add(rows, gradient_steps=gradient_steps, network_rows=network_rows)

    def fail(self, rows: Sequence[int], error: str) -> None:
        """The attack on the items at `rows` broke off."""
        for row in rows:
            self._settle(replace(self._ended(row), error=error, note=""))

    def give_up(self, rows: Sequence[int], note: str = "") -> None:
        """Nothing more is asked for the items at `rows`: what was judged last stands."""
        for row in rows:
            self.notes[row] += [note] if note else []
            self._settle(self._ended(row))

    def in_turn(self, tries: Sequence[Sequence[Candidate]], nothing: str = "nothing to ask") -> Rounds:
        """Rounds of each item's candidates in their order, as many at once as there is room for.

        What was drawn past the deciding one is not counted: an attacker who asks one by one never sees it. An item gets
        no more candidates at once than it had before, so at most half of them are in vain, and the batch decides how
        fast it is and nothing else. `nothing`: the note on items without any.
        """
        done = [0] * len(self.items)
        while True:
            for row in self.standing:
                if done[row] >= len(tries[row]):
                    self.give_up([row], "" if tries[row] else nothing)
            active = self.standing
            room = max(1, self.size // max(1, len(active)))
            upto = {row: done[row] + min(room, max(1, done[row])) for row in active}
            yield [one for row in active for one in tries[row][done[row]:upto[row]]]
            for row in active:
                done[row] = upto[row]

    def judge(self, candidates: Sequence[Candidate]) -> None:
        """Draw candidates of items that still stand, show them to the judge, and settle the items that they decide."""
        strangers = [one.row for one in candidates if one.row not in range(len(self.items))]
        if strangers:
            raise ValueError(f"a candidate for row {strangers[0]} of {len(self.items)}")
        asked = [one for one in candidates if one.row in self._standing]
        for draw, together in groupby(asked, attrgetter("draw")):
            for group, pictures in self._drawn(list(together), draw):
                sights = self.goal.see(pictures)
                self._meter.add([*dict.fromkeys(one.row for one in group)])  # the time
                for one, picture, sight in zip(group, pictures, sights, strict=True):
                    if one.row in self._standing:
                        self._judged(one, picture, sight)

    def settled(self) -> Iterator[Outcome]:
        """The outcomes since the last call."""
        outcomes, self._settled = self._settled, []
        yield from outcomes
        self._meter.add([])  # what is done with outcomes meanwhile is not the attack's time

    def _judged(self, one: Candidate, picture: Tensor, sight: Detection) -> None:
        row, found = one.row, sight.found and not sight.error
        if self.victim.watch is not None:
            self.victim.watch(self.items[row], self._text(one), self._seed(one), one.draw is None, picture, sight)
        own = self.victim.rows(self.victim.sampler.of(self.items[row][0]))
        self._meter.add([row], images=1, network_rows=own if one.network_rows is None else one.network_rows)
        made = Outcome(row, found, self._meter[row], picture.clone(), error=sight.error)
        if found or not one.name:
            made = replace(made, text=one.text if one.text not in (None, self.items[row][0].text) else "", ids=one.ids,
                           tensors=one.tensors(), again=None if one.fixed else partial(self._again, one))
        self._last[row] = one, made
        if found:
            fixed = ["deterministic: no seed to draw it again with"] if one.fixed else []
            at = [f"found at {one.name}"] if one.name else []
            self._settle(replace(made, note=_joined([*at, one.note, *self.notes[row], *fixed])))
        elif sight.error:
            self._settle(replace(made, note=one.note))
        else:
            self.notes[row] += [f"not at {one.name}"] if one.name else []
            if made.spent.images >= self._most:
                self._settle(self._ended(row))

    def _ended(self, row: int) -> Outcome:
        """What becomes of an item for which nothing more is asked."""
        if row not in self._last:
            return Outcome(row, False, self._meter[row], note=_joined(self.notes[row]))
        one, outcome = self._last[row]
        return replace(outcome, spent=self._meter[row], note=_joined([one.note, *self.notes[row]]))

    def _settle(self, outcome: Outcome) -> None:
        self._standing.pop(outcome.row)
        self._last.pop(outcome.row, None)
        self._settled.append(outcome)

    def _seed(self, one: Candidate) -> int:
        return self.items[one.row][1] if one.seed is None else one.seed

    def _drawn(self, part: Sequence[Candidate], draw: Draw | None) -> Iterator[tuple[Sequence[Candidate], Tensor]]:
        """Candidates that are drawn alike, with their images."""
        if draw is not None:
            yield part, draw([one.row for one in part], [self._seed(one) for one in part])
            return
        for own, places in self.victim.parts([self.items[one.row] for one in part]):
            group = [part[place] for place in places]
            yield group, own.draw([self._text(one) for one in group], [self._seed(one) for one in group], self.size)

    def _text(self, one: Candidate) -> str:
        return self.items[one.row][0].text if one.text is None else one.text

    def _again(self, one: Candidate, seeds: Sequence[int]) -> Tensor:
        """A candidate at other seeds of the item, shifted as its own seed was."""
        shifted = [seed + self._seed(one) - self.items[one.row][1] for seed in seeds]
        if one.draw is not None:
            return one.draw([one.row] * len(seeds), shifted)
        (own, _), = self.victim.parts([self.items[one.row]])
        return own.draw([self._text(one)] * len(seeds), shifted, self.size)


def _joined(parts: Sequence[str]) -> str:
    return "; ".join(filter(None, parts))
