"""A small protocol and the files that it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from given import LABELS, classifier, protocol, table

from expunge.protocols.schema import Protocol


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier(tmp_path_factory.mktemp("network") / "c", LABELS)


@pytest.fixture
def files(tmp_path: Path, network: Path) -> dict[str, Path]:
    rows = [{"prompt": f"a church, number {number}", "s": number} for number in range(6)]
    rows.append({"prompt": "a church, number 0", "s": 0})  # the same image again
    return {"prompts": table(tmp_path / "list.csv", rows), "classifier": network}


@pytest.fixture
def asked() -> Protocol:
    return Protocol.build(protocol())
