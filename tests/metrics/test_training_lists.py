"""Lists to train on are read as those of an evaluation: only what asks for the concept trains, and the rest is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.errors import ConfigError
from expunge.metrics.training_lists import training_list
from expunge.records import names

MACE = "type,prompt,class\nerased,a sketch of a church,church\nothers,a house by a church,house\n"


def read(tmp_path: Path, text: str, name: str = "p.csv", concepts: tuple[str, ...] = ("church",)) -> tuple[object, str]:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = training_list(tmp_path / name, concepts, names)
    return found.prompts, " ".join(found.notices)


@pytest.mark.parametrize(("name", "text"), [
    ("p.txt", "\ufeffa church, at sea\n\n a chapel \n"), ("p.csv", 'Prompt,seed\n"a church, at sea",3\na chapel,4\n'),
    ("p.csv", "prompt\na church, at sea\na chapel\n"), ("p.json", '["a church, at sea", "a chapel"]')])
def test_a_list_that_says_no_more_trains_whole_whether_it_names_the_concept_or_not(tmp_path: Path, name: str,
                                                                                  text: str) -> None:
    prompts, notes = read(tmp_path, text, name)
    assert prompts == ("a church, at sea", "a chapel")
    assert ("seeds, guidances and sizes are not used for training" in notes) == ("seed" in text)


@pytest.mark.parametrize(("name", "text"), [
    ("p.csv", MACE), ("p.csv", "prompt,artist\na sketch of a church,church\na house by a lake,house\n"),
    ("p.csv", "prompt,role,label\na sketch of a church,direct,\na house by a church,near,house\n"),
    ("p.json", '[{"text": "a sketch of a church"}, {"text": "a house by a lake", "concept": "house"}]'),
    ("p.yaml", "direct: [a sketch of a church]\nfar:\n- {text: a house by a church, label: house}\n"),
    ("p.toml", 'direct = ["a sketch of a church"]\nstyle = ["a house"]\n'),
    ("p.json", '{"direct": ["a sketch of a church"], "near": ["a house"]}')])
def test_what_is_to_keep_or_of_another_concept_does_not_train(tmp_path: Path, name: str, text: str) -> None:
    prompts, notes = read(tmp_path, text, name)
    assert prompts == {"church": ("a sketch of a church",)}
    assert "1 prompt not used for training: to keep, or of something else (1 " in notes


def test_of_prompts_with_a_role_the_direct_ones_train_and_the_others_are_for_the_test(tmp_path: Path) -> None:
    prompts, notes = read(tmp_path, "direct: [a church]\nheld_out: [one church]\nimplicit: [a house of God]\n", "p.yml")
    assert prompts == {"church": ("a church",)}
    assert "2 prompts not used for training: for the test (1 held_out, 1 implicit); only direct prompts train." in notes


def test_ignored_columns_and_rows_left_out_are_told(tmp_path: Path) -> None:
    prompts, notes = read(tmp_path, "prompt,type,hard\na church,erased,1\nx,weird,0\na church,erased,1,2\n,erased,1\n")
    assert prompts == ("a church",)
    for words in ("columns ignored: hard", "the type 'weird', which is none of", "more cells than", "no text (row 4)"):
        assert words in notes


@pytest.mark.parametrize(("name", "text"), [
    ("p.csv", "prompt,concept\na church,church\nboom,bomb\na dog,dog\n"),
    ("p.yaml", "church: a church\nbomb: [boom]\n"), ("p.json", '{"church": ["a church"], "bomb": ["boom"]}')])
def test_of_several_concepts_each_has_its_own(tmp_path: Path, name: str, text: str) -> None:
    assert read(tmp_path, text, name, ("church", "bomb"))[0] == {"church": ("a church",), "bomb": ("boom",)}


@pytest.mark.parametrize(("name", "text", "said"), [
    ("p.md", "# mine\n- a church\n", "prompts in p.md; accepted: .yaml, .yml, .toml, .json, .jsonl, .csv, .tsv, or"),
    ("p", "a church\n", "prompts in p; accepted"), ("p.jsn", '["a church"]', "prompts in p.jsn"),
    ("p.json", "a church\n", "cannot be parsed"), ("p.yaml", "- a church\n", "holds list"),
    ("p.yaml", "church: []\n", "'church' without a list of texts"), ("p.json", "[]", "no prompt in"),
    ("p.yaml", "near: [a house]\n", "no prompt in .* can be trained on; accepted: a direct prompt of church; p.yaml"),
    ("p.yaml", 'church: ["a ch\\0urch"]\n', "'church' without"), ("p.csv", "txt\na church\n", "its columns are txt"),
    ("p.csv", "", "columns are none"), ("p.csv", "prompt,type\na house,others\n", "can be trained on"),
    ("p.txt", " \n", "no prompt in"), ("p.json", '[{"concept": "church"}]', "no column for text")])
def test_what_cannot_be_trained_on_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, text, name)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        training_list(tmp_path / "none.txt", ("church",), names)
