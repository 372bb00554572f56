"""Which parts stand in for those of a model's world: what is asked, who judges, what measures."""

from __future__ import annotations

from typing import Any

from expunge.config import Settings, knob


class AskSettings(Settings):
    """Whose prompts are asked, and who says whether the concept is there."""

    prompts_of: str = knob("", "whose prompts are asked, by a name of `expunge ls prompts`; empty: the world's")
    prompts: str = knob("", "open prompts: file of prompts by role (YAML, CSV, JSON); used whole, unless counts are "
                            "set")
    default_role: str = knob("", "open prompts: role of the prompts in a file without roles; empty: by what they name")
    add_templates: bool = knob(False, "open prompts: ask templates, too, for what the file of prompts fills")
    clip: str = knob("", "open world: folder or Hub id of the CLIP that judges")
    margin: float | None = knob(None, "open world: least lead in probability of a CLIP judge's answer, below which it "
                                      "abstains; None means 0.2", ge=0.0, lt=1.0)
    detector: str = knob("", "who says whether the concept is there, by a name of `expunge ls detectors`; empty: the "
                             "world's judge")
    detector_options: dict[str, Any] = knob({}, "the detector's settings; under files what it needs, by role; under "
                                                "rule what of its readings counts")
    second: str = knob("", "who confirms it, by a name of `expunge ls detectors`; empty: the world's second judge")
    second_options: dict[str, Any] = knob({}, "the same settings of the second detector")


class MeasureSettings(AskSettings):
    """What images are compared by, too, and what the concept is called in other languages."""

    name_in: tuple[str, ...] = knob((), "open prompts: LANGUAGE=NAME, what the concept is called where a stratum asks "
                                        "in that language; else it is called as the request calls it")

    features: str = knob("", "features of FID and KID, by a name of `expunge ls features`; empty: the world's")
    features_options: dict[str, Any] = knob({}, "resizer and modified of the features; under files what they need, by "
                                                "role")
    distance: str = knob("default", "perceptual distance of integrity, by a name of `expunge ls distances`; default: "
                                    "the world's")
    distance_options: dict[str, Any] = knob({}, "modified of the distance; under files what it needs, by role")
    reference: str = knob("", "statistics of real images for FID and KID, by a name of `expunge ls references` or as a "
                              "file of `expunge reference`; empty: the world's")
