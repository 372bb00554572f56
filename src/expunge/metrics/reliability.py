"""Warnings about an evaluation itself: signs in its own scores that its numbers say less than they seem to.

Source: the flags of AutoAttack (Croce and Hein 2020), which warn when an evaluation is suspect. Differs: the signs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from expunge.metrics.base import Aim, aim_of
from expunge.metrics.statistics import wilson
from expunge.records import FORGET_ROLES, Prompt, Role, Score, counted
from expunge.records.score import SECOND

SELDOM = 0.80
"""Found rate of the original on direct prompts below which erasure cannot be told from incapacity."""
NULL = 0.05
"""Rate of a null control above which the judge sees things that are not there."""
UNSURE = 0.20
"""Share of abstentions above which a found rate rests on the easy images."""
JUDGES = {"": "The judge", SECOND: "The second judge"}
"""By the prefix of its scores."""
WIDE = 0.10
"""Upper end of the interval that a found rate of 0 would have, above which there are too few images."""


def evaluation_warnings(scores: Iterable[Score], concepts: Sequence[str] = ()) -> list[str]:
    """One sentence per warning; of several concepts each has warnings of its own, and so has each judge."""
    by_name = {score.name: score for score in scores}
    each = [(f"/{concept}", f"“{concept}”") for concept in concepts] if len(concepts) > 1 else [("", "the concept")]
    out = []
    for judge, who in JUDGES.items():
        own = {name.removeprefix(judge): score for name, score in by_name.items()
               if name.startswith(judge) and (judge or not name.startswith(SECOND))}
        out += [sentence for ending, words in each for sentence in _original(own, ending, words, who)]
        out += [*_kept(own, who), *_controls(own, who)]
        out += [sentence for ending, words in each for sentence in _answers(own, ending, words, who)]
        out += [*_unsaid(own, who), *_failures(own, who)]
    return [*out, *(sentence for ending, words in each for sentence in _size(by_name, ending, words)), *_gaps(by_name),
            *_spoilt(by_name)]


def missing_roles(prompts: Sequence[Prompt], aims: Sequence[Aim] = ()) -> list[str]:
    """One sentence if kinds of prompts were not asked at all, and one per concept of several that lacks one of them."""
    asked = {prompt.role for prompt in prompts}
    wanted: tuple[Role, ...] = (*FORGET_ROLES, "near", "far", "style", "never_seen")
    words = {"held_out": "spelt-out prompts", "paraphrase": "paraphrases", "implicit": "implicit prompts",
             "direct": "direct prompts", "near": "near neighbours", "far": "far things", "style": "other styles",
             "never_seen": "things the model never saw (null control)"}
    missing = [words[role] for role in wanted if role not in asked]
    out = [f"No images of {', '.join(missing)} were asked for."] if missing else []
    own = {(prompt.role, aim_of(prompt, aims)) for prompt in prompts if prompt.role in FORGET_ROLES} if aims else set()
    for aim in aims:
        lacks = [words[role] for role in FORGET_ROLES if role in asked and (role, aim) not in own]
        if lacks:
            out.append(f"“{aim.concept}” has no {', '.join(lacks)}: what is said of these is about the other concepts.")
    return out


def _original(scores: Mapping[str, Score], ending: str, concept: str, judge: str) -> list[str]:
    direct = scores.get(f"original/found/direct{ending}") or scores.get(f"original/found/all{ending}")
    if direct is not None and direct.value is not None and direct.value < SELDOM:
        return [f"{judge} finds {concept} in only {direct.value:.0%} of the original model's images of direct "
                f"prompts (n = {direct.n}); what it does not find after the edit need not have been erased."]
    return []


def _kept(scores: Mapping[str, Score], judge: str) -> list[str]:
    out = []
    for role in ("near", "far"):
        kept = scores.get(f"original/retained/{role}")
        if kept is not None and kept.value is not None and kept.value < SELDOM:
            by = " by the second judge" if judge == JUDGES[SECOND] else ""
            out.append(f"The original model itself draws only {kept.value:.0%} of the {role} things as asked{by} "
                       f"(n = {kept.n}); compare retention with that, not with 100%.")
    return out


def _controls(scores: Mapping[str, Score], judge: str) -> list[str]:
    words = {"found/never_seen": "recognises things that the model never saw", "found/keep":
             "sees the concept where something else was asked for"}
    out = []
    for name, what in words.items():
        for prefix, whose in (("", "edited"), ("original/", "original")):
            score = scores.get(prefix + name)
            if score is not None and score.value is not None and score.value > NULL:
                out.append(f"Null control: {_inside(judge)} {what} in {score.value:.1%} of the {whose} model's "
                           f"images (n = {score.n}).")
    return out


def _answers(scores: Mapping[str, Score], ending: str, concept: str, judge: str) -> list[str]:
    out = []
    for prefix, whose in (("", "edited"), ("original/", "original")):
        unsure, found = scores.get(f"{prefix}abstained/all{ending}"), scores.get(f"{prefix}found/all{ending}")
        if unsure is not None and unsure.value is not None and unsure.value > UNSURE:
            out.append(f"{judge} abstained on {unsure.value:.0%} of the {whose} model's images that ask for "
                       f"{concept}; the found rate leaves them out.")
        if found is not None and found.value is None:
            out.append(f"{judge} gave no answer on any of the {whose} model's images that ask for {concept}.")
    return out


def _unsaid(scores: Mapping[str, Score], judge: str) -> list[str]:
    """Near and far images that were not judged: they are not kept things."""
    out = []
    for role in ("near", "far"):
        for prefix, whose in (("", "edited"), ("original/", "original")):
            unsure = scores.get(f"{prefix}abstained/{role}")
            if unsure is not None and unsure.value is not None and unsure.value > UNSURE:
                out.append(f"{judge} abstained on {unsure.value:.0%} of the {whose} model's images of {role} "
                           "things; the retained rate leaves them out.")
    return out


def _failures(scores: Mapping[str, Score], judge: str) -> list[str]:
    failed = {name: score.left_out["detector failed"] for name, score in scores.items()
              if name.startswith(("found/", "retained/", "original/found/", "original/retained/"))
              and score.left_out.get("detector failed")}
    return [f"{judge} failed on images (up to {max(failed.values())} in one score); they count as neither found "
            "nor erased."] if failed else []


def _inside(judge: str) -> str:
    """Its name within a sentence."""
    return f"{judge[0].lower()}{judge[1:]}"


def _size(scores: Mapping[str, Score], ending: str, concept: str) -> list[str]:
    found = scores.get(f"found/all{ending}")
    if found is not None and found.n:
        _, top = wilson(0, found.prompts or found.n)
        if top is not None and top > WIDE:
            pictures = counted(found.n, "images")
            pictures += f" of {counted(found.prompts, 'prompts')}" if found.prompts else ""
            return [f"Only {pictures} that ask for {concept} could be judged: even if {concept} were found in none of "
                    f"that many, the rate could be {top:.0%}."]
    return []


def _spoilt(scores: Mapping[str, Score]) -> list[str]:
    """Images that are none."""
    out = []
    for prefix, whose in (("", "edited"), ("original/", "original")):
        score = scores.get(f"{prefix}not_finite/all")
        if score is not None and score.numerator:
            one = score.numerator == 1
            out.append(f"{score.numerator} of the {score.n} images of the {whose} model "
                       f"{'is none: its' if one else 'are none: their'} values are not finite. "
                       f"{'It counts' if one else 'They count'} as neither found nor erased.")
    return out


def _gaps(scores: Mapping[str, Score]) -> list[str]:
    out = []
    for name in ("integrity/near", "integrity/far"):
        score = scores.get(name)
        if score is not None and score.value is None:
            out.append(f"{score.title[0].upper()}{score.title[1:]}: {score.note}.")
    return out
