"""A patch by its name on the Hub: hf://OWNER/NAME, or hf://OWNER/NAME@REVISION (a branch, a tag, a commit).

The scheme is what asks for the network: a folder's name that is mistyped is never looked for there. Only the patch and
its card are downloaded, into huggingface_hub's cache (HF_HUB_OFFLINE=1 keeps to that).
"""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path

from expunge.errors import ModelError
from expunge.files import file_digest, write_atomically
from expunge.records import HUB_NAME

SCHEME = "hf://"
_NAME = re.compile(rf"(?P<repo>{HUB_NAME.pattern})(@(?P<revision>[\w./-]+))?")
_FILES = ("patch.safetensors", "patch.json")


def on_hub(name: str | Path) -> bool:
    """Whether it is a name on the Hub."""
    return isinstance(name, str) and name.startswith(SCHEME)


def parsed(name: str) -> tuple[str, str | None]:
    """Repository and revision of a name. ModelError: it is none."""
    found = _NAME.fullmatch(name.removeprefix(SCHEME))
    if found is None:
        raise ModelError(f"{name!r} as a patch on the Hub", accepted="hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    return found["repo"], found["revision"]


def fetched(name: str) -> Path:
    """The folder of the patch in huggingface_hub's cache, which is named by the commit.

    Raises:
        ModelError: no such repository, revision or patch, or no network.
    """
    from huggingface_hub import snapshot_download

    repo, revision = parsed(name)
    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=list(_FILES)))
    except Exception as error:  # the Hub's client raises a dozen unrelated types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{name} is not to be had from the Hub: {reason}", accepted="a repository with a patch",
                         remedy="check the name, the revision, the network and HF_HUB_OFFLINE") from error
    if not (folder / _FILES[0]).is_file():
        raise ModelError(f"{name} holds no patch", accepted=f"a repository with {_FILES[0]}",
                         remedy="a model or a LoRA on the Hub is opened with --model or --lora, not as a patch")
    return folder


def brought(name: str, out: Path | None = None) -> Path:
    """The patch in a folder of the user's, where results on it may go: `out`, or runs/OWNER-NAME-COMMIT.

    Raises:
        ModelError: as `fetched`, or another patch is in that folder.
    """
    folder, (repo, _) = fetched(name), parsed(name)
    to = out or Path("runs") / f"{repo.replace('/', '-')}-{folder.resolve().name[:12]}"
    for part in _FILES:
        file, there = folder / part, to / part
        if not file.is_file():
            continue  # the card may be in the tensors' file alone
        if there.is_file() and file_digest(there) != file_digest(file):
            raise ModelError(f"{there} is another patch than {name}", accepted="a new folder, or the same patch",
                             remedy="choose another folder (`expunge pull --out`)")
        if not there.is_file():
            write_atomically(there, partial(_copied, file))
    return to


def _copied(file: Path, to: Path) -> None:
    shutil.copyfile(file, to)
