"""The world of any real model: prompts from templates or from the user's own file, and a CLIP as judge."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from expunge.errors import UserError
from expunge.metrics.base import Features, Judge, PromptCounts
from expunge.metrics.clip import ClipJudge, LocalClip, clip_folder
from expunge.metrics.invented import Invented
from expunge.metrics.open_kinds import WORDINGS
from expunge.metrics.open_prompts import OpenPrompts, fill
from expunge.metrics.perceptual import lpips_alex
from expunge.metrics.prompts import NamesClasses, Prompts, aims_of
from expunge.metrics.worlds import World
from expunge.records import Request


def open_world(clip: str | None = None, prompts: str | Path | None = None, margin: float = 0.2,
               add_templates: bool = False, default_role: str = "", name_in: Sequence[str] = ()) -> World:
    """A world for any model; nothing is loaded before it is needed.

    Args:
        clip: folder or Hub id of a CLIP; None means the environment's EXPUNGE_CLIP.
        prompts, add_templates, default_role, name_in: see `OpenPrompts`. margin: see `ClipJudge`.
    """
    judges = ClipJudges(clip or os.environ.get("EXPUNGE_CLIP", ""), margin)
    asks = OpenPrompts(prompts, add_templates, default_role, name_in)
    return World("open", asks, judges, Invented(), judges.features, lpips_alex,
                 clip=lambda: judges.clip if judges.there else None)


class ClipJudges:
    """`Judges`: the user's CLIP, zero-shot among what the prompts name."""

    def __init__(self, where: str, margin: float = 0.2) -> None:
        """`where`: folder or Hub id; "" for none. `margin`: see `ClipJudge`."""
        self._where, self._margin = where, margin

    @property
    def there(self) -> bool:
        """Whether a CLIP was given."""
        return bool(self._where)

    @cached_property
    def clip(self) -> LocalClip:
        """The CLIP. UserError: none was given, or it cannot be had."""
        if not self._where:
            raise UserError("no CLIP to judge the pictures with",
                            accepted="a folder or Hub id as `clip`, or in the environment's EXPUNGE_CLIP",
                            remedy="for example --clip laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
        return LocalClip(clip_folder(self._where))

    def judge(self, request: Request, asks: Prompts) -> Judge:
        """CLIP zero-shot among the concepts and what stands beside them, or something else.

        Raises:
            UserError: no CLIP was given.
            ConfigError: a file of prompts cannot be read or holds mistakes.
        """
        questions = asks.classes(request) if isinstance(asks, NamesClasses) else _named(request, asks)
        return ClipJudge(self.clip, questions, self._margin)

    def second(self, request: Request, asks: Prompts) -> Judge | None:
        """None: the judge is already the only CLIP that was given."""
        return None

    def features(self) -> Features:
        """The CLIP's image features. UserError: no CLIP was given."""
        return self.clip.features()


def _named(request: Request, asks: Prompts) -> Mapping[str, Mapping[str, Sequence[str]]]:
    """What the concepts and the prompts' own labels name, each in the words for an object."""
    wanted = [aim.wanted for aim in aims_of(asks, request)]
    out: dict[str, dict[str, list[str]]] = {}
    for labels in (*wanted, *(prompt.labels for prompt in asks.of(request, PromptCounts()))):
        for question, label in labels.items():
            out.setdefault(question, {})[label] = [fill(template, label) for template in WORDINGS["object"].judge]
    return out
