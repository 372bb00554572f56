"""What an export costs an edit: attack success and integrity of the edit as it is, and of each exported file.

    python benchmarks/exports.py --concepts church --methods esd-fast uce

On emoji-64, for every concept and method: the edit as made; the folder in bfloat16; LoRAs for diffusers that keep 99%
and 99.9% of the energy of every change (biases, which no LoRA carries, are left out and counted); the folder in float32
whose blocks are held in 8 bits (`models/eight_bit.py`). Every form but the first is opened from the written file, and
what its networks then compute with is measured as an edit of the base: a small evaluation and a few cheap attacks.

Each cell is a file of its own, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import expunge
from expunge.attacks.settings import AttackSettings
from expunge.evaluation import EvaluateSettings
from expunge.files import write_json
from expunge.models.eight_bit import layers_in
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.models.scope import full_names
from expunge.records import Score
from expunge.records.export import ExportRecord

ATTACKS = {"paraphrase": {"prompts": 4}, "seed-search": {"tries": 4}, "noising": {"strengths": [0.9, 0.8]}}
SCORES = ("found/all", "retained/near", "integrity/near", "integrity/forget")


def exported(patch: Patch, folder: Path, form: str) -> tuple[Model, ExportRecord]:
    """Write the form, and open what was written."""
    if form.startswith("LoRA"):
        out = folder / f"{form.rpartition(' ')[2].rstrip('%')}.safetensors"
        record = expunge.export(patch, out, "lora-diffusers", energy=float(form.rpartition(" ")[2].rstrip("%")) / 100,
                                drop=True, overwrite=True)
        return expunge.load("embedded", device="cpu", lora=str(out)), record
    out, eight = folder / form.replace(" ", "-"), form == "8 bits"
    record = expunge.export(patch, out, "folder", dtype="float32" if eight else "bfloat16", overwrite=True)
    return expunge.load(out, device="cpu", eight_bit=eight), record


def as_edit(model: Model, base: Model, patch: Patch) -> Patch:
    """All that the model's networks compute with, as an edit of the base."""
    values: dict[str, torch.Tensor] = {}
    for component in (model.network_name, *model.text_names):
        part = model.components[component]
        values |= {name: p.detach().float() for name, p in full_names(component, part).items()}
        values |= {name: layer.plain().weight.detach().float() for name, layer in layers_in(component, part)}
    return Patch.of(values, model=base, request=patch.card.request, method=patch.card.method,
                    settings=patch.card.settings, seed=patch.card.seed)


FORMS: Mapping[str, Callable[..., Any] | None] = {
    "as edited": None, "bfloat16": exported, "LoRA 99%": exported, "LoRA 99.9%": exported, "8 bits": exported}
"""What is measured, in the order of the table."""


def cell(base: Model, patch: Patch, folder: Path, form: str, told: argparse.Namespace) -> dict[str, Any]:
    """Figures of one form, from the file where they are known already."""
    known = folder / f"{form.replace(' ', '-').replace('%', '')}.json"
    if known.is_file():
        found: dict[str, Any] = json.loads(known.read_text(encoding="utf-8"))
        return found
    edit, said = patch, dict[str, Any]()
    if form != "as edited":
        model, record = exported(patch, folder, form)
        edit = as_edit(model, base, patch)
        said = {"error": record.error, "survived": record.survived, "lost": record.lost,
                "left_out": len(record.left_out), "ranks": [e.rank for e in record.tensors if e.rank is not None]}
    counts = {"direct": told.prompts, "near": told.prompts, "held_out": 0, "paraphrase": 0, "implicit": 0, "far": 0,
              "empty": 0, "never_seen": 0}
    evaluation = expunge.evaluate(base, edit, settings=EvaluateSettings.build({
        "counts": counts, "seeds": 2, "steps": told.steps}))
    suite = expunge.attack(base, edit, out=folder / f"attack-{known.stem}", settings=AttackSettings.build(
        {"attacks": list(ATTACKS), "options": ATTACKS, "count": told.items, "control_items": 0, "fresh": 0,
         "steps": told.steps}))
    scores = [*(evaluation.score(name) for name in SCORES), suite.score("attack/worst")]
    found = {"form": form, **said, "scores": {score.name: figures(score) for score in scores}}
    write_json(known, found)
    return found


def figures(score: Score) -> dict[str, Any]:
    """Value, interval and n."""
    return {"value": score.value, "low": score.low, "high": score.high, "n": score.n}


def main() -> None:
    """Print the table; write its cells."""
    asks = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asks.add_argument("--concepts", nargs="+", default=["church"])
    asks.add_argument("--methods", nargs="+", default=["esd-fast", "uce"])
    asks.add_argument("--prompts", type=int, default=12, help="for the concept and its neighbours each")
    asks.add_argument("--items", type=int, default=12, help="prompts that are attacked")
    asks.add_argument("--steps", type=int, default=20, help="sampler steps")
    asks.add_argument("--out", type=Path, default=Path("runs/exports"))
    told = asks.parse_args()
    base, rows = expunge.load("embedded", device="cpu"), list[list[str]]()
    for concept in told.concepts:
        for method in told.methods:
            folder = told.out / f"{concept}-{method}"
            patch = expunge.erase(base, concept, method, out=folder)  # the one that is there, where one is
            for form in FORMS:
                found = cell(base, patch, folder, form, told)
                rows.append([concept, method, form, *(words(found["scores"][name]) for name in (
                    "found/all", "attack/worst", "retained/near", "integrity/near"))])
                print(" | ".join(rows[-1]), flush=True)


def words(score: Mapping[str, Any]) -> str:
    """ "0.12 (0.05 to 0.2), n 24" """
    if score["value"] is None:
        return "-"
    inside = "" if score["low"] is None else f" ({score['low']:.2f} to {score['high']:.2f})"
    return f"{score['value']:.2f}{inside}, n {score['n']}"


if __name__ == "__main__":
    main()
