"""The bill of materials of an edit: a CycloneDX ML-BOM with its scores and their intervals, and its descent.

The model component holds every weight file by sha256, its pedigree names the base model by the hash of its weights, its
model card has the scores as performance metrics (values are text, as the schema wants them), and its references are the
records. It is validated against the schema that cyclonedx-python-lib brings.

Source: CycloneDX 1.6, bom-1.6.schema.json. The library has no class for model cards, so this is plain JSON.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from expunge import __version__, untrusted
from expunge.errors import ExpungeError
from expunge.records import Evaluation, PatchCard

SPEC = "1.6"
_HASH_OF = "of all weights by name, type, shape and value; not of a file"


def bill(card: PatchCard, weights: Mapping[str, str], stated: Mapping[str, Any],
         evaluations: Sequence[Evaluation] = ()) -> dict[str, Any]:
    """The ML-BOM.

    Args:
        weights: sha256 of each weight file by its name.
        stated: the statement's predicate (`statement.about`), whose results become performance metrics.
        evaluations: what they did not test are technical limitations.
    """
    names = ", ".join(card.request.concepts)
    files = [{"type": "file", "bom-ref": name, "name": name, "hashes": [_sha256(digest)]}
             for name, digest in sorted(weights.items())]
    model = {
        "type": "machine-learning-model", "bom-ref": "edit",
        "name": f"{names} taken out of {card.base} by {card.method}", "version": _version(card.tensors_hash),
        "components": files,
        "pedigree": {"ancestors": [_base(stated["base"])],
                     "notes": f"{names} taken out by {card.method}, seed {card.seed}"},
        "modelCard": _model_card(card, stated["results"], evaluations),
        "externalReferences": [{"type": "evidence", "url": one["name"], "hashes": [_sha256(one["sha256"])]}
                               for one in stated["records"] if one["sha256"]],
        "properties": [{"name": "expunge:tensors", "value": card.tensors_hash}]}
    if not model["externalReferences"]:
        del model["externalReferences"]
    made = {"bomFormat": "CycloneDX", "specVersion": SPEC, "version": 1,
            "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([weights, stated], sort_keys=True))}",
            "metadata": {"timestamp": datetime.now(timezone.utc).isoformat(timespec="seconds"), "component": model,
                         "tools": {"components": [{"type": "application", "name": "expunge", "version": __version__}]}}}
    wrong = mistakes(json.dumps(made))
    if wrong:
        raise ExpungeError(f"the bill of materials is not valid: {wrong}", remedy="please report this")
    return made


def mistakes(text: str) -> str:
    """What is wrong with a BOM by its schema, in a sentence; "" where nothing is."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    try:
        error = JsonStrictValidator(SchemaVersion.from_version(SPEC)).validate_str(text)
    except (ValueError, RecursionError) as broken:
        return f"no JSON: {broken}"
    if error is None:  # the schema takes any version for its own
        version = untrusted.json_in(text)["specVersion"]
        return "" if version == SPEC else f"specVersion {version!r}, not {SPEC}"
    data: Any = error.data
    return " ".join(str(getattr(data, "message", data)).split())[:300]


def disagreements(made: Mapping[str, Any], weights: Mapping[str, str], stated: Mapping[str, Any]) -> list[str]:
    """In words, where a BOM says something else than the weight files and the statement."""
    try:
        return list(_disagreements(made, weights, stated))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        return [f"it lacks {error}" if isinstance(error, KeyError) else "it is of another form"]


def _disagreements(made: Mapping[str, Any], weights: Mapping[str, str], stated: Mapping[str, Any]) -> Iterator[str]:
    model = made["metadata"]["component"]
    files = {one["name"]: one["hashes"][0]["content"] for one in model["components"]}
    metrics, (base,) = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"], model["pedigree"]["ancestors"]
    records = {one["url"]: one["hashes"][0]["content"] for one in model.get("externalReferences", [])}
    stated_metrics = [_metric(one) for one in stated["results"]]
    yield from (f"{name} has another sha256 in it" for name in sorted({*files, *weights})
                if files.get(name) != weights.get(name))
    theirs = {one["name"]: one["sha256"] for one in stated["records"] if one["sha256"]}
    yield from (f"{name} has another sha256 in it" for name in sorted({*records, *theirs})
                if records.get(name) != theirs.get(name))
    if metrics != stated_metrics:
        odd = [one.get("type", "one without a type")
               for one, other in zip(metrics, stated_metrics, strict=False) if one != other]
        yield f"its performance metrics are not the record's results{f': {odd[0]}' if odd else ''}"
    if base != _base(stated["base"]):
        yield f"it says something else of the base, and calls it {base['name']} ({base.get('version', '')})"
    if model.get("version") != _version(stated["patch"]["tensors"]):
        yield f"it is about another patch ({model.get('version', '')})"


def _base(stated: Mapping[str, Any]) -> dict[str, Any]:
    """The base model's component, of what a statement says of it."""
    base = {"type": "machine-learning-model", "bom-ref": "base", "name": stated["name"],
            "version": _version(stated["hash"]),
            "properties": [{"name": "expunge:hash-of", "value": _HASH_OF},
                           {"name": "expunge:process", "value": stated["process"]}]}
    return {**base, "hashes": [_sha256(stated["hash"])]} if len(stated["hash"]) == 64 else base


def _version(digest: str) -> str:
    return digest[:16]


def _model_card(card: PatchCard, results: Iterable[Mapping[str, Any]], evaluations: Sequence[Evaluation]
                ) -> dict[str, Any]:
    limits = [sentence for one in evaluations for sentence in one.not_tested]
    limits += ["The scores hold for these prompts, seeds, samplers and detectors, and for nothing else.",
               "A patch or a LoRA acts only while it is on: whoever leaves it off has the base model."]
    warnings = [sentence for one in evaluations for sentence in one.warnings]
    family = {"architectureFamily": card.base_family} if card.base_family else {}
    return {"modelParameters": {"task": "text-to-image", **family, "inputs": [{"format": "text"}],
                                "outputs": [{"format": "image"}]},
            "quantitativeAnalysis": {"performanceMetrics": [_metric(one) for one in results]},
            "considerations": {"technicalLimitations": list(dict.fromkeys(limits)),
                               **({"performanceTradeoffs": list(dict.fromkeys(warnings))} if warnings else {})}}


def _metric(one: Mapping[str, Any]) -> dict[str, Any]:
    prompts = f" of {one['prompts']} prompts" if one["prompts"] else ""
    ends = {"confidenceInterval": {"lowerBound": _number(one["low"]), "upperBound": _number(one["high"])}} \
        if one["low"] is not None and one["high"] is not None else {}
    how = f"; {one['interval']}" if one["interval"] else ""
    return {"type": one["name"], "value": _number(one["value"]),
            "slice": f"{one['title']}; n {one['n']} {one['of']}{prompts}{how}; {one['record']}", **ends}


def _number(value: float) -> str:
    return repr(float(value))


def _sha256(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}
