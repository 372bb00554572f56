"""A text encoder as a plug-in: saved alone, opened by plain transformers, laid on another model that shares it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTextModel

from expunge.cli import run
from expunge.errors import ModelError, UserError
from expunge.models.model import applied
from expunge.models.patch import Patch
from expunge.models.scope import full_names
from expunge.models.store import load, merge
from expunge.records import Request

REQUEST = Request(concept="church", prompts=("a church on a hill",))


def shifted(model: Any, scope: str = "text") -> Patch:
    draw = torch.Generator().manual_seed(1)
    tensors = {name: p + 0.1 * torch.randn(p.shape, generator=draw) for name, p in model.parameters_in(scope).items()}
    return Patch.of(tensors, model=model, request=REQUEST, method="noise", settings={}, seed=0)


def relative(folder: Path, out: Path, component: str) -> Any:
    """Another model of the family: the folder's with one component's weights changed."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    with torch.no_grad():
        for p in getattr(pipe, component).parameters():
            p.mul_(1.05)
    pipe.save_pretrained(out, safe_serialization=True)
    return load(out, device="cpu")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_plain_transformers_opens_the_encoder_alone(model: Any, pipeline_folder: Path, tmp_path: Path, dtype: str
                                                    ) -> None:
    patch, out = shifted(model), tmp_path / "encoder"
    assert merge(pipeline_folder, patch, out, dtype, only="text_encoder") == out
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]
    assert not (out / "unet").exists()
    opened = CLIPTextModel.from_pretrained(out)
    with applied(model, patch):
        wanted = {name: p.detach().clone() for name, p in model.parameters_of("text").items()}
    for name, p in full_names("text_encoder", opened).items():
        torch.testing.assert_close(p.float(), wanted[name], rtol=2e-3, atol=1e-3 if dtype == "float16" else 0)
    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder, text_encoder=opened.float(), safety_checker=None,
                                                   requires_safety_checker=False)
    assert pipe.text_encoder is opened
    assert '"church"' in (out / "expunge-patch.json").read_text(encoding="utf-8")


def test_patch_of_the_encoder_goes_onto_another_model_that_shares_it(model: Any, pipeline_folder: Path, tmp_path: Path
                                                                     ) -> None:
    patch = Patch.load(shifted(model).save(tmp_path / "patch"))
    other = relative(pipeline_folder, tmp_path / "other", "unet")
    assert other.hash != model.hash
    assert other.encoder_hash == model.encoder_hash == patch.card.base_encoder
    before = tuple(p.detach().clone() for p in other.texts[0].module.parameters())
    with applied(other, patch), applied(model, patch):
        torch.testing.assert_close(other.encode(["a church"]).states, model.encode(["a church"]).states)
        assert not torch.equal(other.network.conv_in.weight, model.network.conv_in.weight)
    assert all(torch.equal(a, b) for a, b in zip(before, other.texts[0].module.parameters(), strict=True))


def test_encoder_hash_does_not_depend_on_the_number_type_or_on_a_patch(model: Any, pipeline_folder: Path) -> None:
    assert load(pipeline_folder, device="cpu", dtype="bfloat16").encoder_hash == model.encoder_hash
    with applied(model, shifted(model)):
        assert model.encoder_hash == load(pipeline_folder, device="cpu").encoder_hash


@pytest.mark.slow
def test_patch_of_the_encoder_is_refused_where_the_encoder_is_another(model: Any, pipeline_folder: Path, tmp_path: Path
                                                                      ) -> None:
    other = relative(pipeline_folder, tmp_path / "other", "text_encoder")
    with pytest.raises(ModelError, match="or another with its text encoder") as caught:
        other.apply(shifted(model))
    assert model.encoder_hash[:12] in str(caught.value)
    assert other.encoder_hash[:12] in str(caught.value)
    nameless = shifted(model)
    old = Patch(nameless.tensors, nameless.card.model_copy(update={"base_encoder": ""}))  # as earlier cards are
    model.apply(old)
    with pytest.raises(ModelError, match="a patch for"):
        relative(pipeline_folder, tmp_path / "third", "unet").apply(old)


def test_patch_that_changes_the_unet_too_is_tied_to_its_base(model: Any, pipeline_folder: Path, tmp_path: Path) -> None:
    patch = shifted(model, "all")
    with pytest.raises(ModelError, match="a patch for"):
        relative(pipeline_folder, tmp_path / "other", "unet").apply(patch)
    with pytest.raises(UserError, match="outside the text encoder, 'unet/"):
        merge(pipeline_folder, patch, tmp_path / "out", only="text_encoder")
    with pytest.raises(UserError, match="only 'vae'"):
        merge(pipeline_folder, shifted(model), tmp_path / "out", only="vae")
    assert not (tmp_path / "out").exists()


def test_command_writes_the_encoder_and_says_how_to_open_it(model: Any, pipeline_folder: Path, tmp_path: Path,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    shifted(model).save(tmp_path / "patch")
    out = tmp_path / "encoder"
    told = ["merge", str(tmp_path / "patch"), "--model", str(pipeline_folder), "--only", "text-encoder"]
    assert run([*told, "--out", str(out)]) == 0
    assert f'CLIPTextModel.from_pretrained("{out}")' in capsys.readouterr().out
    assert (out / "model.safetensors").is_file()
