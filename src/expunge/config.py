"""Settings: one schema for files, flags and Python; unknown keys are errors; all mistakes are shown at once.

`knob` is a thin word over pydantic's `Field`: default, description, unit and source are stated once, where the
setting is born; help texts, dry runs, cards and reports are generated from it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema
from typing_extensions import Self

from expunge import untrusted
from expunge.errors import ConfigError, ExpungeError, SettingsError


def alone(key: str) -> BeforeValidator:
    """For `Annotated`: a text in the place of settings stands for settings that say no more than {key: text}."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


def knob(default: Any = ..., description: str = "", *, unit: str | None = None, source: str | None = None,
         former: str | None = None, added: bool = False, **limits: Any) -> Any:
    """A setting with its manual. `limits` are pydantic's (ge, gt, le, lt, pattern, min_length).

    A setting that was `added` to a class after work had been recorded under it is left out of what is written where it
    is at its default: what is addressed by all settings stays what it was without it.

    `former` is a name that it once had: it is still read, and `model_dump(by_alias=True)` still writes it, so that a
    digest of settings taken so stays what it was.
    """
    if former is not None:
        limits["serialization_alias"] = former
    extra: dict[str, Any] = {key: value for key, value in (("unit", unit), ("source", source), ("former", former),
                                                        ("added", added or None)) if value is not None}
    return Field(default, description=description, json_schema_extra=extra or None, **limits)


class Below(str):
    """A key of a layer that others are laid over: a setting there may be overridden by its former name."""


