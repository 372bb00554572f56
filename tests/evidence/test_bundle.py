"""What is in a bundle, and that others' tools take it."""

from __future__ import annotations

import base64
import datetime
import json
import os
import stat
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from bundles import small_run

from expunge import extras
from expunge.cli import run
from expunge.errors import ModelError, UserError
from expunge.evidence import signing
from expunge.evidence.bom import mistakes
from expunge.evidence.bundle import make_bundle, walked
from expunge.evidence.environment import packages
from expunge.evidence.signing import Signer, Trust, make_keys
from expunge.evidence.verify import verify_bundle
from expunge.files import file_digest
from expunge.locks import LOCK
from expunge.records import EVALUATIONS, Request


def stated(folder: Path) -> dict[str, Any]:
    envelope = json.loads((folder / "attestation.dsse.json").read_text())
    return dict(json.loads(base64.b64decode(envelope["payload"])))


def test_a_bundle_holds_patch_export_records_environment_and_no_training_texts(signed_once: Path) -> None:
    assert {*walked(signed_once)} == {
        "README.md", "attestation.dsse.json", "bom.cdx.json", "environment.json", "exports/church-lora.safetensors",
        "manifest.json", "model.sig", "patch/patch.json", "patch/patch.safetensors", "records/attack/attack.json",
        "records/evaluation/evaluation.json", "records/protocol-p/protocol.json"}
    told = json.loads((signed_once / "environment.json").read_text())
    assert told["packages"]["torch"] == metadata.version("torch")
    assert "expunge" in packages("expunge")


def test_the_statement_is_in_toto_and_names_every_weight_file_record_protocol_and_result(signed_once: Path) -> None:
    from google.protobuf import json_format
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    said = stated(signed_once)
    Statement.copy_from_pb(json_format.ParseDict(said, statement_pb2.Statement())).validate()
    assert said["subject"] == [{"name": name, "digest": {"sha256": file_digest(signed_once / name)}} for name in (
        "exports/church-lora.safetensors", "patch/patch.safetensors")]
    predicate = said["predicate"]
    assert [one["sha256"] for one in predicate["records"]] == [
        file_digest(signed_once / one["name"]) for one in predicate["records"]]
    assert predicate["protocols"] == [{"name": "p", "version": 1, "hash": "0123456789abcdef"}]
    assert predicate["request"]["who"] == "A. Person"
    worst = next(one for one in predicate["results"] if one["name"] == "attack/worst")
    assert (worst["n"], worst["value"]) == (96, 1 / 96)
    assert worst["low"] < worst["value"] < worst["high"]


def test_the_envelope_is_signed_over_its_pre_authentication_encoding(signed_once: Path, keys: tuple[Path, Path]
                                                                     ) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    envelope = json.loads((signed_once / "attestation.dsse.json").read_text())
    kind, body = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    pae = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(body)).encode(), body])
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    signing.public_key(keys[1]).verify(signature, pae, ec.ECDSA(hashes.SHA256()))  # else it raises


def test_the_bom_is_valid_and_holds_scores_with_intervals_and_descent(signed_once: Path, pipeline_folder: Path) -> None:
    from expunge.models.store import load

    text = (signed_once / "bom.cdx.json").read_text()
    assert mistakes(text) == ""
    model = json.loads(text)["metadata"]["component"]
    (base,) = model["pedigree"]["ancestors"]
    assert base["hashes"][0]["content"] == load(pipeline_folder, device="cpu").hash
    metrics = {one["type"]: one for one in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
    found = EVALUATIONS.read(signed_once / "records" / "evaluation").score("found/all")
    assert float(metrics["found/all"]["value"]) == found.value
    ends = metrics["found/all"]["confidenceInterval"]
    assert (float(ends["lowerBound"]), float(ends["upperBound"])) == (found.low, found.high)
    assert "n 126" in metrics["found/all"]["slice"]
    assert not any(name.startswith("original/") for name in metrics)
    assert "Prompts in other languages." in model["modelCard"]["considerations"]["technicalLimitations"]
    assert "machine-learning-modle" in mistakes(text.replace("machine-learning-model", "machine-learning-modle"))
    assert "no JSON" in mistakes("{")


def test_model_signings_own_command_verifies_the_folder(signed_once: Path, keys: tuple[Path, Path]) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "model_signing", "verify", "key", str(signed_once), "--signature",
         str(signed_once / "model.sig"), "--public_key", str(keys[1])], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def test_a_signature_made_by_model_signings_own_command_is_verified(unsigned: Path, keys: tuple[Path, Path]) -> None:
    """As one by an identity is made, which needs a network."""
    subprocess.run([sys.executable, "-m", "model_signing", "sign", "key", str(unsigned), "--signature",
                    str(unsigned / "model.sig"), "--ignore-paths", str(unsigned / "model.sig"), "--private_key",
                    str(keys[0])], check=True, capture_output=True)
    lines = verify_bundle(unsigned, trust=Trust(keys[1]))
    assert not [line for line in lines if line.state == "fails"]
    assert "which the signature covers" in next(line.words for line in lines if line.what == "record")


