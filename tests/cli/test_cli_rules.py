"""One rule for the options of all verbs (CONTRIBUTING, "Options"), held by a walk over the commands."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from test_cli_lists import commands

import expunge as package
from expunge.cli import expunge, run
from expunge.cli.options import METAVARS
from expunge.config import Settings

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = [(path, option) for path, command in commands(expunge) for option in command.params
           if isinstance(option, click.Option)]
HAVE = {path: {flag for option in command.params for flag in option.opts} for path, command in commands(expunge)}
APART = {"--only": "rows of a bench, a component of a merged model", "--kind": "of what goes, of the world's things",
         "--out": "a folder of results, or a file where one file is all", "--seed": "one, but all that `sample` draws"}
"""Options whose form differs from verb to verb, and what they are there. It gets no longer."""


def name_of(option: click.Option) -> str:
    """The first long name; others are names that the option once had."""
    return next(flag for flag in option.opts if flag.startswith("--"))


def form(option: click.Option) -> tuple[object, ...]:
    """What a user has to know to write it."""
    if option.is_flag:
        return ("switch", bool(option.secondary_opts))
    if isinstance(option.type, click.Choice):
        return (tuple(option.type.choices), option.multiple)
    return (option.metavar, option.multiple)


def test_an_option_of_one_name_has_one_form_in_every_verb() -> None:
    forms: dict[str, dict[tuple[object, ...], list[str]]] = defaultdict(lambda: defaultdict(list))
    for path, option in OPTIONS:
        forms[name_of(option)][form(option)].append(" ".join(path))
    odd = {name: dict(found) for name, found in forms.items() if len(found) > 1}
    assert set(odd) == set(APART), odd


def test_what_has_a_value_says_what_stands_for_it() -> None:
    bare = [(" ".join(path), name_of(option)) for path, option in OPTIONS if not option.is_flag and not option.metavar
            and not isinstance(option.type, click.Choice)]
    assert not bare


def test_no_option_takes_a_single_value_only() -> None:
    single = [(" ".join(path), name_of(option)) for path, option in OPTIONS
              if isinstance(option.type, click.Choice) and len(option.type.choices) < 2]
    assert not single


@pytest.mark.parametrize("verb", [("relearn",), ("guard", "learn"), ("guard", "verify")])
def test_what_only_float32_can_do_offers_no_number_type(verb: tuple[str, ...]) -> None:
    assert "--dtype" not in HAVE[verb]
    assert "--device" in HAVE[verb]


def test_names_are_words_with_dashes_and_helps_are_sentences() -> None:
    for path, option in OPTIONS:
        assert all(re.fullmatch(r"--[a-z][a-z0-9]*(-[a-z0-9]+)*|-[a-z]", flag) for flag in option.opts), path
        help = option.help or ""
        assert help[:1].isupper() or help.startswith(("embedded", "cpu", "open world", "projected")), (path, help)
        assert help.endswith((".", "]", "?")), (path, help)
        assert not option.multiple or "repeated" in help, (path, help)


def test_settings_are_reached_alike() -> None:
    """Whoever plans has `--dry-run`, `--set` and a file: `--config`, or FILE as its argument."""
    takes_file = {path for path, command in commands(expunge) if any(p.name == "file" for p in command.params)}
    for path, flags in HAVE.items():
        planned = "--dry-run" in flags
        assert planned == ("--set" in flags), path
        assert planned == ("--config" in flags or path in takes_file), path
        assert not planned or "-n" in flags


def settings() -> Iterator[type[Settings]]:
    for module in pkgutil.walk_packages(package.__path__, "expunge."):
        if ".tiny." in module.name or module.name.endswith("__main__"):
            continue
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(found, Settings) and found.__module__ == module.name:
                yield found


def test_one_word_for_one_thing_in_all_settings() -> None:
    """Training is counted in `steps`, whatever papers call it."""
    others = {"iterations", "iters", "num_steps", "n_steps", "train_steps", "lr", "batch_size", "bs"}
    assert not {(found.__name__, name) for found in settings() for name in found.model_fields if name in others}


def test_a_former_name_of_a_setting_is_read_and_stays_in_digests() -> None:
    from expunge.attacks.unlearndiff import UnlearnDiff

    new, old = UnlearnDiff.build({"steps": 7}), UnlearnDiff.build({"iterations": 7})
    assert new == old == UnlearnDiff.model_validate({"iterations": 7})
    assert new.model_dump()["steps"] == 7
    assert new.model_dump(by_alias=True)["iterations"] == 7
    assert UnlearnDiff.smoke(iterations=3).steps == 3


@pytest.mark.parametrize(("arguments", "same"), [
    (["sample", "a church", "--count", "2"], ["sample", "a church", "--seeds", "2"]),
    (["guard", "learn", "--pictures", "3", "--by", "count"], ["guard", "learn", "--drawings", "3", "--share-of",
                                                              "count"])])
def test_former_names_of_options_mean_the_same(arguments: list[str], same: list[str]) -> None:
    def read(words: list[str]) -> dict[str, Any]:
        path = tuple(words[:2]) if words[0] == "guard" else (words[0],)
        command = dict(commands(expunge))[path]
        return command.make_context(path[-1], words[len(path):]).params

    assert read(arguments) == read(same)


def test_contributing_states_the_rule_with_its_exceptions() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rule = page.partition("## Options")[2].partition("\n## ")[0]
    assert all(f"`{name}`" in rule for name in APART)
    assert all(f"`{word}`" in rule for word in set(METAVARS.values()))


def test_dtype_is_not_known_where_only_float32_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["relearn", "church", "--dtype", "bfloat16"]) == 2
    assert "No such option" in capsys.readouterr().err
