"""What each strategy holds on to, in weights that were trained, and what does not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from colour_world import attacked_world
from sequence_runs import ends, hashes, run

from expunge.config import merged
from expunge.errors import ConfigError
from expunge.models.model import applied
from expunge.models.patch import Patch
from expunge.models.store import load
from expunge.records import Request
from expunge.sequence.ledger import LEDGER
from expunge.sequence.memory import ReplayBuffer
from expunge.sequence.run import MEMORY, run_sequence
from expunge.sequence.settings import SequenceSettings
from expunge.sequence.strategy import PRESETS, Projection
from expunge.unlearn.context import TrainContext
from expunge.unlearn.presets.esd import ESD
from expunge.unlearn.projected import kept_directions
from expunge.unlearn.source import FrozenTrajectory

LONGER = {"settings": {"steps": 12}}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", list(PRESETS))
def test_every_strategy_meets_requests(strategy: str, small: dict[str, Any], tmp_path: Path) -> None:
    mine = {*PRESETS[strategy], "others", "every"}
    holding = {name: value for name, value in small["holding"].items() if name in mine}
    result, _ = ends(small, tmp_path, {"strategy": strategy, "holding": {} if strategy == "joint" else holding})
    assert [state.concept for state in result.states] == ["church", "dog"]
    assert len(set(hashes(result))) == 2
    assert result.scores == ()


@pytest.mark.slow
def test_replay_keeps_earlier_erasures_nearer_to_what_they_were_trained_to(small: dict[str, Any], tmp_path: Path
                                                                           ) -> None:
    model, gaps = load(small["model"], device="cpu"), dict[float, float]()
    for weight in (1e-6, 10.0):
        holding = {**small["holding"], "replay": {**small["holding"]["replay"], "weight": weight, "batch": 8},
                   "retain": None, "every": 1}
        out = tmp_path / str(weight)
        result, (_, last) = ends(small, out, LONGER, {"strategy": "replay", "holding": holding})
        memory = ReplayBuffer.read(out / result.states[0].folder / MEMORY)
        with applied(model, last), torch.no_grad():
            told = model.encode(["a church"]).repeat(len(memory.t))
            gaps[weight] = float((model.predict(memory.x_t, memory.t, told) - memory.z).square().mean())
    assert gaps[10.0] < 0.8 * gaps[1e-6]


@pytest.mark.slow
def test_retention_keeps_other_things_nearer_to_the_original(small: dict[str, Any], tmp_path: Path) -> None:
    model, gaps = load(small["model"], device="cpu"), dict[float, float]()
    for weight in (1e-6, 10.0):
        holding = {**small["holding"], "replay": None, "retain": {"weight": weight, "batch": 8}, "every": 1}
        _, (_, last) = ends(small, tmp_path / str(weight), LONGER, {"strategy": "replay", "holding": holding})
        whole = ReplayBuffer.read(next((tmp_path / str(weight)).glob("elsewhere-*.safetensors")))
        with applied(model, last), torch.no_grad():
            told = torch.cat([model.encode([text]).states for text in whole.prompts])
            out = model.network(whole.x_t, whole.t, told).sample
            gaps[weight] = float((out - whole.z).square().mean())
    assert gaps[10.0] < 0.8 * gaps[1e-6]


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["identity", "kept"])
def test_weight_anchors_keep_the_model_near_the_original(metric: str, small: dict[str, Any], tmp_path: Path) -> None:
    drifts = {}
    for weight in (1e-6, 1e7):
        anchor = {"metric": metric, "weight": weight, "samples": 8}
        holding = {"anchors": [anchor], "others": small["holding"]["others"]}
        result, _ = ends(small, tmp_path / f"{weight:g}", LONGER, {"strategy": "l2-sp", "holding": holding})
        drifts[weight] = result.states[-1].drift
    assert drifts[1e7] < 0.8 * drifts[1e-6]


@pytest.mark.slow
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


@pytest.mark.slow
def test_refresh_climbs_before_it_descends(small: dict[str, Any], tmp_path: Path) -> None:
    others = {"replay": small["holding"]["replay"], "others": small["holding"]["others"]}
    _, (plain, _) = ends(small, tmp_path / "off", {"strategy": "replay", "holding": others})
    _, (on, _) = ends(small, tmp_path / "on", {"strategy": "refresh", "holding": others})
    _, (off, _) = ends(small, tmp_path / "zero", {"strategy": "refresh", "holding": {**others, "refresh.gamma": 0.0}})
    assert max(on.card.losses["refresh"]) > 0
    assert on.hash != plain.hash == off.hash


@pytest.mark.slow
def test_a_request_after_one_that_changed_the_text_encoder_trains_on_what_the_model_is_told(
        small: dict[str, Any], tmp_path: Path) -> None:
    first = {**small["requests"][0], "settings": {"scope": "text"}}
    changes = {"strategy": "replay", "holding": small["holding"], "requests": [first, small["requests"][1]]}
    _, (text, both) = ends(small, tmp_path, changes)
    assert text.in_encoder
    assert any(name.startswith("unet/") for name in both.tensors)
    model = load(small["model"], device="cpu")
    student = model.edited(text)
    context = TrainContext(student, model, Request(concept="dog", prompts=("a dog",)), 0)
    stream = FrozenTrajectory(grid=3, trajectories=2).open(context, ["a dog"], 2, "erase")
    points = stream.draw(0)
    torch.testing.assert_close(context.condition(points).states, student.encode(points.prompts).states)
    assert not torch.equal(context.condition(points).states, points.cond.states)


@pytest.mark.slow
def test_what_anybody_wants_kept_is_held_on_to(small: dict[str, Any], tmp_path: Path) -> None:
    room = {**small["holding"], "others": {**small["holding"]["others"], "trajectories": 5}}
    plain = {"strategy": "replay", "holding": room}
    _, (_, without) = ends(small, tmp_path / "without", plain)
    _, (_, kept) = ends(small, tmp_path / "kept", plain, {"keep": ["a spoon"], "requests": [
        {**small["requests"][0], "keep": ["a house"]}, small["requests"][1]]})
    assert kept.hash != without.hash
    assert kept.card.request.keep == ("a spoon", "a house")  # the first request's wish holds for the second
    whole = ReplayBuffer.read(next((tmp_path / "kept").glob("elsewhere-*.safetensors")))
    assert {"a spoon", "a house"} <= set(whole.prompts)


@pytest.mark.slow
def test_what_a_later_request_wants_kept_changes_no_earlier_state(small: dict[str, Any], tmp_path: Path) -> None:
    room = {**small["holding"], "others": {**small["holding"]["others"], "trajectories": 5}}
    plain = {"strategy": "replay", "holding": room}
    before, _ = ends(small, tmp_path / "before", plain, LONGER)
    after, _ = ends(small, tmp_path / "after", plain, LONGER, {"requests": [
        small["requests"][0], {**small["requests"][1], "keep": ["a house"]}]})
    assert hashes(before)[0] == hashes(after)[0]
    assert hashes(before)[1] != hashes(after)[1]


@pytest.mark.slow
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
    ({"strategy": "refresh", "holding": {"refresh": {"update": {"kind": "plain", "max_grad_norm": 0.1}}}},
     "two settings"),
    ({"holding": {"others": {"trajectories": 3}}, "requests": [
        {"concept": "church"}, {"concept": "dog", "keep": ["hospital", "knife"]}]}, "3 trajectories for 2 prompts"),
])
def test_what_cannot_go_together_is_told_before_anything_is_begun(changes: dict[str, Any], told: str,
                                                                  small: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        run({**small, **changes, "settings": {**small["settings"], **changes.get("settings", {})}}, tmp_path)
    assert not (tmp_path / LEDGER).exists()


@pytest.mark.slow
def test_other_methods_than_recipes_hold_on_to_nothing(small: dict[str, Any], tmp_path: Path) -> None:
    kept = {"retain": {"things": ["knife", "hospital"], "similar": 1.0}}
    closed = {"method": "uce", "settings": kept, "evaluation": None}
    plain = {key: value for key, value in small.items() if key not in ("holding", "settings")}
    with pytest.raises(ConfigError, match=r"request 1 \(church\): 'uce' with strategy 'replay'"):
        run_sequence(SequenceSettings.build({**plain, **closed}), out=tmp_path, world=attacked_world())
    assert not (tmp_path / LEDGER).exists()
    anchored = [{**item, "anchor": "house"} for item in small["requests"]]
    result = run_sequence(SequenceSettings.build({**plain, **closed, "strategy": "naive", "requests": anchored}),
                          out=tmp_path, world=attacked_world())
    assert len(set(hashes(result))) == 2


def test_projection_needs_keys_or_values(small: dict[str, Any], tmp_path: Path) -> None:
    plain = {key: value for key, value in small.items() if key != "holding"}
    other = merged(plain, {"strategy": "projection", "settings": {"scope": "noxattn"}})
    with pytest.raises(ConfigError, match=r"request 1 \(church\): projection where no keys or values"):
        run_sequence(SequenceSettings.build(other), out=tmp_path, world=attacked_world())
    assert not (tmp_path / "states").exists()


@pytest.mark.slow
def test_joint_is_an_edit_of_the_original_alone(small: dict[str, Any], tmp_path: Path) -> None:
    plain = {key: value for key, value in small.items() if key != "holding"} | {"evaluation": None}
    result = run_sequence(SequenceSettings.build(merged(plain, {"strategy": "joint"})), out=tmp_path,
                          world=attacked_world())
    last = Patch.load(tmp_path / result.states[-1].folder)
    model = load(small["model"], device="cpu")
    alone = ESD.override(merged(small["settings"]))(model, last.card.request, seed=last.card.seed)
    assert alone.hash == last.hash