def test_a_certificate_of_a_trusted_authority_signs_and_another_authority_does_not_hold(edit: Path, tmp_path: Path
                                                                                         ) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def certificate(name: str, key: Any, issuer: str, by: Any, authority: bool) -> Path:
        called = lambda text: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
        now = datetime.datetime.now(datetime.timezone.utc)
        usage = x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False)
        made = (x509.CertificateBuilder().subject_name(called(name)).issuer_name(called(issuer))
                .public_key(key.public_key()).serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=9))
                .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
                .add_extension(usage, critical=True))
        if not authority:
            made = made.add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        file = tmp_path / f"{name}.pem"
        file.write_bytes(made.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return file

    private, _ = make_keys(tmp_path / "own")
    root, own = ec.generate_private_key(ec.SECP256R1()), signing.private_key(private)
    authority = certificate("root", root, "root", root, True)
    signer = Signer(private, certificate("publisher", own, "root", root, False))
    folder = make_bundle(edit, tmp_path / "bundle", signer=signer).folder
    lines = verify_bundle(folder, trust=Trust(chain=(authority,)))
    assert not [line for line in lines if line.state == "fails"]
    assert "certified" in lines[0].words
    assert "signed by the key" in next(line.words for line in lines if line.what == "record")
    other = certificate("other", root, "other", root, True)
    assert verify_bundle(folder, trust=Trust(chain=(other,)))[0].state == "fails"


def test_keys_are_private_to_their_owner_never_overwritten_and_may_have_a_password(
        edit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from cryptography.hazmat.primitives import serialization

    assert run(["keys", "--out", str(tmp_path)]) == 0
    private, public = tmp_path / "expunge.key", tmp_path / "expunge.pub"
    if sys.platform != "win32":
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = public.read_bytes()
    assert run(["keys", "--out", str(tmp_path)]) == 2
    assert public.read_bytes() == before
    locked = tmp_path / "locked.key"
    secret = serialization.BestAvailableEncryption(b"secret")
    locked.write_bytes(signing.private_key(private).private_bytes(serialization.Encoding.PEM,
                                                                  serialization.PrivateFormat.PKCS8, secret))
    with pytest.raises(UserError, match="EXPUNGE_KEY_PASSWORD"):
        make_bundle(edit, tmp_path / "bundle", signer=Signer(locked))
    monkeypatch.setenv("EXPUNGE_KEY_PASSWORD", "secret")
    folder = make_bundle(edit, tmp_path / "bundle", signer=Signer(locked)).folder
    assert verify_bundle(folder, trust=Trust(public))[0].state == "holds"


def begun_elsewhere(folder: Path, first: str) -> subprocess.Popen[str]:
    """`make_keys` in a process of its own, after the statements `first`."""
    code = (f"import os, sys\nfrom pathlib import Path\nfrom expunge.evidence.signing import make_keys\n{first}\n"
            "make_keys(Path(sys.argv[1]))")
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], text=True, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def made_elsewhere(folder: Path, first: str) -> tuple[int, str]:
    """The same at its end: its code, and what it said of errors."""
    with begun_elsewhere(folder, first) as process:
        _, said = process.communicate(timeout=60)
    return process.returncode, said


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir() if one.name != LOCK)


def fit(private: Path, public: Path) -> bool:
    """Whether two files are one pair of keys."""
    return signing.fingerprint(signing.public_key(public)) == signing.fingerprint(
        signing.private_key(private).public_key())


def test_keys_whose_making_was_killed_are_made_by_the_next_call(tmp_path: Path) -> None:
    code, said = made_elsewhere(tmp_path, "sys.addaudithook(lambda event, told: os._exit(9) if event == 'open' and "
                                          "str(told[0]).endswith('expunge.key') else None)")
    assert code == 9, said
    assert names(tmp_path) == ["expunge.pub"]
    assert fit(*make_keys(tmp_path))


