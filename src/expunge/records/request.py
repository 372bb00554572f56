"""What is to be unlearned: one concept or several, each with its prompts, its kind and its anchor."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from expunge.records.base import Record
from expunge.records.kinds import Kind


class Target(Record):
    """One concept to unlearn.

    Attributes:
        concept: name of the concept, as a prompt would call it ("church").
        prompts: prompts that ask for it; training draws from them. Never empty.
        anchor: what takes its place ("house"); "" means nothing in particular.
        kind: what it is; how it is asked for and judged depends on that.
        joint: of a concept that is a thing together with another ("pixel art church"), what must be seen at once, by
            the judge's question ({"object": "church", "style": "pixel art"}): either may stay without the other. Empty
            for any other concept.
        own: whether the prompts are the user's own.
    """

    concept: str = Field(min_length=1)
    prompts: tuple[str, ...] = Field(min_length=1)
    anchor: str = ""
    kind: Kind = "object"
    joint: dict[str, str] = {}
    own: bool = False

    @property
    def word(self) -> str:
        """What a prompt calls it by: its name; of what only goes together with another, the thing's own."""
        return next(iter(self.joint.values()), self.concept)

    @model_serializer(mode="wrap")
    def _lean(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what came to the format later and says nothing here: the digests of earlier requests stay."""
        values: dict[str, Any] = write(self)
        return {key: value for key, value in values.items()
                if key not in _LATER or value != type(self).model_fields[key].default}


_LATER = ("kind", "joint", "own")


class Request(Target):
    """What is to be unlearned: a concept, or several at once, each with its anchor.

    Attributes:
        keep: prompts that must stay as they are; training may hold on to them.
        also: further concepts, unlearned in the same edit.
    """

    keep: tuple[str, ...] = ()
    also: tuple[Target, ...] = ()

    @classmethod
    def of(cls, targets: tuple[Target, ...], keep: tuple[str, ...] = ()) -> Request:
        """A request for one target or several."""
        first, *also = targets
        own = {name: getattr(first, name) for name in Target.model_fields}
        return cls(**own, keep=keep, also=tuple(also))

    @property
    def targets(self) -> tuple[Target, ...]:
        """Every concept of the request, its own first."""
        return (self, *self.also)

    @property
    def all_prompts(self) -> tuple[str, ...]:
        """The prompts of every target, each once, target by target."""
        return tuple(dict.fromkeys(prompt for target in self.targets for prompt in target.prompts))

    @property
    def concepts(self) -> tuple[str, ...]:
        """The names of every target."""
        return tuple(target.concept for target in self.targets)

    @property
    def title(self) -> str:
        """The concepts' names, for a person: "church, bomb"."""
        return ", ".join(self.concepts)

    def target_of(self, prompt: str) -> Target:
        """The target that `prompt` asks for: the first one that has it among its prompts, else the first of all."""
        return next((target for target in self.targets if prompt in target.prompts), self)

    def alone(self) -> tuple[Request, ...]:
        """A request for each target by itself: attacks are made on one at a time."""
        return tuple(Request.of((target,), self.keep) for target in self.targets)
