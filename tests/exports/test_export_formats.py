"""Every format of every family: written, read back as it was meant, recorded, and refused alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from exported import FAMILIES, REQUEST, SECRET, Case, low_rank, matrices, shaken
from safetensors import safe_open

import expunge
from expunge.cli.export import TO, command
from expunge.errors import ModelError, StorageError, UserError
from expunge.exports.check import CheckSettings
from expunge.exports.formats import FORMATS
from expunge.exports.incoming import import_edit
from expunge.exports.low_rank import ENERGY
from expunge.exports.run import record_path
from expunge.files import file_digest
from expunge.models.patch import Patch
from expunge.models.shareable import CARD, check_made_from, made_from
from expunge.models.source import Source
from expunge.models.store import load
from expunge.records.export import ExportRecord

ENCODERS = ("text-encoder", "component")


def test_every_format_has_a_row_that_says_what_to_run() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    assert [to for to in FORMATS if f"| `expunge export PATCH --to {to} " not in page] == []


def suited(case: Case, to: str) -> Patch:
    """An edit that the format can carry."""
    if to in ENCODERS:
        return shaken(case.model, case.model.parameters_in("text1" if len(case.model.text_names) > 1 else "text"))
    scope = "xattn.kv"
    return shaken(case.model, matrices(case.model, scope))


def place(to: str, root: Path) -> Path:
    return root / (f"{to}.safetensors" if FORMATS[to].kind == "file" else to)


def written(case: Case, patch: Patch, to: str, root: Path, **how: Any) -> ExportRecord:
    original = {"original": case.file} if to == "checkpoint" else {}
    return expunge.export(patch, place(to, root), to, model=case.folder, **{**original, **how})


def test_the_command_line_knows_the_formats_and_the_defaults_that_there_are() -> None:
    assert tuple(FORMATS) == TO
    told = {option.name: getattr(option, "help", "") for option in command.params}
    assert f"[default: {ENERGY:g}]" in told["energy"]
    assert f"[default: {CheckSettings().direct}]" in told["measure_prompts"]
    assert CheckSettings().direct == CheckSettings().near


READ_BY_DIFFUSERS = {
    *((name, to) for name in FAMILIES for to in ("folder", "component", "lora-diffusers")),
    ("sd", "checkpoint"), ("sdxl", "checkpoint"), ("sd3", "checkpoint"),
    ("sd", "lora-kohya"), ("sd2", "lora-kohya"), ("sdxl", "lora-kohya")}
"""What diffusers reads at these sizes; FLUX's converters know the published widths alone, kohya's names of Stable
Diffusion 3 none of them knows, and OpenCLIP's only at the published width."""


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("name", ["sd", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES[1:])])
def test_every_format_of_every_family_is_read_back_as_it_was_meant(case_of: Callable[[str], Case], tmp_path: Path,
                                                                   name: str, to: str) -> None:
    case = case_of(name)
    patch = suited(case, to)
    record = written(case, patch, to, tmp_path)
    ours = record.readers[0]
    assert ours.reader.startswith("expunge ")
    assert ours.tensors == len(patch.weights) == len(record.tensors)
    assert ours.max_abs is not None
    assert ours.max_abs < 1e-6
    assert all(one.max_abs is None or one.max_abs < 1e-6 for one in record.readers)
    if (name, to) in READ_BY_DIFFUSERS:
        assert (record.readers[1].note, record.readers[1].tensors) == ("", len(patch.weights))
    assert ExportRecord.read(record_path(place(to, tmp_path)).read_text(encoding="utf-8")) == record
    folder = tmp_path if FORMATS[to].kind == "file" else place(to, tmp_path)
    assert all(file_digest(folder / name) == digest for name, digest in record.files.items())
    assert not [file for file in tmp_path.iterdir() if file.name.endswith("part")]
    assert {file.stat().st_mode & 0o777 for file in tmp_path.rglob("*") if file.is_file()} == {0o644}
    tell_nothing(case, place(to, tmp_path))


