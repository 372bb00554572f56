"""A patch: the new values of the tensors that an edit changed, on disk with a card, on a model and off again.

`patch.safetensors` holds the float32 new values under the names "unet/<parameter>" and
"text_encoder/<parameter>"; its card is in `patch.json` and in the tensor file's metadata, so that the one
file is enough. All texts that the edit trained on or held on to are in `prompts.json` beside it, which need not be
copied along; the card has the hash of it. Plain diffusers needs these lines to load one:

    for part in ("unet", "text_encoder"):
        new = {k.removeprefix(part + "/"): v for k, v in load_file(file).items() if k.startswith(part + "/")}
        getattr(pipe, part).load_state_dict(new, strict=False)

(Before version 5, transformers puts "text_model." before the names of the text encoder; then so must these
lines. `load_into_pipeline` does, and it fails where `strict=False` would keep silent.)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from expunge import files, runtime
from expunge.errors import ModelError, TrainingError
from expunge.models.base import Denoiser
from expunge.models.scope import full_names
from expunge.records import PatchCard, Request


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """sha256 (hex) over names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Patch:
    """The result of an edit.

    Attributes:
        tensors: float32 new values by full name, on the CPU.
        card: what was done, to which base model, how.
        texts: what the edit was made from, by use: "erase" (asked for the concept), "instead" (took its place) and
            "keep" (had to stay). Empty where that was not recorded, or the file of it did not come along.
    """

    tensors: Mapping[str, Tensor]
    card: PatchCard
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Content hash of the tensors: what decides the pictures."""
        return self.card.tensors_hash

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], *, model: Denoiser, request: Request, method: str,
           settings: Mapping[str, Any], seed: int, losses: Mapping[str, list[float]] | None = None,
           seconds: float = 0.0, steps: int = 0, texts: Mapping[str, Sequence[str]] | None = None,
           left_out: Mapping[str, str] | None = None) -> Patch:
        """A patch of `model` from new values of some of its tensors; hashes, versions and date are filled in.

        Raises:
            TrainingError: a value is not finite.
        """
        values = {name: tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
                  for name, tensor in tensors.items()}
        broken = [name for name, value in values.items() if not bool(value.isfinite().all())]
        if broken:
            raise TrainingError(f"the edit made {len(broken)} tensors hold values that are not finite, {broken[0]!r} "
                                "first", accepted="finite weights",
                                remedy="lower the learning rate (with refresh: update.gamma)")
        told = {use: tuple(mine) for use, mine in (texts or {}).items()}
        card = PatchCard(request=request, base=model.name, base_hash=model.hash, base_process=model.process,
                         base_encoder=model.encoder_hash, method=method, settings=dict(settings),
                         tensors=tuple(sorted(values)), tensors_hash=tensors_hash(values),
                         texts_hash=_texts_hash(told), left_out=dict(left_out or {}), seed=seed,
                         versions=runtime.versions(), losses=dict(losses or {}), seconds=seconds, steps=steps,
                         created=datetime.now(timezone.utc).isoformat(timespec="seconds"))
        return cls(values, card, told)

    def save(self, path: str | Path) -> Path:
        """Write `<name>.safetensors`, `<name>.json` and, where texts are recorded, `<name>.prompts.json`; a folder gets
        `patch.*` and `prompts.json`. Returns the first."""
        file, text = _patch_file(path), self.card.model_dump_json(indent=2) + "\n"
        beside = _texts_file(file)
        if self.texts:
            files.write_text(beside, _texts_json(self.texts))
        else:
            beside.unlink(missing_ok=True)
        files.write_tensors(file, self.tensors, {"format": "pt", "card": text})
        files.write_text(file.with_suffix(".json"), text)
        return file

    @classmethod
    def load(cls, path: str | Path) -> Patch:
        """Read a patch from its folder or either of its files.

        Raises:
            ModelError: missing or damaged, or tensors and card that do not belong together.
        """
        file = _patch_file(path)
        if not file.is_file():
            raise ModelError(f"no patch at {path}",
                             accepted="a folder with patch.safetensors, or a .safetensors file")
        beside = file.with_suffix(".json")
        try:
            with safe_open(file, "pt") as opened:
                inside = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no dict)
            text = beside.read_text(encoding="utf-8") if beside.is_file() else inside["card"]
            card = PatchCard.read(text)
            _check_values(tensors, card, PatchCard.read(inside.get("card", text)), beside.name)
        except KeyError as error:
            raise ModelError(f"patch {file} has no card", remedy="copy the card too",
                             accepted=f"{beside.name} beside it, or a card in its metadata") from error
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"patch {file} cannot be read: {error}", accepted="a patch that expunge wrote",
                             remedy="copy or make it again") from error
        found = tensors_hash(tensors)
        if found != card.tensors_hash:
            raise ModelError(f"patch {file} is damaged: its tensors hash to {found[:12]}",
                             accepted=f"{card.tensors_hash[:12]}, as its card says",
                             remedy="copy or make it again")
        return cls(tensors, card, _read_texts(_texts_file(file), card))

    @property
    def in_encoder(self) -> bool:
        """Whether it changes the text encoder and nothing else."""
        return bool(self.tensors) and all(name.startswith("text_encoder/") for name in self.tensors)

    def check(self, model: Denoiser, tensors: Mapping[str, Tensor]) -> None:
        """Whether the patch fits `model`, whose tensors are `tensors`.

        A patch of the text encoder alone fits every model with the same text encoder: what such a patch changes is what
        the network is told, whatever network that is.

        Raises:
            ModelError: made for other weights, prediction or noise schedule, or a tensor that is not there or
                has another shape.
        """
        card, remedy = self.card, "load the patch's own base model"
        if self.in_encoder and card.base_encoder == model.encoder_hash:
            self._check_tensors(tensors)
            return
        if self.in_encoder and card.base_encoder:
            remedy += f", or another with its text encoder ({card.base_encoder[:12]}; here {model.encoder_hash[:12]})"
        if card.base_hash != model.hash:
            raise ModelError(f"a patch for {card.base} ({card.base_hash[:12]})",
                             accepted=f"patches for the loaded model, {model.name} ({model.hash[:12]})", remedy=remedy)
        if card.base_process not in ("", model.process):
            raise ModelError(f"a patch for {card.base} with {card.base_process}",
                             accepted=f"patches for the loaded model, {model.name} with {model.process}", remedy=remedy)
        self._check_tensors(tensors)

    def _check_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        for name, value in self.tensors.items():
            if name not in tensors:
                raise ModelError(f"the patch changes {name!r}, which this model does not have")
            if value.shape != tensors[name].shape:
                raise ModelError(f"the patch's {name!r} is {tuple(value.shape)}",
                                 accepted=f"{tuple(tensors[name].shape)}, as in this model")


@contextmanager
def applied(model: Denoiser, patch: Patch) -> Iterator[Denoiser]:
    """The model with the patch on, inside the `with`; off again afterwards, whatever happened."""
    model.apply(patch)
    try:
        yield model
    finally:
        model.remove()


def stacked(first: Patch | None, second: Patch, model: Denoiser, request: Request) -> Patch:
    """One patch of `model` in the place of two: `first` (None: nothing), and `second`, made on top of it.

    Where both change a tensor the second's values hold, for it went on from the first's. The card says what was done
    second, and that all of `request` was asked for.

    Raises:
        ModelError: `first` was made for another model.
    """
    if first is not None and (first.card.base_hash, first.card.base_process) != (model.hash, model.process):
        raise ModelError(f"a patch for {first.card.base} ({first.card.base_hash[:12]}, {first.card.base_process})",
                         accepted=f"patches for {model.name} ({model.hash[:12]}, {model.process})")
    card = second.card
    return Patch.of({**(first.tensors if first is not None else {}), **second.tensors}, model=model, request=request,
                    method=card.method, settings=card.settings, seed=card.seed, losses=card.losses,
                    seconds=card.seconds, steps=card.steps, texts=second.texts, left_out=card.left_out)


def load_into_pipeline(pipe: Any, patch: Patch) -> None:
    """Put a patch on a plain diffusers pipeline, in place. Names and shapes are checked, the base is not."""
    mine = full_names("unet", pipe.unet) | full_names("text_encoder", pipe.text_encoder)
    patch._check_tensors(mine)
    with torch.no_grad():
        for name, value in patch.tensors.items():
            mine[name].copy_(value)


def _check_values(tensors: Mapping[str, Tensor], card: PatchCard, inside: PatchCard, beside: str) -> None:
    """ValueError if tensors, the card beside the file and the card in its metadata do not belong together."""
    if card != inside:
        raise ValueError(f"{beside} beside it is not the card in its metadata (delete the former to go by the latter)")
    if tuple(sorted(tensors)) != tuple(sorted(card.tensors)):
        raise ValueError("its tensors are not those that its card names")
    odd = [name for name, value in tensors.items() if value.dtype != torch.float32]
    if odd:
        raise ValueError(f"{odd[0]!r} is {str(tensors[odd[0]].dtype).removeprefix('torch.')}, not float32")
    broken = [name for name, value in tensors.items() if not bool(value.isfinite().all())]
    if broken:
        raise ValueError(f"{broken[0]!r} holds values that are not finite")


def _patch_file(path: str | Path) -> Path:
    path = Path(path)
    named = path.suffix in {".safetensors", ".json"}
    return path.with_suffix(".safetensors") if named else path / "patch.safetensors"


def _texts_file(file: Path) -> Path:
    """Where the texts of the patch at `file` lie: "prompts.json" in a patch's folder, else by the patch's name."""
    return file.with_name("prompts.json" if file.name == "patch.safetensors" else f"{file.stem}.prompts.json")


def _texts_json(texts: Mapping[str, Sequence[str]]) -> str:
    return json.dumps({use: list(mine) for use, mine in sorted(texts.items())}, indent=2, ensure_ascii=False) + "\n"


def _texts_hash(texts: Mapping[str, Sequence[str]]) -> str:
    return files.text_digest(_texts_json(texts)) if texts else ""


def _read_texts(file: Path, card: PatchCard) -> dict[str, tuple[str, ...]]:
    """The texts beside a patch; none where the file is not there, or the patch is older than such files.

    Raises:
        ModelError: a file of another patch, or a damaged one.
    """
    if not card.texts_hash or not file.is_file():
        return {}
    try:
        texts = {str(use): tuple(map(str, mine)) for use, mine in json.loads(file.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} cannot be read: {error}", accepted="the file as the edit wrote it",
                         remedy="delete it: the patch works without") from error
    if _texts_hash(texts) != card.texts_hash:
        raise ModelError(f"{file} does not belong to the patch beside it", accepted="the file as the edit wrote it",
                         remedy="delete it: the patch works without")
    return texts
