"""Published weights that come as installed packages: found by path, hashed, never imported.

The packages' own code is old and asks for more than their weights need, so only their files are opened.
"""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from expunge import untrusted
from expunge.errors import ModelError, UserError, install

PIP = install("second")
"""What brings all packages that this module can look for."""


def packaged_file(package: str, inner: str) -> Path:
    """The path of `inner` in the installed `package` (its import name), which is not imported.

    Raises:
        UserError: the package is not installed.
        ModelError: it is, and has no such file.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package {package.replace('_', '-')} is not installed", accepted="the extra `second`",
                        remedy=PIP)
    file = Path(next(iter(spec.submodule_search_locations))) / inner
    if not file.is_file():
        raise ModelError(f"the installed {package.replace('_', '-')} has no {inner}", accepted="the release that "
                         "pyproject.toml names", remedy=PIP)
    return file


def packaged_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a PyTorch state dict on the CPU, opened so that nothing but tensors can be in it.

    Raises:
        ModelError: it is damaged, or holds something else.
    """
    return state_dict(file, PIP)


def state_dict(file: Path, remedy: str) -> dict[str, Tensor]:
    """The same of any file; `remedy`: where to get a good one.

    Raises:
        ModelError: it is damaged, or holds something else.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as opened:
            if any(name.rpartition("/")[2] == "constants.pkl" for name in opened.namelist()):
                raise ModelError(f"{file} is a TorchScript program", accepted="tensors by name", remedy=remedy)
    try:
        state = untrusted.pickled_tensors(file)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error}", accepted="tensors by name", remedy=remedy) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{file} holds more than tensors", accepted="tensors by name", remedy=remedy)
    return dict(state)
