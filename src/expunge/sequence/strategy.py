"""How an edit in a sequence holds on to the edits before it and to the original: settings, and presets by name.

With theta_0 the original, theta_(k-1) the model that request k finds, and L_k the loss of its method,

    L = L_k + a_e mean |eps_theta(x_j) - z_j|^2            replay: what earlier requests trained to, frozen numbers
            + a_r mean |eps_theta(x_r) - eps_theta_0(x_r)|^2      retain: the original's own predictions elsewhere
            + b_p/2 mean M_p (theta - theta_0)^2           an anchor in the original's weights
            + b_e/2 mean M_e (theta - theta_(k-1))^2       an anchor in the last request's

which is the unified objective of continual learning (output terms and weight terms; Wang et al. 2024) with "unlearn
request k" as the new task. Refresh ascends before it descends, and gradient projection keeps a step from changing what
keys and values make of other prompts.

Source: Wang et al. 2024 (2403.13249), the unified objective; CUIG (2511.07970), regularisers for sequences of
requests. Differs: the terms over earlier erasures and the original are ours; see each part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import model_validator
from typing_extensions import Self

from expunge.config import Settings, knob
from expunge.errors import UserError
from expunge.unlearn.method import overridden
from expunge.unlearn.projected import Projection
from expunge.unlearn.refreshed import Refreshed
from expunge.unlearn.retain import Retain


class Replay(Settings):
    """Hold on to earlier erasures: at points of theirs the student predicts what they were trained to.

    Each request leaves points of its own and targets on them behind, so replay needs no teacher and costs the same
    however many requests came before.

    Source: DER (Buzzega et al. 2020) of erasures; ours.
    """

    weight: float = knob(4.0, "Factor of the loss (a_e)", gt=0.0)
    batch: int = knob(2, "Points of a look, over all earlier requests alike", ge=1)
    trajectories: int = knob(6, "Trajectories that each request leaves behind, with every grid point", ge=1)
    grid: int = knob(20, "Sampler steps of a trajectory", unit="steps", ge=1, le=1000)
    guidance: float = knob(2.0, "Classifier-free guidance of the trajectories; 1 is none", ge=1.0, le=50.0)


class OtherPrompts(Settings):
    """Points on prompts for other things, drawn once for the whole sequence; those of what is gone are left out later.
    """

    prompts: Retain = knob(Retain(each=1), "Prompts for other things, as a method's `retain` makes them")
    trajectories: int = knob(36, "Trajectories, over these prompts and the empty one", ge=2)
    grid: int = knob(20, "Sampler steps of a trajectory", unit="steps", ge=1, le=1000)
    guidance: float = knob(2.0, "Classifier-free guidance of the trajectories; 1 is none", ge=1.0, le=50.0)


class HoldOriginal(Settings):
    """Hold on to the original elsewhere: on prompts for other things the student predicts what the original does.

    Source: LwF (Li and Hoiem 2017) towards the original; ours.
    """

    weight: float = knob(4.0, "Factor of the loss (a_r)", gt=0.0)
    batch: int = knob(2, "Points of a look", ge=1)


class WeightAnchor(Settings):
    """Hold on to weights: weight/2 times the mean over trained parameters of M (theta - anchor)^2.

    M is 1 (identity), or a diagonal Fisher information with mean 1: of the predictions on prompts to keep, or on those
    of earlier requests.

    Source: L2-SP (CUIG: towards the weights that the request found, weight 25000); EWC. Differs: towards the original
        by default, for drift from it is what ruins long sequences; a Fisher of predictions, not of a classifier's.
    """

    to: Literal["original", "last"] = knob("original", "The original's weights, or those that the request found")
    metric: Literal["identity", "kept", "erased"] = knob("identity", "What weighs each parameter")
    weight: float = knob(25000.0, "Factor (b_p, b_e)", gt=0.0, source="CUIG L2-SP")
    samples: int = knob(64, "Points on which a Fisher information rests", ge=4)


class Strategy(Settings):
    """What an edit holds on to, beside what its method does by itself.

    The losses' weights go with `every`: an optimizer that scales its steps (Adam) or a clipped gradient makes one look
    in four at four times the loss weaker than a look in every step.
    """

    teacher: Literal["original", "last"] = knob(
        "original", "Whom targets come from: the original, or the model that the request found")
    replay: Replay | None = knob(None, "Hold on to earlier erasures")
    retain: HoldOriginal | None = knob(None, "Hold on to the original elsewhere")
    every: int = knob(4, "Steps from one look at points of earlier erasures and of other things to the next; the loss "
                      "of a look counts as many times", unit="steps", ge=1)
    others: OtherPrompts = knob(OtherPrompts(), "Prompts for other things, for the parts that hold on to these")
    anchors: tuple[WeightAnchor, ...] = knob((), "Hold on to weights")
    projection: Projection | None = knob(None, "Keep steps out of what other prompts use")
    refresh: Refreshed | None = knob(None, "The update `refresh`, put around the method's own")
    joint: bool = knob(False, "Meet all requests so far at once, from the original")

    @property
    def remembers(self) -> bool:
        """Whether requests leave points behind."""
        return self.replay is not None or any(anchor.metric == "erased" for anchor in self.anchors)

    @property
    def knows_others(self) -> bool:
        """Whether it needs the original's predictions on other things."""
        return self.retain is not None or any(anchor.metric == "kept" for anchor in self.anchors)

    @property
    def holds(self) -> bool:
        """Whether losses join those of the method."""
        return bool(self.replay or self.retain or self.anchors)

    @property
    def bare(self) -> bool:
        """Whether it holds on to nothing, so that any method will do."""
        return not (self.holds or self.projection or self.refresh or self.teacher == "original")

    @model_validator(mode="after")
    def _joint_alone(self) -> Self:
        if self.joint and not self.bare:
            raise ValueError("joint goes on from the original and has nothing to hold on to: leave the other parts out")
        return self

    @model_validator(mode="after")
    def _targets_last(self) -> Self:
        if self.replay is not None and self.teacher == "last":
            raise ValueError("replay holds on to targets; those of the last model go with it (set teacher original)")
        return self


_REPLAY: dict[str, Any] = {"replay": {}, "retain": {}}
PRESETS: dict[str, dict[str, Any]] = {
    "naive": {"teacher": "last"},
    "l2-sp": {"anchors": [{}]},
    "ewc": {"anchors": [{"metric": "kept"}, {"to": "last", "metric": "erased"}]},
    "replay": _REPLAY,
    "refresh": {**_REPLAY, "refresh": {"every": 8}},
    "projection": {"projection": {}},
    "joint": {"teacher": "last", "joint": True},
}
"""Literals: what is not named is off, or at its default."""


def resolve_strategy(name: str, overrides: Mapping[str, Any] | None = None) -> Strategy:
    """A preset with overrides by (dotted) name: resolve_strategy("replay", {"replay.weight": 2}).

    Raises:
        UserError: unknown name. ConfigError: overrides that do not fit, all at once.
    """
    if name not in PRESETS:
        raise UserError(f"unknown strategy {name!r}", accepted=", ".join(PRESETS))
    return Strategy.build(overridden(PRESETS[name], overrides or {}, ()), f"strategy {name}")
