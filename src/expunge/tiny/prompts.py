"""What can be asked of emoji-64: requests, prompts to train on, prompts to measure with."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from expunge.errors import UserError
from expunge.metrics.base import PromptCounts
from expunge.metrics.prompts import asked_strata
from expunge.records import Named, Prompt, Request, Role, Target, asked, check_request, texts_of
from expunge.tiny.joint import drawn, joint, kept_cells, neighbours, parts, shows, thing_of
from expunge.tiny.prompting import forget_prompts, keep_prompts, scenes_of
from expunge.tiny.strata import METHOD_TEMPLATES, STRATA
from expunge.tiny.world import NEVER_SEEN, SEEN, STYLES, THINGS, Scene, closest, far, fill


class EmojiPrompts:
    """`Prompts` about the things and styles of EmojiCanvas.

    Every prompt list is a fixed function of the concept: a longer one begins with the shorter one.
    """

    name = "emoji"
    strata = STRATA

    def request(self, concept: str | Sequence[str], anchor: str | Sequence[str] = "", keep: Sequence[str] = (), *,
                kind: str = "", only_with: str = "") -> Request:
        """A full request for things, styles, or things in a style. Prompts for one of several name none of the others.

        Args:
            kind: what it is called anyhow. only_with: a style, or the thing of one: "church" with "pixel art" is
                "church in pixel art".

        Raises:
            UserError: unknown concept, anchor or keep; a contradiction (`records.asked`); a thing with all styles.
        """
        if only_with:
            each = texts_of(concept, "concept", "a name, or a list of names")
            concept = [_together(name, only_with) for name in each]
        gone = tuple(name for name, _ in asked(concept, anchor))
        kinds = tuple("style" if name in STYLES else "object" for name in gone)
        named = asked(concept, anchor, keep, kinds=kinds)
        for what, names in (("concept", gone), ("anchor", [name for _, name in named if name]), ("keep", keep)):
            for name in names:
                if not parts(name):
                    raise _unknown(what, name)
        _check_parts(named, kinds, kind)
        targets = tuple(Target(concept=name, prompts=tuple(_training(name, gone)), anchor=instead, kind=own,
                               joint=joint(name)) for (name, instead), own in zip(named, kinds, strict=True))
        request = Request.of(targets, tuple(map(plainly, keep)) if keep else _to_keep(gone))
        check_request(request)
        return request

    def vocabulary(self, things: Sequence[str] = ()) -> Mapping[str, tuple[str, ...]]:
        """Training prompts for things or styles; without any named, for all things that the model has seen.

        Raises:
            UserError: an unknown thing.
        """
        for name in things:
            if name not in THINGS and name not in STYLES:
                raise _unknown("thing", name)
        return {name: tuple(_training(name, ())) for name in things or SEEN}

    def kin(self, concept: str) -> tuple[str, ...]:
        """Things of the concept's kind; of a style, the other styles."""
        if concept in STYLES or joint(concept):
            return tuple(style for style in STYLES if style not in parts(concept))
        kind = THINGS[concept].kind
        return tuple(name for name in SEEN if THINGS[name].kind == kind and name != concept)

    def of(self, request: Request, counts: PromptCounts, strata: Sequence[str] = ()) -> list[Prompt]:
        """The evaluation's prompts for `request`, role by role, no text twice; strata as in `Prompts.of`.

        A thing that was never seen has no neighbours that an edit could hurt, so its list has none. A style has no
        words but its names, so nothing elicits it without them; its neighbours are the other styles. Prompts to keep
        show none of several concepts, and far ones are far from all of them.
        """
        gone = request.concepts
        for name in gone:
            if not parts(name):
                raise _unknown("concept", name)
        ways = asked_strata(self.strata, strata)
        roles: tuple[Role, ...] = ("direct", "held_out", "paraphrase", "implicit")
        sources = [(getattr(counts, role), forget_prompts(name, role, gone, ways)) for role in roles for name in gone]
        styles = () if any(name in STYLES for name in gone) else tuple(STYLES)
        keeps: tuple[tuple[Role, Sequence[str]], ...] = (("near", _near(gone)), ("far", _far(gone)),
                                                         ("style", styles), ("never_seen", NEVER_SEEN))
        sources += [(getattr(counts, role), keep_prompts(role, names, gone, ways)) for role, names in keeps]
        out: list[Prompt] = []
        texts: set[str] = set()
        for count, stream in sources:
            taken = 0
            while taken < count and (prompt := next(stream, None)) is not None:
                if prompt.text not in texts:
                    texts.add(prompt.text)
                    out.append(prompt)
                    taken += 1
        if counts.empty:
            out.append(Prompt(text="", role="empty"))
        return out

    def question(self, concept: str) -> str:
        """"style" for a style, "object" for anything else; of a thing in a style its first."""
        return "style" if concept in STYLES else "object"


