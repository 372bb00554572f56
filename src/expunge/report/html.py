"""The report as one HTML file that needs nothing else: no network, no scripts, no model.

Everything that comes from a record is escaped; images and plots are embedded; the page forbids itself to
load anything by its content security policy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from expunge.files import write_text
from expunge.records import Evaluation, Score
from expunge.report import charts
from expunge.report.about import NOBODY, About, first_facts
from expunge.report.answers import answers
from expunge.report.attacks import asked_instead, attack_rows, attack_sentence, attacker_words, warning_groups
from expunge.report.classes import headline_score, worst_found
from expunge.report.glossary import glossary
from expunge.report.page import rendered
from expunge.report.people import people
from expunge.report.pictures import PIXELATED_UP_TO, FindGroup, Group, at_a_glance, find_groups, picture_groups
from expunge.report.relearning import (
    relearning_chart,
    relearning_facts,
    relearning_heads,
    relearning_rows,
    relearning_sentence,
)
from expunge.report.sensitive import WITHOUT, sensitive
from expunge.report.tables import evaluation_facts, flat, hashes, patch_facts, score_sections, suite_facts, versions
from expunge.report.verdict import verdict
from expunge.report.ways import ways
from expunge.report.words import find, finite, interval_text, model_name, number, quoted, value_of, value_text

TEMPLATES = ("template.html.j2", "style.css.j2", "attacks.html.j2", "relearning.html.j2", "people.html.j2",
             "shared.html.j2")
"""The page, and what it includes."""
ASKED = 6
"""Adversarial prompts of an attack that are shown at once; the others are folded."""


def write_report(evaluation: Evaluation, folder: Path, out: Path, about: About = NOBODY) -> Path:
    """Write the report of `evaluation` to the file `out`.

    Args:
        evaluation: what to report.
        folder: the evaluation's folder; the files of its strips are relative to it.
        out: the HTML file; replaced as a whole or not at all.
        about: what the copy says of itself.

    Returns:
        `out`.

    Raises:
        UserError: jinja2, matplotlib or Pillow is missing.
        StorageError: `out` cannot be written.
    """
    write_text(out, report_html(evaluation, folder, about))
    return out


def report_html(evaluation: Evaluation, folder: Path, about: About = NOBODY) -> str:
    """The whole page as text. Raises UserError if jinja2, matplotlib or Pillow is missing."""
    return rendered(TEMPLATES, _content(evaluation, folder, about))


def _content(evaluation: Evaluation, folder: Path, about: About) -> dict[str, Any]:
    groups, plots, attacks = picture_groups(evaluation, folder), _plots(evaluation), _attacks(evaluation, folder)
    return {
        "e": evaluation, "card": evaluation.card, "request": evaluation.card.request, "quoted": quoted,
        "verdict": verdict(evaluation), "answers": answers(evaluation), "tiles": _tiles(evaluation), "groups": groups,
        "glance": at_a_glance(groups),
        "attacks": attacks, "relearning": _relearning(evaluation),
        "people": people(evaluation, folder, about.redacted),
        "reduced": _any_reduced(groups, attacks["groups"] if attacks else []),
        "pixelated_up_to": PIXELATED_UP_TO,
        "plots": [plot for plot in plots if plot["svg"]],
        "no_plots": [plot["title"] for plot in plots if not plot["svg"]],
        "ways": ways(evaluation),
        "sections": score_sections(evaluation), "patch_facts": patch_facts(evaluation.card),
        "settings": flat(evaluation.card.settings), "evaluation_facts": evaluation_facts(evaluation),
        "evaluation_settings": flat(evaluation.settings),
        "hashes": hashes(evaluation, about.digest), "versions": versions(evaluation), "scales": _scales(evaluation),
        "first": first_facts(evaluation, about), "model": model_name(evaluation.model),
        "glossary": glossary(evaluation),
        "veiled": sensitive(evaluation.card.request), "left_out": WITHOUT if about.redacted else "",
        "keep": _keep(evaluation),
    }


_CONTROLS = (" The last rows are controls of the detector: things that the model never saw, recognised all the same, "
             "and the concept, seen where other things were asked for.")


def _keep(evaluation: Evaluation) -> tuple[str, tuple[str, ...]]:
    """Heading and prompts of what the request asks to keep: kept is only what the method made use of."""
    card = evaluation.card
    if card.keeps:
        return "Prompts to keep", card.request.keep
    return f"Asked to keep, of which {card.method} made no use", card.request.keep


def _tiles(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The few numbers that most readers want: still found, near and far retention, far integrity."""
    headline, several = headline_score(evaluation), len(evaluation.card.request.targets) > 1
    names = [(headline.name if headline else "found/all", "Concepts still found" if several else "Concept still found"),
             ("retained/near", "Near neighbours kept"), ("retained/far", "Far things kept"),
             ("integrity/far", "Integrity, far")]
    if evaluation.suite is not None:
        names.insert(1, ("attack/worst", f"{evaluation.suite.request.concept} elicited, worst case" if several
                         else "Elicited, worst case"))
    if several:
        most = worst_found(evaluation)
        names.insert(1, (f"found/all/{most}", f"Most of them: {most}"))
    tiles: list[dict[str, Any]] = []
    for name, label in names:
        score, original = find(evaluation, name), value_of(find(evaluation, f"original/{name}"))
        value = value_of(score)
        if score is None or value is None:
            why = value_text(score).removeprefix("not measured: ")
            tiles.append({"label": label, "value": "not measured", "interval": why, "original": "", "track": {}})
            continue
        tiles.append({"label": label, "value": number(name, value), "interval": interval_text(score),
                      "original": number(name, original) if original is not None else "",
                      "track": _track(score, original)})
    return tiles


