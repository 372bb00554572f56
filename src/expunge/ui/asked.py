"""What the page may ask for, as settings: every limit is here, and every mistake is told at once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from expunge.config import Settings, knob
from expunge.records import Sampler

LONGEST = 500
"""Letters of a prompt."""
Text = Annotated[str, Field(max_length=LONGEST)]
Name = Annotated[str, Field(max_length=200)]


class Drawn(Settings):
    """What every job that draws can be told."""

    steps: int = knob(20, "denoising steps", ge=1, le=150)
    guidance: float | None = knob(None, "guidance; None means the model's own", ge=1.0, le=30.0)

    def sampler(self, own: float) -> Sampler:
        """How images are drawn, `own` being the model's own guidance."""
        return Sampler(steps=self.steps, guidance=own if self.guidance is None else self.guidance)


class Comparison(Drawn):
    """Draw one prompt before and after an edit."""

    patch: Name = knob(description="name of the patch")
    prompt: Text = knob(description="what to draw", min_length=1)
    seed: int = knob(0, "the first seed", ge=0, le=2**32)
    count: int = knob(4, "how many seeds", ge=1, le=8)
    strength: float = knob(1.0, "how much of the edit is put on: 0 none, 1 all of it", ge=0.0, le=2.0)


class Edit(Settings):
    """Take a concept out."""

    concept: Name = knob(description="what to take out", min_length=1)
    anchor: Name | None = knob(None, "what takes its place; empty: nothing in particular; None: found where the method "
                                     "wants one")
    keep: tuple[Name, ...] = knob((), "what must stay", max_length=20)
    method: Name = knob("uce", "how")
    steps: int | None = knob(None, "training steps; None means the method's own", ge=1, le=100_000)
    seed: int = knob(0, "decides every random draw", ge=0, le=2**32)


class Trial(Drawn):
    """Try to bring back what a patch took out."""

    patch: Name = knob(description="name of the patch")
    concept: Name = knob("", "what to bring back; empty: what the patch took out")
    attack: Name = knob("paraphrase", "how; 'own' asks `prompt` as it is")
    prompt: Text = knob("", "where to begin; empty: prompts that name the concept")
    seed: int = knob(0, "the first seed", ge=0, le=2**32)
    count: int = knob(2, "how many images to begin with", ge=1, le=8)


class Kept(Settings):
    """A candidate of the last trial that is kept as a case."""

    job: int = knob(description="number of the job that found it", ge=1)
    place: int = knob(description="which of the things that it told", ge=0)


class Sample(Settings):
    """Begin, or go on with, labelling images of an evaluation."""

    run: Name = knob(description="name of the evaluation")
    person: str = knob(description="how the person calls themselves", min_length=1, max_length=40)
    seed: int = knob(0, "of the sample", ge=0, le=2**32)
    count: int = knob(40, "pictures", ge=2, le=400)


class Said(Sample):
    """One answer."""

    place: int = knob(description="which image of the sample", ge=0)
    answer: str = knob(description="what the person says", pattern="^(yes|no|unsure)?$")
