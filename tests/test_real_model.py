"""The walkthrough of docs/real-model.md, run as it stands on a tiny folder of the same kind."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from expunge.cli import run

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "real-model.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line)[1:] for line in re.findall(r"^expunge .+$", PAGE, re.MULTILINE)]
SMALL = {"evaluate": ["--steps", "2", "--seeds", "2", "--set", "draws=100", "--set", "fid_draws=20"]}
"""What keeps a verb's run on a tiny model short; everything else is the page's."""


def words(length: int, count: int) -> dict[str, Any]:
    return {"vocab_size": count, "max_position_embeddings": length, "bos_token_id": count - 2,
            "eos_token_id": count - 1, "pad_token_id": count - 1}


@pytest.fixture(scope="module")
def home(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page asks for: a model, a CLIP and prompts.yaml, each under the page's name."""
    import torch
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextModel

    home = tmp_path_factory.mktemp("walk")
    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder, safety_checker=None, requires_safety_checker=False)
    config = pipe.text_encoder.config
    config.max_position_embeddings = pipe.tokenizer.model_max_length = 77
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe.text_encoder = CLIPTextModel(config)
        clip = CLIPModel(CLIPConfig(text_config={**tower, **words(77, len(pipe.tokenizer))},
                                    vision_config={**tower, "image_size": 16, "patch_size": 8}, projection_dim=8))
    pipe.save_pretrained(home / "stable-diffusion-v1-5", safe_serialization=True)
    clip.save_pretrained(home / "clip-vit-base-patch32", safe_serialization=True)
    pipe.tokenizer.save_pretrained(home / "clip-vit-base-patch32")
    size = {"height": 16, "width": 16}
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size).save_pretrained(home / "clip-vit-base-patch32")
    (block,) = re.findall(r"^```yaml\n# prompts.yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (home / "prompts.yaml").write_text(block, encoding="utf-8")
    return home


def test_page_names_the_files_of_a_model(home: Path) -> None:
    """Those that it lists are enough: everything else of the folder is taken away."""
    (block,) = re.findall(r"^```text\nstable-diffusion-v1-5/\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    listed = set()
    for line in block.split("\n"):
        folder, _, names = line.strip().rpartition("/")
        listed |= {f"{folder}/{name}".lstrip("/") for name in names.split(", ") if name}
    model, bare = home / "stable-diffusion-v1-5", home / "bare"
    assert all((model / name).is_file() or name.startswith("tokenizer/") for name in listed), listed
    from expunge.models.store import load

    kept = listed | ({"tokenizer/tokenizer.json"} if not (model / "tokenizer" / "vocab.json").is_file() else set())
    for name in kept:
        if (model / name).is_file():
            (bare / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(model / name, bare / name)
    assert load(bare, device="cpu").hash == load(model, device="cpu").hash
    shutil.rmtree(bare)


def test_page_leads_from_the_folder_to_the_report(home: Path, monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(home)
    made = [command for command in COMMANDS if command[0] != "attack" and "--attack" not in command]
    assert [command[0] for command in made] == ["erase", "erase", "evaluate", "evaluate", "report", "report"]
    for command in made:
        assert run([*command, *SMALL.get(command[0], [])]) == 0, (command, capsys.readouterr())
    told = capsys.readouterr().out
    assert "next: expunge evaluate runs/church --model stable-diffusion-v1-5 --clip " in told
    assert "next: expunge report runs/church/evaluation" in told
    page = (home / "runs/church/evaluation/report/report.html").read_text(encoding="utf-8")
    assert "A. Person" in page
    assert "a house of God" in (home / "runs/church/evaluation/evaluation.json").read_text(encoding="utf-8")
    assert (home / "runs/church/evaluation/report-redacted/report.html").is_file()


def test_attack_of_the_page_is_planned(home: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    """A model of random weights shows no church, so there is nothing to attack; its plan is made all the same."""
    monkeypatch.chdir(home)
    (command,) = [command for command in COMMANDS if command[0] == "attack"]
    if not (home / "runs/church").is_dir():
        assert run(COMMANDS[1]) == 0
    assert run([*command, "--dry-run"]) == 0
    assert "# at most 3 items" in capsys.readouterr().out
