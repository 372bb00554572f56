"""The file of a sequence: requests in the order in which they came, and how they are met.

One schema for YAML, TOML and Python; unknown keys are errors, and all mistakes are told at once, contradictions between
requests among them, before a model is opened.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from expunge.config import Settings, alone, knob, merged, read_settings_file
from expunge.errors import UserError, check_type
from expunge.evaluation import EvaluateSettings
from expunge.metrics.base import PromptCounts
from expunge.models.source import Source
from expunge.records import asked
from expunge.sequence.strategy import Strategy, resolve_strategy


def _names(value: Any) -> Any:
    """A single text as a list of one; no blanks around names."""
    values = (value,) if isinstance(value, str) else value
    return tuple(item.strip() if isinstance(item, str) else item for item in values) if isinstance(
        values, list | tuple) else values


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
"""Names; a file may hold a single one as plain text."""


class Withdrawal(Settings):
    """A request that is taken back: the later ones are met again as if it had never come."""

    who: str = knob("", "who took it back")
    when: datetime.date | None = knob(None, "the day on which it was taken back")
    why: str = knob("", "the reason, or where it is written down")


class Demand(Settings):
    """One request: what is to go, and where that comes from."""

    concept: Names = knob(..., "what is to go: a name, or several at once", min_length=1)
    anchor: Names = knob((), "what takes its place, one for each; nothing in particular if empty")
    keep: Names = knob((), "what must stay, of this request's neighbourhood")
    who: str = knob("", "who asked")
    when: datetime.date | None = knob(None, "the day on which it was asked")
    evidence: str = knob("", "what the request rests on, or where that is written down")
    method: str = knob("", "another method than the sequence's")
    settings: dict[str, Any] = knob({}, "overrides of the method's settings, by (dotted) name")
    withdrawn: Withdrawal | None = knob(None, "the request was taken back")

    @property
    def title(self) -> str:
        """What tables and messages call it."""
        return ", ".join(self.concept)

    @property
    def anchors(self) -> tuple[str, ...]:
        """One for each concept; "" where it has none."""
        return self.anchor if any(self.anchor) else ("",) * len(self.concept)


class SequenceSettings(Settings):
    """A whole sequence. Each request is an edit on top of those before it."""

    model: str = knob("embedded", "embedded, a diffusers folder, a single .safetensors file, or a Hub id")
    parts: str = knob("", "for a single file: the diffusers folder that lends configs, tokenizers and missing weights")
    lora: tuple[str, ...] = knob((), "LoRAs, FILE or FILE:WEIGHT, that are merged into the model first")
    device: str = knob("auto", "cpu, cuda, cuda:N or mps")
    variant: str = knob("", "which set of weights, where the folder has several, such as fp16; the plain or only "
                            "one if empty. In memory weights are in float32, in which alone edits add up")
    method: str = knob("esd-fast", "how requests are met that name no method: see `expunge ls methods`")
    settings: dict[str, Any] = knob({}, "overrides of the method's settings, by (dotted) name")
    strategy: str = knob("replay", "how an edit holds on to earlier ones: naive, l2-sp, ewc, replay, refresh, "
                                   "projection or joint")
    holding: dict[str, Any] = knob({}, "overrides of the strategy's settings, by (dotted) name")
    seed: int = knob(0, "decides every random draw", ge=0)
    keep: Names = knob((), "what must stay, whatever is asked")
    requests: tuple[Annotated[Demand, alone("concept")], ...] = knob(
        ..., "the requests, the first one first; new ones go to the end; a name alone is a concept that is to go",
        min_length=1)
    evaluation: EvaluateSettings | None = knob(
        EvaluateSettings(counts=PromptCounts(direct=3, held_out=3, paraphrase=0, implicit=0, near=12, far=12, style=0,
                                             empty=1, never_seen=0), seeds=2, strips=0),
        "how the model is measured after each request, on all of them; none: not at all")
    out: str = knob("runs/sequence", "folder of everything")
    cache: str = knob("", "folder of drawn images; the user's own if empty")

    @property
    def source(self) -> Source:
        """The model, what lends it parts, and what is merged into it."""
        return Source(self.model, self.parts, self.lora)

    @property
    def opening(self) -> dict[str, Any]:
        """How it is opened: keyword arguments of `models.store.load`."""
        return {"device": self.device, "variant": self.variant or None}

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        from expunge.unlearn.erase import resolve_method

        mistakes = list[str]()

        def look(check: Callable[[], object]) -> None:
            try:
                check()
            except UserError as error:
                mistakes.append(str(error))

        for number, item in enumerate(self.requests, 1):
            if item.withdrawn is None:
                look(partial(check_next, self, number))
            look(partial(resolve_method, *self.method_of(item)))
        look(partial(resolve_strategy, self.strategy, self.holding))
        if mistakes:
            text = "; ".join(dict.fromkeys(mistakes))
            raise PydanticCustomError("sequence", text)  # type: ignore[arg-type]  # it wants a literal
        return self

    @property
    def active(self) -> tuple[tuple[int, Demand], ...]:
        """The requests that stand, with their numbers in the file, from 1."""
        return tuple((number, item) for number, item in enumerate(self.requests, 1) if item.withdrawn is None)

    @property
    def kept(self) -> tuple[str, ...]:
        """What must stay by anybody's wish: the sequence's and that of every request that stands."""
        return tuple(dict.fromkeys((*self.keep, *(name for _, item in self.active for name in item.keep))))

    @cached_property
    def chosen(self) -> Strategy:
        """The strategy with its overrides."""
        return resolve_strategy(self.strategy, self.holding)

    def method_of(self, item: Demand) -> tuple[str, dict[str, Any]]:
        """Name and overrides of the method that meets a request; the sequence's overrides are for its own method."""
        own = item.method in ("", self.method)
        return item.method or self.method, merged(self.settings if own else {}, item.settings)


def check_next(settings: SequenceSettings, number: int) -> None:
    """Whether request `number` (from 1) agrees with those before it that stand.

    Raises:
        UserError: it contradicts itself or one of them; says which.
    """
    item, keep = settings.requests[number - 1], (*settings.keep, *settings.requests[number - 1].keep)
    try:
        asked(item.concept, item.anchor, keep)
    except UserError as error:
        raise UserError(f"request {number} ({item.title}): {error.got}", error.accepted, error.remedy) from error
    for n, earlier in settings.active:
        if n >= number:
            break
        try:
            asked((*earlier.concept, *item.concept), (*earlier.anchors, *item.anchors),
                  tuple(dict.fromkeys((*earlier.keep, *keep))))
        except UserError as error:
            raise UserError(f"request {number} ({item.title}) against request {n} ({earlier.title}): {error.got}",
                            accepted=error.accepted or "requests that agree",
                            remedy=error.remedy or "change the new one, or mark the earlier one `withdrawn`") from error


def read_sequence(file: str | Path | Mapping[str, Any], *changes: dict[str, Any]) -> SequenceSettings:
    """The sequence in a YAML or TOML file, or what such a file would hold, with `changes` over it.

    Raises:
        ConfigError: every mistake at once.
    """
    if isinstance(file, Mapping):
        return SequenceSettings.build(merged(file, *changes), "the sequence")
    check_type(file, (str, Path), "sequence", "its settings, a mapping of them, or a file")
    return SequenceSettings.build(merged(read_settings_file(Path(file)), *changes), str(file))

