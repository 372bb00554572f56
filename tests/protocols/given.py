"""What tests of protocols supply: lists of prompts, a tiny image classifier, and protocol files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expunge.models.patch import Patch
from expunge.protocols.run import run_protocol
from expunge.protocols.schema import Protocol
from expunge.protocols.settings import RunSettings
from expunge.records.protocol import ProtocolResult

LABELS = ("church", "house", "tench")
"""What the tiny classifier knows."""


def table(path: Path, rows: Sequence[Mapping[str, Any]], mark: str = "") -> Path:
    """A CSV file of these rows; `mark` goes before its first header."""
    heads = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(mark)
        writer = csv.DictWriter(file, heads)
        writer.writeheader()
        writer.writerows(rows)
    return path


def classifier(folder: Path, labels: Sequence[str], side: int = 16) -> Path:
    """A transformers folder of an image classifier with random weights, which nobody trained."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(len(labels))
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                       image_size=side, patch_size=8, num_labels=len(labels),
                       id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)})
    model = ViTForImageClassification(config)
    with torch.no_grad():
        model.classifier.weight.mul_(40)
    model.save_pretrained(folder, safe_serialization=True)
    ViTImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    return folder


def protocol(**values: Any) -> dict[str, Any]:
    """The values of a small protocol file: a list by its columns, and one classifier."""
    return {
        "schema": 1, "protocol": "small", "title": "images that show a church", "source": "these tests",
        "prompts": {"artefact": {"role": "prompts", "what": "a list"}, "columns": {"text": "prompt", "seed": "s"}},
        "sampler": {"scheduler": "own", "steps": 3, "guidance": 2.0},
        "detectors": [{"name": "object", "detector": "image-classification", "artefacts": {
            "folder": {"role": "classifier", "what": "a classifier"}}, "rule": {"labels": ["church"], "rule": "top"}}],
        "scores": [{"name": "shown", "formula": "shown", "detector": "object"}], **values}


def small_patch(model: Any, scale: float = 1.5) -> Patch:
    """An edit of the cross-attention's keys and values: all of them times `scale`."""
    from expunge.records import Request

    tensors = {name: parameter.detach() * scale for name, parameter in model.parameters_in("xattn.kv").items()}
    return Patch.of(tensors, model=model, request=Request(concept="church", prompts=("a church",)), method="esd",
                    settings={}, seed=0, losses={}, steps=1)


def run(model: Any, asked: Protocol, files: dict[str, Path], out: Path, patch: Patch | None = None, **settings: Any
        ) -> ProtocolResult:
    """The protocol's run, two images at a time."""
    return run_protocol(model, asked, patch, files=files, settings=RunSettings(batch=2, **settings), out=out)
