"""A world for the page: "church" is in a picture whose right half is the brighter one; mostly the seed decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from colour_world import ColourJudge, ColourPrompts, Named, SideJudge, colour_world

from expunge.metrics.base import PromptCounts
from expunge.metrics.worlds import World
from expunge.records import Prompt, Request


class SidesPrompts(ColourPrompts):
    """`ColourPrompts` with other wordings, a vocabulary, and kin."""

    name = "sides"

    def vocabulary(self, things: Sequence[str] = ()) -> Mapping[str, tuple[str, ...]]:
        return {thing: (f"a {thing}",) for thing in things or ("church", "house", "dog")}

    def kin(self, concept: str) -> tuple[str, ...]:
        return tuple(thing for thing in self.vocabulary() if thing != concept)

    def of(self, request: Request, counts: PromptCounts, strata: Sequence[str] = ()) -> list[Prompt]:
        others = {"paraphrase": ("a chapel", "a chapel on a hill", "a cathedral"), "implicit": ("a house of a god",)}
        return [*super().of(request, counts, strata),
                *(Prompt(text=text, role=role, labels={"object": "church"})  # type: ignore[arg-type]
                  for role, texts in others.items() for text in texts[:getattr(counts, role)])]


def sides_world() -> World:
    """Two detectors by other names."""
    return colour_world().but(prompts=SidesPrompts(), judges=Named(SideJudge(), ColourJudge(0.001)))
