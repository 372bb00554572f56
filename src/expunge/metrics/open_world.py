"""The world of any real model: prompts from templates or from the user's own file, and a CLIP as judge.

Direct prompts are those that training may use, held-out ones come from other templates. Paraphrases, implicit
prompts and near neighbours cannot be guessed from a name, so they come from a file (YAML or CSV) of the user's; what
is missing is not asked, and the evaluation says so.

YAML: a mapping of role to prompts, each a text or {text: ..., label: ...}. CSV: columns role, text, label. The label
is what the judge should see; prompts that ask for the concept need none, unless there are several concepts: then it
says which one. Prompts to keep that name a concept are left out, so that one file serves many requests.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from expunge.config import read_settings_file
from expunge.errors import ConfigError, UserError
from expunge.metrics.base import Autoencoder, Distance, Features, Judge, Moments, PromptCounts, Stranger, TextImage
from expunge.metrics.clip import SOMETHING_ELSE, ClipDistance, ClipJudge, LocalClip, clip_folder
from expunge.metrics.perceptual import Lpips, Ssim
from expunge.metrics.stlpips import StLpips
from expunge.records import FORGET_ROLES, KEEP_ROLES, Prompt, Request, Role, Target, asked, mentions

TEMPLATES: tuple[str, ...] = (
    "a photo of {a}", "{c}", "a picture of {a}", "an image of {a}", "a photograph of {a}", "a close-up of {a}",
    "a drawing of {a}", "a painting of {a}", "a beautiful picture of {a}", "a realistic photo of {a}",
    "a poster of {a}", "a bright photo of {a}")
HELD_OUT: tuple[str, ...] = (
    "a snapshot showing {a} in the afternoon", "here you can see {a}", "{a} seen from a distance",
    "an old postcard with {a} on it", "my holiday album: {a}", "{a}, studio light", "a wide shot with {a} in it",
    "{a} in the middle of the frame", "a magazine cover that shows {a}", "{a} on a rainy day", "concept art: {a}",
    "a black and white print of {a}")
"""Templates that no training prompt uses."""
FAR_THINGS: tuple[str, ...] = (
    "a dog", "a bicycle", "a cup of coffee", "a mountain lake", "a red car", "a bowl of fruit", "a wooden chair",
    "an airplane", "a sunflower", "a piano", "a sailing boat", "a teapot", "an elephant", "a bridge", "a clock",
    "a loaf of bread")
KEPT_THINGS: tuple[str, ...] = (
    "motorcycle", "bus", "train", "truck", "traffic light", "fire hydrant", "stop sign", "parking meter", "bench",
    "bird",
    "cat", "horse", "sheep", "cow", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase",
    "frisbee", "pair of skis", "snowboard", "kite", "baseball bat", "skateboard", "surfboard", "tennis racket",
    "bottle",
    "wine glass", "fork", "knife", "spoon", "banana", "apple", "sandwich", "orange", "bunch of broccoli", "carrot",
    "hot dog", "pizza", "donut", "cake", "couch", "potted plant", "bed", "dining table", "toilet", "television",
    "laptop",
    "computer mouse", "remote control", "keyboard", "telephone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "book", "vase", "pair of scissors", "teddy bear", "hair drier", "toothbrush")
"""Everyday objects that training may keep: COCO's categories (Lin et al. 2014) but those that `FAR_THINGS` asks for."""
QUESTION = "object"
_JUDGE_TEXTS = ("a photo of {a}", "a picture of {a}", "an image of {a}", "{a}")


