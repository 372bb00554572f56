"""Memory: images are decoded in slices that fit, and what does not fit is said in a line, with what helps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from expunge.cli import run
from expunge.errors import ResourceError
from expunge.models import model as models
from expunge.models.sample import draw
from expunge.records import Sampler
from expunge.runtime import exhausted, memory_for
from expunge.train import run_loop

CUDA = ("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.80 GiB of which 10.50 GiB "
        "is free. Including non-PyTorch memory, this process has 129.30 GiB memory in use.")
CPU = ("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
       "allocate 4294967296 bytes. Error code 12 (Cannot allocate memory)")


def exhausting() -> torch.Tensor:
    """What torch really says: more than any machine has."""
    return torch.empty(2**60)


def test_pictures_are_decoded_by_a_rule_of_their_size_and_alone_as_in_a_crowd(
        model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    z = torch.randn(5, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    sizes: list[int] = []
    whole, decode = model.decode(z), model.components["vae"].decode
    monkeypatch.setattr(model.components["vae"], "decode", lambda z, **how: (sizes.append(len(z)), decode(z, **how))[1])
    assert model.decode(z).equal(whole)
    assert sizes == [5]
    monkeypatch.setattr(models, "AT_ONCE", 16 * 16)
    sizes.clear()
    one_by_one = model.decode(z)
    assert sizes == [1] * 5
    assert all(one_by_one[i:i + 1].equal(model.decode(z[i:i + 1])) for i in range(5))
    torch.testing.assert_close(one_by_one, whole, atol=1e-5, rtol=0)
    pixels = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert model.encode_pixels(pixels)[1:2].equal(model.encode_pixels(pixels[1:2]))


def test_large_pictures_go_through_one_by_one_and_small_ones_together() -> None:
    assert models.together(512, 512) == models.together(1024, 1024) == 1
    assert models.together(64, 64) == 64


def test_what_is_said_of_memory_is_understood() -> None:
    assert exhausted(RuntimeError(CUDA)) == "20.00 GiB more were asked for, 10.50 GiB of 139.80 GiB are free"
    assert str(exhausted(RuntimeError(CPU))).startswith("4.0 GiB more were asked for")
    assert exhausted(MemoryError("Unable to allocate 2.50 TiB for an array")) is not None
    assert exhausted(MemoryError()) is not None
    assert exhausted(RuntimeError("shapes cannot be multiplied")) is None
    assert exhausted(ValueError("out of memory")) is None
    with pytest.raises(RuntimeError) as caught:
        exhausting()
    assert exhausted(caught.value) is not None


def test_drawing_and_training_that_run_out_say_what_took_it_and_what_helps(model: Any, monkeypatch: pytest.MonkeyPatch
                                                                          ) -> None:
    monkeypatch.setattr(model.components["vae"], "decode", lambda *args, **kwargs: exhausting())
    with pytest.raises(ResourceError, match=r"out of memory: decoding 2 images \(.*more were asked for.*--batch"):
        draw(model, [("a church", 0), ("a dog", 1)], Sampler(steps=1))
    monkeypatch.setattr(model.network, "forward", lambda *args, **kwargs: exhausting())
    with pytest.raises(ResourceError, match=r"denoising 2 images together.*--dtype"):
        draw(model, [("a church", 0), ("a dog", 1)], Sampler(steps=1))
    with pytest.raises(ResourceError, match=r"training step 1 of 3.*--scope"):
        run_loop(lambda number: {"loss": float(exhausting().sum())}, 3, {}, {})
    with pytest.raises(RuntimeError, match="no memory matter"), memory_for("a test", ""):
        raise RuntimeError("no memory matter")


def test_every_verb_ends_in_a_line_and_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
                                                    ) -> None:
    monkeypatch.setattr("expunge.models.opening._open", lambda *args, **kwargs: exhausting())
    for verb in (["erase", "church"], ["sample", "a church"]):
        assert run(verb) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: out of memory: ")
        assert "--dtype" in said
