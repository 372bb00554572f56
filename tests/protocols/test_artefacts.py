"""Files by role and hash: missing ones are told with all that is known of them, others than these are deviations."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from expunge.detectors.base import path_digest
from expunge.errors import UserError
from expunge.protocols.artefacts import git_blob, parse_files, resolve, text_hash
from expunge.protocols.plan import planned
from expunge.protocols.schema import Artefact, read_protocol, shipped
from expunge.protocols.settings import RunSettings
from expunge.registry import DETECTORS

BYTES = b"prompt\na church\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "list.csv"
    path.write_bytes(BYTES)
    return path


def artefact(**values: str) -> Artefact:
    return Artefact(role="prompts", what="the list", **values)


def test_the_hash_of_texts_forgives_white_space_and_unicode_forms_alone() -> None:
    assert text_hash(["a  church", "cafe\u0301"]) == text_hash([" a church ", "caf\u00e9"])
    assert text_hash(["a church"]) != text_hash(["A church"])
    assert text_hash(["a", "b"]) == hashlib.sha256(b"a\nb").hexdigest()[:16]


def test_git_blob_is_gits_own(file: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("no git")
    assert git_blob(file) == subprocess.check_output(["git", "hash-object", str(file)], text=True).strip()


@pytest.mark.parametrize("known", ["sha256", "git_blob", "text_sha256"])
def test_a_file_is_known_by_any_of_its_hashes(known: str, file: Path) -> None:
    value = {"sha256": hashlib.sha256(BYTES).hexdigest(), "git_blob": git_blob(file),
             "text_sha256": text_hash(["a church"])}[known]
    found = resolve([artefact(**{known: value})], {"prompts": file}, texts={"prompts": ["a church"]})["prompts"]
    assert found.matched == known
    assert not found.deviation


def test_all_missing_files_are_told_with_hash_place_and_licence() -> None:
    wanted = [artefact(sha256="a" * 64, published="https://example.org", licence="MIT"),
              Artefact(role="weights", what="the network")]
    with pytest.raises(UserError) as told:
        resolve(wanted, {})
    assert all(part in str(told.value) for part in ("'prompts'", "a" * 64, "https://example.org", "MIT", "'weights'",
                                                    "no hash of it is known", "--file weights=PATH"))


def test_another_file_is_refused_and_with_leave_a_deviation(file: Path) -> None:
    wanted = [artefact(sha256="b" * 64)]
    with pytest.raises(UserError, match="--allow-deviation"):
        resolve(wanted, {"prompts": file})
    found = resolve(wanted, {"prompts": file}, allow_deviation=True)["prompts"]
    assert hashlib.sha256(BYTES).hexdigest() in found.deviation


def test_a_file_without_a_known_hash_is_taken_and_hashed(file: Path) -> None:
    found = resolve([artefact()], {"prompts": file})["prompts"]
    assert found.sha256 == hashlib.sha256(BYTES).hexdigest()
    assert (found.matched, found.deviation) == ("", "")


def test_an_unknown_role_and_a_file_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no role 'promts'"):
        resolve([artefact()], {"promts": tmp_path})
    with pytest.raises(UserError, match="no such file"):
        resolve([artefact()], {"prompts": tmp_path / "none.csv"})


@pytest.mark.parametrize("words", [["prompts"], ["=x"], ["prompts="], ["prompts=a", "prompts=b"]])
def test_words_of_another_form_are_refused(words: list[str]) -> None:
    with pytest.raises(UserError):
        parse_files(words)


def test_a_path_may_hold_an_equals_sign() -> None:
    assert parse_files(["prompts=a=b.csv"]) == {"prompts": Path("a=b.csv")}


def test_a_folder_is_known_by_the_files_that_decide_what_its_network_says(tmp_path: Path) -> None:
    folder = tmp_path / "network"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_bytes(b"{}")
    before = resolve([artefact()], {"prompts": folder})["prompts"].sha256
    (folder / "README.md").write_text("about it")
    (folder / "pytorch_model.bin").write_bytes(b"the same weights")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "download.json").write_text("{}")
    assert resolve([artefact()], {"prompts": folder})["prompts"].sha256 == before == path_digest(folder)
    assert resolve([artefact(sha256=before)], {"prompts": folder})["prompts"].matched == "sha256"
    (folder / "config.json").write_bytes(b"[]")
    assert path_digest(folder) != before


def test_folders_in_which_nothing_decides_are_told_apart_by_all_their_files(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "network.onnx").write_text(name)
    assert path_digest(tmp_path / "a") != path_digest(tmp_path / "b")


def test_weights_that_a_package_brings_are_known_by_their_hash_too(tmp_path: Path) -> None:
    pytest.importorskip("nudenet")
    asked = read_protocol("ringabell-79")
    prompts = tmp_path / "list.csv"
    prompts.write_text("sensitive prompt\na church\n")
    plan = planned(asked, {"prompts": prompts}, RunSettings(allow_deviation=True), None)
    own = plan.files["nudenet-320n"]
    assert (own.path.name, own.matched, own.deviation) == ("320n.onnx", "sha256", "")
    other = tmp_path / "other.onnx"
    other.write_bytes(b"another release")
    plan = planned(asked, {"prompts": prompts, "nudenet-320n": other}, RunSettings(allow_deviation=True), None)
    assert any("nudenet-320n" in line for line in plan.deviations)


@pytest.mark.parametrize("name", ["i2p-parts", "i2p-sexual", "mma-1000", "p4d-272", "ringabell-79"])
def test_a_package_that_is_not_installed_is_told_with_all_that_is_missing(name: str, monkeypatch: pytest.MonkeyPatch
                                                                          ) -> None:
    monkeypatch.setattr("expunge.detectors.onnx.find_spec", lambda package: None)
    with pytest.raises(UserError, match=r"role 'prompts'.*role 'nudenet-320n'.*c15d8273.*the extra|nudenet 3\.4\.2"):
        planned(read_protocol(name), {}, RunSettings(), None)


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_file_of_a_shipped_detector_is_named_in_its_protocol(name: str) -> None:
    for watch in read_protocol(name).detectors:
        needs = DETECTORS.get(watch.detector).needs
        wanted = {need.role for need in needs if not need.optional or watch.detector in ("nudenet", "open-nsfw")}
        assert wanted <= watch.artefacts.keys()
        assert all(one.pinned for one in watch.artefacts.values() if one.packaged)
