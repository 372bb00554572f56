"""`expunge ls`: what there is to choose from."""

from __future__ import annotations

from collections.abc import Callable

import click

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

    return [(name, METHODS.help(name)) for name in METHODS.names()]


def _attacks(_: str | None) -> list[tuple[str, str]]:
    from expunge.registry import ATTACKS

    return [(name, ATTACKS.help(name)) for name in ATTACKS.names()]


def _worlds(_: str | None) -> list[tuple[str, str]]:
    from expunge.registry import WORLDS

    return [(name, WORLDS.help(name)) for name in WORLDS.names()]


def _scopes(_: str | None) -> list[tuple[str, str]]:
    import ast
    from importlib import resources

    source = resources.files("expunge").joinpath("models").joinpath("scope.py").read_text(encoding="utf-8")
    manual = ast.get_docstring(ast.parse(source)) or ""  # importing the module would load torch
    lines = [line.strip("| ").split("|") for line in manual.splitlines() if line.startswith("| `")]
    return [(cells[0].replace("`", "").strip(), cells[1].replace("`", "").strip()) for cells in lines]


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
    "methods": _methods, "attacks": _attacks, "worlds": _worlds, "scopes": _scopes, "concepts": _concepts,
}


@click.command("ls", epilog=EXAMPLES)
@click.argument("what", type=click.Choice(list(_LISTS)))
@click.option("--kind", metavar="KIND", help="With concepts: only those of one kind (building, animal, style, ...).")
def command(what: str, kind: str | None) -> None:
    """List methods, attacks, worlds, scopes (of parameters), or the concepts of the embedded model's world."""
    from expunge.errors import UserError

    if kind is not None and what != "concepts":
        raise UserError(f"--kind with {what}", accepted="--kind with concepts only")
    rows = _LISTS[what](kind)
    width = max(len(name) for name, _ in rows) + 3
    for name, text in rows:
        click.echo(f"{name:<{width}}{text}")
