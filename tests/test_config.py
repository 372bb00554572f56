"""Settings: one schema for files, flags and Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from expunge.config import ByKind, Settings, knob, merged, read_settings_file
from expunge.errors import ConfigError


class Inner(Settings):
    eta: float = knob(1.0, "Strength", ge=0)


class Outer(Settings):
    steps: int = knob(10, "How many", unit="steps", source="nowhere", ge=1)
    name: str = knob("a", "A name")
    inner: Inner = knob(Inner(), "The inside")


def test_all_mistakes_are_in_one_error() -> None:
    with pytest.raises(ConfigError) as caught:
        Outer.build({"steps": 0, "nmae": "b", "inner": {"eta": -1.0}}, "run.toml")
    text = str(caught.value)
    assert text.startswith("run.toml: ")
    assert "steps: got 0" in text
    assert "inner.eta: got -1.0" in text
    assert "unknown setting 'nmae' (did you mean 'name'?)" in text


class Cat(Settings):
    kind: Literal["cat"] = "cat"
    lives: int = knob(9, "How many", ge=1)


class Dog(Settings):
    kind: Literal["dog"] = "dog"
    tricks: int = knob(0, "How many", ge=0)


class House(Settings):
    pet: Annotated[Cat | Dog, ByKind("pet")] = knob(Cat(), "Who lives there")
    stray: Annotated[Dog | Cat, ByKind("stray")] | None = knob(None, "Who comes by")
    only: Annotated[Cat, ByKind("only")] = knob(Cat(), "A union of one")
    guest: Inner | None = knob(None, "Who visits")
    rooms: tuple[Inner, ...] = knob((), "One by one")
    tricky: Cat | Dog = knob(Cat(), "Either, untagged")


@pytest.mark.parametrize(("values", "says"), [
    ({"guest": {"etta": 1}}, r"unknown setting 'guest.etta' (did you mean 'guest.eta'?)"),
    ({"pet": {"kind": "dog", "trick": 1}}, r"unknown setting 'pet.trick' (did you mean 'pet.tricks'?)"),
    ({"pet": {"kind": "dog", "lives": 1}}, r"unknown setting 'pet.lives' (known in pet: kind, tricks)"),
    ({"pet": {"kind": "cat", "lives": 0}}, r"pet.lives: got 0, input should be greater than or equal to 1"),
    ({"stray": {"lives": 1}}, r"unknown setting 'stray.lives' (known in stray: kind, tricks)"),
    ({"stray": {"kind": "cow"}}, r"known kinds of stray: dog, cat"),
    ({"stray": "dog"}, r"known kinds of stray: dog, cat"),
    ({"only": {"live": 1}}, r"unknown setting 'only.live' (did you mean 'only.lives'?)"),
    ({"rooms": [{}, {"etaa": 1}]}, r"unknown setting 'rooms.1.etaa' (did you mean 'rooms.1.eta'?)"),
    ({"tricky": {"livs": 1}}, r"unknown setting 'tricky.livs' (did you mean 'tricky.lives'?)"),
    ({"guest": 3}, "guest: got 3, should be a mapping of settings"),
])
def test_mistakes_inside_are_told_as_they_are_written(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        House.build(values)
    assert says in str(caught.value)


def test_unknown_key_without_a_close_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="known: steps, name, inner"):
        Outer.build({"zzz": 1})


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"inner\.eta"):
        Outer.build({"inner": {"eta": float("nan")}})


def test_settings_are_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Outer().steps = 3  # type: ignore[misc]


def test_knob_states_unit_and_source_once() -> None:
    field = Outer.model_fields["steps"]
    assert field.description == "How many"
    assert field.json_schema_extra == {"unit": "steps", "source": "nowhere"}


def test_yaml_and_toml_give_the_same_settings(tmp_path: Path) -> None:
    toml, yaml = tmp_path / "a.toml", tmp_path / "a.yaml"
    toml.write_text('steps = 3\n[inner]\neta = 2.0\n')
    yaml.write_text("steps: 3\ninner:\n  eta: 2.0\n")
    assert Outer.build(read_settings_file(toml)) == Outer.build(read_settings_file(yaml))


def test_empty_yaml_file_is_no_settings(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    file.write_text("")
    assert read_settings_file(file) == {}


@pytest.mark.parametrize(("name", "text", "says"), [
    ("a.toml", "steps = = 3", "cannot be parsed"),
    ("a.yaml", "steps: [", "cannot be parsed"),
    ("a.yaml", "- 1\n- 2\n", "holds list"),
    ("a.yaml", "a: {steps: 3, seed: 1, steps: 4}\n", "the key 'steps' stands there twice"),
    ("a.ini", "steps=3", "unknown kind of settings file"),
    ("a.toml", None, "cannot read settings"),
])
def test_bad_settings_file_is_a_clear_error(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_settings_file(tmp_path / name)


def test_yaml_cannot_construct_objects(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("steps: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="cannot be parsed"):
        read_settings_file(file)


def test_later_layers_win_and_dots_reach_inside() -> None:
    assert merged({"steps": 1, "inner": {"eta": 1.0, "other": 2}}, {"inner": {"eta": 3.0}}, {"inner.other": 4}) == \
        {"steps": 1, "inner": {"eta": 3.0, "other": 4}}


def test_settings_of_a_part_that_was_named_by_its_kind_go_to_that_part() -> None:
    assert merged({"update": {"kind": "plain", "max_grad_norm": 1.0}}, {"update": "masked"}, {"update.share": 0.1}) == \
        {"update": {"kind": "masked", "share": 0.1}}
    assert merged({"update": "masked", "update.update": "dual", "update.update.bound": 2}) == \
        {"update": {"kind": "masked", "update": {"kind": "dual", "bound": 2}}}


def test_merging_leaves_the_layers_alone() -> None:
    low = {"inner": {"eta": 1.0}}
    merged(low, {"inner.eta": 2.0})
    assert low == {"inner": {"eta": 1.0}}


def test_a_setting_that_is_missing_is_named_without_all_the_others() -> None:
    class Needy(Settings):
        pictures: str = knob(..., "needed")
        steps: int = knob(3, "some")

    with pytest.raises(ConfigError) as caught:
        Needy.build({"steps": 7}, "job")
    assert str(caught.value) == "job: pictures: not given, but needed"
