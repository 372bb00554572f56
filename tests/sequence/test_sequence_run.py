"""A whole sequence: each request on top of the last, resumed where it was stopped, taken back where it is withdrawn."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from sequence_runs import ends, hashes, run

from expunge.errors import ConfigError, UserError
from expunge.locks import held
from expunge.models.model import applied
from expunge.models.patch import Patch
from expunge.models.store import load
from expunge.records import Ledger, SequenceResult
from expunge.sequence.ledger import LEDGER
from expunge.sequence.memory import ReplayBuffer
from expunge.sequence.run import MEMORY


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
        assert {"second/found/church", "second/found/dog", "second/retained/near"} <= names
        for concept in result.concepts:
            score = state.score(f"found/{concept}")
            assert score.numerator == sum(state.items[score.name].values())
            assert (score.n, len(state.items[score.name])) == (4, 4)
    assert [score.name for score in result.before] == [
        *(f"{judge}original/found/{concept}" for judge in ("", "second/") for concept in ("church", "dog")),
        "original/retained/near", "second/original/retained/near"]
    assert set(result.undrawn) == {"church", "dog"}, "four images are too few to say that the original draws it"
    told = {score.name: score for score in result.scores}
    assert set(told) == {f"{judge}gone/{when}" for judge in ("", "second/") for when in ("own", "end")}
    assert {score.n for score in told.values()} == {0}
    assert [told[name].left_out for name in ("gone/own", "gone/end")] == [{"the original may not draw it": 8}] * 2


def test_the_same_again_makes_nothing_and_finds_the_same(done: tuple[SequenceResult, Path], small: dict[str, Any],
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    result, out = done
    monkeypatch.setenv("EXPUNGE_CACHE", str(out / "pictures"))
    before = {file: file.stat().st_mtime_ns for file in out.glob("states/*/patch.safetensors")}
    again = run(small, out)
    assert again.model_copy(update={"created": ""}) == result.model_copy(update={"created": ""})
    assert before == {file: file.stat().st_mtime_ns for file in out.glob("states/*/patch.safetensors")}
    assert len(Ledger.read((out / LEDGER).read_text()).entries) == 2


@pytest.mark.slow
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


@pytest.mark.slow
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
    memory = ReplayBuffer.read(out / result.states[0].folder / MEMORY)
    model = load(small["model"], device="cpu")
    assert set(memory.prompts) == {"a church"}
    with torch.no_grad():  # Steer's target, by hand
        null, concept = (model.predict(memory.x_t, memory.t, model.encode([text]).repeat(len(memory.t)))
                         for text in ("", "a church"))
    torch.testing.assert_close(memory.z, 2 * null - concept, rtol=1e-4, atol=1e-4)


def test_what_was_withdrawn_and_asked_again_is_not_told_as_withdrawn(small: dict[str, Any], tmp_path: Path) -> None:
    back = {**small["requests"][0], "withdrawn": {"who": "a"}}
    result, _ = ends(small, tmp_path, {"strategy": "naive", "requests": [
        back, small["requests"][1], {"concept": "church"}]})
    assert (result.withdrawn, result.concepts) == ((), ("dog", "church"))


@pytest.mark.slow
def test_settings_that_decide_no_weight_may_change_and_others_may_not(done: tuple[SequenceResult, Path],
                                                                      small: dict[str, Any], tmp_path: Path) -> None:
    first = run(small, tmp_path, {"evaluation": None})
    again = run(small, tmp_path, {"evaluation": None, "settings": {"checkpoint_every": 7.0, "frozen_batch": 3}})
    assert hashes(again) == hashes(first) == hashes(done[0])
    assert len(list((tmp_path / "states").iterdir())) == 2
    for change, what in (({"settings": {"steps": 4}}, "settings.steps 3, now 4"), ({"seed": 1}, "seed "),
                         ({"holding": {"replay": {"weight": 3.0}}}, "strategy.replay.weight 4.0, now 3.0")):
        with pytest.raises(ConfigError, match=rf"request 1 \(church\) in .* was begun under other settings \({what}"):
            run(small, tmp_path, {"evaluation": None}, change)
    assert len(Ledger.read((tmp_path / LEDGER).read_text()).entries) == 2


@pytest.mark.slow
def test_a_patch_that_the_ledger_does_not_know_is_refused(small: dict[str, Any], tmp_path: Path) -> None:
    result = run(small, tmp_path, {"evaluation": None})
    first, second = (tmp_path / state.folder for state in result.states)
    for name in ("patch.safetensors", "patch.json", "prompts.json"):
        (first / name).write_bytes((second / name).read_bytes())
    with pytest.raises(UserError, match=r"the patch of request 1 \(church\) is .*as the ledger says"):
        run(small, tmp_path, {"evaluation": None})


def test_a_judge_that_does_not_know_a_concept_is_told_before_anything_is_edited(small: dict[str, Any], tmp_path: Path
                                                                                ) -> None:
    with pytest.raises(UserError, match="cannot answer"):
        run(small, tmp_path, {"requests": [small["requests"][0], {"concept": "castle"}]})
    assert not (tmp_path / "states").exists()


@pytest.mark.slow
def test_withdrawing_everything_leaves_the_original(small: dict[str, Any], tmp_path: Path) -> None:
    run(small, tmp_path, {"evaluation": None})
    back = [{**item, "withdrawn": {"who": "everybody"}} for item in small["requests"]]
    result = run(small, tmp_path, {"requests": back, "evaluation": None})
    assert (result.states, result.concepts, result.withdrawn) == ((), (), ("church", "dog"))
    assert [line.kind for line in Ledger.read((tmp_path / LEDGER).read_text()).entries[2:]] == ["withdrawn"] * 2


@pytest.mark.slow
def test_gathering_changes_no_record(done: tuple[SequenceResult, Path], small: dict[str, Any], tmp_path: Path) -> None:
    run(small, tmp_path, {"evaluation": None})
    before = (tmp_path / "sequence.json").read_bytes()
    run(small, tmp_path, {"evaluation": {"seeds": 3}}, make=False)
    assert (tmp_path / "sequence.json").read_bytes() == before
    cost = next(tmp_path.glob("states/01-*/cost.json"))
    cost.unlink()
    assert run(small, tmp_path, {"evaluation": None}, make=False).states[0].processor is None


@pytest.mark.slow
def test_what_a_version_without_detectors_measured_is_measured(
        small: dict[str, Any], tmp_path: Path) -> None:
    """A setting that it did not know was as it is by default; under a detector it was not."""
    out = tmp_path / "older"
    first = run(small, out)
    for file in out.rglob("evaluation.json"):
        record = json.loads(file.read_text())
        del record["settings"]["detector"], record["settings"]["detector_options"]
        file.write_text(json.dumps(record))
    assert [state.scores for state in run(small, out, make=False).states] == [state.scores for state in first.states]
    other = {**small["evaluation"], "detector": "emoji-judge", "detector_options": {"rule": {"rule": "top"}}}
    assert not any("found/church" in {score.name for score in state.scores}
                   for state in run(small, out, {"evaluation": other}, make=False).states)


def test_one_process_at_a_time(small: dict[str, Any], tmp_path: Path) -> None:
    def elsewhere() -> str:
        with pytest.raises(UserError) as error:  # what this thread holds, another does not
            run(small, tmp_path)
        return str(error.value)

    with held(tmp_path), ThreadPoolExecutor(1) as threads:
        assert "another process works on the sequence" in threads.submit(elsewhere).result()


def test_nothing_to_gather(small: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sequence was begun"):
        run(small, tmp_path, make=False)


@pytest.mark.slow
def test_a_damaged_state_is_made_again(done: tuple[SequenceResult, Path], small: dict[str, Any], tmp_path: Path
                                       ) -> None:
    first = run(small, tmp_path, {"evaluation": None})
    folder = tmp_path / first.states[1].folder
    (folder / "patch.safetensors").write_bytes(b"damaged")
    again = run(small, tmp_path, {"evaluation": None})
    assert hashes(again) == hashes(first) == hashes(done[0])
    assert json.loads((folder / "patch.json").read_text())["tensors_hash"] == again.states[1].patch_hash


@pytest.mark.slow
def test_seeds_go_by_place_so_that_a_request_taken_back_leaves_no_trace(small: dict[str, Any], tmp_path: Path) -> None:
    first, second = small["requests"]
    third, bare = {"concept": "hospital"}, {"evaluation": None, "strategy": "naive", "holding": {}}
    run({**small, **bare, "requests": [first, second, third]}, tmp_path / "a")
    back = run({**small, **bare, "requests": [first, {**second, "withdrawn": {}}, third]}, tmp_path / "a")
    never = run({**small, **bare, "requests": [first, third]}, tmp_path / "b")
    assert hashes(back) == hashes(never)


@pytest.mark.slow
def test_a_wish_of_the_file_belongs_to_the_folder(small: dict[str, Any], tmp_path: Path) -> None:
    bare = {**small, "evaluation": None}
    run(bare, tmp_path)
    lines = (tmp_path / LEDGER).read_bytes()
    with pytest.raises(ConfigError, match=r'kept \[\], now \["hospital"\]'):
        run({**bare, "keep": "hospital"}, tmp_path)
    assert (tmp_path / LEDGER).read_bytes() == lines
    later = {"concept": "knife", "keep": ["hospital"]}  # a later request's own wish is no other past
    assert len(run({**bare, "requests": [*small["requests"], later]}, tmp_path).states) == 3


@pytest.mark.slow
def test_points_that_were_exchanged_are_refused(small: dict[str, Any], tmp_path: Path) -> None:
    bare = {**small, "evaluation": None}
    result = run(bare, tmp_path)
    one, two = (tmp_path / state.folder / MEMORY for state in result.states)
    good, points = ReplayBuffer.read(one).hash, two.read_bytes()
    one.write_bytes(points)
    longer = {**bare, "requests": [*small["requests"], {"concept": "knife"}]}
    with pytest.raises(UserError, match=r"points that request 1 \(church\) left behind are other ones") as caught:
        run(longer, tmp_path)
    assert str(one) in str(caught.value)
    one.unlink()
    assert len(run(longer, tmp_path).states) == 3
    assert ReplayBuffer.read(one).hash == good
