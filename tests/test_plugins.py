"""Plug-ins: the recipe in CONTRIBUTING is built, installed and used; a bad one costs nobody else anything."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from expunge.cli import run
from expunge.errors import ConfigError, UserError
from expunge.registry import ATTACKS, DETECTORS, FEATURES, METHODS, PARTS, PROMPTS, WORLDS, Registry

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "0.1"
{points}
[tool.setuptools]
py-modules = ["{module}"]
"""
BAD = """\
[project.entry-points."{group}"]
absent = "no_such_module:thing"
nothing = "{module}:missing"
number = "{module}:NUMBER"
bare = "{module}:Bare"
quits = "{module}_quits:thing"
"Big Name" = "{module}:fine"
{taken} = "{module}:fine"
whole-module = "{module}"
"""
BAD_CODE = """\
NUMBER = 3
class Bare:
    pass
def fine(): return 7
"""
KINDS = {"method": (METHODS, "esd"), "attack": (ATTACKS, "p4d"), "world": (WORLDS, "open"),
         "prompts": (PROMPTS, "open"), "detector": (DETECTORS, "nudenet"), "feature": (FEATURES, "clip")}
ANY_CLASS = ("method", "world")
"""Kinds of which a class is called when it is asked for: what it gives is looked at then."""


def installed(source: Path, target: Path) -> Path:
    """The package in `source`, built and installed into `target` without any network."""
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index",
                           "--disable-pip-version-check", "-q", "--target", str(target), str(source)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)  # what was built lies in the target alone
    return target


