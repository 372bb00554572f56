"""Flags made from settings: what a knob says of itself is its flag, its key in a file and its line in the help.

Three layers fill a schema, later ones win: the file (`--config`), the flags, and `--set KEY=VALUE`, whose dotted keys
reach what has no flag of its own.
"""

from __future__ import annotations

import datetime
import types
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from expunge import untrusted
from expunge.cli.lists import Name, Sentence
from expunge.config import merged, read_settings_file
from expunge.errors import ConfigError
from expunge.models.source import Source

Command = TypeVar("Command", bound=Callable[..., Any])
_PREFIX = "setting__"
PAIRS = {"detector_options": (
    "--detector-option", "A setting of the detector, such as preprocess=stretch320-rgb; files.ROLE=PATH for what it "
                         "needs; rule=NAME or rule.cut=0.6 for what counts. May be repeated."),
    "second_options": ("--second-option", "The same of the second detector. May be repeated."),
    "features_options": ("--features-option", "A setting of the features: files.ROLE=PATH for what they need, "
                                              "resizer=NAME, modified=true. May be repeated."),
    "distance_options": ("--distance-option", "A setting of the distance: files.ROLE=PATH for what it needs, "
                                              "modified=true. May be repeated.")}
"""Settings that are mappings and have a flag that fills them pair by pair: the flag and its help."""
_SUCH = {"--set": "objective.eta=2", "--job": "timeout_min=600",
         "--detector-option": "rule.cut=0.6", "--second-option": "rule.cut=0.6",
         "--features-option": "files.inception=weights.pth", "--distance-option": "files.alexnet=weights.pth"}
SENTENCES = ("keep",)
"""Settings that are lists of words in which a comma may stand; all other lists are of names."""


def settings_options(schema: type[BaseModel], leave_out: Iterable[str] = (), files: bool = True, whose: str = ""
                     ) -> Callable[[Command], Command]:
    """A decorator that gives a command one flag per plain setting of `schema`.

    Plain are numbers, words, switches, paths and lists of words; what has settings of its own is reached by `--set`.
    The command receives the flags as keyword arguments that `given` understands.

    Args:
        schema: the settings.
        leave_out: settings that get no flag.
        files: whether `--config` (as `config`) and `--set` (as `sets`) come along.
        whose: in words, whose defaults the schema's are, where others take their place.
    """
    skip = set(leave_out)

    def decorate(command: Command) -> Command:
        command = _file_options(command) if files else command
        for name, field in reversed(list(schema.model_fields.items())):
            option = None if name in skip else _pairs(name) or _option(name, field, whose)
            if option is not None:
                command = option(command)
        return command

    return decorate


def _file_options(command: Command) -> Command:
    command = click.option("--set", "sets", multiple=True, metavar="KEY=VALUE",
                           help="Any setting by its dotted key, such as objective.eta=2. May be repeated.")(command)
    return click.option("--config", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                        help="YAML or TOML file of settings; flags win over it.")(command)


def given(config: Path | None, sets: Iterable[str], flags: Mapping[str, Any]) -> dict[str, Any]:
    """What the user set, as one mapping with dotted keys resolved: file, then flags, then `--set`.

    Raises:
        ConfigError: an unreadable file, or a `--set` without "=" or with a value that does not parse.
    """
    chosen = {name.removeprefix(_PREFIX): list(value) if isinstance(value, tuple) else value
              for name, value in flags.items() if name.startswith(_PREFIX) and value not in (None, ())}
    for name in PAIRS.keys() & chosen.keys():
        chosen[name] = merged(*([dict([assignment(text, PAIRS[name][0])]) for text in chosen[name]]))
    return merged(read_settings_file(config) if config else {}, chosen, dict(assignment(text) for text in sets))


def as_yaml(values: Mapping[str, Any]) -> str:
    """A mapping as YAML in its own order; `--config` reads it back."""
    import yaml

    text: str = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100)
    return text


