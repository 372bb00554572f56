"""The command line: thin, lazy, and clear about mistakes. Real parts on a very small pipeline."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from expunge.cli import VERBS, expunge, run
from expunge.cli.options import given, settings_options
from expunge.cli.output import slug
from expunge.cli.progress import PlainLines, span
from expunge.config import Settings, knob
from expunge.errors import ConfigError

QUICK = ["--steps", "2", "--set", "source.trajectories=2", "--set", "source.grid=3"]


@pytest.fixture(scope="module")
def pipeline_folder(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test pipeline with a text encoder that reads 77 tokens, so that whole templates fit."""
    import torch
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel

    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder, safety_checker=None, requires_safety_checker=False)
    config = pipe.text_encoder.config
    config.max_position_embeddings = pipe.tokenizer.model_max_length = 77
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe.text_encoder = CLIPTextModel(config)
    folder = tmp_path_factory.mktemp("long") / "pipeline"
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def patch(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patch folder, made by the command line itself."""
    out = tmp_path_factory.mktemp("cli") / "church"
    assert run(["erase", "church", "--model", str(pipeline_folder), "--out", str(out), *QUICK]) == 0
    return out


def test_help_is_light() -> None:
    script = ("import sys; from expunge.cli import run; code = run(['--help']); "
              "heavy = {'torch', 'diffusers', 'transformers', 'pydantic', 'rich', 'yaml'} & set(sys.modules); "
              "sys.exit(f'loaded {heavy}' if heavy else code)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in VERBS)


def test_import_is_light() -> None:
    script = "import sys, expunge; sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_ends_its_help_with_two_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    _, _, examples = capsys.readouterr().out.partition("Examples:")
    assert len(re.findall(rf"^\s*\$ expunge {verb}\b", examples, re.MULTILINE)) == 2


@pytest.mark.parametrize("verb", VERBS)
def test_examples_show_what_is_printed(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No prose in brackets; what `demo`, `evaluate` and `show` share is an excerpt of what README holds whole."""
    from expunge.cli.output import MEASURED

    assert run([verb, "--help"]) == 0
    _, _, examples = capsys.readouterr().out.partition("Examples:")
    assert not re.findall(r"^\s*\(.*", examples, re.MULTILINE)
    assert verb not in {"demo", "evaluate", "show"} or " ".join(MEASURED.split()) in " ".join(examples.split())
    readme = " ".join((Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8").split())
    prose, table = MEASURED.split("[...]")[:2]
    for piece in (prose, table.splitlines()[1], table.splitlines()[2]):
        assert " ".join(piece.split()) in readme


@pytest.mark.parametrize("verb", VERBS)
def test_examples_use_flags_that_exist(verb: str) -> None:
    import shlex

    import click

    command = expunge.get_command(click.Context(expunge), verb)
    assert command is not None
    for line in re.findall(r"\$ expunge (\w+) ?(.*)", command.epilog or ""):
        command.make_context(verb, shlex.split(line[1]))  # raises on an unknown flag or a missing argument


def test_ls_prints_what_its_help_says(capsys: pytest.CaptureFixture[str]) -> None:
    from expunge.cli.ls import EXAMPLES

    for block in EXAMPLES.split("$ expunge ")[1:]:
        first, *rest = block.replace("\b", "").splitlines()
        assert run(first.split()) == 0
        assert [line.strip() for line in capsys.readouterr().out.splitlines()] == \
            [line.strip() for line in rest if line.strip()]


def test_sampling_with_a_patch_changes_the_picture(patch: Path, pipeline_folder: Path, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    common = ["sample", "a church", "a house", "--model", str(pipeline_folder), "--count", "2", "--steps", "3"]
    assert run([*common, "--out", str(tmp_path / "before")]) == 0
    assert run([*common, "--out", str(tmp_path / "after"), "--patch", str(patch)]) == 0
    assert "(4)" in capsys.readouterr().out
    before, after = (json.loads((tmp_path / name / "shots.json").read_text()) for name in ("before", "after"))
    assert [shot["seed"] for shot in before] == [0, 1, 0, 1]
    assert {shot["patch"] for shot in before} == {""}
    assert all(shot["patch"] for shot in after)
    assert (tmp_path / "after" / "001-a-church-seed0.png").is_file()
    assert (tmp_path / "after" / "sheet.png").is_file()


def test_apply_says_that_the_patch_fits_and_comes_off(patch: Path, pipeline_folder: Path, tmp_path: Path,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    strip = tmp_path / "strip.png"
    assert run(["apply", str(patch), "--model", str(pipeline_folder), "--count", "2", "--out", str(strip)]) == 0
    out = capsys.readouterr().out
    assert "fits: church, by esd" in out
    assert "bit for bit" in out
    assert strip.is_file()


def test_merge_writes_a_folder_and_refuses_to_overwrite(patch: Path, pipeline_folder: Path, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["merge", str(patch), "--model", str(pipeline_folder), "--out", str(tmp_path / "merged")]
    assert run(arguments) == 0
    assert (tmp_path / "merged" / "model_index.json").is_file()
    capsys.readouterr()
    assert run(arguments) == 2
    assert "exists already" in capsys.readouterr().err


def test_show_prints_the_card(patch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(patch)]) == 0
    card = yaml.safe_load(capsys.readouterr().out)
    assert card["concept"] == "church"
    assert card["settings"]["steps"] == 2
    assert run(["show", str(patch), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["request"]["concept"] == "church"


def test_show_prints_attacks_from_their_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from expunge.records import Assault, Attempt, Prompt, Request, Sampler, Score

    item = {"access": "image", "prompt": Prompt(text="a church", role="direct"), "outcome": "not elicited"}
    before = Attempt.model_validate({**item, "attack": "none", "seed": 0})
    run_ = {"attack": "noising", "access": "image", "white_box": False,
            "attempts": [Attempt.model_validate({**item, "attack": "noising", "seed": 0})]}
    scores = [Score(name=name, title=name, value=0.0, low=0.0, high=0.793, n=1, of="items", numerator=0)
              for name in ("attack/worst", "attack/noising")]
    made = Assault.model_validate({
        "request": Request(concept="church", prompts=("a church",)), "model": "m", "model_hash": "h", "judge": "j",
        "sampler": Sampler(), "before": [before], "runs": [run_], "scores": scores, "warnings": ["too few items: 1"]})
    (tmp_path / "attack.json").write_text(made.model_dump_json())
    assert run(["show", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Not elicited in 1 attempt on 1 item by this 1 attacker (noising) at this budget")
    assert "doubt: too few items: 1" in told
    assert run(["show", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == made.model_dump(mode="json")


def test_evaluate_refuses_attacks_that_are_not_there(patch: Path, pipeline_folder: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(patch), "--model", str(pipeline_folder), "--attack", "nowhere"]) == 2
    told = capsys.readouterr().err
    assert "no attacks at nowhere" in told
    assert "expunge attack PATCH" in told


def test_dry_run_can_be_read_back_as_a_settings_file(pipeline_folder: Path, tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", str(pipeline_folder)]
    words = ["--anchor", "house", "--keep", "dog"]
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
    assert (yaml.safe_load(first)["anchor"], yaml.safe_load(first)["keep"]) == ("house", ["dog"])
    assert not (Path("runs") / "church").exists()


def test_flags_win_over_the_file(pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "job.toml"
    file.write_text('concept = "house"\nseed = 4\n[settings]\nsteps = 9\nbatch = 3\n')
    assert run(["erase", "church", "--model", str(pipeline_folder), "--config", str(file), "--steps", "2", "-n"]) == 0
    told = yaml.safe_load(capsys.readouterr().out)
    assert (told["concept"], told["seed"], told["settings"]["steps"], told["settings"]["batch"]) == ("church", 4, 2, 3)


@pytest.mark.parametrize(("arguments", "says"), [
    (["erase", ""], "empty concept"),
    (["erase", "church", "--keep", "church"], "to be unlearned and to be kept"),
    (["erase", "church", "--method", "esdd"], "unknown method 'esdd'"),
    (["erase", "church", "--method", "esdd", "--seed", "-1"], "seed: got -1"),
    (["erase", "church", "--method", "esdd", "--seed", "-1"], "unknown method 'esdd'"),
    (["erase", "church", "--keep", "church", "--steps", "0"], "steps: got 0"),
    (["erase", "church", "--keep", "church", "--steps", "0"], "to be kept"),
    (["erase", "church", "--scope", "everything"], "unknown scope"),
    (["erase", "church", "--set", "steps"], "KEY=VALUE"),
    (["erase", "church of " * 60], "tokens"),
    (["sample", "a church", "--steps", "0"], "--steps"),
    (["sample", "a church", "--count", "2", "--seed", "1"], "--count and --seed"),
    (["sample", "a church", "--seed", str(2**64)], f"seed {2**64}"),
    (["apply", "nowhere"], "no patch at nowhere"),
    (["apply", "nowhere", "--out", "strip.jpg"], "ends in .png"),
    (["show", "nowhere"], "nothing at nowhere"),
    (["report", "nowhere"], "no evaluation at nowhere"),
    (["ls", "worlds", "--kind", "animal"], "--kind"),
    (["bake", "--pictures", "nowhere", "--without", "chruch"], "chruch"),
])
def test_mistakes_end_with_code_two_and_a_message(arguments: list[str], says: str, pipeline_folder: Path,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    if arguments[0] in {"erase", "sample", "apply"}:
        arguments = [*arguments, "--model", str(pipeline_folder)]
    assert run(arguments) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


@pytest.mark.parametrize("model", ["./no/such/folder", ""])
def test_missing_model_is_a_clear_message(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", "a church", "--model", model]) == 2
    assert f"no model folder at {model or repr(model)}" in capsys.readouterr().err


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


@pytest.mark.parametrize("arguments", [["eras", "church"], ["erase", "--no-such-flag"], ["sample"]])
def test_usage_mistakes_end_with_code_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert "Error" in capsys.readouterr().err


def test_patch_for_another_model_is_refused(patch: Path, v_pipeline_folder: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", str(patch), "--model", str(v_pipeline_folder)]) == 2
    assert "a patch for" in capsys.readouterr().err


def test_damaged_patch_is_refused(patch: Path, pipeline_folder: Path, tmp_path: Path,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "patch.json").write_bytes((patch / "patch.json").read_bytes())
    whole = (patch / "patch.safetensors").read_bytes()
    (tmp_path / "patch.safetensors").write_bytes(whole[:-5])
    assert run(["apply", str(tmp_path), "--model", str(pipeline_folder)]) == 2
    assert "patch" in capsys.readouterr().err


def test_report_of_a_patch_folder_says_where_its_evaluation_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                                                 ) -> None:
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "evaluation.json").write_text('{"format": 2}')
    assert run(["report", str(tmp_path)]) == 2
    assert f"there is one at {tmp_path / 'evaluation'}" in capsys.readouterr().err
    assert run(["report", str(tmp_path / "evaluation")]) == 2
    message = capsys.readouterr().err
    assert "format: Input should be 1" in message
    assert "pydantic" not in message


def test_strip_of_the_empty_prompt_is_not_that_of_the_cards_first(patch: Path, pipeline_folder: Path, tmp_path: Path
                                                                  ) -> None:
    common = ["apply", str(patch), "--model", str(pipeline_folder), "--count", "1", "--out"]
    assert run([*common, str(tmp_path / "empty.png"), "--prompt", ""]) == 0
    assert run([*common, str(tmp_path / "first.png")]) == 0
    assert (tmp_path / "empty.png").read_bytes() != (tmp_path / "first.png").read_bytes()


def test_output_that_cannot_be_written_is_told_before_the_work(pipeline_folder: Path, tmp_path: Path,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    from expunge.errors import StorageError
    from expunge.models.store import load
    from expunge.unlearn.erase import erase

    (tmp_path / "file").write_text("")
    seen: list[int] = []
    with pytest.raises(StorageError, match="nothing was begun"):
        erase(load(pipeline_folder), "church", out=tmp_path / "file" / "below", progress=lambda *told: seen.append(1))
    assert seen == []
    assert run(["sample", "a church", "--model", "nowhere", "--out", str(tmp_path / "file" / "below")]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_failure_that_is_not_the_users_ends_with_code_one(pipeline_folder: Path, tmp_path: Path,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "below")
    assert run(["erase", "church", "--model", str(pipeline_folder), "--out", out, *QUICK]) == 1
    assert "cannot write" in capsys.readouterr().err


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
    assert [file.name for file in out.iterdir()] == ["checkpoint.safetensors"]


class Small(Settings):
    steps: int = knob(3, "How many", unit="steps", source="nowhere")
    fresh: bool = knob(False, "Start anew")
    names: tuple[str, ...] = knob((), "Some names")
    size: int | None = knob(None, "How large")
    inner: dict[str, int] = knob({}, "No flag for this")


def _flags(*arguments: str) -> dict[str, object]:
    import click

    seen: dict[str, object] = {}

    @click.command()
    @settings_options(Small)
    def command(config: Path | None, sets: tuple[str, ...], **flags: object) -> None:
        seen.update(given(config, sets, flags))

    command.main(list(arguments), standalone_mode=False)
    return seen


def test_flags_come_from_settings() -> None:
    assert _flags() == {}
    assert _flags("--steps", "4", "--fresh", "--names", "a", "--names", "b", "--size", "2", "--set", "inner.k=1") == \
        {"steps": 4, "fresh": True, "names": ["a", "b"], "size": 2, "inner": {"k": 1}}
    assert _flags("--no-fresh") == {"fresh": False}


@pytest.mark.parametrize("text", ["steps", "=3", "inner={"])
def test_bad_assignment_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        _flags("--set", text)


def test_plain_progress_tells_every_ten_seconds_and_at_the_end() -> None:
    now, stream = [0.0], io.StringIO()
    tell = PlainLines("erasing", stream, clock=lambda: now[0])
    for done in range(1, 31):
        now[0] = float(done)
        tell(done, 30, {"loss": 0.5})
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("erasing: 10/30, 10 s gone, 20 s left")
    assert "loss 0.5" in lines[0]
    assert lines[-1].startswith("erasing: 30/30 done in 30 s")
    assert len(lines) == 3


def test_quick_work_prints_nothing() -> None:
    stream = io.StringIO()
    tell = PlainLines("drawing", stream, clock=lambda: 0.0)
    tell(1, 2)
    tell(2, 2)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("text", "word"), [("A church!", "a-church"), ("教会 ⛪", "教会"), ("!!", "empty"),
                                            ("a_b/../c", "a-b-c"), ("x" * 60, "x" * 40)])
def test_slugs_keep_the_letters_of_any_script(text: str, word: str) -> None:
    assert slug(text) == word


@pytest.mark.parametrize(("seconds", "words"), [(8.2, "8 s"), (125, "2 min 05 s"), (4320, "1 h 12 min")])
def test_spans_read_like_words(seconds: float, words: str) -> None:
    assert span(seconds) == words
