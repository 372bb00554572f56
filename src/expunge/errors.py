"""What expunge says when it cannot go on: what it got, what is accepted, what to do."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


class ExpungeError(Exception):
    """Base of all errors that expunge raises on purpose.

    Args:
        got: what was found, with the offending value.
        accepted: what would have been fine.
        remedy: what the reader can do now.
    """

    exit_code = 1

    def __init__(self, got: str, accepted: str = "", remedy: str = "") -> None:
        self.got, self.accepted, self.remedy = got, accepted, remedy
        parts = [got]
        if accepted:
            parts.append(f"accepted: {accepted}")
        if remedy:
            parts.append(remedy)
        super().__init__("; ".join(parts))


def check_type(value: object, kinds: type | tuple[type, ...], what: str, accepted: str, remedy: str = "") -> None:
    """UserError unless `value`, given as the `what` of a call, is of one of the kinds."""
    if not isinstance(value, kinds):
        shown = repr(value)
        raise UserError(f"{shown if len(shown) <= 60 else f'{shown[:60]}...'} as the {what}", accepted, remedy)


def install(extra: str) -> str:
    """The command that brings one of expunge's extras and leaves torch as it is.

    pip would else bring the newest torchvision, which asks for a torch of its own, or none that its binary fits: then
    every import of transformers fails. A build for one kind of device ("2.13.0+cpu") has an index of its own.
    """
    try:
        torch = version("torch")
    except PackageNotFoundError:
        return f"pip install 'expunge[{extra}]'"
    build = torch.partition("+")[2]
    index = f" --extra-index-url https://download.pytorch.org/whl/{build}" if build else ""
    return f"pip install 'expunge[{extra}]' 'torch=={torch}'{index if extra in ('lpips', 'timm') else ''}"


MODELS_INSTALL = "pip install ./models from a checkout of expunge"
"""What brings the distribution of further small models."""


class UserError(ExpungeError):
    """The caller asked for something that cannot be done as asked. Exit code 2."""

    exit_code = 2


class ConfigError(UserError):
    """Settings that do not fit the schema; all mistakes of a file or call are reported together."""


class SettingsError(ConfigError, ValueError):
    """The same of settings that are made in Python: a ValueError, too, as whoever knows pydantic expects."""


class RecordError(UserError, ValueError):
    """A record (a sampler, a prompt, a request) that is made in Python with values that it cannot have."""


class UnknownName(UserError, KeyError):
    """Something that is asked for by a name that is not there."""

    __str__ = Exception.__str__  # a KeyError shows the name alone, in quotes


class ModelError(UserError):
    """A model or patch that is missing, damaged, untrusted or made for something else."""


class TrainingError(ExpungeError):
    """Training went wrong by itself (a loss that is not a number)."""


class StorageError(ExpungeError):
    """Writing failed (disk full, no permission); nothing half-written was left behind."""


class ResourceError(ExpungeError):
    """The machine has too little of something (memory) for what was asked."""
