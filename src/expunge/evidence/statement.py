"""What is stated of weight files, and by whom: an in-toto Statement, and the envelope in which it is signed.

    subject        one entry for each weight file: its name in the bundle and its sha256
    predicateType  `PREDICATE`
    predicate      base, patch, request, records and protocols by hash, results with intervals, manifest and BOM by hash

Signed, it is the payload of a DSSE envelope; the signature is over PAE(type, body) = "DSSEv1 " len(type) " " type " "
len(body) " " body.

Source: in-toto Attestation Framework, Statement v1; Dead Simple Signing Envelope 1.0. The envelope
is securesystemslib's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from expunge import untrusted
from expunge.errors import UserError
from expunge.evidence.found import Found
from expunge.records import Origin, PatchCard, Score
from expunge.records.protocol import ProtocolResult

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://expunge/evaluation/v1"
PAYLOAD = "application/vnd.in-toto+json"


def statement(weights: Mapping[str, str], predicate: Mapping[str, Any]) -> dict[str, Any]:
    """The Statement. Args: weights: sha256 by name."""
    subject = [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(weights.items())]
    return {"_type": STATEMENT, "subject": subject, "predicateType": PREDICATE, "predicate": dict(predicate)}


def about(card: PatchCard, found: Sequence[Found], files: Mapping[str, str]) -> dict[str, Any]:
    """What is stated of an edit and of what was measured.

    Args:
        found: its records.
        files: sha256 by the names in the bundle, of the records that are in it ("records/evaluation/evaluation.json").
    """
    protocols = [one.record for one in found if isinstance(one.record, ProtocolResult)]
    return {
        "base": {"name": card.base, "hash": card.base_hash, "process": card.base_process, "parts": card.base_parts},
        "patch": {"tensors": card.tensors_hash, "method": card.method, "seed": card.seed, "card": card.digest},
        "concepts": list(card.request.concepts),
        "request": card.origin.model_dump(mode="json") if card.origin is not None else None,
        "records": [{"name": record_name(one), "sha256": files.get(record_name(one), ""), "digest": one.record.digest}
                    for one in found],
        "protocols": [{"name": one.protocol, "version": one.version, "hash": one.protocol_hash} for one in protocols],
        "results": [result for one in found for result in results(one)]}


def record_name(one: Found) -> str:
    """Where a record lies in a bundle."""
    return f"records/{one.path.parent.name}/{one.path.name}"


def results(one: Found) -> list[dict[str, Any]]:
    """The scores of a record that are about the edit and were measured, without their items."""
    return [result(score, record_name(one)) for score in one.scores
            if score.subject != "original" and score.value is not None]


def result(score: Score, record: str) -> dict[str, Any]:
    """A score as it stands in a statement."""
    return {"record": record, "name": score.name, "title": score.title, "value": score.value, "low": score.low,
            "high": score.high, "interval": score.interval, "n": score.n, "of": score.of, "prompts": score.prompts}


def sealed(stated: Mapping[str, Any], key: EllipticCurvePrivateKey) -> dict[str, Any]:
    """The statement in a signed envelope."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner

    envelope = Envelope(json.dumps(stated, ensure_ascii=False).encode(), PAYLOAD, {})
    envelope.sign(CryptoSigner(key))
    return dict(envelope.to_dict())


def unsealed(envelope: Mapping[str, Any], key: EllipticCurvePublicKey | None) -> dict[str, Any]:
    """The statement in an envelope, whose signature is looked at where a key is given.

    Raises:
        UserError: it is no such envelope, or `key` did not sign it.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import Error
    from securesystemslib.signer import SSlibKey

    try:
        opened = Envelope.from_dict(json.loads(json.dumps(envelope)))  # it changes what it is given
        if opened.payload_type != PAYLOAD:
            raise UserError(f"an envelope of {opened.payload_type}", accepted=PAYLOAD)
        if key is not None:
            opened.verify([SSlibKey.from_crypto(key)], 1)
        stated: dict[str, Any] = untrusted.json_in(opened.payload)
    except (Error, KeyError, TypeError, ValueError, AttributeError) as error:
        why = str(error) if isinstance(error, Error | ValueError) else "it lacks what it should hold"
        raise UserError(f"the envelope does not hold: {why}", accepted="one that this key signed") from error
    return stated


def check_form(stated: Any) -> None:
    """UserError unless `stated` is a Statement about weights, of the kind that is written here."""
    if not isinstance(stated, dict) or stated.get("_type") != STATEMENT or stated.get("predicateType") != PREDICATE:
        raise UserError("no statement of this kind", accepted=f"{STATEMENT} with {PREDICATE}")
    try:
        _Statement.model_validate(stated)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"a statement of another form: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                        accepted="what `expunge bundle` writes") from error


def disagreements(card: PatchCard, said: Mapping[str, Any]) -> list[str]:
    """What of a statement's predicate is not what the patch's card says: "base hash", "concepts"."""
    mine = about(card, (), {})
    odd = [f"{part} {key}" for part in ("base", "patch") for key in mine[part]
           if key != "card" and mine[part][key] != said[part][key]]  # later versions know more fields of a card
    odd += ["concepts"] if mine["concepts"] != said["concepts"] else []
    try:
        asked = Origin.read(json.dumps(said["request"])) if said["request"] is not None else None
    except ValueError:
        return [*odd, "request"]
    return odd if asked == card.origin else [*odd, "request"]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Digest(_Part):
    sha256: str


class _Subject(_Part):
    name: str
    digest: _Digest


class _File(_Part):
    name: str
    sha256: str


class _Base(_Part):
    name: str
    hash: str
    process: str
    parts: str


class _Patch(_Part):
    tensors: str
    method: str
    seed: int
    card: str


class _Record(_File):
    digest: str


class _Protocol(_Part):
    name: str
    version: int
    hash: str


class _Result(_Part):
    record: str
    name: str
    title: str
    value: float
    low: float | None
    high: float | None
    interval: str
    n: int
    of: str
    prompts: int


class _Predicate(_Part):
    base: _Base
    patch: _Patch
    concepts: list[str]
    request: dict[str, Any] | None
    records: list[_Record]
    protocols: list[_Protocol]
    results: list[_Result]
    bom: _File
    manifest: _File


class _Statement(_Part):
    """The form of what `statement` makes, as far as it is read."""

    subject: list[_Subject]
    predicate: _Predicate
