"""What headers say: text alone, hashes that are those of the tensors, keys that other tools look up."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from exported import FAMILIES, Case, low_rank, matrices, shaken
from safetensors import safe_open
from safetensors.torch import load_file

import expunge
from expunge.exports.base import open_base
from expunge.exports.formats import FORMATS
from expunge.exports.headers import architecture, of_kohya
from expunge.exports.tensor_file import read_header, write_whole
from expunge.models.source import Source
from expunge.models.store import located

FILES = [to for to, form in FORMATS.items() if form.kind == "file"]


def written(case: Case, to: str, root: Path) -> tuple[Path, dict[str, str]]:
    patch = shaken(case.model, "text1" if to == "text-encoder" else matrices(case.model, "xattn.kv"))
    out = root / "mine.safetensors"
    expunge.export(patch, out, to, model=case.folder, **({"original": case.file} if to == "checkpoint" else {}))
    with safe_open(out, "pt") as opened:
        return out, dict(opened.metadata())


def data(path: Path) -> bytes:
    """All that comes after the header."""
    with path.open("rb") as file:
        _, begin = read_header(file)
        file.seek(begin)
        return file.read()


@pytest.mark.parametrize("to", FILES)
def test_modelspec_has_what_it_must_and_its_hash_is_the_tensors(case_of: Callable[[str], Case], tmp_path: Path, to: str
                                                                ) -> None:
    out, about = written(case_of("sdxl"), to, tmp_path)
    assert all(isinstance(value, str) for value in about.values())
    must = {"sai_model_spec", "architecture", "implementation", "title", "resolution", "date", "hash_sha256"}
    assert {f"modelspec.{name}" for name in must} <= about.keys()
    assert about["modelspec.sai_model_spec"] == "1.0.1"
    assert about["modelspec.hash_sha256"] == f"0x{hashlib.sha256(data(out)).hexdigest()}"
    assert about["modelspec.prediction_type"] == "epsilon"
    assert about["modelspec.title"] == "mine"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", about["modelspec.date"])
    kind = about["modelspec.architecture"].partition("/")
    assert kind[0] == "stable-diffusion-xl-v1-base"
    assert kind[2] == {"checkpoint": "", "text-encoder": "text-encoder"}.get(to, "lora")


@pytest.mark.parametrize("to", ["lora-kohya", "lora-comfy", "diff-kohya"])
def test_kohyas_hashes_are_what_its_tools_compute(case_of: Callable[[str], Case], tmp_path: Path, to: str) -> None:
    """Of a file that keeps kohya's own entries alone: all of its tensors, and 64 KiB at 1 MiB."""
    out, about = written(case_of("sdxl"), to, tmp_path)
    check_kohyas_hashes(out, about)
    assert about["ss_network_module"] == "networks.lora"
    assert about["ss_base_model_version"] == "sdxl_base_v1-0"
    assert about["ss_v2"] == "False"
    assert about["ss_output_name"] == "mine"
    if to.startswith("lora"):
        ranks = [len(value) for key, value in load_file(out).items() if "lora_down" in key]
        assert int(about["ss_network_dim"]) == int(about["ss_network_alpha"]) == max(ranks)


@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_the_headers_alpha_is_the_tensors_own(case_of: Callable[[str], Case], tmp_path: Path, scale: float) -> None:
    case, out = case_of("sdxl"), tmp_path / "x.safetensors"
    expunge.export(low_rank(case.model, [*matrices(case.model, "xattn.kv")], scale=scale), out, "lora-kohya",
                   model=case.folder)
    with safe_open(out, "pt") as opened:
        about = opened.metadata()
    alphas = {float(value) for key, value in load_file(out).items() if key.endswith(".alpha")}
    assert len(alphas) == 1
    assert {float(torch.tensor(float(about["ss_network_alpha"])))} == alphas
    assert alphas == {float(torch.tensor(scale * 2))}
    assert about["ss_network_dim"] == "2"


def test_a_difference_has_neither_rank_nor_alpha(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    _, about = written(case_of("sdxl"), "diff-kohya", tmp_path)
    assert not {"ss_network_dim", "ss_network_alpha"} & about.keys()


def test_a_base_is_named_by_its_id_on_the_hub_and_else_not_at_all(case_of: Callable[[str], Case], tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    _, about = written(case_of("sd"), "lora-kohya", tmp_path)
    assert "ss_sd_model_name" not in about
    local = Source(str(case_of("sd").folder))
    base = open_base(local, located(local))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    named = {"owner/name": "owner/name", "models/mine": None, "./models/mine": None, "embedded": None, "emoji-xl": None}
    for model, wanted in named.items():
        assert of_kohya(replace(base, source=Source(model)), {}, tmp_path).get("ss_sd_model_name") == wanted
    merged = replace(base, source=Source("owner/name", "", ("style.safetensors",)))
    assert "ss_sd_model_name" not in of_kohya(merged, {}, tmp_path)


def check_kohyas_hashes(out: Path, about: dict[str, str]) -> None:
    own = {name: value for name, value in about.items() if name.startswith("ss_")}
    again = safetensors.torch.save(load_file(out), own)
    length = int.from_bytes(again[:8], "little")
    assert about["sshs_model_hash"] == hashlib.sha256(again[8 + length:]).hexdigest()
    assert about["sshs_legacy_hash"] == hashlib.sha256(again[0x100000:0x110000]).hexdigest()[:8]


def test_the_legacy_hash_of_a_file_of_more_than_a_mebibyte(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    tensors = {f"t{number}": torch.randn(300, 300, generator=draw) for number in range(4)}
    write_whole(tmp_path / "large.safetensors", tensors, {"ss_note": "ä", "modelspec.title": "x"}, kohya=True)
    with safe_open(tmp_path / "large.safetensors", "pt") as opened:
        about = dict(opened.metadata())
        assert all(torch.equal(opened.get_tensor(name), value) for name, value in tensors.items())
    assert about["sshs_legacy_hash"] != hashlib.sha256(b"").hexdigest()[:8]
    check_kohyas_hashes(tmp_path / "large.safetensors", about)


@pytest.mark.parametrize(("name", "wanted"), [*zip(FAMILIES, (
    "stable-diffusion-v1", "stable-diffusion-v1", "stable-diffusion-xl-v1-base", "stable-diffusion-3-medium",
    "flux-1-dev"), strict=True)])
def test_architectures_are_called_as_modelspec_calls_them(case_of: Callable[[str], Case], name: str, wanted: str
                                                          ) -> None:
    """The second family here has OpenCLIP's file layout, and the first one's widths, by which it is told."""
    source = Source(str(case_of(name).folder))
    assert architecture(open_base(source, located(source))) == wanted