def tell_nothing(case: Case, out: Path) -> None:
    """Neither headers nor the record hold a prompt; headers hold no name of the concept and no place, either."""
    assert SECRET not in record_path(out).read_text(encoding="utf-8")
    for file in [out] if out.is_file() else sorted(out.rglob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            header = json.dumps(dict(opened.metadata() or {}))
        assert not [word for word in (SECRET, "church", str(out.parent), str(case.folder)) if word in header]


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
def test_what_is_imported_again_is_the_edit(case_of: Callable[[str], Case], tmp_path: Path, to: str) -> None:
    case = case_of("sd2")
    patch = suited(case, to)
    whole = {"energy": 1.0} if to.startswith("lora") else {}
    record = written(case, patch, to, tmp_path, **({} if to == "checkpoint" else {"dtype": "float32"}), **whole)
    assert record.error < 1e-5
    again = import_edit(place(to, tmp_path), REQUEST, model=case.folder,
                        component="text_encoder" if to in ENCODERS else "")
    assert set(again.weights) == set(patch.weights)
    for name, value in case.model.editable().items():
        if name in patch.weights:
            torch.testing.assert_close(again.value(name, value), patch.value(name, value), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["folder", "checkpoint", "lora-kohya"])
def test_what_is_there_already_stays_unless_it_is_said(case_of: Callable[[str], Case], tmp_path: Path, to: str) -> None:
    case = case_of("sd")
    patch, out = suited(case, to), place(to, tmp_path)
    if FORMATS[to].kind == "file":
        out.write_bytes(b"mine")
    else:
        out.mkdir()
        (out / "mine").write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already"):
        written(case, patch, to, tmp_path)
    assert (out if out.is_file() else out / "mine").read_bytes() == b"mine"
    written(case, patch, to, tmp_path, overwrite=True)
    assert not (out / "mine").exists()
    assert record_path(out).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
def test_a_patch_for_another_base_is_refused_and_nothing_is_written(case_of: Callable[[str], Case], tmp_path: Path,
                                                                    to: str) -> None:
    case, other = case_of("sd"), case_of("sdxl")
    with pytest.raises(ModelError, match="a patch for"):
        written(case, suited(other, to), to, tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("to", ["folder", "component", "text-encoder"])
def test_a_number_type_that_swallows_the_whole_edit_is_refused(case_of: Callable[[str], Case], tmp_path: Path, to: str
                                                               ) -> None:
    case = case_of("sd")
    chosen = case.model.parameters_in("text") if to in ENCODERS else matrices(case.model, "xattn.kv")
    tensors = {name: torch.nextafter(p.detach().bfloat16().float(), torch.tensor(9.0)) for name, p in chosen.items()}
    near = {name: value for name, value in tensors.items() if bool((value != chosen[name]).any())}
    patch = Patch.of({name: torch.where(chosen[name].bfloat16() == value.bfloat16(), value, chosen[name])
                      for name, value in near.items()}, model=case.model, request=REQUEST, method="small", settings={},
                     seed=0)
    with pytest.raises(ModelError, match="no change of the patch is left in bfloat16"):
        written(case, patch, to, tmp_path, dtype="bfloat16")
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_the_share_of_changes_that_survive_the_cast_is_counted(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case = case_of("sd")
    patch = shaken(case.model, matrices(case.model, "xattn.kv"), 1e-4)
    record = written(case, patch, "folder", tmp_path, dtype="bfloat16")
    changed = survived = 0
    for name, value in matrices(case.model, "xattn.kv").items():
        after = patch.value(name, value)
        changed += int((after != value).sum())
        survived += int((after.bfloat16() != value.bfloat16()).sum())
    assert record.survived == survived / changed
    assert 0.0 < record.survived < 0.9
    again, whole = load(tmp_path / "folder", device="cpu"), load(case.folder, device="cpu")
    held = {name: value for name, value in again.editable().items() if name in patch.weights}
    rounded = {name: value.bfloat16().float() for name, value in whole.editable().items() if name in patch.weights}
    assert sum(int((held[name] != rounded[name]).sum()) for name in held) == survived


@pytest.mark.slow
@pytest.mark.parametrize("number", ["float16", "bfloat16"])
@pytest.mark.parametrize("to", ["folder", "checkpoint"])
def test_a_patch_that_adds_is_summed_in_float32_and_rounded_once(case_of: Callable[[str], Case], tmp_path: Path,
                                                                 to: str, number: str) -> None:
    """Not the base rounded first, and the sum again."""
    case = case_of("sd")
    patch = low_rank(case.model, [*matrices(case.model, "xattn.kv")])
    more = {} if to == "checkpoint" else {"dtype": number}
    record = written(case, patch, to, tmp_path, **more)
    assert [one.max_abs for one in record.readers] == [0.0, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize("to", [to for to in FORMATS if to != "checkpoint"])
def test_every_format_is_written_from_a_single_file_as_from_its_folder(case_of: Callable[[str], Case], tmp_path: Path,
                                                                       to: str) -> None:
    case = case_of("sd2")
    patch, out = suited(case, to), place(to, tmp_path)
    record = expunge.export(patch, out, to, model=case.file, parts=case.folder)
    other = written(case, patch, to, tmp_path / "b")
    assert record.readers[0].max_abs == other.readers[0].max_abs
    assert [entry.model_dump() for entry in record.tensors] == [entry.model_dump() for entry in other.tensors]


@pytest.mark.slow
def test_a_second_encoders_folder_is_read_as_that_encoder(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case = case_of("sdxl")
    patch = shaken(case.model, "text2")
    record = written(case, patch, "component", tmp_path, dtype="float32")
    assert [(one.tensors, one.max_abs) for one in record.readers] == [(len(patch.weights), 0.0)] * 2


def test_a_lora_for_a_base_with_loras_is_not_compared_with_the_bare_base(case_of: Callable[[str], Case], tmp_path: Path
                                                                         ) -> None:
    case, style = case_of("sd"), tmp_path / "style.safetensors"
    expunge.export(low_rank(case.model, [*matrices(case.model, "xattn.kv")]), style, "lora-kohya", model=case.folder)
    source = Source(str(case.folder), "", (str(style),))
    patch = shaken(load(source, device="cpu"), "xattn.kv")
    record = expunge.export(patch, tmp_path / "x.safetensors", "lora-kohya", model=source)
    assert record.readers[0].max_abs is not None
    assert record.readers[0].max_abs < 1e-6
    assert record.readers[1].note.startswith("did not run: the base has LoRAs")
    assert expunge.export(patch, tmp_path / "x", "folder", model=source).readers[1].max_abs == 0


def test_a_disk_that_fills_up_leaves_nothing(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    import signal

    case, before = case_of("sd"), resource.getrlimit(resource.RLIMIT_FSIZE)
    patch, ignored = suited(case, "checkpoint"), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    try:
        for to in ("checkpoint", "diff-comfy"):
            with pytest.raises(StorageError, match="cannot write"):
                written(case, patch, to, tmp_path, **({} if to == "checkpoint" else {"dtype": "float32"}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("how", "words"), [
    ({"energy": 0.0}, "energy 0"), ({"energy": 1.5}, "energy 1.5"), ({"rank": 0}, "rank 0"),
    ({"to": "gguf"}, "format 'gguf'"), ({"original": "x"}, "--original with --to"), ({"dtype": "int3"}, "int3")])
def test_settings_that_mean_nothing_are_refused(case_of: Callable[[str], Case], tmp_path: Path, how: dict[str, Any],
                                                words: str) -> None:
    case = case_of("sd")
    asked = {"to": "lora-kohya", **how}
    with pytest.raises(UserError, match=words):
        expunge.export(suited(case, "lora-kohya"), tmp_path / "x.safetensors", model=case.folder, **asked)
    assert not [*tmp_path.iterdir()]


def test_a_file_is_no_folder_and_a_folder_no_file(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case = case_of("sd")
    patch = suited(case, "folder")
    with pytest.raises(UserError, match=r"ends in \.safetensors"):
        expunge.export(patch, tmp_path / "x", "lora-kohya", model=case.folder)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="is a file"):
        expunge.export(patch, tmp_path / "file", "folder", model=case.folder)
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        expunge.export(patch, tmp_path / "x.safetensors", "lora-kohya", model=case.folder, overwrite=True)


def test_the_model_itself_is_never_written_over(case_of: Callable[[str], Case]) -> None:
    case = case_of("sd")
    before = file_digest(case.file)
    patch = suited(case, "checkpoint")
    with pytest.raises(UserError, match="is the file that is patched"):
        expunge.export(patch, case.file, "checkpoint", model=case.folder, original=case.file, overwrite=True)
    with pytest.raises(UserError, match="is the model"):
        expunge.export(patch, case.folder, "folder", model=case.folder, overwrite=True)
    assert file_digest(case.file) == before


@pytest.mark.parametrize("to", ["folder", "component"])
def test_folders_are_cut_and_named_as_asked_and_read_so(case_of: Callable[[str], Case], tmp_path: Path, to: str
                                                        ) -> None:
    case = case_of("sd")
    patch = suited(case, to)
    record = written(case, patch, to, tmp_path, dtype="float16", shard_size="50KB", write_variant="fp16")
    out = place(to, tmp_path)
    names = {file.name for file in out.rglob("*.safetensors")}
    assert names
    assert all(".fp16" in name for name in names)
    assert any("-of-0" in name for name in names)
    assert [one.max_abs for one in record.readers] == [0.0, 0.0]


@pytest.mark.parametrize(("to", "asked", "told"), [
    ("lora-kohya", {"shard_size": "5GB"}, "which is one file"), ("folder", {"energy": 0.5}, "which cuts nothing"),
    ("diff-comfy", {"rank": 2}, "which cuts nothing"), ("folder", {"shard_size": "5"}, "a shard size of '5'"),
    ("folder", {"write_variant": "../x"}, "a variant called")])
def test_sizes_and_names_that_cannot_be_are_refused(case_of: Callable[[str], Case], tmp_path: Path, to: str,
                                                    asked: dict[str, Any], told: str) -> None:
    case = case_of("sd")
    with pytest.raises(UserError, match=told):
        written(case, suited(case, to), to, tmp_path, **asked)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("to", ["lora-kohya", "diff-comfy", "folder"])
def test_what_was_made_from_another_patch_is_told_from_ones_own(case_of: Callable[[str], Case], tmp_path: Path, to: str
                                                                ) -> None:
    case = case_of("sd")
    patch = suited(case, to)
    other = Patch.of({name: value + 1 for name, value in patch.tensors.items()}, model=case.model,
                     request=patch.card.request, method="other", settings={}, seed=0, kind=patch.card.kind)
    written(case, patch, to, tmp_path)
    out = place(to, tmp_path)
    assert made_from(out) == patch.hash
    check_made_from(out, patch)
    with pytest.raises(UserError, match="was made from another patch"):
        check_made_from(out, other)
    assert made_from(tmp_path / "nothing.safetensors") == ""
    told = out / CARD if out.is_dir() else out
    told.write_bytes(told.read_bytes()[:-9])
    with pytest.raises(ModelError, match=rf"{re.escape(told.name)} cannot be read"):
        made_from(out)
