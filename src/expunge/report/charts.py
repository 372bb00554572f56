"""The report's plots as inline SVG: narrow enough for a phone, coloured by the page, always the same bytes.

Marks are drawn in stand-in colours that the SVG text then swaps for CSS (`currentColor`, `var(--edited)`),
so one drawing serves light, dark and print. Original and edited differ in shape as well as in colour.
Matplotlib's object-oriented interface only: no pyplot, no figure that outlives its call.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from expunge.errors import UserError, install
from expunge.records import Evaluation, PatchCard, Score, SuiteResult
from expunge.report.words import find, finite, number, percent, value_of
from expunge.suite_results import success_against_budget

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.6
"""Inches at 72 points each: about the width of a phone, so that 11-point text stays readable there."""

INK, FAINT, EDITED, ORIGINAL = "#010203", "#040506", "#070809", "#0a0b0c"
"""Stand-in colours, replaced in the SVG text."""

_CSS = {INK: "currentColor", FAINT: "var(--line)", EDITED: "var(--edited)", ORIGINAL: "var(--original)"}

FOUND_ROWS = (("direct", "direct"), ("held_out", "held-out"), ("paraphrase", "paraphrase"),
              ("implicit", "implicit"), ("all", "all of these"), ("never_seen", "never seen"),
              ("keep", "other things"))
_LABEL = 14
"""Letters that fit beside a row."""
RETAINED_ROWS = (("near", "near"), ("far", "far"), ("style", "style"))
INTEGRITY_ROWS = (*RETAINED_ROWS, ("empty", "empty prompt"))


def found_chart(evaluation: Evaluation) -> str:
    """Found rate by kind of prompt and way of asking, original (ring) and edited (dot), with 95% intervals."""
    concepts = evaluation.card.request.concepts
    each = [(f"all/{name}", name if len(name) <= _LABEL else f"{name[:_LABEL - 1]}…") for name in concepts]
    rows = [row for kind in FOUND_ROWS for row in (kind, *(each if kind[0] == "all" and len(each) > 1 else ()))]
    ways = [(f"@{name}", f"· {name}") for name in evaluation.strata]
    place = next((i + 1 for i, row in enumerate(rows) if row[0] == "held_out"), len(rows))
    return _rates(evaluation, "found", [*rows[:place], *ways, *rows[place:]], "share of images in which it is found")


def retained_chart(evaluation: Evaluation) -> str:
    """Retained rate near, far, by way of asking and style, original (ring) and edited (dot), with 95% intervals."""
    rows = [row for role in RETAINED_ROWS for row in (
        role, *((f"{role[0]}@{name}", f"· {name}") for name in evaluation.strata))]
    return _rates(evaluation, "retained", rows, "share of images that show what was asked")


def integrity_chart(evaluation: Evaluation) -> str:
    """Normalised integrity as bars from 0 (as different as another seed) to 1 (numerical noise)."""
    rows = [(label, find(evaluation, f"integrity/{name}")) for name, label in INTEGRITY_ROWS]
    values = [value_of(score) for _, score in rows]
    if all(value is None for value in values):
        return ""
    lows = [low for _, score in rows if score is not None and (low := finite(score.low)) is not None]
    left = max(-1.0, min([0.0, *lows, *(value for value in values if value is not None)])) - 0.02

    def draw(figure: Figure) -> None:
        axes = _axes(figure, [label for label, _ in rows], (left, 1.02), above=0.24)
        axes.set_xticks([tick for tick in (-1, -0.5, 0, 0.5, 1) if tick >= left])
        axes.set_xlabel("integrity")
        room = left > -0.3  # else the two words would meet
        ends = ((0, "left" if room else "right", "another seed"), (1, "right", "numerical noise"))
        for end, side, words in ends:
            axes.axvline(end, color=INK, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
            axes.annotate(words, (end, 1), (0, 4), xycoords=("data", "axes fraction"), ha=side, color=INK,
                          textcoords="offset points", fontsize=10)
        for y, (_, score) in enumerate(rows):
            value = value_of(score)
            if score is None or value is None:
                _missing(axes, y)
                continue
            axes.barh(y, value, height=0.42, color=EDITED, zorder=2)
            _whisker(axes, score, y, INK)
            axes.annotate(number(score.name, value), (1, y), (8, 0), xycoords=("axes fraction", "data"),
                          textcoords="offset points", va="center", color=INK, fontweight="bold")

    return svg_of("integrity", draw, 0.42 * len(rows) + 0.9)


def loss_chart(card: PatchCard) -> str:
    """Training losses over the steps, as the card keeps them (a thinned series, taken as evenly spaced)."""
    series = {name: values for name, values in card.losses.items()
              if len(values) > 1 and any(math.isfinite(value) for value in values)}
    if not series:
        return ""
    dashes: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.14, 0.2, 0.83, 0.76))
        for index, (name, values) in enumerate(series.items()):
            stride = (max(card.steps, len(values)) - 1) / (len(values) - 1)
            steps = [1 + stride * i for i in range(len(values))]
            shown = [value if math.isfinite(value) else math.nan for value in values]
            label = f"\N{ZERO WIDTH SPACE}{name}"  # the legend leaves out names that begin with "_"
            axes.plot(steps, shown, color=EDITED if index == 0 else INK, label=label,
                      linewidth=1.6 if index == 0 else 1.2, linestyle=dashes[index % len(dashes)])
        numbers = [value for values in series.values() for value in values if math.isfinite(value)]
        if min(numbers) > 0 and max(numbers) > 50 * min(numbers):
            axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("training step")
        axes.margins(x=0.01)
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        plain_axes(axes)
        if len(series) > 1:
            axes.legend(frameon=False, labelcolor=INK, fontsize=10)

    return svg_of("loss", draw, 2.6)


def budget_chart(suite: SuiteResult) -> str:
    """Share of items elicited against the NFE spent per item: one step curve per attack, up to its budget."""
    runs = [(run, success_against_budget(run.attempts)) for run in suite.runs
            if any(item.outcome != "failed" for item in run.attempts)]
    ends = [max(run.budget.network_rows, *(item.spent.network_rows for item in run.attempts)) for run, _ in runs]
    costs = [x for _, points in runs for x, _ in points[1:]]
    if not runs or max(ends) <= 0:
        return ""
    left = max(1.0, min([*costs, *(end for end in ends if end)]) / 2)

    def draw(figure: Figure) -> None:
        axes = _axes(figure, [run.attack for run, _ in runs], (left, max(ends) * 1.1))
        axes.set_xscale("log")
        marks = (1, 2, 5) if max(ends) < 30 * left else (1,)
        decades = range(math.floor(math.log10(left)), math.ceil(math.log10(max(ends))) + 1)
        axes.set_xticks([tick for k in decades for mark in marks if left <= (tick := mark * 10.0 ** k) <= max(ends)])
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("NFE spent on an item, at most")
        for y, ((run, points), end) in enumerate(zip(runs, ends, strict=True)):
            floor, height = y + 0.36, 0.72  # a row's 0% and 100% are floor and floor - height
            x = [max(cost, left) for cost, _ in points] + [max(end, left)]
            shares = [share for _, share in points] + [points[-1][1]]
            heights = [floor - height * share for share in shares]
            axes.plot([left, x[-1]], [floor, floor], color=FAINT, linewidth=0.8, zorder=1)
            axes.plot([left, x[-1]], [floor - height] * 2, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
            axes.fill_between(x, heights, floor, step="post", color=EDITED, alpha=0.25, linewidth=0, zorder=2)
            axes.step(x, heights, where="post", color=EDITED, linewidth=1.8, clip_on=False, zorder=3)
            tried = [item for item in run.attempts if item.outcome != "failed"]
            hits = sum(item.outcome == "found" for item in tried)
            axes.annotate(f"{hits} of {len(tried)}", (1, y), (10, 0), xycoords=("axes fraction", "data"), va="center",
                          textcoords="offset points", color=EDITED, fontsize=10, fontweight="bold")

    return svg_of("budget", draw, 0.6 * len(runs) + 0.75)


def _rates(evaluation: Evaluation, kind: str, strata: Sequence[tuple[str, str]], axis: str) -> str:
    full = [(f"{kind}{name}" if name.startswith("@") else f"{kind}/{name}", label) for name, label in strata]
    pairs = [(label, find(evaluation, f"original/{name}"), find(evaluation, name)) for name, label in full]
    rows = [row for row in pairs if row[1] is not None or row[2] is not None]
    if all(value_of(score) is None for row in rows for score in row[1:]):
        return ""

    def draw(figure: Figure) -> None:
        axes = _axes(figure, [label for label, _, _ in rows], (-0.02, 1.02))
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
        axes.set_xlabel(axis)
        for y, (_, original, edited) in enumerate(rows):
            _dot(axes, original, y - 0.17, edited=False)
            _dot(axes, edited, y + 0.17, edited=True)
            if value_of(original) is None and value_of(edited) is None:
                _missing(axes, y)

    return svg_of(kind, draw, 0.56 * len(rows) + 0.75)


def _dot(axes: Axes, score: Score | None, y: float, edited: bool) -> None:
    value = value_of(score)
    if score is None or value is None:
        return
    colour = EDITED if edited else ORIGINAL
    _whisker(axes, score, y, colour)
    axes.plot([value], [y], "o", color=colour, markersize=7 if edited else 6.5, clip_on=False, zorder=4,
              markerfacecolor=colour if edited else "none", markeredgewidth=1.6)
    axes.annotate(percent(value), (1, y), (10, 0), xycoords=("axes fraction", "data"), va="center",
                  textcoords="offset points", color=colour, fontsize=10,
                  fontweight="bold" if edited else "normal")


def _whisker(axes: Axes, score: Score, y: float, colour: str) -> None:
    low, high = finite(score.low), finite(score.high)
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], "-", color=colour, linewidth=1.8, solid_capstyle="round", zorder=3)


def _missing(axes: Axes, y: float) -> None:
    axes.annotate("not measured", (0.5, y), xycoords=("axes fraction", "data"), ha="center", va="center",
                  color=INK, fontsize=10, style="italic")


def _axes(figure: Figure, labels: Sequence[str], limits: tuple[float, float], above: float = 0.08) -> Axes:
    """Axes with one row per label from top to bottom; `above`: inches kept free over them."""
    height = figure.get_figheight()
    axes = figure.add_axes((0.255, 0.58 / height, 0.6, 1 - (0.58 + above) / height))
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(*limits)
    axes.set_yticks(range(len(labels)), labels)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    plain_axes(axes)
    axes.spines["left"].set_visible(False)
    return axes


def plain_axes(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=11, width=0.8)
    axes.tick_params(axis="x", labelsize=10)
    axes.xaxis.label.set(color=INK, size=10)


def svg_of(name: str, draw: Any, height: float) -> str:
    """Run `draw` on an empty figure; SVG without prolog, metadata or ids that could clash on one page."""
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("the report's plots need matplotlib, which is not installed",
                        remedy=install("report")) from error
    look: dict[Any, Any] = {"svg.hashsalt": f"expunge-{name}", "svg.fonttype": "none", "text.parse_math": False,
            "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "axes.unicode_minus": True,
            "text.usetex": False}
    with rc_context(look):
        figure = Figure(figsize=(WIDTH, height))
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        draw(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg"):]
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"'?DejaVu Sans'?(, ?sans-serif)?", "var(--sans)", text)
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text)
    for stand_in, css in _CSS.items():
        text = text.replace(stand_in, css)
    return re.sub(r"\n\s*\n+", "\n", text).strip()
