"""The site: every page is in it, every public name is told, and it builds without a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import expunge

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def pages(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in pages(part)]  # type: ignore[attr-defined]


def test_every_page_is_in_the_navigation_once() -> None:
    told = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(told) == sorted(path.name for path in DOCS.glob("*.md"))


def test_every_public_name_is_on_the_python_page() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    told = {line.removeprefix("::: ") for line in text.splitlines() if line.startswith("::: ")}
    assert told == {where.replace(":", ".") for where in expunge._PUBLIC.values()}


@pytest.mark.slow
def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "load_into_pipeline" in (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
