"""Play attacker: prompts of one's own, or an attack with a small budget, candidates shown as they come; finds are kept.

A find that text and seed give again becomes a case file (`records.case`) beside the patch, which `expunge attack PATCH
--case FILE` asks again.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.attacks.settings import AttackSettings
from expunge.attacks.stage import sought, variants
from expunge.attacks.suite import TIERS, planned
from expunge.attacks.victim import Goal, Item, Victim
from expunge.errors import UserError
from expunge.files import readable, text_digest, write_text
from expunge.models.model import applied
from expunge.records import Detection, Prompt, Request
from expunge.records.case import Case
from expunge.registry import ATTACKS
from expunge.ui.asked import Kept, Trial
from expunge.ui.jobs import Job, Jobs, stoppable
from expunge.ui.served import Served
from expunge.ui.shown import Shown
from expunge.ui.sights import asking, goal, panel, wordings

if TYPE_CHECKING:
    from torch import Tensor

    from expunge.attacks.base import Attack
    from expunge.attacks.proposal import Outcome
    from expunge.metrics.worlds import World
    from expunge.models.model import Model
    from expunge.models.patch import Patch
    from expunge.records import Sampler

OWN = "own"
"""The prompt as it is typed, without an attack."""
COUNTED = ("candidates", "finds", "unjudged")
"""What a trial counts of the images that the edited model drew."""
CASES = "cases"
"""The folder of cases, in a patch's."""
PLAIN = {"prompt, black box": "chooses words, sees images only",
         "prompt, white box": "chooses words, sees inside the model",
         "embedding, white box": "puts numbers in the place of words", "image": "hands in images",
         "weights": "trains the model", "none": "asks plainly"}
"""What an attacker may do, in plain words."""


def attacks() -> list[dict[str, Any]]:
    """Every usable attack: name, what it does, what the attacker may do; first those of a first look (tier smoke)."""
    quick = TIERS["smoke"].attacks
    rows = []
    for name in ATTACKS.usable():
        kind: type[Attack] = ATTACKS.get(name)
        if "path" not in kind.model_fields:  # one that needs a file of the user's own
            rows.append({"name": name, "does": ATTACKS.help(name), "may": PLAIN.get(kind.access, kind.access),
                         "quick": name in quick, "text": kind.access.startswith("prompt")})
    return sorted(rows, key=lambda row: quick.index(row["name"]) if row["quick"] else len(quick))


def suggested(served: Served, patch: str, concept: str = "") -> list[dict[str, Any]]:
    """Wordings to try on a patch (see `sights.wordings`)."""
    return wordings(served.world, sought(served.world.prompts, served.patch(patch), concept))


def attacking(served: Served, shown: Shown, asked: Trial, job: Job) -> dict[str, Any]:
    """Attack, telling every candidate; the result counts what was found, and what the judge failed on.

    The job counts "candidates", "finds" among them, and "unjudged": those that the judge failed on.
    """
    job.tell(0, 1, "opening the model")
    model, world, patch = served.model, served.world, served.patch(asked.patch)
    model.check_fits(patch)
    request = sought(world.prompts, patch, asked.concept)
    how, aim = asked.sampler(model.guidance), goal(world, request)
    victim = Victim(model, patch, how, variants=variants(world.prompts, request))
    items = _items(model, world, request, asked)
    job.say("trial", patch=asked.patch, trial=_where(model, patch, request, how, aim))
    with stoppable(model, job):
        job.tell(0, len(items), "looking at the original model")
        before = _told(victim, items, aim, shown, job, "original")
        job.tell(0, len(items), "looking at the edited model without an attack")
        with applied(model, patch):
            plain = _told(victim, items, aim, shown, job, "plain")
            tried = _attack(victim, request, items, plain, aim, asked, shown, job) if asked.attack != OWN else []
    number = sum(one["found"] for one in plain) + sum(one.found for one in tried)
    # an item that the judge failed on is attacked; what it comes to is then the attack's
    failed = [one.error for one in tried if one.error] if asked.attack != OWN else [
        one["error"] for one in plain if one["error"]]
    return {"concept": request.concept, "patch": asked.patch, "attack": asked.attack, "items": len(items),
            "found": number, "failed": len(failed), "why": failed[0] if failed else "",
            "shown_before": sum(one["found"] for one in before),
            "unjudged_before": sum(bool(one["error"]) for one in before),
            **{name: job.counts[name] for name in COUNTED}, "judge": aim.judge.name,
            "missing": panel(world, request).missing}


def _where(model: Model, patch: Patch, request: Request, how: Sampler, aim: Goal) -> dict[str, Any]:
    """What all cases of a trial have in common, JSON-able."""
    return {"concept": request.concept, "sampler": how.model_dump(mode="json"), "model": model.name,
            "model_hash": model.hash, "patch_hash": patch.hash, "judge": aim.judge.name}


