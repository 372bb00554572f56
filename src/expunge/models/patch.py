"""A patch: what an edit changed, on disk with a card, on a model and off again.

| kind | `patch.safetensors` holds, in the number type that the card names | weights become |
| --- | --- | --- |
| `replace` | new values: "unet/<parameter>", "text_encoder/<parameter>" | these |
| `add` | differences, under the same names | W + scale D |
| `lora` | factors: "unet/<layer>.lora_A.weight" (r, in, ...) and "lora_B" (out, r, ...) | W + scale B A |

Sums are taken in float32 and rounded once, to the number type of the weights. The card is in `patch.json` and in the
tensor file's metadata, so that the one file is enough. All texts that the edit trained on or held on to are in
`prompts.json` beside it, which need not be copied along; the card has the hash of it. `models.pipeline` puts a patch on
a pipeline of plain diffusers.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, get_args

import torch
from torch import Tensor

from expunge import files, runtime, untrusted
from expunge.errors import ModelError, TrainingError, UserError
from expunge.models.hashing import tensors_hash
from expunge.models.hub import fetched, on_hub
from expunge.models.identity import HALVES
from expunge.models.process import Process
from expunge.records import PatchCard, Request
from expunge.records.card import Kind

NUMBERS = {"float32": torch.float32, **HALVES}
"""Number types in which patches are stored."""
A, B = ".lora_A.weight", ".lora_B.weight"
"""How the names of a LoRA's factors end."""


class Base(Protocol):
    """What a patch asks of the model that it was made on, or is to be put on (see `models.model.Model`)."""

    name: str
    parts: str
    held: str

    @property
    def hash(self) -> str: ...
    @property
    def encoder_hash(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def process(self) -> Process: ...
    def rounded(self, kind: str = "") -> Mapping[str, str]: ...
    def editable(self) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True, eq=False, repr=False)
