"""What is to be unlearned: one concept or several, each with its prompts and its anchor."""

from __future__ import annotations

from pydantic import Field

from expunge.records.base import Record


class Target(Record):
    """One concept to unlearn.

    Attributes:
        concept: name of the concept, as a prompt would call it ("church").
        prompts: prompts that ask for it; training draws from them. Never empty.
        anchor: what takes its place ("house"); "" means nothing in particular.
    """

    concept: str = Field(min_length=1)
    prompts: tuple[str, ...] = Field(min_length=1)
    anchor: str = ""


class Request(Target):
    """What is to be unlearned: a concept, or several at once, each with its anchor.

    Attributes:
        keep: prompts that must stay as they are; training may hold on to them.
        also: further concepts, unlearned in the same edit.
    """

    keep: tuple[str, ...] = ()
    also: tuple[Target, ...] = ()

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
        return tuple(Request(concept=target.concept, prompts=target.prompts, anchor=target.anchor, keep=self.keep)
                     for target in self.targets)
