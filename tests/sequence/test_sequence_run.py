"""A whole sequence: each request on top of the last, resumed where it was stopped, taken back where it is withdrawn."""

from __future__ import annotations

import json
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
from expunge.records import Ledger, SequenceResult
from expunge.sequence.ledger import LEDGER
from expunge.sequence.memory import Memory
from expunge.sequence.run import MEMORY, run_sequence
from expunge.sequence.settings import SequenceSettings
from expunge.sequence.strategy import PRESETS
from expunge.unlearn.presets.esd import esd


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


@pytest.mark.parametrize("strategy", list(PRESETS))
def test_every_strategy_meets_requests(strategy: str, small: dict[str, Any], tmp_path: Path) -> None:
    holding = {name: value for name, value in small["holding"].items() if name in PRESETS[strategy] or name == "others"}
    changes = merged({key: value for key, value in small.items() if key != "holding"},
                     {"strategy": strategy, "holding": holding, "evaluation": None})
    result = run_sequence(SequenceSettings.build(changes), out=tmp_path, world=AttackedWorld())
    assert [state.concept for state in result.states] == ["church", "dog"]
    assert len(set(hashes(result))) == 2
    assert result.scores == ()


def test_strategies_lead_to_different_models(small: dict[str, Any], tmp_path: Path) -> None:
    bare = {key: value for key, value in small.items() if key != "holding"} | {"evaluation": None}
    ends = {name: hashes(run_sequence(SequenceSettings.build(merged(bare, {"strategy": name}, more)),
                                      out=tmp_path / name, world=AttackedWorld()))[-1]
            for name, more in (("naive", {}), ("l2-sp", {}), ("joint", {}))}
    assert len(set(ends.values())) == 3


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
    with pytest.raises(UserError, match="no request of this sequence was met"):
        run(small, tmp_path, make=False)


def test_a_damaged_state_is_made_again(done: tuple[SequenceResult, Path], small: dict[str, Any], tmp_path: Path
                                       ) -> None:
    first = run(small, tmp_path, {"evaluation": None})
    folder = tmp_path / first.states[1].folder
    (folder / "patch.safetensors").write_bytes(b"damaged")
    again = run(small, tmp_path, {"evaluation": None})
    assert hashes(again) == hashes(first) == hashes(done[0])
    assert json.loads((folder / "patch.json").read_text())["tensors_hash"] == again.states[1].patch_hash