def below(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for others to be laid over (`merged`), at every depth."""
    return {Below(key): below(value) if isinstance(value, Mapping) else value for key, value in values.items()}


class Settings(BaseModel):
    """Base of everything that can be set: frozen, strict about unknown keys, JSON both ways."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        """Raises: SettingsError: with one line per mistake, as `build`."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_told(error, type(self), type(self).__name__)) from error

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # parts inside are validated by the schema

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, values: Any) -> Any:
        """Names that settings once had become those that they have."""
        if not isinstance(values, Mapping):
            return values
        extras = {name: field.json_schema_extra for name, field in cls.model_fields.items()}
        former = {str(extra["former"]): name for name, extra in extras.items()
                  if isinstance(extra, dict) and "former" in extra}
        if not former.keys() & values.keys():
            return values
        twice = [f"{former[key]!r} and {key!r}, its former name" for key in values if key in former
                 and any(one == former[key] and not isinstance(one, Below) for one in values)]
        if twice:
            raise ValueError(f"one setting by two names: {', '.join(twice)} (keep one of the two)")
        current = {key: value for key, value in values.items() if key not in former}
        return current | {former[key]: value for key, value in values.items() if key in former}

    @model_serializer(mode="wrap")
    def _without_added(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = rest(self)
        return without_added(self, written)

    @classmethod
    def build(cls, values: Mapping[str, Any], origin: str = "settings") -> Self:
        """Validate `values`; every mistake is in the one error that is raised.

        Raises:
            ConfigError: with one line per mistake (where, what was got, what is accepted).
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(_told(error, cls, origin)) from error

    @classmethod
    def given(cls, settings: Self | None) -> Self:
        """Settings that a caller gave, or the defaults for None.

        Raises:
            ConfigError: they are something else.
        """
        if settings is not None and not isinstance(settings, cls):
            raise ConfigError(f"settings {_shortened(repr(settings))}", accepted=f"a {cls.__name__}, or None",
                              remedy=f"{cls.__name__}(name=value, ...) makes them")
        return cls() if settings is None else settings


def without_added(settings: Settings, written: dict[str, Any]) -> dict[str, Any]:
    """What was written of settings, without those that were added and are at their default."""
    def quiet(name: str) -> bool:
        field = type(settings).model_fields.get(name)
        extra = field.json_schema_extra if field is not None else None
        return field is not None and isinstance(extra, dict) and "added" in extra and \
            getattr(settings, name) == field.default

    return {name: value for name, value in written.items() if not quiet(name)}


@dataclass(frozen=True)
class ByKind:
    """Tells the members of a union of settings apart by their `kind`: `Annotated[A | B, ByKind("keep")]`.

    Settings that name no kind mean the first member; an unknown kind is a mistake that lists the known ones.

    Attributes:
        slot: what the members are, in the singular.
    """

    slot: str

    def __get_pydantic_core_schema__(self, union: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A union that looks at `kind` first, so that mistakes inside a member are told for that member alone."""
        members = {_kind(member): member for member in get_args(union)}
        if not members:  # a union of one, written as that one
            return handler(union)
        first = next(iter(members))

        def kind(value: Any) -> Any:
            return value.get("kind", first) if isinstance(value, Mapping) else getattr(value, "kind", None)

        return core_schema.tagged_union_schema(
            {name: handler.generate_schema(member) for name, member in members.items()}, kind,
            custom_error_type="unknown_kind",
            custom_error_message=f"Known kinds of {self.slot}: {', '.join(members)}")


class Known(Protocol):
    """What a slot asks of a registry (`registry.Registry`)."""

    kind: str
    needs: tuple[str, ...]

    def names(self) -> list[str]: ...
    def get(self, name: str) -> Any: ...


@dataclass(frozen=True)
class Slot:
    """A part of settings, by its kind one of all that are registered: `Annotated[Keep, Slot(KEEPS, "match")]`.

    A part is settings with a `kind` and what the registry says a part of this sort must have. It may also be given as
    an object, registered or not. Parts are imported when they are asked for.

    Attributes:
        known: the parts by kind; first: the kind of settings that name none.
        inside: kind of the part that this one stands inside; a part's `within` names those that it may.
    """

    known: Known = field(hash=False)
    first: str
    inside: str = ""

    def __get_pydantic_core_schema__(self, annotation: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A function that looks at `kind`; mistakes inside a part are told as those of that part."""
        serializer = core_schema.plain_serializer_function_ser_schema(
            lambda part, info: part.model_dump(mode=info.mode, by_alias=info.by_alias), info_arg=True)
        return core_schema.no_info_plain_validator_function(self._part, serialization=serializer)

    def members(self) -> dict[str, type[BaseModel]]:
        """Every registered part that may stand here, by kind. Imports them."""
        every = {name: self.known.get(name) for name in self.known.names()}
        return {name: member for name, member in every.items() if self._fits(member)}

    def _part(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            kind = value.get("kind", self.first)
            if not isinstance(kind, str) or kind not in self.known.names():
                raise self._unknown()
            try:
                value = self.known.get(kind).model_validate(value)
            except ValidationError as error:
                raise _under(kind, error) from error
            except ExpungeError as error:
                raise PydanticCustomError("unusable", "{told}", {"told": str(error)}) from error
        if not isinstance(value, Settings) or not all(hasattr(value, name) for name in ("kind", *self.known.needs)):
            raise self._unknown()
        if not self._fits(type(value)):
            raise PydanticCustomError("misplaced", "{told}", {
                "told": f"{value.kind} cannot stand inside {self.inside}; known kinds of {self.known.kind} there: "  # type: ignore[attr-defined]
                        f"{', '.join(self.members())}"})
        return value

    def _fits(self, member: Any) -> bool:
        return not self.inside or self.inside in getattr(member, "within", ())

    def _unknown(self) -> PydanticCustomError:
        return PydanticCustomError("unknown_kind", "Known kinds of {slot}: {kinds}", {
            "slot": self.known.kind, "kinds": ", ".join(self.members())})


def _under(kind: str, error: ValidationError) -> ValidationError:
    """The mistakes of a part, as pydantic tells those of a union's member: behind the member's name."""
    errors: list[InitErrorDetails] = []
    for item in error.errors():
        own = PydanticCustomError(item["type"], "{told}", {"told": item["msg"]})  # type: ignore[arg-type]
        custom = item["type"] in ("value_error", "unknown_kind", "unusable", "misplaced", "assertion_error")
        errors.append(InitErrorDetails(type=own if custom else item["type"], loc=(kind, *item["loc"]),
                                       input=item["input"], ctx={} if custom else item.get("ctx", {})))
    return ValidationError.from_exception_data(error.title, errors)


def read_settings_file(path: Path, text: str | None = None) -> dict[str, Any]:
    """The mapping in a YAML or TOML file (by its ending).

    Args:
        text: what the file holds; None reads it, as UTF-8.

    Raises:
        ConfigError: no such file, another ending, bad syntax, a key twice, or no mapping at the top; or what
            `untrusted` refuses.
    """
    try:
        text = untrusted.text(path, "utf-8-sig") if text is None else text
    except OSError as error:
        raise ConfigError(f"cannot read settings from {path}: {error}", accepted="a YAML or TOML file") from error
    parsers = {".toml": untrusted.toml_in, ".yaml": untrusted.yaml_in, ".yml": untrusted.yaml_in}
    if path.suffix.lower() not in parsers:
        raise ConfigError(f"unknown kind of settings file: {path.name}", accepted=".yaml, .yml or .toml")
    try:
        values = parsers[path.suffix.lower()](text) or {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be parsed: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}", accepted="a mapping of settings")
    return values


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """The layers merged deeply; later ones win; dotted keys ("objective.eta") reach inside.

    Inside a text, which names a part by its kind alone, they reach the part: `update=masked` and `update.share=0.1` are
    two settings of one part.
    """
    out: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            node, parts = out, str(key).split(".")  # YAML may hold other keys; the schema names them as unknown
            for part in parts[:-1]:
                child = node.get(part)
                node[part] = child if isinstance(child, dict) else {"kind": child} if isinstance(child, str) else {}
                node = node[part]
            leaf = key if isinstance(key, Below) else parts[-1]
            before = node.pop(leaf, None)  # its key may say that it lies below
            if isinstance(value, Mapping) and isinstance(before, dict):
                node[leaf] = merged(before, value)
            else:
                node[leaf] = dict(value) if isinstance(value, Mapping) else value
    return out


def _told(error: ValidationError, cls: type[BaseModel], origin: str) -> str:
    mistakes = _own(error.errors())
    told = [_mistake(item, cls) for item in mistakes[:_MOST]]
    more = [f"and {len(mistakes) - _MOST} more mistakes"] * (len(mistakes) > _MOST)
    return f"{origin}: {'; '.join([*told, *more])}"


_MOST = 50
"""Mistakes that are told one by one; what was meant by a key takes time to find."""


def _own(mistakes: Sequence[Any]) -> list[Any]:
    """Without those that follow from others: a list is too short where what it holds is mistaken."""
    places = [item["loc"] for item in mistakes]
    return [item for item in mistakes if item["type"] != "too_short" or not any(
        len(place) > len(item["loc"]) and place[:len(item["loc"])] == item["loc"] for place in places)]


def _mistake(item: Any, cls: type[BaseModel]) -> str:
    keys, known = _place(item["loc"], cls)
    if item["type"] == "extra_forbidden":
        around = "".join(f"{key}." for key in keys[:-1])
        close = difflib.get_close_matches(keys[-1].lower(), known, n=1)
        hint = f"did you mean '{around}{close[0]}'?" if close else \
            f"known{f' in {around[:-1]}' if around else ''}: {', '.join(known)}"
        return f"unknown setting '{'.'.join(keys)}' ({hint})"
    if item["type"] == "missing":  # its input is everything that was given instead
        return f"{'.'.join(keys)}: not given, but needed"
    message = item["msg"].removeprefix("Value error, ")
    message = f"{message[:1].lower()}{message[1:]}"
    if item["type"] == "value_error" or not keys:  # a mistake between settings, which says itself what was got
        return f"{'.'.join(keys)}: {message}" if keys else message
    wanted = _WANTED.get(item["type"]) or message
    return f"{'.'.join(keys)}: got {_shortened(repr(item.get('input')))}, {wanted}"


_WANTED = {"tuple_type": "should be a list", "list_type": "should be a list", "dict_type": "should be a mapping",
           "model_type": "should be a mapping of settings"}
"""What a person who writes YAML calls the types that pydantic names as Python does."""


def _shortened(text: str, most: int = 120) -> str:
    return text if len(text) <= most else f"{text[:most - 3]}..."


def _place(loc: Sequence[int | str], cls: type[BaseModel]) -> tuple[list[str], list[str]]:
    """The keys of a pydantic location as a user writes them, and the settings that stand beside the last one.

    Between the keys pydantic also tells which member of a union it tried, which no user ever wrote.
    """
    keys: list[str] = []
    inside, beside = {cls.__name__: cls}, list(cls.model_fields)
    tagged = False
    for part in loc:
        if (len(inside) > 1 or tagged) and part in inside:
            inside, tagged = {str(part): inside[str(part)]}, False
            continue
        keys.append(str(part))
        beside = list(dict.fromkeys(name for member in inside.values() for name in member.model_fields))
        fields = [member.model_fields[str(part)] for member in inside.values() if part in member.model_fields]
        if fields:
            slots = _slots(fields[0])
            by_kind = any(isinstance(note, ByKind) for note in fields[0].metadata)
            inside = slots[0].members() if slots else _members(fields[0].annotation, by_kind)
            tagged = bool(slots)
    return keys, beside


def _slots(field: Any) -> list[Slot]:
    """The slot that a field's annotation names, alone or with None beside it."""
    notes = [*field.metadata, *(note for argument in get_args(field.annotation)
                                for note in getattr(argument, "__metadata__", ()))]
    return [note for note in notes if isinstance(note, Slot)]


def _members(annotation: Any, by_kind: bool = False) -> dict[str, type[BaseModel]]:
    """The settings classes in an annotation, under the names by which pydantic tells a union's members apart."""
    if get_origin(annotation) is Annotated:
        by_kind = by_kind or any(isinstance(note, ByKind) for note in annotation.__metadata__)
    arguments = get_args(annotation)
    if not arguments:
        known = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        return {_kind(annotation) if by_kind else annotation.__name__: annotation} if known else {}
    return {name: member for argument in arguments for name, member in _members(argument, by_kind).items()}


def _kind(member: type[BaseModel]) -> str:
    return str(member.model_fields["kind"].default)
