"""What can be wrong about a protocol's scores before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expunge.errors import ConfigError
from expunge.protocols.formulas import BY_DOMAIN, MOST, described
from expunge.protocols.schema import Measure, Protocol

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "accuracy": ("top",), "boxes": ("labels", "cut"), "harmonic": ("of",), "fid": ("features", "resizer"),
    "kid": ("features", "resizer"), "fid-original": ("features", "resizer"), "distance": ("distance",),
    **dict.fromkeys((*BY_DOMAIN, "agreement"), ("detectors",))}
"""What each formula can be told; others take nothing."""
_OVER_RULES, _OVER_LABELS = ("shown", "asr", "asr-shown"), ("accuracy", "mean-probability", "boxes")


def check_scores(protocol: Protocol) -> None:
    """Everything about a protocol's scores that can be wrong before anything is drawn.

    Raises:
        ConfigError: an unknown formula or option, a formula over answers without its detector or rule, options of
            another form. All mistakes are told.
    """
    wrong = []
    watches = {watch.name: watch for watch in protocol.detectors}
    for score in protocol.scores:
        own = OPTIONS.get(score.formula, ())
        if score.formula not in described():
            wrong.append(f"{score.name}: unknown formula {score.formula!r} (known: {', '.join(sorted(described()))})")
            continue
        wrong += [f"{score.name}: {score.formula} has no option {key!r} (it has {', '.join(own) or 'none'})"
                  for key in score.options if key not in own]
        if score.formula in (*_OVER_RULES, *_OVER_LABELS) and score.detector not in watches:
            wrong.append(f"{score.name}: {score.formula} without a detector")
        elif score.formula in _OVER_RULES and not watches[score.detector].rule.labels:
            wrong.append(f"{score.name}: the rule of {score.detector} names no labels")
        wrong += [f"{score.name}: {why}" for why in _odd_options(score, protocol)]
    if wrong:
        raise ConfigError("; ".join(wrong), accepted="scores as `expunge ls formulas` describes them")


def _odd_options(score: Measure, protocol: Protocol) -> list[str]:
    options = score.options
    top, parts, detectors = options.get("top", 1), options.get("of", []), options.get("detectors", {})
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= MOST:
        return [f"top is a whole number from 1 to {MOST}, not {top!r}"]
    if score.formula == "harmonic":
        known = [other.name for other in protocol.scores if other.formula not in ("harmonic", "boxes")]
        bad = [part for part in parts if not isinstance(part, dict) or part.get("score") not in known] \
            if isinstance(parts, list) else [parts]
        return [f"of is a list of {{score: NAME, complement: true or false}} with scores of the protocol, not {bad}"] \
            if bad or not parts else []
    names = {watch.name for watch in protocol.detectors}
    if score.formula == "agreement":
        decide = [watch.name for watch in protocol.detectors if watch.rule.labels and watch.rule.decides]
        return [] if _two(detectors, decide) else [
            "detectors is a list of two of the protocol's detectors whose rules say yes or no (it has "
            f"{', '.join(decide) or 'none'}), not {detectors!r}"]
    if score.formula in BY_DOMAIN and not (isinstance(detectors, dict) and detectors
                                           and set(detectors.values()) <= names
                                           and {*detectors} <= {*protocol.prompts.groups}):
        return [f"detectors is a mapping of the rows' columns, of those that `groups` of the prompts names "
                f"({', '.join(protocol.prompts.groups) or 'none'}), to the protocol's detectors"]
    return []


def _two(detectors: object, known: Sequence[str]) -> bool:
    return isinstance(detectors, list | tuple) and len(detectors) == 2 and detectors[0] != detectors[1] and all(
        one in known for one in detectors)
