"""What attacks on weights share: look at every item still standing with the model as it is at that moment."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from expunge.attacks.base import Again, Goal, Item, Meter, Outcome, Victim


def look(victim: Victim, items: Sequence[Item], standing: Sequence[int], goal: Goal, meter: Meter, note: str,
         last: bool) -> Generator[Outcome, None, list[int]]:
    """Draw the items at `standing` and yield the outcomes that this settles; returns the rows that still stand.

    Args:
        note: what was done to the weights. last: whether there is no further look, which settles all items.
    """
    left = []
    for own, places in victim.parts([items[row] for row in standing]):
        rows = [standing[place] for place in places]
        pictures = own.draw([items[row][0].text for row in rows], [items[row][1] for row in rows])
        meter.add(rows, images=1, network_rows=own.rows_per_picture)
        for row, picture, sight in zip(rows, pictures, goal.see(pictures), strict=True):
            if sight.found or sight.error or last:
                again = again_as_it_is(own, items[row]) if sight.found else None
                yield Outcome(row, sight.found, meter[row], picture, error=sight.error, note=note, again=again)
            else:
                left.append(row)
    return left


def again_as_it_is(victim: Victim, item: Item) -> Again:
    """Pictures of the model with the weights that it has when they are asked for: while the attack is paused."""
    return lambda seeds: victim.draw([item[0].text] * len(seeds), seeds)
