"""Every reader of files, as the tests of hostile input see it: what a good file looks like, and who reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

LORA = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True)
class Good:
    """What is right. Attributes: pipeline, patch, mask, lora: on disk. model: the pipeline, opened. texts: records'
    JSON by the name of their file."""

    pipeline: Path
    patch: Path
    mask: Path
    lora: Path
    single: Path
    model: Any
    texts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        make: lays what is good into a new folder; returns what the reader is given, and the file in it to spoil.
        read: reads what `make` returned, by Python. command: by the command line; None where no command reads it alone.
    """

    make: Callable[[Good, Path], tuple[Path, Path]]
    read: Callable[[Path, Good], Any]
    command: Callable[[Path, Good], list[str]] | None = None


def _record(name: str) -> Callable[[Good, Path], tuple[Path, Path]]:
    def make(good: Good, at: Path) -> tuple[Path, Path]:
        at.mkdir(exist_ok=True)
        (at / name).write_text(good.texts[name], encoding="utf-8")
        return at, at / name

    return make


def _text(name: str, text: str) -> Callable[[Good, Path], tuple[Path, Path]]:
    def make(good: Good, at: Path) -> tuple[Path, Path]:
        at.mkdir(exist_ok=True)
        (at / name).write_text(text, encoding="utf-8")
        return at / name, at / name

    return make


def _copied(which: Callable[[Good], Path], inside: str = "") -> Callable[[Good, Path], tuple[Path, Path]]:
    def make(good: Good, at: Path) -> tuple[Path, Path]:
        source = which(good)
        if source.is_dir():
            shutil.copytree(source, at, dirs_exist_ok=True)
            return at, at / inside
        at.mkdir(exist_ok=True)
        shutil.copyfile(source, at / source.name)
        return at / source.name, at / source.name

    return make


