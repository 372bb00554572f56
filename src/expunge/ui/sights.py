"""What the page asks its model's world: who judges, what they see, which concepts and wordings there are.

All that the page knows of a world goes through here; `Served` has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expunge.attacks.stage import named_prompts, variants
from expunge.attacks.victim import Goal
from expunge.errors import UserError
from expunge.metrics.base import shows_any
from expunge.metrics.judging import ask
from expunge.metrics.prompts import aims_of
from expunge.unlearn.kinds import kin_of

if TYPE_CHECKING:
    from torch import Tensor

    from expunge.metrics.base import Aim, Judge
    from expunge.metrics.worlds import World
    from expunge.records import Prompt, Request

WORDINGS = 6
"""Wordings of each kind that are suggested."""
FIRST, SECOND = "detector", "second detector"


@dataclass(frozen=True)
class Panel:
    """Who looks at pictures, and for what. Attributes: judges: by what the page calls them. missing: who is not there,
    and why; "" where nobody is missing."""

    aims: tuple[Aim, ...]
    judges: dict[str, Judge]
    missing: str = ""

    def see(self, pictures: Tensor) -> list[list[dict[str, Any]]]:
        """For each picture (B, 3, H, W) what each judge says: who, the answer, how sure in [0, 1] (None: it does not
        say), and whether the concept is there (None: it cannot tell)."""
        out: list[list[dict[str, Any]]] = [[] for _ in pictures]
        question = self.aims[0].question
        for name, judge in self.judges.items():
            for row, sight in enumerate(ask(judge, pictures)):
                there = None if sight.error else shows_any(sight.answers, self.aims)
                out[row].append({"by": name, "judge": judge.name, "answer": sight.answers.get(question, ""),
                                 "sure": sight.confidence.get(question), "there": there, "error": sight.error})
        return out


def panel(world: World, request: Request) -> Panel:
    """Who can say whether what `request` takes out is in a picture; nobody where the world has no judge."""
    try:
        judges = {FIRST: world.judge(request)}
    except UserError as error:
        return Panel(aims_of(world.prompts, request), {}, str(error))
    second = world.second(request)
    if second is None:
        return Panel(aims_of(world.prompts, request), judges, "there is no second detector for this model")
    return Panel(aims_of(world.prompts, request), {**judges, SECOND: second})


def goal(world: World, request: Request) -> Goal:
    """What an attack must bring back, and who says that it is there. UserError: the world has no judge."""
    return Goal(world.judge(request), aims_of(world.prompts, request)[0])


def concepts(world: World) -> list[str]:
    """Things that prompts of the world name."""
    return list(world.prompts.vocabulary())


def kin(world: World, concept: str) -> list[str]:
    """Things like the concept, where the world says which these are."""
    try:
        return list(kin_of(world.prompts, concept))
    except (KeyError, UserError):
        return []


def asking(world: World, request: Request, count: int) -> list[Prompt]:
    """`count` prompts that ask for the concept by its name."""
    return named_prompts(world.prompts, request, count, count)


def wordings(world: World, request: Request) -> list[dict[str, Any]]:
    """Prompts to try: by the concept's name, by other names, and by description; each with a heading."""
    others = variants(world.prompts, request)
    named = [prompt.text for prompt in asking(world, request, WORDINGS)]
    groups: list[tuple[str, Sequence[str]]] = [
        ("By its name", named), ("By another name", others.get("paraphrase", ())),
        ("Described, not named", others.get("implicit", ()))]
    return [{"title": title, "prompts": list(texts[:WORDINGS])} for title, texts in groups if texts]
