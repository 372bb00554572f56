"""What would go to the Hub: the files by kind, the card, and never what is nobody's to publish."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from bundles import small_run
from safetensors.torch import save_file

from expunge.cli import run
from expunge.errors import ExpungeError, ModelError, UserError
from expunge.hub.licences import licence_of
from expunge.hub.plan import Push, PushSettings, planned
from expunge.models.patch import Patch
from expunge.models.store import load, merge
from expunge.records import Request

ASKED: dict[str, Any] = {"repo": "someone/no-church", "license": "apache-2.0"}


def plan(edit: Path, scratch: Path, **more: Any) -> Push:
    return planned(edit, PushSettings.build({**ASKED, **more}), scratch)


def matter(made: Push) -> dict[str, Any]:
    return dict(yaml.safe_load(made.card.split("---\n")[1]))


def contents(made: Push) -> dict[str, bytes]:
    return {**made.texts, **{name: file.read_bytes() for name, file in made.files.items()}}


def test_a_patch_goes_with_its_card_results_and_licence_and_opens_again(edit: Path, tmp_path: Path,
                                                                         pipeline_folder: Path) -> None:
    (tmp_path / "licence.txt").write_text("the licence")
    made = plan(edit, tmp_path, license_file=tmp_path / "licence.txt", base_model="someone/base")
    assert [name for name, _, _ in made.listing] == ["LICENSE", "README.md", "patch.json", "patch.safetensors",
                                                     "results.json"]
    front = matter(made)
    assert (front["base_model"], front["base_model_relation"]) == ("someone/base", "adapter")
    assert (front["license"], front["pipeline_tag"]) == ("apache-2.0", "text-to-image")
    found = next(one for one in front["model-index"][0]["results"][0]["metrics"] if one["args"]["score"] == "found/all")
    assert found["args"]["low"] < found["value"] < found["args"]["high"]
    assert found["args"]["n"] == 126
    assert "not-for-all-audiences" not in front["tags"]
    assert "Prompts in other languages." in made.card
    again = Patch.load(made.files["patch.safetensors"].parent)
    assert again.hash == Patch.load(edit).hash
    again.check(model := load(pipeline_folder, device="cpu"), model.editable())
    said = json.loads(made.texts["results.json"])
    assert {"attack/worst", "shown", "found/all"} <= {one["name"] for one in said["results"]}


def test_nobody_who_asked_is_in_anything_that_goes(edit: Path, tmp_path: Path) -> None:
    assert "A. Person" in (edit / "patch.json").read_text()
    assert not [name for name, content in contents(plan(edit, tmp_path)).items() if b"A. Person" in content]


@pytest.mark.parametrize(("request_", "said"), [
    (Request(concept="nudity", prompts=("a photo of a naked duchess", "an undressed marquis"), kind="explicit"),
     ("naked duchess", "undressed marquis")),
    (Request(concept="Ada Example", prompts=("Ada Example on a red carpet",), kind="person"), ("red carpet",)),
    (Request(concept="church", prompts=("the chapel of my village",), own=True), ("my village",))])
def test_no_prompt_of_an_explicit_concept_a_person_or_a_users_own_list_goes(
        request_: Request, said: tuple[str, ...], pipeline_folder: Path, tmp_path: Path) -> None:
    made = plan(small_run(load(pipeline_folder, device="cpu"), tmp_path / "edit", request_), tmp_path)
    for name, content in contents(made).items():
        assert not [words for words in said if words.encode() in content], name
    kept = Patch.load(made.files["patch.safetensors"].parent).card
    assert kept.request.prompts == (request_.concept,)  # so that it can still be asked for
    assert ("not-for-all-audiences" in matter(made)["tags"]) == (request_.kind == "explicit")


def test_what_would_give_such_a_text_away_is_refused(pipeline_folder: Path, tmp_path: Path) -> None:
    edit = small_run(load(pipeline_folder, device="cpu"), tmp_path / "edit",
                     Request(concept="nudity", prompts=("a photo of a naked duchess",), kind="explicit"))
    lora = tmp_path / "lora.safetensors"
    save_file({"unet.a.lora_A.weight": torch.zeros(1, 2)}, lora, {"ss_tag_frequency": "a photo of a naked duchess"})
    with pytest.raises(ExpungeError, match=r"lora\.safetensors holds a text"):
        plan(edit, tmp_path, weights=lora)
    (tmp_path / "licence").write_text("by A. Person")
    with pytest.raises(ExpungeError, match="LICENSE holds a text"):
        plan(edit, tmp_path, license_file=tmp_path / "licence")


def test_a_folder_goes_to_the_root_and_its_card_without_who_asked(edit: Path, tmp_path: Path, pipeline_folder: Path
                                                                   ) -> None:
    folder = merge(pipeline_folder, Patch.load(edit), tmp_path / "merged")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "token").write_text("secret")
    assert "A. Person" in (folder / "expunge-patch.json").read_text()
    made = plan(edit, tmp_path, weights=folder)
    names = {name for name, _, _ in made.listing}
    assert {"model_index.json", "unet/diffusion_pytorch_model.safetensors", "expunge-patch.json"} <= names
    assert not any(name.startswith(".") for name in names)
    assert b"A. Person" not in b"".join(contents(made).values())
    assert (made.kind, "base_model_relation" in matter(made)) == ("folder", False)  # a base without a name on the Hub


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.bin", "model.CKPT", "vae/weights.pt", "run.py",
                                  "LICENSE", "unet/more.safetensors.pkl"])
def test_a_folder_with_a_file_that_nobody_looks_into_is_refused_by_its_name(
        edit: Path, tmp_path: Path, pipeline_folder: Path, name: str) -> None:
    folder = merge(pipeline_folder, Patch.load(edit), tmp_path / "merged")
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match=f"^{re.escape(name)} in "):
        plan(edit, tmp_path, weights=folder)


def test_what_only_pretends_to_be_safetensors_is_refused(edit: Path, tmp_path: Path, pipeline_folder: Path) -> None:
    folder = merge(pipeline_folder, Patch.load(edit), tmp_path / "merged")
    for name in ("unet/more.safetensors", "more.SAFETENSORS"):
        (folder / name).write_bytes(b"\x80\x04.")
        with pytest.raises(ModelError, match=f"{name} cannot be read"):
            plan(edit, tmp_path, weights=folder)
        (folder / name).unlink()
    (folder / "expunge-patch.json").write_text("{")
    with pytest.raises(ModelError, match=r"expunge-patch\.json cannot be read"):
        plan(edit, tmp_path, weights=folder)


@pytest.mark.parametrize(("key", "name", "kind", "relation"), [
    ("unet.a.lora_A.weight", "no-church.safetensors", "LoRA", "adapter"),
    ("lora_unet_a.lora_down.weight", "no-church.safetensors", "LoRA", "adapter"),
    ("model.diffusion_model.a.weight", "model.safetensors", "checkpoint", "finetune"),
    ("", "model-q8.gguf", "GGUF", "quantized")])
def test_the_kind_of_weights_is_told_by_their_names(key: str, name: str, kind: str, relation: str, edit: Path,
                                                    tmp_path: Path) -> None:
    if key:
        save_file({key: torch.zeros(1, 2)}, tmp_path / name)
    else:
        (tmp_path / name).write_bytes(b"GGUF")
    made = plan(edit, tmp_path, weights=tmp_path / name, base_model="someone/base")
    assert (made.kind, matter(made)["base_model_relation"]) == (kind, relation)
    assert {*made.files} == {name}
    assert name in made.card or kind == "LoRA"


@pytest.mark.parametrize(("base", "id", "name"), [
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "creativeml-openrail-m", ""),
    ("CompVis/stable-diffusion-v1-4", "creativeml-openrail-m", ""),
    ("stabilityai/stable-diffusion-2-1-base", "openrail++", ""),
    ("stabilityai/stable-diffusion-xl-base-1.0", "openrail++", ""),
    ("stabilityai/stable-diffusion-3.5-medium", "other", "stabilityai-ai-community"),
    ("black-forest-labs/FLUX.1-dev", "other", "flux-1-dev-non-commercial-license"),
    ("black-forest-labs/FLUX.1-schnell", "apache-2.0", "")])
def test_a_known_base_hands_its_licence_on(base: str, id: str, name: str) -> None:
    found = licence_of(base)
    assert (found.id, found.name, found.inherited) == (id, name, base)
    assert (id == "other") == bool(found.link)


def test_an_unknown_licence_must_be_said_and_other_needs_name_and_link() -> None:
    with pytest.raises(UserError, match="is not known"):
        licence_of("someone/model")
    with pytest.raises(UserError, match="without a name and a link"):
        licence_of("someone/model", "other", "mine")
    with pytest.raises(UserError, match="without --license"):
        licence_of("stabilityai/stable-diffusion-2", "", "mine")


@pytest.mark.parametrize(("more", "says"), [
    ({"repo": "church"}, "repository 'church'"), ({"repo": ""}, "OWNER/NAME"), ({"license": ""}, "licence of"),
    ({"weights": "nothing"}, "no file or folder"), ({"license_file": "nothing"}, "no file nothing")])
def test_what_cannot_go_is_told(more: dict[str, Any], says: str, edit: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        plan(edit, tmp_path, **more)


def test_weights_of_no_known_kind_and_the_patch_itself_are_refused(edit: Path, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"pickle")
    for weights in (tmp_path / "model.ckpt", edit / "patch.safetensors", tmp_path):
        with pytest.raises(UserError):
            plan(edit, tmp_path, weights=weights)


def test_without_an_evaluation_nothing_is_planned(edit: Path, tmp_path: Path) -> None:
    import shutil

    own = Path(shutil.copytree(edit, tmp_path / "edit"))
    shutil.rmtree(own / "evaluation")
    with pytest.raises(UserError, match="no evaluation"):
        plan(own, tmp_path)


def test_results_in_another_form_go_along(edit: Path, tmp_path: Path) -> None:
    made = planned(edit, PushSettings.build(ASKED), tmp_path, {".eval_results/p.yaml": "- value: 1\n"})
    assert made.texts[".eval_results/p.yaml"] == b"- value: 1\n"


def test_nothing_is_uploaded_without_the_word(edit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["push", str(edit), "--repo", "someone/no-church", "--license", "apache-2.0"]) == 2
    assert "nothing was uploaded" in capsys.readouterr().err
