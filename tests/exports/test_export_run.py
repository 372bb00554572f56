"""What an export takes the place of, which settings it has a use for, and what an interruption leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exported import Case, low_rank, matrices, shaken

import expunge
from expunge.errors import ModelError, UserError
from expunge.exports.check import CheckSettings
from expunge.exports.run import record_path
from expunge.files import file_digest
from expunge.models.patch import Patch
from expunge.models.source import Source
from expunge.models.store import load
from expunge.records.export import ExportRecord


@pytest.fixture
def patch(case_of: Callable[[str], Case]) -> Patch:
    return shaken(case_of("sd").model, matrices(case_of("sd").model, "xattn.kv"))


def digests(folder: Path) -> dict[str, str]:
    return {str(file): file_digest(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def style(case: Case, root: Path) -> Path:
    """A LoRA for the case's model."""
    file = root / "style.safetensors"
    expunge.export(low_rank(case.model, [*matrices(case.model, "xattn.kv")][:2]), file, "lora-kohya", model=case.folder)
    return file


@pytest.mark.parametrize(("where", "to", "told"), [
    ("", "folder", "is the model"), ("unet", "component", "lies in the model"),
    ("unet/diffusion_pytorch_model.safetensors", "diff-comfy", "lies in the model"),
    ("new.safetensors", "lora-comfy", "lies in the model"), ("..", "folder", "is a folder around the model")])
def test_the_base_a_part_of_it_and_a_folder_around_it_stay(case_of: Callable[[str], Case], patch: Patch, where: str,
                                                           to: str, told: str) -> None:
    case = case_of("sd")
    out, before = (case.folder / where).resolve(), digests(case.folder.parent)
    with pytest.raises(UserError, match=told) as caught:
        expunge.export(patch, out, to, model=case.folder, overwrite=True)
    assert str(out) in str(caught.value)
    assert digests(case.folder.parent) == before


def test_what_an_export_is_made_from_and_measured_with_stays(case_of: Callable[[str], Case], patch: Patch,
                                                            tmp_path: Path) -> None:
    case = case_of("sd")
    lora, clip = style(case, tmp_path), tmp_path / "clip"
    clip.mkdir()
    (clip / "config.json").write_text("{}")
    of_lora, before = shaken(load(case.folder, device="cpu", lora=str(lora)), "xattn.kv"), digests(tmp_path)
    with pytest.raises(UserError, match="is the LoRA"):
        expunge.export(of_lora, lora, "lora-comfy", model=Source(str(case.folder), "", (f"{lora}:0.5",)),
                       overwrite=True)
    with pytest.raises(UserError, match="is the foreign LoRA"):
        expunge.export(patch, lora, "lora-comfy", model=case.folder, overwrite=True,
                       check=CheckSettings(with_lora=f"{lora}:0.5"))
    with pytest.raises(UserError, match="is the CLIP that judges"):
        expunge.export(patch, clip, "folder", model=case.folder, overwrite=True, check=CheckSettings(clip=str(clip)))
    with pytest.raises(UserError, match="is the folder that lends the model parts"):
        expunge.export(patch, case.folder, "folder", model=case.file, parts=case.folder, overwrite=True)
    assert digests(tmp_path) == before


def test_a_base_behind_links_stays_too(case_of: Callable[[str], Case], patch: Patch, tmp_path: Path) -> None:
    """As the Hub's cache has its files."""
    case, linked = case_of("sd"), tmp_path / "linked"
    linked.mkdir()
    for entry in case.folder.iterdir():
        (linked / entry.name).symlink_to(entry)
    with pytest.raises(UserError, match="lies in the model"):
        expunge.export(patch, case.folder / "unet", "component", model=linked, overwrite=True)


def test_a_place_that_is_taken_is_told_before_the_model_is_opened(patch: Patch, tmp_path: Path) -> None:
    """A folder that no library could open is enough to be refused for."""
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="lies in the model"):
        expunge.export(patch, tmp_path / "model" / "new", "folder", model=tmp_path / "model", overwrite=True)


@pytest.mark.parametrize("out", [".", "..", "/"])
def test_a_folder_that_has_its_place_is_none_to_be_written(patch: Patch, tmp_path: Path, out: str,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="a folder that has its place"):
        expunge.export(patch, out, "folder", overwrite=True)