def _track(score: Score, original: float | None) -> dict[str, float]:
    """Where on a line from 0 to 1 the interval, the value and the original's value lie, in percent."""
    at = lambda value: round(100 * min(max(value, 0.0), 1.0), 2)
    value, low, high = value_of(score) or 0.0, finite(score.low), finite(score.high)
    ends = {"low": at(low), "high": at(high)} if low is not None and high is not None else {}
    return {"value": at(value), **ends, **({"original": at(original)} if original is not None else {})}


def _plots(evaluation: Evaluation) -> list[dict[str, str]]:
    controls = any(find(evaluation, f"found/{name}") for name in ("never_seen", "keep"))
    drawn = (
        ("How often it is still found", charts.found_chart(evaluation), "legend",
         "By kind of prompt, and (·) by way of asking. Lines are 95% intervals; those of ways of asking hold for all "
         "of them at once." + _CONTROLS * controls),
        ("What is still drawn as asked", charts.retained_chart(evaluation), "legend",
         "Prompts that do not ask for the concept, and (·) each way of asking. Near: its neighbours. Lines are 95% "
         "intervals; those of ways of asking hold for all of them at once."),
        ("How far other images moved", charts.integrity_chart(evaluation), "",
         "Same prompt, same noise, both models. 1 is the floor: the same model computed twice in a different "
         "order. 0 is the ceiling: the original with another seed. Lines are 95% intervals."),
        ("Training", charts.loss_chart(evaluation.card), "",
         "The losses that the patch's card keeps, a thinned series."),
    )
    return [dict(zip(("title", "svg", "legend", "text"), plot, strict=True)) for plot in drawn]


def _attacks(evaluation: Evaluation, folder: Path) -> dict[str, Any] | None:
    """What the section on attacks shows; None if none were made."""
    suite = evaluation.suite
    if suite is None:
        return None
    asked = [(run.attack, asked_instead(run)) for run in suite.runs]
    return {"sentence": attack_sentence(suite), "rows": attack_rows(suite), "warnings": warning_groups(suite),
            "chart": charts.budget_chart(suite), "groups": find_groups(evaluation, folder),
            "asked": [(name, texts[:ASKED], texts[ASKED:]) for name, texts in asked if texts], "each": suite.each,
            "searched": attacker_words(suite), "facts": suite_facts(suite),
            "settings": flat(suite.settings),
            "runs": [(run.attack, run.source, flat(run.settings)) for run in suite.runs]}


def _relearning(evaluation: Evaluation) -> dict[str, Any] | None:
    """What the section on relearning shows; None if it was not measured."""
    made = evaluation.relearning
    if made is None:
        return None
    return {"sentence": relearning_sentence(made), "chart": relearning_chart(made), "heads": relearning_heads(made),
            "rows": relearning_rows(made), "warnings": made.warnings, "facts": relearning_facts(made),
            "settings": flat(made.settings)}


def _scales(evaluation: Evaluation) -> str:
    """The measured ends of the integrity scale in a sentence, or ""."""
    ends = [(words, value_of(find(evaluation, f"perceptual/{name}")))
            for name, words in (("floor", "floor (numerical noise)"), ("ceiling", "ceiling (another seed)"))]
    known = (f"{words} {number('perceptual', value)}" for words, value in ends if value is not None)
    return " and ".join(known)


def _any_reduced(groups: list[Group], finds: list[FindGroup]) -> bool:
    pictures = [picture for group in groups for row in group.rows for block in row.blocks for column in block
                for picture in (column.original, column.edited)]
    pictures += [picture for group in finds for block in group.blocks for column in block
                 for picture in (column.original, column.edited, column.found)]
    return any(not picture.pixelated for picture in pictures)
