"""The file of a bench: which methods, on which concepts, with which seeds, attacked and measured how.

One schema for YAML, TOML and Python; unknown keys are errors, and all mistakes are told at once: those of the methods'
and the attacks' own settings among them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from expunge.attacks.settings import AttackSettings
from expunge.config import Settings, alone, knob, merged, read_settings_file
from expunge.errors import UserError, check_type
from expunge.evaluation import EvaluateSettings
from expunge.files import slug
from expunge.models.source import Source
from expunge.protocols.schema import read_protocol
from expunge.protocols.settings import RunSettings

Names = str | tuple[str, ...]
"""One name, or several."""


class BenchMethod(Settings):
    """A row of the bench: a registered method, with settings of its own if it has any."""

    method: str = knob(..., "a registered method: see `expunge ls methods`", min_length=1)
    label: str = knob("", "what tables call it; the method's name if empty")
    settings: dict[str, Any] = knob({}, "overrides of the method's settings, by (dotted) name")

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.label or self.method

    @model_validator(mode="after")
    def _exists(self) -> Self:
        from expunge.unlearn.erase import resolve_method

        try:
            resolve_method(self.method, self.settings)
        except UserError as error:
            raise _wrong(error) from error
        return self


class BenchConcept(Settings):
    """A column of the bench: a concept, or several that are taken out in one edit."""

    concept: Names = knob(..., "what is taken out, or several things at once")
    anchor: Names | None = knob(None, "what takes its place, one for each concept; '' for nothing in particular; where "
                                      "none is named each method has its own way, as for `erase`")
    keep: tuple[str, ...] = knob((), "what must stay; the world's own choice if empty")
    without: tuple[str, ...] = knob((), "attacks of the bench that cannot be made on it, as implicit on a style")
    label: str = knob("", "what tables call it; the concepts' names if empty")

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.label or (self.concept if isinstance(self.concept, str) else ", ".join(self.concept))

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        from expunge.records import asked

        try:
            asked(self.concept, self.anchor or "", self.keep)
        except UserError as error:
            raise _wrong(error) from error
        return self


class BenchProtocol(Settings):
    """A published protocol that every edit is asked."""

    protocol: str = knob(..., "its name, or its file: see `expunge ls protocols`", min_length=1)
    files: dict[str, str] = knob({}, "what it needs, by role")
    run: RunSettings = knob(RunSettings(), "how it is run")
    label: str = knob("", "what its folders and its table are called; the file's name if empty")

    @property
    def title(self) -> str:
        """What its folders and its table are called."""
        return self.label or Path(self.protocol).stem

    @field_validator("protocol")
    @classmethod
    def _exists(cls, name: str) -> str:
        try:
            if read_protocol(name).kind != "published":
                raise UserError(f"the protocol {name} is the product's own evaluation of an edit",
                                accepted="a published protocol", remedy="leave it out: `evaluation` asks it anyway")
        except UserError as error:
            raise _wrong(error) from error
        return name


class BenchSettings(Settings):
    """A whole bench. Every method meets every concept with every seed; each such cell is an edit of its own."""

    model: str = knob("embedded", "embedded, a diffusers folder, a single .safetensors file, or a Hub id")
    parts: str = knob("", "for a single file: the diffusers folder that lends configs, tokenizers and missing weights")
    lora: tuple[str, ...] = knob((), "LoRAs, FILE or FILE:WEIGHT, that are merged into the model first")
    device: str = knob("auto", "cpu, cuda, cuda:N or mps")
    dtype: str = knob("float32", "number type of the weights: float32, bfloat16, float16, or auto: that of the files")
    variant: str = knob("", "which set of weights, where the folder has several, such as fp16; the plain or only "
                            "one if empty")
    methods: tuple[Annotated[BenchMethod, alone("method")], ...] = knob(
        ..., "what is compared; a name alone is a method as it is")
    concepts: tuple[Annotated[BenchConcept, alone("concept")], ...] = knob(
        ..., "what is taken out; a name alone is a concept with nothing else said of it")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = knob((0, 1, 2), "seeds of the edits")
    attack: AttackSettings | None = knob(AttackSettings(), "attacks on every edit; none: no attacks")
    evaluation: EvaluateSettings = knob(EvaluateSettings(), "how every edit is measured")
    protocols: tuple[Annotated[BenchProtocol, alone("protocol")], ...] = knob(
        (), "published protocols that every edit is asked as well; a name alone is one that needs no files")
    compare: tuple[tuple[str, str], ...] = knob((), "pairs of labels to compare; empty: each method with the first")
    out: str = knob("runs/bench", "folder of everything")
    cache: str = knob("", "folder of drawn images, shared by all cells; the user's own if empty")
    draws: int = knob(2000, "bootstrap draws over edits and prompts", ge=100)

    @property
    def source(self) -> Source:
        """The model, what lends it parts, and what is merged into it."""
        return Source(self.model, self.parts, self.lora)

    @property
    def opening(self) -> dict[str, Any]:
        """How it is opened: keyword arguments of `models.store.load`."""
        return {"device": self.device, "dtype": self.dtype, "variant": self.variant or None}

    @field_validator("methods", "concepts")
    @classmethod
    def _distinct(cls, rows: tuple[Any, ...]) -> tuple[Any, ...]:
        """At least one; labels tell rows apart."""
        if not rows:
            raise _wrong(UserError("nothing there", accepted="at least one"))
        _once([row.title for row in rows], "two rows are called", "another label for one of them")
        return rows

    @field_validator("protocols")
    @classmethod
    def _apart(cls, asked: tuple[BenchProtocol, ...]) -> tuple[BenchProtocol, ...]:
        _once([slug(one.title) for one in asked], "two protocols are called", "another label for one of them")
        return asked

    @field_validator("seeds")
    @classmethod
    def _once_each(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds:
            raise _wrong(UserError("no seed", accepted="at least one"))
        _once(seeds, "the same seed twice:", "each seed once")
        return seeds

    @field_validator("attack")
    @classmethod
    def _can_be_made(cls, attack: AttackSettings | None) -> AttackSettings | None:
        from expunge.attacks.suite import planned

        try:
            if attack is not None:
                planned(attack)
        except UserError as error:
            raise _wrong(error) from error
        return attack

    @model_validator(mode="after")
    def _some_attack_left(self) -> Self:
        for column in self.concepts:
            try:
                self.attack_on(column)
            except UserError as error:
                raise _wrong(error) from error
        return self

    @model_validator(mode="after")
    def _one_world(self) -> Self:
        """Attacks ask what the evaluation asks, and the same judge."""
        for name in ("clip", "prompts", "prompts_of", "detector", "detector_options", "second", "second_options"):
            own, theirs = getattr(self.attack, name, ""), getattr(self.evaluation, name)
            if own not in ("", {}, theirs):
                raise _wrong(UserError(f"attack.{name} {own!r} beside evaluation.{name} {theirs!r}",
                                       accepted=f"evaluation.{name} alone: attacks and evaluation share it"))
        return self

    @model_validator(mode="after")
    def _drawn_alike(self) -> Self:
        """Attacks stand in the verdict of the evaluation, so both draw alike."""
        if self.attack is None:
            return self
        pairs = {name: (getattr(self.attack, name), getattr(self.evaluation, name))
                 for name in ("steps", "guidance", "height", "width", "negative", "truncate")}
        odd = [f"attack.{name} {own!r} beside evaluation.{name} {theirs!r}"
               for name, (own, theirs) in pairs.items() if own != theirs]
        if odd:
            raise _wrong(UserError(", ".join(odd), accepted="the same for both: their figures stand in one verdict"))
        return self

    @model_validator(mode="after")
    def _known_pairs(self) -> Self:
        known = [row.title for row in self.methods]
        strange = [name for pair in self.compare for name in pair if name not in known]
        if strange:
            raise _wrong(UserError(f"compare names {', '.join(map(repr, strange))}",
                                   accepted=", ".join(map(repr, known))))
        return self

    def attack_on(self, concept: BenchConcept) -> AttackSettings | None:
        """The attacks on one of the concepts; None if none are made at all.

        Raises:
            UserError: it goes without an attack that is not made anyhow, or without all of them.
        """
        from expunge.attacks.suite import planned

        if self.attack is None or not concept.without:
            return self.attack
        made = [one.name for one in planned(self.attack)]
        strange, left = set(concept.without) - set(made), [name for name in made if name not in concept.without]
        if strange or not left:
            raise UserError(f"{concept.title} is to go without {', '.join(concept.without)}",
                            accepted=f"some, and not all, of {', '.join(made)}")
        options = {name: values for name, values in self.attack.options.items() if name in left}
        return self.attack.model_copy(update={"attacks": tuple(left), "options": options})

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The comparisons to make: (method, other), by label."""
        first, *rest = (row.title for row in self.methods)
        return self.compare or tuple((name, first) for name in rest)


def read_bench(file: str | Path | Mapping[str, Any], *changes: dict[str, Any]) -> BenchSettings:
    """The bench in a YAML or TOML file, or what such a file would hold, with `changes` over it.

    Raises:
        ConfigError: every mistake at once.
    """
    if isinstance(file, Mapping):
        return BenchSettings.build(merged(file, *changes), "the bench")
    check_type(file, (str, Path), "bench", "its settings, a mapping of them, or a file")
    return BenchSettings.build(merged(read_settings_file(Path(file)), *changes), str(file))


def _once(items: Sequence[object], got: str, accepted: str) -> None:
    twice = [str(item) for item, count in Counter(items).items() if count > 1]
    if twice:
        raise _wrong(UserError(f"{got} {', '.join(twice)}", accepted=accepted))


def _wrong(error: UserError) -> PydanticCustomError:
    """A mistake that pydantic tells beside its own."""
    text = str(error)
    return PydanticCustomError("bench", text)  # type: ignore[arg-type]  # it wants a literal, and this is no template
