"""LoRAs in the dialects of diffusers, kohya and ComfyUI: factors of every weight's change (`exports.low_rank`).

A patch that is a LoRA already is carried as it is. In layouts with fused projections a layer's `up` lies in its own
rows, with zeros elsewhere; layers that share a tensor stand side by side, ranks added up:

    [D_q; 0; D_v] = [up_q 0; 0 0; 0 up_v] [down_q; down_v]

In diffusers' dialect the scale is 1 and no metadata say otherwise, for most programs do not read these. In the others
`.alpha` says it, the same in every layer: with several, diffusers takes the most frequent for all layers whose names it
had to translate. Where ranks differ, `up` is scaled to that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from expunge.errors import ModelError
from expunge.exports.base import Base, Change, changes
from expunge.exports.headers import about, of_kohya
from expunge.exports.low_rank import Factors, factored, noise, pays
from expunge.exports.spelling import SPELLINGS, totals, why_not
from expunge.exports.tensor_file import write_whole
from expunge.exports.writing import Job, Written, check_finite, refuse_or_leave, words
from expunge.models.original import Place
from expunge.models.patch import NUMBERS, A, B

_STRENGTH = ("a LoRA acts by its strength: at 0 the edit is off, and whoever has the file can leave it out; below 1 it "
             "is weaker")


@dataclass(frozen=True)
class _Part:
    """A weight's factors, and which rows of which named layer they belong to."""

    name: str
    place: Place
    rows: int
    factors: Factors


def write_diffusers(job: Job, path: Path) -> Written:
    """For `pipe.load_lora_weights`. Raises: as `_write`."""
    from expunge.exports.readers import loadable

    return _write(job, path, "diffusers", loadable(job.base.kind))


def write_kohya(job: Job, path: Path) -> Written:
    """For A1111, Forge, ComfyUI and kohya's own tools. Raises: as `_write`."""
    return _write(job, path, "kohya", job.base.editable)


def write_comfy(job: Job, path: Path) -> Written:
    """For ComfyUI, by the names of the model that it has loaded. Raises: as `_write`."""
    return _write(job, path, "comfy", job.base.editable)


def _write(job: Job, path: Path, dialect: str, loadable: tuple[str, ...]) -> Written:
    """Write the file.

    Raises:
        UserError: weights that a LoRA cannot carry, without leave to drop them; a family without a map.
        ModelError: nothing is left to be carried, or a factor is not finite in the number type.
    """
    base, spell = job.base, SPELLINGS[dialect]
    tally = refuse_or_leave(job, lambda name: why_not(base, name, loadable))
    parts: dict[str, list[_Part]] = {}
    for change, factors in _factors(job, tally.left):
        component, _, layer = change.name.removesuffix(".weight").partition("/")
        place = spell(base, component, layer)
        parts.setdefault(place.key, []).append(_Part(change.name, place, len(change.before), factors))
    if not parts:
        raise ModelError("no weight of the patch is left for a LoRA", accepted="changes of linear or convolutional "
                         "layers", remedy="export to another format")
    tensors, ranks, made = _stacked(parts, totals(base, spell), job.dtype, with_alpha=dialect != "diffusers")
    keys = {part.name: key for key, mine in parts.items() for part in mine}
    for change in changes(job.patch, base):
        if change.name in made:
            factors = made[change.name]
            check_finite(change.name, factors.up)
            check_finite(change.name, factors.down)
            got = factors.product()
            changed = int((change.after != change.before.float()).sum())
            tally.add(change, got, (changed, min(changed, int((got != 0).sum()))), key=keys[change.name],
                      rank=factors.rank, kept=factors.kept)
    cut = any(factors.cut for factors in made.values())
    spectrum = f"kept energy {job.energy:g}, rank {min(ranks.values())} to {max(ranks.values())}" if cut else "exact"
    header = about(base, job.patch, out=job.out, title=job.title, adapter="lora", spectrum=spectrum,
                   implementation="diffusers" if dialect == "diffusers" else "")
    header |= of_kohya(base, tensors, job.out) if dialect != "diffusers" else {}
    write_whole(path, tensors, header, kohya=dialect != "diffusers")

    def expected(change: Change) -> Tensor:
        return (change.before.double() + made[change.name].product().reshape(change.before.shape)).float()

    return tally.written(expected, words(job.dtype), _notes(base, made, job), cut)


def _factors(job: Job, without: Collection[str]) -> Iterator[tuple[Change, Factors]]:
    """Every weight's change that is carried, with its factors."""
    patch = job.patch
    number = NUMBERS[patch.card.dtype]
    for change in changes(patch, job.base):
        if change.name in without:
            continue
        if patch.card.kind == "lora":
            layer = change.name.removesuffix(".weight")
            yield change, Factors(patch.tensors[layer + A], patch.tensors[layer + B], patch.card.scale)
            continue
        rounded = change.after if patch.card.kind == "replace" else change.delta
        yield change, factored(change.delta, energy=job.energy, cap=job.rank, floor=noise(rounded, number),
                               number=torch.float32)


def _stacked(parts: Mapping[str, list[_Part]], rows: Mapping[str, int], number: torch.dtype, *, with_alpha: bool
             ) -> tuple[dict[str, Tensor], dict[str, int], dict[str, Factors]]:
    """The file's tensors, the ranks of its layers, and each weight's factors as the file has them, by full name."""
    tensors, ranks, made = dict[str, Tensor](), dict[str, int](), dict[str, Factors]()
    scales = {part.factors.scale for mine in parts.values() for part in mine}
    scale = scales.pop() if with_alpha and len(scales) == 1 else None
    most = max(sum(part.factors.rank for part in mine) for mine in parts.values())
    for key, mine in parts.items():
        down = torch.cat([part.factors.down for part in mine]).to(number)
        up = torch.zeros(rows.get(key, mine[0].rows), len(down), *mine[0].factors.up.shape[2:], dtype=number)
        wanted = (1.0 if scale is None else scale) * most if with_alpha else float(len(down))
        alpha = float(torch.tensor(wanted))  # as the file holds it
        first = 0
        for part in mine:
            own, columns = part.factors, slice(first, first + part.factors.rank)
            change = own.scale * len(down) / alpha
            part.place.put(up[:, columns], (own.up if change == 1 else own.up.double() * change).to(number))
            made[part.name] = Factors(down[columns], part.place.taken(up[:, columns], part.rows), alpha / len(down),
                                      own.kept)
            first += own.rank
        ranks[key] = len(down)
        ends = ("lora_down", "lora_up") if with_alpha else ("lora_A", "lora_B")
        tensors |= {f"{key}.{ends[0]}.weight": down, f"{key}.{ends[1]}.weight": up}
        if with_alpha:
            tensors[f"{key}.alpha"] = torch.tensor(alpha)
    return tensors, ranks, made


def _notes(base: Base, made: Mapping[str, Factors], job: Job) -> tuple[str, ...]:
    large = [name for name, factors in made.items()
             if not pays(factors.rank, len(factors.up), factors.down[0].numel())]
    short = [name for name, factors in made.items() if factors.kept is not None and factors.kept < job.energy]
    out = [_STRENGTH]
    if large:
        out.append(f"{len(large)} of {len(made)} weights take more room as factors than whole: the full difference "
                   "(diff-comfy, diff-kohya) would be smaller, and exact")
    if short:
        out.append(f"{len(short)} of {len(made)} weights keep less than {job.energy:g} of their energy under rank "
                   f"{job.rank}")
    if job.patch.in_encoder and len(base.texts) > 1:
        out.append("only some of the text encoders change")
    return tuple(out)


