"""The world of any real model: prompts from templates or from the user's own file, and a CLIP as judge.

Direct prompts are those that training may use, held-out ones come from other templates. Paraphrases, implicit
prompts and near neighbours cannot be guessed from a name, so they come from a file (YAML or CSV) of the user's; what
is missing is not asked, and the evaluation says so.

YAML: a mapping of role to prompts, each a text or {text: ..., label: ...}. CSV: columns role, text, label. The label
is what the judge should see; prompts that ask for the concept need none.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from expunge.config import read_settings_file
from expunge.errors import ConfigError, UserError
from expunge.metrics.base import Distance, Features, Judge, Moments, PromptCounts, TextImage
from expunge.metrics.clip import SOMETHING_ELSE, ClipDistance, ClipJudge, LocalClip, clip_folder
from expunge.metrics.perceptual import Lpips, Ssim
from expunge.records import FORGET_ROLES, Prompt, Request, Role

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

    def request(self, concept: str, anchor: str = "", keep: Sequence[str] = ()) -> Request:
        """The concept in all training templates.

        Raises:
            UserError: an empty concept, or one that is its own anchor or among the things to keep.
        """
        concept, anchor = concept.strip(), anchor.strip()
        if not concept:
            raise UserError("no concept", accepted="a name such as 'church' or 'Van Gogh painting'")
        clash = [text for text in (anchor, *keep) if text and _mentions(text, concept)]
        if clash:
            raise UserError(f"{concept!r} is to go and to stay: {clash[0]!r}",
                            accepted="an anchor and prompts to keep that do not name the concept",
                            remedy="take it out of one of the two lists")
        return Request(concept=concept, prompts=tuple(fill(template, concept) for template in TEMPLATES),
                       anchor=anchor, keep=tuple(keep))

    def prompts(self, request: Request, counts: PromptCounts) -> list[Prompt]:
        """Templates and the user's file, up to `counts` per role, no text twice.

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
            chosen += list(fresh.values())[:getattr(counts, role)]
        return chosen

    def _pools(self, request: Request) -> dict[Role, list[Prompt]]:
        """All that could be asked about `request`, by role, the user's own prompts first."""
        here = {QUESTION: request.concept}
        pools: dict[Role, list[Prompt]] = {role: [] for role in get_args(Role)}
        for prompt in read_prompts(self._file, request.concept) if self._file else []:
            pools[prompt.role].append(prompt)
        pools["direct"] += [Prompt(text=text, role="direct", labels=here) for text in request.prompts]
        pools["held_out"] += [Prompt(text=fill(template, request.concept), role="held_out", labels=here)
                              for template in HELD_OUT]
        if request.anchor:
            pools["near"] += [Prompt(text=fill(template, request.anchor), role="near",
                                     labels={QUESTION: request.anchor}) for template in HELD_OUT]
        things = [thing for thing in FAR_THINGS if not _mentions(thing, request.concept) and
                  bare(thing) != bare(request.anchor)]
        pools["far"] += [Prompt(text=f"a photo of {thing}", role="far", labels={QUESTION: bare(thing)})
                         for thing in things]
        pools["empty"].append(Prompt(text="", role="empty"))
        return pools

    def question(self, concept: str) -> str:
        """Always "object": one question, whose labels are all the things that the prompts name."""
        return QUESTION

    def judge(self, request: Request) -> Judge:
        """CLIP zero-shot among the concept, the anchor and everything that prompts of any count could name, or
        something else.

        Raises:
            UserError: no CLIP was given.
            ConfigError: the file of prompts cannot be read or holds mistakes.
        """
        named = [prompt.labels[QUESTION] for pool in self._pools(request).values() for prompt in pool if prompt.labels]
        labels = dict.fromkeys([request.concept, *([request.anchor] if request.anchor else []), *named])
        texts = {label: [fill(template, label) for template in _JUDGE_TEXTS] for label in labels
                 if label != SOMETHING_ELSE}
        return ClipJudge(self._clip(), {QUESTION: texts}, self._margin)

    def second(self, request: Request) -> Judge | None:
        """None: the judge is already the only CLIP that was given."""
        return None

    def control(self, request: Request) -> Request | None:
        """None: what an arbitrary model never knew is not known."""
        return None

    def features(self) -> Features:
        """Picture features of the CLIP."""
        return self._clip().features()

    def distance(self, name: str = "default") -> Distance:
        """ "default" and "lpips": LPIPS with AlexNet; "lpips-vgg"; "clip"; "ssim"."""
        if name in ("default", "lpips"):
            return Lpips("alex")
        if name == "lpips-vgg":
            return Lpips("vgg")
        if name == "clip":
            return ClipDistance(self._clip())
        if name == "ssim":
            return Ssim()
        raise UserError(f"unknown distance {name!r}", accepted="lpips, lpips-vgg, clip, ssim")

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


def read_prompts(file: Path, concept: str) -> list[Prompt]:
    """The prompts of a YAML or CSV file.

    Raises:
        ConfigError: it cannot be read, or has unknown roles, empty texts or keys; all mistakes are shown.
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
            label = concept if role in FORGET_ROLES else str(values.get("label", ""))
            out.append(Prompt(text=str(values.get("text", "")), role=role,  # type: ignore[arg-type]
                              labels={QUESTION: label} if label else {}))
    if mistakes:
        raise ConfigError(f"{file}: " + "; ".join(mistakes), accepted=f"roles {', '.join(get_args(Role))}, each prompt "
                          "a text or text and label")
    return out


def _mentions(text: str, concept: str) -> bool:
    return re.search(rf"\b{re.escape(concept.casefold())}\b", text.casefold()) is not None
