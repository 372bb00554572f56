"""What is left of a bench, and how long that may take: by a few steps of each method and the model's measured speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from expunge.attacks.suite import TIERS, planned
from expunge.bench.cells import Cell
from expunge.bench.settings import BenchSettings
from expunge.evaluation import planned_prompts
from expunge.metrics.prompts import Prompts
from expunge.models.denoising import passes
from expunge.models.model import Model
from expunge.models.speed import drawing_speed
from expunge.records import Sampler
from expunge.unlearn.method import Configured

PROBES = 8
"""Rows of a batch on which a fast model is timed."""


@dataclass
class Forecast:
    """What there is to do.

    Attributes:
        cells: in all, of which `made` are finished and `failed` broke off (they are made again).
        erase: seconds of one edit, by the method's label; None where that is not known beforehand.
        measured: what that was measured on, in words, by the method's label.
        pictures: drawn for each evaluation; items: attacked at most in each cell.
        evaluate, attack: seconds per cell; the latter at most, if every attack spends its budget on every item.
    """

    cells: int
    made: int
    failed: int
    erase: dict[str, float | None] = field(default_factory=dict)
    measured: dict[str, str] = field(default_factory=dict)
    pictures: int = 0
    items: int = 0
    evaluate: float = 0.0
    attack: float = 0.0

    @property
    def seconds(self) -> float:
        """Of everything that is left, by one process; edits of methods that cannot say count nothing."""
        left = self.cells - self.made
        mean = sum(value or 0.0 for value in self.erase.values()) / max(1, len(self.erase))
        return left * (mean + self.evaluate + self.attack)


def estimated(cells: Sequence[Cell], settings: BenchSettings, model: Model, asks: Prompts) -> Forecast:
    """Measure; nothing is made."""
    made = [edit for cell in cells if (edit := cell.made()) is not None]
    failed = sum(bool(edit.failed_at) for edit in made)
    out = Forecast(len(cells), len(made) - failed, failed)
    first = settings.seeds[0]
    for cell in (cell for cell in cells if cell.seed == first and cell.method.title not in out.erase):
        out.erase[cell.method.title] = None
        if isinstance(cell.chosen, Configured):
            cost = cell.chosen.estimate(model, cell.request)
            out.erase[cell.method.title], out.measured[cell.method.title] = float(cost["seconds"]), cost["measured"]
    prompts = [len(planned_prompts(asks, cell.request, settings.evaluation)) for cell in cells[:1]]
    out.pictures = sum(prompts) * settings.evaluation.seeds
    out.evaluate = out.pictures * _seconds_per_picture(model, settings.evaluation.sampler(model))
    if settings.attack is not None:
        _add_attacks(out, settings, model)
    return out


def _add_attacks(out: Forecast, settings: BenchSettings, model: Model) -> None:
    attack = settings.attack
    assert attack is not None
    tier, sampler = TIERS[attack.tier], attack.sampler(model)
    out.items = (attack.count or tier.prompts) * attack.seeds
    control = tier.control if attack.control_items is None else attack.control_items
    rows_per_picture = sampler.steps * passes(sampler.guidance)
    per_row = _seconds_per_picture(model, sampler) / rows_per_picture
    rows = sum(one.budget(sampler).network_rows for one in planned(attack)) * (out.items + control)
    again = len(planned(attack)) * attack.fresh * out.items * rows_per_picture
    plain = 2 * out.items * rows_per_picture  # by both models, before any attack
    out.attack = per_row * (rows + again + plain)


def _seconds_per_picture(model: Model, sampler: Sampler) -> float:
    return drawing_speed(model, sampler, PROBES).picture(sampler)
