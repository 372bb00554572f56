"""`expunge guard`: learn, apply, verify; what users get wrong, and what a platform's script goes by: exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from expunge.cli import run
from expunge.cli.guard import command
from expunge.guard import load_mask, random_mask, save_mask
from expunge.models.store import load

QUICK = ["--set", "steps=2", "--set", "passes=1", "--set", "rows=2", "--set", "batch=1", "--set",
         "users.adamw={rate: 0.01, batch: 2, drop: 0}"]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Dark and bright pictures of 16 x 16 pixels."""
    made = []
    for name, level in (("dark", 20), ("bright", 230)):
        folder = tmp_path_factory.mktemp("pictures") / name
        folder.mkdir()
        for k in range(4):
            Image.fromarray(np.full((16, 16, 3), level + 3 * k, dtype=np.uint8)).save(folder / f"{k}.png")
            (folder / f"{k}.txt").write_text(f"a {name} dog")
        made.append(str(folder))
    return made[0], made[1]


@pytest.fixture
def mask(pipeline_folder: Path, tmp_path: Path) -> Path:
    """A folder with a random mask of the pipeline."""
    save_mask(tmp_path / "guard", random_mask(load(pipeline_folder, device="cpu"), 0.5, by="count"))
    return tmp_path / "guard"


@pytest.mark.slow
def test_learn_apply_verify(folders: tuple[str, str], pipeline_folder: Path, tmp_path: Path,
                            capsys: pytest.CaptureFixture[str]) -> None:
    out, model = tmp_path / "guard", ["--model", str(pipeline_folder)]
    asked = ["guard", "learn", "--forbidden", folders[0], "--innocent", folders[1], "--ratio", "0.4", *model, *QUICK]
    assert run([*asked, "--out", str(out)]) == 0
    assert f"mask: {out / 'mask.json'}" in capsys.readouterr().out
    learned = load_mask(out)
    assert learned.share("numel") == pytest.approx(0.4, abs=0.01)
    assert learned.method == "projected"
    assert run(["guard", "apply", str(out), *model, "--positions", str(out / "mask.txt")]) == 0
    assert "users save about" in capsys.readouterr().out
    terms = json.loads((out / "terms.json").read_text())
    assert [f"unet/{name}" for name in terms["frozen"]] == list(learned.frozen)
    assert np.loadtxt(out / "mask.txt").sum() == len(learned.frozen)
    returned = load(pipeline_folder, device="cpu")
    free = dict(returned.network.named_parameters())[terms["trainable"][0]]
    free.data.add_(1)
    returned.network.save_pretrained(tmp_path / "returned", safe_serialization=True)
    assert run(["guard", "verify", str(out), str(tmp_path / "returned"), *model]) == 0
    assert "others: 1 moved" in capsys.readouterr().out


