"""All rates of one judge: of both models' images, and how each changed at the same prompts and seeds.

    found/..., abstained/..., retained/..., found/never_seen, found/keep      edited model
    original/<the same>, original/drawn/forget@<stratum>, .../keep@<stratum>  original model
    change/found/all, change/found@<stratum>, change/retained/...             edited minus original, paired

A second judge's scores have the same names behind "second/". `agreement` says how often two judges agree.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from expunge.metrics.base import Aim, aim_of, shows
from expunge.metrics.erasure import (
    ALL_COUNT,
    Apart,
    Judged,
    Lost,
    abstained,
    asked,
    decided,
    not_drawn,
    rate,
    set_apart,
    title_of,
)
from expunge.metrics.rules import KEPT_ROLES, Rated, Rule, Subject, control_rates, drawn_rates, forget_rates, keep_rates
from expunge.metrics.spoilt import NONE_SPOILT, Spoilt
from expunge.metrics.statistics import at_once, change_interval, interval_words, rate_interval
from expunge.records import FORGET_ROLES, NOT_DRAWN, NOT_FINITE, Detection, ImageRecord, Score


def rates(original: Judged, edited: Judged, aims: Sequence[Aim], prefix: str = "", apart: Apart | None = None,
          questions: Collection[str] = (), lost: Lost = (), spoilt: Spoilt = NONE_SPOILT
          ) -> tuple[list[Score], Apart]:
    """Every rate that the images allow, and what does not count in them.

    Args:
        original, edited: the same prompts and seeds but for `spoilt`, judged by one judge.
        aims: what must not be found.
        prefix: before every name ("second/" for the second judge).
        apart: what does not count, by an earlier judge; None lets this one say.
        questions: those that the judge can answer; others are not asked. () means all.
        lost: images that neither model could draw, with the reason: they are counted among those left out.
        spoilt: images that are not finite; each model's are counted among those that its rates leave out.
    """
    there = [shot.prompt for side in (edited, original) for shot, _ in side]
    prompts = list({prompt.text: prompt for prompt in (*there, *spoilt.prompts())}.values())
    keeps = [rated for rated in keep_rates(prompts, _questions(aims))
             if not questions or rated.rule.name.partition("keep:")[2] in ("", *questions)]
    drawn = {side: [rate(original, rated, "original", ALL_COUNT, prefix, spoilt.lost("original")) for rated in over]
             for side, over in drawn_rates(prompts, aims).items()}
    aside = apart if apart is not None else Apart(
        frozenset((side, stratum) for side, own in drawn.items() for stratum in not_drawn(own)), tuple(aims))
    scores: list[Score] = [score for own in drawn.values() for score in own]
    sides: tuple[tuple[Subject, Judged], ...] = (("edited", edited), ("original", original))
    for subject, judged in sides:
        gone = [*lost, *spoilt.lost(subject)]
        for rated in (*forget_rates(prompts, aims, subject), *keeps, *control_rates(prompts, aims)):
            scores.append(rate(judged, rated, subject, aside, prefix, gone))
            if not rated.rule.stratum and rated.rule.name.split("/")[1] in (*FORGET_ROLES, "all", *KEPT_ROLES, "style"):
                scores.append(abstained(judged, rated, subject, prefix, gone))
    changing = [rated for rated in (*forget_rates(prompts, aims), *keeps)
                if rated.rule.stratum or rated.rule.name.startswith(("found/all", "retained/"))]
    return scores + [change(edited, original, rated, aside, prefix, spoilt) for rated in changing], aside


def change(edited: Judged, original: Judged, rated: Rated, apart: Apart = ALL_COUNT, prefix: str = "",
           spoilt: Spoilt = NONE_SPOILT) -> Score:
    """change/<rate>: the edited model's rate minus the original's, on images that both got an answer for."""
    after, before, rule = decided(edited, rated, apart), decided(original, rated, apart), rated.rule
    both = sorted(after.keys() & before.keys())
    groups: dict[str, list[float]] = {}
    for item in both:
        groups.setdefault(item[0], []).append(after[item] - before[item])
    estimate = change_interval(groups, at_once(rule.at_once))
    broken = {shot.item_key for shot in asked(spoilt.either(), rated)}
    shots = [shot for shot in asked((shot for shot, _ in edited), rated) if shot.item_key not in broken]
    aside = sum(set_apart(rated, shot.prompt, apart) for shot in shots)
    many = f", for all {rule.at_once} strata at once" if rule.at_once > 1 else ""
    left_out = {"no answer on one side": len(shots) - len(both) - aside,
                **({NOT_DRAWN: aside} if aside else {}), **({NOT_FINITE: len(broken)} if broken else {})}
    return Score(name=f"{prefix}change/{rule.name}", title=f"change: {title_of(rule, left_out)}", value=estimate.value,
                 low=estimate.low, high=estimate.high, n=len(both), prompts=len(groups), stratum=rule.stratum,
                 subject="comparison", higher_is_better=not rule.name.startswith("found"),
                 interval=f"{interval_words(groups, 'Agresti-Min')}{many}" if estimate.low is not None else "",
                 of="pairs of images", denominator="same prompt, same seed, an answer on both sides",
                 left_out=left_out,
                 seeds=tuple(sorted({seed for _, seed in both})),
                 note="" if groups else "not measured: no pair of images has an answer on both sides")


def agreement(first: Judged, second: Judged, aims: Sequence[Aim]) -> list[Score]:
    """agreement/found and agreement/kept: images on which two judges that both gave an answer say the same.

    Args:
        first, second: the same images in the same order.
    """
    out, prompts = [], list({shot.prompt.text: shot.prompt for shot, _ in first}.values())
    kept = {rated.roles[0]: rated.rule for rated in keep_rates(prompts, _questions(aims))
            if rated.rule.name in {f"retained/{role}" for role in KEPT_ROLES}}
    for name, words, roles in (("found", "on whether the concept is there", FORGET_ROLES),
                               ("kept", "on whether what was asked for is there", KEPT_ROLES)):
        groups: dict[str, list[float]] = {}
        for (shot, one), (_, other) in zip(first, second, strict=True):
            said = [_shows(shot, item, aims, kept) for item in (one, other)]
            if shot.prompt.role in roles and None not in said:
                groups.setdefault(shot.prompt.text, []).append(float(said[0] == said[1]))
        n, hits = sum(map(len, groups.values())), int(sum(map(sum, groups.values())))
        low, high = rate_interval(groups)
        out.append(Score(name=f"agreement/{name}", title=f"both judges agree {words}", value=hits / n if n else None,
                         low=low, high=high, n=n, prompts=len(groups), numerator=hits if n else None,
                         interval=interval_words(groups), subject="comparison",
                         denominator="images on which both judges gave an answer, both models'",
                         note="" if n else "not measured: no image got an answer of both"))
    return out


def _questions(aims: Sequence[Aim]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(question for aim in aims for question in aim.wanted))


def _shows(shot: ImageRecord, item: Detection, aims: Sequence[Aim], kept: Mapping[str, Rule]) -> bool | None:
    """Whether the judge sees what the prompt asks for (on the forget side: the concept); None without an answer.

    Args:
        kept: by what retained/<role> decides.
    """
    if item.error:
        return None
    if shot.prompt.role in FORGET_ROLES:
        return shows(item.answers, aim_of(shot.prompt, aims))
    rule = kept.get(shot.prompt.role)
    return rule.verdict(shot.prompt, item.answers) if rule is not None and rule.wanted(shot.prompt) else None
