"""What relearning curves allow to be said: sentences, rows, and the plot.

The numbers of steps are those of the first look at which at least `enough` of the images show the thing; the range
behind them is from the first look at which the upper end of the interval reaches it to the first at which the lower one
does. "Still there" is said only where these ranges do not meet, the original model surely draws the concept, and the
judge of the new thing is one to go by; "no faster" only where the ranges do not meet the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from expunge.records import Look, Relearning, RelearningCurve, Score
from expunge.records.relearning import Taught
from expunge.records.sequence import HALF
from expunge.report.charts import EDITED, FAINT, INK, ORIGINAL, plain_axes, svg_of
from expunge.report.words import count_text, counted, finite, interval_text, value_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCOPES = {"relearn": "all of the UNet", "relearn-xattn": "cross-attention", "relearn-lora": "a LoRA"}
"""What a training trains, in words."""
MARKS: dict[Taught, tuple[str, str, str]] = {"edited": (EDITED, "o", "-"), "unknown": (INK, "s", "--"),
                                             "original": (ORIGINAL, "D", ":")}
"""Colour, mark and line of each curve."""
RIGHT = 0.8
"""A detector of the new thing that is right less often makes it seem to be learned late."""


@dataclass(frozen=True)
class LookRow:
    """Found counts after so many steps, one text for each curve; "" where it has no such look."""

    steps: int
    found: tuple[str, ...]


def relearning_sentence(made: Relearning) -> str:
    """After how much training the concept is drawn, and whether that is faster than learning something new."""
    edited, unknown, original = made.curve("edited"), made.curve("unknown"), made.curve("original")
    if not any(_measured(curve) for curve in made.curves):
        return "Nothing was measured: there is no look at any image that could be judged."
    parts = [_again(made, edited, original)] if edited is not None else []
    if edited is None and made.patch_hash:
        parts.append(f"The edited model was not taught “{made.request.concept}”.")
    if original is not None:
        parts.append(_before(original))
    if unknown is None:
        parts.append(f"There is no curve of a thing that no model knew ({made.no_unknown or 'none was made'}): how "
                     "much of this pace is due to what the model kept is not known.")
    else:
        parts.append(_new(made, unknown))
        if edited is not None:
            parts.append(_compared(made, edited, unknown, original))
    return " ".join(parts)


def relearning_heads(made: Relearning) -> list[str]:
    """What each curve is, in words, in the order of `relearning_rows`."""
    whom = "edited" if made.patch_hash else "original"
    words: dict[Taught, str] = {"edited": "“{}”, edited model", "unknown": f"“{{}}” (new), {whom} model",
                                "original": "“{}”, original model"}
    return [words[curve.of].format(curve.subject) for curve in made.curves]


def relearning_rows(made: Relearning) -> list[LookRow]:
    """A row per number of steps."""
    looks = [{look.steps: look.found for look in curve.looks} for curve in made.curves]
    return [LookRow(steps, tuple(_cell(found.get(steps)) for found in looks))
            for steps in sorted({steps for found in looks for steps in found})]


def relearning_chart(made: Relearning) -> str:
    """Found rate against training steps, with 95% intervals; looks stand side by side, whatever lies between them."""
    steps = [row.steps for row in relearning_rows(made)]
    curves = [curve for curve in made.curves if any(value_of(look.found) is not None for look in curve.looks)]
    if not curves:
        return ""

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.14, 0.17, 0.83, 0.66))
        for number, (curve, head) in enumerate(zip(made.curves, relearning_heads(made), strict=True)):
            if curve not in curves:
                continue
            colour, mark, line = MARKS[curve.of]
            shown = [(steps.index(look.steps) + 0.09 * (number - 1), look.found) for look in curve.looks
                     if value_of(look.found) is not None]
            for x, found in shown:
                low, high = finite(found.low), finite(found.high)
                if low is not None and high is not None:
                    axes.plot([x, x], [low, high], "-", color=colour, linewidth=1.2, alpha=0.6, zorder=2)
            axes.plot([x for x, _ in shown], [value_of(found) or 0.0 for _, found in shown], line, color=colour,
                      marker=mark, markersize=5.5, linewidth=1.5, label=f"\N{ZERO WIDTH SPACE}{head}", zorder=3,
                      markerfacecolor="none" if curve.of == "original" else colour, clip_on=False)
        axes.axhline(made.enough, color=INK, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        axes.set_xticks(range(len(steps)), [f"{step:,}" for step in steps])
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlim(-0.4, len(steps) - 0.6)
        axes.set_xlabel("steps of fine-tuning")
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        plain_axes(axes)
        axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="lower left", bbox_to_anchor=(-0.1, 1.0), ncols=1,
                    borderaxespad=0.2, labelspacing=0.2)

    return svg_of("relearning", draw, 3.4)


def relearning_facts(made: Relearning) -> dict[str, str]:
    """What was taught with what; words to text."""
    facts = {"Concept": made.request.concept, "Patch": made.patch_hash or "none", "What is trained": _training(made)}
    for curve, head in zip(made.curves, relearning_heads(made), strict=True):
        right = f"; right on {count_text(curve.detector)} images that it did not learn from" if curve.detector else ""
        facts[head] = f"{counted(curve.pictures, 'images')} of {curve.whose}; judge {curve.judge}{right}"
    return facts


def _training(made: Relearning) -> str:
    name = str(made.settings.get("training", "relearn"))
    return SCOPES.get(name, name)


def _again(made: Relearning, edited: RelearningCurve, original: RelearningCurve | None) -> str:
    """When the edited model draws the concept; "again" only where the original surely draws it."""
    concept, looks = made.request.concept, _measured(edited)
    again = " again" if _known(original) else ""
    if not looks:
        return f"How often the edited model draws “{concept}” was not measured: no image could be judged."
    steps, last = edited.steps_to(made.enough), looks[-1]
    taught = f"fine-tuning {_training(made)} on {counted(edited.pictures, 'images')} of {edited.whose}"
    if steps is None and (finite(last.found.high) or 1.0) > made.enough:
        return f"Whether the edited model draws “{concept}”{again} in {made.enough:.0%} of the images within " \
               f"{counted(last.steps, 'steps')} of {taught} is not sure: {_share(last.found)} show it then."
    if steps is None:
        return f"The edited model does not draw “{concept}”{again} in {made.enough:.0%} of the images within " \
               f"{counted(last.steps, 'steps')} of {taught}, where {_share(last.found)} show it."
    at = next(look for look in looks if look.steps == steps)
    few = "" if (finite(at.found.low) or 0.0) > made.enough else ": too few to be sure"
    if steps == 0:
        return f"The edited model draws “{concept}” without any fine-tuning, in {_share(at.found)}{few}."
    first = "the first look, " if at is looks[0] else ""
    return f"The edited model draws “{concept}”{again} after {first}{_steps(made, edited)} of {taught}, in " \
           f"{_share(at.found)}{few}."


def _before(original: RelearningCurve) -> str:
    """How often the original model draws the concept by itself."""
    looks = _measured(original)
    if not looks:
        return "How often the original model draws it was not measured."
    when = "before any training" if not looks[0].steps else f"after {counted(looks[0].steps, 'steps')}"
    return f"The original model draws it {when} in {_share(looks[0].found)}."


def _new(made: Relearning, unknown: RelearningCurve) -> str:
    """How long it takes to learn something new."""
    whom, thing = "edited" if made.patch_hash else "original", f"a thing that no model ever knew (“{unknown.subject}”)"
    looks = _measured(unknown)
    if not looks:
        return f"How fast the {whom} model learns {thing} was not measured: no image could be judged."
    if unknown.steps_to(made.enough) is None and (finite(looks[-1].found.high) or 1.0) > made.enough:
        return f"Whether the {whom} model learns {thing} within {counted(looks[-1].steps, 'steps')} of the same " \
               f"training is not sure: {_share(looks[-1].found)} show it then."
    if unknown.steps_to(made.enough) is None:
        return f"The {whom} model does not learn {thing} within {counted(looks[-1].steps, 'steps')} of the same " \
               f"training, where {_share(looks[-1].found)} show it."
    return f"To learn {thing} takes the {whom} model {_steps(made, unknown)}."


def _compared(made: Relearning, edited: RelearningCurve, unknown: RelearningCurve, original: RelearningCurve | None
              ) -> str:
    """Whether the concept was still there, as far as curves and judges can tell."""
    if not _measured(edited) or not _measured(unknown):
        return "So the two paces cannot be compared."
    if not _known(original):
        return "It is not sure that the original model draws it, so nothing is said of what was kept."
    if unknown.detector is not None and (value_of(unknown.detector) or 0.0) < RIGHT:
        return f"The judge of “{unknown.subject}” sees it in {count_text(unknown.detector)} images of it only, so " \
               "the two paces cannot be compared."
    value, other = edited.steps_to(made.enough), unknown.steps_to(made.enough)
    surely, at_best = edited.steps_to(made.enough, "low"), unknown.steps_to(made.enough, "high")
    early, late = edited.steps_to(made.enough, "high"), unknown.steps_to(made.enough, "low")
    if value is None and other is None:
        return "Neither is learned within this training, so it says nothing of what was kept: a longer one would."
    if surely is not None and (at_best is None or surely < at_best):
        return f"That is faster than “{unknown.subject}” is learned: the concept was still there, unless it is " \
               "that much easier to learn."
    not_before = _look_before(edited, early)
    if late is not None and (not_before is None or not_before >= late):
        return f"That is no faster than “{unknown.subject}” is learned: this fine-tuning shows nothing that was kept."
    return "Whether that is faster cannot be told, for the intervals allow both: more images, or looks closer " \
           "together, would tell."


def _look_before(curve: RelearningCurve, steps: int | None) -> int | None:
    """The look before the one at `steps`, after which at the earliest the curve crossed; None for no crossing."""
    return None if steps is None else max((look.steps for look in curve.looks if look.steps < steps), default=0)


def _measured(curve: RelearningCurve) -> list[Look]:
    return [look for look in curve.looks if value_of(look.found) is not None]


def _known(original: RelearningCurve | None) -> bool:
    """Whether the original model surely draws the concept, at its first look."""
    looks = _measured(original) if original is not None else []
    return bool(looks) and (finite(looks[0].found.low) or 0.0) > HALF


def _steps(made: Relearning, curve: RelearningCurve) -> str:
    """"20 steps (10 to 40 by the 95% intervals)"; the range only where it is one."""
    at, early, late = (curve.steps_to(made.enough, end) for end in ("value", "high", "low"))
    until = "never within the training" if late is None else f"{late:,}"
    return f"{at:,} step{'' if at == 1 else 's'}" + (
        "" if early == late else f" ({early:,} to {until} by the 95% intervals)")


def _share(score: Score) -> str:
    return f"{count_text(score)} images (95% interval {interval_text(score)})"


def _cell(score: Score | None) -> str:
    """"3 of 16, 7% to 43%"."""
    if score is None:
        return ""
    return f"{count_text(score)}, {interval_text(score)}" if value_of(score) is not None else "not measured"