def test_a_cheat_ends_with_code_one_and_is_named(mask: Path, pipeline_folder: Path, tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    returned, frozen = load(pipeline_folder, device="cpu"), load_mask(mask).frozen[0].removeprefix("unet/")
    dict(returned.network.named_parameters())[frozen].data.mul_(1.5).add_(1)
    returned.network.save_pretrained(tmp_path / "returned", safe_serialization=True)
    arguments = ["guard", "verify", str(mask), str(tmp_path / "returned"), "--model", str(pipeline_folder)]
    assert run(arguments) == 1
    told = capsys.readouterr().out
    assert told.startswith("broken: 1 of")
    assert frozen in told
    assert run([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["moved"][0]["frozen"] is True


@pytest.mark.parametrize("preset", ["projected", "saliency", "released"])
def test_dry_run_shows_settings_and_leaves_nothing(preset: str, folders: tuple[str, str], pipeline_folder: Path,
                                                   tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    out = tmp_path / "guard"
    assert run(["guard", "learn", "--forbidden", folders[0], "--innocent", folders[1], "--preset", preset, "--model",
                str(pipeline_folder), "--out", str(out), "--dry-run", "--ratio", "0.3"]) == 0
    told = capsys.readouterr().out
    settings = yaml.safe_load(told)
    assert settings["kind"] == preset
    assert settings["ratio"] == 0.3
    assert "steps of simulated users" in told
    assert not out.exists()
    (tmp_path / "again.yaml").write_text(told)
    assert run(["guard", "learn", "--forbidden", folders[0], "--innocent", folders[1], "--preset", preset, "--model",
                str(pipeline_folder), "--config", str(tmp_path / "again.yaml"), "--dry-run"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == settings


def test_random_mask_is_the_baseline(pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["guard", "learn", "--preset", "random", "--by", "count", "--model", str(pipeline_folder), "--out",
             str(tmp_path / "guard"), "--seed"]
    assert run([*asked, "-1"]) == 2
    assert "seed -1" in capsys.readouterr().err
    for name, more in (("--forbidden", ["--forbidden", "nobody"]), ("--prior", ["--prior", "a dog"]),
                       ("steps", ["--set", "steps=9"])):
        assert run([*asked, "2", *more]) == 2
        assert f"no use for {name}" in capsys.readouterr().err
    assert run([*asked, "2"]) == 0
    assert run([*asked, "3"]) == 2, "another mask was overwritten"
    mask = load_mask(tmp_path / "guard")
    assert (mask.method, mask.seed, mask.by) == ("random", 2, "count")


def test_one_way_to_tell_a_lora_s_layers(mask: Path, pipeline_folder: Path, tmp_path: Path,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"target_modules": ["to_q"]}))
    asked = ["guard", "apply", str(mask), "--model", str(pipeline_folder), "--lora-target"]
    assert run([*asked, "to_q", "--lora-config", str(tmp_path / "adapter_config.json")]) == 2
    assert "give one of the two" in capsys.readouterr().err
    assert run([*asked, "nothing"]) == 2
    assert "no layer of the UNet fits" in capsys.readouterr().err
    assert not (mask / "terms.json").exists()


def test_added_tensors_end_with_code_one_and_are_named(mask: Path, pipeline_folder: Path, tmp_path: Path,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    returned = load(pipeline_folder, device="cpu").network
    save_file({**returned.state_dict(), "extra.weight": torch.zeros(1)}, tmp_path / "unet.safetensors")
    assert run(["guard", "verify", str(mask), str(tmp_path / "unet.safetensors"), "--model", str(pipeline_folder)]) == 1
    told = capsys.readouterr().out
    assert told.startswith("broken: tensors were added (1)\n")
    assert "unet/extra.weight: added" in told


def test_a_lora_s_configuration_on_frozen_layers_is_refused(mask: Path, pipeline_folder: Path, tmp_path: Path,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"target_modules": ["to_q", "to_k", "to_v"]}))
    assert run(["guard", "apply", str(mask), "--model", str(pipeline_folder), "--lora-config",
                str(tmp_path / "adapter_config.json")]) == 2
    assert "a LoRA on" in capsys.readouterr().err
    assert not (mask / "terms.json").exists()


@pytest.mark.parametrize(("arguments", "says"), [
    (["learn", "--innocent", "{1}"], "--forbidden"),
    (["learn", "--forbidden", "{0}", "--innocent", "{0}"], "both forbidden and innocent"),
    (["learn", "--forbidden", "{0}", "--innocent", "{0}/../dark/"], "both forbidden and innocent"),
    (["learn", "--forbidden", "nobody", "--innocent", "{1}"], "no images of 'nobody'"),
    (["learn", "--forbidden", "{0}", "--innocent", "{1}", "--ratio", "1.5"], "ratio"),
    (["learn", "--forbidden", "{0}", "--innocent", "{1}", "--preset", "projectd"], "unknown preset"),
    (["learn", "--forbidden", "{0}", "--innocent", "{1}", "--set", "userz=1"], "unknown setting 'userz'"),
    (["learn", "--forbidden", "{0}", "--innocent", "{1}", "--set", "users.kinds=[dreambooth]"], "prior"),
    (["learn", "--forbidden", "{0}", "--innocent", "{1}", "--seed", "-1"], "seed -1"),
    (["apply", "nowhere"], "no mask at nowhere"), (["verify", "nowhere", "nothing"], "no mask at nowhere"),
    (["aply", "nowhere"], "No such command"),
])
def test_mistakes_end_with_code_two_and_a_message(arguments: list[str], says: str, folders: tuple[str, str],
                                                  pipeline_folder: Path, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [text.format(*folders) for text in arguments]
    model = ["--model", str(pipeline_folder), *(["--out", str(tmp_path / "guard")] if arguments[0] == "learn" else [])]
    assert run(["guard", *arguments, *(model if arguments[0] != "aply" else [])]) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert "Traceback" not in told.err
    assert not (tmp_path / "guard").exists()


def test_a_mask_for_another_model_ends_with_code_two(mask: Path, v_pipeline_folder: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["apply", str(mask)], ["verify", str(mask), str(v_pipeline_folder)]):
        assert run(["guard", *arguments, "--model", str(v_pipeline_folder)]) == 2
        assert "a mask for" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["learn", "apply", "verify"])
def test_every_verb_ends_its_help_with_two_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["guard", verb, "--help"]) == 0
    _, _, examples = capsys.readouterr().out.partition("Examples:")
    assert examples.count(f"$ expunge guard {verb}") == 2


def test_help_says_what_it_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["guard", "--help"]) == 0
    assert "not a lock on open weights" in " ".join(capsys.readouterr().out.split())
    assert set(command.commands) == {"learn", "apply", "verify"}