def _sharded(good: Good, at: Path) -> tuple[Path, Path]:
    """A UNet in two shards, as a user returns it."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(good.pipeline, at, dirs_exist_ok=True)
    whole = at / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    names, places = sorted(tensors), dict[str, str]()
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"diffusion_pytorch_model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, at / "unet" / file)
        places |= dict.fromkeys(part, file)
    index = at / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")
    return at, index


def _images(good: Good, at: Path) -> tuple[Path, Path]:
    at.mkdir(exist_ok=True)
    Image.new("RGB", (16, 16), "red").save(at / "0-1.png")
    return at, at / "0-1.png"


def _stored(name: str) -> Callable[[Path, Good], Any]:
    def read(path: Path, good: Good) -> Any:
        from expunge.records import stored

        return next(one for one in vars(stored).values() if getattr(one, "name", "") == name).read(path)

    return read


def _patch(path: Path, good: Good) -> Any:
    from expunge.models.patch import Patch

    return Patch.load(path)


def _card(path: Path, good: Good) -> Any:
    from expunge.records import read_card

    return read_card(path)


def _mask(path: Path, good: Good) -> Any:
    from expunge.guard import load_mask

    return load_mask(path)


def _positions(path: Path, good: Good) -> Any:
    from expunge.guard.mask import import_positions

    return import_positions(path, good.model)


def _ledger(path: Path, good: Good) -> Any:
    from expunge.sequence.ledger import read_ledger

    return read_ledger(path, good.model)


def _case(path: Path, good: Good) -> Any:
    from expunge.attacks.cases import read_case

    return read_case(path)


def _protocol(path: Path, good: Good) -> Any:
    from expunge.protocols.schema import read_protocol

    return read_protocol(path)


def _settings(path: Path, good: Good) -> Any:
    from expunge.evaluation import EvaluateSettings

    return EvaluateSettings.build(_mapping(path), str(path))


def _requests(path: Path, good: Good) -> Any:
    from expunge.sequence.settings import SequenceSettings

    return SequenceSettings.build(_mapping(path), str(path))


def _bench(path: Path, good: Good) -> Any:
    from expunge.bench.settings import BenchSettings

    return BenchSettings.build(_mapping(path), str(path))


def _mapping(path: Path) -> dict[str, Any]:
    from expunge.config import read_settings_file

    return read_settings_file(path)


def _prompts(path: Path, good: Good) -> Any:
    from expunge.metrics.lists import listed

    return listed(path, ["church"], lambda text, concept: concept in text)


def _listing(path: Path, good: Good) -> Any:
    from expunge.metrics.image_list import read_list

    return read_list(path)


def _judgments(path: Path, good: Good) -> Any:
    from expunge.metrics.judging import read_judgments

    return read_judgments(path)


def _lora(path: Path, good: Good) -> Any:
    from expunge.models.lora import read_lora

    return read_lora(path, good.model)


def _lora_config(path: Path, good: Good) -> Any:
    from expunge.guard import check_lora, load_mask, read_lora_config

    return check_lora(good.model, load_mask(good.mask), read_lora_config(path))


def _model(path: Path, good: Good) -> Any:
    from expunge.models.store import load

    return load(path, device="cpu")


def _single(path: Path, good: Good) -> Any:
    from expunge.models.store import load

    return load(path, parts=good.pipeline, device="cpu")


def _returned(path: Path, good: Good) -> Any:
    from expunge.guard import load_mask, verify

    return verify(good.model, path, load_mask(good.mask))


def _incoming(path: Path, good: Good) -> Any:
    from expunge.exports.incoming import import_edit

    return import_edit(path, "church", model=good.pipeline)


def _labels(path: Path, good: Good) -> Any:
    from expunge.detectors.classifiers import supplied_labels
    from expunge.detectors.torchvision_head import TorchvisionHead

    return supplied_labels(TorchvisionHead(architecture="resnet18"), {"labels": path})


def _array(path: Path, good: Good) -> Any:
    from expunge.detectors.pickled_array import pickled_array

    return pickled_array(path)


def _weights(path: Path, good: Good) -> Any:
    from expunge.detectors.classifiers import state_dict

    return state_dict(path)


def _statistics(path: Path, good: Good) -> Any:
    from expunge.metrics.reference import read_statistics

    return read_statistics(path)


def _states(path: Path, good: Good) -> Any:
    from expunge.metrics.stream.base import read_states

    return read_states(path)


def _memory(path: Path, good: Good) -> Any:
    from expunge.sequence.memory import ReplayBuffer

    return ReplayBuffer.read(path)


def _fisher(path: Path, good: Good) -> Any:
    from expunge.continual.fisher import Fisher

    return Fisher.read(path)


def _pictures(path: Path, good: Good) -> Any:
    from expunge.finetune import picture_folder

    return picture_folder(path)


def _captions(path: Path, good: Good) -> Any:
    from expunge.guard.pictures import captioned_folder

    return captioned_folder(path)


def _key(path: Path, good: Good) -> Any:
    from expunge.evidence.signing import public_key

    return public_key(path)


def _until(path: Path, good: Good) -> Any:
    from expunge.protocols.wipe import due

    return due(path)


def _captioned(good: Good, at: Path) -> tuple[Path, Path]:
    _images(good, at)
    (at / "metadata.jsonl").write_text('{"file_name": "0-1.png", "text": "a church"}\n', encoding="utf-8")
    return at, at / "metadata.jsonl"


def _show(path: Path, good: Good) -> list[str]:
    return ["show", str(path)]


def _applied(path: Path, good: Good) -> list[str]:
    return ["apply", str(good.patch), "--model", str(path)]


def _erase(flag: str) -> Callable[[Path, Good], list[str]]:
    return lambda path, good: ["erase", "church", "--model", str(good.pipeline), flag, str(path), "--dry-run"]


SMALL = {"schema": 1, "protocol": "small", "title": "t", "source": "s",
         "prompts": {"artefact": {"role": "prompts", "what": "a list"}, "columns": {"text": "prompt"}},
         "detectors": [{"name": "object", "detector": "image-classification", "artefacts": {
             "folder": {"role": "classifier", "what": "a classifier"}}, "rule": {"labels": ["church"], "rule": "top"}}],
         "scores": [{"name": "shown", "formula": "shown", "detector": "object"}]}

JSON: dict[str, Reader] = {
    **{name: Reader(_record(name), _stored(name), _show)
       for name in ("evaluation.json", "attack.json", "bench.json", "sequence.json", "relearning.json")},
    "protocol.json": Reader(_record("protocol.json"), _stored("protocol.json"),
                            lambda path, good: ["compare", str(path), str(path)]),
    "labels.json": Reader(_record("labels.json"), _stored("labels.json")),
    "card": Reader(_copied(lambda good: good.patch, "patch.json"), _patch, _show),
    "mask": Reader(_copied(lambda good: good.mask, "mask.json"), _mask,
                   lambda path, good: ["guard", "apply", str(path), "--model", str(good.pipeline)]),
    "ledger": Reader(_record("ledger.json"), _ledger),
    "case": Reader(lambda good, at: (_record("case.json")(good, at)[1],) * 2, _case),
    "lora config": Reader(_text("adapter_config.json", '{"target_modules": ["to_q"]}'), _lora_config,
                          lambda path, good: ["guard", "apply", str(good.mask), "--model", str(good.pipeline),
                                              "--lora-config", str(path)]),
    "model index": Reader(_copied(lambda good: good.pipeline, "model_index.json"), _model, _applied),
    "config of the network": Reader(_copied(lambda good: good.pipeline, "unet/config.json"), _model, _applied),
    "config of the text encoder": Reader(_copied(lambda good: good.pipeline, "text_encoder/config.json"), _model,
                                         _applied),
    "tokenizer": Reader(_copied(lambda good: good.pipeline, "tokenizer/tokenizer.json"), _model, _applied),
    "tokenizer's config": Reader(_copied(lambda good: good.pipeline, "tokenizer/tokenizer_config.json"), _model,
                                 _applied),
    "scheduler": Reader(_copied(lambda good: good.pipeline, "scheduler/scheduler_config.json"), _model, _applied),
    "index of shards": Reader(_sharded, _model, _applied),
    "index of what users return": Reader(_sharded, _returned, lambda path, good: [
        "guard", "verify", str(good.mask), str(path), "--model", str(good.pipeline)]),
    "prompts.json": Reader(_text("prompts.json", '["a church"]'), _prompts, _erase("--train-prompts")),
    "labels by index": Reader(_text("labels.json", '["church"]'), _labels),
    "day of wiping": Reader(lambda good, at: (at, _text("keep-until.json", '{"wipe": "2026-01-01"}')(good, at)[1]),
                            _until, lambda path, good: ["wipe", str(path), "--due"]),
}
LINES: dict[str, Reader] = {
    "prompts.jsonl": Reader(_text("prompts.jsonl", '"a church"\n{"text": "b church"}\n'), _prompts,
                            _erase("--train-prompts")),
    "list of images": Reader(_text("list.jsonl", '{"file": "a.png", "prompt": "b"}\n'), _listing),
    "captions": Reader(_captioned, _captions),
}
SETTINGS: dict[str, Reader] = {
    "settings": Reader(_text("settings.yaml", "steps: 3\nguidance: 2.0\n"), _settings,
                       lambda path, good: ["evaluate", str(good.patch), "--model", str(good.pipeline), "--config",
                                           str(path), "--dry-run"]),
    "settings in TOML": Reader(_text("settings.toml", "steps = 3\n"), _settings,
                               lambda path, good: ["evaluate", str(good.patch), "--model", str(good.pipeline),
                                                   "--config", str(path), "--dry-run"]),
    "requests": Reader(_text("requests.yaml", "requests: [{concept: church}]\n"), _requests,
                       lambda path, good: ["sequence", str(path), "--dry-run"]),
    "bench": Reader(_text("bench.yaml", "methods: [uce]\nconcepts: [church]\n"), _bench,
                    lambda path, good: ["bench", str(path), "--dry-run"]),
    "protocol": Reader(_text("protocol.yaml", yaml.safe_dump(SMALL)), _protocol,
                       lambda path, good: ["score", str(good.patch), "--protocol", str(path), "--out",
                                           str(path.parent / "out")]),
    "prompts.yaml": Reader(_text("prompts.yaml", "direct: [a church]\n"), _prompts, _erase("--train-prompts")),
}
TABLES: dict[str, Reader] = {
    "prompts.csv": Reader(_text("prompts.csv", "prompt,seed\na church,1\n"), _prompts, _erase("--train-prompts")),
    "prompts.txt": Reader(_text("prompts.txt", "a church\n"), _prompts, _erase("--train-prompts")),
    "positions": Reader(_text("positions.txt", "0.0\n"), _positions),
}
TENSORS: dict[str, Reader] = {
    "patch": Reader(_copied(lambda good: good.patch, "patch.safetensors"), _patch,
                    lambda path, good: ["show", str(path), "--verify"]),
    "LoRA": Reader(_copied(lambda good: good.lora), _lora,
                   lambda path, good: ["apply", str(good.patch), "--model", str(good.pipeline), "--lora", str(path)]),
    "single file": Reader(_copied(lambda good: good.single), _single,
                          lambda path, good: ["apply", str(good.patch), "--model", str(path), "--parts",
                                              str(good.pipeline)]),
    "network of a model": Reader(_copied(lambda good: good.pipeline, "unet/diffusion_pytorch_model.safetensors"),
                                 _model, _applied),
    "text encoder of a model": Reader(_copied(lambda good: good.pipeline, "text_encoder/model.safetensors"), _model,
                                      _applied),
    "what users return": Reader(_copied(lambda good: good.pipeline, "unet/diffusion_pytorch_model.safetensors"),
                                _returned, lambda path, good: ["guard", "verify", str(good.mask), str(path), "--model",
                                                               str(good.pipeline)]),
    "somebody's edit": Reader(_copied(lambda good: good.single), _incoming,
                              lambda path, good: ["import", str(path), "church", "--model", str(good.pipeline),
                                                  "--out", str(path.parent / "out")]),
    "statistics": Reader(_copied(lambda good: good.single), _statistics),
    "states": Reader(_copied(lambda good: good.single), _states),
    "memory": Reader(_copied(lambda good: good.single), _memory),
    "Fisher information": Reader(_copied(lambda good: good.single), _fisher),
    "a classifier's weights": Reader(_copied(lambda good: good.single), _weights),
}
IMAGES: dict[str, Reader] = {"images of a user": Reader(_images, _pictures)}
OTHERS: dict[str, Reader] = {
    "public key": Reader(_text("key.pub", "-----BEGIN PUBLIC KEY-----\n"), _key),
    "pickled array": Reader(_text("head.p", ""), _array),
}
READERS: dict[str, Reader] = {**JSON, **LINES, **SETTINGS, **TABLES, **TENSORS, **IMAGES, **OTHERS}
