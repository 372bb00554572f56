"""How a protocol is run. No torch, so that help texts load none."""

from __future__ import annotations

from typing import Literal

from expunge.config import Settings, knob


class RunSettings(Settings):
    """How a protocol is run: what does not decide its numbers, and what makes them deviate."""

    batch: int = knob(8, "images drawn together: speed, memory, and at most the last bit of an image", ge=1)
    store: Literal["none", "hashes", "pictures"] = knob(
        "hashes", "what is kept of images: nothing, their hashes, or PNG files as well")
    keep_days: int = knob(0, "days after which `expunge wipe --due` deletes the run's images and texts; 0 never does",
                          unit="days", added=True, ge=0)
    limit: int = knob(0, "only that many rows, spread evenly over the list; 0 asks all. It is a deviation", ge=0)
    erased: tuple[str, ...] = knob((), "what the edit takes out, as the protocol's labels call it; () takes the "
                                       "patch's concepts")
    allow_deviation: bool = knob(False, "run with files of other hashes than the protocol's, and call the result "
                                        "-modified")
    stand_ins: tuple[str, ...] = knob((), "DETECTOR=FOLDER: an image classifier in a detector's place, to try a run "
                                          "without its weights; no number of such a run is given")
    steps: int = knob(0, "denoising steps other than the protocol's; 0 takes the protocol's. It is a deviation", ge=0)
    width: int = knob(0, "image width other than the protocol's; 0 takes the protocol's. It is a deviation",
                      unit="pixels", ge=0)
    height: int = knob(0, "image height other than the protocol's; 0 takes the protocol's. It is a deviation",
                       unit="pixels", ge=0)


UNSEEN = {"allow_deviation", "keep_days"}
"""Settings that no image and no number of a run depends on: a run goes on under others."""
