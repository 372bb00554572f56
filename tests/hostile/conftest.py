"""What is right, built once: hostile inputs are made of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for _folder in ("", "../report", "../evidence"):
    sys.path.insert(0, str(Path(__file__).parent / _folder))


@pytest.fixture(scope="session")
def good(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    from attack_examples import make_relearning, make_suite
    from bench_examples import bench
    from diffusers import StableDiffusionPipeline
    from hostile_readers import LORA, Good
    from report_examples import make_evaluation
    from safetensors.torch import save_file
    from sequence_examples import sequence

    from expunge.guard import random_mask, save_mask
    from expunge.models.patch import Patch
    from expunge.models.store import load
    from expunge.records import Ledger, Request
    from expunge.records.labels import Labels
    from expunge.sequence.ledger import head_digest
    from original_files import single_file, tensors_of

    root = tmp_path_factory.mktemp("good")
    model = load(pipeline_folder, device="cpu")
    name = next(name for name in model.parameters_in("xattn") if name.endswith("to_v.weight"))
    weight = model.parameters_in("xattn")[name].detach()
    Patch.of({name: weight * -2}, model=model, method="esd", settings={}, seed=0,
             request=Request(concept="church", prompts=("a church",))).save(root / "patch")
    save_mask(root / "mask", random_mask(model, 0.5))
    layer = name.replace("/", ".", 1).removesuffix(".weight")
    save_file({f"{layer}.lora_A.weight": weight.new_ones(2, weight.shape[1]),
               f"{layer}.lora_B.weight": weight.new_ones(weight.shape[0], 2)}, root / LORA)
    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder, safety_checker=None, requires_safety_checker=False)
    single = single_file(root / "whole.safetensors", tensors_of(pipe))
    ledger = Ledger(model=model.name, model_hash=model.hash, process=model.process.description, parts=model.parts)
    records = {
        "evaluation.json": make_evaluation(), "attack.json": make_suite(), "sequence.json": sequence(),
        "bench.json": bench({"uce": (0.1, 0.9, 3.0)}), "relearning.json": make_relearning(),
        "ledger.json": ledger.model_copy(update={"seal": head_digest(ledger)}), "labels.json": Labels(concept="church")}
    texts = {name: record.model_dump_json() for name, record in records.items()}
    texts |= {"protocol.json": "{}", "case.json": "{}"}  # what is wrong with these is wrong with any
    return Good(pipeline_folder, root / "patch", root / "mask", root / LORA, single, model, texts)
