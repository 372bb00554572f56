"""Every verb that keeps what it did refuses other settings by name, and ends the same under its own when stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from colour_world import SMALL, attacked_world, edit
from guard_examples import ONE_SHOT, QUICK, RELEASED, pictures, publisher
from safetensors import safe_open

import expunge.finetune
import expunge.guard.projected
import expunge.guard.released
import expunge.guard.saliency
from expunge.attacks.relearning import relearn
from expunge.attacks.settings import AttackSettings, RelearnSettings
from expunge.attacks.suite import attack
from expunge.bench.run import run_bench
from expunge.bench.settings import BenchSettings
from expunge.config import merged
from expunge.errors import ConfigError
from expunge.evaluation import evaluate
from expunge.files import text_digest
from expunge.finetune import FineTune, fine_tuning, material
from expunge.guard import learn_mask
from expunge.locks import LOCK
from expunge.models.store import load
from expunge.records import Request
from expunge.resume import Inputs
from expunge.sequence.run import run_sequence
from expunge.sequence.settings import SequenceSettings
from expunge.unlearn.erase import CHECKPOINT, erase
from expunge.unlearn.recipe import Recipe

STEPS: dict[str, Any] = {"source": {"grid": 3, "trajectories": 2}, "steps": 4, "batch": 2, "learning_rate": 1e-2,
                         "checkpoint_every": 0}
MEASURE = {"counts": {"direct": 2, "held_out": 0, "near": 2, "far": 2, "empty": 0, "never_seen": 0}, "seeds": 2,
           "steps": 2, "guidance": 1.0, "batch": 4, "floor_items": 0, "draws": 100, "fid_draws": 20, "strips": 0}
CLOCK = {"seconds", "created", "made", "processor", "peak_memory", "machine", "seal", "previous"}
UNCOUNTED = {"unet_frozen", "unet_trained"}
"""What an edit that was interrupted says is None: how many samples all of its runs together took."""
Tell = Callable[..., None]


def erased(folder: Path, out: Path, tell: Tell, other: bool) -> None:
    erase(load(folder, device="cpu"), Request(concept="church", prompts=("a church",)),
          settings={**STEPS, **({"batch": 1} if other else {})}, out=out, own_look=False,
          progress=lambda done, total, losses: tell(done) if losses else None)


def tuned(folder: Path, out: Path, tell: Tell, other: bool) -> None:
    model = load(folder, device="cpu")
    shown = material(model, pictures(3, 0.5), ["a church"] * 3)
    with fine_tuning(model, shown, FineTune(steps=4, batch=1 + other, learning_rate=1e-3), seed=1) as tuner:
        list(tuner.train(checkpoint=out / "user.safetensors", progress=lambda done, total, losses: tell(done)))


def attacked(folder: Path, out: Path, tell: Tell, other: bool) -> None:
    model = load(folder, device="cpu")
    settings = AttackSettings(attacks=("seed-search", "noising"), count=4, seeds=4, control_items=0, fresh=1, steps=4,
                              guidance=1.0, each=True, force=True, options={
                                  "seed-search": {"tries": 1}, "noising": {"strengths": (0.7,) if other else (0.5,)}})
    attack(model, edit(model, 0.02), settings=settings, out=out, world=attacked_world(),
           progress=lambda done, total, name: tell(done) if name == "noising" else None)


def relearned(folder: Path, out: Path, tell: Tell, other: bool) -> None:
    model = load(folder, device="cpu")
    settings = RelearnSettings(at=(0, 2, 4), lesson=2, count=2, seeds=4, steps=2,
                               tune={"batch": 2, "learning_rate": 1e-3 if other else 3e-3})
    relearn(model, edit(model, 0.02), settings=settings, out=out, world=attacked_world(),
            progress=lambda done, total, words: tell(done))


def benched(folder: Path, out: Path, tell: Tell, other: bool) -> None:
    settings = {"model": str(folder), "device": "cpu", "concepts": [{"concept": "church"}], "attack": None,
                "methods": [{"method": "esd", "settings": STEPS}], "seeds": [0], "evaluation": MEASURE}
    change = {"methods": [{"method": "esd", "settings": {**STEPS, "batch": 1}}]} if other else {}
    run_bench(BenchSettings.build({**settings, **change}), out=out, world=attacked_world(),
              progress=lambda done, total, words: tell(3 * words.endswith("erasing 3/4")))


def met(folder: Path, out: Path, tell: Tell, other: bool) -> None:
    settings = {"model": str(folder), "device": "cpu", "method": "esd", "settings": STEPS, "strategy": "naive",
                "requests": [{"concept": "church"}, {"concept": "dog"}], "evaluation": None}
    run_sequence(SequenceSettings.build(merged(settings, {"settings": {"batch": 1}} if other else {})), out=out,
                 world=attacked_world(),
                 progress=lambda met, total, words: tell(3 * met * words.endswith("erasing 3/4")))


def learned(preset: str, settings: dict[str, Any], folder: Path, out: Path, tell: Tell, other: bool) -> None:
    model = load(folder, device="cpu")
    learn_mask(model, publisher(model), preset, settings={**settings, "ratio": 0.4 if other else 0.5}, out=out,
               progress=lambda done, total, losses: tell(done))


VERBS: dict[str, tuple[Callable[[Path, Path, Tell, bool], None], int, str]] = {
    "erase": (erased, 3, "settings.batch 2, now 1"),
    "a user's training": (tuned, 3, "settings.batch 1, now 2"),
    "attack": (attacked, 1, r"settings.strengths \[0.5\], now \[0.7\]"),
    "relearn": (relearned, 4, "settings.tune.learning_rate 0.003, now 0.001"),
    "bench": (benched, 3, "settings.batch 2, now 1"),
    "sequence": (met, 3, "settings.batch 2, now 1"),
    "guard learn": (partial(learned, "projected", {**QUICK, "by": "count"}), 3, "settings.ratio 0.5, now 0.4"),
    "guard learn, one shot": (partial(learned, "saliency", {**ONE_SHOT, "by": "count"}), 2,
                              "settings.ratio 0.5, now 0.4"),
    "guard learn, released": (partial(learned, "released", RELEASED), 4, "settings.ratio 0.5, now 0.4"),
}
"""By name: what starts it, after what it was told it is stopped, and what differs under the other settings."""


@pytest.fixture(autouse=True)
def _checkpoint_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (expunge.finetune, expunge.guard.projected, expunge.guard.released, expunge.guard.saliency):
        monkeypatch.setattr(module, "run_loop", partial(module.run_loop, every=-1.0))


def begun(start: Callable[[Path, Path, Tell, bool], None], folder: Path, out: Path, last: int) -> None:
    """Started, and stopped when it tells `last`."""
    def tell(done: int) -> None:
        if done == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(folder, out, tell, False)


@pytest.mark.parametrize("verb", VERBS)
def test_half_done_it_refuses_other_settings_by_name_and_ends_the_same_under_its_own(
        verb: str, pipeline_folder: Path, tmp_path: Path) -> None:
    start, last, odd = VERBS[verb]
    start(pipeline_folder, tmp_path / "whole", lambda done: None, False)
    begun(start, pipeline_folder, tmp_path / "cut", last)
    half = raw(tmp_path / "cut")
    with pytest.raises(ConfigError, match=f"begun under other settings .*{odd}.*accepted: .*another output folder"):
        start(pipeline_folder, tmp_path / "cut", lambda done: None, True)
    assert raw(tmp_path / "cut") == half, "something was written before it was refused"
    start(pipeline_folder, tmp_path / "cut", lambda done: None, False)
    assert told(tmp_path / "cut") == told(tmp_path / "whole")
    done = raw(tmp_path / "cut")
    with pytest.raises(ConfigError, match=f"begun under other settings .*{odd}"):
        start(pipeline_folder, tmp_path / "cut", lambda done: None, True)
    assert raw(tmp_path / "cut") == done, "what was finished was touched"


def test_an_evaluation_mixes_nothing_because_what_it_keeps_says_of_which_pixels_it_is(model: Any, tmp_path: Path
                                                                                     ) -> None:
    def measured(out: Path, seeds: int, tell: Tell = lambda *told: None) -> None:
        evaluate(model, edit(model, 0.02), settings=SMALL.model_copy(update={"seeds": seeds}), out=out,
                 world=attacked_world(), progress=tell)

    def stop(done: int, total: int, words: str) -> None:
        if words == "judging":
            raise KeyboardInterrupt

    measured(tmp_path / "whole", 1)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "cut", 2, stop)
    measured(tmp_path / "cut", 1)
    assert told(tmp_path / "cut") == told(tmp_path / "whole")


def test_a_closed_form_leaves_the_half_of_another_method_alone(pipeline_folder: Path, tmp_path: Path) -> None:
    begun(erased, pipeline_folder, tmp_path, 3)
    half = raw(tmp_path)
    with pytest.raises(ConfigError, match=r'begun under other settings \(settings.name "esd", now "uce"'):
        erase(load(pipeline_folder, device="cpu"), Request(concept="church", prompts=("a church",)), "uce",
              out=tmp_path)
    assert raw(tmp_path) == half


def test_a_half_learned_mask_is_left_alone_by_another_preset(pipeline_folder: Path, tmp_path: Path) -> None:
    begun(VERBS["guard learn, released"][0], pipeline_folder, tmp_path, 2)
    half = raw(tmp_path)
    with pytest.raises(ConfigError, match="begun under other settings"):
        VERBS["guard learn"][0](pipeline_folder, tmp_path, lambda done: None, False)
    assert raw(tmp_path) == half


def test_what_an_earlier_version_kept_goes_on_or_is_refused_without_names(tmp_path: Path) -> None:
    """They told a digest alone, some of settings in the order in which they stand, some cut to sixteen letters."""
    under = Inputs({"settings": {"steps": 4, "batch": 2}, "drawing": "2-ab", "seed": 0}, former={"drawing": "ab"})
    unsorted, other = '[{"steps": 4, "batch": 2}, "2-ab", 0]', '[{"steps": 4, "batch": 2}, "2-ab", 1]'
    for digest in (text_digest(unsorted), text_digest('[{"batch": 2, "steps": 4}, "ab", 0]')[:16], under.digest):
        under.check(tmp_path, {"fingerprint": digest})
    for digest in (text_digest(other), under.digest[:8], ""):
        with pytest.raises(ConfigError, match="in one of settings, drawing, seed: an earlier version did not write"):
            under.check(tmp_path, {"fingerprint": digest})


def test_a_setting_that_is_new_and_at_its_default_is_no_other() -> None:
    now = Inputs({"settings": {"steps": 4, "new": 1}}, defaults={"settings": {"new": 1}})
    assert now.compared({"settings": {"steps": 4}}) == ([], ["settings.new 1"])
    assert now.compared({"settings": {"steps": 5}}) == (["settings.steps 5, now 4"], ["settings.new 1"])
    assert Inputs({"settings": {"steps": 4, "new": 2}}, defaults=now.defaults).compared(
        {"settings": {"steps": 4}})[0] == ["settings.new null, now 2"]


def test_long_values_are_told_from_where_they_differ() -> None:
    prompts = [f"an image of a church number {k}" for k in range(4)]
    (odd,) = Inputs({"prompts": [*prompts, "a dog"]}).compared({"prompts": [*prompts, "a cat"]})[0]
    assert '"a cat"]' in odd
    assert '"a dog"]' in odd
    assert Inputs({"model": "0" * 64}).compared({"model": "1" * 64})[0] == [f'model "{"1" * 12}", now "{"0" * 12}"']


def test_a_checkpoint_goes_by_settings_and_not_by_how_often_it_is_kept(pipeline_folder: Path, tmp_path: Path) -> None:
    begun(erased, pipeline_folder, tmp_path, 3)
    with safe_open(tmp_path / CHECKPOINT, "pt") as file:
        inputs = json.loads(file.metadata()["inputs"])
    assert inputs["settings"]["steps"] == 4
    assert "checkpoint_every" not in inputs["settings"]
    model = load(pipeline_folder, device="cpu")
    recipe = Recipe.model_validate({**inputs["settings"], "checkpoint_every": 9.0})
    request = Request(concept="church", prompts=("a church",))
    assert recipe.inputs(model, recipe.keeping(model, request).request, 0).record["inputs"] == inputs


def raw(folder: Path) -> dict[str, bytes]:
    """Every file but locks, by name."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*"))
            if file.is_file() and file.name != LOCK}


def told(folder: Path) -> dict[str, Any]:
    """What the files hold, without what goes by the clock."""
    return {name: _content(folder / name) for name in raw(folder)}


def _content(file: Path) -> Any:
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        return {name: tensor.contiguous().view(torch.uint8).tolist() if tensor.dim() else tensor.item()
                for name, tensor in tensors.items()}
    if file.suffix == ".jsonl":
        return [_timeless(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    return _timeless(json.loads(file.read_text(encoding="utf-8"))) if file.suffix == ".json" else file.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in CLOCK | UNCOUNTED}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