METAVARS = {
    "model": "MODEL", "parts": "FOLDER", "lora": "FILE", "clip": "MODEL", "device": "NAME", "dtype": "NAME",
    "variant": "NAME", "method": "NAME", "strategy": "NAME",
    "scope": "NAME", "concept": "NAME", "preset": "NAME", "attacks": "NAME", "strata": "NAME", "without": "NAME",
    "name_in": "KEY=VALUE", "distance": "NAME", "detector": "NAME", "second": "NAME", "features": "NAME",
    "prompts_of": "NAME", "reference": "NAME|FILE", "config": "FILE", "prompts": "FILE", "train_prompts": "FILE",
    "weights": "FILE", "license_file": "FILE",
    "out": "FOLDER", "cache": "FOLDER", "pictures": "FOLDER", "start": "FOLDER"}
"""What stands for the value of an option in the help of every verb that has it, where its type does not say it."""


def dry_run_option(command: Command) -> Command:
    """`--dry-run`."""
    return click.option("-n", "--dry-run", is_flag=True,
                        help="Print the resolved settings and an estimate, then stop.")(command)


def copy_options(command: Command) -> Command:
    """`--by` and `--redact`: what a copy of a report says of itself, and what it leaves out."""
    command = click.option(
        "--redact", is_flag=True,
        help="Write a copy to hand out, into report-redacted: without explicit or violent images and prompts, the "
             "wordings that attacks found, who asked for what, and names of folders.")(command)
    return click.option("--by", default="", metavar="TEXT",
                        help="Who answers for the report; without it, it names nobody.")(command)


def report_folder(redact: bool) -> str:
    """What the folder of a report is called."""
    return "report-redacted" if redact else "report"


def training_model_options(command: Command) -> Command:
    """All but `--dtype`: for verbs that work on weights in float32 alone."""
    return model_options_of("--model", "--device", "--variant", "--allow-pickle", "--verify")(command)


def model_options(command: Command) -> Command:
    """`--model`, `--device`, `--dtype`, `--variant`, `--allow-pickle`, `--verify`, `--offload`, `--eight-bit`: keyword
    arguments of `models.store.load`.
    """
    return model_options_of("--model", "--device", "--dtype", "--variant", "--allow-pickle", "--verify", "--offload",
                            "--eight-bit")(command)


def model_options_of(*flags: str) -> Callable[[Command], Command]:
    """Those of the options of a model that a verb has a choice in.

    `--parts` and `--lora` come with `--model`; the three are one argument, `model`, a `models.source.Source`.
    """
    known = {
        "--allow-pickle": click.option(
            "--allow-pickle", is_flag=True,
            help="Load weights that are not safetensors. Such a file can run any code: trust its author."),
        "--verify": click.option("--verify", is_flag=True,
                                 help="Hash the model's files anew, even if they are known."),
        "--offload": click.option(
            "--offload", is_flag=True,
            help="Have only the networks in memory that are asked (text encoders, denoiser, autoencoder in turn), read "
                 "from their files each time."),
        "--eight-bit": click.option(
            "--eight-bit", is_flag=True,
            help="Hold the denoiser's blocks in 8 bits, half of bfloat16; a LoRA trains over them."),
        "--variant": click.option(
            "--variant", metavar="NAME",
            help="Which set of weights, where the folder has several, such as fp16 [default: the plain ones, or the "
                 "only ones]."),
        "--dtype": click.option("--dtype", default="float32", show_default=True, metavar="NAME",
                                help="Number type of the weights: float32, bfloat16, float16, or auto: that of the "
                                     "files."),
        "--device": click.option("--device", default="auto", show_default=True, metavar="NAME",
                                 help="cpu, cuda, cuda:N or mps."),
        "--model": click.option("--model", default="embedded", show_default=True, metavar="MODEL",
                                help="embedded, a diffusers folder, a single .safetensors file, or a Hub id."),
        "--parts": click.option(
            "--parts", default="", metavar="FOLDER",
            help="For a single file: the diffusers folder that lends configs, tokenizers and missing weights."),
        "--lora": click.option(
            "--lora", type=Name(), multiple=True, metavar="FILE",
            help="A LoRA (FILE, or FILE:WEIGHT) that is merged into the model first. May be repeated."),
    }

    def decorate(command: Command) -> Command:
        every = [more for flag in flags for more in ([flag, "--parts", "--lora"] if flag == "--model" else [flag])]
        if "--model" in every:
            command = _with_source(command)
        for flag in reversed(every):
            command = known[flag](command)
        return command

    return decorate


