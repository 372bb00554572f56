"""Masks of models whose network is a transformer: trained under, returned as a pipeline's folder, verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.guard import guarded, random_mask, verify
from expunge.models.model import Model
from expunge.records.freezing import FreezeMask
from pipelines_of_families import built, taken


@pytest.fixture(scope="module", params=["sd3", "flux-dev"])
def pipe(request: pytest.FixtureRequest) -> Any:
    return built(request.param)


@pytest.fixture
def published(pipe: Any) -> Model:
    return taken(pipe)


@pytest.fixture
def mask(published: Model) -> FreezeMask:
    return random_mask(published, 0.5, by="count")


def test_the_folder_of_a_returned_pipeline_is_verified(pipe: Any, published: Model, mask: FreezeMask, tmp_path: Path
                                                       ) -> None:
    pipe.save_pretrained(tmp_path / "honest")
    assert not verify(published, tmp_path / "honest", mask).moved
    name = mask.frozen[0]
    before = pipe.transformer.get_parameter(name.partition("/")[2]).detach().clone()
    with torch.no_grad():
        pipe.transformer.get_parameter(name.partition("/")[2]).add_(1.0)
    pipe.save_pretrained(tmp_path / "cheat")
    with torch.no_grad():
        pipe.transformer.get_parameter(name.partition("/")[2]).copy_(before)
    assert verify(published, tmp_path / "cheat", mask).broken == (name,)


def test_a_pipeline_is_guarded_by_its_transformer(pipe: Any, mask: FreezeMask) -> None:
    with guarded(pipe, mask) as guard:
        assert guard.module is pipe.transformer
        assert set(guard.frozen) == set(mask.frozen)
        assert not any(p.requires_grad for p in guard.frozen.values())
