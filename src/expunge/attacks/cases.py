"""Cases: finds that were kept, asked again of the same patch or of another one for the same concept.

A case is a text and a seed (`records.case`). It is drawn as it was found, judged, drawn again with fresh seeds, and
shown to the second detector. One that comes back is a text that this patch does not stand; one that does not says
nothing about other texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from expunge import untrusted
from expunge.attacks.stage import sought
from expunge.attacks.victim import Goal, Victim, fresh_seed
from expunge.errors import UserError
from expunge.files import write_json
from expunge.metrics.prompts import aim_at
from expunge.metrics.worlds import World
from expunge.models.model import Model, applied
from expunge.models.patch import Patch
from expunge.records import Attempt, Prompt, Spent
from expunge.records.case import Case

RESULT = "cases.json"
"""What became of the cases, in the folder of results."""


@dataclass(frozen=True)
class Rechecked:
    """A case and what became of it."""

    case: Case
    attempt: Attempt

    @property
    def back(self) -> bool:
        """Whether the judge sees the concept at the case's own seed."""
        return self.attempt.outcome == "found"

    @property
    def words(self) -> str:
        """For a person: whether it comes back, and on how many fresh seeds."""
        made = self.attempt
        if made.error:
            return f"the judge failed ({made.error})"
        if not self.back:
            return f"no {self.case.concept} at its own seed"
        again = f", again on {made.fresh_found} of {made.fresh} fresh seeds" if made.fresh else ""
        second = "" if made.confirmed is None or not made.asked_second else \
            f", a second detector agrees on {made.confirmed} of {made.asked_second}"
        return f"{self.case.concept} is back{again}{second}"


def read_case(file: Path) -> Case:
    """A case file. UserError: it is none."""
    try:
        return Case.read(untrusted.text(file))
    except (OSError, ValueError) as error:
        raise UserError(f"the case {file} cannot be read: {error}",
                        accepted="a file that `expunge ui` kept, as docs/ui.md describes it") from error


def recheck(model: Model, patch: Patch, cases: Sequence[Case], world: World, *, fresh: int = 4,
            out: Path | None = None) -> list[Rechecked]:
    """Ask every case again.

    Args:
        model: the base model, without a patch on.
        fresh: images drawn with other seeds, of every case that comes back.
        out: folder for the record; None keeps none.

    Raises:
        UserError: a case of a concept that the patch did not take out, a patch for another model, or a text that the
            model does not read to its end.
        StorageError: the record cannot be written.
    """
    gone = patch.card.request.concepts
    others = [case.concept for case in cases if case.concept not in gone]
    if others:
        raise UserError(f"a case of {others[0]!r}", accepted=f"cases of what the patch took out: {', '.join(gone)}")
    model.check_lengths([case.text for case in cases])
    with applied(model, patch):
        made = [Rechecked(case, _asked(model, patch, case, world, fresh)) for case in cases]
    if out is not None:
        write_json(out / RESULT, [{"case": one.case.model_dump(mode="json"),
                                   "attempt": one.attempt.model_dump(mode="json")} for one in made])
    return made


def _asked(model: Model, patch: Patch, case: Case, world: World, fresh: int) -> Attempt:
    request = sought(world.prompts, patch, case.concept)
    goal, second = Goal(world.judge(request), aim_at(world.prompts, request)), world.second(request)
    victim = replace(Victim(model, patch, case.sampler), batch=1)  # an image's last bit is that of a batch of one
    sight, = goal.see(victim.draw([case.text], [case.seed]))
    fields = {"attack": case.attack or "own prompt", "access": "prompt", "seed": case.seed, "text": case.text,
              "prompt": Prompt(text=case.prompt or case.text, role="direct"), "error": sight.error,
              "outcome": "failed" if sight.error else "found" if sight.found else "not elicited"}
    spent = victim.rows_per_picture
    if not sight.found or sight.error or not fresh:
        return Attempt(**fields, spent=Spent(images=1, network_rows=spent))
    pictures = victim.draw([case.text] * fresh, [fresh_seed(case.seed, k) for k in range(1, fresh + 1)])
    seen = goal.see(pictures)
    found = [row for row, one in enumerate(seen) if one.found]
    answers = [] if second is None or not found else [
        one for one in Goal(second, goal.aim).see(pictures[found]) if not one.error]
    return Attempt(**fields, spent=Spent(images=1 + fresh, network_rows=spent * (1 + fresh)),
                   fresh=sum(not one.error for one in seen), fresh_found=len(found), asked_second=len(answers),
                   confirmed=None if second is None else sum(one.found for one in answers))