class Patch:
    """The result of an edit. Two are equal if their cards (with the hash of the tensors) and their texts are.

    Attributes:
        tensors: what it holds by name, on the CPU.
        card: what was done, to which base model, how.
        texts: what the edit was made from, by use: "erase" (asked for the concept), "instead" (took its place) and
            "keep" (had to stay). Empty where that was not recorded, or the file of it did not come along.
    """

    tensors: Mapping[str, Tensor]
    card: PatchCard
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        return (self.card, self.texts) == (other.card, other.texts) if isinstance(other, Patch) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        card = self.card
        return f"<Patch {self.hash[:8]}: {card.method} of {card.request.title!r}, {len(self.tensors)} tensors>"

    @property
    def hash(self) -> str:
        """Content hash of the tensors: what decides the images."""
        return self.card.tensors_hash

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], *, model: Base, request: Request, method: str,
           settings: Mapping[str, Any], seed: int, losses: Mapping[str, list[float]] | None = None,
           seconds: float = 0.0, steps: int = 0, texts: Mapping[str, Sequence[str]] | None = None,
           left_out: Mapping[str, str] | None = None, kind: Kind = "replace", scale: float = 1.0,
           processes: int = 1) -> Patch:
        """A patch of `model` from `tensors` as its kind has them; hashes, versions and date are filled in.

        They stay in their number type, if it is one of `NUMBERS` and the same for all; else float32.

        Raises:
            TrainingError: a value is not finite.
            UserError: tensors that are not those of the kind, or a scale that is no finite number.
        """
        if kind not in get_args(Kind) or not math.isfinite(scale):
            raise UserError(f"a patch of kind {kind!r} with scale {scale!r}",
                            accepted=f"one of {', '.join(get_args(Kind))}, with a finite scale")
        if kind == "lora" and (odd := _no_factors(tensors)):
            raise UserError(f"{odd!r} in a patch of kind lora", accepted="both factors of every layer")
        types = {tensor.dtype for tensor in tensors.values()}
        number = next(iter(types)) if len(types) == 1 and types <= {*NUMBERS.values()} else torch.float32
        values = {name: tensor.detach().to("cpu", number, copy=True).contiguous() for name, tensor in tensors.items()}
        broken = [name for name, value in values.items() if not bool(value.isfinite().all())]
        if broken:
            raise TrainingError(f"the edit made {len(broken)} tensors hold values that are not finite, {broken[0]!r} "
                                "first", accepted="finite weights",
                                remedy="lower the learning rate (with refresh: update.gamma)")
        by_use = {use: tuple(mine) for use, mine in (texts or {}).items()}
        card = PatchCard(request=request, base=model.name, base_hash=model.hash, base_process=model.process.description,
                         base_encoder=model.encoder_hash, base_parts=model.parts, base_rounded=model.rounded(),
                         base_family=model.family, base_held=model.held,
                         method=method, settings=dict(settings),
                         kind=kind, scale=scale, dtype=str(number).removeprefix("torch."),
                         tensors=tuple(sorted(values)), tensors_hash=_content(values, kind, scale),
                         texts_hash=_texts_hash(by_use), left_out=dict(left_out or {}), seed=seed,
                         versions=runtime.versions(), losses=dict(losses or {}), seconds=seconds, steps=steps,
                         processes=processes, created=datetime.now(timezone.utc).isoformat(timespec="seconds"))
        return cls(values, card, by_use)

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
        """Read a patch from its folder or either of its files, or by its name on the Hub (hf://OWNER/NAME@REVISION).

        Raises:
            ModelError: missing or damaged, or tensors and card that do not belong together.
        """
        file = _patch_file(fetched(path) if isinstance(path, str) and on_hub(path) else path)
        if not file.is_file():
            raise ModelError(f"no patch at {path}",
                             accepted="a folder with patch.safetensors, or a .safetensors file",
                             remedy=_last_state(Path(path)))
        beside = file.with_suffix(".json")
        try:
            with untrusted.tensors(file) as opened:
                inside = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no dict)
            text = untrusted.text(beside) if untrusted.there(beside) else inside["card"]
            card = PatchCard.read(text)
            _check_values(tensors, card, PatchCard.read(inside.get("card", text)), beside.name)
        except KeyError as error:
            raise ModelError(f"patch {file} has no card", remedy="copy the card too",
                             accepted=f"{beside.name} beside it, or a card in its metadata") from error
        except (OSError, ValueError) as error:
            raise ModelError(f"patch {file} cannot be read: {error}", accepted="a patch that expunge wrote",
                             remedy="copy or make it again") from error
        found = _content(tensors, card.kind, card.scale)
        if found != card.tensors_hash:
            raise ModelError(f"patch {file} is damaged: its tensors hash to {found[:12]}",
                             accepted=f"{card.tensors_hash[:12]}, as its card says",
                             remedy="copy or make it again")
        return cls(tensors, card, _read_texts(_texts_file(file), card))

    @cached_property
    def weights(self) -> tuple[str, ...]:
        """Full names of the weights that it changes."""
        if self.card.kind != "lora":
            return tuple(self.tensors)
        return tuple(name.replace(A, ".weight") for name in self.tensors if name.endswith(A))

    @property
    def numel(self) -> int:
        """How many numbers of the model it may change."""
        return sum(math.prod(self.shape(name)) for name in self.weights)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of the weight of that full name; of a convolution under a LoRA (out, in, ...)."""
        if self.card.kind != "lora":
            return tuple(self.tensors[name].shape)
        down, up = self._factors(name)
        return (len(up), *down.shape[1:])

    def value(self, name: str, weight: Tensor) -> Tensor:
        """What it makes of the weight of that full name, on the weight's device; float32, or as it is stored."""
        if self.card.kind == "replace":
            return self.tensors[name]
        if self.card.kind == "add":
            return weight.float() + self.card.scale * self.tensors[name].to(weight.device, torch.float32)
        down, up = (factor.to(weight.device, torch.float32).flatten(1) for factor in self._factors(name))
        return weight.float() + self.card.scale * (up @ down).reshape(weight.shape)

    def _factors(self, name: str) -> tuple[Tensor, Tensor]:
        layer = name.removesuffix(".weight")
        return self.tensors[layer + A], self.tensors[layer + B]

    @property
    def in_encoder(self) -> bool:
        """Whether it changes text encoders and nothing else."""
        return bool(self.tensors) and all(_of_text(name) for name in self.tensors)

    def made_on(self, model: Base) -> bool:
        """Whether `model` is the base to the bit; what an older card does not tell is not compared."""
        card = self.card
        return (card.base_hash == model.hash and card.base_process in ("", model.process.description)
                and card.base_parts in ("", model.parts))

    def check(self, model: Base, tensors: Mapping[str, Tensor]) -> str:
        """Whether the patch fits `model`, whose tensors are `tensors`.

        A patch of the text encoder alone fits every model with the same text encoder: what such a patch changes is what
        the network is told, whatever network that is. A copy of the base in a smaller number type has other numbers and
        is the base all the same, if the base's numbers rounded to that type are the copy's.

        Returns:
            What must be said of a base that is not the patch's own to the bit; "" of one that is.

        Raises:
            ModelError: made for other weights, prediction or noise schedule, or a tensor that is not there or
                has another shape.
        """
        card, remedy = self.card, "load the patch's own base model"
        if self.in_encoder and card.base_encoder == model.encoder_hash:
            self._check_tensors(tensors)
            return ""
        only_text = self.in_encoder and bool(card.base_encoder)
        rounded = "" if card.base_hash == model.hash else self.rounded_alike(model, only_text)
        if self.in_encoder and card.base_encoder:
            if rounded:
                self._check_tensors(tensors)
                return self._note(model, rounded)
            remedy += f", or another with its text encoder ({card.base_encoder[:12]}; here {model.encoder_hash[:12]})"
        if card.base_hash != model.hash and not rounded:
            of, here = ("", "") if card.base_family in ("", model.family) else (f", {card.base_family}",
                                                                                f", {model.family}")
            raise ModelError(f"a patch for {card.base} ({card.base_hash[:12]}{of})", remedy=remedy,
                             accepted=f"patches for the loaded model, {model.name} ({model.hash[:12]}{here})")
        if card.base_process not in ("", model.process.description):
            raise ModelError(f"a patch for {card.base} with {card.base_process}",
                             remedy=remedy, accepted=f"patches for the loaded model, {model.name} with "
                                                     f"{model.process.description}")
        self._check_tensors(tensors)
        return self._note(model, rounded)

    def _note(self, model: Base, rounded: str) -> str:
        notes = [] if not rounded else [f"{model.name} is {self.card.base} as far as {rounded} tells: the numbers are "
                                        f"equal when they are rounded to {rounded}"]
        if self.card.base_parts and self.card.base_parts != model.parts and not self.in_encoder:
            notes.append(f"{model.name} has the weights of {self.card.base}, but reads or computes otherwise "
                         "(tokenizer or configs differ): look at what the patch does here")
        return "; ".join(notes)

    def rounded_alike(self, model: Base, only_text: bool = False) -> str:
        """The number type in which the base's components (or its text encoders) and the model's are equal; "" if none.
        """
        theirs = self.card.base_rounded
        for kind in dict.fromkeys(name.partition("/")[0] for name in theirs):
            mine = model.rounded(kind)
            names = [name for name in {**theirs, **mine} if name.startswith(f"{kind}/")
                     and (not only_text or _of_text(name.partition("/")[2]))]
            if names and all(name in theirs and theirs[name] == mine.get(name) for name in names):
                return kind
        return ""

    def _check_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        for name in self.weights:
            if name not in tensors:
                raise ModelError(f"the patch changes {name!r}, which this model does not have")
            if self.shape(name) != tuple(tensors[name].shape):
                raise ModelError(f"the patch's {name!r} is {self.shape(name)}",
                                 accepted=f"{tuple(tensors[name].shape)}, as in this model")