def _items(model: Model, world: World, request: Request, asked: Trial) -> list[Item]:
    """What is attacked: the person's prompt at so many seeds, or so many prompts that name the concept."""
    if asked.prompt.strip():
        model.check_lengths([asked.prompt])
        prompt = Prompt(text=asked.prompt, role="direct")
        return [(prompt, asked.seed + k) for k in range(asked.count)]
    if asked.attack == OWN:
        raise UserError("no prompt", accepted="a prompt of your own, or an attack")
    return [(prompt, asked.seed) for prompt in asking(world, request, asked.count)]


def _told(victim: Victim, items: list[Item], aim: Goal, shown: Shown, job: Job, side: str) -> list[dict[str, Any]]:
    """The items as the model draws them now; those of the edited model are candidates, too."""
    pictures = victim.draw([prompt.text for prompt, _ in items], [seed for _, seed in items])
    out = []
    for (prompt, seed), picture, sight in zip(items, pictures, aim.see(pictures), strict=True):
        one = _candidate(prompt.text, prompt.text, seed, True, picture, sight, aim, shown)
        if side == "plain":
            _tried(job, OWN, one)
        else:
            job.say(side, attack=OWN, **one)
        out.append(one)
    return out


def _attack(victim: Victim, request: Request, items: list[Item], plain: list[dict[str, Any]], aim: Goal, asked: Trial,
            shown: Shown, job: Job) -> list[Outcome]:
    """The outcomes of the attack on the items that do not show the concept by themselves."""
    attack, = planned(AttackSettings(tier="smoke", attacks=(asked.attack,)))
    standing = [item for item, one in zip(items, plain, strict=True) if not one["found"]]
    if not standing:
        return []
    made: list[Outcome] = []

    def watch(item: Item, text: str, seed: int, by_text: bool, picture: Tensor, sight: Detection) -> None:
        _tried(job, asked.attack, _candidate(item[0].text, text, seed, by_text, picture, sight, aim, shown))
        job.tell(len(made), len(standing), f"attack: {asked.attack}")

    watched = replace(victim, watch=watch)
    with ATTACKS.blaming(attack.name):
        attack.check(watched, request, standing)
    job.tell(0, len(standing), f"attack: {asked.attack}")
    for outcome in attack.outcomes(watched, request, standing, aim):
        made.append(outcome)
        prompt, seed = standing[outcome.row]
        job.say("settled", prompt=prompt.text, seed=seed, found=outcome.found, error=outcome.error)
        job.tell(len(made), len(standing), f"attack: {asked.attack}")
    return made


def _tried(job: Job, attack: str, one: dict[str, Any]) -> None:
    """Count a candidate, and tell it if there is room for it."""
    job.counts.update(candidates=1, finds=int(one["found"]), unjudged=int(bool(one["error"])))
    job.say("candidate", attack=attack, **one)


def _candidate(prompt: str, text: str, seed: int, by_text: bool, picture: Tensor, sight: Detection, aim: Goal,
               shown: Shown) -> dict[str, Any]:
    question = aim.aim.question
    return {"prompt": prompt, "text": text, "seed": str(seed), "picture": shown.add(picture), "by_text": by_text,
            "found": bool(sight.found and not sight.error), "answer": sight.answers.get(question, ""),
            "sure": sight.confidence.get(question), "error": sight.error}


def keep(served: Served, jobs: Jobs, asked: Kept) -> dict[str, Any]:
    """Write a case of the last trial's finds; returns its place in the served folder and what asks it again.

    Raises:
        UserError: no such find, or one that a text and a seed do not give again.
    """
    job = jobs.last.get("attack")
    if job is None or job.number != asked.job or asked.place >= len(job.told):
        raise UserError("a find that is not there any more", accepted="one of the last attack's")
    one = job.told[asked.place]
    if one["kind"] != "candidate" or not one["found"]:
        raise UserError("an image in which the detector does not see the concept", accepted="a find")
    if not one["by_text"]:
        raise UserError("a find that words alone do not bring back", accepted="one that a prompt and a seed give again",
                        remedy="`expunge attack` makes this attack with everything written down")
    trial = job.told[0]["trial"]
    case = Case(**trial, text=one["text"], seed=int(one["seed"]), attack="" if one["attack"] == OWN else one["attack"],
                prompt=one["prompt"], created=datetime.now(timezone.utc).isoformat(timespec="seconds"))
    return write_case(served, str(job.told[0]["patch"]), case)


def write_case(served: Served, patch: str, case: Case) -> dict[str, Any]:
    """Write a case beside its patch; the same case is one file."""
    folder = served.patch_folder(patch)
    digest = text_digest(f"{case.text}/{case.seed}/{case.sampler.digest}")[:8]
    file = folder / CASES / f"{readable(case.concept)}-{digest}.json"
    write_text(file, case.model_dump_json(indent=2) + "\n")
    where = Path(patch) / CASES / file.name
    return {"file": where.as_posix(), "command": f"expunge attack {_shell(served.called(folder))} --case "
            f"{_shell(served.called(file))}"}


def _shell(path: Path) -> str:
    return shlex.quote(str(path))
