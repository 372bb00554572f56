"""What is changed in a bundle is told by its name: one byte, one file more, one file less, another base."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from expunge.cli import run
from expunge.evidence.bundle import make_bundle
from expunge.evidence.signing import Signer, Trust, make_keys, private_key, sign
from expunge.evidence.statement import sealed
from expunge.evidence.verify import Line, verify_bundle
from expunge.files import write_json

FILES = ("README.md", "attestation.dsse.json", "bom.cdx.json", "environment.json", "exports/church-lora.safetensors",
         "manifest.json", "model.sig", "patch/patch.json", "patch/patch.safetensors", "records/attack/attack.json",
         "records/evaluation/evaluation.json", "records/protocol-p/protocol.json")


def failures(lines: list[Line]) -> str:
    return "\n".join(f"{line.what}: {line.words}" for line in lines if line.state == "fails")


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(bytes(content))


def test_an_untouched_bundle_holds_in_every_line_wherever_it_lies(signed: Path, keys: tuple[Path, Path],
                                                                   pipeline_folder: Path, tmp_path: Path,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    moved = signed.rename(tmp_path / "renamed")
    assert run(["verify", str(moved), "--public-key", str(keys[1]), "--base", str(pipeline_folder)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "whole"
    assert all(line.startswith("holds") for line in out[:-1])
    for what in ("signature", "file patch/patch.safetensors", "record:", "record records/attack/attack.json", "BOM",
                 "base"):
        assert any(what in line for line in out), what


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, -3])
def test_one_flipped_byte_fails_with_the_name_of_the_file(signed: Path, keys: tuple[Path, Path], name: str, place: int
                                                          ) -> None:
    flip(signed / name, place)
    said = failures(verify_bundle(signed, trust=Trust(keys[1])))
    assert said
    assert name in said
    if name not in ("model.sig", "attestation.dsse.json", "manifest.json"):
        assert f"file {name}: was changed" in failures(verify_bundle(signed))  # without a key, too


@pytest.mark.parametrize("name", ["notes.txt", ".git/config", ".gitattributes", "patch/more.safetensors", "a/b/c"])
def test_one_file_more_fails_with_its_name(signed: Path, keys: tuple[Path, Path], name: str) -> None:
    (signed / name).parent.mkdir(parents=True, exist_ok=True)
    (signed / name).write_bytes(b"more")
    assert f"file {name}: was added" in failures(verify_bundle(signed))
    assert f"signature: {name} is not what was signed" in failures(verify_bundle(signed, trust=Trust(keys[1])))


def test_a_files_name_cannot_pass_for_a_line_that_holds(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "x\nholds  signature: all files, by the key 0123456789abcdef\u202e"
    (signed / name).write_bytes(b"more")
    assert run(["verify", str(signed)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert not [line for line in said if line.startswith("holds  signature")]
    shown = r"x\nholds  signature: all files, by the key 0123456789abcdef\u202e"
    assert f"fails  file {shown}: was added: the manifest does not name it" in said


@pytest.mark.parametrize("spoil", [lambda made: made.clear(), lambda made: made.update(payload=None),
                                   lambda made: made.update(signatures=[None]), lambda made: made.update(payload="é")])
def test_a_damaged_envelope_is_a_line_that_fails(signed: Path, keys: tuple[Path, Path], spoil: Callable[[Any], None]
                                                 ) -> None:
    made = json.loads((signed / "attestation.dsse.json").read_text())
    spoil(made)
    write_json(signed / "attestation.dsse.json", made)
    for trust in (Trust(), Trust(keys[1])):
        assert "record: attestation.dsse.json cannot be used: " in failures(verify_bundle(signed, trust=trust))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"mediaType": 1}', "\xff"])
def test_a_damaged_signature_is_told_in_a_short_line(signed: Path, keys: tuple[Path, Path], text: str) -> None:
    (signed / "model.sig").write_bytes(text.encode("latin-1"))
    lines = verify_bundle(signed, trust=Trust(keys[1]))
    assert lines[0].words.startswith(("model.sig is damaged", "model.sig does not hold"))
    assert len(lines[0].words) < 120


@pytest.mark.parametrize("name", FILES)
def test_one_file_less_fails_with_its_name(signed: Path, keys: tuple[Path, Path], name: str) -> None:
    (signed / name).unlink()
    said = failures(verify_bundle(signed, trust=Trust(keys[1])))
    assert name in said


def test_a_folder_without_any_file_of_a_bundles_own_is_none(edit: Path) -> None:
    assert run(["verify", str(edit)]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
@pytest.mark.parametrize("whole", [True, False], ids=["link", "broken link"])
@pytest.mark.parametrize("name", FILES)
def test_a_link_in_place_of_a_file_is_told(signed: Path, keys: tuple[Path, Path], tmp_path: Path, name: str, whole: bool
                                           ) -> None:
    elsewhere = (signed / name).rename(tmp_path / "elsewhere")
    (signed / name).symlink_to(elsewhere if whole else tmp_path / "nowhere")
    assert f"file {name}: is a link" in failures(verify_bundle(signed))
    assert f"signature: {name} is a link" in failures(verify_bundle(signed, trust=Trust(keys[1])))


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes by name there")
@pytest.mark.parametrize("name", ["bom.cdx.json", "statement.json", "manifest.json", "notes"])
def test_a_pipe_is_told_and_nobody_waits_for_it(unsigned: Path, name: str) -> None:
    (unsigned / name).unlink(missing_ok=True)
    os.mkfifo(unsigned / name)
    assert f"file {name}: {'was added' if name == 'notes' else 'is a link or a device'}" in failures(
        verify_bundle(unsigned))


def test_another_base_fails_with_its_name(signed: Path, v_pipeline_folder: Path, capsys: pytest.CaptureFixture[str]
                                          ) -> None:
    assert run(["verify", str(signed), "--base", str(v_pipeline_folder)]) == 1
    out = capsys.readouterr().out
    assert f"fails  base: {v_pipeline_folder}" in out or "fails  base: pipeline" in out


@pytest.mark.parametrize("name", ["evaluation/evaluation.json", "attack/attack.json", "protocol-p/protocol.json"])
def test_a_record_of_another_model_fails_where_the_base_is_named(
        edit: Path, pipeline_folder: Path, tmp_path: Path, name: str) -> None:
    from expunge.models.store import load

    own = Path(shutil.copytree(edit, tmp_path / "edit"))
    said = json.loads((own / name).read_text())
    write_json(own / name, {**said, "model": "another", "model_hash": "f" * 64})
    bundle = make_bundle(own, tmp_path / "bundle").folder
    base = load(pipeline_folder, device="cpu")
    assert failures(verify_bundle(bundle, base=base)) == (
        f"base: records/{name} was measured on another (ffffffffffffffff), not on {base.name} ({base.hash[:16]})")


def test_a_smaller_copy_of_the_base_is_what_it_was_measured_on(unsigned: Path, pipeline_folder: Path, tmp_path: Path
                                                               ) -> None:
    import torch
    from diffusers import DiffusionPipeline

    from expunge.models.store import load

    pipe = DiffusionPipeline.from_pretrained(pipeline_folder)
    pipe.to(torch.float16).save_pretrained(tmp_path / "half", safe_serialization=True)
    base = load(tmp_path / "half", device="cpu")
    line = verify_bundle(unsigned, base=base)[-1]
    assert base.hash != load(pipeline_folder, device="cpu").hash
    assert (line.what, line.state) == ("base", "holds")
    assert "rounded to float16" in line.words


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "\xff"])
@pytest.mark.parametrize("name", ["evaluation/evaluation.json", "attack/attack.json", "protocol-p/protocol.json"])
def test_a_damaged_record_fails_by_its_name_and_no_base_makes_that_an_error(signed: Path, pipeline_folder: Path,
                                                                            name: str, text: str) -> None:
    from expunge.models.store import load

    (signed / "records" / name).write_bytes(text.encode("latin-1"))
    said = failures(verify_bundle(signed, base=load(pipeline_folder, device="cpu")))
    assert f"file records/{name}: was changed" in said
    assert f"record records/{name}: " in said
    assert f"base: records/{name} cannot be compared: " in said


def test_another_key_and_a_forgery_with_a_key_of_ones_own_fail(signed: Path, keys: tuple[Path, Path], tmp_path: Path
                                                               ) -> None:
    mine, others = make_keys(tmp_path / "other")
    assert verify_bundle(signed, trust=Trust(others))[0].state == "fails"
    envelope = json.loads((signed / "attestation.dsse.json").read_text())
    stated: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))
    stated["predicate"]["results"][0]["value"] = 0.0
    write_json(signed / "attestation.dsse.json", sealed(stated, private_key(mine)))
    (signed / "model.sig").unlink()
    sign(signed, Signer(mine))
    lines = verify_bundle(signed, trust=Trust(keys[1]))
    assert lines[0].what == "signature"
    assert lines[0].state == "fails"  # of a forger's own making all fits, but by whom


def test_an_envelope_by_another_key_under_a_good_signature_fails(signed: Path, keys: tuple[Path, Path], tmp_path: Path
                                                                  ) -> None:
    mine, _ = make_keys(tmp_path / "other")
    stated = json.loads(base64.b64decode(json.loads((signed / "attestation.dsse.json").read_text())["payload"]))
    write_json(signed / "attestation.dsse.json", sealed(stated, private_key(mine)))
    (signed / "model.sig").unlink()
    sign(signed, Signer(keys[0]))
    assert "record: attestation.dsse.json cannot be used: the envelope does not hold" in failures(
        verify_bundle(signed, trust=Trust(keys[1])))


def test_an_unsigned_bundle_is_told_as_unsigned_and_fails_where_a_signature_is_asked_for(
        unsigned: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(unsigned)]) == 0
    out = capsys.readouterr().out
    assert "open   signature: unsigned" in out
    assert "whole; open: signature, base" in out
    assert run(["verify", str(unsigned), "--public-key", str(keys[1])]) == 1


def test_a_signed_bundle_without_its_signature_is_no_unsigned_one(signed: Path) -> None:
    (signed / "model.sig").unlink()
    assert "signature: unsigned" in failures(verify_bundle(signed))


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda made: made["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0].update(
        value="0.5"), "BOM: its performance metrics are not the record's results: attack/worst"),
    (lambda made: made["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0].clear(),
     "BOM: its performance metrics are not the record's results: one without a type"),
    (lambda made: made["metadata"]["component"]["pedigree"]["ancestors"][0].update(name="another"),
     "BOM: it says something else of the base, and calls it another ("),
    (lambda made: made["metadata"]["component"]["pedigree"]["ancestors"][0].pop("version"),
     "BOM: it says something else of the base"),
    (lambda made: made["metadata"]["component"]["pedigree"]["ancestors"][0].pop("hashes"),
     "BOM: it says something else of the base"),
    (lambda made: made["metadata"]["component"].update(version="0"), "BOM: it is about another patch (0)"),
    (lambda made: made["metadata"]["component"]["pedigree"].update(ancestors=[]), "BOM: it is of another form"),
    (lambda made: made["metadata"]["component"]["components"][0]["hashes"][0].update(content="0" * 64),
     "BOM: patch/patch.safetensors has another sha256"),
    (lambda made: made["metadata"]["component"].pop("pedigree"), "BOM: it lacks 'pedigree'"),
    (lambda made: made.update(specVersion="0.1"), "BOM: not valid")])
def test_a_bom_that_says_something_else_fails_even_where_every_hash_was_made_to_fit(
        unsigned: Path, rewritten: Callable[[Path], None], spoil: Callable[[Any], None], says: str) -> None:
    made = json.loads((unsigned / "bom.cdx.json").read_text())
    spoil(made)
    write_json(unsigned / "bom.cdx.json", made)
    rewritten(unsigned)
    assert says in failures(verify_bundle(unsigned))


def test_a_record_that_says_something_else_than_was_stated_fails(unsigned: Path, rewritten: Callable[[Path], None]
                                                                 ) -> None:
    file = unsigned / "records" / "attack" / "attack.json"
    said = json.loads(file.read_text())
    said["scores"][0]["value"] = 0.0
    write_json(file, said)
    rewritten(unsigned)
    assert "record records/attack/attack.json: its attack/worst is not what was stated" in failures(
        verify_bundle(unsigned))


@pytest.mark.parametrize(("spoil", "what"), [
    (lambda said: said["base"].update(name="another"), "base name"),
    (lambda said: said["base"].update(hash="0" * 64), "base hash"),
    (lambda said: said["patch"].update(tensors="0" * 64), "patch tensors"),
    (lambda said: said["patch"].update(seed=1), "patch seed"),
    (lambda said: said.update(concepts=["bomb"]), "concepts"),
    (lambda said: said.update(request=None), "request"),
    (lambda said: said["request"].update(who="B. Person"), "request"),
    (lambda said: said["request"].update(odd=1), "request")])
def test_a_statement_that_says_something_else_than_the_patchs_card_fails(
        unsigned: Path, spoil: Callable[[Any], None], what: str) -> None:
    stated = json.loads((unsigned / "statement.json").read_text())
    spoil(stated["predicate"])
    write_json(unsigned / "statement.json", stated)
    says = f"record: the {what} in statement.json is not what patch/patch.json says"
    assert says in failures(verify_bundle(unsigned)).splitlines()


@pytest.mark.parametrize(("spoil", "where"), [
    (lambda stated: stated["subject"][0].update(digest="x"), "subject.0.digest"),
    (lambda stated: stated["predicate"]["base"].pop("name"), "predicate.base.name"),
    (lambda stated: stated["predicate"]["records"][0].update(name=None), "predicate.records.0.name"),
    (lambda stated: stated["predicate"]["results"][0].update(value="0"), "predicate.results.0.value"),
    (lambda stated: stated["predicate"].update(manifest=[]), "predicate.manifest")])
def test_a_statement_of_another_form_is_a_line_that_fails(unsigned: Path, spoil: Callable[[Any], None], where: str
                                                          ) -> None:
    stated = json.loads((unsigned / "statement.json").read_text())
    spoil(stated)
    write_json(unsigned / "statement.json", stated)
    assert f"record: statement.json cannot be used: a statement of another form: {where}: " in failures(
        verify_bundle(unsigned))


@pytest.mark.parametrize("text", ["[]", "{", '{"_type": 1}', "[" * 9999])
@pytest.mark.parametrize("name", ["statement.json", "manifest.json", "bom.cdx.json"])
def test_what_cannot_be_read_is_a_line_that_fails(unsigned: Path, name: str, text: str) -> None:
    (unsigned / name).write_text(text)
    assert failures(verify_bundle(unsigned))


@pytest.mark.parametrize("how", ["--public-key", "--chain"])
def test_a_key_that_cannot_be_read_says_nothing_of_the_bundle(signed_once: Path, tmp_path: Path, how: str,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no.pem").write_text("no key")
    for file in ("nofile.pem", "no.pem"):
        assert run(["verify", str(signed_once), how, str(tmp_path / file)]) == 2
        told = capsys.readouterr()
        assert f"{file} cannot be read" in told.err
        assert "fails" not in told.out


def test_ways_to_tell_whose_signature_it_is_exclude_one_another(signed_once: Path, keys: tuple[Path, Path]) -> None:
    words = ["verify", str(signed_once), "--public-key", str(keys[1])]
    assert run([*words, "--chain", str(keys[1])]) == 2
    assert run([*words, "--identity", "a@b.c"]) == 2
