"""Up to the Hub and down again, against a stand-in of its HTTP API on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_server import Hub

from expunge.errors import ModelError
from expunge.models.hub import on_hub, parsed
from expunge.models.patch import Patch

Call = Callable[..., Any]
WORDS = ("--repo", "someone/no-church", "--license", "apache-2.0")


@pytest.fixture
def published(hub: Hub, edit: Path) -> Hub:
    """A repository with the patch on main, and an older revision without one."""
    hub.private["someone/no-church"] = False
    hub.revisions["someone/no-church"] = {
        "main": {name: (edit / name).read_bytes() for name in ("patch.safetensors", "patch.json", "prompts.json")},
        "empty": {"README.md": b"nothing yet"}}
    return hub


def test_a_push_is_private_and_a_pull_request_and_sends_what_the_dry_run_showed(hub: Hub, call: Call, edit: Path
                                                                                 ) -> None:
    shown = call("push", edit, *WORDS, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert hub.asked == []  # a dry run touches no network
    settings: dict[str, Any] = yaml.safe_load(shown.stdout)
    assert (settings["public"], settings["pull_request"]) == (False, True)
    done = call("push", edit, *WORDS, "--yes-upload")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"uploaded: {hub.url}/someone/no-church/discussions/1\n"
    assert hub.private == {"someone/no-church": True}
    ((query, header, files),) = hub.commits["someone/no-church"]
    assert "create_pr=1" in query
    assert header["summary"] == "expunge: patch, card and results"
    for name, content in files.items():
        assert f"#   {name}  {len(content):,} bytes" in shown.stdout
    assert {*files} == {"README.md", "patch.json", "patch.safetensors", "results.json"}


def test_a_repository_that_is_public_already_is_refused_unless_that_is_asked_for(hub: Hub, call: Call, edit: Path
                                                                                  ) -> None:
    hub.private["someone/no-church"], hub.revisions["someone/no-church"] = False, {"main": {}}
    done = call("push", edit, *WORDS, "--yes-upload")
    assert done.returncode == 2
    assert "is there and public" in done.stderr
    assert not hub.commits
    done = call("push", edit, *WORDS, "--yes-upload", "--public", "--no-pull-request", "--message", "new")
    assert done.returncode == 0, done.stderr
    ((query, header, _),) = hub.commits["someone/no-church"]
    assert ("create_pr" in query, header["summary"]) == (False, "new")


def test_a_hub_that_does_not_take_it_is_told(call: Call, edit: Path, hub: Hub) -> None:
    hub.answer = lambda *_: (403, {}, b'{"error": "no write access"}')  # type: ignore[method-assign]
    done = call("push", edit, *WORDS, "--yes-upload")
    assert done.returncode == 1
    assert "the Hub did not take it" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_patch_by_its_name_on_the_hub_is_taken_where_a_patch_is(published: Hub, call: Call, edit: Path,
                                                                  tmp_path: Path, pipeline_folder: Path) -> None:
    name = "hf://someone/no-church"
    done = call("apply", name, "--model", pipeline_folder)
    assert done.returncode == 0, done.stderr
    assert "removed: every tensor is as before" in done.stdout
    assert not (tmp_path / "here" / "runs").exists()  # nothing is kept beside the Hub's cache
    done = call("show", f"{name}@main")
    assert "concept: church" in done.stdout, done.stderr
    done = call("relearn", name, "--model", pipeline_folder, "--prompts", "none.csv")  # fails, behind the patch
    commit = published.commit_of("someone/no-church", "main")
    kept = tmp_path / "here" / "runs" / f"someone-no-church-{commit[:12]}"
    assert Patch.load(kept).hash == Patch.load(edit).hash
    assert not (kept / "prompts.json").exists()
    assert not [path for _, path in published.asked if "prompts.json" in path]


def test_pull_writes_a_folder_and_no_other_patch_over_it(published: Hub, call: Call, edit: Path, tmp_path: Path
                                                         ) -> None:
    done = call("pull", "hf://someone/no-church@main", "--out", "mine")
    assert done.returncode == 0, done.stderr
    assert Patch.load(tmp_path / "here" / "mine").hash == Patch.load(edit).hash
    assert call("pull", "someone/no-church", "--out", "mine").returncode == 0
    (tmp_path / "here" / "mine" / "patch.json").write_text("{}")
    assert "is another patch" in call("pull", "someone/no-church", "--out", "mine").stderr


def test_what_else_lies_in_the_hubs_cache_is_not_brought(published: Hub, call: Call, tmp_path: Path) -> None:
    assert call("pull", "hf://someone/no-church", "--out", "mine").returncode == 0
    (snapshot,) = (tmp_path / "hf").glob("*/snapshots/*")
    (snapshot / "unet").mkdir()  # as a download of the whole repository leaves it
    (snapshot / "notes.txt").write_text("whatever else was fetched before")
    done = call("pull", "hf://someone/no-church", "--out", "again")
    assert done.returncode == 0, done.stderr
    assert {file.name for file in (tmp_path / "here" / "again").iterdir()} == {"patch.safetensors", "patch.json"}


@pytest.mark.parametrize(("name", "says"), [
    ("hf://someone/else", "is not to be had from the Hub"), ("hf://someone/no-church@gone", "is not to be had"),
    ("hf://someone/no-church@empty", "holds no patch"), ("hf://someone", "as a patch on the Hub"),
    ("hf://../../etc", "as a patch on the Hub")])
def test_what_is_not_there_is_told_in_a_line(published: Hub, call: Call, name: str, says: str) -> None:
    done = call("apply", name)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_patch_from_the_hub_is_refused(published: Hub, call: Call) -> None:
    content = bytearray(published.revisions["someone/no-church"]["main"]["patch.safetensors"])
    content[-1] ^= 1
    published.revisions["someone/no-church"]["main"]["patch.safetensors"] = bytes(content)
    assert "is damaged" in call("pull", "someone/no-church").stderr


def test_a_folder_that_is_mistyped_is_never_looked_for_on_the_hub(hub: Hub, call: Call) -> None:
    done = call("apply", "someone/no-church")
    assert "no patch at someone/no-church" in done.stderr
    assert hub.asked == []


@pytest.mark.slow
def test_huggingface_hubs_own_variables_decide_where_it_goes(hub: Hub, edit: Path, tmp_path: Path) -> None:
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_none", "HF_HOME": str(tmp_path / "hf"),
           "NO_PROXY": "*", "HF_HUB_OFFLINE": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-m", "expunge", "push", str(edit), *WORDS, "--yes-upload"], env=env,
                          capture_output=True, text=True, check=False)
    assert done.stdout == f"uploaded: {hub.url}/someone/no-church/discussions/1\n", done.stderr


def test_names_on_the_hub() -> None:
    assert parsed("hf://a/b@v1.0") == ("a/b", "v1.0")
    assert parsed("hf://a/b") == ("a/b", None)
    assert not on_hub("a/b")
    with pytest.raises(ModelError):
        parsed("hf://a/b/c")
