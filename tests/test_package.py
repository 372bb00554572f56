"""What ships: the package's files, what is said of it, and the container files, line by line."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

import expunge
from expunge.extras import EXTRAS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTAINERS = [ROOT / "Containerfile", ROOT / "Containerfile.cuda"]
PINS = dict(line.split(" ;")[0].strip().split("==") for line in
            (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line.partition("#")[0])


def tracked(folder: str) -> list[str]:
    listing = ["git", "ls-files", "-z", "--", folder]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    return [name for name in done.stdout.split("\0") if name]


def test_every_file_of_the_package_that_is_no_code_ships_as_package_data() -> None:
    names = tracked("src/expunge")
    if not names:
        pytest.skip("no checkout")
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["expunge"]
    package = ROOT / "src" / "expunge"
    shipped = {path.relative_to(ROOT).as_posix() for pattern in patterns for path in package.glob(pattern)}
    shipped |= {path.relative_to(ROOT).as_posix() for pattern in patterns if pattern.endswith("**")
                for path in package.glob(f"{pattern}/*")}
    assert not [name for name in names if not name.endswith(".py") and name not in shipped]
    assert "src/expunge/py.typed" in shipped
    assert any("emoji-64/unet" in name for name in shipped)


def test_every_folder_of_code_is_a_package_that_ships() -> None:
    folders = {Path(name).parent for name in tracked("src/expunge") if name.endswith(".py")}
    assert not [folder for folder in folders if not (ROOT / folder / "__init__.py").is_file()]


def test_citation_and_changelog_tell_this_version() -> None:
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert said["version"] == expunge.__version__
    assert said["license"] == PROJECT["project"]["license"]
    assert {"cff-version", "message", "title", "authors", "type"} <= {*said}
    versions = re.findall(r"^## (?:Unreleased \()?(\d+\.\d+\.\d+)\)?$",
                          (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == expunge.__version__
    assert versions == sorted(versions, key=lambda text: [int(part) for part in text.split(".")], reverse=True)


def test_the_security_page_says_what_is_trusted_what_is_refused_and_how_to_report() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert {"## What is trusted, and what is refused", "## Reporting a fault"} <= {*page.splitlines()}
    for target in re.findall(r"\]\(([^)#:]+)\)", page):
        assert (ROOT / target).exists(), target
    flags = {*re.findall(r"`(--[a-z-]+)", page)}
    assert flags <= {"--allow-pickle", "--model", "--clip", "--redact", "--version"}, flags


def lines(file: Path) -> list[tuple[str, str]]:
    """(instruction, rest) of each line of a container file; comments and blank lines left out."""
    text = re.sub(r"\\\n", " ", file.read_text(encoding="utf-8"))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in text.splitlines()
            if line.strip() and not line.startswith("#")]


KNOWN = {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "ENTRYPOINT", "CMD"}


@pytest.mark.parametrize("file", CONTAINERS, ids=lambda file: file.name)
def test_a_container_file_line_by_line(file: Path) -> None:
    told = lines(file)
    assert {name for name, _ in told} <= KNOWN
    order = [name for name, _ in told]
    (base,) = [rest for name, rest in told if name == "FROM"]
    pinned = re.fullmatch(r"[\w.]+/[\w/-]+:(\d+\.\d+)\.\d+-[\w-]+(@sha256:[0-9a-f]{64})?", base)
    assert pinned, f"{base} is not pinned to a patch release"
    assert pinned[1] in SpecifierSet(PROJECT["project"]["requires-python"])
    for _, rest in [line for line in told if line[0] == "COPY"]:
        *sources, target = rest.split()
        assert target.startswith("./")
        assert all((ROOT / source).exists() for source in sources), rest
    assert order.index("USER") > max(number for number, name in enumerate(order) if name == "RUN")
    (user,) = [rest for name, rest in told if name == "USER"]
    assert user.isdigit()
    assert int(user) > 0
    assert f"--uid {user} " in file.read_text(encoding="utf-8")
    (entry,) = [json.loads(rest) for name, rest in told if name == "ENTRYPOINT"]
    assert {*entry} <= {*PROJECT["project"]["scripts"]}
    assert order[-1] == "CMD"
    json.loads(told[-1][1])


@pytest.mark.parametrize("file", CONTAINERS, ids=lambda file: file.name)
def test_a_container_installs_the_pinned_set_and_extras_that_exist(file: Path) -> None:
    installs = [rest for name, rest in lines(file) if name == "RUN" and "pip install" in rest]
    assert installs
    for rest in installs:
        words = shlex.split(rest)
        assert words[words.index("-c") + 1] == "constraints.txt", rest
        for word in words[words.index("install") + 1:]:
            if "==" in word:
                package, version = word.split("==")
                assert PINS[package] == version.partition("+")[0], word
            if word.startswith(".["):
                assert {*word[2:-1].split(",")} <= {*EXTRAS}, word
    assert any("torch==" in rest for rest in installs)
    assert ("+cpu" in installs[0]) == (file.name == "Containerfile")


def test_what_a_container_is_built_from_leaves_out_what_is_large_or_private() -> None:
    left_out = (ROOT / ".containerignore").read_text(encoding="utf-8")
    assert left_out == (ROOT / ".dockerignore").read_text(encoding="utf-8")
    assert {".git", ".venv", "runs"} <= {*left_out.splitlines()}


def test_the_package_script_is_part_of_what_must_pass() -> None:
    assert ".ci/package" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci" / "package")], check=False).returncode == 0
