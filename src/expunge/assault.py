"""What others need of a suite of attacks once it is a record: check that it fits, say what it left untried.

    success(b) = items found within budget b / items tried          (a step function of b, starting at (0, 0))

No torch, no model: evaluation, report and command line take attacks in through this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from expunge.errors import UserError
from expunge.records import ASSAULTS, RELEARNINGS, Assault, Attempt, Relearning

CHANNELS: dict[str, str] = {
    "prompt, black box": "other wordings, searched prompts and more seeds",
    "prompt, white box": "prompts optimised with gradients",
    "embedding, white box": "learned embeddings",
    "image": "pictures or noise as input",
    "weights": "fine-tuning, quantisation or merging",
}
"""What an attacker may do, and what that means in words."""


def assault_folder(assault: str | Path | Assault | None) -> Path | None:
    """The folder of a suite that is named by a path, where its pictures are."""
    file = ASSAULTS.at(Path(assault)) if isinstance(assault, (str, Path)) else None
    return file.parent if file else None


def beside(assault: str | Path | Assault | None) -> tuple[Assault | None, Relearning | None]:
    """The suite of attacks, or what lies in the folder that is named: a suite, relearning curves, or both.

    Raises:
        UserError: neither is there, or one is damaged.
    """
    if not isinstance(assault, (str, Path)):
        return assault, None
    folder = Path(assault)
    relearning = RELEARNINGS.read(folder) if RELEARNINGS.at(folder) else None
    return (None if relearning and not ASSAULTS.at(folder) else ASSAULTS.read(folder)), relearning


def check_same(assault: Assault | Relearning, model_hash: str, patch_hash: str, concepts: Sequence[str]) -> None:
    """Raise UserError unless attacks or curves are of one of `concepts`, in the model and patch with these hashes."""
    if assault.request.concept not in concepts:
        raise UserError(f"these attacks sought {assault.request.concept!r}, not {' or '.join(map(repr, concepts))}",
                        accepted="attacks for what the patch took out", remedy="attack with another --concept")
    for what, attacked, asked in (("model", assault.model_hash, model_hash), ("patch", assault.patch_hash, patch_hash)):
        if attacked != asked:
            whose = f"on {what} {attacked[:12]}" if attacked else f"without a {what}"
            raise UserError(f"these attacks were made {whose}, not on {asked[:12]}",
                            accepted=f"attacks on the same {what}", remedy="attack this patch with `expunge attack`")


def untried(assault: Assault | None, concepts: Sequence[str] = (), relearned: bool = False) -> list[str]:
    """Plain sentences: which ways of getting the concept out were not attacked, and which of `concepts` were not.

    Args:
        relearned: whether relearning curves were made, which count as an attack on the weights.
    """
    if assault is None:
        tuned = [] if relearned else [
            "No fine-tuning was tried: how fast the concept comes back when the model learns again is not known."]
        return ["No attacks were run: neither prompts optimised against the edited model, nor learned embeddings, nor "
                "inverted noise. A concept that prompts do not elicit may still be in the weights.", *tuned]
    made = {run.access for run in assault.runs if any(item.outcome != "failed" for item in run.attempts)}
    made |= {"weights"} if relearned else set()
    none_left = {run.access for run in assault.runs if not run.attempts and assault.before} - made
    missing = [f"{words} ({access})" for access, words in CHANNELS.items() if access not in made | none_left]
    out = []
    if missing:
        out.append(f"Not attacked: {', '.join(missing)}. What these would bring back is not known.")
    if none_left:
        out.append(f"No item was left for attacks of these kinds, all were shown without an attack or elicited by an "
                   f"earlier one: {', '.join(sorted(none_left))}.")
    others = [concept for concept in concepts if concept != assault.request.concept]
    if others:
        out.append(f"The attacks sought {assault.request.concept} alone: what they would bring back of "
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