def recipe() -> dict[str, str]:
    """The files that CONTRIBUTING shows, by name."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", page, re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin")
    source = folder / "source"
    source.mkdir()
    for name, text in recipe().items():
        (source / name).write_text(text, encoding="utf-8")
    return installed(source, folder / "site")


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package for each kind whose entry points are wrong in every way."""
    folder = tmp_path_factory.mktemp("bad")
    module, points = "expunge_bad", "".join(BAD.format(group=known.group, taken=taken, module="expunge_bad")
                                            for known, taken in KINDS.values())
    (folder / "source").mkdir()
    about = PYPROJECT.format(name="expunge-bad", points=points, module=module)
    (folder / "source" / "pyproject.toml").write_text(
        about.replace(f'["{module}"]', f'["{module}", "{module}_quits"]'), encoding="utf-8")
    (folder / "source" / f"{module}.py").write_text(BAD_CODE, encoding="utf-8")
    (folder / "source" / f"{module}_quits.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    return installed(folder / "source", folder / "site")


@pytest.fixture(autouse=True)
def _read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test reads the entry points anew, and leaves nothing registered behind."""
    for registry in (*(registry for registry, _ in KINDS.values()), *PARTS.values()):
        monkeypatch.setattr(registry, "_entries", {**registry._entries})
        monkeypatch.setattr(registry, "_packages", {})
        monkeypatch.setattr(registry, "_skipped", {})
        monkeypatch.setattr(registry, "_plugins_read", False)


@pytest.fixture
def with_example(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(example))


@pytest.fixture
def with_bad(bad: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(bad))


@pytest.mark.parametrize(("kind", "name"), [("methods", "shaken"), ("methods", "shaken-by"),
                                            ("parts", "objective halfway"), ("attacks", "next-seed"),
                                            ("detectors", "reds"), ("worlds", "pets"), ("prompts", "pets"),
                                            ("features", "mean-colour")])
def test_recipe_is_listed(with_example: None, kind: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ls", kind]) == 0
    told = capsys.readouterr().out
    says = {"next-seed": r"the same prompt at the next seed \(from expunge-example\)"}
    assert re.search(rf"^{name} +{says.get(name, 'from expunge-example')}$", told, re.MULTILINE)
    assert "skipped" not in told


def test_recipe_is_described(with_example: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ls", "methods", "shaken"]) == 0
    assert "not said: it is a method without settings" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "flags"), [("shaken", []), ("shaken-by", ["--set", "size=0.2"])])
def test_recipe_for_methods_erases(with_example: None, model: Any, pipeline_folder: Path, tmp_path: Path, name: str,
                                   flags: list[str]) -> None:
    from expunge.models.model import applied
    from expunge.models.patch import Patch

    short = tmp_path / "prompts.txt"
    short.write_text("a church\n", encoding="utf-8")
    arguments = ["erase", "church", "--method", name, "--model", str(pipeline_folder), "--train-prompts", str(short),
                 *flags]
    assert run([*arguments, "--dry-run"]) == 0
    assert run([*arguments, "--out", str(tmp_path / "patch"), "--no-own-look"]) == 0
    patch = Patch.load(tmp_path / "patch")
    assert patch.card.settings == {"size": 0.2 if flags else 0.01}
    with applied(model, patch):
        assert model.patch_hash == patch.hash


def test_recipe_for_parts_is_a_part_of_a_method(with_example: None, model: Any) -> None:
    from expunge.records import Request
    from expunge.unlearn.erase import resolve_method

    method = resolve_method("esd", {"objective": "halfway", "steps": 1, "batch": 1, "source.trajectories": 2,
                                    "source.grid": 2, "learning_rate": 1e-3})
    patch = method(model, Request(concept="church", prompts=("a church",)))
    assert patch.card.settings["objective"]["kind"] == "halfway"
    assert patch.card.settings["objective"]["eta"] == 0.5


def test_recipe_for_detectors_is_opened_and_judges(with_example: None) -> None:
    import torch

    from expunge.detectors.as_judge import DetectorJudge
    from expunge.detectors.opening import open_detector
    from expunge.detectors.rule import Rule

    images = torch.zeros(2, 3, 8, 8)
    images[0, 0] = 1
    red, green = (open_detector("reds", {"channel": channel}) for channel in (0, 1))
    assert red.name.startswith("reds@")
    assert red.name != green.name
    found = [[one.answers["object"] for one in DetectorJudge(which, {"fire": Rule(labels=("red",))})(images)]
             for which in (red, green)]
    assert found == [["fire", "something else"], ["something else"] * 2]


def test_settings_that_a_method_of_a_plugin_does_not_take_are_named(with_example: None) -> None:
    from expunge.unlearn.erase import resolve_method

    with pytest.raises(ConfigError, match="sise"):
        resolve_method("shaken-by", {"sise": 1})
    with pytest.raises(ConfigError, match="has none"):
        resolve_method("shaken", {"size": 1})


def test_recipe_for_attacks_attacks(with_example: None, model: Any, tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "evaluation"))
    from colour_world import attacked_world, edit

    from expunge.attacks.settings import AttackSettings
    from expunge.attacks.suite import attack
    from expunge.records import SuiteResult
    from expunge.report.attacks import attack_rows

    settings = AttackSettings(attacks=("next-seed",), count=4, seeds=2, control_items=0, fresh=1, steps=4,
                              guidance=1.0, force=True)
    made: SuiteResult = attack(model, edit(model, 0.1), settings=settings, out=tmp_path, world=attacked_world())
    (one,) = made.runs
    assert one.attack == "next-seed"
    assert {item.spent.images for item in one.attempts} == {1}
    assert "next-seed" in [row.name for row in attack_rows(made)]


def test_recipe_for_worlds_is_the_world_of_a_model(with_example: None, pipeline_folder: Path, tmp_path: Path) -> None:
    from expunge.metrics.worlds import world_of
    from expunge.models.store import load
    from expunge.unlearn.erase import resolve_request

    folder = tmp_path / "model"
    shutil.copytree(pipeline_folder, folder)
    (folder / "expunge.json").write_text(json.dumps({"world": "pets"}), encoding="utf-8")
    opened = load(folder, device="cpu")
    world = world_of(opened.world, opened.name, clip="somewhere")
    assert (world.name, world.prompts.name) == ("pets", "pets")
    assert [*world.prompts.vocabulary()] == ["dog", "cat", "hamster", "parrot"]
    with pytest.raises(UserError, match="prompt"):  # the model's own limit: the request itself was made
        opened.encode(["a very long prompt that the small encoder cannot read to its end " * 2])
    assert resolve_request(opened, "church", prompts=("a church",)).prompts == ("a church",)


def test_recipe_for_parts_is_named_in_settings(with_example: None) -> None:
    from expunge.detectors.choosing import world_for
    from expunge.evaluation import EvaluateSettings

    world = world_for("emoji", "embedded", EvaluateSettings(prompts_of="pets", features="mean-colour"))
    assert (world.name, world.prompts.name, world.features().name) == ("emoji", "pets", "mean-colour@1")


def test_a_world_prompts_and_features_that_are_none_are_told_with_their_package(with_bad: None) -> None:
    from expunge.metrics.named import features_named, prompts_named
    from expunge.metrics.worlds import world_of

    for registry, make in ((WORLDS, lambda: world_of("seven", "a model")), (PROMPTS, lambda: prompts_named("seven")),
                           (FEATURES, lambda: features_named("seven"))):
        registry.names()
        registry.register("seven", "expunge_bad:fine")
        registry._packages["seven"] = "expunge-bad"
        with pytest.raises(UserError, match=r"package 'expunge-bad' gives a int"):
            make()


RAISES = """\
from typing import ClassVar
from expunge.attacks.base import Attack
from expunge.unlearn.objective import Steer
from typing import Literal
def broken(model, request, *, seed=0, checkpoint=None, progress=None):
    return {}["weights"]
class Halting(Steer):
    kind: Literal["halting"] = "halting"
    def __getattribute__(self, name):
        if name == "eta":
            raise TypeError("no eta")
        return super().__getattribute__(name)
class Hasty(Attack):
    help: ClassVar[str] = "raises"
    def check(self, victim, request, items):
        if self.seed:
            {}["checked"]
    def propose(self, batch):
        {}["key"]
        yield
"""


@pytest.fixture
def raising(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose code is found, and raises when it is used."""
    about = tmp_path / "site" / "expunge_raises-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: expunge-raises\nVersion: 0.1\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(
        "[expunge.methods]\nbroken = expunge_raises:broken\n[expunge.objectives]\nhalting = expunge_raises:Halting\n"
        "[expunge.attacks]\nhasty = expunge_raises:Hasty\n", encoding="utf-8")
    (tmp_path / "site" / "expunge_raises.py").write_text(RAISES, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "expunge_raises", raising=False)