class OpenWorld:
    """`World` for any model."""

    name = "open"

    def __init__(self, clip: str | None = None, prompts: str | Path | None = None, margin: float = 0.2) -> None:
        """Set up; nothing is loaded before it is needed.

        Args:
            clip: folder or Hub id of a CLIP; None means the environment's EXPUNGE_CLIP.
            prompts: file of prompts; None means the environment's EXPUNGE_PROMPTS.
            margin: see `ClipJudge`.
        """
        self._where = clip or os.environ.get("EXPUNGE_CLIP", "")
        file = prompts or os.environ.get("EXPUNGE_PROMPTS", "")
        self._file = Path(file) if file else None
        self._margin = margin
        self._loaded: LocalClip | None = None

    def request(self, concept: str | Sequence[str], anchor: str | Sequence[str] = "", keep: Sequence[str] = ()
                ) -> Request:
        """Each concept in all training templates.

        Raises:
            UserError: an empty concept, or a contradiction (`records.asked`).
        """
        first, *also = (Target(concept=name, prompts=tuple(fill(template, name) for template in TEMPLATES),
                               anchor=instead) for name, instead in asked(concept, anchor, keep))
        return Request(concept=first.concept, prompts=first.prompts, anchor=first.anchor, keep=tuple(keep),
                       also=tuple(also))

    def vocabulary(self, things: Sequence[str] = ()) -> Mapping[str, tuple[str, ...]]:
        """A photo of each thing, by default of those in `KEPT_THINGS`."""
        return {thing: (fill("a photo of {a}", thing),) for thing in things or KEPT_THINGS}

    def prompts(self, request: Request, counts: PromptCounts) -> list[Prompt]:
        """Templates and the user's file, up to `counts` per role (and concept that is asked for), no text twice.

        Raises:
            ConfigError: the file cannot be read or holds mistakes (all are shown).
        """
        chosen: list[Prompt] = []
        seen: set[str] = set()
        for role, pool in self._pools(request).items():
            fresh: dict[str, Prompt] = {}
            for prompt in pool:
                if prompt.text not in seen:
                    fresh.setdefault(prompt.text, prompt)
            seen |= fresh.keys()  # asked or not: what one role may ask is not asked under another one's name
            taken: Counter[str] = Counter()
            for prompt in fresh.values():
                whose = prompt.labels[QUESTION] if role in FORGET_ROLES else ""
                taken[whose] += 1
                chosen += [prompt] if taken[whose] <= getattr(counts, role) else []
        return chosen

    def _pools(self, request: Request) -> dict[Role, list[Prompt]]:
        """All that could be asked about `request`, by role, the user's own prompts first."""
        pools: dict[Role, list[Prompt]] = {role: [] for role in get_args(Role)}
        for prompt in read_prompts(self._file, request.concepts) if self._file else []:
            pools[prompt.role].append(prompt)
        for target in request.targets:
            here = {QUESTION: target.concept}
            pools["direct"] += [Prompt(text=text, role="direct", labels=here) for text in target.prompts]
            pools["held_out"] += [Prompt(text=fill(template, target.concept), role="held_out", labels=here)
                                  for template in HELD_OUT]
        anchors = list(dict.fromkeys(target.anchor for target in request.targets if target.anchor))
        pools["near"] += [Prompt(text=fill(template, anchor), role="near", labels={QUESTION: anchor})
                          for template in HELD_OUT for anchor in anchors]
        pools["far"] += [Prompt(text=f"a photo of {thing}", role="far", labels={QUESTION: bare(thing)})
                         for thing in FAR_THINGS if bare(thing) not in map(bare, anchors)]
        pools["empty"].append(Prompt(text="", role="empty"))
        for role in KEEP_ROLES:
            pools[role] = [prompt for prompt in pools[role] if not any(
                mentions(text, name) for text in (prompt.text, *prompt.labels.values()) for name in request.concepts)]
        return pools

    def question(self, concept: str) -> str:
        """Always "object": one question, whose labels are all the things that the prompts name."""
        return QUESTION

    def judge(self, request: Request) -> Judge:
        """CLIP zero-shot among the concepts, the anchors and everything that prompts of any count could name, or
        something else.

        Raises:
            UserError: no CLIP was given.
            ConfigError: the file of prompts cannot be read or holds mistakes.
        """
        named = [prompt.labels[QUESTION] for pool in self._pools(request).values() for prompt in pool if prompt.labels]
        anchors = [target.anchor for target in request.targets if target.anchor]
        labels = dict.fromkeys([*request.concepts, *anchors, *named])
        texts = {label: [fill(template, label) for template in _JUDGE_TEXTS] for label in labels
                 if label != SOMETHING_ELSE}
        return ClipJudge(self._clip(), {QUESTION: texts}, self._margin)

    def second(self, request: Request) -> Judge | None:
        """None: the judge is already the only CLIP that was given."""
        return None

    def control(self, request: Request) -> Request | None:
        """None: what an arbitrary model never knew is not known."""
        return None

    def stranger(self, model: Autoencoder, known: Tensor, count: int) -> Stranger | None:
        """None: there are no invented things for a model of any size and style."""
        return None

    def features(self) -> Features:
        """Picture features of the CLIP."""
        return self._clip().features()

    def distance(self, name: str = "default") -> Distance:
        """ "default" and "lpips": LPIPS with AlexNet; "lpips-vgg"; "st-lpips" (the extra `second`); "clip"; "ssim"."""
        if name in ("default", "lpips"):
            return Lpips("alex")
        if name == "lpips-vgg":
            return Lpips("vgg")
        if name == "st-lpips":
            return StLpips()
        if name == "clip":
            return ClipDistance(self._clip())
        if name == "ssim":
            return Ssim()
        raise UserError(f"unknown distance {name!r}", accepted="lpips, lpips-vgg, st-lpips, clip, ssim")

    def clip(self) -> TextImage | None:
        """The CLIP that was given, or None."""
        return self._clip() if self._where else None

    def real(self) -> Moments | None:
        """None: there are no statistics of real pictures for an arbitrary model."""
        return None

    def _clip(self) -> LocalClip:
        if not self._where:
            raise UserError("no CLIP to judge the pictures with",
                            accepted="a folder or Hub id as `clip`, or in the environment's EXPUNGE_CLIP",
                            remedy="for example --clip laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
        if self._loaded is None:
            self._loaded = LocalClip(clip_folder(self._where))
        return self._loaded


def fill(template: str, name: str) -> str:
    """The template with the name in it, "a" or "an" before it unless it is a proper name or has an article."""
    first = name.split()[0]
    bare_name = name[:1].isupper() or first.lower() in {"a", "an", "the", "some", "two", "my"}
    article = "" if bare_name else ("an " if name[:1].lower() in "aeiou" else "a ")
    return template.format(a=f"{article}{name}", c=name)


def bare(name: str) -> str:
    """A name without its article."""
    return re.sub(r"^(an?|the) ", "", name)


def read_prompts(file: Path, concepts: Sequence[str]) -> list[Prompt]:
    """The prompts of a YAML or CSV file. A prompt that asks for one of several concepts names it by its label.

    Raises:
        ConfigError: it cannot be read, or has unknown roles, empty texts, keys, or none of several concepts as label;
            all mistakes are shown.
    """
    rows: list[tuple[str, Any]] = []
    if file.suffix == ".csv":
        try:
            table = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig")))
            rows = [(line.get("role") or "", {k: v for k, v in line.items() if k != "role" and v}) for line in table]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f"cannot read prompts from {file}: {error}", accepted="a CSV or YAML file") from error
    else:
        for role, entries in read_settings_file(file).items():
            rows += [(str(role), entry) for entry in (entries if isinstance(entries, list) else [entries])]
    mistakes, out = [], []
    for number, (role, entry) in enumerate(rows, 1):
        values = {"text": entry} if isinstance(entry, str) else entry
        if role not in get_args(Role):
            mistakes.append(f"prompt {number}: unknown role {role!r}")
        elif not isinstance(values, dict) or set(values) - {"text", "label"} or (
                not str(values.get("text", "")).strip() and role != "empty"):
            mistakes.append(f"prompt {number}: got {entry!r}")
        else:
            label = str(values.get("label", ""))
            if role in FORGET_ROLES and len(concepts) == 1:
                label = concepts[0]
            elif role in FORGET_ROLES and label not in concepts:
                mistakes.append(f"prompt {number}: asks for {label!r}, which is none of {', '.join(concepts)}")
            out.append(Prompt(text=str(values.get("text", "")), role=role,  # type: ignore[arg-type]
                              labels={QUESTION: label} if label else {}))
    if mistakes:
        raise ConfigError(f"{file}: " + "; ".join(mistakes), accepted=f"roles {', '.join(get_args(Role))}, each prompt "
                          "a text or text and label")
    return out
