"""The evaluation's prompts of the embedded world: endless seeded streams by role, strata in turn, things in turn.

Every list is a fixed function of the concept: a longer one begins with the shorter one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from expunge.errors import UserError
from expunge.records import Prompt, Role
from expunge.tiny.joint import joint, shows, thing_of
from expunge.tiny.strata import STYLE_TEMPLATES, TEMPLATES
from expunge.tiny.world import BACKGROUNDS, NEVER_SEEN, SEEN, STYLES, THINGS, Scene, cells, fill

Words = Callable[[random.Random, Scene], tuple[str, str]]
"""What the scene's object and its style are called."""
_TRIES = 400
"""Prompts in a row that were there already after which a stratum has no more."""
STYLED = ("style", "full")
"""Strata whose wordings name a style."""
OTHER_WORDS = ("short", *STYLED)
"""Strata in which synonyms, hints and things never seen are asked for."""


def forget_prompts(concept: str, role: Role, gone: Sequence[str], strata: Sequence[str]) -> Iterator[Prompt]:
    """Prompts that ask for the concept: by its name ("direct", and "held_out" for everything spelt out), by a synonym
    ("paraphrase"), or without any of its names ("implicit"). A style has no hints.

    Args:
        gone: everything that goes; no scene shows more of it than the concept. strata: the ways of asking.
    """
    scenes, style, thing = scenes_of(concept, gone), concept in STYLES, thing_of(concept)
    strata = [stratum for stratum in strata if stratum in STYLED or not joint(concept)]
    names = {"paraphrase": STYLES[concept][1:] if style else THINGS[thing].synonyms,
             "implicit": () if style else THINGS[thing].hints}.get(role, (thing or concept,))
    wanted = {"direct": [s for s in strata if s != "full"], "held_out": [s for s in strata if s == "full"]}.get(
        role, [s for s in strata if s in OTHER_WORDS] or list(OTHER_WORDS if not joint(concept) else STYLED))
    if not names:
        return iter(())

    def words(rng: random.Random, scene: Scene) -> tuple[str, str]:
        word = rng.choice(names)
        return (scene.object, word) if style else (word, scene.style)

    others = [name for name in SEEN if name not in gone and (not thing or THINGS[name].kind != THINGS[thing].kind)]
    streams = [_stream(f"{role}/{concept}", role, stratum, [scenes], words, concept, others) for stratum in wanted]
    return _in_turn(streams)


def keep_prompts(role: Role, names: Sequence[str], gone: Sequence[str], strata: Sequence[str]) -> Iterator[Prompt]:
    """Prompts for each of `names` (things or styles) in turn, in scenes that show nothing that goes."""
    pools = [pool for name in names if (pool := _kept_scenes(name, gone, role))]
    if not pools:
        return iter(())
    few = {"never_seen": OTHER_WORDS, "style": STYLED}.get(role)
    if role == "near" and any(joint(name) for name in gone):
        few = STYLED  # only a style that is named tells such a neighbour from what goes
    wanted = [s for s in strata if s != "two" and (few is None or s in few)] or list(few or ())
    streams = []
    for rank, stratum in enumerate(wanted):  # each stratum begins at another thing, so that together they ask for all
        turn = rank * -(-len(pools) // len(wanted))
        about = f"{role}/{'+'.join(gone)}"
        named = lambda rng, scene: (scene.object, scene.style)
        subject = names[0] if names[0] in STYLES and not any(joint(name) for name in gone) else ""
        streams.append(_stream(about, role, stratum, [*pools[turn:], *pools[:turn]], named, subject, ()))
    return _in_turn(streams)


def scenes_of(concept: str, gone: Sequence[str]) -> list[Scene]:
    """Scenes that show the concept and none of the others that go.

    Raises:
        UserError: there are none.
    """
    wanted = [pair for pair in cells((*SEEN, *NEVER_SEEN)) if shows(pair, concept) and (
        pair[0] in SEEN or pair[0] == thing_of(concept))]
    scenes = [Scene(o, s, b) for o, s in wanted for b in BACKGROUNDS
              if not any(shows((o, s), other) for other in gone if other != concept)]
    if not scenes:
        raise UserError(f"nothing is left in which to show {concept!r}: every style goes, or every thing",
                        accepted="concepts that leave one", remedy="take fewer at once")
    return scenes


def _kept_scenes(name: str, gone: Sequence[str], role: Role) -> list[Scene]:
    """Scenes of a thing or a style that show nothing that goes. What shares the style of a thing that goes in it is
    near to it, so that it is not among the far ones."""
    near_styles = {joint(other).get("style") for other in gone} if role == "far" else set()
    return [Scene(o, s, b) for o, s in cells((*SEEN, *NEVER_SEEN)) for b in BACKGROUNDS
            if not any(shows((o, s), other) for other in gone) and s not in near_styles
            and (o == name or (s == name and o in SEEN))]


def _stream(about: str, role: Role, stratum: str, pools: Sequence[Sequence[Scene]], words: Words, subject: str,
            others: Sequence[str]) -> Iterator[Prompt]:
    """Distinct prompts of one role and stratum, a scene of each pool in turn; ends where no new text is to be had.

    Args:
        subject: the style that is asked about, "" for things: then wordings that need no object may do without.
        others: things to ask for beside the first, for wordings with two.
    """
    rng = random.Random(f"{about}/{stratum}")
    of_style = subject in STYLES and stratum in STYLE_TEMPLATES
    templates = list((STYLE_TEMPLATES if of_style else TEMPLATES)[stratum])
    rng.shuffle(templates)
    seen: set[str] = set()
    index = idle = 0
    while idle < _TRIES:
        turn, place = divmod(index, len(pools))
        scene, template = rng.choice(pools[place]), templates[(turn + place) % len(templates)]
        other = rng.choice(others) if "other}" in template and others else ""
        word, style_word = words(rng, scene)
        text = fill(template, scene, word, style_word, other)
        index, idle = index + 1, idle + 1
        if text not in seen:
            seen.add(text)
            idle = 0
            yield Prompt(text=text, role=role, labels=_labels(template, scene), stratum=stratum, beside=other)


def _labels(template: str, scene: Scene) -> dict[str, str]:
    """What the wording asks for; it leaves open what it does not name (a thing in a style stands on white)."""
    held = template.lower()
    out = {"object": scene.object} if "object" in held or "slip}" in held else {}
    if "style}" in held:
        out["style"] = scene.style
    if "background}" in held or len(out) == 2:
        out["background"] = scene.background if "background}" in held else "white"
    return out


def _in_turn(streams: Sequence[Iterator[Prompt]]) -> Iterator[Prompt]:
    """One of each stream after the other, until all have ended."""
    left = list(streams)
    while left:
        for stream in list(left):
            given = list(islice(stream, 1))
            if given:
                yield given[0]
            else:
                left.remove(stream)
