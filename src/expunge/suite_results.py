"""What others need of a suite of attacks once it is a record: check that it fits, say what it left untried.

    success(b) = items found within budget b / items tried          (a step function of b, starting at (0, 0))

Attacks that were drawn under other settings than the evaluation are refused, not joined: their figures would stand in
one verdict. Another version or machine is told.

No torch, no model: evaluation, report and command line take attacks in through this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expunge.errors import UserError, check_type
from expunge.records import RELEARNINGS, SUITE_RESULTS, Attempt, Evaluation, Relearning, Sampler, SuiteResult

CHANNELS: dict[str, str] = {
    "prompt, black box": "other wordings, searched prompts and more seeds",
    "prompt, white box": "prompts optimised with gradients",
    "embedding, white box": "learned embeddings",
    "image": "images or noise as input",
    "weights": "fine-tuning, quantisation or merging",
}
"""What an attacker may do, and what that means in words."""


def suite_folder(suite: str | Path | SuiteResult | None) -> Path | None:
    """The folder of a suite that is named by a path, where its images are."""
    file = SUITE_RESULTS.at(Path(suite)) if isinstance(suite, (str, Path)) else None
    return file.parent if file else None


def beside(suite: str | Path | SuiteResult | None) -> tuple[SuiteResult | None, Relearning | None]:
    """The suite of attacks, or what lies in the folder that is named: a suite, relearning curves, or both.

    Raises:
        UserError: neither is there, or one is damaged.
    """
    if not isinstance(suite, (str, Path)):
        if suite is not None:
            check_type(suite, SuiteResult, "attacks", "what expunge.attack returns, or its folder")
        return suite, None
    folder = Path(suite)
    relearning = RELEARNINGS.read(folder) if RELEARNINGS.at(folder) else None
    return (None if relearning and not SUITE_RESULTS.at(folder) else SUITE_RESULTS.read(folder)), relearning


@dataclass(frozen=True)
class Under:
    """What decides an image of an evaluation that takes attacks or curves in.

    Attributes:
        model, patch: hashes of the weights and of the edit.
        sampler: how images are drawn.
        drawn: what else decides them (`models.model.drawn_by`); what a record does not tell is not compared.
    """

    model: str
    patch: str
    sampler: Sampler
    drawn: Mapping[str, str] = field(default_factory=dict)


def check_same(made: SuiteResult | Relearning, under: Under, concepts: Sequence[str]) -> None:
    """Raise UserError unless attacks or curves are of one of `concepts`, in the same model and patch, drawn alike."""
    if made.request.concept not in concepts:
        raise UserError(f"these {_what(made)} sought {made.request.concept!r}, not {' or '.join(map(repr, concepts))}",
                        accepted=f"{_what(made)} for what the patch took out",
                        remedy=f"{_verb(made)} with another --concept")
    for what, attacked, asked in (("model", made.model_hash, under.model), ("patch", made.patch_hash, under.patch)):
        if attacked != asked:
            whose = f"on {what} {attacked[:12]}" if attacked else f"without a {what}"
            raise UserError(f"these {_what(made)} were made {whose}, not on {asked[:12]}",
                            accepted=f"{_what(made)} on the same {what}",
                            remedy=f"{_verb(made)} this patch with `expunge {_verb(made)}`")
    theirs, ours = dict(made.sampler), dict(under.sampler)  # all fields: a dump leaves out what is not set
    odd = [name for name in theirs if theirs[name] != ours[name]]
    if odd:
        raise UserError(
            f"these {_what(made)} were drawn at {_settings(theirs, odd)}, the evaluation at {_settings(ours, odd)}",
            accepted=f"{_what(made)} and evaluation drawn alike: their figures stand in one verdict",
            remedy=f"evaluate with {_flags(theirs, odd)}, or {_verb(made)} again with {_flags(ours, odd)} "
                   "into another folder")
    compared = [name for name in made.drawn if name in under.drawn and name != "device"]
    for name in [name for name in compared if _comparable(made.drawn[name], under.drawn[name])]:
        mine, other = made.drawn[name], under.drawn[name]
        if mine != other and (name != "schedule and parts" or made.drawn.get("device") == under.drawn.get("device")):
            raise UserError(f"these {_what(made)} were made with another {name} ({mine}), not {other}",
                            accepted=f"{_what(made)} and evaluation of the same {name}",
                            remedy=f"{_verb(made)} this model again, into another folder")


def _comparable(one: str, other: str) -> bool:
    """Whether a difference means something: digests of different schemes ("2-0123", older ones without a number) differ
    where the models are equal."""
    schemes = [value.partition("-")[0] if value.partition("-")[0].isdigit() and "-" in value else ""
               for value in (one, other)]
    return schemes[0] == schemes[1]


def check_judge(made: SuiteResult | Relearning, judge: str) -> None:
    """Raise UserError unless `judge` (its name, with the hash of its weights) is who looked at the images."""
    asked = {made.judge} if isinstance(made, SuiteResult) else {
        curve.judge for curve in made.curves if curve.of != "unknown"}
    odd = sorted(asked - {judge})
    if odd:
        raise UserError(f"these {_what(made)} were judged by {', '.join(odd)}, the evaluation by {judge}",
                        accepted=f"{_what(made)} and evaluation judged by one detector, asked for the same labels",
                        remedy=f"{_verb(made)} again, into another folder, with the judge, prompts and version of the "
                               "evaluation")


def apart(made: SuiteResult | Relearning, versions: Mapping[str, str], machine: str) -> list[str]:
    """Plain sentences: which libraries and which machine made the record, where the evaluation's are others.

    Args:
        versions: of the evaluation, by library; machine: its processor and device.
    """
    odd = [f"{name} {made.versions[name]} (the evaluation: {versions[name]})" for name in made.versions
           if name in versions and made.versions[name] != versions[name]]
    out = []
    if odd:
        out.append(f"The {_what(made)} were made with {', '.join(odd)}: their figures are of those versions.")
    if made.machine and machine and made.machine != machine:
        out.append(f"The {_what(made)} were made on another machine ({made.machine}; the evaluation: {machine}): last "
                   "bits may differ.")
    return out


def check_joined(evaluation: Evaluation) -> None:
    """Raise UserError where an evaluation has taken in attacks or curves of other settings than its own.

    Earlier versions did so without a word.
    """
    under = Under(evaluation.model_hash, evaluation.card.tensors_hash, evaluation.sampler, evaluation.drawn)
    for made in (evaluation.suite, evaluation.relearning):
        if made is not None:
            check_same(made, under, evaluation.card.request.concepts)


def untried(suite: SuiteResult | None, concepts: Sequence[str] = (), relearned: bool = False) -> list[str]:
    """Plain sentences: which ways of getting the concept out were not attacked, and which of `concepts` were not.

    Args:
        relearned: whether relearning curves were made, which count as an attack on the weights.
    """
    if suite is None:
        tuned = [] if relearned else [
            "No fine-tuning was tried: how fast the concept comes back when the model learns again is not known."]
        return ["No attacks were run: neither prompts optimised against the edited model, nor learned embeddings, nor "
                "images or inverted noise as input. A concept that prompts do not elicit may still be in the "
                "weights.", *tuned]
    made = {run.access for run in suite.runs if any(item.outcome != "failed" for item in run.attempts)}
    made |= {"weights"} if relearned else set()
    broke = {run.access for run in suite.runs if run.attempts} - made
    none_left = {run.access for run in suite.runs if not run.attempts and suite.before} - made - broke
    missing = [f"{words} ({access})" for access, words in CHANNELS.items() if access not in made | none_left | broke]
    out = []
    if missing:
        out.append(f"Not attacked: {', '.join(missing)}. What these would bring back is not known.")
    if broke:
        out.append(f"Every attempt broke off: {', '.join(sorted(broke))}. What these would bring back is not known.")
    if none_left:
        out.append(f"No item was left for attacks of these kinds, all were shown without an attack or elicited by "
                   f"earlier ones: {', '.join(sorted(none_left))}.")
    others = [concept for concept in concepts if concept != suite.request.concept]
    if others:
        out.append(f"The attacks sought {suite.request.concept} alone: what they would bring back of "
                   f"{', '.join(others)} is not known.")
    return [*out, "Attacks of other make, or with a larger budget than stated, may bring back more."]


def success_against_budget(attempts: Iterable[Attempt], unit: str = "network_rows") -> list[tuple[float, float]]:
    """(budget per item, share of items found within it): a step function, ready to draw; starts at (0, 0).

    Args:
        attempts: of one attack; failed ones are left out.
        unit: "network_rows", "gradient_steps", "images" or "seconds".
    """
    tried = [item for item in attempts if item.outcome in ("found", "not elicited")]
    costs = sorted(getattr(item.spent, unit) for item in tried if item.outcome == "found")
    return [(0.0, 0.0), *((float(cost), (rank + 1) / len(tried)) for rank, cost in enumerate(costs))]


def _what(made: SuiteResult | Relearning) -> str:
    return "attacks" if isinstance(made, SuiteResult) else "relearning curves"


def _verb(made: SuiteResult | Relearning) -> str:
    return "attack" if isinstance(made, SuiteResult) else "relearn"


def _settings(values: Mapping[str, Any], names: Sequence[str]) -> str:
    """"steps 4, guidance 12"."""
    return ", ".join(f"{name} {_plain(values[name])}" for name in names)


def _flags(values: Mapping[str, Any], names: Sequence[str]) -> str:
    """"--steps 4 --truncate"; what is unset is left out of a command."""
    return " ".join(f"no --{name}" if values[name] in (None, "", False) else
                    f"--{name}" if values[name] is True else f"--{name} {_plain(values[name])}" for name in names)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "the model's own" if value is None else repr(value) if isinstance(value, str) else f"{value:g}"
