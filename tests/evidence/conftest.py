"""An edit with records, a pair of keys, and the bundle that they make; each built once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bundles import small_run

from expunge.evidence.bundle import make_bundle
from expunge.evidence.signing import Signer, make_keys


@pytest.fixture(scope="session")
def edit(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from expunge.models.store import load

    return small_run(load(pipeline_folder, device="cpu"), tmp_path_factory.mktemp("edit") / "church")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def signed_once(edit: Path, keys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed")
    export = folder / "church-lora.safetensors"
    shutil.copy(edit / "patch.safetensors", export)
    return make_bundle(edit, folder / "bundle", exports=[export], signer=Signer(keys[0])).folder


@pytest.fixture(scope="session")
def unsigned_once(edit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(edit, tmp_path_factory.mktemp("unsigned") / "bundle").folder


@pytest.fixture
def signed(signed_once: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(signed_once, tmp_path / "bundle"))


@pytest.fixture
def unsigned(unsigned_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unsigned_once, tmp_path / "bundle"))


@pytest.fixture
def rewritten() -> Callable[[Path], None]:
    """Makes the manifest and the statement of an unsigned bundle say what the files are now: what a forger does."""
    import json

    from expunge.evidence.bundle import BOM, MANIFEST, STATEMENT, walked, weights_of
    from expunge.evidence.verify import OWN
    from expunge.files import file_digest, write_json

    def rewrite(folder: Path) -> None:
        digests = {name: file_digest(file) for name, file in walked(folder).items()}
        write_json(folder / MANIFEST, {"format": 1, "files": {name: {"sha256": digest, "bytes": 0}
                                                              for name, digest in digests.items() if name not in OWN}})
        stated = json.loads((folder / STATEMENT).read_text())
        stated["predicate"]["manifest"]["sha256"] = file_digest(folder / MANIFEST)
        stated["predicate"]["bom"]["sha256"] = file_digest(folder / BOM)
        for one in stated["predicate"]["records"]:
            one["sha256"] = digests[one["name"]]
        stated["subject"] = [{"name": name, "digest": {"sha256": digests[name]}} for name in weights_of([*digests])]
        write_json(folder / STATEMENT, stated)

    return rewrite
