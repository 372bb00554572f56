"""The `expunge` command: thin verbs over the Python API, each in a module of its own that is imported when called.

Exit codes: 0 done; 1 something failed by itself; 2 the user's mistake (message only); 3 done, and the concept is still
there (only with --strict); 130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
"""

from __future__ import annotations

import errno
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from expunge import __version__
from expunge.cli.terminal import VisibleLog, echo, visible_console
from expunge.errors import ExpungeError, ResourceError, UserError
from expunge.interrupts import asked, exit_code, leave_signals, take_signals

VERBS: dict[str, str] = {
    "demo": "Erase castle from the embedded model, attack and measure it, write the report.",
    "erase": "Take a concept out of a model; the result is a patch.",
    "sample": "Draw images, with or without a patch.",
    "evaluate": "Measure how gone the concept is and what else changed.",
    "attack": "Find out what attackers of a stated budget still get out.",
    "relearn": "Measure how fast fine-tuning brings the concept back.",
    "guard": "Freeze a part of a model where others fine-tune it, and verify it.",
    "bench": "Compare methods: every one on every concept, attacked and measured alike.",
    "sequence": "Meet requests one after the other, in a ledger, and measure the model after each.",
    "score": "Judge images that somebody else drew, by a protocol.",
    "compare": "Compare two runs of a protocol, image by image.",
    "check": "Say in one line whether records meet thresholds, for a pipeline.",
    "reference": "Make statistics of real images, for FID and KID against them.",
    "wipe": "Delete a protocol's images, and its prompts if asked.",
    "report": "Write the HTML page, JSON and model card of an evaluation.",
    "keys": "Make a pair of keys to sign bundles with.",
    "bundle": "Gather the evidence of an edit in one folder, and sign it.",
    "verify": "Say line by line what holds of a bundle.",
    "push": "Upload a patch to the Hub, when asked in so many words.",
    "pull": "Download a patch from the Hub.",
    "ui": "Serve a page on this machine: before and after, erase, attack, reports, blind labels.",
    "ls": "List methods, attacks, protocols, detectors, worlds, scopes, concepts or extras.",
    "show": "Show what is in a patch, an evaluation or a suite of attacks.",
    "apply": "Check that a patch fits a model, goes on and comes off bit-exactly.",
    "export": "Write an edit in the form that another program takes: checkpoint, LoRA, text encoder, folder.",
    "import": "Make a patch of an edit that somebody else published.",
    "merge": "Write a diffusers folder of the model with the patch in it: export --to folder.",
    "cache": "Show how much room drawn images take, or clear them.",
    "bake": "Train the embedded model again from a folder of drawings.",
}
"""Verb -> its line in `expunge --help`. The verb's command is `command` in `expunge.cli.<verb>`."""

_QUIET = {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error"}
"""Set unless the user did: other libraries' bars and hints, which would fall between the lines of our progress."""


_LESS_MEMORY = ("smaller batches (--batch, or `batch` in a settings file) need less, and so do fewer pixels; --dtype "
                "bfloat16 halves what a model takes where nothing is trained")


SHARED_OUT = ("erase", "evaluate", "attack", "bench")
"""Verbs that may stand under a launcher of several processes, or say themselves what to do in its place."""


class Verbs(click.Group):
    """A group that imports a verb's module when the verb is called, so that `expunge --help` loads no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"expunge.cli.{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]
                        ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0].lower(), VERBS, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            ctx.fail(f"unknown command '{args[0]}'.{hint} Known: {', '.join(VERBS)}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]},
             epilog="`expunge COMMAND --help` ends with examples and what they print.")
@click.version_option(__version__, prog_name="expunge")
@click.pass_context
def expunge(context: click.Context) -> None:
    """Take a concept out of a text-to-image diffusion model, and measure how gone it is."""
    from expunge.runtime import one_process

    if context.invoked_subcommand not in SHARED_OUT:
        one_process(f"expunge {context.invoked_subcommand}")


_NAMED = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP)
"""What the system says of a path that a user named, and of none that is our own choice."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.lastResort = logging.StreamHandler()  # to stderr, as Python's own
    logging.lastResort.setLevel(logging.WARNING)
    logging.lastResort.setFormatter(VisibleLog())
    take_signals()
    code = run(args)
    leave_signals()  # the interpreter takes a while to end, and would tell of a signal with a traceback
    sys.exit(code)


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Unexpected exceptions pass through, with their traceback."""
    try:
        result = expunge.main(args=None if args is None else list(args), standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt) as stop:
        return _interrupted(stop)
    except Exception as error:
        turned = asked()  # compiled code may have made this error of an interrupt that fell into it
        return _failed(error) if turned is None else _interrupted(turned)
    if (swallowed := asked()) is not None:
        return _interrupted(swallowed)
    return result if isinstance(result, int) else 0


def _failed(error: Exception) -> int:
    """Say what went wrong, and the exit code; what nobody expects is raised again."""
    if isinstance(error, click.exceptions.Exit):
        return int(error.exit_code)
    if isinstance(error, click.ClickException):
        told = io.StringIO()  # what the user wrote is in it, and what the shell made of a file's name
        error.show(file=told)
        echo(told.getvalue(), err=True, nl=False)
        return error.exit_code
    if isinstance(error, ExpungeError):
        _say(error)
        return error.exit_code
    if isinstance(error, MemoryError | RuntimeError):
        from expunge.runtime import exhausted

        if known := exhausted(error):
            _say(ResourceError(f"out of memory: {known}", remedy=_LESS_MEMORY))
            return 1
    if isinstance(error, OSError) and error.filename is not None and error.errno in _NAMED:
        _say(UserError(f"{error.filename}: {error.strerror}", remedy="name another file or folder"))
        return UserError.exit_code
    if isinstance(error, OSError) and error.filename is None and error.errno in (errno.ENOSPC, errno.EPIPE, errno.EIO):
        sys.stdout = None  # type: ignore[assignment]  # the interpreter would try to flush it once more
        echo(f"error: cannot write to standard output: {error.strerror}", err=True)
        return 1
    raise error


def _interrupted(stop: BaseException) -> int:
    cause = stop if isinstance(stop, KeyboardInterrupt) else stop.__cause__ or stop.__context__
    said = str(cause) if cause is not None and str(cause) else \
        "what was finished is kept; run the same command again to go on"
    echo(f"interrupted: {said}", err=True)
    return exit_code(cause)


def _say(error: ExpungeError) -> None:
    console = visible_console(stderr=True)
    file = getattr(error, "file", None)  # of a reader that has no words of its own
    where = f"{file}: " if file else ""
    console.print(f"error: {where}{_shortened(error.got)}", style="bold red", markup=False, soft_wrap=True)
    if error.accepted:
        console.print(f"  accepted: {_shortened(error.accepted)}", markup=False, soft_wrap=True)
    if error.remedy:
        console.print(f"  {_shortened(error.remedy)}", markup=False, soft_wrap=True)


def _shortened(words: str, most: int = 4000) -> str:
    return words if len(words) <= most else f"{words[:most]}... ({len(words):,} characters)"
