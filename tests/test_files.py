"""Writing to disk: whole or not at all, even when the disk is full."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from expunge.errors import StorageError, UserError
from expunge.files import (
    append_lines,
    check_apart,
    check_writable,
    file_digest,
    folder_beside,
    folder_of,
    put_in_place,
    read_lines,
    slug,
    text_digest,
    write_atomically,
    write_json,
    write_tensors,
    write_text,
)
from launching import finished

FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from expunge.errors import StorageError, UserError
from expunge.files import write_json, write_tensors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write past the limit fails as on a full disk
kind, path = sys.argv[1], Path(sys.argv[2])
big = torch.zeros(64_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))
try:
    write_tensors(path, {"w": big}, {}) if kind == "tensors" else write_json(path, "x" * 64_000)
except StorageError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX resource limits")
@pytest.mark.parametrize("kind", ["json", "tensors"])
def test_full_disk_leaves_the_old_file_and_no_rubbish(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "kept"
    file.write_text("old")
    command = [sys.executable, "-c", FULL_DISK, kind, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "cannot write" in done.stdout
    assert "nothing was half-written" in done.stdout
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["kept"]


def test_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    file.write_text("old")

    def interrupted(neighbour: Path) -> None:
        neighbour.write_text("half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, interrupted)
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["kept"]


KILLED = """
import os, signal, sys
from pathlib import Path
from expunge.files import write_atomically
def write(neighbour):
    neighbour.write_text("half of the n")
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("writing", flush=True)
    sys.stdin.readline()
    neighbour.write_text("whole")