def _with_source(command: Command) -> Command:
    """The command, which is given a `Source` as its `model`."""
    @wraps(command)
    def opened(*args: Any, model: str, parts: str, lora: tuple[str, ...], **rest: Any) -> Any:
        return command(*args, model=Source(model, parts, lora), **rest)

    return cast(Command, opened)


def assignment(text: str, flag: str = "--set") -> tuple[str, Any]:
    """Key and value of "KEY=VALUE", the value read as YAML.

    Raises:
        ConfigError: it is none.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{flag} {text!r}", accepted=f"KEY=VALUE, such as {flag} {_SUCH[flag]}")
    try:
        return key.strip(), untrusted.yaml_in(value)
    except OSError as error:
        raise ConfigError(f"{flag} {text!r}: the value cannot be parsed") from error


def _pairs(name: str) -> Callable[[Any], Any] | None:
    """The option of a setting that is filled pair by pair; None for any other."""
    if name not in PAIRS:
        return None
    flag, help = PAIRS[name]
    return click.option(flag, f"{_PREFIX}{name}", multiple=True, metavar="KEY=VALUE", help=help)


def _option(name: str, field: FieldInfo, whose: str) -> Callable[[Any], Any] | None:
    """The click option of a plain setting, None for one that has settings of its own."""
    kind = _plain_type(field.annotation)
    if kind is None:
        return None
    flag = f"--{name.replace('_', '-')}"
    if kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", f"{_PREFIX}{name}", default=None, help=_help(field, whose))
    if kind is tuple:
        listed = Sentence() if name in SENTENCES else Name()
        return click.option(flag, f"{_PREFIX}{name}", multiple=True, metavar=METAVARS.get(name, "TEXT"), type=listed,
                            help=f"{_help(field, whose)} May be repeated.")
    if isinstance(kind, click.Choice):
        return click.option(flag, f"{_PREFIX}{name}", type=kind, help=_help(field, whose))
    metavar = METAVARS.get(name) or {int: "INTEGER", float: "NUMBER", Path: "PATH", str: "TEXT",
                                       datetime.date: "DATE"}[kind]
    kind = str if kind is datetime.date else kind  # the schema reads it, and tells mistakes with all others
    return click.option(flag, f"{_PREFIX}{name}", type=kind, metavar=metavar, help=_help(field, whose))


def _plain_type(annotation: Any) -> Any:
    """int, float, bool, str, Path, date, tuple (of words) or a click.Choice; None for anything else."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in get_args(annotation) if part is not type(None)]
        annotation = rest[0] if len(rest) == 1 else None
    if get_origin(annotation) is Literal:
        words = get_args(annotation)
        return click.Choice(words) if len(words) > 1 and all(isinstance(word, str) for word in words) else None
    if get_origin(annotation) is tuple:
        return tuple if get_args(annotation) == (str, ...) else None
    return annotation if annotation in (bool, int, float, str, Path, datetime.date) else None


def _help(field: FieldInfo, whose: str) -> str:
    """"Optimisation steps, in steps [default: 1000; source: ...]"."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    text = (field.description or "").rstrip(".")
    text = text[:1].upper() + text[1:]
    if extra.get("unit"):
        text += f", in {extra['unit']}"
    notes = [] if field.is_required() or field.default in (None, (), "") else [f"default: {whose}{field.default}"]
    if extra.get("source"):
        notes.append(f"source: {extra['source']}")
    return f"{text} [{'; '.join(notes)}]" if notes else f"{text}."
