"""Nothing that exists on one system only: what some systems lack is asked for under a guard, or not at all."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "src" / "expunge").rglob("*.py"))
ONE_SYSTEM = {"fcntl", "pwd", "grp", "termios", "tty", "pty", "resource", "posix", "syslog", "msvcrt", "winreg", "nt"}
CALLS = {"os.fork", "os.kill", "os.killpg", "os.getuid", "os.geteuid", "os.getpgid", "os.setsid", "os.mkfifo",
         "os.nice", "os.sched_getaffinity", "os.uname", "os.link", "os.symlink", "signal.SIGKILL", "signal.SIGHUP",
         "signal.SIGUSR1", "signal.SIGALRM", "signal.alarm", "signal.pause"}
PLACES = re.compile(r"^/(tmp|dev/shm|var|usr|etc|home|root)\b")


def lapses(path: Path) -> Iterator[str]:
    """What would break elsewhere: imports and names of one system outside a guard, and places that only it has."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.If | ast.IfExp) and _asks(node.test)
               for inner in ast.walk(node)}
    after = {id(inner) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef)
             for number, statement in enumerate(function.body)
             if isinstance(statement, ast.If) and _asks(statement.test) and isinstance(statement.body[-1], ast.Return)
             for later in function.body[number + 1:] for inner in ast.walk(later)}
    tried = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.Try) for part in node.body
             for inner in ast.walk(part)}
    for node in ast.walk(tree):
        where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        free = id(node) not in guarded | after
        if isinstance(node, ast.Import | ast.ImportFrom) and free:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"{where} imports {name}" for name in names if name.partition(".")[0] in ONE_SYSTEM
                        and not getattr(node, "level", 0))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and free:
            name = f"{node.value.id}.{node.attr}"
            if name in CALLS:
                yield f"{where} uses {name}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if PLACES.match(node.value):
                yield f"{where} names {node.value}"
            if node.value.startswith("/proc/") and id(node) not in tried:
                yield f"{where} reads {node.value}, and does not expect that there is none"


def _asks(test: ast.expr) -> bool:
    """Whether a condition asks what system this is, or whether it has a name."""
    text = ast.unparse(test)
    return "sys.platform" in text or "os.name" in text or "hasattr(os" in text or "hasattr(signal" in text


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT / "src" / "expunge").as_posix())
def test_a_module_asks_for_nothing_that_one_system_has_alone(path: Path) -> None:
    assert not [*lapses(path)]


def test_the_checker_finds_planted_lapses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = tmp_path / "a.py"
    planted.write_text(
        "import fcntl\nimport os, sys, signal\ndef a():\n    import resource\n    os.kill(1, signal.SIGKILL)\n"
        "    open('/dev/shm/x')\n    open('/proc/x')\n"
        "def b():\n    if sys.platform == 'win32':\n        return None\n    import resource\n"
        "    return os.getuid() if hasattr(os, 'getuid') else 0\n")
    monkeypatch.setattr("test_systems.ROOT", tmp_path)
    assert len([*lapses(planted)]) == 6


def test_locks_are_a_kept_librarys() -> None:
    users = [path.name for path in MODULES if re.search(r"^\s*(from|import) filelock", path.read_text(encoding="utf-8"),
                                                        re.MULTILINE)]
    assert users == ["locks.py"]


def test_no_tracked_name_is_a_problem_for_another_file_system() -> None:
    """Windows and macOS do not tell capitals apart; Windows knows no such signs and no such names."""
    names = [path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*")
             if "__pycache__" not in path.parts and ".egg-info" not in str(path)]
    assert len({name.lower() for name in names}) == len(names)
    assert not [name for name in names if re.search(r'[<>:"\\|?*]|\s$|(^|/)(con|aux|nul|prn)(\.|/|$)', name)]
