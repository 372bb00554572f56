"""The main job from end to end on the embedded model: erase a concept, attack it, measure it, write the report.

Nothing is downloaded. A run that was stopped goes on where it was: training from its checkpoint, a finished patch as
it is, drawn images from the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.errors import UserError, install
from expunge.records import SUITE_RESULTS, Evaluation, SuiteResult
from expunge.resume import kept

if TYPE_CHECKING:
    from torch import Tensor

    from expunge.attacks.settings import AttackSettings
    from expunge.evaluation import EvaluateSettings
    from expunge.models.model import Model
    from expunge.models.patch import Patch
    from expunge.unlearn.recipe import Recipe

Stage = Callable[[str], AbstractContextManager[Callable[..., None]]]
"""Opens a piece of work by its title; gives the callback that is told (done, total, note)."""

CONCEPT = "castle"
"""Of ten concepts the one whose results are nearest to the medians (`python benchmarks/concepts.py --attack`)."""
LOOK = "first-look.png"
"""A few images for who waits: the original's, and, as soon as there is an edit, the edited model's below them."""
SMOKE_STEPS = 6
"""Optimisation steps of a smoke run: enough to pass through every part, too few to erase anything."""


@dataclass(frozen=True)
class Demo:
    """What a demo made.

    Attributes:
        patch: folder of the patch.
        suite: what attacks found.
        evaluation: all scores, the attacks' among them.
        report: the HTML file.
        seconds: wall time by stage ("load", "erase", "attack", "evaluate", "report").
    """

    patch: Path
    suite: SuiteResult
    evaluation: Evaluation
    report: Path
    seconds: dict[str, float]


@contextmanager
def silent(title: str) -> Iterator[Callable[..., None]]:
    """A stage that tells nobody."""
    yield lambda *told, **more: None


def unseen(title: str, picture: Path) -> None:
    """An image that nobody waits for."""


def demo(concept: str = CONCEPT, out: Path = Path("runs/demo"), *, smoke: bool = False, seed: int = 0,
         stage: Stage = silent, look: Callable[[str, Path], None] = unseen) -> Demo:
    """Erase `concept` from the embedded model with `esd-fast`, attack and evaluate the patch, write the report.

    Args:
        concept: a thing or style of the embedded model's world.
        out: folder for patch, attacks, evaluation and report.
        smoke: few steps, few images, one attack: whether all parts work together, not whether they work well.
        seed: decides every random draw of the training.
        stage: told how far each part is.
        look: told what `LOOK` shows, and where it is, as soon as it is there.

    Raises:
        UserError: unknown concept, or matplotlib (for the report's plots) is not installed.
        ModelError: the embedded weights are missing or damaged.
    """
    if find_spec("matplotlib") is None:
        raise UserError("the demo's report needs matplotlib, which is not installed",
                        remedy=install("report"))
    from expunge.evaluation import evaluate
    from expunge.models.model import applied
    from expunge.models.store import load
    from expunge.report import write_report
    from expunge.unlearn.presets.esd import ESD_FAST

    clock = _Clock()
    model = load("embedded", device="cpu")
    _can_be_seen(model, concept, attack_settings(smoke))
    above = _few_images(model, concept)
    look(f"{concept}, near and far things by the original model", _first_look(out, [above]))
    clock.lap("load")
    recipe = ESD_FAST.override(_SMOKE_RECIPE if smoke else {})
    with stage(f"erasing {concept}") as progress:
        patch = _patch(model, concept, recipe, seed, out, progress)
    with applied(model, patch):
        rows = [above, _few_images(model, concept)]
    look("the same, and below it by the edited model", _first_look(out, rows))
    clock.lap("erase")
    with stage(f"attacking {concept}") as progress:
        suite = _suite(model, patch, attack_settings(smoke), out / "attack", progress)
    clock.lap("attack")
    with stage("evaluating") as progress:
        evaluation = evaluate(model, patch, settings=evaluate_settings(smoke), out=out / "evaluation",
                              progress=progress, suite=out / "attack")
    clock.lap("evaluate")
    page = write_report(evaluation, out / "evaluation", out / "report")
    clock.lap("report")
    return Demo(out, suite, evaluation, page, clock.seconds)


def _can_be_seen(model: Model, concept: str, settings: AttackSettings) -> None:
    """UserError, before anything is trained, if the original model never shows the concept: no edit could be judged."""
    from expunge.attacks.stage import attack_stage
    from expunge.attacks.suite import TIERS
    from expunge.attacks.victim import Victim
    from expunge.metrics.worlds import world_of

    world = world_of(model.world, model.name)
    attack_stage(world, world.prompts.request(concept), Victim(model, None, settings.sampler(model)), settings,
           TIERS[settings.tier].prompts, 0)


def _few_images(model: Model, concept: str) -> Tensor:
    """(N, 3, H, W): the shortest prompts for the concept and for near and far things, by the model as it is now."""
    from expunge.metrics.base import PromptCounts
    from expunge.metrics.worlds import world_of
    from expunge.models.sample import draw
    from expunge.records import Sampler

    none = dict.fromkeys(PromptCounts.model_fields, 0)
    prompts = world_of(model.world, model.name).prompts
    items = [(prompt, 0) for prompt in prompts.of(
        prompts.request(concept), PromptCounts(**{**none, "direct": 4, "near": 2, "far": 2}), ("short",))]
    # Not from the cache: the evaluation cuts its batches by what it finds there.
    return draw(model, items, Sampler(steps=20, guidance=model.guidance), batch=len(items))


def _first_look(out: Path, rows: Sequence[Tensor]) -> Path:
    import torch

    from expunge.sheet import sheet, write_picture

    write_picture(out / LOOK, sheet(torch.cat([*rows]), len(rows[0])))
    return out / LOOK


_SMOKE_RECIPE: dict[str, Any] = {"steps": SMOKE_STEPS, "batch": 2, "source.trajectories": 2, "source.grid": 4,
                                 "keep.source.trajectories": 6, "keep.source.grid": 2}


def evaluate_settings(smoke: bool = False) -> EvaluateSettings:
    """What the demo asks."""
    from expunge.evaluation import EvaluateSettings
    from expunge.metrics.base import PromptCounts

    if not smoke:  # three ways of asking, and every thing of the world once: the whole demo is a matter of two minutes
        counts = PromptCounts(direct=18, held_out=8, paraphrase=5, implicit=5, near=18, far=32, never_seen=4)
        return EvaluateSettings(counts=counts, strata=("short", "hands", "full"), batch=64)
    few = PromptCounts(direct=2, held_out=2, paraphrase=1, implicit=1, near=2, far=2, empty=1, never_seen=1)
    return EvaluateSettings(counts=few, seeds=2, steps=8, floor_items=2, draws=100, fid_draws=20, strips=1,
                            strip_columns=2)


def _patch(model: Model, concept: str, recipe: Recipe, seed: int, out: Path,
           progress: Callable[..., None]) -> Patch:
    """The patch, trained now, or as an earlier run of the same settings left it in `out`."""
    from expunge.unlearn.erase import erase, kept_edit, with_surrogates

    there = kept_edit(out, model, with_surrogates(model, concept, None, (), recipe)[0], recipe, seed)
    return there or erase(model, concept, recipe, seed=seed, out=out, progress=progress)


def attack_settings(smoke: bool = False) -> AttackSettings:
    """How the demo attacks."""
    from expunge.attacks.settings import AttackSettings

    if not smoke:  # other names and descriptions are asked by the evaluation as well
        return AttackSettings(tier="smoke", attacks=("seed-search", "noising", "unlearndiff"), batch=64)
    return AttackSettings(attacks=("seed-search",), options={"seed-search": {"tries": 2}}, count=2, control_items=1,
                          fresh=1, steps=8)


def _suite(model: Model, patch: Patch, settings: AttackSettings, out: Path,
             progress: Callable[..., None]) -> SuiteResult:
    """What attacks find, now, or as an earlier run of the same settings left it in `out`."""
    from expunge.attacks.suite import attack

    there = kept(SUITE_RESULTS.read, out, SUITE_RESULTS.name)
    same = model.hash, patch.hash, settings.model_dump(mode="json")
    if there is not None and (there.model_hash, there.patch_hash, there.settings) == same:
        return there
    return attack(model, patch, settings=settings, out=out,
                  progress=lambda done, total, name: progress(done, total, title=f"attack {name}"))


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name], self._last = round(now - self._last, 1), now
