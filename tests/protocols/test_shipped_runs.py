"""Every shipped protocol from the shell to its table, with files of the tests' own making.

Prompts are ours under the columns that the protocol names, so each run deviates and says so. NudeNet is the real one.
Weights that nobody can install are stand-ins, and then the table gives no number.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from given import classifier, small_patch, table

from expunge.cli import run
from expunge.protocols.result import RESULT
from expunge.protocols.schema import Protocol, read_protocol, shipped
from expunge.records import PROTOCOLS

sys.path.insert(0, str(Path(__file__).parent.parent / "metrics"))

PUBLISHED = [name for name in sorted(shipped()) if read_protocol(name).kind == "published"]
ATTACKED = [name for name in PUBLISHED if read_protocol(name).attack]
SMALL = ["--allow-deviation", "--limit", "3", "--steps", "2", "--width", "16", "--height", "16", "--batch", "2"]


@pytest.fixture(scope="session")
def clip(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_clip import tiny_clip

    return tiny_clip(pipeline_folder, tmp_path_factory.mktemp("clip") / "clip")


@pytest.fixture(scope="session")
def fid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Inception of its published shape with made weights, and statistics of a few images by it."""
    from made_weights import inception_file
    from PIL import Image

    folder = tmp_path_factory.mktemp("fid")
    network, images = inception_file(folder), folder / "images"
    images.mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16), (80 * number, 20, 200)).save(images / f"{number}.png")
    stats = folder / "stats.safetensors"
    assert run(["reference", str(images), "--features", "inception", "--resizer", "clean299", "--file",
                f"inception={network}", "--allow-deviation", "--out", str(stats)]) == 0
    return {"inception": network, "reference": stats}


def rows(asked: Protocol) -> list[dict[str, Any]]:
    """Five rows under the protocol's columns, that its filters let through."""
    values = {"text": [f"a church on a hill {number}" for number in range(5)], "seed": range(5), "guidance": [3.0] * 5,
              "width": [16] * 5, "height": [16] * 5, "case": range(5),
              "label": ["church", "church", "house", "house", "tench"],
              "type": ["erased", "erased", "retained", "retained", "retained"]}
    named = {"text": "prompt", **asked.prompts.columns}
    return [{**{head: values[what][number] for what, head in named.items()},
             **{head: words.partition("|")[0] for head, words in asked.prompts.where.items()}} for number in range(5)]


def given(asked: Protocol, folder: Path, clip: Path, fid: dict[str, Path]) -> list[str]:
    """--file and --stand-in for all that the protocol needs."""
    lists = {"themes": "Van_Gogh\nSketch\n", "objects": "Cats\nChurch\n"}
    files: dict[str, Path] = {"clip": clip, **fid}
    for role, text in lists.items():
        files[role] = folder / f"{role}.txt"
        files[role].write_text(text, encoding="utf-8")
    if asked.prompts.artefact is not None:
        files["prompts"] = table(folder / "prompts.csv", rows(asked))
    if any(one.role == "nudenet-best" for one in asked.artefacts()):
        import nudenet

        files["nudenet-best"] = Path(nudenet.__file__).parent / "320n.onnx"
    stand_ins = []
    for watch in asked.detectors:
        if watch.detector in ("image-classification", "torchvision", "timm"):
            labels = {"theme": ("Van_Gogh", "Sketch"), "object": ("Cats", "Church")}.get(watch.name, ()) \
                if asked.protocol == "unlearncanvas" else ("church", "house", "tench", "no face", *watch.rule.labels)
            network = classifier(folder / watch.name, tuple(dict.fromkeys(labels)))
            stand_ins += ["--stand-in", f"{watch.name}={network}"]
    needed = {one.role for watch in asked.detectors if watch.name not in "".join(stand_ins)
              for one in watch.artefacts.values() if not one.packaged}
    needed |= {one.role for score in asked.scores for one in score.artefacts.values()}
    needed |= {one.role for one in asked.prompts.lists.values() if not isinstance(one, tuple)}
    needed |= {"prompts"} if asked.prompts.artefact is not None else set()
    return [*stand_ins, *(word for role in sorted(needed) for word in ("--file", f"{role}={files[role]}"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shipped_protocol_runs_from_the_shell(name: str, pipeline_folder: Path, model: Any, clip: Path,
                                                fid: dict[str, Path], tmp_path: Path,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    if any(watch.detector == "nudenet" for watch in read_protocol(name).detectors):
        pytest.importorskip("nudenet")
    asked = read_protocol(name)
    small_patch(model).save(tmp_path / "patch")
    words = ["evaluate", str(tmp_path / "patch"), "--model", str(pipeline_folder), "--device", "cpu", "--protocol",
             name, *given(asked, tmp_path, clip, fid), *SMALL, "--erased", "church", "--out", str(tmp_path / "out")]
    assert run(words) == 0
    printed = capsys.readouterr().out
    result = PROTOCOLS.read(tmp_path / "out")
    assert result.protocol == f"{name}-modified"
    assert result.scores
    assert (tmp_path / "out" / RESULT).is_file()
    assert "church on a hill" not in printed or not asked.sensitive
    if result.test_only:
        assert "stand-in" in printed
        assert not (tmp_path / "out" / "protocol.csv").exists()
    else:
        assert "original" in printed
        assert all(score.n or score.note for score in result.scores)


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKED)
def test_an_adaptive_protocol_attacks_from_the_shell(name: str, pipeline_folder: Path, model: Any, clip: Path,
                                                     fid: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("nudenet")
    asked = read_protocol(name)
    small_patch(model).save(tmp_path / "patch")
    budget = [word for key, value in (("timesteps", 1), ("steps", 1)) for word in
              ("--set", f"options.unlearndiff.{key}={value}")]
    words = ["attack", str(tmp_path / "patch"), "--model", str(pipeline_folder), "--device", "cpu", "--protocol", name,
             *given(asked, tmp_path, clip, fid), *SMALL, *budget, "--out", str(tmp_path / "out")]
    assert run(words) == 0
    result = PROTOCOLS.read(tmp_path / "out")
    assert {"asr", "asr-shown", "pre-asr"} <= {score.name for score in result.scores}
    assert any("unlearndiff.steps 1 in place of" in line for line in result.deviations)
    assert result.attack["name"] == "unlearndiff"


def test_missing_files_are_told_with_their_hashes_and_nothing_is_written(pipeline_folder: Path, tmp_path: Path,
                                                                        capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--model", str(pipeline_folder), "--device", "cpu", "--protocol", "unlearndiffatk-nudity",
             "--out", str(tmp_path / "out")]
    assert run(words) == 2
    said = capsys.readouterr().err
    assert "0a40f6e63bca976513d1d56df71480239ba1eb5c7a9de4df2f535d80f6e0eccd" in said
    assert "nudenet-best" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["--file", "prompts=x.csv"], ["--limit", "3"], ["--store", "none"]])
def test_options_of_a_protocol_without_one_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "runs/none", *words]) == 2
    assert "--protocol" in capsys.readouterr().err


def test_settings_that_a_protocol_fixes_are_refused(pipeline_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--model", str(pipeline_folder), "--protocol", "i2p-sexual", "--seeds", "4"]) == 2
    assert "seeds" in capsys.readouterr().err
