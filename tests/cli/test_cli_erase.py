"""`expunge erase`: the job from file and flags, its dry run, its mistakes, and going on after an interrupt."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from cli_settings import QUICK

from expunge.cli import run
from expunge.cli.erase import folder_name
from expunge.cli.output import some
from expunge.models.patch import Patch


@pytest.mark.parametrize("adversary", [(), ("--set", "adversary=soft", "--set", "adversary.steps=2")])
def test_dry_run_can_be_read_back_as_a_settings_file(pipeline_folder: Path, tmp_path: Path, adversary: tuple[str, ...],
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", str(pipeline_folder)]
    words = ["--anchor", "house", "--keep", "dog", *adversary]
    assert run(["erase", "church", *model, *QUICK, *words, "--set", "objective.eta=2.5", "--dry-run"]) == 0
    first = capsys.readouterr().out
    assert "# estimate:" in first
    assert "GiB" in first
    file = tmp_path / "job.yaml"
    file.write_text(first)
    assert run(["erase", *model, "--config", str(file), "--dry-run"]) == 0
    second = capsys.readouterr().out
    assert yaml.safe_load(second) == yaml.safe_load(first)
    assert yaml.safe_load(first)["settings"]["objective"]["eta"] == 2.5
    assert (yaml.safe_load(first)["settings"]["adversary"] or {}).get("steps") == (2 if adversary else None)
    assert (yaml.safe_load(first)["anchor"], yaml.safe_load(first)["keep"]) == ("house", ["dog"])
    assert not (Path("runs") / "church").exists()


def test_a_part_within_a_part_is_named_by_its_kind_and_set_further(pipeline_folder: Path,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    sets = ["update=refresh", "update.gamma=3e-4", "update.update=masked", "update.update.share=0.2"]
    asked = ["erase", "church", "--model", str(pipeline_folder), *QUICK, "--dry-run"]
    assert run([*asked, *(f"--set={text}" for text in sets)]) == 0
    update = yaml.safe_load(capsys.readouterr().out)["settings"]["update"]
    assert (update["kind"], update["gamma"]) == ("refresh", 3e-4)
    assert (update["update"]["kind"], update["update"]["share"]) == ("masked", 0.2)


def test_dry_run_of_a_closed_form_tells_its_texts_and_can_be_read_back(pipeline_folder: Path, tmp_path: Path,
                                                                       capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["erase", "church", "--anchor", "house", "--method", "rece", "--model", str(pipeline_folder)]
    few = ["--set", "retain.things=[cat]", "--set", "solver.size=0.2"]
    assert run([*asked, *few, "--dry-run"]) == 0
    first = capsys.readouterr().out
    assert "# 4 texts through the text encoder" in first
    assert "# estimate:" in first
    (tmp_path / "job.yaml").write_text(first)
    assert run(["erase", "--model", str(pipeline_folder), "--config", str(tmp_path / "job.yaml"), "--dry-run"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(first)
    assert run([*asked, *few, "--out", str(tmp_path / "run")]) == 0
    patch = Patch.load(tmp_path / "run")
    card = patch.card
    assert (card.method, card.settings["solver"]["size"]) == ("rece", 0.2)
    assert patch.texts["keep"] == ("a photo of a cat",)


def test_flags_win_over_the_file(pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "job.toml"
    file.write_text('concept = "house"\nseed = 4\n[settings]\nsteps = 9\nbatch = 3\n')
    assert run(["erase", "church", "--model", str(pipeline_folder), "--config", str(file), "--steps", "2", "-n"]) == 0
    told = yaml.safe_load(capsys.readouterr().out)
    assert (told["concept"], told["seed"], told["settings"]["steps"], told["settings"]["batch"]) == ("church", 4, 2, 3)


def test_contradiction_is_told_before_a_model_is_opened(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["erase", "church", "--keep", "church", "--model", "./no/such/folder"]) == 2
    assert "to be kept" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "words"), [
    ("concept: church\nsettings: [1, 2]\n", ["settings: got [1, 2]"]),
    ("concept: church\nsettings: {3: 4}\n5: 6\n", ["unknown setting '3'", "unknown setting '5'"]),
])
def test_files_of_the_wrong_shape_are_mistakes_like_others(text: str, words: list[str], tmp_path: Path,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    assert run(["erase", "--config", str(file)]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message


def test_all_mistakes_of_a_file_are_shown_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("concept: church\nsede: 1\nsettings: {stpes: 3, batch: 0, objective: {eta: wide}}\n")
    assert run(["erase", "--config", str(file)]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in ("sede", "stpes", "batch", "eta"))


def test_failure_that_is_not_the_users_ends_with_code_one(pipeline_folder: Path, capsys: pytest.CaptureFixture[str]
                                                          ) -> None:
    out = "/proc/new"  # a folder in which nobody can make anything, root included
    assert run(["erase", "church", "--model", str(pipeline_folder), "--out", out, *QUICK]) == 1
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.slow
def test_interrupt_says_what_is_kept_and_the_same_command_goes_on(pipeline_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "church"
    command = [sys.executable, "-m", "expunge", "erase", "church", "--model", str(pipeline_folder), "--out", str(out),
               "--set", "source.trajectories=2", "--set", "source.grid=3", "--set", "checkpoint_every=0"]
    # A shell's background job ignores the signal, and so would what it starts.
    process = subprocess.Popen([*command, "--steps", "100000"], stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    deadline = time.monotonic() + 120
    while not (out / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()  # no more than a formality unless the signal was ignored
    assert process.returncode == 130, said
    assert re.search(r"interrupted: stopped at step \d+; run the same command again to go on", said)
    assert "Traceback" not in said
    assert sorted(file.name for file in out.iterdir()) == [".lock", "checkpoint.safetensors"]


def test_several_concepts_go_in_one_patch_each_with_its_anchor(patch_of_two: Path) -> None:
    request = Patch.load(patch_of_two).card.request
    assert [(target.concept, target.anchor) for target in request.targets] == [("church", "house"), ("dog", "")]
    assert all(target.concept in prompt for target in request.targets for prompt in target.prompts)


def test_dry_run_of_several_concepts_can_be_read_back(pipeline_folder: Path, tmp_path: Path,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", str(pipeline_folder)]
    anchors = ["--anchor", "house", "--anchor", "cat"]
    assert run(["erase", "church", "dog", *model, *QUICK, *anchors, "--dry-run"]) == 0
    first = capsys.readouterr().out
    assert "prompts ask: 12 for 'church', 12 for 'dog'" in first
    told = yaml.safe_load(first)
    assert (told["concept"], told["anchor"]) == (["church", "dog"], ["house", "cat"])
    (tmp_path / "job.yaml").write_text(first)
    assert run(["erase", *model, "--config", str(tmp_path / "job.yaml"), "--dry-run"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == told
    (tmp_path / "job.toml").write_text('concept = ["church", "dog"]\nanchor = ["house", "cat"]\n')
    assert run(["erase", "bomb", *model, *QUICK, "--config", str(tmp_path / "job.toml"), "--dry-run"]) == 2
    assert "has an anchor for church, dog, and bomb is to go" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "says"), [
    (["church", "Church"], "unlearned twice"),
    (["church", "bomb", "--anchor", "house"], "1 anchor for 2 concepts"),
    (["church", "--anchor", "house", "--anchor", "ball"], "2 anchors for 1 concept"),
    (["church", "bomb", "--anchor", "bomb", "--anchor", "ball"], "'bomb' is to be unlearned"),
    (["church", "bomb", "--anchor", "house", "--anchor", "Bomb"], "own anchor"),
    (["church", "bomb", "--keep", "a dog", "--keep", "a round bomb"], "to be kept"),
    (["church", " "], "empty concept"),
    ([], "empty concept"),
])
def test_contradictions_among_several_are_told_before_a_model_is_opened(arguments: list[str], says: str,
                                                                       capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["erase", *arguments, "--model", "./no/such/folder"]) == 2
    assert says in capsys.readouterr().err


def test_the_folder_of_several_concepts_names_them_and_never_stands_for_others() -> None:
    assert folder_name(("church tower",)) == "church-tower"
    assert folder_name(("Church tower",)) not in ("church-tower", "Church-tower")
    assert folder_name(("old church", "bomb")) != folder_name(("old", "church bomb"))
    assert folder_name(("church", "bomb")) == "church-bomb"
    many = tuple(f"concept number {number}" for number in range(9))
    assert len(folder_name(many)) == 40
    assert folder_name(many) != folder_name((*many[:8], "another"))


def test_progress_names_what_is_erased_and_shortens_a_long_list() -> None:
    assert some(("church", "bomb")) == "church, bomb"
    assert some(tuple("abcde")) == "a, b, c and 2 more"


@pytest.mark.slow
def test_a_thing_in_a_style_is_a_request_and_what_was_understood_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["erase", "pixel art church", "--method", "uce", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("concept: pixel art church\n")
    assert "# 'pixel art church' is understood as 'church' and 'pixel art' together" in out
    assert run(["erase", "church", "--only-with", "pixel art", "--keep", "church", "--method", "uce", "--dry-run"]) == 0
    assert "only_with: pixel art" in capsys.readouterr().out


def test_kind_and_own_prompts_are_flags_and_go_into_the_patch(pipeline_folder: Path, tmp_path: Path,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("the sky of Van Gogh\na field\n", encoding="utf-8")
    asked = ["erase", "Van Gogh", "--model", str(pipeline_folder), *QUICK,
             "--train-prompts", str(tmp_path / "mine.txt")]
    assert run([*asked, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "understood: 'Van Gogh' is taken for a style (--kind says otherwise)" in said
    assert "understood: 2 prompts of your own ask for 'Van Gogh' in training, no others" in said
    request = Patch.load(tmp_path / "out").card.request
    assert (request.kind, request.own, request.prompts) == ("style", True, ("the sky of Van Gogh", "a field"))
    assert run([*asked, "--kind", "person", "--dry-run"]) == 0
    assert "kind: person" in capsys.readouterr().out


def test_things_that_training_does_not_keep_are_said(pipeline_folder: Path, tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["erase", "church", "--model", str(pipeline_folder), "--method", "uce", "--out", str(tmp_path / "out")]
    assert run([*asked, "--set", "retain.things=[churches, dog, church bell]", "--set", "retain.similar=1.0"]) == 0
    assert "left out: churches (names a concept that is to go); all in the patch" in capsys.readouterr().out
    assert Patch.load(tmp_path / "out").texts["keep"] == ("a photo of a dog", "a photo of a church bell")


def test_a_keep_prompt_that_the_encoder_reads_as_the_concept_is_refused(pipeline_folder: Path,
                                                                        capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["erase", "Van Gogh", "--model", str(pipeline_folder), "--keep", "Van\u00a0Gogh", "--dry-run"]) != 0
    assert "one name to a text encoder" in capsys.readouterr().err


def test_an_edit_that_leaves_the_concept_there_says_so_in_its_first_line(pipeline_folder: Path, tmp_path: Path,
                                                                        capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["erase", "church", "--model", str(pipeline_folder), "--method", "uce", "--set", "retain.things=[cat]"]
    assert run([*asked, "--set", "solver.size=1e9", "--out", str(tmp_path / "weak")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == ("warning: church still there, as the edit itself sees it: "
                       "100% of the outputs for church are left")
    assert said[1].startswith("patch: ")
    assert run([*asked, "--set", "solver.size=1e-3", "--out", str(tmp_path / "strong")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("patch: ")
    assert said[1].startswith("looked: ")
    assert run([*asked, "--set", "solver.size=1e9", "--no-own-look", "--out", str(tmp_path / "blind")]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("patch: ")
    assert Patch.load(tmp_path / "blind").card.look == ()


@pytest.mark.slow
def test_strict_ends_in_a_code_of_its_own_where_the_concept_is_still_there(
        pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["erase", "church", "--model", str(pipeline_folder), "--method", "uce", "--set", "retain.things=[cat]",
             "--strict"]
    assert run([*asked, "--set", "solver.size=1e9", "--out", str(tmp_path / "weak")]) == 3
    assert (tmp_path / "weak" / "patch.safetensors").is_file()
    assert run([*asked, "--set", "solver.size=1e-3", "--out", str(tmp_path / "strong")]) == 0
    assert run([*asked, "--no-own-look", "--out", str(tmp_path / "blind")]) == 2
    assert not (tmp_path / "blind").exists()
    capsys.readouterr()
    for flags, code in (([], 0), (["--strict"], 3)):
        assert run(["apply", str(tmp_path / "weak"), "--model", str(pipeline_folder), *flags]) == code
        assert capsys.readouterr().out.startswith("warning: church still there")
    assert run(["apply", str(tmp_path / "strong"), "--model", str(pipeline_folder), "--strict"]) == 0
    assert capsys.readouterr().out.startswith("fits: church")


def test_strict_does_not_pass_a_patch_that_nothing_looked_at(pipeline_folder: Path, tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["erase", "church", "--model", str(pipeline_folder), "--method", "uce", "--set", "retain.things=[cat]",
                "--no-own-look", "--out", str(tmp_path / "blind")]) == 0
    for flags, code in (([], 0), (["--strict"], 3)):
        capsys.readouterr()
        assert run(["apply", str(tmp_path / "blind"), "--model", str(pipeline_folder), *flags]) == code
        said = capsys.readouterr().out
        assert ("nothing looked whether church is still there" in said) == (code == 3)
        assert (f"expunge evaluate {tmp_path / 'blind'}" in said) == (code == 3)


@pytest.mark.slow
def test_dry_run_shows_the_anchor_that_would_be_found_and_none_where_that_is_asked_for(
        capsys: pytest.CaptureFixture[str]) -> None:
    for more, anchor in (([], "house"), (["--anchor", ""], ""), (["--anchor", "castle"], "castle"),
                         (["--method", "esd"], "")):
        assert run(["erase", "church", "--method", "esd-fast", *more, "--dry-run"]) == 0
        told = capsys.readouterr().out
        assert yaml.safe_load(told)["anchor"] == anchor, more
        assert ("# house takes the place of church" in told) == (more == [])
