"""The whole evaluation on a real, very small pipeline with random weights, in a world whose judge sees colours."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from colour_world import SMALL, attacked_world, colour_world, edit
from PIL import Image
from torch import Tensor

import expunge
from expunge.attacks.settings import AttackSettings
from expunge.attacks.suite import attack
from expunge.errors import ConfigError, ModelError, UserError
from expunge.evaluation import EvaluateSettings, evaluate, picture_count, planned_prompts
from expunge.metrics.worlds import world_of
from expunge.models.cache import ImageCache
from expunge.models.cache_size import clear
from expunge.models.patch import Patch
from expunge.models.store import load
from expunge.records import EVALUATIONS, FORGET_ROLES, RELEARNINGS, Evaluation, Relearning, SuiteResult
from expunge.report import write_report


def test_an_edit_that_changes_nothing_is_found_to_change_nothing(model: Any, tmp_path: Path) -> None:
    found = evaluate(model, edit(model, 0.0), settings=SMALL, out=tmp_path / "out", world=colour_world())
    assert found.score("change/found/all").value == 0.0
    for stratum in ("near", "far", "empty", "forget"):
        assert found.score(f"perceptual/{stratum}").value == pytest.approx(0, abs=1e-6)
        assert found.score(f"integrity/{stratum}").value == pytest.approx(1, abs=1e-3)
        assert found.score(f"ssim/{stratum}").value == pytest.approx(1, abs=1e-3)
    assert found.score("fid/original").value == pytest.approx(0, abs=1e-6)
    assert found.score("kid/original").value == pytest.approx(0, abs=1e-6)
    assert found.score("change/clip/keep").value == pytest.approx(0, abs=1e-4)
    assert found.score("fid/real").value == pytest.approx(found.score("original/fid/real").value)


@pytest.fixture
def done(model: Any, tmp_path: Path) -> tuple[Evaluation, Patch, Path]:
    patch = edit(model, 0.5)
    return evaluate(model, patch, settings=SMALL, out=tmp_path / "out", world=colour_world()), patch, tmp_path / "out"


def test_an_evaluation_keeps_everything(done: tuple[Evaluation, Patch, Path], model: Any) -> None:
    found, patch, out = done
    assert Evaluation.model_validate_json((out / "evaluation.json").read_text()) == found
    assert found.card == patch.card
    assert model.patch_hash == ""
    far = found.score("perceptual/far")
    assert far.value is not None
    assert far.value > 1e-4
    assert len(far.per_item) == far.n == 4
    everything = found.score("found/all")
    assert everything.n + sum(everything.left_out.values()) == 8
    assert everything.numerator == sum(everything.per_item.values())
    assert found.score("original/found/all").subject == "original"
    assert any("Only 8 images" in warning for warning in found.warnings)
    assert any("No attacks were run" in line for line in found.not_tested)
    assert any("implicit" in line for line in found.not_tested)
    assert found.detectors["judge: colour-judge-0.0"] == "abcd"
    lines = (out / "judgments.jsonl").read_text().splitlines()
    assert len({json.loads(line)["judgment"]["shot"] for line in lines}) == 2 * 9 * 2
    names = [score.name for score in found.scores]
    assert len(names) == len(set(names))
    for strip in found.strips:
        assert len(strip.original) == len(strip.edited) == len(strip.seeds) == 2
        assert all((out / file).is_file() for file in (*strip.original, *strip.edited))
    assert [strip.role for strip in found.strips] == ["direct", "held_out", "near", "far", "empty"]


@pytest.mark.slow
def test_a_cache_that_is_cleared_while_it_is_measured_costs_no_picture(model: Any, tmp_path: Path) -> None:
    cleared = []

    def clearing(done: int, total: int, note: str) -> None:
        if note == "judging":
            cleared.append(clear(tmp_path / "cache")[0])

    found = evaluate(model, edit(model, 0.5), settings=SMALL, out=tmp_path / "out", cache=tmp_path / "cache",
                     world=colour_world(), progress=clearing)
    assert sum(cleared) > 0
    assert not [*(tmp_path / "cache").rglob("*.png")]
    whole = evaluate(model, edit(model, 0.5), settings=SMALL, out=tmp_path / "whole", world=colour_world())
    assert found.strips == whole.strips
    for strip in found.strips:
        for file in (*strip.original, *strip.edited):
            assert pixels_of(tmp_path / "out" / file) == pixels_of(tmp_path / "whole" / file)


def pixels_of(file: Path) -> bytes:
    with Image.open(file) as image:
        return image.tobytes()


def test_a_second_run_draws_and_judges_nothing(done: tuple[Evaluation, Patch, Path], model: Any,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    first, patch, out = done
    world = colour_world()

    def never(*_: Any, **__: Any) -> Tensor:
        raise AssertionError("drawn again")

    monkeypatch.setattr(model, "predict", never)
    again = evaluate(model, patch, settings=SMALL, out=out, world=world)
    assert world.judges.first.calls == 0
    plain = {"seconds": 0.0, "created": ""}
    assert again.model_copy(update=plain) == first.model_copy(update=plain)


@pytest.mark.slow
@pytest.mark.parametrize("at", ["drawing with the original model", "drawing some again",
                                "drawing with the edited model"])
def test_an_evaluation_that_was_killed_ends_as_one_that_was_not(
        done: tuple[Evaluation, Patch, Path], model: Any, tmp_path: Path, at: str) -> None:
    first, patch, out = done

    def kill(count: int, total: int, words: str) -> None:
        if words == at and count == 2:
            raise KeyboardInterrupt

    places: dict[str, Any] = {"out": tmp_path / "killed", "cache": tmp_path / "drawn"}
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, patch, settings=SMALL, world=colour_world(), progress=kill, **places)
    found = evaluate(model, patch, settings=SMALL, world=colour_world(), **places)
    assert found.scores == first.scores
    assert (tmp_path / "killed" / "judgments.jsonl").read_bytes() == (out / "judgments.jsonl").read_bytes()
    drawn = {root: {file.relative_to(root): file.read_bytes() for file in root.rglob("*.png")}
             for root in (tmp_path / "drawn", ImageCache().root)}
    assert drawn[tmp_path / "drawn"] == drawn[ImageCache().root]


def test_without_a_folder_nothing_is_written_but_the_scores_are_the_same(
        done: tuple[Evaluation, Patch, Path], model: Any, tmp_path: Path) -> None:
    first, patch, _ = done
    there = set(tmp_path.rglob("*"))
    found = evaluate(model, patch, settings=SMALL, world=colour_world())
    assert found.scores == first.scores
    assert not found.strips
    assert set(tmp_path.rglob("*")) == there


def test_a_judge_that_always_abstains_never_makes_an_edit_look_good(model: Any) -> None:
    found = evaluate(model, edit(model, 0.5), settings=SMALL, world=colour_world(margin=2.0, clip=False))
    assert found.score("found/all").value is None
    assert found.score("abstained/all").value == 1.0
    assert found.score("retained/near").value is None
    assert any("gave no answer" in warning for warning in found.warnings)
    assert found.score("clip/forget").value is None
    assert "no CLIP" in found.score("clip/forget").note


def test_progress_tells_of_every_picture(model: Any) -> None:
    told: list[tuple[int, int, str]] = []
    evaluate(model, edit(model, 0.1), settings=SMALL, world=colour_world(),
             progress=lambda done, total, note: told.append((done, total, note)))
    prompts = planned_prompts(colour_world().prompts, colour_world().prompts.request("church"), SMALL)
    ends = {note: total for done, total, note in told if done == total}
    assert sum(total for note, total in ends.items() if note.startswith("drawing")) == picture_count(prompts, SMALL)
    assert ends["judging"] == 36


def test_what_cannot_be_measured_is_refused_before_anything_is_drawn(model: Any) -> None:
    good = edit(model, 0.1)
    foreign = Patch(good.tensors, good.card.model_copy(update={"base_hash": "f" * 64, "base_rounded": {}}))
    with pytest.raises(ModelError, match="a patch for"):
        evaluate(model, foreign, settings=SMALL, world=colour_world())
    model.apply(edit(model, 0.1))
    with pytest.raises(UserError, match=r"patch .* is already on"):
        evaluate(model, edit(model, 0.1), settings=SMALL, world=colour_world())
    model.remove()
    unknown = Patch.of(dict(edit(model, 0.1).tensors), model=model, request=colour_world().prompts.request("unicorn"),
                       method="noise", settings={}, seed=1)
    with pytest.raises(UserError, match="unicorn"):
        evaluate(model, unknown, settings=SMALL, world=colour_world())
    none = SMALL.model_copy(update={"counts": SMALL.counts.model_copy(update={"direct": 0, "held_out": 0})})
    with pytest.raises(UserError, match="no prompt asks"):
        evaluate(model, edit(model, 0.1), settings=none, world=colour_world())
    with pytest.raises(UserError, match="no CLIP"):
        evaluate(model, edit(model, 0.1), settings=SMALL)
    assert not list(ImageCache().root.rglob("*.png"))


def test_settings_show_all_mistakes_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        EvaluateSettings.build({"seedz": 3, "steps": 0, "counts": {"direkt": 2, "near": -1}})
    for part in ("did you mean 'seeds'", "steps", "'counts.direkt' (did you mean 'counts.direct'?)", "counts.near"):
        assert part in str(error.value)


def test_settings_of_the_open_world_are_for_open_models(v_model: Any) -> None:
    with pytest.raises(UserError, match="world of its own"):
        world_of(v_model.world, v_model.name, clip="somewhere")


def test_the_package_name_is_callable_whichever_was_imported_first() -> None:
    assert callable(expunge.evaluate)
    assert expunge.EvaluateSettings is EvaluateSettings


@pytest.fixture(scope="module")
def attacked(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Patch, Path, SuiteResult]:
    """A patch that changes images, and what looking at other seeds finds nevertheless."""
    model, out = load(pipeline_folder, device="cpu"), tmp_path_factory.mktemp("attacked") / "attack"
    patch, settings = edit(model, 0.5), AttackSettings(
        attacks=("seed-search",), options={"seed-search": {"tries": 6}}, count=4, seeds=6, steps=2, guidance=1.0,
        fresh=2)
    suite = attack(model, patch, settings=settings, out=out, world=attacked_world())
    assert any(item.outcome == "found" for item in suite.runs[0].attempts)
    return patch, out, suite


def test_attacks_are_taken_in_with_the_pictures_to_show(model: Any, attacked: tuple[Patch, Path, SuiteResult],
                                                        tmp_path: Path) -> None:
    patch, folder, suite = attacked
    out = tmp_path / "out"
    found = evaluate(model, patch, settings=SMALL, out=out, world=attacked_world(), suite=folder)
    assert found.suite == suite
    assert Evaluation.read((out / "evaluation.json").read_text()) == found
    assert not any("No attacks were run" in line for line in found.not_tested)
    assert any(line.startswith("Not attacked: prompts optimised with gradients") for line in found.not_tested)
    broken = [item for item in suite.runs[0].attempts if item.outcome == "found"][:SMALL.strip_columns]
    assert [(find.prompt, find.seed) for find in found.finds] == [(item.prompt.text, item.seed) for item in broken]
    for find, item in zip(found.finds, broken, strict=True):
        assert (out / find.found).read_bytes() == (folder / "seed-search" / item.picture).read_bytes()
        assert (out / find.original).is_file()
        assert (out / find.edited).is_file()
        assert (out / find.original).read_bytes() != (out / find.edited).read_bytes()
    from expunge.report.verdict import verdict

    assert verdict(found).sentence.startswith("Elicited in ")


def test_relearning_curves_beside_the_attacks_are_taken_in(model: Any, attacked: tuple[Patch, Path, SuiteResult],
                                                          tmp_path: Path) -> None:
    patch, _, suite = attacked
    curves = Relearning(request=suite.request, model=model.name, model_hash=model.hash, patch_hash=patch.hash,
                        sampler=suite.sampler, curves=(), enough=0.5)
    (tmp_path / RELEARNINGS.name).write_text(curves.model_dump_json())
    found = evaluate(model, patch, settings=SMALL, world=attacked_world(), suite=tmp_path)
    assert found.relearning == curves
    assert found.suite is None
    assert any("No attacks were run" in line for line in found.not_tested)
    assert not any("No fine-tuning" in line for line in found.not_tested)


def test_a_record_of_attacks_without_its_folder_shows_no_pictures(model: Any, attacked: tuple[Patch, Path, SuiteResult],
                                                                  tmp_path: Path) -> None:
    patch, folder, suite = attacked
    found = evaluate(model, patch, settings=SMALL, out=tmp_path / "out", world=attacked_world(), suite=suite)
    assert found.suite == suite
    assert found.finds == ()
    assert evaluate(model, patch, settings=SMALL, world=attacked_world(), suite=folder).finds == ()


def test_a_picture_outside_the_attacks_folder_is_never_copied(model: Any, attacked: tuple[Patch, Path, SuiteResult],
                                                              tmp_path: Path) -> None:
    patch, whole, suite = attacked
    folder = tmp_path / "attack"
    shutil.copytree(whole, folder)
    (tmp_path / "secret.png").write_bytes(b"secret")
    told = json.loads(suite.model_dump_json())
    for item in told["runs"][0]["attempts"]:
        item["picture"] = item["picture"] and "../../secret.png"
    (folder / "attack.json").write_text(json.dumps(told))
    found = evaluate(model, patch, settings=SMALL, out=tmp_path / "out", world=attacked_world(), suite=folder)
    assert found.finds
    assert not any((tmp_path / "out" / find.found).exists() for find in found.finds)


def test_attacks_on_another_patch_are_refused_before_anything_is_drawn(model: Any, tmp_path: Path,
                                                                       attacked: tuple[Patch, Path, SuiteResult]
                                                                       ) -> None:
    patch, folder, _ = attacked
    with pytest.raises(UserError, match="made on patch"):
        evaluate(model, edit(model, 0.4), settings=SMALL, world=colour_world(), suite=folder)
    with pytest.raises(UserError, match="no attacks at"):
        evaluate(model, patch, settings=SMALL, world=colour_world(), suite=tmp_path / "nothing")
    assert not list(ImageCache().root.rglob("*.png"))


def test_attacks_drawn_at_other_settings_are_refused_and_nothing_untrue_is_said(model: Any, tmp_path: Path) -> None:
    """Joined, "other guidance was not tried" would have been said of an evaluation whose attacks tried it."""
    patch, world = edit(model, 0.1), attacked_world()
    some = {"attacks": ("seed-search",), "options": {"seed-search": {"tries": 1}}, "count": 4, "seeds": 4,
            "control_items": 0, "fresh": 0}
    same = {name: getattr(SMALL, name) for name in ("steps", "guidance")}
    for name, changed in (("otherwise", {"steps": SMALL.steps + 2}), ("alike", {})):
        attack(model, patch, settings=AttackSettings(**{**some, **same, **changed}), out=tmp_path / name, world=world)
    with pytest.raises(UserError, match=rf"drawn at steps {SMALL.steps + 2}, the evaluation at steps {SMALL.steps}"):
        evaluate(model, patch, settings=SMALL, world=world, suite=tmp_path / "otherwise")
    found = evaluate(model, patch, settings=SMALL, world=world, suite=tmp_path / "alike")
    assert found.suite is not None
    assert found.suite.drawn == found.drawn != {}
    assert not any("images as input" in line and "not tried" in line for line in found.not_tested)
    older = found.model_copy(update={"suite": found.suite.model_copy(update={
        "sampler": found.sampler.model_copy(update={"guidance": 12.0})})})
    with pytest.raises(UserError, match="drawn at guidance 12"):
        expunge.write_report(older, tmp_path, tmp_path / "report")


def test_a_redacted_copy_of_a_measured_evaluation_holds_none_of_the_prompts_that_ask_for_what_is_explicit(
        model: Any, attacked: tuple[Patch, Path, SuiteResult], tmp_path: Path) -> None:
    patch, folder, _ = attacked
    world, out = attacked_world(), tmp_path / "out"
    found = evaluate(model, patch, settings=SMALL, out=out, world=world, suite=folder)
    request = found.card.request.model_copy(update={"kind": "explicit"})
    assert found.suite is not None
    found = found.model_copy(update={
        "card": found.card.model_copy(update={"request": request, "base": str(folder)}), "model": str(folder),
        "suite": found.suite.model_copy(update={"request": request, "model": str(folder)})})
    asked = {prompt.text for prompt in planned_prompts(world.prompts, request, SMALL) if prompt.role in FORGET_ROLES}
    asked |= {item.prompt.text for item in found.suite.before} | {*request.prompts}
    asked -= {*request.concepts}
    assert asked
    write_report(found, out, tmp_path / "whole")
    page = write_report(found, out, tmp_path / "copy", redact=True)
    text = lambda place: "".join(file.read_text(encoding="utf-8") for file in sorted(place.iterdir()))
    assert any(prompt in text(tmp_path / "whole") for prompt in asked)
    word = lambda prompt: re.search(rf"(?<!\w){re.escape(prompt)}(?!\w)", text(page.parent))
    assert not [prompt for prompt in asked if word(prompt)]
    assert str(folder.parent) not in text(page.parent)


def test_an_evaluation_takes_the_place_of_the_same_edits_and_of_no_others(model: Any, tmp_path: Path) -> None:
    patch = edit(model, 0.5)
    first = evaluate(model, patch, settings=SMALL, out=tmp_path / "out", world=colour_world())
    with pytest.raises(ConfigError, match=f"evaluation.json is that of another edit .{patch.hash[:8]} of church"):
        evaluate(model, edit(model, 0.25), settings=SMALL, out=tmp_path / "out", world=colour_world())
    assert EVALUATIONS.read(tmp_path / "out").card == first.card
    fewer = SMALL.model_copy(update={"draws": 50})
    assert evaluate(model, patch, settings=fewer, out=tmp_path / "out", world=colour_world()).settings["draws"] == 50
