"""Each family's case, made once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from exported import Case, made


@pytest.fixture(scope="session")
def case_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    known: dict[str, Case] = {}

    def case(name: str) -> Case:
        if name not in known:
            known[name] = made(name, tmp_path_factory.mktemp(name))
        return known[name]

    return case