def _closest(gone: Sequence[str]) -> tuple[str, ...]:
    """What looks most like any of the concepts, without those that go themselves."""
    return tuple(dict.fromkeys(other for name in gone for other in closest(name) if other not in gone))


def _near(gone: Sequence[str]) -> tuple[str, ...]:
    """The neighbours of any of the concepts, without those that go themselves."""
    return tuple(dict.fromkeys(other for name in gone for other in neighbours(name) if other not in gone))


def _far(gone: Sequence[str]) -> tuple[str, ...]:
    """What is far from every thing among the concepts; every thing, where only styles go."""
    things = [thing for name in gone if (thing := thing_of(name))]
    return tuple(other for other in SEEN if all(other in far(name) for name in things) and other not in gone)


def _to_keep(gone: Sequence[str]) -> tuple[str, ...]:
    """Prompts for what stands near the concepts."""
    plain = [plainly(other) for other in _closest([name for name in gone if not joint(name)]) if other not in gone]
    cell = [fill("{a_style} emoji of {a_object}", Scene(*pair)) for name in gone if joint(name)
            for pair in kept_cells(name) if not any(shows(pair, other) for other in gone)]
    return tuple(dict.fromkeys((*plain, *cell)))


def _training(concept: str, gone: Sequence[str]) -> Iterator[str]:
    """Prompts that ask for the concept by its name, in wordings of the methods' own: what an edit may train on."""
    rng = random.Random(f"training/{concept}")
    templates = [t for t in METHOD_TEMPLATES if concept in THINGS or "style}" in t]
    ways = [[t for t in templates if "style}" not in t], [t for t in templates if "style}" in t]]
    ways = [way for way in ways if way]
    rng.shuffle(ways)  # a method that takes the first prompts alone asks for half of the things plainly
    scenes = scenes_of(concept, gone)
    yield from dict.fromkeys(fill(t, scene) for way in ways for scene, t in _pairs(scenes, way, rng, 24 // len(ways)))


def _pairs(scenes: Sequence[Scene], templates: Sequence[str], rng: random.Random, count: int
           ) -> Iterator[tuple[Scene, str]]:
    """`count` seeded pairs of a scene and a template, every template in turn."""
    order = list(templates)
    rng.shuffle(order)
    for index in range(count):
        yield rng.choice(scenes), order[index % len(order)]


def _check_parts(named: Named, kinds: Sequence[str], kind: str) -> None:
    for (name, anchor), own in zip(named, kinds, strict=True):
        if kind not in ("", own):
            raise UserError(f"{name!r} as kind {kind!r}", accepted=f"{own}, which is what it is in this world")
        if not drawn(name):
            raise UserError(f"{name!r}, of which there are no drawings", accepted="a style in which the thing is drawn")
        if joint(name) and (anchor in STYLES or anchor == joint(name)["object"]):
            raise UserError(f"anchor {anchor!r} for {name!r}", accepted="another thing, or no anchor",
                            remedy="the thing's other styles are kept anyhow")


def plainly(name: str) -> str:
    """What asks for a thing, a style or a thing in a style, and names nothing else."""
    if joint(name):
        return fill("{a_style} emoji of {a_object}", Scene(*parts(name)))
    if name in STYLES:
        return f"an emoji in {name} style"
    return fill("an icon of {a_object}", Scene(name, "flat"))  # the template names no style


def _together(name: str, only_with: str) -> str:
    """"church in pixel art". UserError: one of the two is unknown, or they are no thing and style."""
    both = f"{name} in {only_with}"
    if joint(both):
        return both
    for what, given in (("concept", name), ("only_with", only_with)):
        if not parts(given):
            raise _unknown(what, given)
    raise UserError(f"{name!r} only with {only_with!r}", accepted=f"a thing and a style ({', '.join(STYLES)})")


def _unknown(what: str, name: str) -> UserError:
    import difflib

    known = [*THINGS, *STYLES]
    close = difflib.get_close_matches(name.lower(), known, n=1)
    shown = name if len(name) <= 60 else f"{name[:57]}..."
    return UserError(f"unknown {what} {shown!r}" + (f" (did you mean {close[0]!r}?)" if close else ""),
                     accepted=", ".join(known) + ", or a thing in a style ('pixel art church')",
                     remedy="see `expunge ls concepts`")