def check_given(model: Any, patch: Any, or_none: bool = False) -> None:
    """UserError: what a caller gave is no model or no patch (or None for no patch, where that may be)."""
    if not hasattr(model, "parameters_in"):
        raise UserError(f"{model!r} as the model", accepted="what expunge.load returns")
    if not (isinstance(patch, Patch) or (or_none and patch is None)):
        raise UserError(f"{patch!r} as the patch", accepted="what expunge.erase or Patch.load returns")


_MOVED = {"load_into_pipeline": "pipeline", "acting": "pipeline", "applied": "model"}
"""What lived here before 0.2, and in which module of this folder it lives now."""


def __getattr__(name: str) -> Any:
    """Old places of functions still work. AttributeError: there never was such a name here."""
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"expunge.models.{_MOVED[name]}"), name)


def stacked(first: Patch | None, second: Patch, model: Base, request: Request) -> Patch:
    """One patch of `model` in the place of two: `first` (None: nothing), and `second`, made on top of it.

    Where both change a tensor the second's values hold, for it went on from the first's; what adds to weights adds to
    the first's. The card says what was done second, and that all of `request` was asked for.

    Raises:
        ModelError: `first` was made for another model.
    """
    if first is not None and (first.card.base_hash, first.card.base_process) != (model.hash, model.process.description):
        raise ModelError(f"a patch for {first.card.base} ({first.card.base_hash[:12]}, {first.card.base_process})",
                         accepted=f"patches for {model.name} ({model.hash[:12]}, {model.process.description})")
    card, parts = second.card, [part for part in (first, second) if part is not None]
    base, values = ({} if all(part.card.kind == "replace" for part in parts) else model.editable()), dict[str, Tensor]()
    for part in parts:
        for name in part.weights:
            values[name] = part.value(name, values[name] if name in values else base.get(name, torch.empty(0)))
    return Patch.of(values, model=model, request=request,
                    method=card.method, settings=card.settings, seed=card.seed, losses=card.losses,
                    seconds=card.seconds, steps=card.steps, texts=second.texts, left_out=card.left_out)


