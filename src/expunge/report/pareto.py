"""The plot of a bench: what attacks elicited in the worst case against integrity, the size of a mark for the cost.

Down and to the right is worse. The front joins the methods than which no other has better values of both, which may be
chance where intervals meet. Marks carry the rank that
the method has in the table, in them or beside them, and a key under the plot says which is which: sixteen names would
not fit between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from expunge.records import BenchResult, Pooled, Summary
from expunge.report.bench import pooled, ranked, widest
from expunge.report.charts import EDITED, FAINT, INK, ORIGINAL, WIDTH, plain_axes, svg_of
from expunge.report.words import finite, value_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

X, Y = "attack/worst", "integrity/near"
SIZES = (1.0, 10.0, 100.0)
"""Seconds that the key of sizes shows."""
PLOT, LINE, ABOVE, BELOW = 3.1, 0.185, 0.36, 0.5
"""Inches: height of the plot, of a line of the key, of what stands above and below the plot."""
FLOOR = -1.0
"""Integrity below which a mark stands at the edge and points down: one wrecked model would flatten all others."""
ROOMY = 12.0
"""Points from which on a mark has room for its number."""


@dataclass(frozen=True)
class Mark:
    """A method in the plot: `x` elicited, `y` integrity, `diameter` in points.

    `below` is the integrity of one that stands at the edge because it lies below; None for all others. `timed`: whether
    it is known how long the edit took; a mark that is not has the smallest size, and the key says so.
    """

    rank: int
    method: str
    x: float
    y: float
    diameter: float
    best: bool
    x_score: Pooled
    y_score: Pooled
    below: float | None = None
    timed: bool = True


def floored(shown: Sequence[Mark]) -> list[Mark]:
    """The marks with those below `FLOOR` put there, unless all are."""
    if max(mark.y for mark in shown) <= FLOOR:
        return list(shown)
    return [mark if mark.y >= FLOOR else replace(mark, y=FLOOR, below=mark.y) for mark in shown]


def marks(result: BenchResult, concept: str) -> list[Mark]:
    """The methods that have both scores, in the order of the table."""
    chosen: list[tuple[int, Summary, float, float]] = []
    for rank, item in enumerate(ranked(result, concept), 1):
        x, y = value_of(pooled(item, X)), value_of(pooled(item, Y))
        if x is not None and y is not None:
            chosen.append((rank, item, x, y))
    best = front([(x, y) for _, _, x, y in chosen])
    out = []
    for (rank, item, x, y), kept in zip(chosen, best, strict=True):
        x_score, y_score = pooled(item, X), pooled(item, Y)
        assert x_score is not None
        assert y_score is not None
        out.append(Mark(rank, item.method, x, y, diameter(item.cost.time if item.cost else 0.0), kept, widest(x_score),
                        widest(y_score), timed=item.cost is not None and item.cost.time > 0))
    return out


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each (x, y) is beaten by none: no other has x as low and y as high, and one of them better."""
    return [not any(a <= x and b >= y and (a, b) != (x, y) for a, b in points) for x, y in points]


def diameter(seconds: float) -> float:
    """Points: 5 for a second or less, 5 more for every ten times as long."""
    return 5.0 + 5.0 * max(0.0, math.log10(max(seconds, 1.0)))


def pareto_chart(result: BenchResult, concept: str = "") -> str:
    """SVG of one concept ("" for all together); "" where fewer than two methods have both scores."""
    shown = marks(result, concept)
    if len(shown) < 2:
        return ""
    shown = floored(shown)
    lines = math.ceil(len(shown) / 2)
    height = ABOVE + PLOT + BELOW + LINE * lines + 0.05

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.125, (BELOW + LINE * lines + 0.05) / height, 0.85, PLOT / height))
        _limits(axes, shown)
        _front(axes, shown)
        for mark in sorted(shown, key=lambda item: -item.diameter):  # small marks over large ones
            _mark(axes, mark)
        _numbers(figure, axes, shown)
        _sizes(axes)
        _key(figure, shown, height)

    return svg_of(f"pareto-{result.concepts.index(concept) if concept else 'all'}", draw, height)


def _limits(axes: Axes, shown: Sequence[Mark]) -> None:
    lowest = min(mark.y for mark in shown)
    ends = [end for mark in shown if (end := finite(mark.y_score.low)) is not None]
    low = min(0.9, lowest, max(min(ends, default=lowest), min(FLOOR, lowest)))
    high = max(mark.y for mark in shown)
    room = 0.08 * (max(high, 0.0) - low + 0.05)
    axes.set_xlim(-0.05, 1.05)
    axes.set_ylim(low - room, min(1.0, high + 3 * room) + room)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    axes.locator_params(axis="y", nbins=6)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}".replace("-", "\N{MINUS SIGN}"))
    axes.set_xlabel("elicited by attacks, worst case (less is better)")
    axes.set_title("integrity, near (more is better)", loc="left", fontsize=10, color=INK, pad=16, x=-0.11)
    axes.grid(color=FAINT, linewidth=0.8)
    plain_axes(axes)


