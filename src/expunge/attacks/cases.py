"""Cases: finds that were kept, asked again of the same patch or of another one for the same concept.

A case is a text and a seed (`records.case`). It is drawn as it was found, judged, drawn again with fresh seeds, and
shown to the second detector. One that comes back is a text that this patch does not stand; one that does not says
nothing about other texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from expunge import runtime, untrusted
from expunge.attacks.stage import sought
from expunge.attacks.victim import Goal, Victim, fresh_seed
from expunge.errors import UserError
from expunge.files import write_json
from expunge.locks import alone_in_out
from expunge.metrics.base import Judge
from expunge.metrics.prompts import aim_at
from expunge.metrics.worlds import World
from expunge.models.model import Model, applied
from expunge.models.patch import Patch
from expunge.records import Attempt, Prompt, Spent
from expunge.records.case import Case, Recheck, Rechecks
from expunge.records.stored import CASES


def read_case(file: Path) -> Case:
    """A case file. UserError: it is none."""
    try:
        return Case.read(untrusted.text(file))
    except (OSError, ValueError) as error:
        raise UserError(f"the case {file} cannot be read: {error}",
                        accepted="a file that `expunge ui` kept, as docs/ui.md describes it") from error


@alone_in_out()
def recheck(model: Model, patch: Patch, cases: Sequence[Case], world: World, *, fresh: int = 4,
            out: Path | None = None) -> list[Recheck]:
    """Ask every case again.

    Args:
        model: the base model, without a patch on.
        fresh: images drawn with other seeds, of every case that comes back.
        out: folder for the record, beside what earlier cases came to there; None keeps none.

    Raises:
        UserError: a case of a concept that the patch did not take out, a patch for another model, a text that the
            model does not read to its end, or a record in `out` that cannot be read.
        StorageError: the record cannot be written.
    """
    runtime.one_process("asking cases again")
    gone = patch.card.request.concepts
    others = [case.concept for case in cases if case.concept not in gone]
    if others:
        raise UserError(f"a case of {others[0]!r}", accepted=f"cases of what the patch took out: {', '.join(gone)}")
    model.check_lengths([case.text for case in cases])
    before = _kept(out)
    with applied(model, patch):
        made = [_asked(model, patch, case, world, fresh) for case in cases]
    if out is not None:
        every = {one.asked: one for one in (*before, *made)}
        write_json(out / CASES.name, Rechecks(cases=tuple(every.values())).model_dump(mode="json"))
    return made


def _kept(out: Path | None) -> tuple[Recheck, ...]:
    """What earlier cases came to in that folder."""
    if out is None or CASES.at(out) is None:
        return ()
    try:
        return CASES.read(out).cases
    except UserError as error:
        raise UserError(error.got, accepted=error.accepted, remedy="move that file away to begin anew") from error


def _asked(model: Model, patch: Patch, case: Case, world: World, fresh: int) -> Recheck:
    request = sought(world.prompts, patch, case.concept)
    judge, second = world.judge(request), world.second(request)
    goal = Goal(judge, aim_at(world.prompts, request))
    return Recheck(case=case, attempt=_drawn(model, patch, case, goal, second, fresh), model=model.name,
                   model_hash=model.hash, patch_hash=patch.hash, judge=judge.name,
                   second="" if second is None else second.name, fresh=fresh,
                   differs=tuple(_differences(case, model, judge)),
                   created=datetime.now(timezone.utc).isoformat(timespec="seconds"))


def _differences(case: Case, model: Model, judge: Judge) -> list[str]:
    """In sentences, what the case was found with and is not asked with; what it does not say cannot differ."""
    out = []
    if case.model_hash and case.model_hash != model.hash:
        out.append(f"Found in the model {case.model} ({case.model_hash[:8]}), asked of {model.name} "
                   f"({model.hash[:8]}).")
    if case.judge and case.judge != judge.name:
        out.append(f"Seen by {case.judge}, judged now by {judge.name}.")
    return out


def _drawn(model: Model, patch: Patch, case: Case, goal: Goal, second: Judge | None, fresh: int) -> Attempt:
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