@pytest.mark.parametrize(("to", "asked", "told"), [
    ("folder", {"component": "unet"}, "--component with --to folder, which writes the whole edit"),
    ("lora-kohya", {"component": "unet"}, "--component with --to lora-kohya"),
    ("checkpoint", {"rank": 4}, "--rank with --to checkpoint, which cuts nothing"),
    ("diff-comfy", {"energy": 0.999}, "--energy with --to diff-comfy, which cuts nothing"),
    ("component", {"title": "mine"}, "--title with --to component, which has no header"),
    ("text-encoder", {"write_variant": "fp16"}, "--write-variant with --to text-encoder, which is one file")])
def test_a_setting_that_a_format_has_no_use_for_is_refused_by_name(patch: Patch, tmp_path: Path, to: str,
                                                                  asked: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        expunge.export(patch, tmp_path / "x.safetensors", to, **asked)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("asked", [{"rank": 1}, {"energy": 0.999}])
def test_a_patch_that_is_a_lora_is_not_cut(case_of: Callable[[str], Case], tmp_path: Path, asked: dict[str, Any]
                                           ) -> None:
    case = case_of("sd")
    with pytest.raises(UserError, match=f"--{next(iter(asked))} with a patch that is a LoRA itself"):
        expunge.export(low_rank(case.model, [*matrices(case.model, "xattn.kv")]), tmp_path / "x.safetensors",
                       "lora-kohya", model=case.folder, **asked)


def test_a_foreign_lora_that_is_not_there_is_told_before_anything_is_written(case_of: Callable[[str], Case],
                                                                             patch: Patch, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no LoRA at"):
        expunge.export(patch, tmp_path / "x.safetensors", "lora-kohya", model=case_of("sd").folder,
                       check=CheckSettings(with_lora=str(tmp_path / "none.safetensors")))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("step", range(1, 5))
def test_an_interruption_puts_back_what_was_there_with_its_record(case_of: Callable[[str], Case], patch: Patch,
                                                                  tmp_path: Path, step: int,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file goes, its record, then the new record comes, and its file."""
    case, out = case_of("sd"), tmp_path / "x.safetensors"
    expunge.export(patch, out, "diff-comfy", model=case.folder)
    before, calls, rename = digests(tmp_path), [0], Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        calls[0] += 1
        if calls[0] == step:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        expunge.export(patch, out, "lora-comfy", model=case.folder, overwrite=True)
    assert digests(tmp_path) == before
    assert {file.name for file in tmp_path.iterdir()} == {out.name, record_path(out).name}


def test_at_no_moment_does_a_file_lie_beside_anothers_record(case_of: Callable[[str], Case], patch: Patch,
                                                             tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a kill came, it would find a file with its own record, or none: then the export can be made again."""
    case, out = case_of("sd"), tmp_path / "x.safetensors"
    expunge.export(patch, out, "diff-comfy", model=case.folder)
    seen, rename = list[tuple[bool, bool]](), Path.rename

    def watched(self: Path, target: Path) -> Path:
        moved, record = rename(self, target), record_path(out)
        seen.append((out.is_file(), record.is_file()))
        if seen[-1] == (True, True):
            named = ExportRecord.read(record.read_text(encoding="utf-8")).files
            assert named == {out.name: file_digest(out)}
        return moved

    monkeypatch.setattr(Path, "rename", watched)
    record = expunge.export(patch, out, "lora-comfy", model=case.folder, overwrite=True)
    assert seen == [(False, True), (False, False), (False, True), (True, True)]
    assert ExportRecord.read(record_path(out).read_text(encoding="utf-8")) == record


@pytest.mark.parametrize("name", ["before", "before.safetensors"])
def test_any_name_will_do(case_of: Callable[[str], Case], patch: Patch, tmp_path: Path, name: str) -> None:
    to = "diff-comfy" if name.endswith("s") else "folder"
    for _ in range(2):
        expunge.export(patch, tmp_path / name, to, model=case_of("sd").folder, overwrite=True)
    assert record_path(tmp_path / name).is_file()