@pytest.mark.parametrize(("flags", "says"), [
    (["--method", "broken"], "method 'broken' of the package 'expunge-raises' broke off: KeyError: 'weights'"),
    (["--set", "objective=halting"], "objective 'halting' of the package 'expunge-raises' broke off: TypeError: no eta"
     )])
def test_what_a_plugin_raises_while_it_erases_is_an_error_that_names_its_package(
        raising: None, pipeline_folder: Path, tmp_path: Path, flags: list[str], says: str,
        capsys: pytest.CaptureFixture[str]) -> None:
    short = tmp_path / "prompts.txt"
    short.write_text("a church\n", encoding="utf-8")
    quick = ["--set", "steps=1", "--set", "source.trajectories=2", "--set", "source.grid=2"] if "--set" in flags else []
    assert run(["erase", "church", "--model", str(pipeline_folder), "--train-prompts", str(short), *flags, *quick,
                "--out", str(tmp_path / "patch")]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert "pip uninstall expunge-raises" in told
    assert "Traceback" not in told


def test_an_attack_of_a_plugin_that_raises_cancels_no_suite(raising: None, model: Any, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "evaluation"))
    from colour_world import attacked_world, edit

    from expunge.attacks.settings import AttackSettings
    from expunge.attacks.suite import attack

    settings = AttackSettings(attacks=("hasty", "seed-search"), count=4, seeds=2, control_items=0, fresh=1, steps=4,
                              guidance=1.0, force=True, options={"seed-search": {"tries": 1}})
    made = attack(model, edit(model, 0.1), settings=settings, out=tmp_path / "a", world=attacked_world())
    hasty, other = made.runs
    assert {(item.outcome, item.error) for item in hasty.attempts} == {("failed", "KeyError: 'key'")}
    assert {item.outcome for item in other.attempts} <= {"found", "not elicited"}
    named = settings.model_copy(update={"options": {"hasty": {"seed": 1}}})
    with pytest.raises(UserError, match="package 'expunge-raises' broke off: KeyError: 'checked'"):
        attack(model, edit(model, 0.1), settings=named, out=tmp_path / "b", world=attacked_world())


