"""Take a concept out of a text-to-image diffusion model, and measure how gone it is.

    import expunge

    model = expunge.load("embedded")
    patch = expunge.erase(model, "church")
    evaluation = expunge.evaluate(model, patch)

Every public name is imported on first use, so that `import expunge` costs nothing that is not needed.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.2.0"

_PUBLIC = {
    "load": "expunge.models.store:load",
    "erase": "expunge.unlearn.erase:erase",
    "plan": "expunge.unlearn.erase:plan",
    "evaluate": "expunge.evaluation:evaluate",
    "attack": "expunge.attacks.suite:attack",
    "AttackSettings": "expunge.attacks.settings:AttackSettings",
    "read_protocol": "expunge.protocols.schema:read_protocol",
    "run_protocol": "expunge.protocols.run:run_protocol",
    "attack_protocol": "expunge.protocols.attacked:attack_protocol",
    "score_folder": "expunge.protocols.supplied:score_folder",
    "RunSettings": "expunge.protocols.settings:RunSettings",
    "ProtocolResult": "expunge.records.protocol:ProtocolResult",
    "relearn": "expunge.attacks.relearning:relearn",
    "RelearnSettings": "expunge.attacks.settings:RelearnSettings",
    "learn_mask": "expunge.guard:learn_mask",
    "load_mask": "expunge.guard:load_mask",
    "random_mask": "expunge.guard:random_mask",
    "guarded": "expunge.guard:guarded",
    "verify": "expunge.guard:verify",
    "PublisherImages": "expunge.guard:PublisherImages",
    "material": "expunge.finetune:material",
    "sample": "expunge.models.sample:draw",
    "applied": "expunge.models.model:applied",
    "load_into_pipeline": "expunge.models.pipeline:load_into_pipeline",
    "merge": "expunge.models.store:merge",
    "export": "expunge.exports.run:export",
    "import_edit": "expunge.exports.incoming:import_edit",
    "CheckSettings": "expunge.exports.check:CheckSettings",
    "write_report": "expunge.report:write_report",
    "run_bench": "expunge.bench.run:run_bench",
    "BenchSettings": "expunge.bench.settings:BenchSettings",
    "write_bench_report": "expunge.report.bench_page:write_bench_report",
    "run_sequence": "expunge.sequence.run:run_sequence",
    "SequenceSettings": "expunge.sequence.settings:SequenceSettings",
    "write_sequence_report": "expunge.report.sequence_page:write_sequence_report",
    "make_bundle": "expunge.evidence.bundle:make_bundle",
    "verify_bundle": "expunge.evidence.verify:verify_bundle",
    "Signer": "expunge.evidence.signing:Signer",
    "Trust": "expunge.evidence.signing:Trust",
    "Origin": "expunge.records:Origin",
    "Patch": "expunge.models.patch:Patch",
    "ImageCache": "expunge.models.cache:ImageCache",
    "EvaluateSettings": "expunge.evaluation:EvaluateSettings",
    "Evaluation": "expunge.records:Evaluation",
    "Prompt": "expunge.records:Prompt",
    "Request": "expunge.records:Request",
    "Sampler": "expunge.records:Sampler",
    "Score": "expunge.records:Score",
    "ExpungeError": "expunge.errors:ExpungeError",
    "UserError": "expunge.errors:UserError",
}
"""Public name -> where it lives."""

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'expunge' has no attribute {name!r}; it has {', '.join(_PUBLIC)}")
    module, _, attribute = _PUBLIC[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