write_atomically(Path(sys.argv[1]), write)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL, and no locks on folders")
def test_what_a_killed_writer_left_goes_with_a_later_one_and_what_a_living_one_writes_does_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "kept")]
    assert subprocess.run([*command, "killed"], check=False).returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    (tmp_path / ".somebody-else.abcdefgh.part").write_text("")
    with subprocess.Popen([*command, "alive"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living:
        assert living.stdin is not None
        assert living.stdout is not None
        assert living.stdout.readline() == "writing\n"
        assert left not in os.listdir(tmp_path)
        assert subprocess.run([*command, "killed"], check=False).returncode == -signal.SIGKILL
        write_text(tmp_path / "other", "x")  # not now: two neighbours are there, and one of them is a living one's
        living.communicate("\n", timeout=60)
    assert living.returncode == 0
    assert (tmp_path / "kept").read_text() == "whole"
    assert len(os.listdir(tmp_path)) == 4
    write_text(tmp_path / "other", "y")
    assert sorted(os.listdir(tmp_path)) == [".somebody-else.abcdefgh.part", "kept", "other"]


SWEEPERS = """
import sys
from pathlib import Path
import torch
from expunge import files
folder, mine = Path(sys.argv[1]), sys.argv[2]
for number in range(300):
    files._swept.clear()  # as if each write were the first one of a process there
    files.write_tensors(folder / f"{mine}-{number}", {"w": torch.zeros(8)}, {})
"""


@pytest.mark.slow
def test_what_a_living_process_writes_is_not_swept_by_others_at_any_moment(tmp_path: Path) -> None:
    """safetensors puts a new file in the place of the one that it is given: a lock on the first would not hold it."""
    running = [subprocess.Popen([sys.executable, "-c", SWEEPERS, str(tmp_path), str(k)], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True) for k in range(3)]
    finished(running)
    assert sorted(os.listdir(tmp_path)) == sorted(f"{k}-{number}" for k in range(3) for number in range(300))


def test_folder_in_the_way_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_text(tmp_path / "file" / "below", "x")


def test_trying_a_place_makes_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "new" / "deep")
    check_writable(tmp_path)
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(StorageError, match=r"cannot write into .*nothing was begun"):
        check_writable(Path("/proc/new"))  # a folder in which nobody can make anything, root included


def test_text_json_and_tensors_come_back(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "a.txt", "ä\n")
    assert (tmp_path / "deep" / "a.txt").read_text(encoding="utf-8") == "ä\n"
    write_json(tmp_path / "a.json", {"k": [1, "ö"]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"k": [1, "ö"]}
    write_tensors(tmp_path / "a.safetensors", {"w": torch.arange(3.0)}, {"note": "x"})
    assert torch.equal(load_file(tmp_path / "a.safetensors")["w"], torch.arange(3.0))


TENSORS = """
import sys
from pathlib import Path
import torch
from expunge.files import write_tensors
write_tensors(Path(sys.argv[1]), {"w": torch.arange(3.0), "a": torch.ones(2)},
              {name: 'an "ä" \\n' for name in ("format", "card", "and", "more")})
"""


@pytest.mark.slow
def test_the_same_tensors_and_metadata_are_the_same_bytes(tmp_path: Path) -> None:
    """In each process anew: the library orders metadata by a hash that every process seeds for itself."""
    files = [tmp_path / str(k) for k in range(4)]
    for file in files:
        subprocess.run([sys.executable, "-c", TENSORS, str(file)], check=True)
    assert len({file.read_bytes() for file in files}) == 1
    assert torch.equal(load_file(files[0])["w"], torch.arange(3.0))


def test_written_files_are_readable_by_others(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_digests_are_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == text_digest("abc") == hashlib.sha256(b"abc").hexdigest()


def test_a_file_where_a_folder_should_be_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    for place in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(UserError, match="is a file, and no folder"):
            check_writable(place)


ALIKE = [("C++", "C#"), ("Star Wars", "Star-Wars"), ("AC/DC", "AC DC"), ("!!!", "???"), ("Apple", "apple"),
         ("old church", "old-church"), ("old church", "old  church"), ("a", " a"), ("İ", "i̇"), ("café", "cafe\u0301"),
         ("a portrait of the former president of the United States",
          "a portrait of the former president of the United Kingdom")]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_different_texts_have_names_of_their_own_whatever_the_file_system_tells_apart(one: str, other: str) -> None:
    assert slug(one).lower() != slug(other).lower()
    for text in (one, other):
        assert len(slug(text)) <= 40
        assert not set(slug(text)) & set('/\\:*?"<>| ')


def test_plain_words_are_their_own_names_but_not_what_windows_keeps_for_itself() -> None:
    assert slug("old church") == "old-church"
    assert slug("教会") == "教会"
    assert slug("con") != "con"


def test_a_folder_that_an_earlier_version_named_is_found_if_it_is_the_texts(tmp_path: Path) -> None:
    assert folder_of(tmp_path, "Van Gogh").name == slug("Van Gogh")
    (tmp_path / "van-gogh").mkdir()
    assert folder_of(tmp_path, "Van Gogh").name == "van-gogh"
    assert folder_of(tmp_path, "Van Gogh", known=lambda folder: False).name == slug("Van Gogh")
    (tmp_path / slug("Van Gogh")).mkdir()
    assert folder_of(tmp_path, "Van Gogh").name == slug("Van Gogh")


def test_results_on_two_files_of_one_folder_lie_apart(tmp_path: Path) -> None:
    assert folder_beside(tmp_path, "evaluation") == tmp_path / "evaluation"
    assert folder_beside(tmp_path / "patch.safetensors", "evaluation") == tmp_path / "evaluation"
    assert folder_beside(tmp_path / "a.safetensors", "evaluation") == tmp_path / "a-evaluation"


def test_a_line_that_a_kill_tore_is_left_out_and_the_next_stands_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "lines.jsonl"
    assert read_lines(file) == []
    append_lines(file, ["one", "two\u2028still two"])
    append_lines(file, ["three"])
    with file.open("ab") as torn:
        torn.write("caf\u00e9".encode()[:-1])  # in the middle of a letter
    assert read_lines(file) == ["one", "two\u2028still two", "three"]
    append_lines(file, ["four"])
    assert read_lines(file) == ["one", "two\u2028still two", "three", "four"]
    file.write_bytes(b"torn at once" * 10_000)
    assert read_lines(file) == []
    append_lines(file, ["five"])
    assert read_lines(file) == ["five"]


@pytest.mark.parametrize(("out", "told"), [
    ("model", "is the model"), ("model/unet", "lies in the model"), ("model/new", "lies in the model"),
    (".", "is a folder around the model"), ("model/../model", "is the model"), ("link", "is the model"),
    ("elsewhere", "lies in the model"), ("elsewhere/new", "lies in the model")])
def test_what_has_to_stay_is_told_by_its_path(tmp_path: Path, out: str, told: str) -> None:
    (tmp_path / "model" / "unet").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model" / "vae").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(tmp_path / "model")
    with pytest.raises(UserError) as caught:
        check_apart(tmp_path / out, {"the model": [tmp_path / "model"]})
    assert caught.value.got.startswith(f"{tmp_path / out} {told}")
    assert str(tmp_path / "model") in caught.value.got


def test_a_place_apart_and_what_is_not_there_are_nobodys(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    kept = {"the model": [tmp_path / "model"], "the patch": [tmp_path / "new" / "patch.json"]}
    for name in ("model-new", "new", "models/model"):
        check_apart(tmp_path / name, kept)


def test_what_is_put_in_place_takes_that_of_files_folders_and_links(tmp_path: Path) -> None:
    scratch, there = tmp_path / "scratch", tmp_path / "there"
    for folder, text in ((scratch, "new"), (there, "old")):
        (folder / "folder").mkdir(parents=True)
        (folder / "folder" / "file").write_text(text)
        (folder / "file").write_text(text)
    (there / "link").symlink_to(there / "nowhere")
    (scratch / "link").write_text("new")
    names = ("file", "folder", "link")
    put_in_place([(scratch / name, there / name) for name in names], scratch / "aside")
    assert {file.read_text() for file in there.rglob("*") if file.is_file()} == {"new"}
    assert {entry.name for entry in there.iterdir()} == {*names}
    assert {entry.name for entry in scratch.iterdir()} == {"aside"}


def test_a_place_that_cannot_be_taken_leaves_all_as_it_was(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for name in ("a", "b"):
        (scratch / name).write_text("new")
    (tmp_path / "a").write_text("old")
    with pytest.raises(OSError, match="no-such-folder"):
        put_in_place([(scratch / "a", tmp_path / "a"), (scratch / "b", tmp_path / "no-such-folder" / "b")],
                     scratch / "aside")
    assert (tmp_path / "a").read_text() == "old"
    assert {entry.name for entry in tmp_path.iterdir()} == {"a", "scratch"}
