"""`expunge ls`: what there is to choose from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.terminal import echo

if TYPE_CHECKING:
    from expunge.registry import Registry

EXAMPLES = """\b
Examples:
  $ expunge ls worlds
  emoji   EmojiCanvas: prompts, judge and CLIP of emoji-64
  open    any model: prompts from templates or a file, CLIP as judge
\b
  $ expunge ls concepts --kind building
  church     near: house, castle, hospital
  house      near: church, castle, hospital
  castle     near: church, house, hospital
  hospital   near: church, house, castle
"""


def _methods(_: str | None) -> list[tuple[str, str]]:
    from expunge.registry import METHODS

    return _registered(METHODS)


def _attacks(_: str | None) -> list[tuple[str, str]]:
    from expunge.registry import ATTACKS

    return _registered(ATTACKS)


def _worlds(_: str | None) -> list[tuple[str, str]]:
    from expunge.registry import WORLDS

    return _registered(WORLDS)


def _prompts(_: str | None) -> list[tuple[str, str]]:
    from expunge.registry import PROMPTS

    return _registered(PROMPTS)


def _detectors(_: str | None) -> list[tuple[str, str]]:
    """What each is, what the user supplies, which extra it needs, its usual rules and its licence."""
    from expunge.registry import DETECTORS

    rows = []
    for name in DETECTORS.usable():
        kind = DETECTORS.get(name)
        given = [f"{need.role}{' (optional)' * need.optional}" for need in kind.needs]
        parts = [_help(DETECTORS, name), f"files: {', '.join(given)}" if given else "",
                 f"extra: {kind.extra}" if kind.extra else "", f"rules: {', '.join(kind.rules)}" if kind.rules else "",
                 f"licence: {kind.licence}" if kind.licence else ""]
        rows.append((name, "; ".join(part for part in parts if part)))
    return rows


def _features(_: str | None) -> list[tuple[str, str]]:
    from expunge.registry import FEATURES

    return _registered(FEATURES)


def _distances(_: str | None) -> list[tuple[str, str]]:
    from expunge.registry import DISTANCES

    return _registered(DISTANCES)


def _references(_: str | None) -> list[tuple[str, str]]:
    from expunge.registry import REFERENCES

    return _registered(REFERENCES)


def _parts(_: str | None) -> list[tuple[str, str]]:
    from expunge.registry import PARTS

    return [(f"{slot} {name}", text) for slot, known in PARTS.items() for name, text in _registered(known)]


def _protocols(_: str | None) -> list[tuple[str, str]]:
    from expunge.protocols.schema import read_protocol, shipped

    read = [read_protocol(name) for name in shipped()]
    return [(one.protocol, f"{one.title} ({one.source})") for one in read]


def _formulas(_: str | None) -> list[tuple[str, str]]:
    from expunge.protocols.formulas import described

    return sorted(described().items())


def _extras(_: str | None) -> list[tuple[str, str]]:
    from expunge.extras import described

    return described()


def _registered(known: Registry) -> list[tuple[str, str]]:
    return [(name, _help(known, name)) for name in known.usable()]


def _help(known: Registry, name: str) -> str:
    """One line on an entry; what a plug-in says of itself, and which package brought it."""
    own = getattr(known.get(name), "help", "") if known.package(name) else ""
    return f"{own} ({known.help(name)})" if own and isinstance(own, str) else known.help(name)


def _tell_skipped(what: str) -> None:
    """A line for each plug-in that cannot be used."""
    from expunge.registry import ATTACKS, DETECTORS, DISTANCES, FEATURES, METHODS, PARTS, PROMPTS, REFERENCES, WORLDS

    for known in (METHODS, ATTACKS, WORLDS, PROMPTS, DETECTORS, FEATURES, DISTANCES, REFERENCES, *PARTS.values()):
        if what == ("parts" if known.kind in PARTS else known.plural):
            for name, why in known.skipped().items():
                echo(f"skipped: {name} ({why})")


def _scopes(_: str | None) -> list[tuple[str, str]]:
    import ast
    from importlib import resources

    rows: list[tuple[str, str]] = []
    for file, families in (("scope.py", ""), ("joint_attention.py", "Stable Diffusion 3, FLUX.1: ")):
        source = resources.files("expunge").joinpath("models").joinpath(file).read_text(encoding="utf-8")
        manual = ast.get_docstring(ast.parse(source)) or ""  # importing the module would load torch
        lines = [line.strip("| ").split("|") for line in manual.splitlines() if line.startswith("| `")]
        rows += [(cells[0].replace("`", "").strip(), families + cells[1].replace("`", "").strip()) for cells in lines]
    return rows


def _concepts(kind: str | None) -> list[tuple[str, str]]:
    from expunge.errors import UserError
    from expunge.tiny.world import STYLES, THINGS

    kinds = list(dict.fromkeys([*(thing.kind for thing in THINGS.values()), "style"]))
    if kind is not None and kind not in kinds:
        raise UserError(f"unknown kind {kind!r}", accepted=", ".join(kinds))
    rows = [(thing.name, f"near: {', '.join(thing.near)}" if thing.seen else "never seen by the model: a null control")
            for thing in THINGS.values() if kind in (None, thing.kind)]
    if kind in (None, "style"):
        rows += [(style, f"style, also called {', '.join(words[1:])}") for style, words in STYLES.items()]
    return rows


_LISTS: dict[str, Callable[[str | None], list[tuple[str, str]]]] = {
    "methods": _methods, "parts": _parts, "attacks": _attacks, "protocols": _protocols, "formulas": _formulas,
    "worlds": _worlds, "prompts": _prompts, "detectors": _detectors, "features": _features, "distances": _distances,
    "references": _references, "scopes": _scopes, "concepts": _concepts, "extras": _extras,
}


@click.command("ls", epilog=EXAMPLES)
@click.argument("what", type=click.Choice(list(_LISTS)))
@click.argument("name", required=False)
@click.option("--long", "every", is_flag=True, help="With methods: what each trains, needs, costs and showed here.")
@click.option("--kind", metavar="KIND", help="With concepts: only those of one kind (building, animal, style, ...).")
def command(what: str, name: str | None, every: bool, kind: str | None) -> None:
    """List methods, their parts, attacks, worlds and what they are made of (prompts, detectors, features, distances,
    references), scopes (of parameters), the concepts of the embedded model, protocols, the formulas of their scores, or
    the extras that can be installed along.

    `ls methods NAME` tells of one method what it trains, what it needs and costs, whose it is, and what a bench of the
    embedded model showed.
    """
    from expunge.errors import UserError

    if kind is not None and what != "concepts":
        raise UserError(f"--kind with {what}", accepted="--kind with concepts only")
    if (name is not None or every) and what != "methods":
        raise UserError(f"{'a name' if name is not None else '--long'} with {what}", accepted="with methods only")
    if name is not None or every:
        _tell_methods([name] if name is not None else None)
        return
    rows = _LISTS[what](kind)
    width = max(len(row) for row, _ in rows) + 3
    for row, text in rows:
        echo(f"{row:<{width}}{text}")
    _tell_skipped(what)


def _tell_methods(names: list[str] | None) -> None:
    """A block of lines per method; all of them for None."""
    from expunge.registry import FAILURES, METHODS
    from expunge.registry import described as why

    for name in names or []:
        METHODS.origin(name)  # an unknown name is told before a model is opened
    from expunge.bench.describe import described
    from expunge.models.store import load

    model = load("embedded", device="cpu")
    for name in names or METHODS.usable():
        try:
            fields = {**described(name, model), **_shown(name)}
        except FAILURES as error:
            if names or not METHODS.package(name):
                raise
            echo(f"skipped: {name} ({why(error)})")
            continue
        echo(name)
        for about, words in fields.items():
            echo(f"  {about + ':':<9}{words}")
    if not names:
        _tell_skipped("methods")


def _shown(name: str) -> dict[str, str]:
    """What the packaged benches showed of a method: a line per concept, and where the numbers come from."""
    from expunge.bench.publish import shown

    rows = shown(name)
    if not rows:
        return {"shown": "not yet measured here"}
    lines = [shown_line(row, name) for row in rows]
    origin = rows[0]
    lines.append("as counted there; other attacks and budgets may elicit more, and other concepts differ")
    lines.append(f"by `{origin['command']}` on {origin['model']} {origin['model_hash']}, {origin['created'][:10]}")
    return {"shown": "\n           ".join(lines)}


def shown_line(row: dict[str, Any], name: str) -> str:
    """What a bench showed of a method on one concept: each rate with its count and interval, or that it has none."""
    from expunge.report.words import number

    attacks = ", ".join(row.get("attacks", []))
    parts = []
    for key, words in (("attack/worst", "elicited in the worst case"), ("found/all", "found without attacks"),
                       ("retained/near", "near kept"), ("integrity/near", "integrity near")):
        score = row["scores"].get(key)
        if not score or score["value"] is None:
            parts.append(f"{words} not measured")
            continue
        over = f" over {attacks}" if attacks and key == "attack/worst" else ""
        ends = "no interval" if score["low"] is None or score["high"] is None else \
            f"95% {number(key, score['low'])} to {number(key, score['high'])}"
        count = f"{score['numerator']} of {score['n']}" if score["numerator"] is not None else f"n {score['n']}"
        parts.append(f"{words}{over} {number(key, score['value'])} ({count}, {ends})")
    label = "" if row["label"] == name else f"{row['label']}, "
    return f"{label}{row['concept']}: {'; '.join(parts)}; {row['edits']} edit{'' if row['edits'] == 1 else 's'}"
