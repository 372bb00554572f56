"""What is carried, left out and lost is counted once for all formats, and nothing equals what is not a number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from exported import REQUEST, Case, matrices, shaken

import expunge
from expunge.errors import ModelError, UserError
from expunge.exports import lora
from expunge.exports.base import Change, open_base
from expunge.exports.read_back import read_back
from expunge.exports.writing import Job, Tally, gap
from expunge.models.patch import Patch
from expunge.models.source import Source
from expunge.models.store import located


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_agrees_with_nothing(odd: float) -> None:
    plain, broken = torch.zeros(3), torch.tensor([0.0, odd, 0.0])
    assert gap(broken, plain) == gap(plain, broken) == gap(broken, broken) == float("inf")
    assert gap(plain, torch.tensor([0.0, -0.5, 0.25]).half()) == 0.5


def test_a_file_that_holds_no_numbers_is_not_read_back_as_it_was_meant(case_of: Callable[[str], Case], tmp_path: Path
                                                                       ) -> None:
    """diffusers merges such factors without a word."""
    from safetensors.torch import load_file, save_file

    case, out = case_of("sd"), tmp_path / "x.safetensors"
    source = Source(str(case.folder))
    base, patch = open_base(source, located(source)), shaken(case.model, matrices(case.model, "xattn.kv"))
    job = Job(patch, base, out, torch.float32)
    written = lora.write_diffusers(job, out)
    tensors = load_file(out)
    tensors[min(tensors)].flatten()[0] = float("nan")
    save_file(tensors, out, {"format": "pt"})
    with pytest.raises(ModelError, match="not finite"):
        read_back(job, written, out, "lora-diffusers")
    from expunge.exports.readers import read_by_diffusers

    assert read_by_diffusers(job, written, out, "load_lora_weights").max_abs == float("inf")


def test_a_tally_counts_what_is_carried_what_is_missed_and_what_is_left_out() -> None:
    zeros, tally = torch.zeros(2), Tally()
    tally.add(Change("unet/a", zeros, torch.tensor([3.0, 4.0])), torch.tensor([3.0, 0.0]).double(), (2, 1))
    tally.leave(Change("unet/b", zeros, torch.tensor([0.0, 12.0])), "a bias")
    written = tally.written(lambda change: change.after, "float32")
    assert [entry.error for entry in written.tensors] == [0.8]
    assert written.error == 0.8
    assert written.left_out == {"unet/b": "a bias"}
    assert written.lost == pytest.approx(12 / 13)
    assert written.names == {"unet/a", "unet/b"}
    assert written.meant(Change("unet/b", zeros, zeros + 1)).tolist() == [0, 0]
    assert written.meant(Change("unet/a", zeros, zeros + 1)).tolist() == [1, 1]
    assert Tally().written(lambda change: change.after, "float32").lost == 0


@pytest.mark.parametrize("to", ["lora-kohya", "diff-comfy", "checkpoint"])
def test_only_weights_that_change_can_be_missing(case_of: Callable[[str], Case], tmp_path: Path, to: str) -> None:
    """A patch that lists weights a form cannot carry, and leaves them as they are."""
    case = case_of("sd")
    chosen = matrices(case.model, "xattn.kv")
    idle = {name: p.detach().clone() for name, p in case.model.editable().items() if "token_embedding" in name
            or "position_embedding" in name}
    tensors = {**{name: p.detach() + 0.01 for name, p in chosen.items()}, **idle}
    patch = Patch.of(tensors, model=case.model, request=REQUEST, method="shaken", settings={}, seed=0)
    more = {"original": without_text(case, tmp_path)} if to == "checkpoint" else {}
    record = expunge.export(patch, tmp_path / "x.safetensors", to, model=case.folder, **more)
    assert record.left_out == {}
    assert record.lost == 0
    assert {entry.name for entry in record.tensors} == set(chosen)
    name = min(idle)
    moved = Patch.of({**tensors, name: idle[name] + 1}, model=case.model, request=REQUEST, method="shaken", settings={},
                     seed=0)
    with pytest.raises(UserError, match="1 weight of the patch that this format cannot carry") as caught:
        expunge.export(moved, tmp_path / "y.safetensors", to, model=case.folder, **more)
    assert repr(name) in str(caught.value)
    record = expunge.export(moved, tmp_path / "y.safetensors", to, model=case.folder, drop=True, **more)
    assert set(record.left_out) == {name}


def without_text(case: Case, root: Path) -> Path:
    """The user's file without its text encoder, which the folder lends."""
    from safetensors.torch import save_file

    save_file({key: value for key, value in case.tensors.items() if not key.startswith("cond_stage_model.")},
              root / "own.safetensors")
    return root / "own.safetensors"
