"""What others need of a suite of attacks once it is a record: read it, check that it fits, say what it left untried.

    success(b) = items found within budget b / items tried          (a step function of b, starting at (0, 0))

No torch, no model: evaluation, report and command line take attacks in through this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from expunge.errors import UserError
from expunge.records import Assault, Attempt

ASSAULT = "attack.json"
"""Name of a suite's record in its folder."""

CHANNELS: dict[str, str] = {
    "prompt, black box": "other wordings, searched prompts and more seeds",
    "prompt, white box": "prompts optimised with gradients",
    "embedding, white box": "learned embeddings",
    "image": "pictures or noise as input",
    "weights": "fine-tuning, quantisation or merging",
}
"""What an attacker may do, and what that means in words."""


def assault_file(path: Path) -> Path | None:
    """The record of the suite at `path` (its folder, or the file itself); None if there is none."""
    inside = path if path.name == ASSAULT else path / ASSAULT
    return inside if inside.is_file() else None


def read_assault(path: Path) -> Assault:
    """The suite of attacks at `path`.

    Raises:
        UserError: there is none, or its record is damaged.
    """
    file = assault_file(path)
    if file is None:
        below = assault_file(path / "attack")
        raise UserError(f"no attacks at {path}", accepted=f"a folder with {ASSAULT}",
                        remedy=f"there is one at {below.parent}" if below else "make one with `expunge attack PATCH`")
    try:
        return Assault.read(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}", accepted="a record that `expunge attack` wrote",
                        remedy="attack again") from error


def assault_folder(assault: str | Path | Assault | None) -> Path | None:
    """The folder of a suite that is named by a path, where its pictures are."""
    file = assault_file(Path(assault)) if isinstance(assault, (str, Path)) else None
    return file.parent if file else None


def check_same(assault: Assault, model_hash: str, patch_hash: str, concept: str) -> None:
    """Raise UserError unless the attacks sought `concept` in the model and the patch with these hashes."""
    if assault.request.concept != concept:
        raise UserError(f"these attacks sought {assault.request.concept!r}, not {concept!r}",
                        accepted="attacks for what the patch took out", remedy="leave out --concept when you attack")
    for what, attacked, asked in (("model", assault.model_hash, model_hash), ("patch", assault.patch_hash, patch_hash)):
        if attacked != asked:
            whose = f"on {what} {attacked[:12]}" if attacked else f"without a {what}"
            raise UserError(f"these attacks were made {whose}, not on {asked[:12]}",
                            accepted=f"attacks on the same {what}", remedy="attack this patch with `expunge attack`")


def untried(assault: Assault | None) -> list[str]:
    """Plain sentences: which ways of getting the concept out were not attacked."""
    if assault is None:
        return ["No attacks were run: neither prompts optimised against the edited model, nor learned embeddings, nor "
                "inverted noise. A concept that prompts do not elicit may still be in the weights.",
                "No fine-tuning was tried: how fast the concept comes back when the model learns again is not known."]
    made = {run.access for run in assault.runs if any(item.outcome != "failed" for item in run.attempts)}
    none_left = {run.access for run in assault.runs if not run.attempts} - made
    missing = [f"{words} ({access})" for access, words in CHANNELS.items() if access not in made | none_left]
    out = []
    if missing:
        out.append(f"Not attacked: {', '.join(missing)}. What these would bring back is not known.")
    if none_left:
        out.append(f"No item was left for attacks of these kinds, earlier ones had elicited all: "
                   f"{', '.join(sorted(none_left))}.")
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