def _front(axes: Axes, shown: Sequence[Mark]) -> None:
    best = sorted({(mark.x, mark.y) for mark in shown if mark.best})
    if len(best) > 1:
        axes.step([x for x, _ in best], [y for _, y in best], where="post", color=EDITED, linewidth=1.2,
                  linestyle=(0, (4, 2)), zorder=2)


def _mark(axes: Axes, mark: Mark) -> None:
    colour = EDITED if mark.best else ORIGINAL
    for score, along in ((mark.x_score, True), (mark.y_score, False)):
        low, high = finite(score.low), finite(score.high)
        if low is not None and high is not None:
            line = ([low, high], [mark.y] * 2) if along else ([mark.x] * 2, [low, high])
            axes.plot(*line, "-", color=colour, linewidth=0.9, alpha=0.4, zorder=2, solid_capstyle="butt")
    axes.plot([mark.x], [mark.y], "o" if mark.below is None else "v", color=colour, markersize=mark.diameter, zorder=3,
              clip_on=False, markerfacecolor=colour, markeredgewidth=1.2, alpha=0.55 if mark.diameter > 9 else 0.9)


def _numbers(figure: Figure, axes: Axes, shown: Sequence[Mark]) -> None:
    """Each mark's rank in it; beside a small one, where that covers least of the marks and numbers placed before."""
    places = {mark.rank: axes.transData.transform((mark.x, mark.y)) * 72 / figure.dpi for mark in shown}
    taken: list[tuple[float, float, float]] = [(*places[mark.rank], mark.diameter / 2) for mark in shown]
    for mark in shown:
        x, y = places[mark.rank]
        best = (x, y) if mark.diameter >= ROOMY else _beside(x, y, mark.diameter / 2, taken)
        if best != (x, y):
            taken.append((*best, 5.0))
        line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.8, "shrinkA": 4, "shrinkB": mark.diameter / 2}
        axes.annotate(str(mark.rank), (mark.x, mark.y), (best[0] - x, best[1] - y), textcoords="offset points",
                      ha="center", va="center_baseline", fontsize=8.5, color=INK, zorder=4, annotation_clip=False,
                      fontweight="bold" if mark.best else "normal",
                      arrowprops=line if math.dist(best, (x, y)) > mark.diameter / 2 + 10 else None)


def _beside(x: float, y: float, radius: float, taken: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """The place around (x, y), in points, that covers least of the circles (x, y, radius) that are taken."""
    around = [(radius + far, math.pi * (k / 6 + 0.25)) for far in (6, 15) for k in range(12)]
    places = [(x + reach * math.cos(angle), y + reach * math.sin(angle)) for reach, angle in around]

    def covered(place: tuple[float, float]) -> float:
        over = sum(max(0.0, other + 6 - math.dist(place, (a, b))) for a, b, other in taken)
        return over + 0.02 * math.dist(place, (x, y))

    return min(places, key=covered)


def _sizes(axes: Axes) -> None:
    """Marks of known cost, above the plot on the right."""
    at = 0.0  # points from the right end
    for seconds in reversed(SIZES):
        text, size = f"{seconds:g} s", diameter(seconds)
        axes.annotate(text, (1, 1), (at, 9), xycoords="axes fraction", textcoords="offset points", ha="right",
                      va="center", fontsize=9, color=INK)
        at -= 5.5 * len(text) + size / 2 + 1
        axes.plot([1 + at / (72 * WIDTH * 0.85)], [1 + 9 / (72 * PLOT)], "o", transform=axes.transAxes, color=ORIGINAL,
                  markersize=size, clip_on=False, alpha=0.55)
        at -= size / 2 + 8


def _key(figure: Figure, shown: Sequence[Mark], height: float) -> None:
    """Rank and method, in two columns under the plot; those on the front in bold."""
    lines = math.ceil(len(shown) / 2)
    for place, mark in enumerate(shown):
        column, line = divmod(place, lines)
        x, y = 0.02 + 0.5 * column, (LINE * (lines - line) - 0.08) / height
        weight = "bold" if mark.best else "normal"
        figure.text(x + 0.05, y, str(mark.rank), fontsize=9, color=INK, ha="right", va="center", fontweight=weight)
        room = (28 if mark.below is None else 21) - (0 if mark.timed else 15)
        name = mark.method if len(mark.method) <= room else f"{mark.method[:room - 1]}…"
        name += "" if mark.below is None else f" ({mark.below:.1f})".replace("-", "\N{MINUS SIGN}")
        name += "" if mark.timed else " (time unknown)"
        figure.text(x + 0.065, y, name, fontsize=9, color=INK, va="center", fontweight=weight)