def _content(tensors: Mapping[str, Tensor], kind: Kind, scale: float) -> str:
    """Content hash of what a patch changes; of new values that of the tensors."""
    own = tensors_hash(tensors)
    return own if kind == "replace" else hashlib.sha256(json.dumps([kind, scale, own]).encode()).hexdigest()


def _of_text(name: str) -> bool:
    """Whether a component, or the component of a tensor's full name, is a text encoder."""
    return name.startswith("text_encoder")


def _check_values(tensors: Mapping[str, Tensor], card: PatchCard, inside: PatchCard, beside: str) -> None:
    """ValueError if tensors, the card beside the file and the card in its metadata do not belong together."""
    if card != inside:
        raise ValueError(f"{beside} beside it is not the card in its metadata (delete the former to go by the latter)")
    if tuple(sorted(tensors)) != tuple(sorted(card.tensors)):
        raise ValueError("its tensors are not those that its card names")
    odd = [name for name, value in tensors.items() if value.dtype != NUMBERS.get(card.dtype)]
    if odd:
        raise ValueError(f"{odd[0]!r} is {str(tensors[odd[0]].dtype).removeprefix('torch.')}, not {card.dtype}")
    if card.kind == "lora" and _no_factors(tensors):
        raise ValueError("it holds other things than both factors of every layer")
    broken = [name for name, value in tensors.items() if not bool(value.isfinite().all())]
    if broken:
        raise ValueError(f"{broken[0]!r} holds values that are not finite")


def _no_factors(names: Iterable[str]) -> str:
    """One of the names that is no factor of a LoRA, or whose other factor is missing; "" if there is none."""
    there = {*names}
    other = {name: name.removesuffix(A) + B if name.endswith(A) else name.removesuffix(B) + A for name in there}
    return next((name for name in sorted(there) if not name.endswith((A, B)) or other[name] not in there), "")


def _last_state(folder: Path) -> str:
    """What to say where a folder is that of a sequence: which of its states is the last."""
    states = sorted((folder / "states").glob("*/patch.safetensors"))
    return f"the sequence's last state is {states[-1].parent}" if states else ""


def _patch_file(path: str | Path) -> Path:
    if not isinstance(path, str | Path):
        raise UserError(f"{path!r} as the place of a patch",
                        accepted="a folder, or a .safetensors file in one, as text or Path")
    if not str(path):
        raise UserError("'' as the place of a patch", accepted="a folder, or a .safetensors file in one")
    path = files.at_home(path)
    named = path.suffix in {".safetensors", ".json"}
    return path.with_suffix(".safetensors") if named else path / "patch.safetensors"


def files_of(path: str | Path) -> tuple[Path, ...]:
    """All files of the patch at a place (`Patch.save`), whether they are there or not: tensors, card, texts."""
    file = _patch_file(path)
    return file, file.with_suffix(".json"), _texts_file(file)


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
        texts = {str(use): tuple(map(str, mine)) for use, mine in untrusted.json_of(file).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} cannot be read: {error}", accepted="the file as the edit wrote it",
                         remedy="delete it: the patch works without") from error
    if _texts_hash(texts) != card.texts_hash:
        raise ModelError(f"{file} does not belong to the patch beside it", accepted="the file as the edit wrote it",
                         remedy="delete it: the patch works without")
    return texts
