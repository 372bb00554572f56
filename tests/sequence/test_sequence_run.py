"""A whole sequence: each request on top of the last, resumed where it was stopped, taken back where it is withdrawn."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from colour_world import AttackedWorld

from expunge.config import merged
from expunge.errors import ConfigError, UserError
from expunge.locks import held
from expunge.models.patch import Patch, applied
from expunge.models.store import load
from expunge.records import Ledger, Request, SequenceResult
from expunge.sequence.ledger import LEDGER
from expunge.sequence.memory import Memory
from expunge.sequence.projection import kept_directions
from expunge.sequence.run import MEMORY, run_sequence
from expunge.sequence.settings import SequenceSettings
from expunge.sequence.strategy import PRESETS, Projection
from expunge.unlearn.presets.esd import esd
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.workbench import Workbench


def run(small: dict[str, Any], out: Path, *changes: dict[str, Any], **more: Any) -> SequenceResult:
    return run_sequence(SequenceSettings.build(merged(small, *changes)), out=out, world=AttackedWorld(), **more)


def hashes(result: SequenceResult) -> list[str]:
    return [state.patch_hash for state in result.states]


@pytest.fixture(scope="module")
def done(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[SequenceResult, Path]:
    out = tmp_path_factory.mktemp("sequence")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_CACHE", str(out / "pictures"))
        return run(small, out), out


def test_every_request_goes_on_from_the_one_before(done: tuple[SequenceResult, Path], small: dict[str, Any]) -> None:
    result, out = done
    assert [state.concept for state in result.states] == ["church", "dog"]
    first, second = (Patch.load(out / state.folder) for state in result.states)
    assert second.card.request.concepts == ("church", "dog")
    assert second.tensors.keys() >= first.tensors.keys()
    model = load(small["model"], device="cpu")
    with applied(model, second):  # a state's patch is a patch of the original, whole in itself
        assert model.patch_hash == result.states[1].patch_hash
    assert 0 < result.states[0].drift < result.states[1].drift
    assert SequenceResult.read((out / "sequence.json").read_text()) == result


def test_the_ledger_tells_what_was_asked_and_done(done: tuple[SequenceResult, Path]) -> None:
    result, out = done
    ledger = Ledger.read((out / LEDGER).read_text())
    assert [(line.kind, line.concept, line.method, line.patch_hash) for line in ledger.entries] == [
        ("erased", ("church",), "esd", result.states[0].patch_hash),
        ("erased", ("dog",), "esd", result.states[1].patch_hash)]
    first = ledger.entries[0]
    assert (first.who, str(first.when), first.evidence) == ("a rights holder", "2026-11-01", "ticket 17")
    assert first.settings["steps"] == 3


def test_every_state_is_measured_on_every_concept(done: tuple[SequenceResult, Path]) -> None:
    result, _ = done
    for state in result.states:
        names = {score.name for score in state.scores}
        assert {"found/church", "found/dog", "retained/near", "integrity/near"} <= names
        for concept in result.concepts:
            score = state.score(f"found/{concept}")
            assert score.numerator == sum(state.items[score.name].values())
            assert (score.n, len(state.items[score.name])) == (4, 4)
    assert [score.name for score in result.before] == ["original/found/church", "original/found/dog"]
    assert {score.name for score in result.scores} == {"gone/own", "gone/end", "revival", "revival/most"}


def test_the_same_again_makes_nothing_and_finds_the_same(done: tuple[SequenceResult, Path], small: dict[str, Any],
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    result, out = done
    monkeypatch.setenv("EXPUNGE_CACHE", str(out / "pictures"))
    before = {file: file.stat().st_mtime_ns for file in out.glob("states/*/patch.safetensors")}
    again = run(small, out)
    assert again.model_copy(update={"created": ""}) == result.model_copy(update={"created": ""})
    assert before == {file: file.stat().st_mtime_ns for file in out.glob("states/*/patch.safetensors")}
    assert len(Ledger.read((out / LEDGER).read_text()).entries) == 2


def test_killed_in_the_middle_of_a_request_it_goes_on_there(done: tuple[SequenceResult, Path], small: dict[str, Any],
                                                            tmp_path: Path) -> None:
    def stop(done: int, total: int, words: str) -> None:
        if words.startswith("2, dog: erasing 1/"):
            time.sleep(2.0)
        if words.startswith("2, dog: erasing 2/"):
            raise KeyboardInterrupt

    quick = {"settings": {"checkpoint_every": 0.0}}
    with pytest.raises(KeyboardInterrupt):
        run(small, tmp_path, quick, progress=stop)
    assert len(Ledger.read((tmp_path / LEDGER).read_text()).entries) == 1
    said: list[str] = []
    result = run(small, tmp_path, quick, progress=lambda done, total, words: said.append(words))
    steps = [words for words in said if ": erasing" in words]
    assert steps[0] != "2, dog: erasing 1/3"  # not from the beginning
    assert not any(words.startswith("1, church: erasing") for words in said)
    assert hashes(result) == hashes(done[0])
    assert result.states[1].processor is None
    assert result.states[1].seconds >= 2.0  # what it took before it was killed is in it


def test_a_request_that_is_taken_back_is_as_if_it_had_never_come(done: tuple[SequenceResult, Path],
                                                                 small: dict[str, Any], tmp_path: Path) -> None:
    back = [{**small["requests"][0], "withdrawn": {"who": "the rights holder", "why": "settled"}}, small["requests"][1]]
    _, out = done
    result = run(small, out, {"requests": back})
    assert [(state.number, state.concept) for state in result.states] == [(2, "dog")]
    assert result.withdrawn == ("church",)
    fresh = run(small, tmp_path, {"requests": back})
    assert hashes(result) == hashes(fresh)
    entries = Ledger.read((out / LEDGER).read_text()).entries
    assert [(line.kind, line.number) for line in entries] == [("erased", 1), ("erased", 2), ("withdrawn", 1),
                                                             ("erased", 2)]
    assert (entries[2].who, entries[2].evidence) == ("the rights holder", "settled")


def test_what_a_request_leaves_behind_is_what_it_trained_to(done: tuple[SequenceResult, Path], small: dict[str, Any]
                                                            ) -> None:
    result, out = done
    memory = Memory.read(out / result.states[0].folder / MEMORY)
    model = load(small["model"], device="cpu")
    assert set(memory.prompts) == {"a church"}
    with torch.no_grad():  # Steer's target, by hand
        null, concept = (model.predict(memory.x_t, memory.t, model.encode([text]).repeat(len(memory.t)))
                         for text in ("", "a church"))
    torch.testing.assert_close(memory.z, 2 * null - concept, rtol=1e-4, atol=1e-4)


def ends(small: dict[str, Any], out: Path, *changes: dict[str, Any]) -> tuple[SequenceResult, list[Patch]]:
    """A sequence without measuring, and the patches of its states."""
    bare = {key: value for key, value in small.items() if key != "holding"} | {"evaluation": None}
    result = run_sequence(SequenceSettings.build(merged(bare, *changes)), out=out, world=AttackedWorld())
    return result, [Patch.load(out / state.folder) for state in result.states]


LONGER = {"settings": {"steps": 12}}


@pytest.mark.parametrize("strategy", list(PRESETS))
def test_every_strategy_meets_requests(strategy: str, small: dict[str, Any], tmp_path: Path) -> None:
    mine = {*PRESETS[strategy], "others", "every"}
    holding = {name: value for name, value in small["holding"].items() if name in mine}
    result, _ = ends(small, tmp_path, {"strategy": strategy, "holding": {} if strategy == "joint" else holding})
    assert [state.concept for state in result.states] == ["church", "dog"]
    assert len(set(hashes(result))) == 2
    assert result.scores == ()


def test_replay_keeps_earlier_erasures_nearer_to_what_they_were_trained_to(small: dict[str, Any], tmp_path: Path
                                                                           ) -> None:
    model, gaps = load(small["model"], device="cpu"), dict[float, float]()
    for weight in (1e-6, 10.0):
        holding = {**small["holding"], "replay": {**small["holding"]["replay"], "weight": weight, "batch": 8},
                   "retain": None, "every": 1}
        out = tmp_path / str(weight)
        result, (_, last) = ends(small, out, LONGER, {"strategy": "replay", "holding": holding})
        memory = Memory.read(out / result.states[0].folder / MEMORY)
        with applied(model, last), torch.no_grad():
            told = model.encode(["a church"]).repeat(len(memory.t))
            gaps[weight] = float((model.predict(memory.x_t, memory.t, told) - memory.z).square().mean())
    assert gaps[10.0] < 0.8 * gaps[1e-6]


def test_retention_keeps_other_things_nearer_to_the_original(small: dict[str, Any], tmp_path: Path) -> None:
    model, gaps = load(small["model"], device="cpu"), dict[float, float]()
    for weight in (1e-6, 10.0):
        holding = {**small["holding"], "replay": None, "retain": {"weight": weight, "batch": 8}, "every": 1}
        _, (_, last) = ends(small, tmp_path / str(weight), LONGER, {"strategy": "replay", "holding": holding})
        whole = Memory.read(next((tmp_path / str(weight)).glob("elsewhere-*.safetensors")))
        with applied(model, last), torch.no_grad():
            told = torch.cat([model.encode([text]).states for text in whole.prompts])
            out = model.unet(whole.x_t, whole.t, told).sample
            gaps[weight] = float((out - whole.z).square().mean())
    assert gaps[10.0] < 0.8 * gaps[1e-6]


@pytest.mark.parametrize("metric", ["identity", "kept"])
def test_weight_anchors_keep_the_model_near_the_original(metric: str, small: dict[str, Any], tmp_path: Path) -> None:
    drifts = {}
    for weight in (1e-6, 1e7):
        anchor = {"metric": metric, "weight": weight, "samples": 8}
        holding = {"anchors": [anchor], "others": small["holding"]["others"]}
        result, _ = ends(small, tmp_path / f"{weight:g}", LONGER, {"strategy": "l2-sp", "holding": holding})
        drifts[weight] = result.states[-1].drift
    assert drifts[1e7] < 0.8 * drifts[1e-6]


def test_projected_requests_leave_alone_what_prompts_to_keep_use(small: dict[str, Any], tmp_path: Path) -> None:
    holding = {"projection": {"energy": 0.9}, "others": small["holding"]["others"]}
    _, patches = ends(small, tmp_path, {"strategy": "projection", "holding": holding})
    model, used = load(small["model"], device="cpu"), {name: p for name, p in patches[-1].tensors.items()
                                                       if name.endswith(("to_k.weight", "to_v.weight"))
                                                       and ".attn2." in name}
    U = kept_directions(model, ["", "a photo of a knife", "a photo of a hospital"], Projection(energy=0.9))
    assert used
    for name, value in used.items():
        dW = value - model.parameters_in("xattn.kv")[name].detach()
        assert float((dW @ U).norm() / dW.norm()) < 1e-3


def test_refresh_climbs_before_it_descends(small: dict[str, Any], tmp_path: Path) -> None:
    others = {"replay": small["holding"]["replay"], "others": small["holding"]["others"]}
    _, (plain, _) = ends(small, tmp_path / "off", {"strategy": "replay", "holding": others})
    _, (on, _) = ends(small, tmp_path / "on", {"strategy": "refresh", "holding": others})
    _, (off, _) = ends(small, tmp_path / "zero", {"strategy": "refresh", "holding": {**others, "refresh.gamma": 0.0}})
    assert max(on.card.losses["refresh"]) > 0
    assert on.hash != plain.hash == off.hash


def test_a_request_after_one_that_changed_the_text_encoder_trains_on_what_the_model_is_told(
        small: dict[str, Any], tmp_path: Path) -> None:
    first = {**small["requests"][0], "settings": {"scope": "text"}}
    changes = {"strategy": "replay", "holding": small["holding"], "requests": [first, small["requests"][1]]}
    _, (text, both) = ends(small, tmp_path, changes)
    assert text.in_encoder
    assert any(name.startswith("unet/") for name in both.tensors)
    model = load(small["model"], device="cpu")
    student = model.edited(text)
    bench = Workbench(student, model, Request(concept="dog", prompts=("a dog",)), 0)
    stream = FrozenTrajectory(grid=3, trajectories=2).open(bench, ["a dog"], 2, "erase")
    points = stream.draw(0)
    torch.testing.assert_close(bench.condition(points).states, student.encode(points.prompts).states)
    assert not torch.equal(bench.condition(points).states, points.cond.states)


def test_what_anybody_wants_kept_is_held_on_to(small: dict[str, Any], tmp_path: Path) -> None:
    room = {**small["holding"], "others": {**small["holding"]["others"], "trajectories": 5}}
    plain = {"strategy": "replay", "holding": room}
    _, (_, without) = ends(small, tmp_path / "without", plain)
    _, (_, kept) = ends(small, tmp_path / "kept", plain, {"keep": ["a spoon"], "requests": [
        {**small["requests"][0], "keep": ["a house"]}, small["requests"][1]]})
    assert kept.hash != without.hash
    assert kept.card.request.keep == ("a spoon", "a house")  # the first request's wish holds for the second
    whole = Memory.read(next((tmp_path / "kept").glob("elsewhere-*.safetensors")))
    assert {"a spoon", "a house"} <= set(whole.prompts)


def test_what_a_later_request_wants_kept_changes_no_earlier_state(small: dict[str, Any], tmp_path: Path) -> None:
    room = {**small["holding"], "others": {**small["holding"]["others"], "trajectories": 5}}
    plain = {"strategy": "replay", "holding": room}
    before, _ = ends(small, tmp_path / "before", plain, LONGER)
    after, _ = ends(small, tmp_path / "after", plain, LONGER, {"requests": [
        small["requests"][0], {**small["requests"][1], "keep": ["a house"]}]})
    assert hashes(before)[0] == hashes(after)[0]
    assert hashes(before)[1] != hashes(after)[1]


def test_what_was_withdrawn_and_asked_again_is_not_told_as_withdrawn(small: dict[str, Any], tmp_path: Path) -> None:
    back = {**small["requests"][0], "withdrawn": {"who": "a"}}
    result, _ = ends(small, tmp_path, {"strategy": "naive", "requests": [
        back, small["requests"][1], {"concept": "church"}]})
    assert (result.withdrawn, result.concepts) == ((), ("dog", "church"))


def test_a_bound_by_dual_ascent_goes_with_what_is_held(small: dict[str, Any], tmp_path: Path) -> None:
    few = {**small["settings"], "keep": {"batch": 2, "source": {"trajectories": 3, "grid": 3}},
           "retain": small["holding"]["others"]["prompts"]}
    result, patches = ends(small, tmp_path, {"method": "integrity-dual", "settings": few, "strategy": "replay",
                                             "holding": small["holding"]})
    assert len(result.states) == 2
    for patch in patches:  # what is held is told by itself
        assert patch.card.losses.keys() >= {"erase", "keep", "hold", "multiplier"}


@pytest.mark.parametrize(("changes", "told"), [
    ({"strategy": "replay", "holding": {"teacher": "last"}}, "those of the last model go with it"),
    ({"strategy": "projection", "settings": {"update": "masked"}, "holding": {}}, "trains within a mask"),
    ({"strategy": "refresh", "settings": {"update": "refresh"}, "holding": {}}, "two settings of what is refreshed"),
    ({"strategy": "refresh", "holding": {"refresh": {"update": {"kind": "plain", "clip": 0.1}}}}, "two settings"),
    ({"holding": {"others": {"trajectories": 3}}, "requests": [
        {"concept": "church"}, {"concept": "dog", "keep": ["hospital", "knife"]}]}, "3 trajectories for 2 prompts"),
])
def test_what_cannot_go_together_is_told_before_anything_is_begun(changes: dict[str, Any], told: str,
                                                                  small: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        run({**small, **changes, "settings": {**small["settings"], **changes.get("settings", {})}}, tmp_path)
    assert not (tmp_path / LEDGER).exists()


def test_settings_that_decide_no_weight_may_change_and_others_may_not(done: tuple[SequenceResult, Path],
                                                                      small: dict[str, Any], tmp_path: Path) -> None:
    first = run(small, tmp_path, {"evaluation": None})
    again = run(small, tmp_path, {"evaluation": None, "settings": {"checkpoint_every": 7.0, "frozen_batch": 3}})
    assert hashes(again) == hashes(first) == hashes(done[0])
    assert len(list((tmp_path / "states").iterdir())) == 2
    for change, what in (({"settings": {"steps": 4}}, "settings"), ({"seed": 1}, "seed"),
                         ({"holding": {"replay": {"weight": 3.0}}}, "strategy")):
        with pytest.raises(ConfigError, match=f"the file now has another {what} for it"):
            run(small, tmp_path, {"evaluation": None}, change)
    assert len(Ledger.read((tmp_path / LEDGER).read_text()).entries) == 2


def test_a_patch_that_the_ledger_does_not_know_is_refused(small: dict[str, Any], tmp_path: Path) -> None:
    result = run(small, tmp_path, {"evaluation": None})
    first, second = (tmp_path / state.folder for state in result.states)
    for name in ("patch.safetensors", "patch.json"):
        (first / name).write_bytes((second / name).read_bytes())
    with pytest.raises(UserError, match=r"the patch of request 1 \(church\) is .*as the ledger says"):
        run(small, tmp_path, {"evaluation": None})


def test_a_judge_that_does_not_know_a_concept_is_told_before_anything_is_edited(small: dict[str, Any], tmp_path: Path
                                                                                ) -> None:
    with pytest.raises(UserError, match="cannot answer"):
        run(small, tmp_path, {"requests": [small["requests"][0], {"concept": "castle"}]})
    assert not (tmp_path / "states").exists()


def test_withdrawing_everything_leaves_the_original(small: dict[str, Any], tmp_path: Path) -> None:
    run(small, tmp_path, {"evaluation": None})
    back = [{**item, "withdrawn": {"who": "everybody"}} for item in small["requests"]]
    result = run(small, tmp_path, {"requests": back, "evaluation": None})
    assert (result.states, result.concepts, result.withdrawn) == ((), (), ("church", "dog"))
    assert [line.kind for line in Ledger.read((tmp_path / LEDGER).read_text()).entries[2:]] == ["withdrawn"] * 2


def test_gathering_changes_no_record(done: tuple[SequenceResult, Path], small: dict[str, Any], tmp_path: Path) -> None:
    run(small, tmp_path, {"evaluation": None})
    before = (tmp_path / "sequence.json").read_bytes()
    run(small, tmp_path, {"evaluation": {"seeds": 3}}, make=False)
    assert (tmp_path / "sequence.json").read_bytes() == before
    cost = next(tmp_path.glob("states/01-*/cost.json"))
    cost.unlink()
    assert run(small, tmp_path, {"evaluation": None}, make=False).states[0].processor is None


def test_other_methods_than_recipes_hold_on_to_nothing(small: dict[str, Any], tmp_path: Path) -> None:
    kept = {"retain": {"things": ["knife", "hospital"], "similar": 1.0}}
    closed = {"method": "uce", "settings": kept, "evaluation": None}
    plain = {key: value for key, value in small.items() if key not in ("holding", "settings")}
    with pytest.raises(ConfigError, match=r"request 1 \(church\): 'uce' with strategy 'replay'"):
        run_sequence(SequenceSettings.build({**plain, **closed}), out=tmp_path, world=AttackedWorld())
    assert not (tmp_path / LEDGER).exists()
    anchored = [{**item, "anchor": "house"} for item in small["requests"]]
    result = run_sequence(SequenceSettings.build({**plain, **closed, "strategy": "naive", "requests": anchored}),
                          out=tmp_path, world=AttackedWorld())
    assert len(set(hashes(result))) == 2


def test_projection_needs_keys_or_values(small: dict[str, Any], tmp_path: Path) -> None:
    plain = {key: value for key, value in small.items() if key != "holding"}
    other = merged(plain, {"strategy": "projection", "settings": {"scope": "noxattn"}})
    with pytest.raises(ConfigError, match=r"request 1 \(church\): projection where no keys or values"):
        run_sequence(SequenceSettings.build(other), out=tmp_path, world=AttackedWorld())
    assert not (tmp_path / "states").exists()


def test_joint_is_an_edit_of_the_original_alone(small: dict[str, Any], tmp_path: Path) -> None:
    plain = {key: value for key, value in small.items() if key != "holding"} | {"evaluation": None}
    result = run_sequence(SequenceSettings.build(merged(plain, {"strategy": "joint"})), out=tmp_path,
                          world=AttackedWorld())
    last = Patch.load(tmp_path / result.states[-1].folder)
    model = load(small["model"], device="cpu")
    alone = esd(**merged(small["settings"]))(model, last.card.request, seed=last.card.seed)
    assert alone.hash == last.hash


def test_one_process_at_a_time(small: dict[str, Any], tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(UserError, match="another process works on the sequence"):
        run(small, tmp_path)


def test_nothing_to_gather(small: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sequence was begun"):
        run(small, tmp_path, make=False)


def test_a_damaged_state_is_made_again(done: tuple[SequenceResult, Path], small: dict[str, Any], tmp_path: Path
                                       ) -> None:
    first = run(small, tmp_path, {"evaluation": None})
    folder = tmp_path / first.states[1].folder
    (folder / "patch.safetensors").write_bytes(b"damaged")
    again = run(small, tmp_path, {"evaluation": None})
    assert hashes(again) == hashes(first) == hashes(done[0])
    assert json.loads((folder / "patch.json").read_text())["tensors_hash"] == again.states[1].patch_hash


def test_seeds_go_by_place_so_that_a_request_taken_back_leaves_no_trace(small: dict[str, Any], tmp_path: Path) -> None:
    first, second = small["requests"]
    third, bare = {"concept": "hospital"}, {"evaluation": None, "strategy": "naive", "holding": {}}
    run({**small, **bare, "requests": [first, second, third]}, tmp_path / "a")
    back = run({**small, **bare, "requests": [first, {**second, "withdrawn": {}}, third]}, tmp_path / "a")
    never = run({**small, **bare, "requests": [first, third]}, tmp_path / "b")
    assert hashes(back) == hashes(never)


def test_a_wish_of_the_file_belongs_to_the_folder(small: dict[str, Any], tmp_path: Path) -> None:
    bare = {**small, "evaluation": None}
    run(bare, tmp_path)
    lines = (tmp_path / LEDGER).read_bytes()
    with pytest.raises(ConfigError, match="the file now has another wish of what must stay"):
        run({**bare, "keep": "hospital"}, tmp_path)
    assert (tmp_path / LEDGER).read_bytes() == lines
    later = {"concept": "knife", "keep": ["hospital"]}  # a later request's own wish is no other past
    assert len(run({**bare, "requests": [*small["requests"], later]}, tmp_path).states) == 3


def test_points_that_were_exchanged_are_refused(small: dict[str, Any], tmp_path: Path) -> None:
    bare = {**small, "evaluation": None}
    result = run(bare, tmp_path)
    one, two = (tmp_path / state.folder / MEMORY for state in result.states)
    good, points = Memory.read(one).hash, two.read_bytes()
    one.write_bytes(points)
    longer = {**bare, "requests": [*small["requests"], {"concept": "knife"}]}
    with pytest.raises(UserError, match=r"points that request 1 \(church\) left behind are other ones") as caught:
        run(longer, tmp_path)
    assert str(one) in str(caught.value)
    one.unlink()
    assert len(run(longer, tmp_path).states) == 3
    assert Memory.read(one).hash == good


def test_a_short_list_is_no_mistake_of_its_own_where_what_it_holds_is_mistaken() -> None:
    with pytest.raises(ConfigError) as caught:
        SequenceSettings.build({"requests": [{"concept": "church", "when": "yesterday"}]})
    assert "at least 1 item" not in str(caught.value)
    with pytest.raises(ConfigError, match="at least 1 item"):
        SequenceSettings.build({"requests": []})
    with pytest.raises(ConfigError) as caught:
        SequenceSettings.build({"requests": [{"concept": "church"}], "holding": {"teacher": "last"}})
    assert "value error" not in str(caught.value).lower()