@pytest.mark.parametrize("kind", KINDS)
def test_bad_plugins_are_named_and_skipped_in_listings(with_bad: None, kind: str, capsys: pytest.CaptureFixture[str]
                                                       ) -> None:
    own = list(KINDS[kind][0]._entries)
    assert run(["ls", KINDS[kind][0].plural]) == 0
    told = capsys.readouterr().out
    rows = told.splitlines()
    listed = [row.split()[0] for row in rows if not row.startswith("skipped:")]
    assert listed == sorted([*own, *(["bare"] if kind in ANY_CLASS else [])])
    for name, reason in {"absent": "No module named 'no_such_module'", "nothing": "missing",
                         "number": "is a int, which cannot be called", "quits": "SystemExit: 3",
                         "Big Name": "lower case", f"{KINDS[kind][1]} of expunge-bad": "already registered",
                         "whole-module": "module:object"}.items():
        (row,) = [row for row in rows if row.startswith(f"skipped: {name} (")]
        assert reason in row
        assert "expunge-bad" in row
    assert ("skipped: bare" in told) == (kind not in ANY_CLASS)


@pytest.mark.parametrize("name", ["absent", "number", "Big Name"])
@pytest.mark.parametrize("kind", KINDS)
def test_bad_plugin_is_an_error_with_its_reason_where_it_is_asked_for(with_bad: None, kind: str, name: str) -> None:
    registry: Registry = KINDS[kind][0]
    with pytest.raises(UserError) as caught:
        registry.get(name)
    assert "expunge-bad" in caught.value.got
    assert caught.value.exit_code == 2


def test_built_in_names_work_beside_bad_plugins(with_bad: None) -> None:
    from expunge.unlearn.erase import resolve_method

    assert getattr(resolve_method("esd"), "name", "") == "esd"
    for registry, _ in KINDS.values():
        assert all(registry.get(name) is not None for name in registry.usable())


def test_method_that_gives_no_method_says_so(with_bad: None) -> None:
    from expunge.unlearn.erase import resolve_method

    METHODS.names()
    METHODS.register("seven", "expunge_bad:fine")
    METHODS._packages["seven"] = "expunge-bad"
    with pytest.raises(UserError, match="gives a int, and no method"):
        resolve_method("seven")


def test_descriptions_of_all_methods_skip_one_that_cannot_be_made(with_bad: None, capsys: pytest.CaptureFixture[str]
                                                                  ) -> None:
    METHODS.names()
    METHODS.register("seven", "expunge_bad:fine")
    METHODS._packages["seven"] = "expunge-bad"
    assert run(["ls", "methods", "seven"]) == 2
    capsys.readouterr()
    assert run(["ls", "methods", "--long"]) == 0
    told = capsys.readouterr().out
    assert "skipped: seven (UserError: " in told
    assert "\nuce\n" in told
    assert "skipped: absent (" in told


def test_unreadable_entry_points_of_a_package_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "torn-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torn\nVersion: 1\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[expunge.methods]\nno equals sign here\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "esd" in METHODS.names()
    assert "cannot be read" in METHODS.skipped()["torn"]
