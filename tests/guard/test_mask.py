"""Masks on disk and in the published format: whole, of the right model, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from expunge.errors import ModelError, UserError
from expunge.guard import check_mask, export_positions, import_positions, load_mask, random_mask, save_mask
from expunge.guard.mask import content_hash, mask_of
from expunge.models.model import Model, applied
from expunge.models.patch import Patch
from expunge.models.store import load
from expunge.records import Request


def test_mask_goes_to_disk_and_back(model: Model, tmp_path: Path) -> None:
    mask = random_mask(model, 0.4, 1)
    assert save_mask(tmp_path, mask) == tmp_path / "mask.json"
    assert load_mask(tmp_path) == load_mask(tmp_path / "mask.json") == mask
    assert mask.frozen
    assert mask.trainable
    assert not set(mask.frozen) & set(mask.trainable)
    assert set(mask.frozen) | set(mask.trainable) == set(model.parameters_of("denoiser"))
    assert mask.tensors[mask.frozen[0]].sha256 == content_hash(
        mask.frozen[0], model.parameters_of("denoiser")[mask.frozen[0]])


@pytest.mark.parametrize("by", ["numel", "count"])
@pytest.mark.parametrize("granularity", ["tensor", "module"])
def test_random_masks_have_the_ratio_and_a_seed(model: Model, by: Any, granularity: Any) -> None:
    first, again, other = (random_mask(model, 0.5, seed, by=by, granularity=granularity) for seed in (0, 0, 1))
    assert first.frozen == again.frozen != other.frozen
    assert first.share(by) == pytest.approx(0.5, abs=0.02)
    with pytest.raises(UserError, match="ratio of 2"):
        random_mask(model, 2.0)


def flipped(told: dict[str, Any]) -> None:
    name = next(name for name, tensor in told["tensors"].items() if not tensor["frozen"])
    told["tensors"][name]["frozen"] = True


def rehashed(told: dict[str, Any]) -> None:
    name = next(name for name, tensor in told["tensors"].items() if not tensor["frozen"])
    told["tensors"][name] |= {"frozen": True, "sha256": "0" * 64}


@pytest.mark.parametrize(("edit", "says"), [
    (flipped, "frozen without a hash"), (rehashed, "edited by hand"),
    (lambda told: told.update(ratio=3), "ratio"), (lambda told: told.update(extra=1), "extra"),
    (lambda told: told.update(tensors={}), "tensors"), (lambda told: told.pop("model_hash"), "model_hash")])
def test_a_mask_that_was_edited_by_hand_is_refused(model: Model, tmp_path: Path, edit: Any, says: str
                                                   ) -> None:
    file = save_mask(tmp_path, random_mask(model, 0.4))
    told = json.loads(file.read_text())
    edit(told)
    file.write_text(json.dumps(told))
    with pytest.raises(ModelError, match=says):
        load_mask(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}'])
def test_a_damaged_mask_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "mask.json").write_text(text)
    with pytest.raises(ModelError, match="cannot be read"):
        load_mask(tmp_path)
    with pytest.raises(ModelError, match="no mask at"):
        load_mask(tmp_path / "nowhere")


def test_a_mask_for_another_model_is_refused(model: Model, v_pipeline_folder: Path) -> None:
    mask, other = random_mask(model, 0.4), load(v_pipeline_folder, device="cpu")
    check_mask(mask, model)
    with pytest.raises(ModelError, match="a mask for"):
        check_mask(mask, other)
    odd = mask.model_copy(update={"tensors": dict(list(mask.tensors.items())[1:])})
    with pytest.raises(ModelError, match="is missing or has another size"):
        check_mask(odd, model)


def test_a_mask_belongs_to_the_patch_that_was_on(model: Model) -> None:
    name = next(iter(model.parameters_in("xattn")))
    patch = Patch.of({name: model.parameters_in("xattn")[name].detach() + 1}, model=model, method="test", settings={},
                     seed=0, request=Request(concept="church", prompts=("a church",)))
    with applied(model, patch):
        mask = mask_of(model, [name], method="test", ratio=0.1)
        check_mask(mask, model)
    with pytest.raises(ModelError, match=r"patch .* on"):
        check_mask(mask, model)
    assert mask.tensors[name].sha256 != content_hash(name, model.parameters_in("xattn")[name])


def test_weights_that_were_cast_have_no_mask(pipeline_folder: Path) -> None:
    with pytest.raises(UserError, match="bfloat16"):
        random_mask(load(pipeline_folder, device="cpu", dtype="bfloat16"), 0.5)


def test_unknown_names_are_refused(model: Model) -> None:
    with pytest.raises(UserError, match="no tensor of the UNet"):
        mask_of(model, ["unet/nothing"], method="test", ratio=0.1)


def test_published_format_is_read_by_numpy_and_back(model: Model, tmp_path: Path) -> None:
    mask = random_mask(model, 0.4)
    file = export_positions(tmp_path / "mask.txt", mask, model)
    by_position = np.loadtxt(file)  # as the published training scripts do
    for frozen, name in zip(by_position, model.parameters_of("denoiser"), strict=True):
        assert bool(frozen) == mask.tensors[name].frozen
    back = import_positions(file, model)
    assert back.frozen == mask.frozen
    assert back.method == "positional"


def test_bare_positions_are_read(model: Model, tmp_path: Path) -> None:
    names = tuple(model.parameters_of("denoiser"))
    np.savetxt(tmp_path / "mask.txt", torch.tensor([k % 2 for k in range(len(names))]).float().numpy())
    assert import_positions(tmp_path / "mask.txt", model).frozen == names[1::2]


@pytest.mark.parametrize(("change", "says"), [
    (lambda lines: lines[:-1], "lines"), (lambda lines: [*lines[:-1], "0.5"], "0.5"),
    (lambda lines: [lines[1], lines[0], *lines[2:]], "where this UNet has"),
    (lambda lines: [*lines[:-1], "frozen"], "cannot be read")])
def test_positions_that_do_not_fit_are_refused(model: Model, tmp_path: Path, change: Any, says: str) -> None:
    file = export_positions(tmp_path / "mask.txt", random_mask(model, 0.4), model)
    file.write_text("\n".join(change(file.read_text().splitlines())))
    with pytest.raises(ModelError, match=says):
        import_positions(file, model)


def test_a_mask_in_another_order_is_not_exported(model: Model, tmp_path: Path) -> None:
    mask = random_mask(model, 0.4)
    turned = mask.model_copy(update={"tensors": dict(reversed(mask.tensors.items()))})
    with pytest.raises(ModelError, match="another order"):
        export_positions(tmp_path / "mask.txt", turned, model)
