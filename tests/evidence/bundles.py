"""What the tests of bundles share: a small edit with records of it, and keys."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "report"))

from report_examples import make_evaluation, rate, usual_scores

from expunge.models.patch import Patch
from expunge.records import Origin, Request, Sampler, SuiteResult
from expunge.records.protocol import ProtocolResult

ORIGIN = Origin(who="A. Person", evidence="GDPR Art. 17")


def small_run(model: Any, folder: Path, request: Request | None = None) -> Path:
    """A patch of the model with an evaluation, attacks and a protocol's result of it."""
    name = next(name for name in model.parameters_in("xattn") if name.endswith("to_v.weight"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tensors = {name: torch.randn_like(model.parameters_in("xattn")[name])}
    request = request or Request(concept="church", prompts=("a church", "an emoji of a church"), keep=("a house",))
    made = Patch.of(tensors, model=model, request=request, method="test", settings={}, seed=0,
                    texts={"erase": request.prompts})
    patch = Patch(made.tensors, made.card.model_copy(update={"origin": ORIGIN}), made.texts)
    patch.save(folder)
    suite = SuiteResult(card=patch.card, request=request, model=model.name, model_hash=model.hash,
                        patch_hash=patch.hash, sampler=Sampler(), judge="judge", before=(), runs=(),
                        scores=(rate("attack/worst", 1, 96),))
    protocol = ProtocolResult(protocol="p", protocol_hash="0123456789abcdef", version=1, title="t", source="s",
                              patch_hash=patch.hash, concepts=request.concepts, scores=(rate("shown", 2, 50),))
    evaluation = make_evaluation([*usual_scores()], card=patch.card, model=model.name, model_hash=model.hash)
    for where, record in (("evaluation", evaluation), ("attack", suite), ("protocol-p", protocol)):
        (folder / where).mkdir(exist_ok=True)
        (folder / where / f"{where.partition('-')[0]}.json").write_text(record.model_dump_json(), encoding="utf-8")
    return folder