def test_of_two_that_make_keys_at_once_the_second_is_told_and_one_pair_is_left(tmp_path: Path) -> None:
    waits = ("sys.addaudithook(lambda event, told: (print('ready', flush=True), sys.stdin.readline()) if "
             "event == 'os.rename' and str(told[1]).endswith('expunge.pub') else None)")
    with begun_elsewhere(tmp_path, waits) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "ready\n"
        with pytest.raises(UserError, match=r"another run is writing into .*; nothing was begun"):
            make_keys(tmp_path)
        _, said = first.communicate("\n", timeout=60)
    assert first.returncode == 0, said
    assert names(tmp_path) == ["expunge.key", "expunge.pub"]
    assert fit(tmp_path / "expunge.key", tmp_path / "expunge.pub")
    with pytest.raises(UserError, match="exists already"):
        make_keys(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files there")
def test_a_key_that_cannot_be_written_whole_leaves_no_piece(tmp_path: Path) -> None:
    _, said = made_elsewhere(tmp_path, "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))")
    assert "StorageError: cannot write into" in said
    assert names(tmp_path) == ["expunge.pub"]  # it fits


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_private_key_behind_a_broken_link_is_not_written_over_either(tmp_path: Path) -> None:
    (tmp_path / "expunge.key").symlink_to(tmp_path / "safe" / "expunge.key")
    (tmp_path / "expunge.pub").write_text("its public key")
    with pytest.raises(UserError, match="exists already"):
        make_keys(tmp_path)
    assert (tmp_path / "expunge.pub").read_text() == "its public key"


def test_a_bundle_goes_into_folders_that_are_not_there_yet(unsigned_once: Path, edit: Path, tmp_path: Path) -> None:
    made = make_bundle(edit, tmp_path / "a" / "b" / "bundle")
    assert {*walked(made.folder)} == {*walked(unsigned_once)}
    assert [one.name for one in (tmp_path / "a" / "b").iterdir()] == ["bundle"]


@pytest.mark.parametrize("redact", [False, True])
def test_exports_that_are_damaged_are_refused_by_name(edit: Path, tmp_path: Path, redact: bool) -> None:
    (tmp_path / "church-lora.safetensors").write_bytes((edit / "patch.safetensors").read_bytes()[:-1])
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "expunge-patch.json").write_text("{")
    for name, says in (("church-lora.safetensors", r"church-lora\.safetensors cannot be read"),
                       ("merged", r"expunge-patch\.json cannot be read")):
        with pytest.raises(ModelError, match=says):
            make_bundle(edit, tmp_path / "bundle", exports=[tmp_path / name], redact=redact)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda edit: (edit / "protocol-p" / "protocol.json").write_text(
        (edit / "protocol-p" / "protocol.json").read_text().replace('"patch_hash":"', '"patch_hash":"f')),
     "is about another patch"),
    (lambda edit: [(edit / where).unlink() for where in ("evaluation/evaluation.json", "attack/attack.json",
                                                         "protocol-p/protocol.json")], "no record"),
    (lambda edit: (edit / "patch.safetensors").unlink(), "no patch")])
def test_what_does_not_belong_together_is_refused_and_nothing_is_left(spoil: Any, says: str, edit: Path, tmp_path: Path
                                                                       ) -> None:
    import shutil

    own = Path(shutil.copytree(edit, tmp_path / "edit"))
    spoil(own)
    with pytest.raises(UserError, match=says):
        make_bundle(own, tmp_path / "bundle")
    assert [one.name for one in tmp_path.iterdir()] == ["edit"]


def test_wrong_keys_and_folders_in_use_are_told_before_anything_is_written(edit: Path, tmp_path: Path,
                                                                           keys: tuple[Path, Path]) -> None:
    out = ["bundle", str(edit), "--out", str(tmp_path / "bundle")]
    assert run([*out, "--key", str(keys[1])]) == 2
    assert run([*out, "--key", str(tmp_path / "none")]) == 2
    assert run([*out, "--certificate", str(keys[1])]) == 2
    assert run([*out, "--exports", str(tmp_path / "none")]) == 2
    assert not [*tmp_path.iterdir()]
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine.txt").write_text("mine")
    assert run(out) == 2
    assert [one.name for one in tmp_path.rglob("*")] == ["bundle", "mine.txt"]


def test_a_redacted_bundle_has_no_prompt_of_an_explicit_concept_and_nobodys_name(pipeline_folder: Path, tmp_path: Path
                                                                                  ) -> None:
    from expunge.models.store import load

    said = ("a photo of a naked duchess", "an undressed marquis")
    edit = small_run(load(pipeline_folder, device="cpu"), tmp_path / "edit",
                     Request(concept="nudity", prompts=said, kind="explicit"))
    made = make_bundle(edit, tmp_path / "bundle", redact=True)
    for name, file in walked(made.folder).items():
        content = file.read_bytes()
        assert not [text for text in (*said, "A. Person", "GDPR") if text.encode() in content], name
    assert "attack/attack.json" in made.left_out[0]
    lines = verify_bundle(made.folder)
    assert not [line for line in lines if line.state == "fails"]
    metrics = json.loads((made.folder / "bom.cdx.json").read_text())["metadata"]["component"]["modelCard"]
    assert "attack/worst" in str(metrics)


def test_without_the_extra_the_message_names_it(edit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "OpenSSL" else object())
    with pytest.raises(UserError, match=r"OpenSSL is not installed.*pip install 'expunge\[evidence\]'"):
        make_bundle(edit, tmp_path / "bundle")
