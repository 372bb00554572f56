"""The import rules: who may import whom, and which folder may import which library."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "expunge"

MAY_IMPORT = {
    "errors": "",
    "untrusted": "errors",
    "records": "errors untrusted",
    "files": "errors untrusted",
    "sealed": "untrusted files",
    "extras": "errors",
    "config": "errors untrusted",
    "registry": "errors",
    "interrupts": "",
    "isolated": "",
    "locks": "errors untrusted files",
    "scratch": "errors locks files",
    "resume": "errors untrusted files",
    "pixels": "errors",
    "sheet": "errors files",
    "sampling": "config records",
    "suite_results": "errors records",
    "runtime": "errors untrusted records files config",
    "train": "errors untrusted records files sealed config interrupts resume runtime",
    "models": "errors untrusted records files config registry pixels scratch isolated runtime train",
    "metrics": "errors untrusted records files sealed config registry interrupts pixels runtime",
    "detectors": "errors untrusted records files config registry interrupts runtime metrics",
    "finetune": "errors untrusted records files config registry resume isolated runtime train models",
    "continual": "errors untrusted records files config train",
    "guard": "errors untrusted records files config registry locks resume isolated runtime train finetune models",
    "attacks": "errors untrusted records files sealed config registry interrupts locks resume sampling "
               "suite_results isolated runtime train finetune models metrics detectors",
    "unlearn": "errors untrusted records files config registry locks resume isolated runtime train continual models "
               "attacks",
    "evaluation": "errors untrusted records files config registry pixels locks resume sampling suite_results "
                  "isolated runtime models metrics detectors",
    "protocols": "errors untrusted records files sealed config registry locks resume isolated runtime models "
                 "metrics detectors attacks",
    "report": "errors untrusted records files config locks suite_results",
    "evidence": "errors untrusted records files extras locks scratch runtime models report",
    "hub": "errors untrusted records files config models report evidence",
    "bench": "errors untrusted records files sealed config registry interrupts locks scratch resume isolated "
             "runtime models metrics detectors attacks protocols unlearn evaluation",
    "sequence": "errors untrusted records files config registry locks resume isolated runtime train models metrics "
                "detectors unlearn evaluation continual",
    "exports": "errors untrusted records files config scratch isolated runtime models metrics detectors evaluation "
               "unlearn",
    "tiny": "errors untrusted records files config registry pixels locks resume runtime train models metrics "
            "detectors",
    "demo": "errors untrusted records files config registry sheet locks resume sampling suite_results runtime models "
            "metrics attacks unlearn evaluation report",
    "ui": "errors untrusted records files config registry interrupts locks runtime models metrics attacks unlearn "
          "bench report",
    "cli": "errors untrusted records files extras config registry interrupts pixels sheet locks sampling "
           "suite_results runtime train models finetune metrics detectors attacks protocols unlearn guard evaluation "
           "report evidence hub bench sequence exports demo ui tiny",
    "__init__": "errors untrusted records config models finetune attacks protocols unlearn guard evaluation report "
                "evidence bench sequence exports",
    "__main__": "cli",
}
"""Unit (a root module or a folder) -> the units that it may import. `__init__` does so on first use."""

ONLY_IN = {
    "diffusers": ("models", "exports.readers", "tiny.bake"),
    "accelerate": ("runtime",),
    "filelock": ("locks",),
    "peft": ("models.lora",),
    "transformers": ("models", "metrics.clip", "metrics.open_clip", "detectors.image_classification", "tiny.bake"),
    "torchmetrics": ("metrics",),
    "torchvision": ("metrics.perceptual", "detectors.torchvision_head"),
    "timm": ("detectors.timm_head",),
    "onnxruntime": ("detectors.onnx",),
    "cv2": ("detectors.preprocess",),
    "tokenizers": ("models", "tiny.bake"),
    "yaml": ("untrusted", "cli", "report", "metrics.open_world", "protocols.hub"),
    "click": ("cli",),
    "rich": ("cli",),
    "jinja2": ("report",),
    "starlette": ("ui.server",),
    "uvicorn": ("ui.server",),
    "matplotlib": ("report", "tiny.bake"),
    "model_signing": ("evidence.signing",),
    "cryptography": ("evidence.signing", "evidence.statement"),
    "securesystemslib": ("evidence.statement",),
    "cyclonedx": ("evidence.bom",),
}
"""Library -> the only places that may import it."""


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def dotted(path: Path) -> str:
    """"models.store" for src/expunge/models/store.py; "models" for its __init__.py."""
    parts = list(path.relative_to(SOURCE).with_suffix("").parts)
    if len(parts) > 1 and parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def imported(tree: ast.AST, here: str, is_package: bool) -> Iterator[tuple[str, int]]:
    """Absolute names of all imports, those inside functions and under TYPE_CHECKING included, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = ["expunge", *here.split(".")]
                keep = len(parents) - node.level + (1 if is_package else 0)
                base = ".".join([*parents[:keep], *([base] if base else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def violations(path: Path) -> list[str]:
    here = dotted(path)
    unit = here.split(".")[0]
    allowed = {unit, *MAY_IMPORT.get(unit, "").split()}
    found = []
    for name, line in imported(ast.parse(path.read_text(encoding="utf-8")), here, path.name == "__init__.py"):
        top, *rest = name.split(".")
        if top == "expunge":
            target = rest[0] if rest and _is_unit(rest[0]) else "__init__"
            harmless = name == "expunge.__version__"
            if target not in allowed and not harmless:
                found.append(f"{here}:{line} imports {name}; {unit} may import: {MAY_IMPORT.get(unit) or 'nothing'}")
        elif top in ONLY_IN and not _within(here, ONLY_IN[top]):
            found.append(f"{here}:{line} imports {top}; only {', '.join(ONLY_IN[top])} may")
    return found


def _is_unit(name: str) -> bool:
    return (SOURCE / name).is_dir() or (SOURCE / f"{name}.py").is_file()


def _within(here: str, places: tuple[str, ...]) -> bool:
    return any(here == place or here.startswith(f"{place}.") for place in places)


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_module_imports_only_what_its_layer_may(path: Path) -> None:
    assert not violations(path), "\n".join(violations(path))


def test_table_names_every_unit() -> None:
    units = {dotted(path).split(".")[0] for path in modules()}
    assert units <= set(MAY_IMPORT), f"add to MAY_IMPORT: {sorted(units - set(MAY_IMPORT))}"


def test_table_has_no_cycle() -> None:
    graph = {unit: set(targets.split()) for unit, targets in MAY_IMPORT.items()}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_metrics_and_models_do_not_know_each_other() -> None:
    assert "models" not in MAY_IMPORT["metrics"].split()
    assert "metrics" not in MAY_IMPORT["models"].split()


def test_only_the_command_line_imports_tiny() -> None:
    assert [unit for unit, targets in MAY_IMPORT.items() if "tiny" in targets.split()] == ["cli"]


def test_checker_finds_planted_lapses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = tmp_path / "expunge"
    (planted / "metrics").mkdir(parents=True)
    (planted / "models").mkdir()
    (planted / "models" / "__init__.py").write_text("")
    (planted / "metrics" / "__init__.py").write_text("")
    bad = planted / "metrics" / "bad.py"
    bad.write_text("def late():\n    from expunge.models import store\n    import diffusers.utils\n"
                   "    from ..models import base\n    from . import fine\n")
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", planted)
    assert len(violations(bad)) == 3


def test_architecture_page_shows_this_table() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = re.search(r"```python\nMAY_IMPORT = (\{.*?\n\})\n```", page, re.DOTALL)
    assert block, "docs/architecture.md has no MAY_IMPORT block"
    assert ast.literal_eval(block[1]) == MAY_IMPORT


def test_every_module_opens_with_a_docstring() -> None:
    bare = [dotted(path) for path in modules()
            if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert not bare


def test_nothing_pickles() -> None:
    """`weights_only=False`, pickle and torch.save have no place here; a stated refusal of pickle files has, and
    `pickletools`, which lists instructions and runs none."""
    forbidden = re.compile(r"^\s*(import pickle\b|from pickle\b)|torch\.save\(|weights_only=False", re.MULTILINE)
    assert not [dotted(path) for path in modules() if forbidden.search(path.read_text(encoding="utf-8"))]
