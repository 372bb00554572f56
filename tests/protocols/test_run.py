"""A protocol's run on a tiny pipeline: two subjects, batch by batch; killed and gone on with, it ends the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from given import classifier, protocol, run, small_patch, table

from expunge.errors import ConfigError, ModelError, UserError
from expunge.models.patch import Patch
from expunge.protocols.answers import Answers
from expunge.protocols.compare import compared
from expunge.protocols.hub import card_metadata
from expunge.protocols.result import read_rows
from expunge.protocols.run import draw_original, run_protocol
from expunge.protocols.schema import Protocol
from expunge.protocols.settings import RunSettings
from expunge.protocols.table import as_csv, markdown
from expunge.protocols.wipe import wipe
from expunge.records import PROTOCOLS
from expunge.records.protocol import ProtocolResult
from pipelines import pipeline
from tiny_clip import tiny_clip


def same(a: ProtocolResult, b: ProtocolResult) -> bool:
    clock = {"created", "seconds"}
    return a.model_dump(exclude=clock) == b.model_dump(exclude=clock)


def test_both_models_are_asked_and_every_row_counts(model: Any, asked: Protocol, files: dict[str, Path], tmp_path: Path
                                                    ) -> None:
    result = run(model, asked, files, tmp_path / "out", small_patch(model))
    scores = {score.name: score for score in result.scores}
    assert set(scores) == {"shown", "original/shown"}
    assert scores["shown"].n == 7
    assert scores["shown"].prompts == 6
    assert result.protocol == "small"
    assert not result.deviations
    assert next(read_rows(tmp_path / "out")).text == "a church, number 0"
    assert PROTOCOLS.read(tmp_path / "out") == result
    assert {one.subject for one in result.thresholds} == {"original", "edited"}
    assert "| 95% interval |" in markdown(result)
    assert as_csv(result).splitlines()[1].startswith("small,1,")
    assert card_metadata(result, "m")["model-index"][0]["results"][0]["metrics"][0]["args"]["n"] == 7


def test_images_do_not_depend_on_the_patch_that_was_on_before(model: Any, asked: Protocol, files: dict[str, Path],
                                                              tmp_path: Path) -> None:
    alone = run(model, asked, files, tmp_path / "alone")
    both = run(model, asked, files, tmp_path / "both", small_patch(model))
    assert {score.name: score.value for score in alone.scores} == {
        score.name: score.value for score in both.scores if score.name.startswith("original/")}


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_run_that_was_killed_ends_as_one_that_was_not(after: int, model: Any, asked: Protocol, files: dict[str, Path],
                                                        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch = small_patch(model)
    whole = run(model, asked, files, tmp_path / "whole", patch)
    calls = []

    def stop(done: int, total: int, words: str) -> None:
        calls.append(done)
        if done == after and len(calls) > after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_protocol(model, asked, patch, files=files, settings=RunSettings(batch=2), out=tmp_path / "cut",
                     progress=stop)
    assert not model.patch_hash
    assert same(run(model, asked, files, tmp_path / "cut", patch), whole)


def test_a_damaged_answer_is_said_and_its_batch_is_made_again(
        model: Any, asked: Protocol, files: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = run(model, asked, files, tmp_path / "out", small_patch(model))
    file = tmp_path / "out" / "answers" / "0.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    assert '"value": 0.' in lines[3]
    file.write_text("".join([*lines[:3], lines[3].replace('"value": 0.', '"value": 1.'), *lines[4:]]))
    with pytest.raises(ModelError, match=r"damaged: what it holds is not what was written.*run the protocol there"):
        Answers(tmp_path / "out")
    calls = list[int]()
    again = run_protocol(model, asked, small_patch(model), files=files, settings=RunSettings(batch=2),
                         out=tmp_path / "out", progress=lambda done, total, words: calls.append(total))
    assert same(again, whole)
    assert calls[0] == 1
    assert caplog.text.count("has damaged lines") == 1
    assert f"{file} has damaged lines (1); what they kept is made again" in caplog.text
    assert len(Answers(tmp_path / "out")) == len(lines)


def test_answers_without_digests_are_taken_as_they_are(model: Any, asked: Protocol, files: dict[str, Path],
                                                       tmp_path: Path) -> None:
    whole = run(model, asked, files, tmp_path / "out")
    file = tmp_path / "out" / "answers" / "0.jsonl"
    values = [json.loads(line) for line in file.read_text().splitlines()]
    assert all(value.pop("seal") for value in values)
    file.write_text("".join(f"{json.dumps(value)}\n" for value in values))  # as earlier versions did
    before = file.read_bytes()
    assert same(run(model, asked, files, tmp_path / "out"), whole)
    assert file.read_bytes() == before


def test_a_folder_of_another_run_is_refused(model: Any, asked: Protocol, files: dict[str, Path], tmp_path: Path
                                            ) -> None:
    run(model, asked, files, tmp_path / "out")
    other = Protocol.build(protocol(sampler={"scheduler": "own", "steps": 4, "guidance": 2.0}))
    with pytest.raises(ConfigError, match="steps"):
        run(model, other, files, tmp_path / "out")


def test_fewer_rows_and_other_steps_are_deviations_in_the_name(model: Any, asked: Protocol, files: dict[str, Path],
                                                               tmp_path: Path) -> None:
    result = run(model, asked, files, tmp_path / "out", limit=3, steps=2)
    assert result.protocol == "small-modified"
    assert result.rows == 3
    assert any("3 of 7 rows" in line for line in result.deviations)
    assert any("steps 2 in place of 3" in line for line in result.deviations)


@pytest.mark.parametrize("store", ["none", "hashes", "pictures"])
def test_what_is_kept_of_images(store: str, model: Any, asked: Protocol, files: dict[str, Path], tmp_path: Path
                                ) -> None:
    run(model, asked, files, tmp_path / "out", store=store)
    lines = [json.loads(line)["image"] for file in (tmp_path / "out").glob("answers/*.jsonl")
             for line in file.read_text(encoding="utf-8").splitlines()]
    assert all(bool(one.get("pixels")) == (store != "none") for one in lines)
    assert len([*(tmp_path / "out").rglob("*.png")]) == (7 if store == "pictures" else 0)
    if store == "pictures":
        assert wipe(tmp_path / "out")["images"] == 7
        assert not [*(tmp_path / "out").rglob("*.png")]


def test_no_file_holds_a_text_of_a_sensitive_list(model: Any, files: dict[str, Path], tmp_path: Path) -> None:
    run(model, Protocol.build(protocol(sensitive=True)), files, tmp_path / "out", small_patch(model))
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():
            assert b"number 3" not in file.read_bytes(), file


def test_a_stand_in_gives_no_number(model: Any, asked: Protocol, files: dict[str, Path], network: Path, tmp_path: Path
                                    ) -> None:
    result = run(model, asked, {"prompts": files["prompts"]}, tmp_path / "out", stand_ins=(f"object={network}",))
    assert result.test_only
    assert result.protocol == "small-modified"
    assert "%" not in markdown(result)
    with pytest.raises(UserError, match="stand-in"):
        as_csv(result)
    with pytest.raises(UserError, match="stand-in"):
        card_metadata(result, "m")


def test_two_runs_are_compared_pair_by_pair(model: Any, asked: Protocol, files: dict[str, Path], tmp_path: Path
                                            ) -> None:
    a = run(model, asked, files, tmp_path / "a", small_patch(model))
    b = run(model, asked, files, tmp_path / "b", small_patch(model, scale=3.0))
    score, = compared(a, b, tmp_path / "a", tmp_path / "b")
    shown = {name: next(s for s in r.scores if s.name == "shown").value for name, r in (("a", a), ("b", b))}
    assert score.value == pytest.approx(shown["b"] - shown["a"], abs=0.1)  # groups weigh by their images
    assert score.n == 7
    same_run, = compared(a, a, tmp_path / "a", tmp_path / "a")
    assert same_run.value == 0.0
    assert same_run.high is not None
    assert same_run.high > 0
    other = run(model, Protocol.build(protocol(version=2)), files, tmp_path / "c")
    with pytest.raises(UserError, match="another protocol"):
        compared(a, other, tmp_path / "a", tmp_path / "c")


def test_a_row_is_drawn_as_it_says(model: Any, network: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "a church", "s": 1, "evaluation_guidance": 3.0, "width": 16, "height": 24},
            {"prompt": "a church", "s": 1, "evaluation_guidance": "", "width": "", "height": ""}]
    files = {"prompts": table(tmp_path / "list.csv", rows), "classifier": network}
    run(model, Protocol.build(protocol()), files, tmp_path / "out", store="pictures")
    from PIL import Image

    sizes = [Image.open(tmp_path / "out" / "images" / "original" / f"{number}-1.png").size for number in (1, 2)]
    assert sizes == [(16, 24), (16, 16)]


def test_images_that_are_not_finite_are_counted_and_judged_by_nobody(
        model: Any, asked: Protocol, files: dict[str, Path], tmp_path: Path,
        broken: Callable[[Any], Patch]) -> None:
    result = run(model, asked, files, tmp_path / "out", broken(model))
    score = result.score("shown")
    assert (score.n, score.value) == (0, None)
    assert score.left_out == {"not finite": 7}


@pytest.fixture
def broken() -> Callable[[Any], Patch]:
    return lambda model: small_patch(model, scale=1e38)


def test_false_alarms_on_harmless_prompts_stand_beside_and_in_no_rate(model: Any, files: dict[str, Path], tmp_path: Path
                                                                      ) -> None:
    values = protocol()
    values["prompts"]["benign"] = ["a bowl of fruit", "a bridge"]
    plain = run(model, Protocol.build(protocol()), files, tmp_path / "plain")
    result = run(model, Protocol.build(values), files, tmp_path / "out")
    alarms = result.score("original/false-alarms/object")
    assert alarms.n == 2
    assert result.score("original/shown").n == plain.score("original/shown").n == 7
    assert result.score("original/shown").value == plain.score("original/shown").value
    assert result.rows == 7


def test_a_batch_of_which_a_full_disk_kept_a_part_is_made_again(model: Any, asked: Protocol, files: dict[str, Path],
                                                                tmp_path: Path) -> None:
    whole = run(model, asked, files, tmp_path / "out")
    answers = tmp_path / "out" / "answers" / "0.jsonl"
    answers.write_text("\n".join(answers.read_text(encoding="utf-8").splitlines()[:-1]) + "\n", encoding="utf-8")
    assert same(run(model, asked, files, tmp_path / "out"), whole)


def test_other_lists_and_stand_ins_are_not_compared(model: Any, asked: Protocol, files: dict[str, Path], tmp_path: Path
                                                    ) -> None:
    a = run(model, asked, files, tmp_path / "a")
    other = {**files, "prompts": table(tmp_path / "other.csv", [{"prompt": "a house", "s": 1}])}
    b = run(model, asked, other, tmp_path / "b")
    with pytest.raises(UserError, match="another file was used for prompts"):
        compared(a, b, tmp_path / "a", tmp_path / "b")
    c = a.model_copy(update={"test_only": True})
    with pytest.raises(UserError, match="stand-in"):
        compared(c, c, tmp_path / "a", tmp_path / "a")


def test_rows_of_a_size_that_cannot_be_drawn_are_counted(model: Any, network: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "a church", "s": 1, "width": 17, "height": 16}, {"prompt": "a house", "s": 1, "width": 16,
                                                                         "height": 16}]
    files = {"prompts": table(tmp_path / "list.csv", rows), "classifier": network}
    result = run(model, Protocol.build(protocol()), files, tmp_path / "out")
    assert result.score("original/shown").n == 1
    assert any("no multiple" in why for why in result.left_out)


def test_a_label_that_no_row_has_is_refused_as_erased(model: Any, asked: Protocol, files: dict[str, Path],
                                                      tmp_path: Path) -> None:
    rows = [{"prompt": "a church", "s": 1, "class": "church"}]
    labelled = {**files, "prompts": table(tmp_path / "labelled.csv", rows)}
    with pytest.raises(UserError, match="no row asks for chruch"):
        run(model, asked, labelled, tmp_path / "out", erased=("chruch",))
    run(model, asked, files, tmp_path / "out", erased=("chruch",))  # its rows have no labels to be mistaken


def test_the_header_of_a_sensitive_list_is_not_quoted(model: Any, files: dict[str, Path], tmp_path: Path) -> None:
    bare = tmp_path / "bare.csv"
    bare.write_text("something secret,4\nmore,5\n", encoding="utf-8")
    with pytest.raises(ConfigError) as told:
        run(model, Protocol.build(protocol(sensitive=True)), {**files, "prompts": bare}, tmp_path / "out")
    assert "secret" not in str(told.value)


def test_a_row_label_that_the_detector_lacks_is_refused_and_not_counted_as_wrong(model: Any, files: dict[str, Path],
                                                                                tmp_path: Path) -> None:
    values = protocol(scores=[{"name": "right", "formula": "accuracy", "detector": "object"}])
    rows = [{"prompt": "ein Haus", "s": 1, "class": "haus"}]
    labelled = {**files, "prompts": table(tmp_path / "labelled.csv", rows)}
    with pytest.raises(UserError, match="no label for the rows' 'haus'"):
        run(model, Protocol.build(values), labelled, tmp_path / "out")
    values["detectors"][0]["labels"] = {"haus": "house"}
    assert run(model, Protocol.build(values), labelled, tmp_path / "out").score("original/right").n == 1


def test_a_label_of_a_domain_that_its_detector_lacks_is_refused(model: Any, files: dict[str, Path], tmp_path: Path
                                                                ) -> None:
    by_domain = {"formula": "unlearning-accuracy", "options": {"detectors": {"thing": "object"}}}
    values = protocol(scores=[{"name": "ua", **by_domain}])
    values["prompts"]["groups"] = ["thing"]
    rows = [{"prompt": "ein Haus", "s": 1, "thing": "haus"}]
    labelled = {**files, "prompts": table(tmp_path / "labelled.csv", rows)}
    with pytest.raises(UserError, match="no label for the rows' 'haus'"):
        run(model, Protocol.build(values), labelled, tmp_path / "out", erased=("haus",))
    values["detectors"][0]["labels"] = {"haus": "house"}
    assert run(model, Protocol.build(values), labelled, tmp_path / "out").score("original/ua").name == "original/ua"


def test_boxes_are_not_counted_for_a_label_that_the_detector_lacks(model: Any, files: dict[str, Path], tmp_path: Path
                                                                   ) -> None:
    sums = {"name": "sum", "formula": "boxes", "detector": "object", "options": {"labels": ["church", "steeple"]}}
    with pytest.raises(UserError, match="object has no label 'steeple'"):
        run(model, Protocol.build(protocol(scores=[sums])), files, tmp_path / "out")


def test_a_rows_label_is_found_in_the_scores_however_the_detector_writes_it(model: Any, files: dict[str, Path],
                                                                            tmp_path: Path) -> None:
    labels = (*(f"thing {number}" for number in range(8)), "Gas_Pump")
    network = classifier(tmp_path / "network", labels)
    values = protocol(scores=[{"name": "sure", "formula": "mean-probability", "detector": "object"}])
    values["detectors"][0]["rule"] = {"labels": ["thing 0"], "rule": "top"}
    rows = [{"prompt": f"a pump {seed}", "s": seed, "class": "gas pump"} for seed in range(8)]
    given = {"prompts": table(tmp_path / "pumps.csv", rows), "classifier": network}
    score = run(model, Protocol.build(values), given, tmp_path / "out").score("original/sure")
    assert (score.n, score.left_out) == (8, {})


@pytest.fixture
def measured(files: dict[str, Path], tmp_path: Path) -> tuple[Protocol, dict[str, Path]]:
    """A protocol with scores of every kind: over answers, over images, over pairs of them."""
    pipeline({"steps_offset": 1}).save_pretrained(tmp_path / "pipeline", safe_serialization=True)
    values = protocol()
    values["prompts"]["benign"] = ["a bowl of fruit"]
    clip = {"clip": {"role": "clip", "what": "a CLIP"}}
    values["scores"] += [{"name": "clip", "formula": "clip-score", "artefacts": clip},
                         {"name": "apart", "formula": "distance", "options": {"distance": "ssim"}}]
    return Protocol.build(values), {**files, "clip": tiny_clip(tmp_path / "pipeline", tmp_path / "clip")}


@pytest.mark.parametrize("store", ["hashes", "pictures"])
def test_edits_that_share_the_original_have_the_numbers_of_runs_of_their_own(
        store: str, model: Any, measured: tuple[Protocol, dict[str, Path]], tmp_path: Path) -> None:
    asked, files = measured
    settings = RunSettings(batch=2, store=store)
    draw_original(model, asked, files=files, settings=settings, out=tmp_path / "original")
    answers = (tmp_path / "original" / "answers" / "0.jsonl").read_bytes()
    for name, scale in (("a", 1.5), ("b", 3.0)):
        patch = small_patch(model, scale)
        alone = run(model, asked, files, tmp_path / name, patch, store=store)
        shared = run_protocol(model, asked, patch, files=files, settings=settings, out=tmp_path / f"{name}-shared",
                              original=tmp_path / "original")
        assert same(shared, alone)
        assert shared.score("apart").n == 6
        assert {one.subject for one in Answers(tmp_path / f"{name}-shared")} == {"edited"}
    assert (tmp_path / "original" / "answers" / "0.jsonl").read_bytes() == answers
    drawn_again = run_protocol(model, asked, small_patch(model, 3.0), files=files, settings=settings,
                               out=tmp_path / "b-shared", original=tmp_path / "original")
    assert same(drawn_again, shared)


def test_an_original_of_another_protocol_or_not_to_its_end_is_not_shared(
        model: Any, asked: Protocol, files: dict[str, Path], tmp_path: Path) -> None:
    patch, settings = small_patch(model), RunSettings(batch=2)
    draw_original(model, asked, files=files, settings=settings, out=tmp_path / "original")
    other = Protocol.build(protocol(sampler={"scheduler": "own", "steps": 4, "guidance": 2.0}))
    with pytest.raises(ConfigError, match="steps"):
        run_protocol(model, other, patch, files=files, settings=settings, out=tmp_path / "a",
                     original=tmp_path / "original")
    file = tmp_path / "original" / "answers" / "0.jsonl"
    file.write_text("\n".join(file.read_text(encoding="utf-8").splitlines()[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="not drawn to its end"):
        run_protocol(model, asked, patch, files=files, settings=settings, out=tmp_path / "b",
                     original=tmp_path / "original")

